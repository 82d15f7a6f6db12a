//! Breadth-first search over all states of a fleet, and what a fair run does from each.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::model::{Choice, Limits, Node};
use crate::world::invariants::{self, Violation};
use crate::world::{Setup, canonical};

/// What was found.
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) transitions: usize,
    /// The longest fair run until every bucket is served, in true seconds.
    pub(crate) slowest_seconds: u32,
    pub(crate) found: Option<(Violation, Vec<Choice>)>,
}

#[derive(Clone, Copy)]
struct Visit {
    parent: u64,
    /// The state that a fair run reaches next.
    fair: u64,
    settled: bool,
    /// Whether the way there takes a second.
    passes: bool,
}

type Visited = HashMap<u64, Visit, BuildHasherDefault<AsIs>>;

/// How many states are expanded before what was found is put together.
const BATCH: usize = 20_000;

/// What one choice leads to.
struct Found {
    parent: u64,
    to: u64,
    passed: bool,
    /// It is the first choice, so a fair run takes it.
    fair: bool,
    /// None: this state is known.
    node: Option<Node>,
    broken: Result<(), Violation>,
}

/// Explores everything within the limits, or until something does not hold.
pub(crate) fn explore(start: Node, setup: &Setup, limits: Limits) -> Explored {
    let begin = start.clone();
    let first = fingerprint(&start);
    let mut visited = Visited::default();
    visited.insert(first, visit(0, &start, setup));
    let mut transitions = 0;
    let mut queue = VecDeque::from([(first, start)]);
    while !queue.is_empty() && visited.len() < limits.states {
        let batch: Vec<(u64, Node)> = queue.drain(..queue.len().min(BATCH)).collect();
        for found in expand(&batch, &visited, setup, limits) {
            transitions += 1;
            if found.fair {
                let known = visited.get_mut(&found.parent).expect("it was visited");
                known.fair = found.to;
                known.passes = found.passed;
            }
            if let Some(node) = found.node
                && !visited.contains_key(&found.to)
            {
                visited.insert(found.to, visit(found.parent, &node, setup));
                queue.push_back((found.to, node));
            }
            if let Err(violation) = found.broken {
                let path = path_to(found.to, &visited, begin, setup, limits);
                return Explored {
                    states: visited.len(),
                    transitions,
                    slowest_seconds: 0,
                    found: Some((violation, path)),
                };
            }
        }
    }
    let (slowest_seconds, stuck) = slowest(&visited);
    Explored {
        states: visited.len(),
        transitions,
        slowest_seconds,
        found: stuck.map(|state| (Violation::NeverSettles, path_to(state, &visited, begin, setup, limits))),
    }
}

/// Takes every choice of every state, on all cores. The order of the result does not depend on how many there are.
fn expand(batch: &[(u64, Node)], visited: &Visited, setup: &Setup, limits: Limits) -> Vec<Found> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let part = batch.len().div_ceil(threads);
    let expand_part = |part: &[(u64, Node)]| -> Vec<Found> {
        let of_node = |(parent, node): &(u64, Node)| {
            let choices = node.choices(setup, limits).into_iter().enumerate();
            let take = |(index, choice)| {
                let Followed { node, passed, broken } = follow(node, choice, setup);
                let to = fingerprint(&node);
                let node = (!visited.contains_key(&to)).then_some(node);
                Found {
                    parent: *parent,
                    to,
                    passed,
                    fair: index == 0,
                    node,
                    broken,
                }
            };
            choices.map(take).collect::<Vec<_>>()
        };
        part.iter().flat_map(of_node).collect()
    };
    std::thread::scope(|scope| {
        let expand_part = &expand_part;
        let workers: Vec<_> = batch
            .chunks(part)
            .map(|part| scope.spawn(move || expand_part(part)))
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("no panic"))
            .collect()
    })
}

/// What a choice leads to.
struct Followed {
    node: Node,
    /// A second has passed.
    passed: bool,
    broken: Result<(), Violation>,
}

/// Takes a choice, and then whatever leaves none, up to the end of the second. All states on the way are looked at; the
/// last one is kept. Renumbered once a second: that is where runs meet.
fn follow(node: &Node, mut choice: Choice, setup: &Setup) -> Followed {
    let mut node = node.clone();
    loop {
        node.choose(choice, setup);
        let broken = invariants::check(&mut node.world, setup);
        let passed = choice == Choice::Pass;
        if passed {
            canonical::canonical(&mut node.world, setup);
        }
        match node.only_choice() {
            Some(only) if broken.is_ok() && !passed => choice = only,
            _ => return Followed { node, passed, broken },
        }
    }
}

fn visit(parent: u64, node: &Node, setup: &Setup) -> Visit {
    Visit {
        parent,
        fair: 0,
        settled: node.settled(setup),
        passes: false,
    }
}

/// Follows the fair run from every state: how long it takes at most, and a state from which it never ends.
fn slowest(visited: &Visited) -> (u32, Option<u64>) {
    let mut seconds: HashMap<u64, u32, BuildHasherDefault<AsIs>> = HashMap::default();
    let mut slowest = 0;
    for start in visited.keys() {
        let mut way = Vec::new();
        let mut at = *start;
        let end = loop {
            if let Some(known) = seconds.get(&at) {
                break *known;
            }
            let Some(visit) = visited.get(&at) else {
                // Not explored any more, since the limit was reached.
                break 0;
            };
            if visit.settled {
                seconds.insert(at, 0);
                break 0;
            }
            // A mark for a run that comes back to where it was.
            if way.len() > 10_000 {
                return (slowest, Some(*start));
            }
            way.push((at, visit.passes));
            at = visit.fair;
        };
        let mut total = end;
        for (state, passes) in way.into_iter().rev() {
            total += u32::from(passes);
            seconds.insert(state, total);
        }
        slowest = slowest.max(total);
    }
    (slowest, None)
}

/// The choices that lead to a state.
fn path_to(state: u64, visited: &Visited, begin: Node, setup: &Setup, limits: Limits) -> Vec<Choice> {
    let mut way = vec![state];
    while let Some(visit) = visited.get(way.last().expect("it is not empty")) {
        if visit.parent == 0 {
            break;
        }
        way.push(visit.parent);
    }
    let mut node = begin;
    let mut path = Vec::new();
    for wanted in way.iter().rev().skip(1) {
        let step = node.choices(setup, limits).into_iter().find_map(|choice| {
            let next = follow(&node, choice, setup).node;
            (fingerprint(&next) == *wanted).then_some((choice, next))
        });
        let Some((choice, next)) = step else { break };
        path.push(choice);
        node = next;
    }
    path
}

fn fingerprint(node: &Node) -> u64 {
    let mut hasher = Fingerprint(0x9e37_79b9_7f4a_7c15, 0x2545_f491_4f6c_dd1d);
    node.hash(&mut hasher);
    hasher.finish()
}

/// 64 good bits: among 30 million states, two of them share a fingerprint with a chance of 1 in 40,000.
struct Fingerprint(u64, u64);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
        self.1 = (self.1.wrapping_add(number) ^ self.0.rotate_left(17)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        self.1 ^= self.1 >> 32;
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ self.1.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1
    }
}

/// Keys that are hashes already.
#[derive(Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed with it");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
