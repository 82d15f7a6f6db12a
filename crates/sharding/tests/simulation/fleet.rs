//! One simulation: the real cores, driven as the product's driver drives them, around the model of an API server.

use std::collections::VecDeque;
use std::sync::Arc;

use sharding::map::{Expected, ShardMap};
use sharding::protocol::{self, Command, Config, Event, Exit, Flaw, Incarnation, Process, Work};

use crate::judge::{Counts, Judge, Place};
use crate::member::{Clock, Member, Stage, State};
use crate::network::{Queue, What, Which};
use crate::random::Random;
use crate::schedule::{Micros, PREPARE_MS, RESTART_MS, SECOND, Schedule, Theme, WARM_MS, rate};
use crate::world::Server;
use crate::world::invariants::Violation;

/// A core is asked at least this often; a timer may be late by as much as [`LATE_MS`].
const TICK_MS: u64 = 250;
/// Less than half of the margin that the timings leave.
const LATE_MS: u64 = 80;
/// What is different from the product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) flaw: Option<Flaw>,
    /// The API server refuses writes under old epochs.
    pub(crate) fence: bool,
    /// What happens is kept in words.
    pub(crate) trace: bool,
}

impl Options {
    pub(crate) const PRODUCT: Self = Self {
        flaw: None,
        fence: true,
        trace: false,
    };
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    /// When.
    pub(crate) at: Micros,
    pub(crate) counts: Counts,
    /// The last of what happened, if it was asked for.
    pub(crate) trace: VecDeque<String>,
}

pub(crate) struct Simulation {
    pub(crate) schedule: Schedule,
    pub(crate) options: Options,
    pub(crate) random: Random,
    pub(crate) now: Micros,
    pub(crate) queue: Queue,
    pub(crate) server: Server,
    pub(crate) written: Vec<(Option<Arc<ShardMap>>, Arc<ShardMap>)>,
    pub(crate) history: crate::api::History,
    pub(crate) members: Vec<Member>,
    pub(crate) judge: Judge,
    /// Until when the API server is away, and whether connections hang.
    pub(crate) away: (Micros, bool),
    pub(crate) slow_until: Micros,
    pub(crate) lossy_until: Micros,
    /// How many names, processes and requests there were.
    names: u64,
    nonces: u64,
    pub(crate) requests: u64,
    pub(crate) over: bool,
    pub(crate) trace: VecDeque<String>,
}

impl Simulation {
    pub(crate) fn new(schedule: Schedule, options: Options) -> Self {
        let expected = Expected {
            installation: "here".into(),
            buckets: schedule.buckets,
        };
        let server = Server {
            uids: Some(0),
            ..Server::default()
        };
        Self {
            random: Random::new(schedule.seed ^ 0x5eed),
            options,
            now: 0,
            queue: Queue::default(),
            server,
            written: Vec::new(),
            history: crate::api::History::default(),
            members: Vec::new(),
            judge: Judge::new(expected, options.fence),
            away: (0, false),
            slow_until: 0,
            lossy_until: 0,
            names: 0,
            nonces: 0,
            requests: 0,
            over: false,
            trace: VecDeque::new(),
            schedule,
        }
    }

    pub(crate) fn run(mut self) -> Outcome {
        for _ in 0..self.schedule.members {
            let at = self.random.below(3 * SECOND);
            self.queue.put(at, What::Starts(None));
        }
        self.queue.put(self.schedule.begins, What::Begins);
        for (at, fault) in self.schedule.faults.clone() {
            self.queue.put(at, What::Fault(fault));
        }
        self.queue.put(self.schedule.ends, What::Look);
        while let Some((at, what)) = self.queue.next() {
            self.now = at;
            match what.needs().map(|place| (place, self.members[place].state)) {
                Some((_, State::Gone)) => {}
                Some((place, State::Frozen)) => self.members[place].held.push(what),
                Some((_, State::Up)) | None => self.happens(what),
            }
            if self.over || self.judge.violation.is_some() {
                break;
            }
        }
        self.judge.counts.processes = self.nonces;
        Outcome {
            violation: self.judge.violation,
            at: self.now,
            counts: self.judge.counts,
            trace: self.trace,
        }
    }

    fn happens(&mut self, what: What) {
        match what {
            What::Tick(place) => {
                self.feed(place, self.members[place].tick(self.now));
                let late = self.random.below(LATE_MS);
                let next = self.members[place].clock.true_time(TICK_MS + late);
                self.queue.put(self.now + next, What::Tick(place));
            }
            What::Abort(place) => self.abort_timer(place),
            What::Tell(place, which) => self.tell(place, which),
            What::Warm(place, round) => self.feed(place, Event::Warm(round)),
            What::Work(place, worker, turn) => self.work(place, worker, turn),
            What::Arrives(request) => self.arrives(*request),
            What::Answered(request, event) => self.answered(&request, *event),
            What::WriteArrives(sent) => self.write_arrives(*sent),
            What::WriteAnswered(sent, verdict) => self.write_answered(&sent, verdict),
            What::Fault(fault) => self.fault(fault),
            What::Thaw(place) => self.thaw(place),
            What::Starts(name) => self.starts(name),
            What::Leaves => self.leave(),
            What::Begins => self.judge.counts.changes.fill(0),
            What::Look => self.look(),
        }
    }

    /// Another process, under this name or a new one.
    fn starts(&mut self, name: Option<Arc<str>>) {
        let name = name.unwrap_or_else(|| {
            self.names += 1;
            // As a Deployment names its pods: their order says nothing.
            format!("m-{:03}-{}", self.random.below(1000), self.names).into()
        });
        self.nonces += 1;
        let config = Config {
            me: Incarnation {
                name,
                nonce: self.nonces,
            },
            timings: self.schedule.timings,
            expected: Expected {
                installation: "here".into(),
                buckets: self.schedule.buckets,
            },
            shards: self.schedule.shards,
            prepare_ms: PREPARE_MS,
            assign: protocol::assigned,
            flaw: self.options.flaw,
        };
        let clock = Clock {
            offset: self.random.below(1_000_000_000),
            rate: rate(&mut self.random),
        };
        let wall = self.wall_clock();
        let place = self.members.len();
        self.log(|| format!("{} starts", config.me));
        self.members
            .push(Member::new(config, clock, wall, self.schedule.workers));
        self.queue.put(self.now, What::Tick(place));
        for which in [Which::Leases, Which::Map] {
            self.wake(place, which);
        }
        for worker in 0..usize::from(self.schedule.workers) {
            let at = self.now + self.random.below(SECOND);
            self.queue.put(at, What::Work(place, worker, 0));
        }
    }

    /// Something happened to a core; what it wants is done, as the driver does it.
    pub(crate) fn feed(&mut self, place: Place, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let member = &mut self.members[place];
            if !member.up() {
                return;
            }
            self.judge.counts.steps += 1;
            let process = std::mem::replace(&mut member.process, Process::new(0));
            let now = member.clock.at(self.now);
            let (process, commands) = protocol::step(process, &event, now, &member.config);
            member.process = process;
            if self.options.trace {
                self.log_step(place, &event, &commands);
            }
            // The driver's order: first what must stop.
            if commands.contains(&Command::Abort) {
                self.stop_all_work(place);
            }
            for command in commands {
                events.extend(self.carry_out(place, command));
            }
            self.set_the_abort_timer(place);
        }
    }

    fn carry_out(&mut self, place: Place, command: Command) -> Option<Event> {
        let member = &mut self.members[place];
        match command {
            Command::Start(bucket, epoch) => {
                member.draining.remove(&bucket);
                member.serving.retain(|(known, _)| *known != bucket);
                member.serving.push((bucket, epoch));
                let rate = self.rate_of_the_leader();
                self.judge.takes_up(place, bucket, self.now, rate);
            }
            Command::Drain(bucket) => {
                member.serving.retain(|(known, _)| *known != bucket);
                if !self.judge.executes(place, bucket) {
                    return Some(Event::Idle(bucket));
                }
                member.draining.insert(bucket);
            }
            Command::Prepare(round, _) => {
                let cold = member.cold_until.saturating_sub(self.now);
                let ready = self.now + cold + 1000 * self.random.between(20, WARM_MS);
                self.queue.put(ready, What::Warm(place, round));
            }
            Command::Exit(exit) => self.exits(place, exit),
            Command::Abort | Command::Refuse(_) => {}
            request => self.ask(place, request),
        }
        None
    }

    /// How far a wall clock is from true: up to five minutes.
    pub(crate) fn wall_clock(&mut self) -> i64 {
        let differs = i64::try_from(self.random.below(600)).expect("few") - 300;
        if self.schedule.numbers_run_ahead { differs } else { 0 }
    }

    fn rate_of_the_leader(&self) -> u64 {
        let map = self.server.map.as_ref();
        let leader = map.and_then(|(_, map)| self.members.iter().find(|member| member.config.me == map.leader));
        leader.map_or(1000, |leader| leader.clock.rate)
    }

    fn exits(&mut self, place: Place, exit: Exit) {
        let name = Arc::clone(&self.members[place].config.me.name);
        let leaving = self.members[place].leaving;
        self.dies(place);
        // A container that ends is started again; a pod that was asked to leave is gone.
        if exit == Exit::LeaseLost && !leaving {
            let at = self.now + 1000 * self.random.between(500, RESTART_MS);
            self.queue.put(at, What::Starts(Some(name)));
        }
    }

    /// A process is gone, and all that runs in it. What it has sent is on its way.
    pub(crate) fn dies(&mut self, place: Place) {
        self.goes_down(place);
        self.stop_all_work(place);
        let member = &mut self.members[place];
        member.state = State::Gone;
        member.held = Vec::new();
        member.workers = Vec::new();
    }

    /// For the account of takeovers: only of what it serves.
    pub(crate) fn goes_down(&mut self, place: Place) {
        let member = &self.members[place];
        for (bucket, work) in &member.process.member.work {
            if let Work::Serving(_) = work {
                self.judge.goes_down(place, *bucket, self.now);
            }
        }
    }

    pub(crate) fn stop_all_work(&mut self, place: Place) {
        let member = &mut self.members[place];
        member.serving.clear();
        member.draining.clear();
        for worker in 0..member.workers.len() {
            let stopped = &mut self.members[place].workers[worker];
            stopped.turn += 1;
            let turn = stopped.turn;
            let stage = std::mem::replace(&mut stopped.stage, Stage::Idle);
            if let Stage::Thinking(work) | Stage::Writing(work) | Stage::Waiting(work) = stage {
                self.judge.ends(place, work.write.bucket);
            }
            let again = self.now + self.random.between(SECOND / 10, SECOND / 2);
            self.queue.put(again, What::Work(place, worker, turn));
        }
    }

    fn set_the_abort_timer(&mut self, place: Place) {
        let member = &mut self.members[place];
        let Some(at) = member.process.member.abort_at(&member.config) else {
            return;
        };
        if member.up() && member.fences_itself() && !member.abort_timer {
            member.abort_timer = true;
            let late = self.random.below(LATE_MS);
            self.queue.put(member.clock.when(at) + 1000 * late, What::Abort(place));
        }
    }

    /// It needs nobody: neither the core nor the network.
    fn abort_timer(&mut self, place: Place) {
        let member = &mut self.members[place];
        member.abort_timer = false;
        let over = member.process.member.abort_at(&member.config);
        if over.is_some_and(|at| at <= member.clock.at(self.now)) {
            self.log(|| format!("the timer stops the work of {place}"));
            self.stop_all_work(place);
            self.feed(place, self.members[place].tick(self.now));
        }
        self.set_the_abort_timer(place);
    }

    pub(crate) fn theme(&self) -> Theme {
        self.schedule.theme
    }
}
