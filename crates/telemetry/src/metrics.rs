//! Every series that the operator exports.

mod queue;
mod series;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntGauge, Opts, Registry, TextEncoder};

pub use queue::QueueMetrics;
pub use series::{Counters, Gauges, Histograms, Tally};

use crate::label::{Action, ErrorType, Outcome, Phase, Step, WriteOutcome};

/// Upper bounds in seconds, of reconciles and of waits in the queue: from a settled Database (well below a
/// millisecond) to one that waits for a slow API server.
const DURATION_BUCKETS_SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0,
];

/// A handle on all series; clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    steps: Counters<Step, Outcome>,
    errors: Counters<ErrorType, Step>,
    reconciliations: Tally<Outcome>,
    durations: Histograms<Outcome>,
    writes: Counters<Action, WriteOutcome>,
    databases: Gauges<Phase>,
    queue: QueueMetrics,
    before_scrape: Mutex<Vec<Hook>>,
}

type Hook = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Why the series could not be set up: two of them share a name, or one has an invalid name. A defect.
#[derive(Debug, thiserror::Error)]
#[error("metrics: cannot register")]
pub struct RegisterError(#[from] prometheus::Error);

/// Why a scrape failed.
#[derive(Debug, thiserror::Error)]
#[error("metrics: cannot be written as text")]
pub struct ScrapeError(#[from] prometheus::Error);

impl Metrics {
    /// All series, at 0. `version` is the operator's, shown as the label of `database_operator_build_info`.
    pub fn new(version: &str) -> Result<Self, RegisterError> {
        let registry = Registry::new();
        let build = IntGauge::with_opts(
            Opts::new(
                "database_operator_build_info",
                "Always 1. The version of the operator, as a label.",
            )
            .const_label("version", version),
        )?;
        build.set(1);
        registry.register(Box::new(build))?;
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let steps = Counters::register(
            &registry,
            "database_operator_reconcile_steps_total",
            "Steps of reconciles, by what they concluded.",
            ["step", "outcome"],
        )?;
        let errors = Counters::register(
            &registry,
            "database_operator_errors_total",
            "Errors of reconciles, by what happens next and by the step that met them.",
            ["error_type", "operation"],
        )?;
        let reconciliations = Tally::register(
            &registry,
            "database_operator_reconciliation_total",
            "Whole reconciles, by result.",
            "result",
        )?;
        let durations = Histograms::register(
            &registry,
            "database_operator_reconciliation_duration_seconds",
            "Duration of whole reconciles, by result.",
            "result",
            &DURATION_BUCKETS_SECONDS,
        )?;
        let writes = Counters::register(
            &registry,
            "database_operator_api_writes_total",
            "Writes sent to the API server, by kind of action and by how they ended. Leases are not counted.",
            ["action", "outcome"],
        )?;
        let databases = Gauges::register(
            &registry,
            "database_operator_phase",
            "Databases that this replica owns, by phase.",
            "phase",
        )?;
        let queue = QueueMetrics::register(&registry, "database", &DURATION_BUCKETS_SECONDS)?;
        let before_scrape = Mutex::new(Vec::new());
        Ok(Self(Arc::new(Inner {
            registry,
            steps,
            errors,
            reconciliations,
            durations,
            writes,
            databases,
            queue,
            before_scrape,
        })))
    }

    /// A step of a reconcile came to its end.
    pub fn step(&self, step: Step, outcome: Outcome) {
        self.0.steps.inc(step, outcome);
    }

    /// A step met an error.
    pub fn error(&self, error_type: ErrorType, step: Step) {
        self.0.errors.inc(error_type, step);
    }

    /// A whole reconcile came to its end after so long.
    pub fn reconciled(&self, outcome: Outcome, duration: Duration) {
        self.0.reconciliations.inc(outcome);
        self.0.durations.observe(outcome, duration);
    }

    /// A write was answered, or was not.
    pub fn wrote(&self, action: Action, outcome: WriteOutcome) {
        self.0.writes.inc(action, outcome);
    }

    /// How many owned Databases are in `phase` now. To be set before each scrape, so that what moved to another
    /// replica vanishes here.
    pub fn databases(&self, phase: Phase, count: usize) {
        self.0.databases.set(phase, count);
    }

    /// The series of the queue of Databases. Give a clone to the queue, and set its gauges before each scrape.
    pub fn queue(&self) -> &QueueMetrics {
        &self.0.queue
    }

    /// Runs `hook` before each scrape: the place to set gauges from what is true then. It must be quick and must not
    /// call [`Metrics::scrape`] or [`Metrics::before_scrape`]. A hook that holds a clone of these metrics keeps
    /// them for ever; it is given them instead.
    pub fn before_scrape(&self, hook: impl Fn(&Self) + Send + Sync + 'static) {
        self.hooks().push(Box::new(hook));
    }

    /// All series in the text format of Prometheus.
    pub fn scrape(&self) -> Result<String, ScrapeError> {
        for hook in self.hooks().iter() {
            hook(self);
        }
        Ok(TextEncoder::new().encode_to_string(&self.0.registry.gather())?)
    }

    fn hooks(&self) -> std::sync::MutexGuard<'_, Vec<Hook>> {
        // A hook that panicked leaves the list as it was; the scrape that met it has failed visibly.
        self.0.before_scrape.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
