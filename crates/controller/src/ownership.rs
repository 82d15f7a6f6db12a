//! What the fleet orders, carried out: which buckets are watched, which are worked in, and when that has ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fleet::{Fleet, Order, Orders};
use sharding::{Bucket, Epoch};
use telemetry::Health;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep_until};
use workqueue::{Class, Queue};

use crate::gate::Gate;
use crate::holdings::Holdings;
use crate::reconcile::Context;
use crate::store::{Entry, Key};
use crate::strays;
use crate::watch::Source;

/// For so long nothing was ordered before watches are tidied up, so that one change of the fleet costs one tidying.
const QUIET: Duration = Duration::from_secs(10);

/// A bucket that is watched, and neither worked in nor asked for, is kept for so long: it may be one of a round that was
/// dropped and comes again, or of a Lease that comes back.
const KEPT: Duration = Duration::from_mins(2);

/// How long a drain waits for work that runs. Nearly all reconciles take less than a second; one that takes longer waits
/// for an answer that may never come.
const DRAIN_AT_MOST: Duration = Duration::from_secs(5);

/// Obeys the fleet.
pub struct Ownership {
    fleet: Fleet,
    gate: Arc<Gate>,
    holdings: Holdings,
    cx: Arc<Context>,
    queue: Arc<Queue<Key>>,
    source: Source,
    health: Health,
    /// In which work is to be done.
    serving: BTreeSet<Bucket>,
    /// What the fleet wants to be told of when it is warm: the round and its buckets.
    opening: Option<(u64, BTreeSet<Bucket>)>,
    drained: mpsc::UnboundedReceiver<Bucket>,
    /// When to tidy up.
    tidy_at: Option<Instant>,
    /// When to drop what nobody asked for since.
    drop_at: Option<Instant>,
}

impl Ownership {
    /// Owns nothing yet.
    pub fn new(fleet: Fleet, source: Source, cx: Arc<Context>, queue: Arc<Queue<Key>>, health: Health) -> Self {
        let (sender, drained) = mpsc::unbounded_channel();
        Self {
            gate: Arc::new(Gate::new(fleet.clone(), sender)),
            fleet,
            holdings: Holdings::new(source.clone()),
            cx,
            queue,
            source,
            health,
            serving: BTreeSet::new(),
            opening: None,
            drained,
            tidy_at: None,
            drop_at: None,
        }
    }

    /// What is asked before each reconcile.
    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Obeys until the fleet has no more orders. Once `stop` is true, it asks to leave; `patience` later it gives its Lease
    /// back, whoever has taken over; and once more so long later it ends though it could not.
    pub async fn obey(mut self, mut orders: Orders, mut stop: watch::Receiver<bool>, patience: Duration) {
        let mut served = self.fleet.served();
        let (mut give_up_at, mut gave_up) = (None, false);
        let mut strays_at = interval(strays::AGAIN);
        loop {
            if give_up_at.is_none() {
                self.tell_health();
            }
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey_one(order).await,
                    None => break,
                },
                warm = self.holdings.warmed() => self.warmed(&warm),
                () = self.queue.recall() => {
                    tracing::info!("the queue was full and has room again; looking at everything");
                    self.look_at(&self.serving);
                }
                Some(bucket) = self.drained.recv() => self.has_drained(bucket),
                // An error means that the driver is gone; then the orders end, too.
                Ok(()) = served.changed() => {}
                () = at(self.tidy_at) => {
                    self.tidy_at = None;
                    self.holdings.tidy();
                }
                () = at(self.drop_at) => self.drop_what_nobody_wants(),
                _ = strays_at.tick() => self.put_strays_right(),
                () = stopped(&mut stop), if give_up_at.is_none() => {
                    self.health.set_ready(false, "stopping");
                    give_up_at = Some(Instant::now() + patience);
                    self.fleet.leave();
                }
                () = at(give_up_at), if gave_up => {
                    tracing::error!("the API server does not take the Lease back; ending, and leaving it to run out");
                    break;
                }
                () = at(give_up_at) => {
                    gave_up = true;
                    tracing::warn!(seconds = patience.as_secs(), "nobody took over in time; leaving all the same");
                    give_up_at = Some(Instant::now() + patience);
                    self.fleet.give_up();
                }
            }
        }
    }

    /// Its owner repairs the label of one that it sees; the owner of the bucket that the label names does it for others.
    fn put_strays_right(&self) {
        for (key, stray) in self.source.sink().strays.all() {
            if self.serving.contains(&key.bucket) {
                self.queue.add(key, Class::ChildDrift);
            } else if let Some(pass) = self.gate.enter(stray.label) {
                let (client, metrics) = (self.cx.client.clone(), self.cx.metrics.clone());
                tokio::spawn(strays::put_right(client, metrics, self.fleet.clone(), pass, key, stray));
            }
        }
    }

    /// No reconcile keeps a drain for longer than this: its next owner waits. It goes on where this one broke off.
    fn hurry_later(&self, number: u64, buckets: Vec<Bucket>) {
        let gate = Arc::clone(&self.gate);
        tokio::spawn(async move {
            tokio::time::sleep(DRAIN_AT_MOST).await;
            let count = gate.hurry(number, &buckets);
            if count > 0 {
                tracing::warn!(
                    count,
                    seconds = DRAIN_AT_MOST.as_secs(),
                    "buckets drain for too long; their work is broken off"
                );
            }
        });
    }

    async fn obey_one(&mut self, order: Order) {
        self.tidy_at = Some(Instant::now() + QUIET);
        self.drop_at = Some(Instant::now() + KEPT);
        match order {
            Order::Open(round, buckets) => {
                self.holdings.open(buckets.iter().copied());
                self.opening = Some((round, buckets.into_iter().collect()));
                self.tell_if_warm();
            }
            Order::Serve(buckets) => self.serve(&buckets),
            Order::Drain(number, buckets) => {
                self.serving.retain(|bucket| !buckets.contains(bucket));
                self.gate.drain(number, &buckets);
                self.hurry_later(number, buckets);
            }
            Order::Abort(token) => {
                self.serving.clear();
                self.opening = None;
                self.gate.abort().await;
                drop(token);
            }
        }
    }

    fn serve(&mut self, buckets: &[(Bucket, Epoch)]) {
        let buckets: BTreeSet<Bucket> = buckets.iter().map(|(bucket, _)| *bucket).collect();
        // After a crash of their owner nobody said before that they come.
        self.holdings.open(buckets.iter().copied());
        self.gate.serve(&buckets);
        self.look_at(&buckets);
        self.serving.extend(buckets);
    }

    /// A new owner looks at everything once. What is settled costs no request, and what its former owner did not finish
    /// does not wait behind it.
    fn look_at(&self, buckets: &BTreeSet<Bucket>) {
        let sink = self.source.sink();
        for (key, class) in sink.store.keys(buckets.iter().copied(), class_of) {
            self.queue.add(key, class);
        }
        for key in sink.arrivals.keys(buckets) {
            self.queue.add(key, Class::UserChange);
        }
    }

    fn warmed(&mut self, buckets: &BTreeSet<Bucket>) {
        self.gate.warm(buckets.iter().copied());
        self.tell_if_warm();
        self.look_at(&buckets.intersection(&self.serving).copied().collect());
    }

    fn tell_if_warm(&mut self) {
        if let Some((round, buckets)) = &self.opening
            && self.gate.are_warm(buckets)
        {
            self.fleet.warm(*round);
        }
    }

    /// Who drained a bucket may get it back at once, if the round was dropped.
    fn has_drained(&mut self, bucket: Bucket) {
        let opening = self
            .opening
            .as_ref()
            .is_some_and(|(_, buckets)| buckets.contains(&bucket));
        if !opening && !self.serving.contains(&bucket) {
            self.close(&[bucket].into());
        }
    }

    fn drop_what_nobody_wants(&mut self) {
        self.drop_at = None;
        if let Some((_, buckets)) = &self.opening
            && !self.gate.are_warm(buckets)
        {
            // A long list is still on its way.
            self.drop_at = Some(Instant::now() + KEPT);
            return;
        }
        self.opening = None;
        let unwanted = self.holdings.held().difference(&self.serving).copied().collect();
        self.close(&unwanted);
        self.tidy_at = Some(Instant::now() + QUIET);
    }

    fn close(&mut self, buckets: &BTreeSet<Bucket>) {
        self.gate.cool(buckets);
        for bucket in buckets {
            self.queue.remove_group(bucket.index().into());
        }
        for key in self.holdings.close(buckets) {
            self.cx.restarts.settled(&key);
        }
    }

    /// Ready is who takes part: it holds its Lease, knows the map, and all that there is in what it serves. A standby
    /// serves nothing.
    fn tell_health(&self) {
        let served = self.fleet.served();
        let served = served.borrow();
        if served.start_until == 0 {
            self.health.set_ready(false, "waiting for a Lease");
        } else if served.term() == 0 && served.buckets().next().is_none() {
            self.health.set_ready(false, "waiting for the ShardMap");
        } else if !self.gate.are_warm(&self.serving) {
            self.health.set_ready(false, "filling caches");
        } else {
            self.health.set_ready(true, "serving its share of the fleet");
        }
    }
}

/// How urgent the first look at a Database is.
fn class_of(entry: &Entry) -> Class {
    match &entry.database {
        Some(database) if database.deleting() => Class::Deletion,
        Some(database) if database.status.observed_generation != Some(database.generation()) => Class::UserChange,
        Some(_) if !entry.doubted => Class::Resync,
        Some(_) | None => Class::ChildDrift,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender went only if the process is going, which is also a reason to stop.
    drop(stop.wait_for(|stop| *stop).await);
}
