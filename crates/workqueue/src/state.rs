use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use crate::Class;
use crate::backoff::{Backoff, micros};

/// The queue as a value. Time comes in as `now_us`, microseconds since any fixed moment, never going back.
///
/// A key has at most one *pending* run, in one of three places:
/// - *ready*: due, handed out by the next [`State::take`];
/// - *held*: due, but the key is being worked on; becomes ready when that ends;
/// - *delayed*: due later.
///
/// Merging two requests keeps the earlier time and the more urgent class. So a request "at T" is absorbed by one
/// that is due now: whoever runs then sees the world as it is and asks again for T if that still matters.
#[derive(Debug)]
pub struct State<K> {
    backoff: Backoff,
    /// Every key with a pending run. In step with `ready` and `delayed`; a held key is in neither.
    pending: HashMap<K, Pending>,
    /// In order of service.
    ready: BTreeMap<(Class, Ticket), K>,
    /// By due time, then first come, first served.
    delayed: BTreeMap<(u64, Ticket), K>,
    /// Keys handed out and not yet done, with the time they were handed out.
    working: HashMap<K, u64>,
    /// Failures in a row of keys that were retried and not forgotten since.
    failures: HashMap<K, u32>,
    next_ticket: u64,
    /// Runs that became due since [`State::take_added`] was last asked.
    added: u64,
}

/// Order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket(u64);

#[derive(Debug, Clone, Copy)]
struct Pending {
    class: Class,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Ready { due_us: u64, ticket: Ticket },
    Held { due_us: u64 },
    Delayed { due_us: u64, ticket: Ticket },
}

/// A key handed out. It is being worked on until [`State::done`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken<K> {
    /// What to work on.
    pub key: K,
    /// The most urgent class of the requests that led to this run.
    pub class: Class,
    /// How long the run had been due.
    pub waited: Duration,
    /// Failures in a row so far: 0 unless the key was retried and not forgotten since.
    pub failures: u32,
}

/// How many keys are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Due and waiting for a worker: `workqueue_depth`.
    pub ready: usize,
    /// Due, but being worked on already.
    pub held: usize,
    /// Due later.
    pub delayed: usize,
    /// Being worked on.
    pub working: usize,
    /// With failures that were not forgotten.
    pub failing: usize,
}

/// What is being worked on right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InWork {
    /// How long all runs together have been going on: `workqueue_unfinished_work_seconds`.
    pub total: Duration,
    /// How long the longest has: `workqueue_longest_running_processor_seconds`.
    pub longest: Duration,
}

impl<K: Clone + Eq + Hash> State<K> {
    /// An empty queue whose retries wait according to `backoff`.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            pending: HashMap::new(),
            ready: BTreeMap::new(),
            delayed: BTreeMap::new(),
            working: HashMap::new(),
            failures: HashMap::new(),
            next_ticket: 0,
            added: 0,
        }
    }

    /// Asks for a run of `key` now.
    pub fn add(&mut self, key: K, class: Class, now_us: u64) {
        self.add_at(key, class, now_us, now_us);
    }

    /// Asks for a run of `key` at `due_us`; now, if that has passed.
    pub fn add_at(&mut self, key: K, class: Class, due_us: u64, now_us: u64) {
        self.expire(now_us);
        let Some(old) = self.pending.get(&key).copied() else {
            self.place(key, class, due_us, now_us);
            return;
        };
        let class = class.more_urgent(old.class);
        match old.place {
            Place::Ready { due_us, ticket } if class != old.class => {
                self.ready.remove(&(old.class, ticket));
                self.place_ready(key, class, due_us);
            }
            Place::Ready { .. } => {}
            Place::Held { due_us } => {
                self.pending.insert(
                    key,
                    Pending {
                        class,
                        place: Place::Held { due_us },
                    },
                );
            }
            Place::Delayed {
                due_us: old_due_us,
                ticket,
            } if due_us < old_due_us => {
                self.delayed.remove(&(old_due_us, ticket));
                self.place(key, class, due_us, now_us);
            }
            place @ Place::Delayed { .. } => {
                self.pending.insert(key, Pending { class, place });
            }
        }
    }

    /// Hands out the most urgent key that is due, if any. The caller owes a [`State::done`] for it.
    pub fn take(&mut self, now_us: u64) -> Option<Taken<K>> {
        self.expire(now_us);
        let ((class, _), key) = self.ready.pop_first()?;
        let due_us = match self.pending.remove(&key).map(|pending| pending.place) {
            Some(Place::Ready { due_us, .. }) => due_us,
            other => unreachable!("a key in `ready` is pending there, not {other:?}"),
        };
        self.working.insert(key.clone(), now_us);
        let failures = self.failures(&key);
        Some(Taken {
            key,
            class,
            waited: Duration::from_micros(now_us.saturating_sub(due_us)),
            failures,
        })
    }

    /// Ends the run of `key` and says how long it took. If it was asked for meanwhile, it is ready again.
    /// `None` if it was not being worked on: then nothing changes.
    pub fn done(&mut self, key: &K, now_us: u64) -> Option<Duration> {
        self.expire(now_us);
        let (key, since_us) = self.working.remove_entry(key)?;
        if let Some(&Pending {
            class,
            place: Place::Held { due_us },
        }) = self.pending.get(&key)
        {
            self.place_ready(key, class, due_us);
        }
        Some(Duration::from_micros(now_us.saturating_sub(since_us)))
    }

    /// Counts a failure of `key` and asks for a run after a backoff, whose length it returns. `draw` is a
    /// uniformly random number. As with any request, a run that is due sooner absorbs this one.
    pub fn retry(&mut self, key: K, draw: u64, now_us: u64) -> Duration {
        let failures = self.failures.entry(key.clone()).or_insert(0);
        *failures = failures.saturating_add(1);
        let wait = self.backoff.wait(*failures, draw);
        self.add_at(key, Class::Retry, now_us.saturating_add(micros(wait)), now_us);
        wait
    }

    /// Forgets the failures of `key`: its next backoff begins anew. To be called after a success, and when the key
    /// is gone for good, or its count is kept for ever.
    pub fn forget(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// Failures in a row of `key`.
    pub fn failures(&self, key: &K) -> u32 {
        self.failures.get(key).copied().unwrap_or(0)
    }

    /// When the next delayed key becomes due.
    pub fn next_due_us(&self) -> Option<u64> {
        self.delayed.first_key_value().map(|((due_us, _), _)| *due_us)
    }

    /// How many keys are where. Delayed keys whose time has come count as ready once any request or
    /// [`State::take`] has come in since.
    pub fn counts(&self) -> Counts {
        Counts {
            ready: self.ready.len(),
            held: self.pending.len() - self.ready.len() - self.delayed.len(),
            delayed: self.delayed.len(),
            working: self.working.len(),
            failing: self.failures.len(),
        }
    }

    /// For how long the keys being worked on have been so.
    pub fn in_work(&self, now_us: u64) -> InWork {
        self.working.values().fold(InWork::default(), |sum, since_us| {
            let age = Duration::from_micros(now_us.saturating_sub(*since_us));
            InWork {
                total: sum.total.saturating_add(age),
                longest: sum.longest.max(age),
            }
        })
    }

    /// How many runs became due since this was last asked.
    pub fn take_added(&mut self) -> u64 {
        std::mem::take(&mut self.added)
    }

    /// Makes delayed keys ready whose time has come. Comes first in every operation, so that a key that became due
    /// before a request also stands before it.
    fn expire(&mut self, now_us: u64) {
        while let Some(entry) = self.delayed.first_entry() {
            let (due_us, _) = *entry.key();
            if due_us > now_us {
                return;
            }
            let key = entry.remove();
            let class = self.pending[&key].class;
            self.place(key, class, due_us, now_us);
        }
    }

    /// Puts a run that is in none of the places where it belongs.
    fn place(&mut self, key: K, class: Class, due_us: u64, now_us: u64) {
        if due_us > now_us {
            let ticket = self.ticket();
            self.delayed.insert((due_us, ticket), key.clone());
            self.pending.insert(
                key,
                Pending {
                    class,
                    place: Place::Delayed { due_us, ticket },
                },
            );
            return;
        }
        self.added += 1;
        if self.working.contains_key(&key) {
            self.pending.insert(
                key,
                Pending {
                    class,
                    place: Place::Held { due_us },
                },
            );
        } else {
            self.place_ready(key, class, due_us);
        }
    }

    fn place_ready(&mut self, key: K, class: Class, due_us: u64) {
        let ticket = self.ticket();
        self.ready.insert((class, ticket), key.clone());
        self.pending.insert(
            key,
            Pending {
                class,
                place: Place::Ready { due_us, ticket },
            },
        );
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }
}
