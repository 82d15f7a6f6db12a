//! Every series that the operator exports.

mod fleet;
mod https;
mod policy;
mod queries;
mod queue;
mod series;
mod webhook;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntGauge, Opts, Registry, TextEncoder};

pub use fleet::FleetMetrics;
pub use https::HttpsMetrics;
pub use policy::PolicyMetrics;
pub use queries::QueryMetrics;
pub use queue::QueueMetrics;
pub use series::{Counters, Gauges, Histograms, Tally};
pub use webhook::WebhookMetrics;

use crate::label::{Action, AnswerCode, BrokenOff, ErrorType, Method, Outcome, Phase, Step, Verdict, WriteOutcome};

/// Upper bounds in seconds, of reconciles and of waits in the queue: from a settled Database (well below a
/// millisecond) to one that waits for a slow API server.
const DURATION_BUCKETS_SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0,
];

/// Requests to the API server, of all kinds.
pub type Requests = Counters<Method, AnswerCode>;

/// A handle on all series; clones share them.
#[derive(Clone)]
pub struct Metrics {
    /// Steps of reconciles, by what they concluded.
    pub steps: Counters<Step, Outcome>,
    /// Errors of reconciles, by what happens next and by the step that met them.
    pub errors: Counters<ErrorType, Step>,
    /// Writes sent to the API server, by kind and by how they ended.
    pub writes: Counters<Action, WriteOutcome>,
    /// Databases that this replica owns, by phase. To be counted before each scrape, so that what moved to another
    /// replica vanishes here.
    pub phases: Gauges<Phase>,
    /// The queue of Databases. Give a clone to the queue, and set its gauges before each scrape.
    pub queue: QueueMetrics,
    /// This replica as a member of the fleet.
    pub fleet: FleetMetrics,
    /// What policies are asked, and say.
    pub policy: PolicyMetrics,
    /// What the API server asks, and is told.
    pub webhook: WebhookMetrics,
    /// What the webhook is served by.
    pub https: HttpsMetrics,
    /// Who asks for decisions.
    pub queries: QueryMetrics,
    /// Reconciles that did not come to their end, by why.
    pub broken_off: Tally<BrokenOff>,
    /// Requests to the API server, Leases and watches too, under client-go's name.
    pub requests: Requests,
    reconciliations: Tally<Verdict>,
    durations: Histograms<Verdict>,
    registry: Registry,
    before_scrape: Arc<Mutex<Vec<Hook>>>,
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
        let requests = Counters::register(
            &registry,
            "rest_client_requests_total",
            "Requests to the API server, by method and by the status of the answer.",
            ["method", "code"],
        )?;
        let broken_off = Tally::register(
            &registry,
            "database_operator_reconciles_broken_off_total",
            "Reconciles that did not come to their end, by a fault of the operator's own.",
            "reason",
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
        let phases = Gauges::register(
            &registry,
            "database_operator_phase",
            "Databases that this replica owns, by phase.",
            "phase",
        )?;
        let queue = QueueMetrics::register(&registry, "database", &DURATION_BUCKETS_SECONDS)?;
        let fleet = FleetMetrics::register(&registry)?;
        let policy = PolicyMetrics::register(&registry)?;
        let webhook = WebhookMetrics::register(&registry)?;
        let https = HttpsMetrics::register(&registry)?;
        let queries = QueryMetrics::register(&registry)?;
        let before_scrape = Arc::default();
        Ok(Self {
            steps,
            errors,
            writes,
            phases,
            queue,
            fleet,
            policy,
            webhook,
            https,
            queries,
            broken_off,
            requests,
            reconciliations,
            durations,
            registry,
            before_scrape,
        })
    }

    /// A whole reconcile came to its end after so long.
    pub fn reconciled(&self, verdict: Verdict, duration: Duration) {
        self.reconciliations.record(verdict);
        self.durations.observe(verdict, duration);
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
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    fn hooks(&self) -> std::sync::MutexGuard<'_, Vec<Hook>> {
        // A hook that panicked leaves the list as it was; the scrape that met it has failed visibly.
        self.before_scrape.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
