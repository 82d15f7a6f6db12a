//! What must hold in every state of a fleet. The world's own account of time is used, not the cores'.

use std::fmt;
use std::sync::Arc;

use sharding::Epoch;
use sharding::map::{Expected, ShardMap};
use sharding::protocol::Incarnation;

use super::{Proc, Setup, State, World};

/// What does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Violation {
    /// Two members that are not frozen work in one bucket.
    TwoMembersWork,
    /// A member works under an epoch that the fence would let pass, in a bucket that is not its own any more.
    FenceLetsItPass,
    /// An epoch or the sequence of the map fell, or an owner changed without its epoch.
    EpochFellOrStayed,
    /// An epoch changed without its owner, and nobody asked for a raise.
    EpochChangedAlone,
    /// A map that its readers refuse.
    MalformedMap,
    /// Work could start after the renew deadline.
    StartAfterTheSelfFence,
    /// Work ran after three quarters of the Lease.
    WorkAfterTheAbort,
    /// A fair run without further faults never settles.
    NeverSettles,
    /// A write under an older ownership was accepted after one under a newer. Only the simulation has objects.
    StaleWriteAccepted,
    /// Everything is served, and the shares do not come within their bounds. Only the simulation has shares.
    SharesOutOfBounds,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// By bucket: the last epoch under which it was given to anybody, and to whom.
pub(crate) type Given = Vec<(Epoch, Option<Incarnation>)>;

/// Looks at a state, and at the writes of the map that led to it, which it takes.
pub(crate) fn check(world: &mut World, setup: &Setup) -> Result<(), Violation> {
    let expected = Expected {
        installation: "here".into(),
        buckets: setup.buckets,
    };
    for (before, after) in std::mem::take(&mut world.written) {
        let given = &mut world.server.given;
        check_write(before.as_deref(), &after, &expected, setup.raises, given)?;
    }
    for proc in &world.procs {
        check_fence(world, proc, setup)?;
        check_self_fence(proc, setup)?;
    }
    let mut busy: Vec<_> = world
        .procs
        .iter()
        .filter(|proc| proc.up())
        .flat_map(|proc| proc.works_in(setup.config(proc)))
        .map(|(bucket, _)| bucket)
        .collect();
    busy.sort_unstable();
    if busy.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Violation::TwoMembersWork);
    }
    Ok(())
}

/// Looks at a write of the map.
pub(crate) fn check_write(
    before: Option<&ShardMap>,
    after: &Arc<ShardMap>,
    expected: &Expected,
    raises: bool,
    given: &mut Given,
) -> Result<(), Violation> {
    if after.to_spec().read(expected).as_ref() != Ok(&**after) {
        return Err(Violation::MalformedMap);
    }
    check_given(after, given)?;
    let Some(before) = before else { return Ok(()) };
    if after.sequence <= before.sequence {
        return Err(Violation::EpochFellOrStayed);
    }
    for bucket in after.buckets() {
        let (old, new) = (before.epoch(bucket), after.epoch(bucket));
        let same_owner = before.owner(bucket) == after.owner(bucket);
        if new < old || new == old && !same_owner {
            return Err(Violation::EpochFellOrStayed);
        }
        // A fresh map in place of another gives every bucket to nobody, also those that nobody had.
        if new > old && same_owner && after.owner(bucket).is_some() && !raises {
            return Err(Violation::EpochChangedAlone);
        }
    }
    Ok(())
}

/// Whoever gets a bucket gets it under an epoch above all under which it was ever given, also if the map was deleted
/// between. Only a map that gives nothing to anybody may be older than that: a late request can bring it back.
fn check_given(after: &ShardMap, given: &mut Given) -> Result<(), Violation> {
    given.resize(after.owners.len(), (Epoch(0), None));
    for (bucket, (last, to)) in after.buckets().zip(given) {
        let (Some(owner), Some(epoch)) = (after.owner(bucket), after.epoch(bucket)) else {
            continue;
        };
        if epoch < *last || epoch == *last && to.as_ref() != Some(owner) {
            return Err(Violation::EpochFellOrStayed);
        }
        (*last, *to) = (epoch, Some(owner.clone()));
    }
    Ok(())
}

/// A member works under its own epoch, or, once another has its bucket, under one that is older than the map's. Frozen
/// ones too: this is what refuses their late writes.
fn check_fence(world: &World, proc: &Proc, setup: &Setup) -> Result<(), Violation> {
    let Some((_, map)) = &world.server.map else {
        return Ok(());
    };
    // A backup names former owners, and members with newer epochs go on until a fresh map is in its place: it gives nothing
    // to anybody, since nobody obeys it.
    if world.server.restored || !matches!(proc.state, State::Up | State::Frozen(_)) {
        return Ok(());
    }
    let me = &setup.config(proc).me;
    for (bucket, epoch) in proc.may_write_in() {
        let current = map.epoch(bucket).unwrap_or(epoch);
        let taken = map.owner(bucket).is_some_and(|owner| owner != me);
        if taken && epoch >= current {
            return Err(Violation::FenceLetsItPass);
        }
    }
    Ok(())
}

fn check_self_fence(proc: &Proc, setup: &Setup) -> Result<(), Violation> {
    if !proc.up() {
        return Ok(());
    }
    let config = setup.config(proc);
    let since = proc.renewed_from.map(|sent| proc.clock - sent);
    let starts = proc
        .member()
        .work
        .keys()
        .any(|bucket| proc.member().serves(*bucket, proc.clock, config).is_some());
    if starts && since.is_none_or(|since| since >= setup.timings.renew_deadline_ms()) {
        return Err(Violation::StartAfterTheSelfFence);
    }
    let works = proc.works_in(config).next().is_some();
    if works && since.is_none_or(|since| since >= setup.timings.abort_ms()) {
        return Err(Violation::WorkAfterTheAbort);
    }
    Ok(())
}
