//! The state against a naive model: lists that are searched from end to end for every question.
//!
//! Invariants that the model makes plain: one pending run per key; never two workers on one key; nothing lost; the
//! earliest time and the most urgent class of merged requests; classes in order, unless patience is over; tenants in
//! turn, and each in order of arrival.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use workqueue::{Backoff, Class, Counts, InWork, Key, Limits, RetryRate, State, Taken};

/// Short times, so that requests meet, and room for four keys.
const AGEING_US: u64 = 3;
const CAPACITY: usize = 6;
/// As in the state.
const HEAVY: u32 = 8;
const LIMITS: Limits = Limits {
    backoff: Backoff {
        base: Duration::from_micros(4),
        cap: Duration::from_micros(40),
    },
    // More than are ever asked for: tokens have tests of their own.
    retries: RetryRate {
        per_second: NonZeroU32::MAX,
        burst: NonZeroU32::MAX,
    },
    ageing: Duration::from_micros(AGEING_US),
    capacity: CAPACITY,
};

/// The last digit of its number is its tenant's, and groups are tenants of the same parity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Name {
    tenant: u8,
    number: u8,
}

impl Key for Name {
    type Tenant = u8;

    fn tenant(&self) -> &u8 {
        &self.tenant
    }

    fn group(&self) -> usize {
        usize::from(self.number % 2)
    }
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Add {
        key: Name,
        class: Class,
    },
    AddAfter {
        key: Name,
        class: Class,
        delay_us: u64,
    },
    Take,
    /// Ends the n-th run in progress.
    Done {
        nth: usize,
    },
    Retry {
        key: Name,
        draw: u64,
    },
    Forget {
        key: Name,
    },
    RemoveGroup {
        group: usize,
    },
    Advance {
        by_us: u64,
    },
}

/// A pending run. `arrival` orders runs of a tenant and a class: the time at which it came into line, then runs whose
/// delay ended (0) before requests (1), then the number of the request.
#[derive(Debug, Clone, Copy)]
struct Run {
    key: Name,
    class: Class,
    due_us: u64,
    arrival: (u64, u8, u64),
}

/// Of one class: tenants in line, light and heavy.
#[derive(Debug, Default)]
struct Line {
    light: Vec<u8>,
    heavy: Vec<u8>,
    owed: usize,
    /// Tenants that have asked, with the turns that they have had in a row.
    turns: BTreeMap<u8, u32>,
}

impl Line {
    fn push(&mut self, tenant: u8) {
        self.turns.entry(tenant).or_default();
        if !self.light.contains(&tenant) && !self.heavy.contains(&tenant) {
            self.light.push(tenant);
        }
    }

    /// In the order of their turns.
    fn order(&self) -> Vec<u8> {
        let others = self.turns.len() - self.heavy.len();
        if !self.heavy.is_empty() && self.owed >= others {
            [self.heavy.clone(), self.light.clone()].concat()
        } else {
            [self.light.clone(), self.heavy.clone()].concat()
        }
    }
}

#[derive(Debug, Default)]
struct Model {
    now_us: u64,
    requests: u64,
    runs: Vec<Run>,
    working: BTreeMap<Name, u64>,
    failures: BTreeMap<Name, u32>,
    lines: [Line; Class::ALL.len()],
    old_first: bool,
    last_old: usize,
    became_due: [u64; Class::ALL.len()],
    shed: u64,
    owes: bool,
    recalls: u64,
}

impl Model {
    /// Runs that came due take their places, in order.
    fn settle(&mut self, since_us: u64) {
        let mut due: Vec<Run> = self.runs.clone();
        due.retain(|run| (since_us + 1..=self.now_us).contains(&run.due_us));
        due.sort_by_key(|run| run.arrival);
        for run in due {
            self.became_due[run.class as usize] += 1;
            self.line_up(run);
        }
    }

    fn ready(&self, run: &Run) -> bool {
        run.due_us <= self.now_us && !self.working.contains_key(&run.key)
    }

    fn line_up(&mut self, run: Run) {
        if !self.working.contains_key(&run.key) {
            self.lines[run.class as usize].push(run.key.tenant);
        }
    }

    /// Where nothing waits, nobody stands in line, and turns are forgotten.
    fn clear(&mut self) {
        for class in Class::ALL {
            if self.next_of(class).is_none() {
                self.lines[class as usize] = Line::default();
            }
        }
    }

    fn known(&self) -> BTreeSet<Name> {
        let pending = self.runs.iter().map(|run| run.key);
        pending
            .chain(self.working.keys().copied())
            .chain(self.failures.keys().copied())
            .collect()
    }

    fn next_of(&self, class: Class) -> Option<Run> {
        let first_of = |tenant: u8| {
            let runs = self.runs.iter().filter(|run| self.ready(run));
            runs.filter(|run| run.class == class && run.key.tenant == tenant)
                .min_by_key(|run| run.arrival)
                .copied()
        };
        let order = self.lines[class as usize].order();
        order.into_iter().find_map(first_of)
    }

    fn patience_is_over(&self, class: Class) -> bool {
        let waiting = self.runs.iter().filter(|run| run.class == class && self.ready(run));
        let oldest = waiting.map(|run| run.due_us).min();
        oldest.is_some_and(|due_us| self.now_us - due_us >= AGEING_US * class as u64)
    }

    /// Takes out who is next in its class.
    fn remove(&mut self, run: Run) {
        self.runs.retain(|other| other.key != run.key);
        let tenant = run.key.tenant;
        let more = |other: &Run| self.ready(other) && other.class == run.class && other.key.tenant == tenant;
        let more = self.runs.iter().any(more);
        let line = &mut self.lines[run.class as usize];
        let order = line.order();
        let passed: Vec<u8> = order.into_iter().take_while(|other| *other != tenant).collect();
        let heavy = line.heavy.contains(&tenant);
        line.light.retain(|other| *other != tenant && !passed.contains(other));
        line.heavy.retain(|other| !passed.contains(other));
        line.owed = if heavy {
            line.owed.saturating_sub(line.turns.len() - line.heavy.len())
        } else {
            (line.owed + line.heavy.len()).min(line.turns.len())
        };
        line.heavy.retain(|other| *other != tenant);
        // Who stood before it had nothing.
        line.turns.extend(passed.iter().map(|other| (*other, 0)));
        let turns = line.turns.entry(tenant).or_default();
        *turns = if more { *turns + 1 } else { 0 };
        match *turns {
            0 => {}
            1..HEAVY => line.light.push(tenant),
            HEAVY.. => line.heavy.push(tenant),
        }
        self.clear();
    }

    fn makes_room(&mut self, key: Name, class: Class) -> bool {
        let known = self.known();
        if known.contains(&key) || known.len() < CAPACITY {
            return true;
        }
        let victims = [Class::Resync, Class::Retry, Class::ChildDrift].into_iter();
        let victim = victims
            .filter(|victim| *victim > class)
            .find_map(|victim| self.next_of(victim));
        if let Some(run) = victim {
            self.remove(run);
            self.failures.remove(&run.key);
        }
        let admitted = victim.is_some() || class <= Class::UserChange;
        if victim.is_some() || !admitted {
            self.shed += 1;
            self.owes = true;
        }
        admitted
    }

    fn request(&mut self, key: Name, class: Class, due_us: u64) {
        self.requests += 1;
        let now_us = self.now_us;
        let arrival = |due_us: u64, number| {
            if due_us <= now_us {
                (now_us, 1, number)
            } else {
                (due_us, 0, number)
            }
        };
        let arrival_now = arrival(due_us, self.requests);
        let fresh = Run {
            key,
            class,
            due_us,
            arrival: arrival_now,
        };
        let Some(run) = self.runs.iter_mut().find(|run| run.key == key) else {
            self.runs.push(fresh);
            if due_us <= now_us {
                self.became_due[class as usize] += 1;
                self.line_up(fresh);
            }
            return;
        };
        let class = class.min(run.class);
        if run.due_us > now_us && due_us < run.due_us {
            *run = Run { class, ..fresh };
            if due_us <= now_us {
                self.became_due[class as usize] += 1;
            }
        } else if class < run.class {
            run.class = class;
            // Whoever moves up to another class stands last there.
            if run.due_us <= now_us {
                run.arrival = (now_us, 1, self.requests);
            }
        }
        let run = *run;
        self.clear();
        if run.due_us <= now_us {
            self.line_up(run);
        }
    }

    fn take(&mut self) -> Option<(Name, Class, Duration, u32)> {
        let first = Class::ALL.into_iter().find_map(|class| self.next_of(class));
        self.old_first = !self.old_first;
        let mut run = first?;
        if self.old_first {
            let others = (1..=Class::ALL.len()).map(|step| Class::ALL[(self.last_old + step) % Class::ALL.len()]);
            let old = others
                .filter(|class| *class > run.class)
                .find(|class| self.patience_is_over(*class));
            if let Some(old) = old.and_then(|class| self.next_of(class)) {
                self.last_old = old.class as usize;
                run = old;
            }
        }
        self.remove(run);
        self.working.insert(run.key, self.now_us);
        let failures = self.failures.get(&run.key).copied().unwrap_or(0);
        let waited = Duration::from_micros(self.now_us - run.due_us);
        Some((run.key, run.class, waited, failures))
    }

    fn done(&mut self, key: Name) -> Duration {
        let since_us = self.working.remove(&key).expect("it is being worked on");
        self.requests += 1;
        let now_us = self.now_us;
        let held = self.runs.iter_mut().find(|run| run.key == key && run.due_us <= now_us);
        if let Some(run) = held {
            run.arrival = (now_us, 1, self.requests);
            let run = *run;
            self.line_up(run);
        }
        Duration::from_micros(now_us - since_us)
    }

    fn remove_group(&mut self, group: usize) {
        self.runs.retain(|run| run.key.group() != group);
        self.failures.retain(|key, _| key.group() != group);
        self.clear();
    }

    fn recalled(&mut self) -> bool {
        let recall = self.owes && self.known().len() <= CAPACITY / 2;
        self.owes &= !recall;
        self.recalls += u64::from(recall);
        recall
    }

    fn counts(&self) -> Counts {
        let due = || self.runs.iter().filter(|run| run.due_us <= self.now_us);
        let ready = |class| due().filter(|run| run.class == class && self.ready(run)).count();
        Counts {
            ready: Class::ALL.map(ready),
            held: due().filter(|run| !self.ready(run)).count(),
            delayed: self.runs.len() - due().count(),
            working: self.working.len(),
            failing: self.failures.len(),
        }
    }

    fn next_due_us(&self) -> Option<u64> {
        let times = self.runs.iter().map(|run| run.due_us);
        times.filter(|due_us| *due_us > self.now_us).min()
    }

    fn in_work(&self) -> InWork {
        let age = |since_us: &u64| Duration::from_micros(self.now_us - since_us);
        InWork {
            total: self.working.values().map(age).sum(),
            longest: self.working.values().map(age).max().unwrap_or_default(),
        }
    }
}

fn key() -> impl Strategy<Value = Name> {
    (0_u8..3, 0_u8..4).prop_map(|(tenant, number)| Name { tenant, number })
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::{Add, AddAfter, Advance, Done, Forget, RemoveGroup, Retry, Take};
    let class = || proptest::sample::select(&Class::ALL[..]);
    prop_oneof![
        6 => (key(), class()).prop_map(|(key, class)| Add { key, class }),
        4 => (key(), class(), 0_u64..12).prop_map(|(key, class, delay_us)| AddAfter { key, class, delay_us }),
        6 => Just(Take),
        5 => (0_usize..6).prop_map(|nth| Done { nth }),
        2 => (key(), any::<u64>()).prop_map(|(key, draw)| Retry { key, draw }),
        2 => key().prop_map(|key| Forget { key }),
        1 => (0_usize..3).prop_map(|group| RemoveGroup { group }),
        4 => (0_u64..6).prop_map(|by_us| Advance { by_us }),
    ]
}

fn replay(operations: &[Operation]) {
    let mut state = State::new(LIMITS);
    let mut model = Model::default();
    let mut taken: BTreeMap<Name, Taken<Name>> = BTreeMap::new();
    let (mut added, mut shed, mut told_us) = ([0; Class::ALL.len()], 0, 0);
    for (step, operation) in operations.iter().enumerate() {
        let context = || format!("step {step}: {operation:?}");
        // The state does not hear of the time by itself; what it shows is as of the last operation.
        if let Operation::Advance { by_us } = *operation {
            model.now_us += by_us;
            continue;
        }
        let now_us = model.now_us;
        if matches!(operation, Operation::Done { .. }) && taken.is_empty() {
            continue;
        }
        // These take no time along: what has come due meanwhile is not heard of.
        let timeless = matches!(operation, Operation::Forget { .. } | Operation::RemoveGroup { .. });
        if timeless && told_us != now_us {
            continue;
        }
        model.settle(told_us);
        told_us = now_us;
        match *operation {
            Operation::Add { key, class } => {
                state.add(key, class, now_us);
                if model.makes_room(key, class) {
                    model.request(key, class, now_us);
                }
            }
            Operation::AddAfter { key, class, delay_us } => {
                state.add_at(key, class, now_us + delay_us, now_us);
                if model.makes_room(key, class) {
                    model.request(key, class, now_us + delay_us);
                }
            }
            Operation::Take => {
                let item = state.take(now_us);
                let told = item.as_ref().map(|it| (it.key, it.class, it.waited, it.failures));
                assert_eq!(told, model.take(), "{}", context());
                if let Some(item) = item {
                    assert!(taken.insert(item.key, item).is_none(), "two at once: {}", context());
                }
            }
            Operation::Done { nth } => {
                // Counted round, so that this ends something whenever anything is in progress.
                let key = *taken.keys().nth(nth % taken.len()).expect("within its length");
                let item = taken.remove(&key).expect("its own key");
                assert_eq!(state.done(item, now_us), model.done(key), "{}", context());
            }
            Operation::Retry { key, draw } => {
                let wait = state.retry(key, draw, now_us);
                if model.makes_room(key, Class::Retry) {
                    let failures = model.failures.entry(key).or_insert(0);
                    *failures += 1;
                    assert_eq!(wait, LIMITS.backoff.wait(*failures, draw), "{}", context());
                    let wait_us = u64::try_from(wait.as_micros()).expect("below the cap");
                    model.request(key, Class::Retry, now_us + wait_us);
                }
            }
            Operation::Forget { key } => {
                state.forget(&key);
                model.failures.remove(&key);
                assert_eq!(state.failures(&key), 0, "{}", context());
            }
            Operation::RemoveGroup { group } => {
                state.remove_group(group);
                model.remove_group(group);
            }
            Operation::Advance { .. } => {}
        }
        for (sum, more) in added.iter_mut().zip(state.take_added()) {
            *sum += more;
        }
        shed += state.take_shed();
        assert_eq!(state.counts(), model.counts(), "{}", context());
        assert_eq!(state.next_due_us(now_us), model.next_due_us(), "{}", context());
        assert_eq!(state.in_work(now_us), model.in_work(), "{}", context());
        assert_eq!(added, model.became_due, "{}", context());
        assert_eq!(shed, model.shed, "{}", context());
        assert_eq!(state.take_recall(), model.recalled(), "{}", context());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]
    #[test]
    fn the_state_does_what_the_model_does(operations in prop::collection::vec(operation(), 1..80)) {
        replay(&operations);
    }
}
