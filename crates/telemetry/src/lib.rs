//! What the operator says about itself: metrics, logs, health.
//!
//! Read in this order: [`label`] (the closed words that may label a series), [`metrics`] (every series there is),
//! [`health`] (alive and ready), [`server`] (the three pages that show them), [`logs`].
//!
//! Promise: the number of series does not depend on the number of Databases, and every series is there, at 0, from
//! the start: `increase()` sees the first failure, and absence means a broken scrape (`tests/series.rs`).
//! Deliberately absent: a label that holds the name of an object. Per-object detail belongs to events, conditions
//! and logs.

pub mod health;
pub mod label;
pub mod logs;
pub mod metrics;
pub mod server;

pub use health::{Health, Pulse, Readiness};
pub use label::{Action, ErrorType, Outcome, Phase, Step, WriteOutcome};
pub use logs::{Format, init_logs};
pub use metrics::Metrics;
pub use server::Server;
