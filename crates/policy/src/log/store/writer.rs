//! The thread that writes. It outlives every fault of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::Connection;

use super::append::{Item, append};
use super::prune::{Bounds, Pruned, prune};
use super::{Class, StoreError, schema};
use crate::log::counts::{Counters, DropReason};
use crate::log::options::Options;
use crate::log::queue::Queue;

/// What the writer shares with callers and readers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) counters: Counters,
    /// The store failed last time: a full queue is its fault.
    pub(crate) down: AtomicBool,
    /// Grows when another file takes the place of the one before: readers open it anew.
    pub(crate) generation: AtomicU64,
}

pub(crate) struct Writer {
    options: Options,
    shared: Arc<Shared>,
    connection: Option<Connection>,
    backoff: Duration,
    next_look: Instant,
}

impl Writer {
    pub(crate) fn new(options: Options, shared: Arc<Shared>) -> Self {
        let backoff = options.backoff_first;
        Self {
            options,
            shared,
            connection: None,
            backoff,
            next_look: Instant::now(),
        }
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let mut batch = Vec::with_capacity(self.options.batch_records);
        loop {
            // First, so that the file is there for readers before the first record.
            self.look_after();
            let idle = self.next_look.saturating_duration_since(Instant::now());
            let open = self.shared.queue.take(&mut batch, self.options.batch_wait, idle);
            if !batch.is_empty() {
                self.write(&batch);
                batch.clear();
            }
            if !open {
                return;
            }
        }
    }

    /// Writes a batch, however often it takes. At the end of the process once only.
    fn write(&mut self, batch: &[Item]) {
        loop {
            let compress_above_bytes = self.options.compress_above_bytes;
            match self.attempt(|connection| append(connection, batch, compress_above_bytes)) {
                Ok(()) => {
                    self.shared.counters.written.fetch_add(batch.len() as u64, Relaxed);
                    self.shared.counters.commits.fetch_add(1, Relaxed);
                    self.shared.queue.settle(batch);
                    return;
                }
                Err(Class::Never) if batch.len() > 1 => {
                    // One of them is to blame; the others need not go with it.
                    for item in batch {
                        self.write(std::slice::from_ref(item));
                    }
                    return;
                }
                Err(Class::Never) => return self.give_up(batch),
                Err(Class::Later | Class::Unusable) if self.shared.queue.is_closed() => return self.give_up(batch),
                Err(Class::Later | Class::Unusable) => self.wait(),
            }
        }
    }

    fn give_up(&self, batch: &[Item]) {
        self.shared
            .counters
            .drop_records(DropReason::StoreError, batch.len() as u64);
        self.shared.queue.settle(batch);
    }

    fn wait(&mut self) {
        self.shared.queue.pause(self.backoff);
        self.backoff = (self.backoff * 2).min(self.options.backoff_max);
    }

    /// Retention, from time to time.
    fn look_after(&mut self) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + self.options.retention_every;
        if self.connection.is_some() && !self.options.path.exists() {
            // Somebody removed it. What is open still takes records, but nobody would ever find them.
            self.shared.counters.store_failures.fetch_add(1, Relaxed);
            self.connection = None;
            self.shared.generation.fetch_add(1, Relaxed);
        }
        let bounds = self.bounds();
        match self.attempt(|connection| prune(connection, bounds)) {
            Ok(Pruned {
                records,
                used_bytes,
                more,
            }) => {
                self.shared.counters.pruned.fetch_add(records, Relaxed);
                self.shared.counters.used_bytes.store(used_bytes, Relaxed);
                if more {
                    // After the next batch: new records come first.
                    self.next_look = now;
                }
            }
            // Counted; records that wait will pause longer and longer by themselves.
            Err(_) => self.next_look = now + self.options.retention_every.max(self.options.backoff_first),
        }
    }

    fn bounds(&self) -> Bounds {
        let retention = self.options.retention;
        let before = retention.max_age.map(|age| {
            let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
            nanoseconds(Timestamp::now()).saturating_sub(age)
        });
        Bounds {
            before,
            max_bytes: retention.max_bytes,
        }
    }

    /// Does something with the open store; opens it first, and draws the conclusions of a failure.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Connection) -> Result<T, StoreError>) -> Result<T, Class> {
        let outcome = self.open().and_then(work);
        match outcome {
            Ok(done) => {
                self.shared.down.store(false, Relaxed);
                self.backoff = self.options.backoff_first;
                Ok(done)
            }
            Err(error) => {
                let class = error.class();
                self.shared.counters.store_failures.fetch_add(1, Relaxed);
                if class == Class::Never {
                    return Err(class);
                }
                self.shared.down.store(true, Relaxed);
                // Opened anew next time: the folder may have been mounted again, the file replaced.
                self.connection = None;
                if class == Class::Unusable && schema::move_aside(&self.options.path).is_ok() {
                    self.shared.counters.moved_aside.fetch_add(1, Relaxed);
                    self.shared.generation.fetch_add(1, Relaxed);
                }
                Err(class)
            }
        }
    }

    fn open(&mut self) -> Result<&mut Connection, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => schema::open(&self.options, nanoseconds(Timestamp::now()))?,
        };
        Ok(self.connection.insert(connection))
    }
}

/// Nanoseconds since 1970; the ends of what fits for times beyond the years 1677 and 2262.
pub(crate) fn nanoseconds(time: Timestamp) -> i64 {
    let nanoseconds = time.as_nanosecond();
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}
