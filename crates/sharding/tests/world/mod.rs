//! A fleet of real protocol cores around a model of an API server. The golden scripts play in it, and the model check
//! explores it. Simulated: objects have versions, writes are compare-and-swap, watches may be late, answers may be lost,
//! and a request may arrive long after its sender has given up on it.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod canonical;
pub(crate) mod invariants;
pub(crate) mod server;

use std::collections::VecDeque;
use std::sync::Arc;

use sharding::map::{Expected, ShardMap};
use sharding::protocol::{
    self, Answer, Candidate, Command, Config, Event, Flaw, Incarnation, Kept, Member, Process, Work,
};
use sharding::timing::{Millis, Timings};
use sharding::{Bucket, Epoch};

pub(crate) use server::{Guard, Server};

pub(crate) const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// What is the same in all states of one exploration.
pub(crate) struct Setup {
    pub(crate) timings: Timings,
    pub(crate) buckets: u16,
    pub(crate) shards: u16,
    pub(crate) flaw: Option<Flaw>,
    /// Preconditions that are not sent.
    pub(crate) without: Option<Guard>,
    /// Fences are met that ask for a raise.
    pub(crate) raises: bool,
    /// By how much each clock moves in a tick, which is one true second.
    pub(crate) rates: [Millis; 4],
    configs: Vec<Vec<Config>>,
}

impl Setup {
    pub(crate) fn new(flaw: Option<Flaw>, shards: u16) -> Self {
        Self {
            timings: Timings::FAST,
            buckets: 2,
            shards,
            flaw,
            without: None,
            raises: false,
            rates: [1000; 4],
            configs: Vec::new(),
        }
        .configured()
    }

    pub(crate) fn configured(mut self) -> Self {
        let config = |slot: usize, nonce: u64| Config {
            me: Incarnation {
                name: NAMES[slot].into(),
                nonce,
            },
            timings: self.timings,
            expected: Expected {
                installation: "here".into(),
                buckets: self.buckets,
            },
            shards: self.shards,
            prepare_ms: 20_000,
            assign: last_come_first_served,
            flaw: self.flaw,
        };
        self.configs = (0..NAMES.len())
            .map(|slot| (0..8).map(|nonce| config(slot, nonce)).collect())
            .collect();
        self
    }

    pub(crate) fn config(&self, proc: &Proc) -> &Config {
        &self.configs[proc.slot][usize::try_from(proc.nonce).expect("few restarts")]
    }
}

/// A trivial assignment that moves much: the buckets go round the fit members, the last one first, so that a member that
/// joins moves all of them. A standby (more members than shards) takes the buckets of an unfit owner whole.
fn last_come_first_served(owners: &[Option<u16>], candidates: &[Candidate], shards: u16) -> Vec<Option<u16>> {
    let fit = |place: u16| candidates[usize::from(place)].fit;
    let places = 0..u16::try_from(candidates.len()).expect("few");
    let owns = |place: &u16| owners.contains(&Some(*place));
    let mut active: Vec<u16> = places.clone().filter(|place| fit(*place) && owns(place)).collect();
    active.truncate(shards.into());
    let mut heirs = owners.to_vec();
    let mut standbys = places
        .filter(|place| fit(*place) && !owns(place))
        .collect::<VecDeque<_>>();
    for owner in owners.iter().flatten() {
        if !fit(*owner)
            && active.len() < shards.into()
            && heirs.contains(&Some(*owner))
            && let Some(heir) = standbys.pop_front()
        {
            active.push(heir);
            for place in heirs.iter_mut().filter(|place| **place == Some(*owner)) {
                *place = Some(heir);
            }
        }
    }
    let joined = standbys
        .iter()
        .take(usize::from(shards).saturating_sub(active.len()))
        .count();
    active.extend(standbys.iter().take(joined));
    let settled = |owner: &Option<u16>| owner.is_some_and(|owner| active.contains(&owner));
    if joined == 0 && heirs.iter().all(settled) {
        return heirs;
    }
    active.sort_unstable_by(|a, b| b.cmp(a));
    (0..owners.len())
        .map(|bucket| (!active.is_empty()).then(|| active[bucket % active.len()]))
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// Starts after so many ticks; 0: when it is told to.
    Waits(u8),
    Up,
    /// For so many turns.
    Frozen(u8),
    Gone,
}

/// Which request of a turn a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    Member,
    Coordinator,
    Take,
    Forget,
    Map,
    List,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mishap {
    /// Not answered in time, and applied at some later time or never.
    Delayed,
    /// Applied; the answer is lost.
    Unanswered,
    /// Applied; the answer comes later.
    Slow,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Proc {
    pub(crate) slot: usize,
    pub(crate) nonce: u64,
    pub(crate) state: State,
    pub(crate) clock: Millis,
    pub(crate) process: Process,
    /// The watch of the map says nothing, since so many turns.
    pub(crate) late_map: Option<u8>,
    /// The watches of the Leases say nothing, since so many turns.
    pub(crate) late_leases: Option<u8>,
    /// Answers on their way, since so many turns, and when their requests were sent, if they renew the member Lease.
    pub(crate) answers: Vec<(u8, Event, Option<Millis>)>,
    /// Answers that have arrived and were not looked at yet.
    pub(crate) arrived: Vec<Event>,
    /// When, by its clock, the last accepted renewal of its member Lease was sent. The world keeps its own account.
    pub(crate) renewed_from: Option<Millis>,
}

impl Proc {
    fn new(slot: usize, nonce: u64, state: State) -> Self {
        Self {
            slot,
            nonce,
            state,
            clock: 100_000,
            process: Process::new(1),
            late_map: None,
            late_leases: None,
            answers: Vec::new(),
            arrived: Vec::new(),
            renewed_from: None,
        }
    }

    pub(crate) fn up(&self) -> bool {
        self.state == State::Up
    }

    pub(crate) fn member(&self) -> &Member {
        &self.process.member
    }

    /// In what a write of it may be on its way, whatever its timer says: it may be frozen.
    pub(crate) fn may_write_in(&self) -> impl Iterator<Item = (Bucket, Epoch)> + '_ {
        self.member().work.iter().map(|(bucket, work)| match work {
            Work::Serving(epoch) | Work::Draining(epoch) => (*bucket, *epoch),
        })
    }

    /// In what it works at this moment, as far as its own timer lets it.
    pub(crate) fn works_in<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = (Bucket, Epoch)> + 'a {
        let deadline = self.member().abort_at(config).unwrap_or(Millis::MAX);
        let unstoppable = config.flaw == Some(Flaw::ServePastTheDeadline);
        let works = self.clock < deadline || unstoppable;
        self.may_write_in().filter(move |_| works)
    }
}

/// A request that its sender has given up on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Packet {
    pub(crate) age: u8,
    pub(crate) from: usize,
    pub(crate) request: Command,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) server: Server,
    /// Shared between worlds, since most of them do not change in a step.
    pub(crate) procs: Vec<Arc<Proc>>,
    pub(crate) net: Vec<Packet>,
    /// The last writes of the map, for the invariants: before and after.
    pub(crate) written: Vec<(Option<Arc<ShardMap>>, Arc<ShardMap>)>,
}

/// What a turn is told to do besides the ordinary.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Turn {
    pub(crate) mishap: Option<(Target, Mishap)>,
    /// Work that drains does not end yet.
    pub(crate) busy: bool,
    pub(crate) event: Option<Told>,
}

/// What happens to a process from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Told {
    Leave,
    GiveUp,
    /// A copy of the map before the last one.
    OldMap,
    /// A newer fence on an object.
    Fence(Bucket, Epoch),
}

impl World {
    pub(crate) fn new(waits: &[u8]) -> Self {
        let procs = waits.iter().enumerate();
        Self {
            server: Server::default(),
            procs: procs
                .map(|(slot, ticks)| Arc::new(Proc::new(slot, 0, State::Waits(*ticks))))
                .collect(),
            net: Vec::new(),
            written: Vec::new(),
        }
    }

    /// A process, to be changed.
    pub(crate) fn proc(&mut self, slot: usize) -> &mut Proc {
        Arc::make_mut(&mut self.procs[slot])
    }

    /// One true second passes.
    pub(crate) fn pass(&mut self, setup: &Setup) {
        for proc in &mut self.procs {
            let proc = Arc::make_mut(proc);
            proc.clock += setup.rates[proc.slot];
            match &mut proc.state {
                State::Waits(1) => proc.state = State::Up,
                State::Waits(ticks) => *ticks = ticks.saturating_sub(1),
                State::Up | State::Frozen(_) | State::Gone => {}
            }
        }
    }

    pub(crate) fn restart(&mut self, slot: usize) {
        let clock = self.procs[slot].clock;
        let nonce = self.procs[slot].nonce + 1;
        let mut proc = Proc::new(slot, nonce, State::Up);
        proc.clock = clock;
        self.procs[slot] = Arc::new(proc);
    }

    /// All that a process does at one moment: news, time, and its requests until it has no more. Returns what it was told
    /// and what it did.
    pub(crate) fn turn(&mut self, slot: usize, turn: Turn, setup: &Setup) -> Vec<(Event, Vec<Command>)> {
        let mut events = self.news(slot, turn);
        for answer in self.proc(slot).arrived.drain(..).rev() {
            events.push_front(answer);
        }
        let mut log = Vec::new();
        let mut mishap = turn.mishap;
        while let Some(event) = events.pop_front() {
            let proc = self.proc(slot);
            let config = setup.config(proc);
            let process = std::mem::replace(&mut proc.process, Process::new(0));
            let (process, commands) = protocol::step(process, &event, proc.clock, config);
            proc.process = process;
            for command in &commands {
                if let Command::Exit(_) = command {
                    self.proc(slot).state = State::Gone;
                    log.push((event, commands));
                    return log;
                }
                let target = target_of(command);
                let hit = mishap.filter(|(hit, _)| Some(*hit) == target).map(|(_, mishap)| mishap);
                if hit.is_some() {
                    mishap = None;
                }
                events.extend(self.request(slot, command, hit, setup));
            }
            log.push((event, commands));
            assert!(log.len() < 200, "it never comes to rest: {:?}", &log[190..]);
        }
        log
    }

    fn request(&mut self, slot: usize, command: &Command, mishap: Option<Mishap>, setup: &Setup) -> Option<Event> {
        let clock = self.procs[slot].clock;
        let sent = matches!(command, Command::Write(Kept::Member, ..)).then_some(clock);
        if mishap == Some(Mishap::Delayed) {
            self.net.push(Packet {
                age: 0,
                from: slot,
                request: command.clone(),
            });
            return unanswered(command);
        }
        let answer = self
            .server
            .apply(NAMES[slot], command, setup.without, &mut self.written)?;
        match mishap {
            None => {
                self.account(slot, &answer, sent);
                Some(answer)
            }
            Some(Mishap::Unanswered) => unanswered(command),
            Some(Mishap::Slow) => {
                self.proc(slot).answers.push((0, answer, sent));
                None
            }
            Some(Mishap::Delayed) => unreachable!("returned above"),
        }
    }

    fn account(&mut self, slot: usize, answer: &Event, sent: Option<Millis>) {
        if let (Event::Written(Kept::Member, Answer::Accepted { .. }), Some(sent)) = (answer, sent) {
            self.proc(slot).renewed_from = Some(sent);
        }
    }

    /// What a process learns before time passes for it.
    fn news(&self, slot: usize, turn: Turn) -> VecDeque<Event> {
        let mut events = VecDeque::new();
        let proc = &self.procs[slot];
        if proc.late_leases.is_none() {
            events.extend(self.server.lease_news(&proc.process.leader));
        }
        if proc.late_map.is_none() {
            events.extend(
                self.server
                    .map_news(proc.process.member.map.as_ref().map(|(version, _)| *version)),
            );
        }
        match turn.event {
            Some(Told::Leave) => events.push_back(Event::Leave),
            Some(Told::GiveUp) => events.push_back(Event::GiveUp),
            Some(Told::OldMap) => events.extend(self.server.old_map()),
            Some(Told::Fence(bucket, epoch)) => events.push_back(Event::Fence(bucket, epoch)),
            None => {}
        }
        let member = proc.member();
        if !turn.busy {
            let draining = member.work.iter().filter(|(_, work)| matches!(work, Work::Draining(_)));
            events.extend(draining.map(|(bucket, _)| Event::Idle(*bucket)));
        }
        if member.prepared != member.warm {
            events.push_back(Event::Warm(member.prepared));
        }
        events.push_back(Event::Tick(self.server.highest));
        events
    }

    /// An answer that was on its way will be the first thing that its receiver learns in its next turn.
    pub(crate) fn arrive(&mut self, slot: usize, index: usize) {
        let (_, answer, sent) = self.proc(slot).answers.remove(index);
        self.account(slot, &answer, sent);
        self.proc(slot).arrived.push(answer);
    }

    /// A delayed request arrives; its sender does not hear of it.
    pub(crate) fn land(&mut self, index: usize, setup: &Setup) {
        let packet = self.net.remove(index);
        let from = NAMES[packet.from];
        let _ = self
            .server
            .apply(from, &packet.request, setup.without, &mut self.written);
    }

    /// Forgets delayed requests that can never be applied: they make states different that are not.
    pub(crate) fn forget_hopeless(&mut self, setup: &Setup) {
        if setup.without.is_none() {
            let server = &self.server;
            self.net
                .retain(|packet| !server.is_hopeless(NAMES[packet.from], &packet.request));
        }
    }

    /// Every bucket is worked on by its owner, and nothing is under way.
    pub(crate) fn settled(&self, setup: &Setup) -> bool {
        let Some((_, map)) = &self.server.map else { return false };
        let served = |bucket: Bucket| {
            let owner = map.owner(bucket)?;
            let proc = self
                .procs
                .iter()
                .find(|proc| proc.up() && setup.config(proc).me == *owner)?;
            let epoch = proc.member().serves(bucket, proc.clock, setup.config(proc))?;
            (Some(epoch) == map.epoch(bucket)).then_some(())
        };
        map.round.is_none() && map.buckets().all(|bucket| served(bucket).is_some())
    }
}

/// What a fault of a request is called.
fn target_of(command: &Command) -> Option<Target> {
    match command {
        Command::Write(Kept::Member, ..) => Some(Target::Member),
        Command::Write(Kept::Coordinator, ..) => Some(Target::Coordinator),
        Command::Take(..) => Some(Target::Take),
        Command::Forget(..) => Some(Target::Forget),
        Command::WriteMap(..) => Some(Target::Map),
        Command::ListLeases => Some(Target::List),
        Command::Read(_)
        | Command::ReadMap
        | Command::Start(..)
        | Command::Drain(_)
        | Command::Prepare(..)
        | Command::Abort
        | Command::Refuse(_)
        | Command::Exit(_) => None,
    }
}

/// What the sender of a request is told that gets no answer.
pub(crate) fn unanswered(command: &Command) -> Option<Event> {
    match command {
        Command::Read(kept) => Some(Event::Read(*kept, None)),
        Command::ReadMap => Some(Event::MapUnread),
        Command::Write(kept, ..) => Some(Event::Written(*kept, Answer::Unknown)),
        Command::Take(name, ..) => Some(Event::Taken(Arc::clone(name), Answer::Unknown)),
        Command::Forget(name, ..) => Some(Event::Forgotten(Arc::clone(name), Answer::Unknown)),
        Command::WriteMap(..) => Some(Event::MapWritten(Answer::Unknown)),
        Command::ListLeases => Some(Event::Listed(None)),
        _ => None,
    }
}
