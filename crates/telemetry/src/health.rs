//! Whether the operator is alive (else it should be restarted) and ready (else it does not do its work yet).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A handle on the process's health; clones share it. Alive and not ready at first.
#[derive(Debug, Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stuck_after: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    readiness: Readiness,
    pulses: Vec<Beat>,
    next_id: u64,
}

/// What is known of one worker.
#[derive(Debug)]
struct Beat {
    id: u64,
    name: String,
    state: BeatState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BeatState {
    Idle,
    Busy { since: Instant },
    Died,
}

/// Whether the operator does its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not, and why, for people.
    NotReady(String),
}

impl Health {
    /// A worker that is busy with one thing for longer than `stuck_after` makes the process not alive. It must be
    /// well above the longest that one thing may take, or a slow API server gets the operator restarted.
    #[must_use]
    pub fn new(stuck_after: Duration) -> Self {
        let readiness = Readiness::NotReady("starting".to_owned());
        let inner = Mutex::new(Inner {
            readiness,
            pulses: Vec::new(),
            next_id: 0,
        });
        Self {
            shared: Arc::new(Shared { stuck_after, inner }),
        }
    }

    /// Says whether the operator does its work from now on.
    pub fn set(&self, readiness: Readiness) {
        self.shared.lock().readiness = readiness;
    }

    /// Whether the operator does its work.
    pub fn readiness(&self) -> Readiness {
        self.shared.lock().readiness.clone()
    }

    /// Watches one more worker, until the pulse is dropped. `name` is shown if it gets stuck.
    #[must_use]
    pub fn pulse(&self, name: impl Into<String>) -> Pulse {
        let mut inner = self.shared.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        inner.pulses.push(Beat {
            id,
            name: name.into(),
            state: BeatState::Idle,
        });
        Pulse {
            id,
            shared: Arc::clone(&self.shared),
        }
    }

    /// What keeps the process from being alive, one line each. Empty: it is alive.
    pub fn faults(&self) -> Vec<String> {
        let limit = self.shared.stuck_after;
        let inner = self.shared.lock();
        let fault = |beat: &Beat| match beat.state {
            BeatState::Busy { since } if since.elapsed() > limit => Some(format!(
                "{}: stuck for {} s, allowed are {} s",
                beat.name,
                since.elapsed().as_secs(),
                limit.as_secs()
            )),
            BeatState::Died => Some(format!("{}: died of a defect, see the log", beat.name)),
            BeatState::Busy { .. } | BeatState::Idle => None,
        };
        inner.pulses.iter().filter_map(fault).collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change below is one assignment, so a panic cannot leave a half of it behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, id: u64, state: BeatState) {
        if let Some(beat) = self.lock().pulses.iter_mut().find(|beat| beat.id == id) {
            beat.state = state;
        }
    }
}

/// The sign of life of one worker. Dropping it ends the watch, unless the worker is panicking: a worker that died
/// of a defect is not replaced, so the process counts as not alive from then on.
#[derive(Debug)]
pub struct Pulse {
    id: u64,
    shared: Arc<Shared>,
}

impl Pulse {
    /// The worker is busy with one thing until the answer is dropped. An idle worker may be so for ever.
    #[must_use = "the worker is busy only as long as this lives"]
    pub fn busy(&mut self) -> Busy<'_> {
        self.shared.set(self.id, BeatState::Busy { since: Instant::now() });
        Busy(self)
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.set(self.id, BeatState::Died);
        } else {
            self.shared.lock().pulses.retain(|beat| beat.id != self.id);
        }
    }
}

/// A worker busy with one thing.
#[derive(Debug)]
pub struct Busy<'a>(&'a mut Pulse);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.shared.set(self.0.id, BeatState::Idle);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const STUCK_AFTER: Duration = Duration::from_mins(1);

    #[test]
    fn at_first_it_is_alive_and_not_ready() {
        let health = Health::new(STUCK_AFTER);
        assert_eq!(health.faults(), Vec::<String>::new());
        assert_eq!(health.readiness(), Readiness::NotReady("starting".to_owned()));
        health.set(Readiness::Ready);
        assert_eq!(health.clone().readiness(), Readiness::Ready);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_busy_too_long_is_stuck_and_named() {
        let health = Health::new(STUCK_AFTER);
        let mut stuck = health.pulse("worker 1");
        let mut quick = health.pulse("worker 2");
        let busy = stuck.busy();
        advance(STUCK_AFTER).await;
        assert_eq!(health.faults(), Vec::<String>::new(), "exactly the limit is allowed");
        drop(quick.busy());
        advance(Duration::from_secs(1)).await;
        assert_eq!(health.faults(), ["worker 1: stuck for 61 s, allowed are 60 s"]);
        drop(busy);
        assert_eq!(health.faults(), Vec::<String>::new(), "it came back");
    }

    #[tokio::test(start_paused = true)]
    async fn idling_for_ever_is_alive_and_so_is_the_end_of_a_worker() {
        let health = Health::new(STUCK_AFTER);
        let mut pulse = health.pulse("worker 1");
        drop(pulse.busy());
        advance(STUCK_AFTER * 100).await;
        assert_eq!(health.faults(), Vec::<String>::new());
        drop(pulse);
        assert_eq!(health.faults(), Vec::<String>::new());
    }

    #[test]
    fn a_worker_that_panics_is_dead_for_good() {
        let health = Health::new(STUCK_AFTER);
        let mut pulse = health.pulse("worker 1");
        let worker = std::thread::spawn(move || {
            let _busy = pulse.busy();
            panic!("a defect in a reconcile");
        });
        assert!(worker.join().is_err());
        assert_eq!(health.faults(), ["worker 1: died of a defect, see the log"]);
    }
}
