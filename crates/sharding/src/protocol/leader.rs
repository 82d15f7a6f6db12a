//! What the one decider does and when. What the next map is stands in [`super::plan`].
//!
//! That two leaders act at once cannot be excluded (one may be frozen between a look and a write), and does no harm:
//! each write is a compare-and-swap, and each decision rests on facts that stay true for as long as the object that it
//! writes has the version that was looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::lease::{Keeper, Lease, LeaseList, LeaseRecord, Observed, Report, Version};
use super::member::as_command;
use super::plan::{self, View};
use super::{Answer, Command, Config, Event, Flaw, Kept, Member};
use crate::map::{MAX_NUMBER, Phase, ShardMap};
use crate::timing::Millis;

/// What is known of the map.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Known {
    /// Nothing yet.
    #[default]
    Nothing,
    /// There is none.
    Gone,
    /// It is ours and no leader wrote it like this. It is replaced by a fresh one, not by what this process remembers:
    /// others may have written in between.
    Damaged,
    /// Of another installation, or for another number of buckets: not touched.
    NotOurs,
    /// One to build upon.
    Good(Arc<ShardMap>),
}

/// The leader, and what a member must know to become it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Leader {
    /// The coordinator Lease.
    pub keeper: Keeper,
    /// All member Leases, by the name of the member.
    pub leases: BTreeMap<Arc<str>, Observed>,
    /// The version up to which the map is known.
    pub version: Version,
    /// The map at that version.
    pub map: Known,
    /// The greatest sequence ever met.
    pub highest: u64,
    /// The Unix time in seconds, of the last tick. No sequence is below it: a leader that knows nothing of an earlier map
    /// still gives no number twice, as long as maps are written less than once per second on the whole.
    pub unix_s: u64,
    /// The term of this leadership, once it has begun.
    pub term: u64,
    /// It has written the map in this term.
    pub claimed: bool,
    /// The version of the map that was known when the Leases were last listed. Only with such a list is "the Lease of
    /// the owner has another holder" a fact: what a late watch told may be older than the owner's own Lease.
    pub listed_for: Option<Version>,
    /// A list is on its way, asked for when the map had this version.
    pub listing: Option<Version>,
    /// The map on its way.
    pub writing: Option<Arc<ShardMap>>,
    /// The map must be read, since a write of it was not accepted.
    pub unsure: bool,
    /// A read of the map is on its way.
    pub reading: bool,
    /// Takes of Leases on their way.
    pub taking: BTreeSet<Arc<str>>,
    /// Deletions of Leases on their way.
    pub forgetting: BTreeSet<Arc<str>>,
    /// The round that is being prepared, and since when this process knows of it.
    pub preparing: Option<(u64, Millis)>,
    /// A round was dropped since its gainers did not get warm: no other one before this.
    pub rest_until: Option<Millis>,
    /// A request got no answer: none before this.
    pub pause_until: Option<Millis>,
}

impl Leader {
    /// Whether this process leads, as far as it knows.
    #[must_use]
    pub fn leads(&self, now: Millis, config: &Config) -> bool {
        self.keeper.held_uid.is_some() && self.keeper.valid(config.timings, now)
    }

    /// Whether it must resign before its process exits.
    pub(super) fn holds_or_wants(&self) -> bool {
        self.keeper.held_uid.is_some() || self.keeper.writing.is_some()
    }

    /// Takes in what is known of the map, unless something newer is.
    pub(super) fn learn(&mut self, version: Version, map: Known) {
        self.reading = false;
        if version < self.version {
            return;
        }
        self.unsure = false;
        if version == self.version && self.map != Known::Nothing {
            return;
        }
        if let Known::Good(map) = &map {
            self.highest = self.highest.max(map.sequence);
        }
        self.version = version;
        self.map = map;
    }

    /// This process could not renew for a while. Perhaps nobody could, so that none of the others was seen to renew: what
    /// was counted against them meanwhile does not count, or the first to come back would take all their Leases.
    pub(super) fn count_anew(&mut self, now: Millis) {
        for lease in self.leases.values_mut() {
            lease.changed_ms = now;
        }
    }

    /// Takes in the answer to a write of the map, and returns what was accepted.
    pub(super) fn map_written(
        &mut self,
        answer: &Answer,
        now: Millis,
        config: &Config,
    ) -> Option<(Version, Arc<ShardMap>)> {
        let map = self.writing.take()?;
        let Answer::Accepted { version, .. } = answer else {
            self.unsure = true;
            self.pause_after(answer, now, config);
            return None;
        };
        // A map built upon a list names only members whose Leases were seen. A fresh one is built upon nothing.
        let built = matches!(self.map, Known::Good(_)) && self.listed_for == Some(self.version);
        let newest = *version > self.version;
        self.learn(*version, Known::Good(Arc::clone(&map)));
        self.claimed = true;
        if newest {
            self.listed_for = built.then_some(*version);
        }
        Some((*version, map))
    }

    pub(super) fn step(
        &mut self,
        event: &Event,
        now: Millis,
        config: &Config,
        member: &Member,
        commands: &mut Vec<Command>,
    ) {
        self.take_in(event, now, config);
        if member.exited.is_some() {
            return;
        }
        if member.ending {
            // In-flight writes do no harm: they are compare-and-swap.
            if self.keeper.held_uid.is_some() {
                let wish = self.keeper.release(config.timings, now);
                commands.extend(wish.map(|wish| as_command(Kept::Coordinator, wish)));
            }
            return;
        }
        if self.keeper.lost(&config.me) {
            self.keeper.give_up();
        }
        let alive = member.keeper.valid(config.timings, now);
        if self.keeper.held_uid.is_some() || alive && !member.leaving {
            let wish = self
                .keeper
                .wish(&Report::default(), true, &config.me, config.timings, now);
            commands.extend(wish.map(|wish| as_command(Kept::Coordinator, wish)));
        }
        if alive && self.leads(now, config) && self.pause_until.is_none_or(|until| now >= until) {
            self.pause_until = None;
            self.lead(now, config, commands);
        }
    }

    fn take_in(&mut self, event: &Event, now: Millis, config: &Config) {
        match event {
            Event::Read(Kept::Coordinator, answer) => self.keeper.read(answer.clone(), &config.me, now),
            Event::Coordinator(lease, at) => self.keeper.observe(lease.clone(), *at, now),
            Event::Written(Kept::Coordinator, answer) => {
                let led = self.keeper.held_uid.is_some();
                self.keeper.answered(answer, &config.me, now, config.flaw);
                if !led && self.keeper.held_uid.is_some() {
                    self.begin();
                }
            }
            Event::MemberLease(name, lease, at) => self.observe(name, lease.clone(), *at, now),
            Event::Listed(answer) => self.listed(answer.as_ref(), now, config),
            Event::Taken(name, answer) => self.taken(name, answer, now, config),
            Event::Forgotten(name, answer) => self.forgotten(name, answer, now, config),
            Event::MapUnread => {
                self.reading = false;
                self.pause_after(&Answer::Unknown, now, config);
            }
            Event::Tick(unix_s) => self.unix_s = *unix_s,
            Event::Read(Kept::Member, _)
            | Event::Written(Kept::Member, _)
            | Event::MapWritten(_)
            | Event::Map(..)
            | Event::MapDamaged(..)
            | Event::MapGone(..)
            | Event::Idle(_)
            | Event::Warm(_)
            | Event::Fence(..)
            | Event::Weight(_)
            | Event::Leave
            | Event::GiveUp => {}
        }
    }

    /// A new leadership. What was looked at in an earlier one counts for nothing, but for the clocks of the Leases.
    fn begin(&mut self) {
        let record = self.keeper.known.as_ref().and_then(|known| known.lease.as_ref());
        self.term = record.map_or(1, |lease| lease.record.transitions);
        self.claimed = false;
        self.listed_for = None;
        self.preparing = None;
        self.rest_until = None;
    }

    fn observe(&mut self, name: &Arc<str>, lease: Option<Lease>, at: Version, now: Millis) {
        if let Some(known) = self.leases.get_mut(name) {
            known.observe(lease, at, now);
        } else {
            let seen = Observed {
                lease,
                at,
                changed_ms: now,
            };
            self.leases.insert(Arc::clone(name), seen);
        }
    }

    fn listed(&mut self, answer: Option<&LeaseList>, now: Millis, config: &Config) {
        let asked_for = self.listing.take();
        let Some(LeaseList { leases, at }) = answer else {
            self.pause_after(&Answer::Unknown, now, config);
            return;
        };
        let mut absent: BTreeSet<Arc<str>> = self.leases.keys().cloned().collect();
        if let Known::Good(map) = &self.map {
            absent.extend(map.members.iter().map(|member| Arc::clone(&member.incarnation.name)));
        }
        for (name, lease) in leases {
            absent.remove(name);
            self.observe(name, Some(lease.clone()), *at, now);
        }
        for name in &absent {
            self.observe(name, None, *at, now);
        }
        self.forget_strangers(now, config);
        self.listed_for = asked_for;
    }

    /// Names are not used twice where pods have random ones: what is gone and in no map is forgotten, once nobody can
    /// work by it any more.
    fn forget_strangers(&mut self, now: Millis, config: &Config) {
        let Known::Good(map) = &self.map else { return };
        self.leases.retain(|name, lease| {
            lease.lease.is_some()
                || !plan::expired(lease, now, config)
                || map.members.iter().any(|member| member.incarnation.name == *name)
        });
    }

    fn taken(&mut self, name: &Arc<str>, answer: &Answer, now: Millis, config: &Config) {
        self.taking.remove(name);
        match answer {
            Answer::Accepted { version, uid } => {
                let Some(known) = self.leases.get_mut(name) else { return };
                let record = known
                    .lease
                    .as_ref()
                    .map_or_else(LeaseRecord::default, |lease| taken(&lease.record));
                let lease = Lease {
                    uid: Arc::clone(uid),
                    version: *version,
                    record,
                };
                known.observe(Some(lease), *version, now);
            }
            // It was renewed after all, or somebody else took it, or one of our own takes came late. A list tells.
            Answer::Conflict | Answer::Unknown => self.listed_for = None,
        }
        self.pause_after(answer, now, config);
    }

    pub(super) fn pause_after(&mut self, answer: &Answer, now: Millis, config: &Config) {
        if *answer == Answer::Unknown {
            self.pause_until = Some(now + config.timings.retry_ms());
        }
    }

    fn lead(&mut self, now: Millis, config: &Config, commands: &mut Vec<Command>) {
        if self.writing.is_some() || self.reading {
            return;
        }
        if self.unsure || self.map == Known::Nothing {
            self.reading = true;
            commands.push(Command::ReadMap);
            return;
        }
        let map = match &self.map {
            Known::Nothing | Known::NotOurs => return,
            Known::Gone | Known::Damaged => {
                let precondition = (self.map == Known::Damaged).then_some(self.version);
                let fresh = plan::fresh(config, self.term, self.unused_above() + 1, &self.leases);
                return self.write(precondition, fresh, commands);
            }
            Known::Good(map) => Arc::clone(map),
        };
        if !self.stands(&map, config) {
            return;
        }
        if self.listed_for != Some(self.version) {
            if self.listing.is_none() {
                self.listing = Some(self.version);
                commands.push(Command::ListLeases);
            }
            return;
        }
        if config.flaw != Some(Flaw::MapBeforeLease) {
            self.take_what_ran_out(now, config, commands);
            // One write for all that is taken now.
            if !self.taking.is_empty() {
                return;
            }
        }
        let drop_the_round = self.patience_is_over(&map, now, config);
        let view = View {
            config,
            term: self.term,
            unused_above: self.unused_above(),
            version: self.version,
            map: &map,
            leases: &self.leases,
            now,
            drop_the_round,
            may_begin_a_round: self.rest_until.is_none_or(|until| now >= until),
        };
        if let Some(next) = plan::next(&view) {
            self.write(Some(self.version), next, commands);
        } else {
            self.clear_away(&map, now, config, commands);
        }
    }

    /// Every greater number was never a sequence, an epoch or a round.
    fn unused_above(&self) -> u64 {
        self.highest.max(self.unix_s).min(MAX_NUMBER - 1)
    }

    fn write(&mut self, precondition: Option<Version>, map: ShardMap, commands: &mut Vec<Command>) {
        let map = Arc::new(map);
        self.writing = Some(Arc::clone(&map));
        commands.push(Command::WriteMap(precondition, map));
    }

    /// Whether nobody has led since. The first map of a leadership has a term above all earlier ones, also if the
    /// coordinator Lease was deleted and counts from 1 again.
    fn stands(&mut self, map: &ShardMap, config: &Config) -> bool {
        if map.leader == config.me && map.term == self.term {
            self.claimed = true;
        } else if self.claimed && map.term >= self.term {
            self.keeper.give_up();
            self.keeper.stale = true;
            return false;
        } else if !self.claimed {
            self.term = self.term.max(map.term + 1);
        }
        true
    }

    fn take_what_ran_out(&mut self, now: Millis, config: &Config, commands: &mut Vec<Command>) {
        for (name, known) in &self.leases {
            let Some(lease) = &known.lease else { continue };
            if known.holder().is_some() && plan::expired(known, now, config) && self.taking.insert(Arc::clone(name)) {
                commands.push(Command::Take(Arc::clone(name), lease.version, taken(&lease.record)));
            }
        }
    }

    /// Whether the gainers of a round had their time to get warm.
    fn patience_is_over(&mut self, map: &ShardMap, now: Millis, config: &Config) -> bool {
        let preparing = map.round.as_ref().filter(|round| round.phase == Phase::Preparing);
        let Some(number) = preparing.map(|round| round.number) else {
            self.preparing = None;
            return false;
        };
        let since = match self.preparing {
            Some((known, since)) if known == number => since,
            _ => now,
        };
        self.preparing = Some((number, since));
        let over = now >= since.saturating_add(config.prepare_ms);
        if over {
            self.rest_until = Some(now.saturating_add(config.prepare_ms));
        }
        over
    }
}

/// The record of a Lease that was taken from its holder. Whoever holds it next counts on.
fn taken(record: &LeaseRecord) -> LeaseRecord {
    LeaseRecord {
        holder: None,
        transitions: record.transitions,
        report: Report::default(),
    }
}
