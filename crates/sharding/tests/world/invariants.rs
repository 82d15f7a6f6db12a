//! What must hold in every state of a fleet. The world's own account of time is used, not the cores'.

use std::fmt;
use std::sync::Arc;

use sharding::map::{Expected, ShardMap};

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
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Looks at a state, and at the writes of the map that led to it.
pub(crate) fn check(world: &World, setup: &Setup) -> Result<(), Violation> {
    for (before, after) in &world.written {
        check_write(before.as_deref(), after, setup)?;
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

fn check_write(before: Option<&ShardMap>, after: &Arc<ShardMap>, setup: &Setup) -> Result<(), Violation> {
    let expected = Expected {
        installation: "here".into(),
        buckets: setup.buckets,
    };
    if after.to_spec().read(&expected).as_ref() != Ok(&**after) {
        return Err(Violation::MalformedMap);
    }
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
        // A fresh map after a deletion gives every bucket to nobody, also those that nobody had.
        if new > old && same_owner && after.owner(bucket).is_some() && !setup.raises {
            return Err(Violation::EpochChangedAlone);
        }
    }
    Ok(())
}

/// A member works under its own epoch, or under one that is older than the map's. Frozen ones too: this is what refuses
/// their late writes.
fn check_fence(world: &World, proc: &Proc, setup: &Setup) -> Result<(), Violation> {
    let Some((_, map)) = &world.server.map else {
        return Ok(());
    };
    if !matches!(proc.state, State::Up | State::Frozen(_)) {
        return Ok(());
    }
    let me = &setup.config(proc).me;
    for (bucket, epoch) in proc.may_write_in() {
        let current = map.epoch(bucket).unwrap_or(epoch);
        if epoch > current || epoch == current && map.owner(bucket) != Some(me) {
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
