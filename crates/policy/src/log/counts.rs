//! What the log counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a record was not kept. A closed set, so it may be a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The writer is alive, but slower than what comes in.
    QueueFull,
    /// The record is larger than a record may be, without its input too, or is no JSON.
    TooLarge,
    /// The store fails, and the queue filled up meanwhile; or it refused just these records.
    StoreError,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::TooLarge, Self::StoreError];

    /// The name for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TooLarge => "too_large",
            Self::StoreError => "store_error",
        }
    }
}

/// What has happened since the log began. All only grow, except `queued` and the two sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that were taken into the queue.
    pub accepted: u64,
    /// Records that are in the store.
    pub written: u64,
    /// Records that are not, by [`DropReason`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Records that wait.
    pub queued: u64,
    /// Bytes that wait.
    pub queued_bytes: u64,
    /// Commits of records.
    pub commits: u64,
    /// Failures of the store: opening, writing, clearing out.
    pub store_failures: u64,
    /// Files that could not be used and were moved aside.
    pub moved_aside: u64,
    /// Records that retention removed.
    pub pruned: u64,
    /// Bytes that the records take in the file, when last looked at.
    pub used_bytes: u64,
}

impl Counts {
    /// Records that were not kept for this reason.
    #[must_use]
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }
}

/// What the queue knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) accepted: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// The live counters behind [`Counts`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) written: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    pub(crate) commits: AtomicU64,
    pub(crate) store_failures: AtomicU64,
    pub(crate) moved_aside: AtomicU64,
    pub(crate) pruned: AtomicU64,
    pub(crate) used_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn drop_records(&self, reason: DropReason, records: u64) {
        self.dropped[reason as usize].fetch_add(records, Relaxed);
    }

    pub(crate) fn counts(&self, waiting: Waiting) -> Counts {
        Counts {
            accepted: waiting.accepted,
            written: self.written.load(Relaxed),
            dropped: std::array::from_fn(|reason| self.dropped[reason].load(Relaxed)),
            queued: waiting.records,
            queued_bytes: waiting.bytes,
            commits: self.commits.load(Relaxed),
            store_failures: self.store_failures.load(Relaxed),
            moved_aside: self.moved_aside.load(Relaxed),
            pruned: self.pruned.load(Relaxed),
            used_bytes: self.used_bytes.load(Relaxed),
        }
    }
}
