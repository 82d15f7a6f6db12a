//! A simulated process: the core, its clock, its workers, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use sharding::protocol::{Config, Event, Flaw, Process};
use sharding::timing::Millis;
use sharding::{Bucket, Epoch};

use crate::judge::ObjectWrite;
use crate::network::What;
use crate::schedule::Micros;

/// A clock that runs at its own rate. None of them is ever adjusted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// What it showed when the simulation began, in milliseconds.
    pub(crate) offset: Millis,
    /// In thousandths of true time.
    pub(crate) rate: u64,
}

impl Clock {
    pub(crate) fn at(self, now: Micros) -> Millis {
        self.offset + now * self.rate / 1_000_000
    }

    /// The first true time at which it shows this.
    pub(crate) fn when(self, shows: Millis) -> Micros {
        (shows.saturating_sub(self.offset) * 1_000_000).div_ceil(self.rate)
    }

    /// How long it takes to count so much.
    pub(crate) fn true_time(self, ms: Millis) -> Micros {
        (ms * 1_000_000).div_ceil(self.rate)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    /// It does not run; what happens to it waits.
    Frozen,
    Gone,
}

/// A watch: how much of what has happened it has told, and whether it is about to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Watch {
    /// None: nothing yet, so it begins with all there is.
    pub(crate) told: Option<usize>,
    pub(crate) waking: bool,
    pub(crate) silent_until: Micros,
}

/// What a worker does next.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    Idle,
    /// It is in a reconcile, thinks, and then asks whether it may write.
    Thinking(Work),
    /// It may write, and the next moment it does.
    Writing(Work),
    Waiting(Work),
}

/// A reconcile.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) write: ObjectWrite,
    pub(crate) writes_left: u8,
}

#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) stage: Stage,
    /// Grows when its work is aborted or goes on: what was to happen before does not.
    pub(crate) turn: u32,
}

pub(crate) struct Member {
    pub(crate) config: Config,
    pub(crate) process: Process,
    pub(crate) clock: Clock,
    /// How far its wall clock is from true, in seconds.
    pub(crate) wall: i64,
    pub(crate) state: State,
    /// What happens to it when it runs again.
    pub(crate) held: Vec<What>,
    pub(crate) leases: Watch,
    pub(crate) map: Watch,
    pub(crate) workers: Vec<Worker>,
    /// Where work may start, as far as the driver was told.
    pub(crate) serving: Vec<(Bucket, Epoch)>,
    /// Whose end the core waits for.
    pub(crate) draining: BTreeSet<Bucket>,
    /// Requests without an answer yet.
    pub(crate) asked: BTreeMap<u64, Millis>,
    /// When, by its clock, the last accepted renewal of its member Lease was sent. The simulation keeps its own account.
    pub(crate) renewed_from: Option<Millis>,
    /// The timer that stops all work, if it is set.
    pub(crate) abort_timer: bool,
    /// It was asked to leave.
    pub(crate) leaving: bool,
    pub(crate) no_way_out_until: Micros,
    pub(crate) no_way_back_until: Micros,
    pub(crate) slow_until: Micros,
    pub(crate) cold_until: Micros,
}

impl Member {
    pub(crate) fn new(config: Config, clock: Clock, wall: i64, workers: u16) -> Self {
        let worker = Worker {
            stage: Stage::Idle,
            turn: 0,
        };
        Self {
            config,
            process: Process::new(100),
            clock,
            wall,
            state: State::Up,
            held: Vec::new(),
            leases: Watch::default(),
            map: Watch::default(),
            workers: vec![worker; workers.into()],
            serving: Vec::new(),
            draining: BTreeSet::new(),
            asked: BTreeMap::new(),
            renewed_from: None,
            abort_timer: false,
            leaving: false,
            no_way_out_until: 0,
            no_way_back_until: 0,
            slow_until: 0,
            cold_until: 0,
        }
    }

    pub(crate) fn up(&self) -> bool {
        self.state == State::Up
    }

    pub(crate) fn alive(&self) -> bool {
        self.state != State::Gone
    }

    pub(crate) fn serves(&self, bucket: Bucket, now: Micros) -> Option<Epoch> {
        self.process.member.serves(bucket, self.clock.at(now), &self.config)
    }

    /// What a wall clock shows, in seconds since 1970.
    pub(crate) fn tick(&self, now: Micros) -> Event {
        let unix_s = 1_800_000_000 + i64::try_from(now / 1_000_000).expect("a few minutes") + self.wall;
        Event::Tick(u64::try_from(unix_s).expect("long after 1970"))
    }

    /// How long ago, by its clock, the renewal was sent that still counts, by the simulation's account.
    fn since_renewal(&self, now: Micros) -> Millis {
        self.renewed_from
            .map_or(Millis::MAX, |sent| self.clock.at(now).saturating_sub(sent))
    }

    pub(crate) fn past_renew_deadline(&self, now: Micros) -> bool {
        self.since_renewal(now) >= self.config.timings.renew_deadline_ms()
    }

    /// A frozen process cannot stop its work, and only it is excused.
    pub(crate) fn frozen_past_its_lease(&self, now: Micros) -> bool {
        self.state == State::Frozen && self.since_renewal(now) >= self.config.timings.abort_ms()
    }

    pub(crate) fn fences_itself(&self) -> bool {
        self.config.flaw != Some(Flaw::ServePastTheDeadline)
    }
}
