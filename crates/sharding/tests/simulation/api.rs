//! Between the members and the API server: requests, answers and watches, and what can go wrong with them.

use std::collections::BTreeSet;
use std::sync::Arc;

use sharding::protocol::{Answer, Command, Event, Incarnation, Kept, Version};

use crate::fleet::Simulation;
use crate::judge::Place;
use crate::network::{Request, What, Which};
use crate::schedule::{Micros, SECOND, SLOW_MS, within_ms};
use crate::world::unanswered;

/// All that the watches have to tell, in order.
#[derive(Default)]
pub(crate) struct History {
    leases: Vec<Event>,
    maps: Vec<Event>,
    /// Up to which versions.
    lease_version: u64,
    coordinator_version: u64,
    map_version: u64,
    names: BTreeSet<Arc<str>>,
}

impl Simulation {
    /// How long one way takes.
    pub(crate) fn way(&mut self, place: Place) -> Micros {
        let slow = self.members[place].slow_until.max(self.slow_until) > self.now;
        let most = if slow { SLOW_MS } else { 15 };
        self.random.between(1000, 1000 * most)
    }

    /// A core asks. It hears of it once, in time or not at all.
    pub(crate) fn ask(&mut self, place: Place, command: Command) {
        let member = &mut self.members[place];
        let sent_ms = member.clock.at(self.now);
        let until = self.now + member.clock.true_time(within_ms(member.config.timings));
        self.requests += 1;
        member.asked.insert(self.requests, sent_ms);
        let request = Request {
            from: place,
            number: self.requests,
            command,
            sent_ms,
            until,
        };
        let lossy = self.lossy_until > self.now;
        if self.members[place].no_way_out_until > self.now || lossy && self.random.chance(100) {
            return self.unanswered(request);
        }
        let mut arrives = self.now + self.way(place);
        // Long after its sender has given up on it.
        if lossy && self.random.chance(100) {
            arrives += self.random.below(30 * SECOND);
        }
        self.queue.put(arrives, What::Arrives(Box::new(request)));
    }

    fn unanswered(&mut self, request: Request) {
        if let Some(event) = unanswered(&request.command) {
            let at = request.until.max(self.now);
            self.queue.put(at, What::Answered(Box::new(request), Box::new(event)));
        }
    }

    pub(crate) fn arrives(&mut self, request: Request) {
        let (until, hangs) = self.away;
        if until > self.now {
            if hangs && self.random.chance(500) {
                // It is carried out when the server is back. Its sender has been told before that there is no answer.
                let later = until + self.random.below(SECOND);
                self.unanswered(request.clone());
                self.queue.put(later, What::Arrives(Box::new(request)));
            } else {
                self.unanswered(request);
            }
            return;
        }
        let name = Arc::clone(&self.members[request.from].config.me.name);
        let answer = self.server.apply(&name, &request.command, None, &mut self.written);
        self.note_changes();
        let Some(event) = answer else { return };
        let lost = self.lossy_until > self.now && self.random.chance(100);
        let back = self.now + self.way(request.from);
        if lost || self.members[request.from].no_way_back_until > self.now || back > request.until {
            return self.unanswered(request);
        }
        self.queue.put(back, What::Answered(Box::new(request), Box::new(event)));
    }

    pub(crate) fn answered(&mut self, request: &Request, event: Event) {
        let member = &mut self.members[request.from];
        // A process that was frozen finds the time-out and the answer at once, and takes either.
        let late = self.now > request.until && event_is_an_answer(&event) && self.random.chance(500);
        if member.asked.remove(&request.number).is_none() {
            return;
        }
        let event = if late {
            unanswered(&request.command).unwrap_or(event)
        } else {
            event
        };
        if let Event::Written(Kept::Member, Answer::Accepted { .. }) = event {
            member.renewed_from = Some(request.sent_ms);
        }
        self.feed(request.from, event);
    }

    /// Puts what has changed at the API server into the history, and wakes the watches.
    pub(crate) fn note_changes(&mut self) {
        let history = &mut self.history;
        if self.server.lease_version > history.lease_version {
            let now = Version(self.server.lease_version);
            for (name, lease) in &self.server.leases {
                if lease.version.0 > history.lease_version {
                    history.names.insert(Arc::clone(name));
                    let event = Event::MemberLease(Arc::clone(name), Some(lease.clone()), lease.version);
                    history.leases.push(event);
                }
            }
            history.lease_version = now.0;
            let gone = |name: &Arc<str>| !self.server.leases.contains_key(name);
            let deleted: Vec<Arc<str>> = history.names.iter().filter(|name| gone(name)).cloned().collect();
            for name in deleted {
                history.names.remove(&name);
                history.leases.push(Event::MemberLease(name, None, now));
            }
            self.wake_all(Which::Leases);
        }
        let history = &mut self.history;
        if self.server.coordinator_version > history.coordinator_version {
            history.coordinator_version = self.server.coordinator_version;
            let at = Version(history.coordinator_version);
            history
                .leases
                .push(Event::Coordinator(self.server.coordinator.clone(), at));
            self.wake_all(Which::Leases);
        }
        let history = &mut self.history;
        if self.server.map_version > history.map_version {
            history.map_version = self.server.map_version;
            history.maps.push(self.server.map_event());
            self.wake_all(Which::Map);
            self.judge_the_map();
        }
    }

    fn judge_the_map(&mut self) {
        for (before, after) in std::mem::take(&mut self.written) {
            let leases = &self.server.leases;
            let holds = |who: &Incarnation| {
                let lease = leases.get(&who.name);
                lease.is_some_and(|lease| lease.record.holder.as_ref() == Some(who))
            };
            self.judge.map_written(before.as_deref(), &after, holds);
        }
    }

    fn wake_all(&mut self, which: Which) {
        for place in 0..self.members.len() {
            if self.members[place].alive() {
                self.wake(place, which);
            }
        }
    }

    pub(crate) fn wake(&mut self, place: Place, which: Which) {
        let watch = match which {
            Which::Leases => &mut self.members[place].leases,
            Which::Map => &mut self.members[place].map,
        };
        if !std::mem::replace(&mut watch.waking, true) {
            let at = self.now + self.way(place);
            self.queue.put(at, What::Tell(place, which));
        }
    }

    /// A watch tells all that has happened since, one after the other, or what of it is left.
    pub(crate) fn tell(&mut self, place: Place, which: Which) {
        let member = &mut self.members[place];
        let history = match which {
            Which::Leases => &self.history.leases,
            Which::Map => &self.history.maps,
        };
        let watch = match which {
            Which::Leases => &mut member.leases,
            Which::Map => &mut member.map,
        };
        let cut = member.no_way_out_until.max(member.no_way_back_until);
        if self.now < watch.silent_until.max(cut).max(self.away.0) {
            let again = self.now + self.random.between(SECOND / 10, SECOND);
            self.queue.put(again, What::Tell(place, which));
            return;
        }
        watch.waking = false;
        let (told, known) = (watch.told.unwrap_or(0), watch.told.is_some());
        watch.told = Some(history.len());
        let mut events = history[told..].to_vec();
        // A list instead of the watch: at first, or since it was opened anew.
        if !known || events.len() > 20 {
            keep_the_last(&mut events);
        }
        if !known && which == Which::Map && events.is_empty() {
            events.push(self.server.map_event());
        }
        // Another API server may be behind, so that the watch tells what it has told before.
        let again = self.random.chance(50) && told > 1;
        if again {
            let history = match which {
                Which::Leases => &self.history.leases,
                Which::Map => &self.history.maps,
            };
            events.extend(history[told - 2..told].iter().cloned());
        }
        for event in events {
            self.feed(place, event);
        }
    }
}

fn event_is_an_answer(event: &Event) -> bool {
    !matches!(
        event,
        Event::Read(_, None) | Event::Written(_, Answer::Unknown) | Event::Listed(None) | Event::MapUnread
    )
}

/// Of each object only the last that happened to it.
fn keep_the_last(events: &mut Vec<Event>) {
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Event> = std::mem::take(events);
    kept.reverse();
    kept.retain(|event| match event {
        Event::MemberLease(name, ..) => seen.insert(Some(Arc::clone(name))),
        _ => seen.insert(None),
    });
    kept.reverse();
    *events = kept;
}
