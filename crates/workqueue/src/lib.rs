//! A deduplicating queue of keys, ordered by urgency. It knows nothing of Kubernetes.
//!
//! Read in this order: [`Class`] (how urgent a request is), [`State`] (the queue as a value: requests and the
//! time in, keys out; no clock, no randomness, no thread), then [`Queue`], the thin shell that owns the clock,
//! lets workers wait, and counts.
//!
//! Promises:
//! - One key, one worker: a key that is being worked on is not handed out a second time.
//! - Nothing is lost: a key asked for while it is being worked on runs again afterwards.
//! - Stingy: however often a key is asked for, one run is pending, at the earliest time and with the most
//!   urgent class of all requests since the last run began.
//! - More urgent classes go first; within a class, first come, first served.
//! - Shutdown hands out nothing more, at once, and [`Queue::drained`] waits for what runs.
//!
//! Not guaranteed: that a class is ever served while more urgent ones never run dry (the order is strict), nor
//! fairness between owners of keys. The number of pending keys has no bound of its own: it is bounded by the
//! number of distinct keys, and shown by [`Counts`].

mod backoff;
mod class;
mod metrics;
mod queue;
mod state;

pub use backoff::Backoff;
pub use class::Class;
pub use metrics::Metrics;
pub use queue::{Item, Queue};
pub use state::{Counts, InWork, State, Taken};
