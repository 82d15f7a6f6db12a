use std::time::Duration;

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry};
use workqueue::{Counts, InWork};

/// The series of one queue, under client-go's names, so that existing dashboards work; clones share them.
#[derive(Clone)]
pub struct QueueMetrics {
    depth: IntGauge,
    adds: IntCounter,
    retries: IntCounter,
    queue_duration: Histogram,
    work_duration: Histogram,
    unfinished: Gauge,
    longest: Gauge,
}

impl QueueMetrics {
    /// Registers all series at 0. `name` tells this queue from others of the process.
    pub fn register(registry: &Registry, name: &str, buckets_seconds: &[f64]) -> prometheus::Result<Self> {
        let opts = |metric: &str, help: &str| Opts::new(metric, help).const_label("name", name);
        let histogram = |metric: &str, help: &str| {
            let opts = HistogramOpts::new(metric, help)
                .const_label("name", name)
                .buckets(buckets_seconds.to_vec());
            Histogram::with_opts(opts)
        };
        let metrics = Self {
            depth: IntGauge::with_opts(opts("workqueue_depth", "Keys that are due and wait for a worker."))?,
            adds: IntCounter::with_opts(opts("workqueue_adds_total", "Runs that became due."))?,
            retries: IntCounter::with_opts(opts(
                "workqueue_retries_total",
                "Failed runs that were given a backoff.",
            ))?,
            queue_duration: histogram(
                "workqueue_queue_duration_seconds",
                "How long a due key waited for a worker.",
            )?,
            work_duration: histogram("workqueue_work_duration_seconds", "How long a worker worked on a key.")?,
            unfinished: Gauge::with_opts(opts(
                "workqueue_unfinished_work_seconds",
                "How long the runs in progress have been going on, together. Grows steadily if workers are stuck.",
            ))?,
            longest: Gauge::with_opts(opts(
                "workqueue_longest_running_processor_seconds",
                "How long the longest run in progress has been going on.",
            ))?,
        };
        registry.register(Box::new(metrics.depth.clone()))?;
        registry.register(Box::new(metrics.adds.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        registry.register(Box::new(metrics.queue_duration.clone()))?;
        registry.register(Box::new(metrics.work_duration.clone()))?;
        registry.register(Box::new(metrics.unfinished.clone()))?;
        registry.register(Box::new(metrics.longest.clone()))?;
        Ok(metrics)
    }

    /// Sets the gauges from what the queue says now.
    pub fn set(&self, counts: Counts, in_work: InWork) {
        self.depth.set(i64::try_from(counts.ready).unwrap_or(i64::MAX));
        self.unfinished.set(in_work.total.as_secs_f64());
        self.longest.set(in_work.longest.as_secs_f64());
    }
}

impl workqueue::Metrics for QueueMetrics {
    fn added(&self, runs: u64) {
        self.adds.inc_by(runs);
    }
    fn waited(&self, wait: Duration) {
        self.queue_duration.observe(wait.as_secs_f64());
    }
    fn worked(&self, work: Duration) {
        self.work_duration.observe(work.as_secs_f64());
    }
    fn retried(&self) {
        self.retries.inc();
    }
}
