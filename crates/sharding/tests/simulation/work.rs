//! The workers: reconciles that begin, take a while, and write objects.

use sharding::protocol::Event;

use crate::fleet::Simulation;
use crate::judge::{OBJECTS, ObjectWrite, Place, Verdict};
use crate::member::{Stage, Work};
use crate::network::{Sent, What};
use crate::schedule::{ANSWER_WITHIN_MS, Micros, SECOND};
use crate::world::invariants::Violation;

impl Simulation {
    /// A worker goes on, unless its work was aborted meanwhile.
    pub(crate) fn work(&mut self, place: Place, worker: usize, turn: u32) {
        let this = &mut self.members[place].workers[worker];
        if this.turn != turn {
            return;
        }
        match std::mem::replace(&mut this.stage, Stage::Idle) {
            Stage::Idle => self.begin(place, worker),
            Stage::Thinking(work) => {
                // Before each write.
                let write = &work.write;
                if self.members[place].serves(write.bucket, self.now) == Some(write.epoch) {
                    // The next moment it writes; but a process can be frozen between any two, and a connection may
                    // have to be made first.
                    let then = self.random.pick(&[3, 3, 3, 3, 3, 3, 3, 300]);
                    let then = self.random.below(1000 * then);
                    self.goes_on(place, worker, Stage::Writing(work), then);
                } else {
                    self.end(place, worker, &work);
                }
            }
            Stage::Writing(work) => self.write(place, worker, work),
            // The answer did not come in time.
            Stage::Waiting(work) => self.written(place, worker, work, None),
        }
    }

    fn goes_on(&mut self, place: Place, worker: usize, stage: Stage, after: Micros) {
        let this = &mut self.members[place].workers[worker];
        this.stage = stage;
        this.turn += 1;
        let turn = this.turn;
        self.queue.put(self.now + after, What::Work(place, worker, turn));
    }

    fn begin(&mut self, place: Place, worker: usize) {
        let member = &self.members[place];
        let chosen = (!member.serving.is_empty()).then(|| self.random.pick(&member.serving));
        // Before each start.
        let serves = chosen.and_then(|(bucket, _)| Some((bucket, member.serves(bucket, self.now)?)));
        let Some((bucket, epoch)) = serves else {
            let pause = self.random.between(SECOND / 20, SECOND / 3);
            return self.goes_on(place, worker, Stage::Idle, pause);
        };
        if member.past_renew_deadline(self.now) {
            self.judge.found(Violation::StartAfterTheSelfFence);
        }
        let me = &member.config.me;
        let members = &self.members;
        let excused = |other: Place| members[other].frozen_past_its_lease(self.now);
        let ownership = self.judge.begins(place, me, bucket, epoch, excused);
        let work = Work {
            write: ObjectWrite {
                bucket,
                object: self.random.place(OBJECTS),
                epoch,
                ownership,
            },
            writes_left: u8::try_from(self.random.between(1, 3)).expect("few"),
        };
        let think = self.think();
        self.goes_on(place, worker, Stage::Thinking(work), think);
    }

    /// Mostly short; some are still running when a Lease runs out.
    fn think(&mut self) -> Micros {
        match self.random.below(200) {
            0 => self.random.between(SECOND, 10 * SECOND),
            1..10 => self.random.between(SECOND / 5, SECOND),
            _ => self.random.between(1000, SECOND / 10),
        }
    }

    fn write(&mut self, place: Place, worker: usize, work: Work) {
        let member = &self.members[place];
        let lossy = self.lossy_until > self.now;
        let lost = member.no_way_out_until > self.now || lossy && self.random.chance(100);
        let until = self.now + member.clock.true_time(ANSWER_WITHIN_MS);
        let mut arrives = self.now + self.way(place);
        if lossy && self.random.chance(100) {
            arrives += self.random.below(30 * SECOND);
        }
        let write = work.write.clone();
        let wait = until - self.now;
        let state = &mut self.members[place].workers[worker];
        state.stage = Stage::Waiting(work);
        state.turn += 1;
        let sent = Sent {
            from: place,
            worker,
            turn: state.turn,
            write,
            until,
        };
        if lost {
            let turn = sent.turn;
            self.queue.put(self.now + wait, What::Work(place, worker, turn));
        } else {
            self.queue.put(arrives, What::WriteArrives(Box::new(sent)));
        }
    }

    pub(crate) fn write_arrives(&mut self, sent: Sent) {
        let (until, hangs) = self.away;
        if until > self.now {
            if hangs && self.random.chance(500) {
                let later = until + self.random.below(SECOND);
                self.queue.put(later, What::WriteArrives(Box::new(sent.clone())));
            }
            return self.no_answer(&sent);
        }
        let map = self.server.map.as_ref().map(|(_, map)| map.as_ref());
        let verdict = self.judge.object_written(&sent.write, map);
        if self.judge.violation.is_some() {
            let me = &self.members[sent.from].config.me;
            let line = format!("{me} writes {:?}: {verdict:?}", sent.write);
            return self.log(|| line);
        }
        let lost = self.lossy_until > self.now && self.random.chance(100);
        let back = self.now + self.way(sent.from);
        if lost || self.members[sent.from].no_way_back_until > self.now || back > sent.until {
            return self.no_answer(&sent);
        }
        self.queue.put(back, What::WriteAnswered(Box::new(sent), Some(verdict)));
    }

    /// Its worker stops to wait in time. Once: the turn says whether it still does.
    fn no_answer(&mut self, sent: &Sent) {
        let at = sent.until.max(self.now);
        self.queue.put(at, What::Work(sent.from, sent.worker, sent.turn));
    }

    pub(crate) fn write_answered(&mut self, sent: &Sent, verdict: Option<Verdict>) {
        let state = &mut self.members[sent.from].workers[sent.worker];
        if state.turn != sent.turn {
            return;
        }
        if let Stage::Waiting(work) = std::mem::replace(&mut state.stage, Stage::Idle) {
            self.written(sent.from, sent.worker, work, verdict);
        }
    }

    fn written(&mut self, place: Place, worker: usize, mut work: Work, verdict: Option<Verdict>) {
        if let Some(Verdict::Refused(fence)) = verdict {
            self.end(place, worker, &work);
            if let Some(fence) = fence {
                self.feed(place, Event::Fence(work.write.bucket, fence));
            }
            return;
        }
        work.writes_left -= 1;
        if work.writes_left == 0 {
            return self.end(place, worker, &work);
        }
        let think = self.think();
        self.goes_on(place, worker, Stage::Thinking(work), think);
    }

    fn end(&mut self, place: Place, worker: usize, work: &Work) {
        let pause = self.random.between(1000, SECOND / 10);
        self.goes_on(place, worker, Stage::Idle, pause);
        let bucket = work.write.bucket;
        let last = self.judge.ends(place, bucket);
        if last && self.members[place].draining.remove(&bucket) {
            self.feed(place, Event::Idle(bucket));
        }
    }
}
