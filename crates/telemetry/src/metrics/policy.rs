use std::time::Duration;

use prometheus::{IntCounter, IntGauge, Opts, Registry};

use super::series::{Counters, Histograms, Tally};
use crate::label::{LogDrop, PolicyFailure, PolicySource, PolicyVerdict};

/// Upper bounds in seconds: a decision takes about half a millisecond, and 50 at most; the rest is waiting.
const BUCKETS_SECONDS: [f64; 10] = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5];

/// The series about policies; clones share them. None is about a user, a Database or a rule: those are in the decision log.
#[derive(Clone)]
pub struct PolicyMetrics {
    /// Errors are worth an alert: a policy cannot be asked, and everything that it is asked about is refused.
    pub decisions: Counters<PolicySource, PolicyVerdict>,
    /// From the question to the answer, waiting included.
    durations: Histograms<PolicySource>,
    /// Worth an alert if it grows: more is asked than can be answered.
    pub shed: IntCounter,
    /// The how manieth policies are in force since the start; 0 is worth an alert: there are none.
    generation: IntGauge,
    /// Worth an alert: a bundle was to be put in force and could not be. What was in force goes on.
    pub load_failures: Tally<PolicyFailure>,
    /// Decisions in the store of the log.
    log_records: IntCounter,
    /// Worth an alert: decisions that are in the log of this process only, not in its store.
    pub log_dropped: Tally<LogDrop>,
}

impl PolicyMetrics {
    /// Registers all series at 0.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let generation = IntGauge::with_opts(Opts::new(
            "database_operator_policy_generation",
            "How often policies were put in force since the start; 0: none are, and with --policies nothing is accepted.",
        ))?;
        registry.register(Box::new(generation.clone()))?;
        Ok(Self {
            decisions: Counters::register(
                registry,
                "database_operator_policy_decisions_total",
                "Decisions of policy, by who asked and by what was decided.",
                ["source", "verdict"],
            )?,
            durations: Histograms::register(
                registry,
                "database_operator_policy_decision_duration_seconds",
                "Time from a question about policy to its answer, waiting included.",
                "source",
                &BUCKETS_SECONDS,
            )?,
            shed: counter(
                "database_operator_policy_shed_total",
                "Questions about policy that were not asked because too many waited.",
            )?,
            generation,
            load_failures: Tally::register(
                registry,
                "database_operator_policy_load_failures_total",
                "Looks at the sources of policies after which what they hold is not in force, by why; what was in force stays.",
                "reason",
            )?,
            log_records: counter(
                "database_operator_decision_log_records_total",
                "Decisions that were written to the store of the decision log.",
            )?,
            log_dropped: Tally::register(
                registry,
                "database_operator_decision_log_dropped_total",
                "Decisions that did not get into the store of the decision log, by why.",
                "reason",
            )?,
        })
    }

    /// Takes over what is counted by those who load policies and keep decisions, before a scrape.
    pub fn set(&self, generation: u64, log_records: u64) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.log_records.reset();
        self.log_records.inc_by(log_records);
    }

    /// A decision was made.
    pub fn decided(&self, source: PolicySource, verdict: PolicyVerdict, after: Duration) {
        self.decisions.record(source, verdict);
        self.durations.observe(source, after);
    }
}
