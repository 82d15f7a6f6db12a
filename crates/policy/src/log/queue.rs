//! The bounded queue between callers and the writer.
//!
//! Promise: [`Queue::push`] holds the lock for the time of a move and never waits for the store. What has been taken is
//! settled in order, so [`Queue::wait_settled`] knows when everything before it is done.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::log::counts::Waiting;
use crate::log::options::Options;
use crate::log::store::append::Item;

/// The queue takes no more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Debug)]
pub(crate) struct Queue {
    max_records: usize,
    max_bytes: usize,
    batch_records: usize,
    backlog_records: usize,
    state: Mutex<State>,
    /// The writer waits here for records, and for the end.
    arrived: Condvar,
    /// Whoever flushes waits here.
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    /// Of all that is not settled, so also of what the writer holds.
    records: usize,
    bytes: usize,
    accepted: u64,
    settled: u64,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(options: &Options) -> Self {
        let batch_records = options.batch_records.max(1);
        Self {
            max_records: options.queue_records,
            max_bytes: options.queue_bytes,
            batch_records,
            backlog_records: options.backlog_records.max(batch_records),
            state: Mutex::default(),
            arrived: Condvar::new(),
            settled: Condvar::new(),
        }
    }

    pub(crate) fn push(&self, item: Item) -> Result<(), Full> {
        let mut state = self.lock();
        if state.closed || state.records >= self.max_records || state.bytes + item.json.len() > self.max_bytes {
            return Err(Full);
        }
        state.records += 1;
        state.bytes += item.json.len();
        state.accepted += 1;
        state.items.push_back(item);
        // The first one starts the writer's clock, and a whole batch ends its wait; the ones between need no wake-up.
        let wake = state.items.len() == 1 || state.items.len() == self.batch_records;
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits up to `idle` for a record, then up to `wait` for a whole batch. `false` when the queue is closed and empty.
    pub(crate) fn take(&self, batch: &mut Vec<Item>, wait: Duration, idle: Duration) -> bool {
        let mut state = self.wait_for(self.lock(), 1, idle);
        if !state.items.is_empty() {
            state = self.wait_for(state, self.batch_records, wait);
        }
        let count = state.items.len().min(self.backlog_records);
        batch.extend(state.items.drain(..count));
        !(state.closed && batch.is_empty())
    }

    fn wait_for<'a>(&self, state: MutexGuard<'a, State>, records: usize, wait: Duration) -> MutexGuard<'a, State> {
        self.arrived
            .wait_timeout_while(state, wait, |state| state.items.len() < records && !state.closed)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// These are done: kept, or given up and counted.
    pub(crate) fn settle(&self, items: &[Item]) {
        let bytes: usize = items.iter().map(|item| item.json.len()).sum();
        let mut state = self.lock();
        state.records = state.records.saturating_sub(items.len());
        state.bytes = state.bytes.saturating_sub(bytes);
        state.settled += items.len() as u64;
        drop(state);
        self.settled.notify_all();
    }

    /// Waits until everything that was accepted before this call is settled. `false` if that took too long.
    pub(crate) fn wait_settled(&self, timeout: Duration) -> bool {
        let state = self.lock();
        let target = state.accepted;
        let (state, _) = self
            .settled
            .wait_timeout_while(state, timeout, |state| state.settled < target)
            .unwrap_or_else(PoisonError::into_inner);
        state.settled >= target
    }

    /// Waits, but not longer than until the queue is closed.
    pub(crate) fn pause(&self, duration: Duration) {
        let until = Instant::now() + duration;
        let mut state = self.lock();
        while !state.closed {
            let Some(left) = until
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
            else {
                return;
            };
            state = self
                .arrived
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Takes no more. What is in it can still be taken out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn waiting(&self) -> Waiting {
        let state = self.lock();
        Waiting {
            accepted: state.accepted,
            records: state.records as u64,
            bytes: state.bytes as u64,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements above, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
