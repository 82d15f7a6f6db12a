//! Which reconcile may run, and what runs in each bucket, so that a drain ends with the last of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet::Fleet;
use sharding::{Bucket, Epoch};
use tokio::sync::{Notify, mpsc, watch};

use crate::permit::Permit;

/// Asked before each reconcile.
pub struct Gate {
    fleet: Fleet,
    state: Mutex<State>,
    /// Told when nothing runs any more.
    quiet: Notify,
    /// How often all work was ended at once.
    aborts: watch::Sender<u64>,
    /// Gets the buckets that have drained.
    drained: mpsc::UnboundedSender<Bucket>,
}

#[derive(Default)]
struct State {
    /// Buckets of which all is known that there is.
    warm: BTreeSet<Bucket>,
    /// Reconciles that run.
    running: BTreeMap<Bucket, usize>,
    /// Buckets whose drain waits for a reconcile, with the number of the order.
    draining: BTreeMap<Bucket, u64>,
}

impl Gate {
    /// With nothing warm. Buckets that have drained are sent to `drained`.
    pub fn new(fleet: Fleet, drained: mpsc::UnboundedSender<Bucket>) -> Self {
        Self {
            fleet,
            state: Mutex::default(),
            quiet: Notify::new(),
            aborts: watch::Sender::new(0),
            drained,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a reconcile in, if the bucket is owned and all is known of it. It runs until the pass is dropped.
    pub fn enter(self: &Arc<Self>, bucket: Bucket) -> Option<Pass> {
        // In this order. Who is told to start is in the list of what runs before a drain can look, and hears of every
        // abort that comes after the answer.
        let aborted = self.aborts.subscribe();
        {
            let mut state = self.lock();
            if !state.warm.contains(&bucket) {
                return None;
            }
            *state.running.entry(bucket).or_default() += 1;
        }
        let Some(epoch) = self.fleet.may_start(bucket) else {
            self.leave(bucket);
            return None;
        };
        Some(Pass {
            gate: Arc::clone(self),
            bucket,
            epoch,
            aborted,
        })
    }

    fn leave(&self, bucket: Bucket) {
        let (drained, quiet) = {
            let mut state = self.lock();
            let count = state.running.entry(bucket).or_default();
            *count = count.saturating_sub(1);
            let last = *count == 0;
            if last {
                state.running.remove(&bucket);
            }
            let drained = state.draining.get(&bucket).copied().filter(|_| last);
            if last {
                state.draining.remove(&bucket);
            }
            (drained, state.running.is_empty())
        };
        if let Some(number) = drained {
            self.tell(number, bucket);
        }
        if quiet {
            self.quiet.notify_waiters();
        }
    }

    fn tell(&self, number: u64, bucket: Bucket) {
        self.fleet.idle(number, bucket);
        // Nobody listens only when the process is going.
        let _ = self.drained.send(bucket);
    }

    /// All is known of these buckets.
    pub fn warm(&self, buckets: impl IntoIterator<Item = Bucket>) {
        self.lock().warm.extend(buckets);
    }

    /// What is known of these buckets is being forgotten.
    pub fn cool(&self, buckets: &BTreeSet<Bucket>) {
        self.lock().warm.retain(|bucket| !buckets.contains(bucket));
    }

    /// Whether all is known of all of these buckets.
    pub fn are_warm(&self, buckets: &BTreeSet<Bucket>) -> bool {
        let state = self.lock();
        buckets.iter().all(|bucket| state.warm.contains(bucket))
    }

    /// These buckets are taken up, or taken up again.
    pub fn serve(&self, buckets: &BTreeSet<Bucket>) {
        self.lock().draining.retain(|bucket, _| !buckets.contains(bucket));
    }

    /// Tells of each of these buckets when nothing runs in it any more. New work is refused already.
    pub fn drain(&self, number: u64, buckets: &[Bucket]) {
        let idle: Vec<Bucket> = {
            let mut state = self.lock();
            let (busy, idle) = buckets
                .iter()
                .partition::<Vec<Bucket>, _>(|bucket| state.running.contains_key(bucket));
            state.draining.extend(busy.into_iter().map(|bucket| (bucket, number)));
            idle
        };
        for bucket in idle {
            self.tell(number, bucket);
        }
    }

    /// Ends all work, and completes when nothing runs any more.
    pub async fn abort(&self) {
        self.aborts.send_modify(|count| *count += 1);
        loop {
            let quiet = self.quiet.notified();
            if self.lock().running.is_empty() {
                return;
            }
            quiet.await;
        }
    }
}

/// Leave to work in a bucket until this is dropped.
pub struct Pass {
    gate: Arc<Gate>,
    bucket: Bucket,
    epoch: Epoch,
    aborted: watch::Receiver<u64>,
}

impl Pass {
    /// What is to be asked before each write.
    pub fn permit(&self) -> Permit {
        let (fleet, bucket, epoch) = (self.gate.fleet.clone(), self.bucket, self.epoch);
        Permit::new(epoch, move || fleet.may_write(bucket, epoch))
    }

    /// Completes when all work must end at once.
    pub async fn aborted(&mut self) {
        // The gate, and with it the sender, lives as long as this.
        drop(self.aborted.changed().await);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.leave(self.bucket);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bucket(index: u16) -> Bucket {
        Bucket::try_from(index).expect("small")
    }

    fn gate() -> (Arc<Gate>, mpsc::UnboundedReceiver<Bucket>, fleet::Orders) {
        let (fleet, orders) = fleet::alone(Epoch(7));
        let (drained, buckets) = mpsc::unbounded_channel();
        let gate = Arc::new(Gate::new(fleet, drained));
        gate.warm([bucket(1), bucket(2)]);
        (gate, buckets, orders)
    }

    #[tokio::test]
    async fn nothing_runs_in_a_bucket_of_which_not_all_is_known() {
        let (gate, _drained, _orders) = gate();
        assert!(gate.enter(bucket(3)).is_none());
        gate.warm([bucket(3)]);
        assert!(gate.enter(bucket(3)).is_some());
        gate.cool(&[bucket(3)].into());
        assert!(gate.enter(bucket(3)).is_none());
    }

    #[tokio::test]
    async fn a_drain_ends_with_the_last_that_runs() {
        let (gate, mut drained, _orders) = gate();
        let [first, second] = [(); 2].map(|()| gate.enter(bucket(1)).expect("owned"));
        gate.drain(4, &[bucket(1), bucket(2)]);
        assert_eq!(drained.try_recv(), Ok(bucket(2)), "nothing ran there");
        drop(first);
        assert!(drained.try_recv().is_err(), "one still runs");
        drop(second);
        assert_eq!(drained.try_recv(), Ok(bucket(1)));
    }

    #[tokio::test]
    async fn a_drain_that_was_taken_back_is_not_told() {
        let (gate, mut drained, _orders) = gate();
        let pass = gate.enter(bucket(1)).expect("owned");
        gate.drain(4, &[bucket(1)]);
        gate.serve(&[bucket(1)].into());
        drop(pass);
        assert!(drained.try_recv().is_err());
    }

    #[tokio::test]
    async fn an_abort_reaches_all_that_runs_and_waits_for_it() {
        let (gate, _drained, _orders) = gate();
        let mut pass = gate.enter(bucket(1)).expect("owned");
        assert!(pass.permit().holds());
        let ending = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.abort().await }
        });
        let heard = tokio::time::timeout(Duration::from_secs(30), pass.aborted()).await;
        assert!(heard.is_ok(), "it hears of the abort");
        assert!(!ending.is_finished(), "it waits");
        drop(pass);
        ending.await.expect("no panic");
    }
}
