//! What is watched in a simulation, by true time and by its own account: the members' own words are not believed.

use std::collections::BTreeMap;
use std::sync::Arc;

use sharding::map::{Expected, ShardMap};
use sharding::protocol::Incarnation;
use sharding::{Bucket, Epoch};

use crate::schedule::Micros;
use crate::world::invariants::{Given, Violation, check_write};

/// Which process of the simulation.
pub(crate) type Place = usize;

/// How many objects there are in each bucket.
pub(crate) const OBJECTS: usize = 2;

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) reconciles: u64,
    /// Writes of objects that arrived and were applied.
    pub(crate) accepted: u64,
    /// Writes of objects that the fence refused.
    pub(crate) refused: u64,
    /// Writes under an older ownership that were applied after one under a newer.
    pub(crate) stale: u64,
    pub(crate) map_writes: u64,
    /// Buckets that went from a member which did not hold its Lease any more.
    pub(crate) taken: u64,
    /// Buckets that went from a live member.
    pub(crate) handed: u64,
    /// Buckets that nobody owned.
    pub(crate) given_out: u64,
    pub(crate) raised: u64,
    pub(crate) processes: u64,
    pub(crate) steps: u64,
    /// From the death of an owner to the first start of the next, by true time, and by the clock of the leader.
    pub(crate) slowest_takeover: (Micros, Micros),
    /// From the end of the last fault.
    pub(crate) served_after: Micros,
    pub(crate) balanced_after: Micros,
    /// In each of the buckets, for a rolling replacement.
    pub(crate) changes: Vec<u32>,
}

/// The objects of one bucket, and what is known of it.
#[derive(Debug, Clone, Default)]
struct Watched {
    /// Who executes in it, and how many times.
    executing: BTreeMap<Place, u32>,
    /// To whom it was given, under which epochs, in order.
    owners: Vec<(Incarnation, Epoch)>,
    objects: [Object; OBJECTS],
    /// Which owner died or froze, and when, if nobody has started since.
    down: Option<(Place, Micros)>,
}

/// An object as the API server keeps it, and from how new an ownership its last write was.
#[derive(Debug, Clone, Copy, Default)]
struct Object {
    /// 0: it was never written.
    fence: u64,
    newest: usize,
}

/// A write of an object.
#[derive(Debug, Clone)]
pub(crate) struct ObjectWrite {
    pub(crate) bucket: Bucket,
    pub(crate) object: usize,
    pub(crate) epoch: Epoch,
    /// How many times the bucket had been given away when the work began under which this is written.
    pub(crate) ownership: usize,
}

/// How the API server answers a write of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    /// The object's fence or the map's epoch is newer. With the object's, if that is the reason.
    Refused(Option<Epoch>),
}

pub(crate) struct Judge {
    expected: Expected,
    given: Given,
    buckets: Vec<Watched>,
    /// Whether the API server has a fence.
    fence: bool,
    pub(crate) counts: Counts,
    pub(crate) violation: Option<Violation>,
}

impl Judge {
    pub(crate) fn new(expected: Expected, fence: bool) -> Self {
        let buckets = usize::from(expected.buckets);
        Self {
            expected,
            given: Given::new(),
            buckets: vec![Watched::default(); buckets],
            fence,
            counts: Counts {
                changes: vec![0; buckets],
                ..Counts::default()
            },
            violation: None,
        }
    }

    pub(crate) fn found(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// A write of the map was applied. `holds`: whether a member holds its Lease at this moment.
    pub(crate) fn map_written(
        &mut self,
        before: Option<&ShardMap>,
        after: &Arc<ShardMap>,
        holds: impl Fn(&Incarnation) -> bool,
    ) {
        self.counts.map_writes += 1;
        if let Err(violation) = check_write(before, after, &self.expected, true, &mut self.given) {
            self.found(violation);
        }
        for (place, bucket) in after.buckets().enumerate() {
            let (Some(owner), Some(epoch)) = (after.owner(bucket), after.epoch(bucket)) else {
                continue;
            };
            let watched = &mut self.buckets[place];
            let last = watched.owners.last();
            if last.is_some_and(|(last, under)| last == owner && *under == epoch) {
                continue;
            }
            let same = last.is_some_and(|(last, _)| last == owner);
            match before.and_then(|before| before.owner(bucket)) {
                Some(_) if same => self.counts.raised += 1,
                Some(former) if holds(former) => self.counts.handed += 1,
                Some(_) => self.counts.taken += 1,
                None => self.counts.given_out += 1,
            }
            if !same && last.is_some() {
                self.counts.changes[place] += 1;
            }
            watched.owners.push((owner.clone(), epoch));
        }
    }

    /// Work begins. `excused`: whether a process is frozen and past its Lease.
    pub(crate) fn begins(
        &mut self,
        by: Place,
        me: &Incarnation,
        bucket: Bucket,
        epoch: Epoch,
        excused: impl Fn(Place) -> bool,
    ) -> usize {
        self.counts.reconciles += 1;
        let watched = &mut self.buckets[usize::from(bucket.index())];
        let others = watched.executing.keys().filter(|other| **other != by);
        let together = others.copied().any(|other| !excused(other));
        *watched.executing.entry(by).or_default() += 1;
        let mut owners = watched.owners.iter();
        let ownership = owners.rposition(|(owner, under)| *under == epoch && owner == me);
        if together {
            self.found(Violation::TwoMembersWork);
        }
        // One that helps itself is nobody's heir.
        ownership.map_or(0, |place| place + 1)
    }

    /// Work has ended. Returns whether it was the last of this process in this bucket.
    pub(crate) fn ends(&mut self, by: Place, bucket: Bucket) -> bool {
        let executing = &mut self.buckets[usize::from(bucket.index())].executing;
        if let Some(times) = executing.get_mut(&by) {
            *times -= 1;
            if *times == 0 {
                executing.remove(&by);
            }
        }
        !executing.contains_key(&by)
    }

    pub(crate) fn executes(&self, by: Place, bucket: Bucket) -> bool {
        self.buckets[usize::from(bucket.index())].executing.contains_key(&by)
    }

    /// A write of an object arrives at the API server, whose map this is. The admission knows it at once.
    pub(crate) fn object_written(&mut self, write: &ObjectWrite, map: Option<&ShardMap>) -> Verdict {
        let object = &mut self.buckets[usize::from(write.bucket.index())].objects[write.object];
        let newer = map
            .and_then(|map| map.epoch(write.bucket))
            .is_some_and(|epoch| epoch > write.epoch);
        if self.fence && object.fence > write.epoch.0 {
            self.counts.refused += 1;
            return Verdict::Refused(Some(Epoch(object.fence)));
        }
        if self.fence && newer {
            self.counts.refused += 1;
            return Verdict::Refused(None);
        }
        self.counts.accepted += 1;
        object.fence = write.epoch.0;
        let stale = write.ownership < object.newest;
        object.newest = object.newest.max(write.ownership);
        if stale {
            self.counts.stale += 1;
            self.found(Violation::StaleWriteAccepted);
        }
        Verdict::Accepted
    }

    /// Somebody stamps the objects of a bucket with a fence that no owner has.
    pub(crate) fn stamp(&mut self, bucket: Bucket, fence: Epoch) {
        for object in &mut self.buckets[usize::from(bucket.index())].objects {
            object.fence = object.fence.max(fence.0);
        }
    }

    /// The owner of a bucket dies, or freezes.
    pub(crate) fn goes_down(&mut self, owner: Place, bucket: Bucket, now: Micros) {
        let down = &mut self.buckets[usize::from(bucket.index())].down;
        down.get_or_insert((owner, now));
    }

    /// It runs again, and nobody has taken its place.
    pub(crate) fn comes_back(&mut self, owner: Place, bucket: Bucket) {
        let down = &mut self.buckets[usize::from(bucket.index())].down;
        down.take_if(|(place, _)| *place == owner);
    }

    /// A member takes up a bucket. The leader's clock runs at this rate, in thousandths.
    pub(crate) fn takes_up(&mut self, by: Place, bucket: Bucket, now: Micros, rate: u64) {
        let down = self.buckets[usize::from(bucket.index())].down.take();
        if let Some((_, since)) = down.filter(|(owner, _)| *owner != by) {
            let took = now - since;
            let slowest = &mut self.counts.slowest_takeover;
            *slowest = (*slowest).max((took, took * rate / 1000));
        }
    }
}
