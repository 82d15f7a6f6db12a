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

use std::time::Duration;

pub use health::{Busy, Health};
pub use label::{Action, ErrorType, Outcome, Phase, Step, Verdict, WriteOutcome};
pub use logs::{Format, Replica, chain, init_logs};
pub use metrics::{
    FleetMetrics, HttpsMetrics, Metrics, PolicyMetrics, QueryMetrics, QueueMetrics, Requests, WebhookMetrics,
};
pub use server::Server;

/// What a running operator reports through; clones share it.
#[derive(Clone)]
pub struct Telemetry {
    /// All series.
    pub metrics: Metrics,
    /// Alive, and ready.
    pub health: Health,
}

impl Telemetry {
    /// All series at 0, alive, not ready. For `version`, see [`Metrics::new`]; for `stuck_after`, [`Health::new`].
    pub fn new(version: &str, stuck_after: Duration) -> Result<Self, metrics::RegisterError> {
        Ok(Self {
            metrics: Metrics::new(version)?,
            health: Health::new(stuck_after),
        })
    }
}
