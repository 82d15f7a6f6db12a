//! Whether the operator is alive (else it should be restarted) and ready (else it does not do its work yet).

use std::collections::BTreeMap;
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
    ready: bool,
    reason: String,
    /// When the runs in progress began, by their number.
    busy: BTreeMap<u64, Instant>,
    next_run: u64,
    /// Workers that panicked. Nobody replaces them.
    died: usize,
}

impl Health {
    /// A worker that is busy with one thing for longer than `stuck_after` makes the process not alive. It must be
    /// well above the longest that one thing may take, or a slow API server gets the operator restarted.
    #[must_use]
    pub fn new(stuck_after: Duration) -> Self {
        let inner = Inner {
            ready: false,
            reason: "starting".to_owned(),
            busy: BTreeMap::new(),
            next_run: 0,
            died: 0,
        };
        Self {
            shared: Arc::new(Shared {
                stuck_after,
                inner: Mutex::new(inner),
            }),
        }
    }

    /// Says whether the operator does its work from now on, and why, for people.
    pub fn set_ready(&self, ready: bool, reason: &str) {
        let mut inner = self.shared.lock();
        inner.ready = ready;
        reason.clone_into(&mut inner.reason);
    }

    /// Whether the operator does its work, and why.
    pub fn readiness(&self) -> (bool, String) {
        let inner = self.shared.lock();
        (inner.ready, inner.reason.clone())
    }

    /// A worker is busy with one thing until the answer is dropped. A worker may be idle for ever, but busy only for
    /// so long. One that panics while busy is dead, and the process counts as not alive from then on.
    #[must_use = "the worker is busy only as long as this lives"]
    pub fn busy(&self) -> Busy {
        let mut inner = self.shared.lock();
        let run = inner.next_run;
        inner.next_run += 1;
        inner.busy.insert(run, Instant::now());
        drop(inner);
        Busy {
            run,
            shared: Arc::clone(&self.shared),
        }
    }

    /// What keeps the process from being alive, one line each. Empty: it is alive.
    pub fn faults(&self) -> Vec<String> {
        let limit = self.shared.stuck_after;
        let inner = self.shared.lock();
        let stuck = inner
            .busy
            .values()
            .map(Instant::elapsed)
            .filter(|age| *age > limit)
            .map(|age| {
                format!(
                    "a worker is stuck for {} s, allowed are {} s",
                    age.as_secs(),
                    limit.as_secs()
                )
            });
        let died = (inner.died > 0).then(|| format!("workers that died of a defect, see the log: {}", inner.died));
        stuck.chain(died).collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that is done under the lock can panic half-way and leave something wrong behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker busy with one thing.
#[derive(Debug)]
pub struct Busy {
    run: u64,
    shared: Arc<Shared>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.busy.remove(&self.run);
        if std::thread::panicking() {
            inner.died += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const STUCK_AFTER: Duration = Duration::from_mins(1);
    const ALIVE: Vec<String> = Vec::new();

    #[test]
    fn at_first_it_is_alive_and_not_ready() {
        let health = Health::new(STUCK_AFTER);
        assert_eq!(health.faults(), ALIVE);
        assert_eq!(health.readiness(), (false, "starting".to_owned()));
        health.clone().set_ready(true, "caches are complete");
        assert_eq!(health.readiness(), (true, "caches are complete".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_busy_too_long_is_stuck() {
        let health = Health::new(STUCK_AFTER);
        let stuck = health.busy();
        advance(STUCK_AFTER).await;
        assert_eq!(health.faults(), ALIVE, "exactly the limit is allowed");
        drop(health.busy());
        advance(Duration::from_secs(1)).await;
        assert_eq!(health.faults(), ["a worker is stuck for 61 s, allowed are 60 s"]);
        drop(stuck);
        assert_eq!(health.faults(), ALIVE, "it came back");
    }

    #[tokio::test(start_paused = true)]
    async fn many_short_runs_and_idling_for_ever_are_alive() {
        let health = Health::new(STUCK_AFTER);
        for _ in 0..10 {
            let busy = health.busy();
            advance(STUCK_AFTER / 2).await;
            drop(busy);
        }
        advance(STUCK_AFTER * 100).await;
        assert_eq!(health.faults(), ALIVE);
    }

    #[test]
    fn a_worker_that_panics_is_dead_for_good() {
        let health = Health::new(STUCK_AFTER);
        let worker = std::thread::spawn({
            let health = health.clone();
            move || {
                let _busy = health.busy();
                panic!("a defect in a reconcile");
            }
        });
        assert!(worker.join().is_err());
        drop(health.busy());
        assert_eq!(health.faults(), ["workers that died of a defect, see the log: 1"]);
    }
}
