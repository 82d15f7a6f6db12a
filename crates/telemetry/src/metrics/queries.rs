use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, Registry};

use super::series::Tally;
use crate::label::DecisionsResult;

/// Upper bounds in seconds: from what is refused at once to the 20 s after which a request is given up. A page takes some
/// milliseconds, or 3 s where much has to be looked at.
const BUCKETS_SECONDS: [f64; 12] = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 20.0];

/// The series about requests for decisions; clones share them. What is kept is counted in [`super::PolicyMetrics`].
#[derive(Clone)]
pub struct QueryMetrics {
    /// Errors are worth an alert. So are many that are `unauthorised` or `denied`: somebody tries.
    results: Tally<DecisionsResult>,
    durations: Histogram,
}

impl QueryMetrics {
    /// Registers all series at 0.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let opts = HistogramOpts::new(
            "database_operator_decision_query_duration_seconds",
            "Time from a request for decisions to its answer.",
        );
        let durations = Histogram::with_opts(opts.buckets(BUCKETS_SECONDS.to_vec()))?;
        registry.register(Box::new(durations.clone()))?;
        Ok(Self {
            results: Tally::register(
                registry,
                "database_operator_decision_queries_total",
                "Requests for decisions, by how they ended.",
                "result",
            )?,
            durations,
        })
    }

    /// A request came to its end after so long.
    pub fn answered(&self, result: DecisionsResult, after: Duration) {
        self.results.record(result);
        self.durations.observe(after.as_secs_f64());
    }
}
