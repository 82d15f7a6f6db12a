use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, Registry};

use super::series::Tally;
use crate::label::{WebhookOutcome, WebhookShed};

/// Upper bounds in seconds: from what needs no policies to the 4 s after which an answer is none; most take about a
/// millisecond.
const BUCKETS_SECONDS: [f64; 13] = [
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 4.0,
];

/// The series about the webhook; clones share them. How long policies themselves take is in [`super::PolicyMetrics`].
#[derive(Clone)]
pub struct WebhookMetrics {
    /// `error`, `late` and `odd` are worth an alert: nobody can declare what these were about.
    answers: Tally<WebhookOutcome>,
    /// From the head of a request to its answer.
    durations: Histogram,
    /// Worth an alert if it grows: more is asked than can be answered.
    pub shed: Tally<WebhookShed>,
}

impl WebhookMetrics {
    /// Registers all series at 0.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let opts = HistogramOpts::new(
            "database_operator_webhook_answer_duration_seconds",
            "Time from a request of the API server to its answer.",
        );
        let durations = Histogram::with_opts(opts.buckets(BUCKETS_SECONDS.to_vec()))?;
        registry.register(Box::new(durations.clone()))?;
        Ok(Self {
            answers: Tally::register(
                registry,
                "database_operator_webhook_answers_total",
                "Requests of the API server to the webhook, by how they ended.",
                "outcome",
            )?,
            durations,
            shed: Tally::register(
                registry,
                "database_operator_webhook_shed_total",
                "Requests that the webhook turned away, by what there was too much of.",
                "reason",
            )?,
        })
    }

    /// A request came to its end after so long.
    pub fn answered(&self, outcome: WebhookOutcome, after: Duration) {
        self.answers.record(outcome);
        self.durations.observe(after.as_secs_f64());
    }
}
