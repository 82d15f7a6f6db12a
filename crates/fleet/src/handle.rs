//! What the rest of the program sees of the fleet.

use std::sync::Arc;

use sharding::map::ShardMap;
use sharding::protocol::{Event, Incarnation, Process, Work};
use sharding::timing::{Millis, Timings};
use sharding::{Bucket, Epoch};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clocks;

/// In what this member works, as of the last step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// By bucket: the epoch of its work, and whether more of it may start.
    pub(crate) work: Arc<[Option<Work>]>,
    /// Work may start before this moment of the driver's clock.
    pub start_until: Millis,
    /// All work must have ended at this moment, unless a renewal moves it on.
    pub stop_at: Millis,
    /// The newest map that is obeyed.
    pub map: Option<Arc<ShardMap>>,
    /// Whether this member leads.
    pub leads: bool,
}

impl Served {
    pub(crate) fn of(process: &Process, before: &Self, leads: bool, buckets: u16, timings: Timings) -> Self {
        let member = &process.member;
        let mut all = vec![None; usize::from(buckets)];
        for (bucket, work) in &member.work {
            if let Some(place) = all.get_mut(usize::from(bucket.index())) {
                *place = Some(*work);
            }
        }
        let held = member.keeper.held_from.filter(|_| member.exited.is_none());
        let map = member.map.as_ref().and_then(|(_, map)| map.as_ref());
        Self {
            // Most steps change nothing of it.
            work: if *before.work == *all {
                Arc::clone(&before.work)
            } else {
                all.into()
            },
            start_until: held.map_or(0, |sent| sent + timings.renew_deadline_ms()),
            stop_at: held.map_or(0, |sent| sent + timings.abort_ms()),
            map: map.cloned(),
            leads,
        }
    }

    /// The epoch under which work in this bucket may start at this moment.
    #[must_use]
    pub fn may_start(&self, bucket: Bucket, now: Millis) -> Option<Epoch> {
        match *self.work.get(usize::from(bucket.index()))? {
            Some(Work::Serving(epoch)) if now < self.start_until => Some(epoch),
            _ => None,
        }
    }

    /// The term of the map that is obeyed; 0 without one.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.map.as_ref().map_or(0, |map| map.term)
    }

    /// Whether work that started under this epoch may write at this moment. Not while its bucket drains, though nobody
    /// else owns it until its loser has said that it has ended: the next owner waits for that, and looks at everything
    /// anyway. So work ends with the request that is under way.
    #[must_use]
    pub fn may_write(&self, bucket: Bucket, epoch: Epoch, now: Millis) -> bool {
        let work = self.work.get(usize::from(bucket.index())).copied().flatten();
        work == Some(Work::Serving(epoch)) && now < self.stop_at
    }

    /// All buckets in which work may start while the Lease holds.
    pub fn buckets(&self) -> impl Iterator<Item = (Bucket, Epoch)> + '_ {
        Bucket::all()
            .zip(self.work.iter())
            .filter_map(|(bucket, work)| match work {
                Some(Work::Serving(epoch)) => Some((bucket, *epoch)),
                Some(Work::Draining(_)) | None => None,
            })
    }
}

/// What the program is told to do, in this order.
#[derive(Debug)]
pub enum Order {
    /// Open the watches for these buckets, and then say [`Fleet::warm`] with this round. Nothing of them is served yet.
    /// A later order for another round means that this one is over.
    Open(u64, Vec<Bucket>),
    /// Take up work, under these epochs. Also for a bucket that is served already, if its epoch is new, and for one that
    /// had to drain and stays after all.
    Serve(Vec<(Bucket, Epoch)>),
    /// Start nothing more, and say [`Fleet::idle`], with this number, for each as soon as no work runs in it.
    Drain(u64, Vec<Bucket>),
    /// End all work at once, and drop the token when nothing runs any more. The driver waits for that, and sends nothing
    /// before.
    Abort(Stopped),
}

/// What the driver is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// By the API server, or by the program.
    Event(Event),
    /// That no work runs in a bucket, after the order to drain of this number.
    Idle(u64, Bucket),
}

/// Dropped when all work has ended.
#[derive(Debug)]
pub struct Stopped(#[expect(dead_code, reason = "it tells by being dropped")] oneshot::Sender<()>);

impl Stopped {
    pub(crate) fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }
}

/// The orders. When there are no more, the driver has ended, and all work with it.
pub type Orders = mpsc::UnboundedReceiver<Order>;

/// The way to the driver; clones share it.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Which process this is.
    pub me: Incarnation,
    pub(crate) served: watch::Receiver<Served>,
    pub(crate) events: mpsc::UnboundedSender<Told>,
    pub(crate) clocks: Clocks,
}

impl Fleet {
    /// The epoch under which work in a bucket may start now. To be asked before each start.
    ///
    /// Whoever starts work first enters it in the list of what runs, and then asks: an order to drain is given after this
    /// has begun to say no, so what was told yes is found in the list.
    #[must_use]
    pub fn may_start(&self, bucket: Bucket) -> Option<Epoch> {
        if self.events.is_closed() {
            return None;
        }
        let served = self.served.borrow();
        // The clock last: what was read before it may be old, but is not used beyond its time.
        served.may_start(bucket, (self.clocks.boot)())
    }

    /// Whether work that started under this epoch may write now. To be asked before each write.
    #[must_use]
    pub fn may_write(&self, bucket: Bucket, epoch: Epoch) -> bool {
        let served = self.served.borrow();
        !self.events.is_closed() && served.may_write(bucket, epoch, (self.clocks.boot)())
    }

    /// The epoch of any bucket, whoever owns it, by the map that is obeyed.
    #[must_use]
    pub fn epoch_of(&self, bucket: Bucket) -> Option<Epoch> {
        self.served.borrow().map.as_ref()?.epoch(bucket)
    }

    /// What is served, whenever it changes; also when its time moves on.
    #[must_use]
    pub fn served(&self) -> watch::Receiver<Served> {
        self.served.clone()
    }

    /// The watches for what this round gives to this member are warm.
    pub fn warm(&self, round: u64) {
        self.tell(Event::Warm(round));
    }

    /// No work runs in this bucket any more, after the [`Order::Drain`] of this number. Too late an answer, after the
    /// bucket was taken up again, is dropped.
    pub fn idle(&self, drain: u64, bucket: Bucket) {
        // A driver that has ended needs to know nothing.
        let _ = self.events.send(Told::Idle(drain, bucket));
    }

    /// An object of this bucket carries this fence, and it is not older than the bucket's epoch.
    pub fn fence(&self, bucket: Bucket, fence: Epoch) {
        self.tell(Event::Fence(bucket, fence));
    }

    /// The share of this member changed.
    pub fn weight(&self, weight: u32) {
        self.tell(Event::Weight(weight));
    }

    /// Hand over, and exit.
    pub fn leave(&self) {
        self.tell(Event::Leave);
    }

    /// End all work and exit, whoever comes next.
    pub fn give_up(&self) {
        self.tell(Event::GiveUp);
    }

    fn tell(&self, event: Event) {
        // A driver that has ended needs to know nothing.
        let _ = self.events.send(Told::Event(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(index: u16) -> Bucket {
        Bucket::try_from(index).expect("small")
    }

    fn serving() -> Process {
        let mut process = Process::new(1);
        process.member.keeper.held_from = Some(10_000);
        process.member.work = [
            (bucket(1), Work::Serving(Epoch(7))),
            (bucket(2), Work::Draining(Epoch(6))),
        ]
        .into();
        process
    }

    fn served(process: &Process) -> Served {
        Served::of(process, &Served::default(), false, 4, Timings::FAST)
    }

    #[test]
    fn work_starts_in_what_is_served_and_before_the_renew_deadline() {
        let served = served(&serving());
        assert_eq!(served.may_start(bucket(1), 13_999), Some(Epoch(7)));
        assert_eq!(served.may_start(bucket(1), 14_000), None, "the renew deadline");
        assert_eq!(served.may_start(bucket(2), 10_000), None, "it drains");
        assert_eq!(served.may_start(bucket(3), 10_000), None, "somebody else's");
        assert_eq!(served.may_start(bucket(900), 10_000), None, "not in this map");
        assert_eq!(served.stop_at, 14_500);
        assert_eq!(served.buckets().collect::<Vec<_>>(), [(bucket(1), Epoch(7))]);
    }

    #[test]
    fn what_has_started_may_write_until_three_quarters_of_the_lease_and_not_while_it_drains() {
        let served = served(&serving());
        assert!(served.may_write(bucket(1), Epoch(7), 14_499));
        assert!(!served.may_write(bucket(1), Epoch(7), 14_500), "three quarters");
        assert!(
            !served.may_write(bucket(1), Epoch(6), 10_000),
            "started under an older epoch"
        );
        assert!(!served.may_write(bucket(2), Epoch(6), 10_000), "it drains");
        assert!(!served.may_write(bucket(3), Epoch(7), 10_000), "somebody else's");
    }

    #[test]
    fn nothing_starts_without_a_lease_or_after_the_end() {
        let mut process = serving();
        process.member.keeper.held_from = None;
        assert_eq!(served(&process).may_start(bucket(1), 0), None);
        let mut process = serving();
        process.member.exited = Some(sharding::protocol::Exit::LeaseLost);
        assert_eq!(served(&process).may_start(bucket(1), 10_001), None);
    }

    #[test]
    fn a_step_that_changes_nothing_copies_nothing() {
        let process = serving();
        let first = served(&process);
        let second = Served::of(&process, &first, false, 4, Timings::FAST);
        assert!(Arc::ptr_eq(&first.work, &second.work));
    }
}
