//! The decision log: what was decided, kept so that it can be found again.
//!
//! Read in this order: [`Record`] (one decision), [`mask()`] (pure; what may not leave the process is taken out, and the
//! result is a [`Masked`], which only that function can make), [`Log`] (takes masked records, keeps them in SQLite on a
//! thread of its own), [`Filter`] and [`Reader`] (ask for them, newest first), [`merge`] (pages of several replicas
//! become one), [`export`] (JSONL and CSV), [`chain`] (was a record removed or changed?).
//!
//! Promises:
//! - [`Log::record`] never waits and never fails. What is not kept is counted, by [`DropReason`].
//! - What [`Log::flush`] has confirmed survives the death of the process at any moment (`tests/kill.rs`).
//! - A full disk, a missing folder or a corrupt file stops no caller; the writer tries again (`tests/trouble.rs`).
//! - A page costs a bounded amount of work, however large the store is (`examples/figures.rs` prints the plans).
//!
//! Not guaranteed: a loss of power may take the newest commits with it unless [`Durability::Power`] is chosen; a folder
//! that dies with its pod takes the log with it; and whoever can write the file can also rewrite the whole chain, which
//! only a [`Head`] kept elsewhere makes visible.
//!
//! Deliberately absent: HTTP, the Kubernetes client, who may read what (the caller says which namespaces), the log line
//! (the caller writes it from [`Masked`]).

pub mod chain;
pub mod export;
pub mod mask;

mod counts;
mod cursor;
mod decided;
mod filter;
mod handle;
mod keys;
mod merge;
mod options;
mod queue;
mod record;
mod store;

pub use chain::Head;
pub use counts::{Counts, DropReason};
pub use cursor::{Cursor, CursorError};
pub use decided::of;
pub use filter::{Filter, MAX_LIMIT};
pub use handle::{Log, StartError};
pub use mask::{Masked, mask};
pub use merge::{Answer, Entry, Merged, Missing, Page, merge};
pub use options::{Durability, Options, Retention};
pub use record::{
    Action, BundleRevision, Metrics, Operation, Record, Resource, Severity, Source, User, Verdict, Violation,
    decision_id,
};
pub use store::reader::{Entries, QueryError, Reader};
