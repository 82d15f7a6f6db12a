//! The state against a naive model: a list that is searched from end to end for every question.
//!
//! Invariants that the model makes plain: one pending run per key; never two workers on one key; strict order of
//! classes, then of arrival; the earliest time and the most urgent class of merged requests; nothing lost.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use workqueue::{Backoff, Class, Counts, InWork, State, Taken};

const BACKOFF: Backoff = Backoff {
    base: Duration::from_micros(4),
    cap: Duration::from_micros(40),
};

#[derive(Debug, Clone, Copy)]
enum Operation {
    Add {
        key: u8,
        class: Class,
    },
    AddAfter {
        key: u8,
        class: Class,
        delay_us: u64,
    },
    Take,
    /// Ends the n-th run in progress.
    Done {
        nth: usize,
    },
    /// Ends a run that is not in progress: changes nothing.
    DoneUnasked {
        key: u8,
    },
    Retry {
        key: u8,
        draw: u64,
    },
    Forget {
        key: u8,
    },
    Advance {
        by_us: u64,
    },
}

/// A pending run. `arrival` orders runs of a class: the time at which it came into line, then runs whose delay ended
/// (0) before requests (1), then the number of the request.
#[derive(Debug, Clone, Copy)]
struct Run {
    key: u8,
    class: Class,
    due_us: u64,
    arrival: (u64, u8, u64),
}

#[derive(Debug, Default)]
struct Model {
    now_us: u64,
    requests: u64,
    runs: Vec<Run>,
    working: BTreeMap<u8, u64>,
    failures: BTreeMap<u8, u32>,
    /// Delayed runs that came due while their key was worked on, and all that were added due.
    became_due: u64,
}

impl Model {
    fn request(&mut self, key: u8, class: Class, due_us: u64) {
        self.requests += 1;
        let now_us = self.now_us;
        let arrival = |due_us: u64, number| {
            if due_us <= now_us {
                (now_us, 1, number)
            } else {
                (due_us, 0, number)
            }
        };
        let Some(run) = self.runs.iter_mut().find(|run| run.key == key) else {
            self.runs.push(Run {
                key,
                class,
                due_us,
                arrival: arrival(due_us, self.requests),
            });
            self.became_due += u64::from(due_us <= now_us);
            return;
        };
        if run.due_us > now_us && due_us < run.due_us {
            run.due_us = due_us;
            run.arrival = arrival(due_us, self.requests);
            self.became_due += u64::from(due_us <= now_us);
        }
        if class < run.class {
            run.class = class;
            // Whoever moves up to another class stands last there.
            if run.due_us <= now_us {
                run.arrival = (now_us, 1, self.requests);
            }
        }
    }

    fn take(&mut self) -> Option<Taken<u8>> {
        let (index, run) = self
            .runs
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, run)| run.due_us <= self.now_us && !self.working.contains_key(&run.key))
            .min_by_key(|(_, run)| (run.class, run.arrival))?;
        self.runs.remove(index);
        self.working.insert(run.key, self.now_us);
        let failures = self.failures.get(&run.key).copied().unwrap_or(0);
        let waited = Duration::from_micros(self.now_us - run.due_us);
        Some(Taken {
            key: run.key,
            class: run.class,
            waited,
            failures,
        })
    }

    fn done(&mut self, key: u8) -> Option<Duration> {
        let since_us = self.working.remove(&key)?;
        self.requests += 1;
        if let Some(run) = self
            .runs
            .iter_mut()
            .find(|run| run.key == key && run.due_us <= self.now_us)
        {
            run.arrival = (self.now_us, 1, self.requests);
        }
        Some(Duration::from_micros(self.now_us - since_us))
    }

    fn advance(&mut self, by_us: u64) {
        let (before_us, now_us) = (self.now_us, self.now_us + by_us);
        self.became_due += self
            .runs
            .iter()
            .filter(|run| (before_us + 1..=now_us).contains(&run.due_us))
            .count() as u64;
        self.now_us = now_us;
    }

    fn counts(&self) -> Counts {
        let due = |run: &&Run| run.due_us <= self.now_us;
        let held = self
            .runs
            .iter()
            .filter(due)
            .filter(|run| self.working.contains_key(&run.key))
            .count();
        let due = self.runs.iter().filter(due).count();
        Counts {
            ready: due - held,
            held,
            delayed: self.runs.len() - due,
            working: self.working.len(),
            failing: self.failures.len(),
        }
    }

    fn next_due_us(&self) -> Option<u64> {
        self.runs
            .iter()
            .map(|run| run.due_us)
            .filter(|due_us| *due_us > self.now_us)
            .min()
    }

    fn in_work(&self) -> InWork {
        let ages = || {
            self.working
                .values()
                .map(|since_us| Duration::from_micros(self.now_us - since_us))
        };
        InWork {
            total: ages().sum(),
            longest: ages().max().unwrap_or_default(),
        }
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::{Add, AddAfter, Advance, Done, DoneUnasked, Forget, Retry, Take};
    // Few keys and short times, so that requests meet.
    let key = || 0_u8..6;
    let class = || proptest::sample::select(&Class::ALL[..]);
    prop_oneof![
        5 => (key(), class()).prop_map(|(key, class)| Add { key, class }),
        4 => (key(), class(), 0_u64..12).prop_map(|(key, class, delay_us)| AddAfter { key, class, delay_us }),
        6 => Just(Take),
        4 => (0_usize..6).prop_map(|nth| Done { nth }),
        1 => key().prop_map(|key| DoneUnasked { key }),
        2 => (key(), any::<u64>()).prop_map(|(key, draw)| Retry { key, draw }),
        1 => key().prop_map(|key| Forget { key }),
        4 => (0_u64..6).prop_map(|by_us| Advance { by_us }),
    ]
}

fn replay(operations: &[Operation]) {
    let mut state = State::new(BACKOFF);
    let mut model = Model::default();
    let mut added = 0;
    for (step, operation) in operations.iter().enumerate() {
        let context = || format!("step {step}: {operation:?}");
        match *operation {
            Operation::Add { key, class } => {
                state.add(key, class, model.now_us);
                model.request(key, class, model.now_us);
            }
            Operation::AddAfter { key, class, delay_us } => {
                state.add_at(key, class, model.now_us + delay_us, model.now_us);
                model.request(key, class, model.now_us + delay_us);
            }
            Operation::Take => assert_eq!(state.take(model.now_us), model.take(), "{}", context()),
            Operation::Done { nth } => {
                let Some(key) = model.working.keys().nth(nth).copied() else {
                    continue;
                };
                assert_eq!(state.done(&key, model.now_us), model.done(key), "{}", context());
            }
            Operation::DoneUnasked { key } => {
                if model.working.contains_key(&key) {
                    continue;
                }
                assert_eq!(state.done(&key, model.now_us), None, "{}", context());
            }
            Operation::Retry { key, draw } => {
                let failures = model.failures.entry(key).or_insert(0);
                *failures += 1;
                let wait = BACKOFF.wait(*failures, draw);
                assert_eq!(state.retry(key, draw, model.now_us), wait, "{}", context());
                let wait_us = u64::try_from(wait.as_micros()).expect("below the cap");
                model.request(key, Class::Retry, model.now_us + wait_us);
            }
            Operation::Forget { key } => {
                state.forget(&key);
                model.failures.remove(&key);
                assert_eq!(state.failures(&key), 0, "{}", context());
                continue;
            }
            // The state does not hear of the time by itself; what it shows is as of the last operation.
            Operation::Advance { by_us } => {
                model.advance(by_us);
                continue;
            }
        }
        added += state.take_added();
        assert_eq!(state.counts(), model.counts(), "{}", context());
        assert_eq!(state.next_due_us(), model.next_due_us(), "{}", context());
        assert_eq!(state.in_work(model.now_us), model.in_work(), "{}", context());
        assert_eq!(added, model.became_due, "{}", context());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn the_state_does_what_the_model_does(operations in prop::collection::vec(operation(), 1..120)) {
        replay(&operations);
    }
}

#[test]
fn a_key_that_moves_up_again_and_again_leaves_nothing_behind() {
    let mut state = State::new(BACKOFF);
    for round in 0..10_000 {
        state.add(1, Class::Resync, round);
        state.add(1, Class::UserChange, round);
        let taken = state.take(round).expect("just added");
        assert_eq!(taken.class, Class::UserChange);
        state.done(&1, round).expect("just taken");
        assert_eq!(state.counts(), Counts::default());
    }
}
