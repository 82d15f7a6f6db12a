//! What the next map is: a function of the map, the Leases and the time. One write does all that can be done at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lease::{Incarnation, Observed, Report, Version};
use super::{Config, Flaw};
use crate::bucket::Bucket;
use crate::epoch::Epoch;
use crate::map::{MAX_NUMBER, MapMember, Phase, Role, Round, ShardMap};
use crate::timing::Millis;

/// A member, as far as the assignment cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which process. Two of one name can be here at once, if one has died and the next has just come.
    pub incarnation: Incarnation,
    /// Its share, relative to the others.
    pub weight: u32,
    /// Whether it may be given buckets: alive, not about to leave, and not to be emptied.
    pub fit: bool,
}

/// Who is to own what: by bucket the index of a candidate. Given the owners now, the candidates in the order in which
/// they joined, and how many are to be active. It must be the same for the same input.
pub type Assign = fn(owners: &[Option<u16>], candidates: &[Candidate], shards: u16) -> Vec<Option<u16>>;

/// What the next map follows from.
#[derive(Debug)]
pub struct View<'a> {
    /// Of this process.
    pub config: &'a Config,
    /// The term to write.
    pub term: u64,
    /// No greater number was ever used.
    pub unused_above: u64,
    /// The version of the map.
    pub version: Version,
    /// The map now.
    pub map: &'a ShardMap,
    /// All member Leases, listed since the map was known.
    pub leases: &'a BTreeMap<Arc<str>, Observed>,
    /// By the clock of this process.
    pub now: Millis,
    /// The gainers of the round did not get warm in time.
    pub drop_the_round: bool,
    /// No round was dropped just now.
    pub may_begin_a_round: bool,
}

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It may own buckets.
    Fit,
    /// It hands over and exits.
    Leaving,
    /// It hands over and stays, since somebody asked for that.
    Draining,
    /// It may be dead, or just not known yet: neither gets nor loses anything.
    Silent,
    /// It does not hold its Lease, and never will again. All its work has stopped, or it is frozen.
    Dead,
}

/// A map that gives nothing to anybody: whoever serves by an earlier one must first be known to have stopped.
pub(super) fn fresh(config: &Config, term: u64, sequence: u64, leases: &BTreeMap<Arc<str>, Observed>) -> ShardMap {
    let buckets = usize::from(config.expected.buckets);
    let members = leases.values().filter_map(|lease| {
        Some(MapMember {
            incarnation: lease.holder()?.clone(),
            role: Role::Standby,
            weight: lease.lease.as_ref()?.record.report.weight,
        })
    });
    ShardMap {
        installation: Arc::clone(&config.expected.installation),
        leader: config.me.clone(),
        term,
        sequence,
        members: members.collect(),
        owners: vec![None; buckets],
        epochs: vec![Epoch(sequence); buckets],
        round: None,
    }
}

/// Whether a Lease has run out, by the clock of the leader.
pub(super) fn expired(lease: &Observed, now: Millis, config: &Config) -> bool {
    // As if the holder's wall clock was that far behind.
    let skew = config.flaw == Some(Flaw::CompareWallClocks);
    let early = if skew { config.timings.lease_ms() / 2 } else { 0 };
    lease.expired(config.timings, now.saturating_add(early))
}

/// The next map, if anything is to be changed.
pub(super) fn next(view: &View<'_>) -> Option<ShardMap> {
    let mut draft = Draft::new(view);
    draft.admit();
    draft.rather_serve_than_drain();
    draft.drop_a_broken_round();
    draft.take_over();
    draft.raise();
    draft.advance_the_round();
    draft.give_out_what_nobody_owns();
    draft.begin_a_round();
    draft.finish()
}

struct Draft<'a> {
    view: &'a View<'a>,
    map: ShardMap,
    standing: Vec<Standing>,
    /// The sequence of the map to be written: the epoch of whatever it gives, the number of a round that it begins.
    sequence: u64,
}

impl<'a> Draft<'a> {
    fn new(view: &'a View<'a>) -> Self {
        let map = view.map.clone();
        let standing = map
            .members
            .iter()
            .map(|member| standing(view, &member.incarnation))
            .collect();
        let asked = view
            .leases
            .values()
            .filter_map(report)
            .flat_map(|report| report.raise.values());
        let asked = asked.map(|fence| fence.0).filter(|fence| *fence < MAX_NUMBER).max();
        Self {
            sequence: view.unused_above.max(asked.unwrap_or(0)) + 1,
            view,
            map,
            standing,
        }
    }

    /// New members join at the end of the list, in the order of their names if several come at once.
    fn admit(&mut self) {
        for lease in self.view.leases.values() {
            let Some(holder) = lease.holder() else { continue };
            let standing = standing(self.view, holder);
            if self.map.index_of(holder).is_none() && matches!(standing, Standing::Fit | Standing::Draining) {
                self.map.members.push(MapMember {
                    incarnation: holder.clone(),
                    role: Role::Standby,
                    weight: 0,
                });
                self.standing.push(standing);
            }
        }
        for member in &mut self.map.members {
            if let Some(report) = report_of(self.view, &member.incarnation) {
                member.weight = report.weight;
            }
        }
    }

    /// A wish to empty a member counts only while there is another one that can serve.
    fn rather_serve_than_drain(&mut self) {
        let mut others = self.standing.iter().zip(&self.map.members);
        if !others.any(|(standing, member)| *standing == Standing::Fit && member.weight > 0) {
            for standing in &mut self.standing {
                if *standing == Standing::Draining {
                    *standing = Standing::Fit;
                }
            }
        }
    }

    /// Dropping a round changes no owner. A loser that has stopped already goes on by the next map, under its old
    /// epoch: nobody else has worked in the bucket since.
    fn drop_a_broken_round(&mut self) {
        let Some(round) = &self.map.round else { return };
        let broken = round.moves.iter().any(|(bucket, to)| {
            let gainer = self.standing[usize::from(*to)];
            let loser = self.standing_of_owner(*bucket);
            matches!(gainer, Standing::Dead | Standing::Leaving | Standing::Draining) || loser == Some(Standing::Dead)
        });
        if broken || self.view.drop_the_round {
            self.map.round = None;
        }
    }

    /// The buckets of the dead, in one write, at once active: their owners have stopped, since their Leases ran out.
    fn take_over(&mut self) {
        let orphaned: Vec<Bucket> = self
            .map
            .buckets()
            .filter(|bucket| self.standing_of_owner(*bucket) == Some(Standing::Dead))
            .collect();
        if orphaned.is_empty() {
            return;
        }
        let target = self.target();
        for bucket in orphaned {
            let forget = self.view.config.flaw == Some(Flaw::ForgetTheEpoch);
            self.give(bucket, target[usize::from(bucket.index())], forget);
        }
    }

    fn raise(&mut self) {
        // So it is nearly always, and else each bucket's owner is looked up by name.
        if self
            .view
            .leases
            .values()
            .filter_map(report)
            .all(|report| report.raise.is_empty())
        {
            return;
        }
        for bucket in self.map.buckets() {
            let fence = self
                .map
                .owner(bucket)
                .and_then(|owner| report_of(self.view, owner))
                .and_then(|report| report.raise.get(&bucket));
            let epoch = &mut self.map.epochs[usize::from(bucket.index())];
            if fence.is_some_and(|fence| *fence >= *epoch && fence.0 < self.sequence) {
                *epoch = Epoch(self.sequence);
            }
        }
    }

    fn advance_the_round(&mut self) {
        let Some(round) = self.map.round.clone() else { return };
        match round.phase {
            Phase::Preparing => {
                let warm = round.moves.values().all(|to| {
                    let gainer = &self.map.members[usize::from(*to)].incarnation;
                    report_of(self.view, gainer).is_some_and(|report| report.warm == round.number)
                });
                if warm {
                    self.map.round = Some(Round {
                        phase: Phase::Draining,
                        ..round
                    });
                }
            }
            Phase::Draining => self.activate(round),
        }
    }

    /// Gives out what its loser has acknowledged; what others have not acknowledged yet stays in the round.
    fn activate(&mut self, mut round: Round) {
        let skip = self.view.config.flaw == Some(Flaw::SkipTheAcknowledgement);
        let number = round.number;
        let moves = std::mem::take(&mut round.moves);
        for (bucket, to) in moves {
            let drained = self
                .map
                .owner(bucket)
                .and_then(|owner| report_of(self.view, owner))
                .is_some_and(|report| report.drained == number);
            if (drained || skip) && self.standing[usize::from(to)] == Standing::Fit {
                self.give(bucket, Some(to), false);
            } else {
                round.moves.insert(bucket, to);
            }
        }
        self.map.round = (!round.moves.is_empty()).then_some(round);
    }

    /// Buckets without an owner may still be served by an older map, so every member must first have reported that it
    /// knows this one.
    fn give_out_what_nobody_owns(&mut self) {
        if self.map.owners.iter().all(Option::is_some) {
            return;
        }
        let mut holders = self.view.leases.values().filter(|lease| lease.holder().is_some());
        let all_know = holders.all(|lease| report(lease).is_some_and(|report| report.seen >= self.view.version));
        // The holder of a Lease that was deleted reports nothing any more, and works until it notices.
        let View { config, now, .. } = *self.view;
        let deleted = |lease: &Observed| lease.lease.is_none() && !expired(lease, now, config);
        let sure = all_know && !self.view.leases.values().any(deleted);
        if !sure && config.flaw != Some(Flaw::GiveOutAtOnce) {
            return;
        }
        let target = self.target();
        for bucket in self.map.buckets() {
            let place = usize::from(bucket.index());
            if self.map.owners[place].is_none() {
                self.give(bucket, target[place], false);
            }
        }
    }

    /// One round at a time, and only in a fleet where every bucket has an owner that is heard of.
    fn begin_a_round(&mut self) {
        let settled = self.map.buckets().all(|bucket| {
            let standing = self.standing_of_owner(bucket);
            matches!(standing, Some(Standing::Fit | Standing::Leaving | Standing::Draining))
        });
        // Whoever leaves cannot wait until a cold gainer of somebody else's buckets had its rest.
        let hurry = self.standing.contains(&Standing::Leaving) && !self.view.drop_the_round;
        if !settled || self.map.round.is_some() || !(self.view.may_begin_a_round || hurry) {
            return;
        }
        let target = self.target();
        let moves: BTreeMap<Bucket, u16> = self
            .map
            .buckets()
            .filter_map(|bucket| {
                let place = usize::from(bucket.index());
                let to = target[place].filter(|to| self.map.owners[place] != Some(*to))?;
                (self.standing[usize::from(to)] == Standing::Fit).then_some((bucket, to))
            })
            .collect();
        if !moves.is_empty() {
            let reuse = self.view.config.flaw == Some(Flaw::ReuseTheRoundNumber);
            self.map.round = Some(Round {
                number: if reuse { 1 } else { self.sequence },
                phase: Phase::Preparing,
                moves,
            });
        }
    }

    fn finish(mut self) -> Option<ShardMap> {
        self.forget_the_dead();
        self.assign_roles();
        let mine = self.map.leader == self.view.config.me && self.map.term == self.view.term;
        if mine && self.map == *self.view.map {
            return None;
        }
        self.map.leader = self.view.config.me.clone();
        self.map.term = self.view.term;
        self.map.sequence = self.sequence;
        Some(self.map)
    }

    fn forget_the_dead(&mut self) {
        let needed = |place: &u16| self.map.owners.contains(&Some(*place));
        let kept: Vec<u16> = (0..)
            .zip(&self.standing)
            .filter(|(place, standing)| **standing != Standing::Dead || needed(place))
            .map(|(place, _)| place)
            .collect();
        let moved: BTreeMap<u16, u16> = kept.iter().copied().zip(0..).collect();
        for owner in &mut self.map.owners {
            *owner = owner.and_then(|place| moved.get(&place).copied());
        }
        if let Some(round) = &mut self.map.round {
            for to in round.moves.values_mut() {
                *to = moved.get(to).copied().unwrap_or(*to);
            }
        }
        self.map.members = kept
            .iter()
            .map(|place| self.map.members[usize::from(*place)].clone())
            .collect();
        self.standing = kept.iter().map(|place| self.standing[usize::from(*place)]).collect();
    }

    fn assign_roles(&mut self) {
        let gains = |place: u16| {
            let round = self.map.round.as_ref();
            round.is_some_and(|round| round.moves.values().any(|to| *to == place))
        };
        let roles: Vec<Role> = (0..)
            .zip(&self.standing)
            .zip(&self.map.members)
            .map(|((place, standing), member)| match standing {
                Standing::Leaving => Role::Leaving,
                Standing::Draining => Role::Draining,
                Standing::Dead => Role::Gone,
                Standing::Silent => member.role,
                Standing::Fit if self.map.owners.contains(&Some(place)) || gains(place) => Role::Active,
                Standing::Fit => Role::Standby,
            })
            .collect();
        for (member, role) in self.map.members.iter_mut().zip(roles) {
            member.role = role;
        }
    }

    fn standing_of_owner(&self, bucket: Bucket) -> Option<Standing> {
        let owner = (*self.map.owners.get(usize::from(bucket.index()))?)?;
        self.standing.get(usize::from(owner)).copied()
    }

    fn target(&self) -> Vec<Option<u16>> {
        let candidates: Vec<Candidate> = self
            .map
            .members
            .iter()
            .zip(&self.standing)
            .map(|(member, standing)| Candidate {
                incarnation: member.incarnation.clone(),
                weight: member.weight,
                fit: *standing == Standing::Fit,
            })
            .collect();
        let config = self.view.config;
        let mut target = (config.assign)(&self.map.owners, &candidates, config.shards);
        target.resize(self.map.owners.len(), None);
        target
    }

    /// Nobody but a fit member is given anything; a bucket for which there is none stays as it is.
    fn give(&mut self, bucket: Bucket, to: Option<u16>, forget_the_epoch: bool) {
        let Some(to) = to.filter(|to| self.standing.get(usize::from(*to)) == Some(&Standing::Fit)) else {
            return;
        };
        let place = usize::from(bucket.index());
        self.map.owners[place] = Some(to);
        if !forget_the_epoch {
            self.map.epochs[place] = Epoch(self.sequence);
        }
    }
}

fn standing(view: &View<'_>, incarnation: &Incarnation) -> Standing {
    let before = view.config.flaw == Some(Flaw::MapBeforeLease);
    let Some(known) = view.leases.get(&incarnation.name) else {
        return Standing::Silent;
    };
    let expired = expired(known, view.now, view.config);
    match (&known.lease, known.holder()) {
        // It was deleted, so its holder cannot renew it; a whole Lease later it has stopped.
        (None, _) if expired => Standing::Dead,
        (None, _) => Standing::Silent,
        (Some(_), Some(holder)) if holder == incarnation => match (expired, report(known)) {
            (true, _) if before => Standing::Dead,
            (true, _) => Standing::Silent,
            (false, Some(report)) if report.leaving => Standing::Leaving,
            (false, Some(report)) if report.drain => Standing::Draining,
            (false, _) => Standing::Fit,
        },
        (Some(_), _) => Standing::Dead,
    }
}

fn report(lease: &Observed) -> Option<&Report> {
    lease.lease.as_ref().map(|lease| &lease.record.report)
}

fn report_of<'a>(view: &View<'a>, incarnation: &Incarnation) -> Option<&'a Report> {
    let lease = view.leases.get(&incarnation.name)?;
    report(lease).filter(|_| lease.holder() == Some(incarnation))
}
