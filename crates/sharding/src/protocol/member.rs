//! What one replica may work on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lease::{Incarnation, Keeper, Report, Version, Wish};
use super::{Command, Config, Event, Exit, Flaw, Kept, Leader};
use crate::bucket::Bucket;
use crate::epoch::Epoch;
use crate::map::{MAX_NUMBER, Phase, Role, ShardMap};
use crate::timing::Millis;

/// Work in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    /// It may start, under this epoch, while the Lease is valid.
    Serving(Epoch),
    /// Nothing new is started; what runs ends under this epoch.
    Draining(Epoch),
}

/// One replica. It obeys the newest map that it knows and computes nothing about ownership.
///
/// It may rely on an old map for as long as it holds its Lease without a break: no bucket is taken from it unless
/// somebody first wrote its Lease, or it itself reported that it has stopped (`drained`, `seen`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "facts that hold in any combination")]
pub struct Member {
    /// Its member Lease.
    pub keeper: Keeper,
    /// The newest map that it accepted, and its version; no map: it was deleted.
    pub map: Option<(Version, Option<Arc<ShardMap>>)>,
    /// In which buckets it works. A bucket leaves this only when all work in it has ended.
    pub work: BTreeMap<Bucket, Work>,
    /// See [`Report::seen`].
    pub seen: Version,
    /// The round that it was told to prepare for.
    pub prepared: u64,
    /// The round for which it is warm.
    pub warm: u64,
    /// Its share.
    pub weight: u32,
    /// See [`Report::raise`].
    pub raise: BTreeMap<Bucket, Epoch>,
    /// It was asked to leave, and serves until others have its buckets.
    pub leaving: bool,
    /// It takes up nothing any more; when its work has ended it releases its Lease.
    pub ending: bool,
    /// The release was sent.
    pub releasing: bool,
    /// Another installation owns the map.
    pub refused: bool,
    /// It has said that it exits.
    pub exited: Option<Exit>,
}

impl Member {
    pub(super) fn new(weight: u32) -> Self {
        Self {
            keeper: Keeper::default(),
            map: None,
            work: BTreeMap::new(),
            seen: Version::default(),
            prepared: 0,
            warm: 0,
            weight,
            raise: BTreeMap::new(),
            leaving: false,
            ending: false,
            releasing: false,
            refused: false,
            exited: None,
        }
    }

    /// The epoch under which work in a bucket may start now, if it may.
    #[must_use]
    pub fn serves(&self, bucket: Bucket, now: Millis, config: &Config) -> Option<Epoch> {
        match self.work.get(&bucket) {
            Some(Work::Serving(epoch)) if self.may_start(now, config) => Some(*epoch),
            _ => None,
        }
    }

    /// When all work must have stopped, unless a renewal succeeds before.
    #[must_use]
    pub fn abort_at(&self, config: &Config) -> Option<Millis> {
        let sent = self.keeper.held_from.filter(|_| !self.work.is_empty())?;
        Some(sent.saturating_add(config.timings.abort_ms()))
    }

    /// The newest map that it obeys.
    fn obeyed(&self) -> Option<&Arc<ShardMap>> {
        self.map.as_ref()?.1.as_ref()
    }

    pub(super) fn accept(&mut self, version: Version, map: Option<Arc<ShardMap>>, config: &Config) {
        let newer = self.map.as_ref().is_none_or(|(known, _)| version > *known);
        if newer || config.flaw == Some(Flaw::ObeyAnOlderMap) {
            self.map = Some((version, map));
        }
    }

    pub(super) fn step(
        &mut self,
        event: &Event,
        now: Millis,
        config: &Config,
        leader: &Leader,
        commands: &mut Vec<Command>,
    ) {
        if self.exited.is_some() {
            return;
        }
        self.take_in(event, now, config);
        self.stop_what_must_stop(now, config, commands);
        if self.exited.is_some() {
            return;
        }
        self.follow_the_map(now, config, leader, commands);
        self.keep_the_lease(now, config, leader, commands);
    }

    fn take_in(&mut self, event: &Event, now: Millis, config: &Config) {
        match event {
            Event::Read(Kept::Member, answer) => self.keeper.read(answer.clone(), &config.me, now),
            Event::Written(Kept::Member, answer) => self.keeper.answered(answer, &config.me, now, config.flaw),
            Event::Idle(bucket) => {
                if let Some(Work::Draining(_)) = self.work.get(bucket) {
                    self.work.remove(bucket);
                }
            }
            Event::Warm(round) => self.warm = *round,
            Event::Fence(bucket, fence) if fence.0 < MAX_NUMBER => {
                let asked = self.raise.entry(*bucket).or_insert(*fence);
                *asked = (*asked).max(*fence);
            }
            Event::Weight(weight) => self.weight = *weight,
            Event::Leave => self.leaving = true,
            Event::GiveUp => {
                self.leaving = true;
                self.ending = true;
            }
            Event::Tick(_)
            | Event::Fence(..)
            | Event::Read(Kept::Coordinator, _)
            | Event::Written(Kept::Coordinator, _)
            | Event::Taken(..)
            | Event::Forgotten(..)
            | Event::Listed(_)
            | Event::MapWritten(_)
            | Event::MemberLease(..)
            | Event::Coordinator(..)
            | Event::Map(..)
            | Event::MapDamaged(..)
            | Event::MapGone(..)
            | Event::MapUnread => {}
        }
    }

    /// First, whatever the event: what is past its deadline is over.
    fn stop_what_must_stop(&mut self, now: Millis, config: &Config, commands: &mut Vec<Command>) {
        if config.flaw == Some(Flaw::ReleaseBeforeTheDrain) && self.releasing && !self.work.is_empty() {
            return;
        }
        let mut lost = self.keeper.lost(&config.me);
        if lost && config.flaw == Some(Flaw::ComeBackAfterTheLoss) && !self.releasing {
            self.keeper.give_up();
            lost = false;
        }
        let over = self.keeper.over(config.timings, now) && config.flaw != Some(Flaw::ServePastTheDeadline);
        if (lost || over || self.refused) && !self.work.is_empty() {
            self.work.clear();
            commands.push(Command::Abort);
        }
        let released = self.releasing && self.keeper.held_uid.is_none();
        self.exited = match (self.refused, released || lost && self.releasing, lost) {
            (true, _, _) => Some(Exit::Foreign),
            (_, true, _) => Some(Exit::Left),
            (_, _, true) => Some(Exit::LeaseLost),
            _ => None,
        };
        commands.extend(self.exited.map(Command::Exit));
    }

    fn follow_the_map(&mut self, now: Millis, config: &Config, leader: &Leader, commands: &mut Vec<Command>) {
        self.end_if_nothing_is_left(config);
        // So it is at nearly every step, and then there are neither buckets to drain nor any to start.
        let settled = self.works_as_given(config) && config.flaw != Some(Flaw::FollowersComputeOwnership);
        if !settled {
            self.change_work(now, config, leader, commands);
        }
        self.prepare(config, commands);
        self.settle_reports(settled, config);
    }

    /// The map whose buckets it is to work in.
    fn followed(&self) -> Option<&ShardMap> {
        self.obeyed().map(Arc::as_ref).filter(|_| !self.ending)
    }

    /// Whether it serves exactly what the map gives to it, under the epochs of the map.
    fn works_as_given(&self, config: &Config) -> bool {
        let Some(map) = self.followed() else {
            return self.work.is_empty();
        };
        let given = given(map, &config.me).map(|(bucket, epoch)| (bucket, Work::Serving(epoch)));
        self.work.iter().map(|(bucket, work)| (*bucket, *work)).eq(given)
    }

    fn change_work(&mut self, now: Millis, config: &Config, leader: &Leader, commands: &mut Vec<Command>) {
        let map = self.followed();
        let mut given: BTreeMap<Bucket, Epoch> = map.map_or_else(BTreeMap::new, |map| given(map, &config.me).collect());
        if config.flaw == Some(Flaw::FollowersComputeOwnership) {
            self.help_oneself(&mut given, now, config, leader);
        }
        for (bucket, work) in &mut self.work {
            if let (Work::Serving(epoch), false) = (*work, given.contains_key(bucket)) {
                *work = Work::Draining(epoch);
                commands.push(Command::Drain(*bucket));
            }
        }
        if self.may_start(now, config) {
            for (bucket, epoch) in given {
                // Also one that drained for a round that was dropped, and one whose epoch was raised.
                if self.work.insert(bucket, Work::Serving(epoch)) != Some(Work::Serving(epoch)) {
                    commands.push(Command::Start(bucket, epoch));
                }
            }
        }
    }

    fn may_start(&self, now: Millis, config: &Config) -> bool {
        self.keeper.valid(config.timings, now)
            || config.flaw == Some(Flaw::ServePastTheDeadline) && self.keeper.held_from.is_some()
    }

    /// A member that leaves serves until others own all of its buckets, or nobody is left who could.
    fn end_if_nothing_is_left(&mut self, config: &Config) {
        if self.leaving && !self.ending {
            self.ending = self.obeyed().is_none_or(|map| {
                let successor = map
                    .members
                    .iter()
                    .any(|member| matches!(member.role, Role::Active | Role::Standby));
                map.owned_by(&config.me).next().is_none() || !successor
            });
        }
    }

    fn prepare(&mut self, config: &Config, commands: &mut Vec<Command>) {
        let round = self
            .obeyed()
            .and_then(|map| Some((map.round.as_ref()?, map.index_of(&config.me)?)));
        let Some((round, me)) = round else { return };
        let number = round.number;
        let gained: Vec<Bucket> = round
            .moves
            .iter()
            .filter(|(_, to)| **to == me)
            .map(|(bucket, _)| *bucket)
            .collect();
        if !gained.is_empty() && self.prepared != number {
            self.prepared = number;
            commands.push(Command::Prepare(number, gained));
        }
    }

    /// Keeps of what it would report only what is still true. Whoever is `settled` works only in what it owns.
    fn settle_reports(&mut self, settled: bool, config: &Config) {
        let Some((version, map)) = self.map.clone() else { return };
        let number = map
            .as_ref()
            .and_then(|map| map.round.as_ref())
            .map_or(0, |round| round.number);
        if self.warm != number {
            self.warm = 0;
        }
        if self.prepared != number {
            self.prepared = 0;
        }
        self.raise.retain(|bucket, fence| {
            map.as_ref()
                .is_some_and(|map| map.owner(*bucket) == Some(&config.me) && map.epoch(*bucket) <= Some(*fence))
        });
        let stopped = settled
            || self
                .work
                .keys()
                .all(|bucket| map.as_ref().is_some_and(|map| map.owner(*bucket) == Some(&config.me)));
        if stopped || config.flaw == Some(Flaw::SeenBeforeStopped) {
            self.seen = version;
        }
    }

    /// The round whose moves it has acknowledged: all work in what it loses has ended. It serves those buckets again
    /// only by a newer map, and the leader acts on this only by compare-and-swap on the map that has the round.
    fn drained(&self, config: &Config) -> u64 {
        let draining = self.obeyed().and_then(|map| {
            let round = map.round.as_ref().filter(|round| round.phase == Phase::Draining)?;
            let mut lost = round
                .moves
                .keys()
                .filter(|bucket| map.owner(**bucket) == Some(&config.me))
                .peekable();
            lost.peek()?;
            let early = config.flaw == Some(Flaw::AcknowledgeBeforeTheDrain);
            lost.all(|bucket| early || !self.work.contains_key(bucket))
                .then_some(round.number)
        });
        draining.unwrap_or(0)
    }

    fn report(&self, config: &Config) -> Report {
        Report {
            seen: self.seen,
            warm: self.warm,
            drained: self.drained(config),
            leaving: self.leaving,
            // What stands in the Lease counts.
            drain: false,
            weight: self.weight,
            raise: self.raise.clone(),
        }
    }

    fn keep_the_lease(&mut self, now: Millis, config: &Config, leader: &Leader, commands: &mut Vec<Command>) {
        let stopped = self.work.is_empty() || config.flaw == Some(Flaw::ReleaseBeforeTheDrain);
        // The coordinator Lease first, so that somebody else leads when this one is seen to be gone.
        let done = self.ending && stopped && !leader.holds_or_wants();
        if self.releasing && self.keeper.held_uid.is_none() {
            return;
        }
        if done && self.keeper.held_uid.is_none() && self.keeper.writing.is_none() {
            self.exited = Some(Exit::Left);
            commands.push(Command::Exit(Exit::Left));
            return;
        }
        let wish = if done {
            let wish = self.keeper.release(config.timings, now);
            self.releasing |= matches!(wish, Some(Wish::Write(..)));
            wish
        } else {
            let report = self.report(config);
            let all_is_owned = self.obeyed().is_some_and(|map| map.owners.iter().all(Option::is_some));
            self.keeper.wish(&report, all_is_owned, &config.me, config.timings, now)
        };
        commands.extend(wish.map(|wish| as_command(Kept::Member, wish)));
    }

    /// See [`Flaw::FollowersComputeOwnership`].
    fn help_oneself(&self, given: &mut BTreeMap<Bucket, Epoch>, now: Millis, config: &Config, leader: &Leader) {
        let Some(map) = self.obeyed() else { return };
        for bucket in map.buckets() {
            let gone = |owner: &Incarnation| {
                leader
                    .leases
                    .get(&owner.name)
                    .is_some_and(|lease| lease.expired(config.timings, now))
            };
            if map.owner(bucket).is_some_and(gone) {
                given.extend(map.epoch(bucket).map(|epoch| (bucket, epoch)));
            }
        }
    }
}

/// What a map gives to a member, in the order of the buckets.
fn given(map: &ShardMap, me: &Incarnation) -> impl Iterator<Item = (Bucket, Epoch)> {
    map.owned_by(me).filter(|(bucket, _)| !map.drains(*bucket))
}

pub(super) fn as_command(kept: Kept, wish: Wish) -> Command {
    match wish {
        Wish::Read => Command::Read(kept),
        Wish::Write(precondition, record) => Command::Write(kept, precondition, record),
    }
}
