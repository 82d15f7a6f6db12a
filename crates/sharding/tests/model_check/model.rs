//! What can happen next to a fleet.

use std::collections::BTreeSet;

use crate::world::{Mishap, NAMES, Setup, State, Target, Told, Turn, World};
use sharding::protocol::{Command, Kept, Work};

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Longest freeze, delay of a request, and silence of a watch, in turns. More than a Lease.
    pub(crate) long: u8,
    /// Longest delay of an answer, in turns. More than the driver waits.
    pub(crate) short: u8,
    /// Which faults there are.
    pub(crate) faults: &'static [Fault],
    /// An exploration that passes this has failed.
    pub(crate) states: usize,
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    Crash,
    Restart,
    Freeze,
    /// Of any request or answer.
    Message,
    /// Of a renewal of a member Lease or its answer.
    Renewal,
    LateMap,
    LateLeases,
    OldMap,
    DeleteMap,
    EditMap,
    RestoreMap,
    Leave,
    /// Somebody asks that it own nothing, or takes that back.
    Drain,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Choice {
    /// A second passes.
    Pass,
    /// It is not this member's turn: it does not run.
    Skip,
    Turn,
    /// A turn in which work that drains goes on.
    Busy,
    /// A delayed request arrives.
    Land(usize),
    /// An answer arrives.
    Arrive(usize),
    /// A watch speaks again.
    Hear,
    Thaw,
    Fail(Fault),
    Mishap(Target, Mishap),
}

/// A state: the world, whose turn it is, and what may still go wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) world: World,
    pub(crate) slot: usize,
    pub(crate) faults_left: u8,
}

impl Node {
    pub(crate) fn settled(&self, setup: &Setup) -> bool {
        // Nothing pending, or the next moment might undo it.
        self.world.net.is_empty() && self.world.settled(setup)
    }

    /// What happens if nothing else can.
    pub(crate) fn only_choice(&self) -> Option<Choice> {
        if !self.world.net.is_empty() {
            return None;
        }
        let Some(proc) = self.world.procs.get(self.slot) else {
            return Some(Choice::Pass);
        };
        let nothing_pending = proc.answers.is_empty() && proc.late_map.is_none() && proc.late_leases.is_none();
        let drains = proc
            .member()
            .work
            .values()
            .any(|work| matches!(work, Work::Draining(_)));
        match proc.state {
            State::Waits(_) | State::Gone => Some(Choice::Skip),
            State::Up if self.faults_left == 0 && nothing_pending && !drains => Some(Choice::Turn),
            State::Up | State::Frozen(_) => None,
        }
    }

    /// All that can happen. First what does if nothing goes wrong any more.
    pub(crate) fn choices(&self, setup: &Setup, limits: Limits) -> Vec<Choice> {
        let mut choices: Vec<Choice> = (0..self.world.net.len()).map(Choice::Land).collect();
        if self.slot == self.world.procs.len() {
            choices.push(Choice::Pass);
            return choices;
        }
        let proc = &self.world.procs[self.slot];
        match proc.state {
            State::Waits(_) | State::Gone => choices.push(Choice::Skip),
            State::Frozen(turns) => {
                choices.push(Choice::Thaw);
                if turns < limits.long {
                    choices.push(Choice::Skip);
                }
            }
            State::Up => self.choices_of_a_turn(setup, limits, &mut choices),
        }
        choices
    }

    fn choices_of_a_turn(&self, setup: &Setup, limits: Limits, choices: &mut Vec<Choice>) {
        let proc = &self.world.procs[self.slot];
        choices.extend((0..proc.answers.len()).map(Choice::Arrive));
        if proc.late_map.is_some() || proc.late_leases.is_some() {
            choices.push(Choice::Hear);
        }
        let overdue = proc.answers.iter().any(|(turns, ..)| *turns >= limits.short)
            || [proc.late_map, proc.late_leases]
                .into_iter()
                .flatten()
                .any(|turns| turns >= limits.long);
        if overdue {
            return;
        }
        choices.push(Choice::Turn);
        if proc
            .member()
            .work
            .values()
            .any(|work| matches!(work, Work::Draining(_)))
        {
            choices.push(Choice::Busy);
        }
        if self.faults_left > 0 {
            for fault in limits.faults {
                match fault {
                    Fault::Message => choices.extend(self.mishaps(setup, None)),
                    Fault::Renewal => choices.extend(self.mishaps(setup, Some(Target::Member))),
                    _ if self.possible(*fault) => choices.push(Choice::Fail(*fault)),
                    _ => {}
                }
            }
        }
    }

    fn possible(&self, fault: Fault) -> bool {
        let proc = &self.world.procs[self.slot];
        let member = proc.member();
        match fault {
            Fault::LateMap => proc.late_map.is_none(),
            Fault::LateLeases => proc.late_leases.is_none(),
            Fault::OldMap => self.world.server.old.is_some(),
            // Once for all members.
            Fault::DeleteMap | Fault::EditMap => self.slot == 0 && self.world.server.map.is_some(),
            Fault::RestoreMap => self.slot == 0 && self.world.server.old.is_some(),
            Fault::Leave => !member.leaving,
            Fault::Drain => self.world.server.leases.contains_key(NAMES[self.slot]),
            Fault::Crash | Fault::Restart | Fault::Freeze | Fault::Message | Fault::Renewal => true,
        }
    }

    /// What can befall the requests that the next turn sends.
    fn mishaps(&self, setup: &Setup, only: Option<Target>) -> Vec<Choice> {
        let mut world = self.world.clone();
        let log = world.turn(self.slot, Turn::default(), setup);
        let targets: BTreeSet<Target> = log
            .iter()
            .flat_map(|(_, commands)| commands)
            .filter_map(|command| match command {
                Command::Write(Kept::Member, ..) => Some(Target::Member),
                Command::Write(Kept::Coordinator, ..) => Some(Target::Coordinator),
                Command::Take(..) => Some(Target::Take),
                Command::Forget(..) => Some(Target::Forget),
                Command::WriteMap(..) => Some(Target::Map),
                Command::ListLeases => Some(Target::List),
                _ => None,
            })
            .collect();
        let mut mishaps = Vec::new();
        for target in targets
            .into_iter()
            .filter(|target| only.is_none_or(|only| only == *target))
        {
            // A request that is applied while its answer is lost is one that was delayed for no time. A list changes nothing.
            let lost = if target == Target::List {
                Mishap::Unanswered
            } else {
                Mishap::Delayed
            };
            mishaps.extend([lost, Mishap::Slow].map(|mishap| Choice::Mishap(target, mishap)));
        }
        mishaps
    }

    pub(crate) fn choose(&mut self, choice: Choice, setup: &Setup) {
        let slot = self.slot;
        match choice {
            Choice::Pass => {
                self.world.pass(setup);
                self.world.net.iter_mut().for_each(|packet| packet.age += 1);
                // A request older than this is as good as lost.
                self.world.net.retain(|packet| packet.age < 10);
                self.slot = 0;
            }
            Choice::Skip => {
                if let State::Frozen(turns) = &mut self.world.proc(slot).state {
                    *turns += 1;
                }
                self.slot += 1;
            }
            Choice::Turn => self.turn(Turn::default(), setup),
            Choice::Busy => self.turn(
                Turn {
                    busy: true,
                    ..Turn::default()
                },
                setup,
            ),
            Choice::Land(index) => self.world.land(index, setup),
            Choice::Arrive(index) => self.world.arrive(slot, index),
            Choice::Hear => {
                self.world.proc(slot).late_map = None;
                self.world.proc(slot).late_leases = None;
            }
            Choice::Thaw => self.world.proc(slot).state = State::Up,
            Choice::Fail(fault) => {
                self.faults_left -= 1;
                self.fail(fault, setup);
            }
            Choice::Mishap(target, mishap) => {
                self.faults_left -= 1;
                self.turn(
                    Turn {
                        mishap: Some((target, mishap)),
                        ..Turn::default()
                    },
                    setup,
                );
            }
        }
        self.world.forget_hopeless(setup);
    }

    fn fail(&mut self, fault: Fault, setup: &Setup) {
        let slot = self.slot;
        let told = |event| Turn {
            event: Some(event),
            ..Turn::default()
        };
        let proc = self.world.proc(slot);
        match fault {
            Fault::Crash => proc.state = State::Gone,
            Fault::Restart => self.world.restart(slot),
            Fault::Freeze => {
                proc.state = State::Frozen(1);
                self.slot += 1;
            }
            // A silence that does not last for one turn is none.
            Fault::LateMap => {
                proc.late_map = Some(0);
                self.turn(Turn::default(), setup);
            }
            Fault::LateLeases => {
                proc.late_leases = Some(0);
                self.turn(Turn::default(), setup);
            }
            Fault::OldMap => self.turn(told(Told::OldMap), setup),
            Fault::Leave => self.turn(told(Told::Leave), setup),
            Fault::Drain => {
                let name = NAMES[slot];
                let drained = self.world.server.leases[name].record.report.drain;
                self.world.server.drain(name, !drained);
            }
            Fault::DeleteMap => self.world.server.delete_map(),
            Fault::EditMap => self.world.server.edit_map(),
            Fault::RestoreMap => self.world.server.restore_map(),
            Fault::Message | Fault::Renewal => unreachable!("it is a choice of its own"),
        }
    }

    fn turn(&mut self, turn: Turn, setup: &Setup) {
        self.world.turn(self.slot, turn, setup);
        let proc = self.world.proc(self.slot);
        proc.answers.iter_mut().for_each(|(turns, ..)| *turns += 1);
        for turns in [&mut proc.late_map, &mut proc.late_leases].into_iter().flatten() {
            *turns += 1;
        }
        self.slot += 1;
    }
}
