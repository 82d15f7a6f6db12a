//! What happens when: a queue in true time, and the ways of requests, answers and news.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use sharding::protocol::{Command, Event};
use sharding::timing::Millis;

use crate::judge::{ObjectWrite, Place, Verdict};
use crate::schedule::{Fault, Micros};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Leases,
    Map,
}

/// A request of a core, on its way.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) from: Place,
    pub(crate) number: u64,
    pub(crate) command: Command,
    /// By the clock of the sender.
    pub(crate) sent_ms: Millis,
    /// After this, in true time, nobody waits for an answer.
    pub(crate) until: Micros,
}

/// A write of an object, on its way.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) from: Place,
    pub(crate) worker: usize,
    pub(crate) turn: u32,
    pub(crate) write: ObjectWrite,
    pub(crate) until: Micros,
}

/// What happens.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Tick(Place),
    /// The timer that stops all work.
    Abort(Place),
    /// A watch tells.
    Tell(Place, Which),
    /// The watches for a round are warm.
    Warm(Place, u64),
    /// A worker goes on.
    Work(Place, usize, u32),
    /// A request arrives at the API server.
    Arrives(Box<Request>),
    Answered(Box<Request>, Box<Event>),
    WriteArrives(Box<Sent>),
    WriteAnswered(Box<Sent>, Option<Verdict>),
    Fault(Fault),
    Thaw(Place),
    /// A process starts, under this name or a new one.
    Starts(Option<Arc<str>>),
    /// Somebody leaves.
    Leaves,
    /// From here on changes of ownership are counted.
    Begins,
    /// The simulation looks whether everything is served again.
    Look,
}

impl What {
    /// Which process has to run for it to happen.
    pub(crate) fn needs(&self) -> Option<Place> {
        match self {
            Self::Tick(place)
            | Self::Abort(place)
            | Self::Tell(place, _)
            | Self::Warm(place, _)
            | Self::Work(place, ..) => Some(*place),
            Self::Answered(request, _) => Some(request.from),
            Self::WriteAnswered(sent, _) => Some(sent.from),
            Self::Arrives(_)
            | Self::WriteArrives(_)
            | Self::Fault(_)
            | Self::Thaw(_)
            | Self::Starts(_)
            | Self::Leaves
            | Self::Begins
            | Self::Look => None,
        }
    }
}

/// In order of time, and of one time in the order in which it was put in.
#[derive(Default)]
pub(crate) struct Queue {
    order: BinaryHeap<Reverse<(Micros, u64, usize)>>,
    /// By the number in `order`. Those that have happened are used again.
    waiting: Vec<Option<What>>,
    free: Vec<usize>,
    put: u64,
}

impl Queue {
    pub(crate) fn put(&mut self, at: Micros, what: What) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.waiting.push(None);
            self.waiting.len() - 1
        });
        self.waiting[slot] = Some(what);
        self.put += 1;
        self.order.push(Reverse((at, self.put, slot)));
    }

    pub(crate) fn next(&mut self) -> Option<(Micros, What)> {
        let Reverse((at, _, slot)) = self.order.pop()?;
        self.free.push(slot);
        let what = self.waiting[slot].take().expect("it waits once");
        Some((at, what))
    }
}
