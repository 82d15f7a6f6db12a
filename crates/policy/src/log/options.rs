//! How the log is to be kept.

use std::path::PathBuf;
use std::time::Duration;

/// When a commit counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the operating system has it: survives the death of the process, not always that of the machine.
    #[default]
    Process,
    /// When the disk has it: also survives a loss of power, and costs one sync for each commit.
    Power,
}

/// What is thrown away. Nothing by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Records older than this.
    pub max_age: Option<Duration>,
    /// The oldest records, while those kept take more than this many bytes of the file.
    pub max_bytes: Option<u64>,
}

/// How the log is to be kept. Every limit is named here.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file. Its folder must exist; if it does not, the log waits for it.
    pub path: PathBuf,
    /// What is thrown away.
    pub retention: Retention,
    /// When a commit counts as done.
    pub durability: Durability,
    /// The file never grows beyond this; then it is full, as a disk is.
    pub hard_limit_bytes: Option<u64>,
    /// So many records begin a commit at once.
    pub batch_records: usize,
    /// Records in one commit at most, when so many already wait. Larger commits write the same pages less often.
    pub backlog_records: usize,
    /// How long a commit waits for more records.
    pub batch_wait: Duration,
    /// Records that may wait for the writer.
    pub queue_records: usize,
    /// Bytes that may wait for the writer.
    pub queue_bytes: usize,
    /// The largest record, as JSON.
    pub record_bytes: usize,
    /// Bodies longer than this are compressed.
    pub compress_above_bytes: usize,
    /// The writer's page cache.
    pub cache_bytes: u64,
    /// The first wait after a failure of the store; doubled up to `backoff_max`.
    pub backoff_first: Duration,
    /// The longest wait after a failure of the store.
    pub backoff_max: Duration,
    /// How often retention is looked at.
    pub retention_every: Duration,
}

impl Options {
    /// The usual limits: 7 days or 1 GiB, a queue of 8,192 records or 16 MiB, commits after 64 records or
    /// 20 ms, of at most 512.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            retention: Retention {
                max_age: Some(Duration::from_hours(7 * 24)),
                max_bytes: Some(1 << 30),
            },
            durability: Durability::Process,
            hard_limit_bytes: None,
            batch_records: 64,
            backlog_records: 512,
            batch_wait: Duration::from_millis(20),
            queue_records: 8192,
            queue_bytes: 16 << 20,
            record_bytes: 256 << 10,
            compress_above_bytes: 4 << 10,
            cache_bytes: 8 << 20,
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            retention_every: Duration::from_secs(1),
        }
    }
}
