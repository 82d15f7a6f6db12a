//! `database-operator fleet status`: what follows from what is known of a fleet. Pure.
//!
//! Not guaranteed: that a member whose Lease looks as if it had run out is dead. The replicas decide that, by clocks that
//! nobody else sees; here two wall clocks are compared, and the Lease was watched for a part of its time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sharding::map::{Phase, Role, Round};
use sharding::protocol::{Incarnation, Report, Version};
use sharding::{BUCKETS, Bucket};

use super::facts::{Facts, FenceSeen, LeaseSeen, LeaseState, Stray};

/// A fleet, for people and machines.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// Every bucket has a live owner, and every Database is where its owner looks.
    pub healthy: bool,
    /// Whose map it is.
    pub installation: String,
    /// Where the Leases are.
    pub namespace: String,
    /// Who leads; none, if nobody holds the coordinator Lease.
    pub leader: Option<Leader>,
    /// Which leadership wrote the map.
    pub term: u64,
    /// Grows with every write of the map.
    pub sequence: u64,
    /// Of the map, as an object.
    pub map_version: u64,
    /// Whether the API server refuses writes of a replica whose ownership is over; none, if no leader has said it yet.
    pub fence: Option<FenceSeen>,
    /// How many Databases there are.
    pub databases: u64,
    /// Those of the map, and those whose Leases are held and which the leader has not taken up yet.
    pub members: Vec<MemberStatus>,
    /// Names of members that are gone and whose Leases are still there.
    pub former_members: Vec<String>,
    /// What moves.
    pub round: Option<RoundStatus>,
    /// What nobody looks after.
    pub orphans: Orphans,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Leader {
    /// Holder of the coordinator Lease.
    pub member: Incarnation,
    /// How that stands.
    pub lease: LeaseState,
    /// By two wall clocks.
    pub renewed_seconds_ago: Option<f64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemberStatus {
    /// Which process.
    pub member: Incarnation,
    /// As the map has it; none: the leader has not taken it up yet.
    pub role: Option<Role>,
    /// Its share, relative to the others.
    pub weight: u32,
    /// How many it owns.
    pub buckets: usize,
    /// How many of all buckets that is, in percent.
    pub share_percent: f64,
    /// How many Databases are in them.
    pub objects: u64,
    /// How its Lease stands.
    pub lease: LeaseState,
    /// By two wall clocks.
    pub renewed_seconds_ago: Option<f64>,
    /// Which map it has reported to obey.
    pub map: Lag,
    /// That map's version.
    pub seen_map_version: u64,
    /// It was asked to stop.
    pub leaving: bool,
    /// Somebody asked that it own nothing.
    pub draining: bool,
}

/// How far behind a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Lag {
    /// It has seen the map that there is, and has stopped what that takes from it.
    Current,
    /// It has reported an older one. Versions count all writes of the cluster, so how many maps lie between is not known.
    Behind,
    /// It says nothing: it does not hold its Lease, or has not seen a map.
    Unknown,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoundStatus {
    /// The sequence of the write that began it.
    pub number: u64,
    /// How far it is.
    pub phase: Phase,
    /// What is still to move.
    pub moves: Vec<Flow>,
    /// On whom it waits: gainers that get warm, or losers that end what runs.
    pub waits_for: Vec<Incarnation>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Flow {
    /// Who loses the buckets.
    pub from: Option<Incarnation>,
    /// Who gets them.
    pub to: Incarnation,
    /// Which.
    pub buckets: Vec<u16>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Orphans {
    /// Without a live owner.
    pub buckets: Vec<OrphanedBuckets>,
    /// Where no owner looks.
    pub databases: Strays,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrphanedBuckets {
    /// Their owner by the map.
    pub owner: Option<Incarnation>,
    /// How its Lease stands.
    pub lease: Option<LeaseState>,
    /// Which.
    pub buckets: Vec<u16>,
    /// How many Databases are in them.
    pub objects: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Strays {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub first: Vec<Stray>,
}

impl Status {
    /// What follows from the facts.
    pub(crate) fn of(facts: &Facts) -> Self {
        let map = &facts.map;
        let orphans = Orphans {
            buckets: orphaned(facts),
            databases: Strays {
                count: facts.census.strays,
                first: facts.census.named.clone(),
            },
        };
        Self {
            healthy: orphans.buckets.is_empty() && orphans.databases.count == 0,
            installation: map.installation.to_string(),
            namespace: facts.namespace.clone(),
            leader: leader(facts),
            term: map.term,
            sequence: map.sequence,
            map_version: facts.map_version.0,
            fence: facts.fence.clone(),
            databases: facts.census.total(),
            members: members(facts),
            former_members: former(facts),
            round: map.round.as_ref().map(|round| moving(facts, round)),
            orphans,
        }
    }
}

fn leader(facts: &Facts) -> Option<Leader> {
    let lease = facts.leases.coordinator.as_ref()?;
    let member = lease.record.holder.clone()?;
    Some(Leader {
        lease: lease.state(&member, facts.now),
        renewed_seconds_ago: seconds_ago(lease, facts.now),
        member,
    })
}

fn members(facts: &Facts) -> Vec<MemberStatus> {
    let of_the_map = facts
        .map
        .members
        .iter()
        .map(|member| (&member.incarnation, Some(member.role), member.weight));
    let joining = facts.leases.members.values().filter_map(|lease| {
        let holder = lease.record.holder.as_ref()?;
        let known = facts.map.index_of(holder).is_some();
        (!known).then_some((holder, None, lease.record.report.weight))
    });
    of_the_map
        .chain(joining)
        .map(|(member, role, weight)| member_status(facts, member, role, weight))
        .collect()
}

fn member_status(facts: &Facts, member: &Incarnation, role: Option<Role>, weight: u32) -> MemberStatus {
    let lease = facts.leases.members.get(&member.name);
    let report = report(facts, member);
    let seen = report.map_or(Version::default(), |report| report.seen);
    let buckets: Vec<Bucket> = facts.map.owned_by(member).map(|(bucket, _)| bucket).collect();
    let hundredths = u32::try_from(buckets.len() * 10_000 / usize::from(BUCKETS)).unwrap_or(u32::MAX);
    MemberStatus {
        member: member.clone(),
        role,
        weight,
        buckets: buckets.len(),
        share_percent: f64::from(hundredths) / 100.0,
        objects: facts.census.of(buckets),
        lease: facts.leases.state(member, facts.now),
        renewed_seconds_ago: report.and(lease).and_then(|lease| seconds_ago(lease, facts.now)),
        map: match seen {
            Version(0) => Lag::Unknown,
            seen if seen >= facts.map_version => Lag::Current,
            _ => Lag::Behind,
        },
        seen_map_version: seen.0,
        leaving: report.is_some_and(|report| report.leaving),
        draining: report.is_some_and(|report| report.drain),
    }
}

/// What a process itself says; nothing, if it does not hold its Lease.
fn report<'a>(facts: &'a Facts, member: &Incarnation) -> Option<&'a Report> {
    let record = &facts.leases.members.get(&member.name)?.record;
    (record.holder.as_ref() == Some(member)).then_some(&record.report)
}

fn former(facts: &Facts) -> Vec<String> {
    let named: BTreeSet<&str> = facts
        .map
        .members
        .iter()
        .map(|member| &*member.incarnation.name)
        .collect();
    let all = facts.leases.members.iter();
    let former = all.filter(|(name, lease)| lease.record.holder.is_none() && !named.contains(&***name));
    former.map(|(name, _)| name.to_string()).collect()
}

fn moving(facts: &Facts, round: &Round) -> RoundStatus {
    let mut flows: BTreeMap<(Option<&Incarnation>, &Incarnation), Vec<u16>> = BTreeMap::new();
    for (bucket, to) in &round.moves {
        // A round of a map that was read names members only.
        let Some(to) = facts.map.members.get(usize::from(*to)) else {
            continue;
        };
        let flow = (facts.map.owner(*bucket), &to.incarnation);
        flows.entry(flow).or_default().push(bucket.index());
    }
    let done = |member: &Incarnation| {
        report(facts, member).is_some_and(|report| match round.phase {
            Phase::Preparing => report.warm == round.number,
            Phase::Draining => report.drained == round.number,
        })
    };
    let asked: BTreeSet<&Incarnation> = match round.phase {
        Phase::Preparing => flows.keys().map(|(_, to)| *to).collect(),
        Phase::Draining => flows.keys().filter_map(|(from, _)| *from).collect(),
    };
    RoundStatus {
        number: round.number,
        phase: round.phase,
        waits_for: asked.into_iter().filter(|member| !done(member)).cloned().collect(),
        moves: flows
            .into_iter()
            .map(|((from, to), buckets)| Flow {
                from: from.cloned(),
                to: to.clone(),
                buckets,
            })
            .collect(),
    }
}

/// Buckets of nobody, and of those who do not hold their Lease, or look as if they did not.
fn orphaned(facts: &Facts) -> Vec<OrphanedBuckets> {
    let mut all: BTreeMap<Option<&Incarnation>, Vec<Bucket>> = BTreeMap::new();
    for bucket in facts.map.buckets() {
        all.entry(facts.map.owner(bucket)).or_default().push(bucket);
    }
    let state = |owner: &Incarnation| facts.leases.state(owner, facts.now);
    let orphaned = all
        .into_iter()
        .filter(|(owner, _)| owner.is_none_or(|owner| state(owner) != LeaseState::Held));
    let shown = orphaned.map(|(owner, buckets)| OrphanedBuckets {
        owner: owner.cloned(),
        lease: owner.map(state),
        objects: facts.census.of(buckets.iter().copied()),
        buckets: buckets.iter().map(|bucket| bucket.index()).collect(),
    });
    shown.collect()
}

/// To a tenth: more would be noise.
fn seconds_ago(lease: &LeaseSeen, now: Timestamp) -> Option<f64> {
    let tenths = |age: SignedDuration| (age.as_secs_f64() * 10.0).round() / 10.0;
    lease.age(now).map(tenths)
}
