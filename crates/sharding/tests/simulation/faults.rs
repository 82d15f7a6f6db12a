//! What befalls a fleet.

use sharding::protocol::Event;
use sharding::{Bucket, Epoch};

use crate::fleet::Simulation;
use crate::judge::Place;
use crate::member::State;
use crate::network::What;
use crate::schedule::{Fault, Micros, SECOND, Theme};

impl Simulation {
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.log(|| format!("FAULT {fault:?}"));
        let until = |lasts: Micros| self.now + lasts;
        match fault {
            Fault::Crash { after, same_name } => self.crash(after, same_name),
            Fault::Freeze { lasts } => self.freeze(lasts),
            Fault::Cut { out, back, lasts } => {
                let until = until(lasts);
                let Some(place) = self.somebody() else { return };
                // Requests get through at once when it is over; a watch has to notice first that it is dead.
                let ends = self.schedule.ends;
                let notices = [(); 2].map(|()| (until + self.random.below(10 * SECOND)).min(ends));
                let member = &mut self.members[place];
                [member.map.silent_until, member.leases.silent_until] = notices;
                member.no_way_out_until = if out { until } else { member.no_way_out_until };
                member.no_way_back_until = if back { until } else { member.no_way_back_until };
            }
            Fault::StallMap { lasts } => {
                let until = until(lasts);
                if let Some(place) = self.somebody() {
                    self.members[place].map.silent_until = until;
                }
            }
            Fault::StallLeases { lasts } => {
                let until = until(lasts);
                if let Some(place) = self.somebody() {
                    self.members[place].leases.silent_until = until;
                }
            }
            Fault::Slow { all: true, lasts } => self.slow_until = until(lasts),
            Fault::Slow { all: false, lasts } => {
                let until = until(lasts);
                if let Some(place) = self.somebody() {
                    self.members[place].slow_until = until;
                }
            }
            Fault::Lossy { lasts } => self.lossy_until = until(lasts),
            Fault::Away { hangs, lasts } => self.away = (until(lasts).max(self.away.0), hangs),
            Fault::Cold { lasts } => {
                let until = until(lasts);
                for member in &mut self.members {
                    member.cold_until = until;
                }
            }
            Fault::DeleteMap => self.server.delete_map(),
            Fault::EditMap => self.server.edit_map(),
            Fault::RestoreMap if self.somebody_leads_and_knows() => self.server.restore_map(),
            Fault::RestoreMap => {}
            Fault::DeleteLease => self.delete_a_lease(),
            Fault::ForeignFence => self.foreign_fence(),
            Fault::WallClock => {
                let wall = self.wall_clock();
                if let Some(place) = self.somebody() {
                    self.members[place].wall = wall;
                }
            }
            Fault::Join => self.queue.put(self.now, What::Starts(None)),
            Fault::Leave => self.leave(),
            Fault::Replace { after } => {
                self.queue.put(self.now, What::Starts(None));
                self.queue.put(self.now + after, What::Leaves);
            }
            Fault::GiveUp => self.give_up(),
            Fault::Kill => self.kill(),
            Fault::Weight => {
                let weight = self.random.pick(&[50, 100, 100, 200]);
                if let Some(place) = self.somebody() {
                    self.feed(place, Event::Weight(weight));
                }
            }
        }
        self.note_changes();
    }

    /// A process that runs; in one of three cases the leader, for it has most to lose.
    fn somebody(&mut self) -> Option<Place> {
        let up = |place: &Place| self.members[*place].up();
        let running: Vec<Place> = (0..self.members.len()).filter(up).collect();
        let leads = |place: &Place| {
            let member = &self.members[*place];
            let now = member.clock.at(self.now);
            member.process.leader.leads(now, &member.config)
        };
        let leader = running.iter().copied().find(leads);
        if running.is_empty() {
            None
        } else if self.random.chance(333) && leader.is_some() {
            leader
        } else {
            Some(self.random.pick(&running))
        }
    }

    /// A leader that has never heard of the newest map takes a backup for it: whoever restores one while no other leads
    /// must stop the fleet first. (`docs/sharding.md`, "What remains possible".)
    fn somebody_leads_and_knows(&self) -> bool {
        let newest = self.server.highest;
        self.members.iter().any(|member| {
            let leader = &member.process.leader;
            member.up() && leader.leads(member.clock.at(self.now), &member.config) && leader.highest == newest
        })
    }

    fn crash(&mut self, after: Micros, same_name: bool) {
        let Some(place) = self.somebody() else { return };
        self.log(|| format!("{place} dies"));
        let name = self.members[place].config.me.name.clone();
        self.dies(place);
        let name = same_name.then_some(name);
        self.queue.put(self.now + after, What::Starts(name));
    }

    fn freeze(&mut self, lasts: Micros) {
        let Some(place) = self.somebody() else { return };
        self.log(|| format!("{place} freezes"));
        self.goes_down(place);
        self.members[place].state = State::Frozen;
        self.queue.put(self.now + lasts, What::Thaw(place));
    }

    /// It goes on where it was: what it was about to send it sends, whatever its clock says.
    pub(crate) fn thaw(&mut self, place: Place) {
        let member = &mut self.members[place];
        if member.state != State::Frozen {
            return;
        }
        member.state = State::Up;
        for what in std::mem::take(&mut member.held) {
            self.queue.put(self.now, what);
        }
        for bucket in Bucket::all().take(self.schedule.buckets.into()) {
            self.judge.comes_back(place, bucket);
        }
        self.log(|| format!("{place} runs again"));
    }

    fn delete_a_lease(&mut self) {
        if let Some(place) = self.somebody() {
            let name = self.members[place].config.me.name.clone();
            self.server.delete_lease(&name);
        }
    }

    fn foreign_fence(&mut self) {
        let Some((_, map)) = &self.server.map else { return };
        let buckets: Vec<Bucket> = map.buckets().collect();
        let bucket = self.random.pick(&buckets);
        let epoch = map.epoch(bucket).map_or(1, |epoch| epoch.0);
        let fence = Epoch(epoch + self.random.between(1, 1000));
        self.judge.stamp(bucket, fence);
    }

    pub(crate) fn leave(&mut self) {
        let stays = |member: &&crate::member::Member| member.up() && !member.leaving;
        let staying = self.members.iter().filter(stays).count();
        let leaves = if self.theme() == Theme::Rolling {
            // In the order in which they joined, so that none is replaced twice.
            self.members.iter().position(|member| stays(&member))
        } else {
            self.somebody().filter(|place| stays(&&self.members[*place]))
        };
        let Some(place) = leaves.filter(|_| staying > 2) else {
            return;
        };
        self.log(|| format!("{place} is asked to leave"));
        self.members[place].leaving = true;
        self.feed(place, Event::Leave);
    }

    /// Whoever was asked to leave has no more time.
    fn give_up(&mut self) {
        for place in 0..self.members.len() {
            if self.members[place].up() && self.members[place].leaving {
                self.feed(place, Event::GiveUp);
            }
        }
    }

    fn kill(&mut self) {
        for place in 0..self.members.len() {
            if self.members[place].alive() && self.members[place].leaving {
                self.dies(place);
            }
        }
    }
}
