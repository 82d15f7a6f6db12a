use std::collections::VecDeque;
use std::hash::Hash;
use std::hint::black_box;

use hashbrown::HashMap;
use slab::Slab;

use crate::Class;

/// A place in a line: who stands there, and the ticket that it had when it came. With another ticket by now, it has left:
/// the others do not move up for that at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stand {
    pub(crate) number: u32,
    pub(crate) ticket: u32,
}

/// A tenant that has had so many turns and still has something waiting is heavy, until it has nothing.
const HEAVY: u32 = 8;

/// Who is next, in each class by itself. Tenants take turns, and within a tenant it is first come, first served: so a
/// tenant with ten thousand waits for itself. It is deficit round robin whose runs all cost the same, in two lines: heavy
/// tenants get what the others leave, but each at least its share, as if all that are known were always waiting. So who
/// rarely asks hardly notices those who always do, and nobody is passed over for ever.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    tenants: Slab<Tenant<T>>,
    numbers: HashMap<T, u32>,
    /// By class.
    lines: [Line; Class::ALL.len()],
}

/// Tenants with something waiting. One that has nothing more leaves when its turn comes.
#[derive(Debug, Default)]
struct Line {
    light: VecDeque<u32>,
    heavy: VecDeque<u32>,
    /// What the heavy tenants are owed: each turn of another one adds one for each of them, and a turn of theirs costs as
    /// many as there are others.
    owed: usize,
    /// Whether a heavy one was served last.
    heavy_last: bool,
    /// What waits, of all tenants.
    waiting: usize,
    /// Tenants that asked for anything since nothing was waiting here.
    known: Vec<u32>,
}

#[derive(Debug)]
struct Tenant<T> {
    name: T,
    /// Slots that refer to it, and lines in which it is known.
    users: u32,
    /// By class.
    flows: [Flow; Class::ALL.len()],
}

#[derive(Debug, Default)]
struct Flow {
    /// First come, first served, with places at which nobody stands any more.
    stands: VecDeque<Stand>,
    /// Places at which somebody does.
    waiting: usize,
    /// Turns that it has had since it had nothing waiting.
    turns: u32,
    in_line: bool,
    known: bool,
}

/// Fewer places than this at which nobody stands any more are not worth tidying up.
const GAPS: usize = 32;

impl<T: Clone + Eq + Hash> Turns<T> {
    pub(crate) fn new() -> Self {
        Self {
            tenants: Slab::new(),
            numbers: HashMap::new(),
            lines: Default::default(),
        }
    }

    /// The number of a tenant, for a slot that refers to it until [`Turns::leave`]. Looks at the end of its line in this
    /// class.
    pub(crate) fn enter(&mut self, name: &T, class: Class) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            let tenant = &mut self.tenants[*number as usize];
            tenant.users += 1;
            black_box(tenant.flows[class as usize].stands.back().map(|stand| stand.number));
            return *number;
        }
        let tenant = Tenant {
            name: name.clone(),
            users: 1,
            flows: Default::default(),
        };
        let number = u32::try_from(self.tenants.insert(tenant)).expect("fewer tenants than memory has bytes");
        self.numbers.insert(name.clone(), number);
        number
    }

    /// A slot that referred to the tenant has gone, or a line that knew it has forgotten it.
    pub(crate) fn leave(&mut self, tenant: u32) {
        let users = &mut self.tenants[tenant as usize].users;
        *users -= 1;
        if *users == 0 {
            let gone = self.tenants.remove(tenant as usize);
            self.numbers.remove(&gone.name);
        }
    }

    /// Puts a slot at the end of its tenant's line.
    pub(crate) fn push(&mut self, class: Class, tenant: u32, stand: Stand) {
        let line = &mut self.lines[class as usize];
        line.waiting += 1;
        let it = &mut self.tenants[tenant as usize];
        let flow = &mut it.flows[class as usize];
        flow.waiting += 1;
        flow.stands.push_back(stand);
        if !flow.known {
            flow.known = true;
            it.users += 1;
            line.known.push(tenant);
        }
        if !flow.in_line {
            flow.in_line = true;
            line.light.push_back(tenant);
        }
    }

    /// A slot of this tenant has left this class. `stands` says which still stand where they did.
    pub(crate) fn remove(&mut self, class: Class, tenant: u32, stands: impl Fn(&Stand) -> bool) {
        let flow = &mut self.tenants[tenant as usize].flows[class as usize];
        flow.waiting -= 1;
        if flow.stands.len() > 2 * flow.waiting + GAPS {
            flow.stands.retain(stands);
        }
        self.lines[class as usize].waiting -= 1;
        self.forget_if_empty(class);
    }

    /// How many wait in a class.
    pub(crate) fn waiting(&self, class: Class) -> usize {
        self.lines[class as usize].waiting
    }

    /// Looks at what serving a class will need, of a tenant that comes in some turns, and says which slot probably comes
    /// one turn before it. It is left out that the other line may come first, and that some stand there no more.
    pub(crate) fn look_ahead(&self, class: Class) -> Option<u32> {
        let line = &self.lines[class as usize];
        let line = if line.heavy_last { &line.heavy } else { &line.light };
        let tenant = |turns| Some(&self.tenants[*line.get(turns)? as usize]);
        black_box(tenant(4).map(|tenant| (tenant.users, tenant.flows[class as usize].waiting)));
        let stand = tenant(3)?.flows[class as usize].stands.front()?;
        Some(stand.number)
    }

    /// Takes out who is next in a class.
    pub(crate) fn pop(&mut self, class: Class, stands: impl Fn(&Stand) -> bool) -> Option<u32> {
        let line = &mut self.lines[class as usize];
        let heavy_first = line.a_heavy_one_is_due();
        loop {
            let heavy = if heavy_first {
                !line.heavy.is_empty()
            } else {
                line.light.is_empty()
            };
            let tenant = if heavy { &mut line.heavy } else { &mut line.light }.pop_front()?;
            let flow = &mut self.tenants[tenant as usize].flows[class as usize];
            let next = std::iter::from_fn(|| flow.stands.pop_front()).find(&stands);
            let Some(stand) = next else {
                (flow.in_line, flow.turns) = (false, 0);
                continue;
            };
            line.heavy_last = heavy;
            line.charge(heavy);
            line.waiting -= 1;
            flow.waiting -= 1;
            flow.turns = flow.turns.saturating_add(1);
            if flow.waiting == 0 {
                (flow.in_line, flow.turns) = (false, 0);
            } else if flow.turns < HEAVY {
                line.light.push_back(tenant);
            } else {
                line.heavy.push_back(tenant);
            }
            self.forget_if_empty(class);
            return Some(stand.number);
        }
    }

    /// Where nothing waits, nobody has been served before others.
    fn forget_if_empty(&mut self, class: Class) {
        let line = &mut self.lines[class as usize];
        if line.waiting > 0 {
            return;
        }
        for tenant in std::mem::take(line).known {
            self.tenants[tenant as usize].flows[class as usize] = Flow::default();
            self.leave(tenant);
        }
    }
}

impl Line {
    /// Whether the heavy tenants have let so many turns pass that each gets its share.
    fn a_heavy_one_is_due(&self) -> bool {
        !self.heavy.is_empty() && self.owed >= self.others()
    }

    fn others(&self) -> usize {
        self.known.len().saturating_sub(self.heavy.len())
    }

    /// Somebody has got a turn, and has not taken its next place yet.
    fn charge(&mut self, heavy: bool) {
        self.owed = if heavy {
            // With itself.
            self.owed.saturating_sub(self.others() - 1)
        } else {
            // What they get besides is no debt, and what they do not want is none either.
            (self.owed + self.heavy.len()).min(self.known.len())
        };
    }
}
