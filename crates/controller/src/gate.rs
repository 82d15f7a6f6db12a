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
    /// Changes when more buckets are overdue.
    hurries: watch::Sender<u64>,
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
    /// Those of them in which work is to be broken off.
    overdue: BTreeSet<Bucket>,
}

impl Gate {
    /// With nothing warm. Buckets that have drained are sent to `drained`.
    pub fn new(fleet: Fleet, drained: mpsc::UnboundedSender<Bucket>) -> Self {
        Self {
            fleet,
            state: Mutex::default(),
            quiet: Notify::new(),
            aborts: watch::Sender::new(0),
            hurries: watch::Sender::new(0),
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
        let (aborted, hurried) = (self.aborts.subscribe(), self.hurries.subscribe());
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
            hurried,
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
                state.overdue.remove(&bucket);
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
        let mut state = self.lock();
        state.draining.retain(|bucket, _| !buckets.contains(bucket));
        state.overdue.retain(|bucket| !buckets.contains(bucket));
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

    /// Breaks off what still runs in these buckets, if they drain by the order of this number. Returns in how many.
    ///
    /// What was sent by then may still be carried out: preconditions and the fence are for that, as after a crash.
    pub fn hurry(&self, number: u64, buckets: &[Bucket]) -> usize {
        let count = {
            let mut state = self.lock();
            let drains = |bucket: &&Bucket| state.draining.get(*bucket) == Some(&number);
            let late: Vec<Bucket> = buckets.iter().filter(drains).copied().collect();
            state.overdue.extend(&late);
            late.len()
        };
        if count > 0 {
            self.hurries.send_modify(|count| *count += 1);
        }
        count
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
    hurried: watch::Receiver<u64>,
}

impl Pass {
    /// What is to be asked before each write.
    pub fn permit(&self) -> Permit {
        let (fleet, bucket, epoch) = (self.gate.fleet.clone(), self.bucket, self.epoch);
        Permit::new(epoch, move || fleet.may_write(bucket, epoch))
    }

    /// Completes when this work must end at once: with all other, or because its bucket has drained for too long.
    pub async fn aborted(&mut self) {
        // The gate, and with it both senders, lives as long as this.
        let (gate, bucket) = (&self.gate, self.bucket);
        let overdue = self.hurried.wait_for(|_| gate.lock().overdue.contains(&bucket));
        tokio::select! {
            biased;
            _ = self.aborted.changed() => {}
            _ = overdue => {}
        }
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

    #[tokio::test]
    async fn a_drain_that_takes_too_long_breaks_off_what_runs_there_and_nothing_else() {
        let (gate, mut drained, _orders) = gate();
        let [mut late, mut other] = [1, 2].map(|index| gate.enter(bucket(index)).expect("owned"));
        gate.drain(4, &[bucket(1)]);
        assert_eq!(gate.hurry(3, &[bucket(1)]), 0, "that order is over");
        let short = Duration::from_millis(20);
        assert!(tokio::time::timeout(short, late.aborted()).await.is_err());
        assert_eq!(gate.hurry(4, &[bucket(1), bucket(2)]), 1);
        let heard = tokio::time::timeout(Duration::from_secs(30), late.aborted()).await;
        assert!(heard.is_ok(), "it hears of it");
        assert!(tokio::time::timeout(short, other.aborted()).await.is_err());
        drop(late);
        assert_eq!(drained.try_recv(), Ok(bucket(1)));
        let mut next = gate.enter(bucket(1)).expect("owned");
        assert!(tokio::time::timeout(short, next.aborted()).await.is_err(), "it is new");
    }
}
