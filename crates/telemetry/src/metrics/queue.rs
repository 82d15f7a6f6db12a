use std::time::Duration;

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, Opts, Registry};
use workqueue::{Class, Counts, InWork};

use super::{Gauges, Histograms, Tally};
use crate::label::Label;

/// The series of one queue, under client-go's names, so that existing dashboards work; clones share them. What waits is
/// labelled with its class, as `priority`.
#[derive(Clone)]
pub struct QueueMetrics {
    depth: Gauges<Class>,
    adds: Tally<Class>,
    retries: IntCounter,
    shed: IntCounter,
    queue_duration: Histograms<Class>,
    work_duration: Histogram,
    unfinished: Gauge,
    longest: Gauge,
}

impl Label for Class {
    const ALL: &'static [Self] = &Class::ALL;

    fn label(self) -> &'static str {
        match self {
            Self::Deletion => "deletion",
            Self::UserChange => "user_change",
            Self::ChildDrift => "child_drift",
            Self::Retry => "retry",
            Self::Resync => "resync",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl QueueMetrics {
    /// Registers all series at 0. `name` tells this queue from others of the process.
    pub fn register(registry: &Registry, name: &str, buckets_seconds: &[f64]) -> prometheus::Result<Self> {
        let opts = |metric: &str, help: &str| Opts::new(metric, help).const_label("name", name);
        let histogram = |metric: &str, help: &str| {
            HistogramOpts::new(metric, help)
                .const_label("name", name)
                .buckets(buckets_seconds.to_vec())
        };
        let priority = "priority";
        let depth = opts("workqueue_depth", "Keys that are due and wait for a worker, by class.");
        let adds = opts("workqueue_adds_total", "Runs that became due, by class.");
        let retries = opts("workqueue_retries_total", "Failed runs that were given a backoff.");
        let shed = opts(
            "workqueue_shed_total",
            "Requests that were dropped since the queue was at its bound. Everything is looked at again later.",
        );
        let queue_duration = histogram(
            "workqueue_queue_duration_seconds",
            "How long a due key waited for a worker, by class.",
        );
        let work_duration = histogram("workqueue_work_duration_seconds", "How long a worker worked on a key.");
        let unfinished = opts(
            "workqueue_unfinished_work_seconds",
            "How long the runs in progress have been going on, together. Grows steadily if workers are stuck.",
        );
        let longest = opts(
            "workqueue_longest_running_processor_seconds",
            "How long the longest run in progress has been going on.",
        );
        let metrics = Self {
            depth: Gauges::with(registry, depth, priority)?,
            adds: Tally::with(registry, adds, priority)?,
            retries: IntCounter::with_opts(retries)?,
            shed: IntCounter::with_opts(shed)?,
            queue_duration: Histograms::with(registry, queue_duration, priority)?,
            work_duration: Histogram::with_opts(work_duration)?,
            unfinished: Gauge::with_opts(unfinished)?,
            longest: Gauge::with_opts(longest)?,
        };
        registry.register(Box::new(metrics.retries.clone()))?;
        registry.register(Box::new(metrics.shed.clone()))?;
        registry.register(Box::new(metrics.work_duration.clone()))?;
        registry.register(Box::new(metrics.unfinished.clone()))?;
        registry.register(Box::new(metrics.longest.clone()))?;
        Ok(metrics)
    }

    /// Sets the gauges from what the queue says now.
    pub fn set(&self, counts: Counts, in_work: InWork) {
        for class in Class::ALL {
            self.depth.set(class, counts.ready[class as usize]);
        }
        self.unfinished.set(in_work.total.as_secs_f64());
        self.longest.set(in_work.longest.as_secs_f64());
    }
}

impl workqueue::Metrics for QueueMetrics {
    fn added(&self, class: Class, runs: u64) {
        self.adds.add(class, runs);
    }
    fn waited(&self, class: Class, wait: Duration) {
        self.queue_duration.observe(class, wait);
    }
    fn worked(&self, work: Duration) {
        self.work_duration.observe(work.as_secs_f64());
    }
    fn retried(&self) {
        self.retries.inc();
    }
    fn shed(&self, requests: u64) {
        self.shed.inc_by(requests);
    }
}
