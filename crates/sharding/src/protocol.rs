//! The protocol as a value: `step(state, event, now) -> (state, commands)`, the same code in the model check, in the
//! simulation and in the process.
//!
//! Read in this order: [`lease`] (what is kept, and when it counts as lost), [`member`] (what one replica may do),
//! [`leader`] (what the one decider does and when), [`plan`] (what the next map is), [`target`] (who is to own what),
//! [`janitor`] (what is cleared away), then [`Process`] here, which is both, since every member may become the leader.
//!
//! # What is promised
//!
//! - At any moment at most one member works in a bucket, a frozen one excepted; and a write of a frozen one that
//!   arrives after a takeover carries an epoch older than the map's, so the fence refuses it.
//! - Past its renew deadline a member starts nothing; at three quarters of the Lease all its work has stopped.
//! - An epoch of a bucket never falls, and changes only when its owner changes or when a raise is asked for.
//!
//! `tests/model_check.rs` explores this, and shows that it can fail.
//!
//! # What the driver owes
//!
//! - `now` is CLOCK_BOOTTIME in ms. It is read before the commands of that step are carried out, so a request is never
//!   older than the moment that counts for it.
//! - Every request gets exactly one answer; the driver's own time-out is [`Answer::Unknown`], and what comes later is
//!   dropped. After it the request may have been applied, or may be applied at any later time.
//! - [`Event::Idle`] answers the last [`Command::Drain`] of its bucket, or none: what was drained before a later
//!   [`Command::Start`] is not told any more.
//! - A request is sent once: no retries inside of a client.
//! - Reads of a Lease and lists of Leases are consistent (no `resourceVersion=0`).
//! - [`Command::Abort`] is also on a timer that needs nobody: see [`member::Member::abort_at`].
//! - Before each start of work [`member::Member::serves`] is asked. Before each write: whether the bucket is still in
//!   [`member::Member::work`] under the epoch of that work, also draining, and [`member::Member::abort_at`] is not past.
//!
//! Deliberately absent: clocks, randomness, clients, retries in a loop.

pub mod janitor;
pub mod leader;
pub mod lease;
pub mod member;
pub mod plan;
pub mod target;

use std::sync::Arc;

pub use leader::Leader;
pub use lease::{Incarnation, Keeper, Lease, LeaseList, LeaseRecord, Observed, Report, Version};
pub use member::{Member, Work};
pub use plan::{Assign, Candidate};
pub use target::assigned;

use self::leader::Known;
use crate::bucket::Bucket;
use crate::epoch::Epoch;
use crate::map::{Expected, MapError, ShardMap};
use crate::timing::{Millis, Timings};

/// What does not change while a process runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which process this is.
    pub me: Incarnation,
    /// Of both kinds of Lease.
    pub timings: Timings,
    /// What a map must agree with.
    pub expected: Expected,
    /// How many members are active; the others are standbys.
    pub shards: u16,
    /// How long the gainers of a round may take to get warm. Then it is dropped, and the next one waits as long.
    pub prepare_ms: Millis,
    /// Who is to own what.
    pub assign: Assign,
    /// A deliberate fault. Only tests construct one.
    #[doc(hidden)]
    pub flaw: Option<Flaw>,
}

/// Deliberate faults of the protocol, to prove that the model check finds them.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// A gainer becomes owner before the loser has acknowledged.
    SkipTheAcknowledgement,
    /// `drained` is reported when the drain begins.
    AcknowledgeBeforeTheDrain,
    /// A renewal counts from its answer.
    CountFromTheAnswer,
    /// A takeover keeps the epoch.
    ForgetTheEpoch,
    /// A member takes the buckets of an owner whose Lease it sees expired.
    FollowersComputeOwnership,
    /// Expiry is judged by wall clocks, and they differ by half a Lease.
    CompareWallClocks,
    /// The leader moves the buckets of an expired member without taking its Lease.
    MapBeforeLease,
    /// A member obeys whatever map it was told last.
    ObeyAnOlderMap,
    /// Buckets that nobody owns are given out at once.
    GiveOutAtOnce,
    /// `seen` is reported while work of the older map still runs.
    SeenBeforeStopped,
    /// All rounds have one number.
    ReuseTheRoundNumber,
    /// A member never notices that its renew deadline has passed.
    ServePastTheDeadline,
    /// A member that lost its Lease takes it again and goes on.
    ComeBackAfterTheLoss,
    /// A Lease is released while its holder still works.
    ReleaseBeforeTheDrain,
    /// Not a fault: Leases of the dead are removed after one Lease, since an exploration cannot wait for ten minutes.
    ForgetAtOnce,
}

/// How a write was answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It was applied.
    Accepted {
        /// The object's version since then.
        version: Version,
        /// The object's uid.
        uid: Arc<str>,
    },
    /// Its precondition did not hold; it was not and will not be applied.
    Conflict,
    /// No answer in time: it was applied, or it will be, or it never will.
    Unknown,
}

/// One of the two Leases that a process keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kept {
    /// Its member Lease.
    Member,
    /// The coordinator Lease.
    Coordinator,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// Time has passed. At least every retry period, and at [`member::Member::abort_at`]. With the Unix time in seconds:
    /// sequences are not below it, and nothing else uses it.
    Tick(u64),
    /// The answer to [`Command::Read`]; None: no answer.
    Read(Kept, Option<Option<Lease>>),
    /// The answer to [`Command::Write`].
    Written(Kept, Answer),
    /// The answer to [`Command::Take`].
    Taken(Arc<str>, Answer),
    /// The answer to [`Command::Forget`]. If it was accepted, with the version that the Lease had.
    Forgotten(Arc<str>, Answer),
    /// The answer to [`Command::ListLeases`]; None: no answer.
    Listed(Option<LeaseList>),
    /// The answer to [`Command::WriteMap`].
    MapWritten(Answer),
    /// A watch or a list tells of a Lease of any member; None: it is gone, since that version.
    MemberLease(Arc<str>, Option<Lease>, Version),
    /// A watch tells of the coordinator Lease.
    Coordinator(Option<Lease>, Version),
    /// A watch or a read tells of the map.
    Map(Version, Arc<ShardMap>),
    /// The map at that version is none to obey.
    MapDamaged(Version, MapError),
    /// There is no map, since that version at the latest.
    MapGone(Version),
    /// The map could not be read.
    MapUnread,
    /// All work in a bucket has ended, after [`Command::Drain`].
    Idle(Bucket),
    /// The watches for what this round gives to this member are warm.
    Warm(u64),
    /// An object of this bucket carries a fence that is not older than this member's own epoch.
    Fence(Bucket, Epoch),
    /// The share of this member changed.
    Weight(u32),
    /// SIGTERM: hand over and exit.
    Leave,
    /// The grace period is nearly over: end all work and exit, whoever comes next.
    GiveUp,
}

/// What the driver must do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    /// Read a Lease.
    Read(Kept),
    /// Write a Lease if it has this version; None: if it does not exist.
    Write(Kept, Option<Version>, LeaseRecord),
    /// Write the Lease of that member if it has this version.
    Take(Arc<str>, Version, LeaseRecord),
    /// Delete the Lease of that member if it is this object at this version.
    Forget(Arc<str>, Arc<str>, Version),
    /// List all member Leases, consistently.
    ListLeases,
    /// Write the map if it has this version; None: if it does not exist.
    WriteMap(Option<Version>, Arc<ShardMap>),
    /// Read the map; the answer is [`Event::Map`], [`Event::MapDamaged`], [`Event::MapGone`] or
    /// [`Event::MapUnread`]. A consistent list, so that there is a version even if there is no map.
    ReadMap,
    /// Take up work in a bucket, under this epoch. Also for one that it serves already, if the epoch is new.
    Start(Bucket, Epoch),
    /// Start nothing more in a bucket, and tell when all work in it has ended.
    Drain(Bucket),
    /// Open the watches for these buckets, and tell when they are warm.
    Prepare(u64, Vec<Bucket>),
    /// Stop all work, now. Nothing of it may be running when this returns.
    Abort,
    /// The map is not obeyed; say why.
    Refuse(MapError),
    /// The process has nothing left to do.
    Exit(Exit),
}

/// Why a process exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It was asked to, and has released its Lease.
    Left,
    /// Its Lease was taken. It may start again, as another incarnation.
    LeaseLost,
    /// The map belongs to another installation, or to one that counts other buckets.
    Foreign,
}

/// A replica: a member that may be the leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    /// What it may work on.
    pub member: Member,
    /// What it decides, if it is the leader; what it would know if it became it, otherwise.
    pub leader: Leader,
}

impl Process {
    /// A process that has just started.
    #[must_use]
    pub fn new(weight: u32) -> Self {
        Self {
            member: Member::new(weight),
            leader: Leader::default(),
        }
    }
}

/// One step of a process. Pure: `now` is the process's own clock.
#[must_use]
pub fn step(mut process: Process, event: &Event, now: Millis, config: &Config) -> (Process, Vec<Command>) {
    let mut commands = Vec::new();
    let Process { member, leader } = &mut process;
    // What both need to know, first. A leader does not wait for the watch to tell of its own write.
    match event {
        Event::MapWritten(answer) => {
            if let Some((version, map)) = leader.map_written(answer, now, config) {
                member.accept(version, Some(map), config);
            }
        }
        // An older map under a newer version: a restored backup, or a late request from before a deletion. Others may have
        // got since what it gives to this member.
        Event::Map(version, map) if *version > leader.version && map.sequence < leader.highest => {
            commands.push(Command::Refuse(MapError::Older {
                sequence: map.sequence,
                known: leader.highest,
            }));
            leader.learn(*version, Known::Damaged);
            member.accept(*version, None, config);
        }
        Event::Map(version, map) => {
            leader.learn(*version, Known::Good(Arc::clone(map)));
            member.accept(*version, Some(Arc::clone(map)), config);
        }
        // A member obeys the map that it knows, as if this one were late.
        Event::MapDamaged(version, error) => {
            commands.push(Command::Refuse(error.clone()));
            member.refused = matches!(error, MapError::Foreign { .. } | MapError::BucketCount { .. });
            let known = if member.refused { Known::NotOurs } else { Known::Damaged };
            leader.learn(*version, known);
        }
        Event::MapGone(version) => {
            leader.learn(*version, Known::Gone);
            member.accept(*version, None, config);
        }
        // Before the answer counts: whether it ends a time without a valid Lease.
        Event::Written(Kept::Member, Answer::Accepted { .. }) if !member.keeper.valid(config.timings, now) => {
            leader.count_anew(now);
        }
        _ => {}
    }
    leader.step(event, now, config, member, &mut commands);
    member.step(event, now, config, leader, &mut commands);
    (process, commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            me: "a_1".parse().expect("an incarnation"),
            timings: Timings::FAST,
            expected: Expected::of("here"),
            shards: 1,
            prepare_ms: 10_000,
            assign: assigned,
            flaw: None,
        }
    }

    #[test]
    fn a_map_that_is_not_ours_ends_the_process_and_a_damaged_one_does_not() {
        let (found, ours) = ("there".to_owned(), "here".to_owned());
        for (error, exits) in [
            (MapError::Foreign { found, ours }, true),
            (MapError::BucketCount { found: 512, ours: 1024 }, true),
            (MapError::Edited, false),
        ] {
            let event = Event::MapDamaged(Version(7), error.clone());
            let (_, commands) = step(Process::new(1), &event, 5, &config());
            assert_eq!(commands.contains(&Command::Exit(Exit::Foreign)), exits, "{error}");
            assert!(commands.contains(&Command::Refuse(error)), "it says so");
        }
    }
}
