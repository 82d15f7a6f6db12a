//! The log as its callers see it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::log::counts::{Counters, Counts, DropReason};
use crate::log::keys::Keys;
use crate::log::mask::Masked;
use crate::log::options::Options;
use crate::log::queue::Queue;
use crate::log::record::Record;
use crate::log::store::append::Item;
use crate::log::store::reader::Reader;
use crate::log::store::writer::{Shared, Writer, nanoseconds};

/// Keeps decisions, on a thread of its own.
///
/// Dropping it takes no more records, writes what waits (once, if the store fails), and ends the thread.
#[derive(Debug)]
pub struct Log {
    options: Options,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// The log cannot begin at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no thread to be had.
    #[error("the decision log gets no thread")]
    Thread(#[from] io::Error),
}

impl Log {
    /// Begins. A store that cannot be opened is no error here: the log counts, and tries again.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let shared = Arc::new(Shared {
            queue: Queue::new(&options),
            counters: Counters::default(),
            down: AtomicBool::new(false),
            generation: AtomicU64::new(0),
        });
        let writer = Writer::new(options.clone(), Arc::clone(&shared));
        let writer = thread::Builder::new()
            .name("decision-log".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self {
            options,
            shared,
            writer: Some(writer),
        })
    }

    /// Keeps a record. Returns at once and never fails; what is not kept is counted.
    pub fn record(&self, masked: &Masked) {
        let record = masked.record();
        let Some(json) = self.fitting(record) else {
            return self.shared.counters.drop_records(DropReason::TooLarge, 1);
        };
        let item = Item {
            time: nanoseconds(record.timestamp),
            salt: record.decision_id.as_u64_pair().1,
            keys: Keys::of(record),
            json,
        };
        if self.shared.queue.push(item).is_err() {
            let down = self.shared.down.load(Relaxed);
            let reason = if down {
                DropReason::StoreError
            } else {
                DropReason::QueueFull
            };
            self.shared.counters.drop_records(reason, 1);
        }
    }

    /// The record as JSON; without its input if that makes it too large. Else whoever pads a Database would keep what they
    /// do out of the log.
    fn fitting(&self, record: &Record) -> Option<Vec<u8>> {
        let fits = |json: &Vec<u8>| json.len() <= self.options.record_bytes;
        let whole = serde_json::to_vec(record).ok()?;
        if fits(&whole) {
            return Some(whole);
        }
        let mut record = record.clone();
        record.input.take()?;
        let within = |pointer: &String| pointer.starts_with("/input/");
        record.erased.retain(|pointer| !within(pointer));
        record.masked.retain(|pointer| !within(pointer));
        record.erased.push("/input".to_owned());
        serde_json::to_vec(&record).ok().filter(fits)
    }

    /// Waits until every record that came before is committed, or given up and counted. `false` after the timeout.
    ///
    /// May wait for [`Options::batch_wait`] and a commit; not for the path of a request, but for a shutdown.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        self.shared.queue.wait_settled(timeout)
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counters.counts(self.shared.queue.waiting())
    }

    /// Something to ask with. Each has its own connection, and none ever holds up the writer.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::following(self.options.path.clone(), Arc::clone(&self.shared))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(writer) = self.writer.take() {
            // It has nothing to say; if it panicked, its records are lost, and the counts show that.
            drop(writer.join());
        }
    }
}
