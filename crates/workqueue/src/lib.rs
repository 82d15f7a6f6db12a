//! A deduplicating queue of keys, ordered by urgency. It knows nothing of Kubernetes.
//!
//! Read in this order: [`Class`] (how urgent a request is), [`Key`] (whose it is), `turns.rs` (who is next), `table.rs`
//! (where a key is), [`State`] (the queue as a value: requests and the time in, keys out; no clock, no randomness, no
//! thread), then [`Queue`], the thin shell that asks the clock, lets workers wait, and counts.
//!
//! Promises:
//! - One key, one worker: a key that is being worked on is not handed out a second time.
//! - Nothing is lost: a key asked for while it is being worked on runs again afterwards.
//! - Stingy: however often a key is asked for, one run is pending, at the earliest time and with the most
//!   urgent class of all requests since the last run began.
//! - More urgent classes go first. A class that has waited for too long ([`Limits::ageing`]) gets every second turn, and
//!   several such classes share these: so no class waits without end, and none is overrun by old work either.
//! - Within a class, tenants take turns, whatever each has waiting; within a tenant, first come, first served.
//! - Retries spend tokens ([`Limits::retries`]), so that what fails does not keep everybody busy.
//! - At [`Limits::capacity`] resyncs are shed, then retries and repairs, never a user's change or a deletion; and once
//!   there is room again, [`Queue::recall`] says that everything is to be asked for again.
//! - Shutdown hands out nothing more, at once, and [`Queue::drained`] waits for what runs.

mod ages;
mod backoff;
mod class;
mod key;
mod limits;
mod metrics;
mod queue;
mod state;
mod table;
mod turns;

pub use backoff::Backoff;
pub use class::Class;
pub use key::Key;
pub use limits::{Limits, RetryRate};
pub use metrics::Metrics;
pub use queue::{Item, Queue};
pub use state::{Counts, InWork, State, Taken};
