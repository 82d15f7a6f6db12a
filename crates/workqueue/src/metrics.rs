use std::time::Duration;

use crate::Class;

/// What the queue counts while it works. Each method says which client-go series it feeds, so that existing
/// dashboards keep their meaning; the gauges (`workqueue_depth`, `workqueue_unfinished_work_seconds`,
/// `workqueue_longest_running_processor_seconds`) are read at scrape from [`crate::Queue::counts`] and
/// [`crate::Queue::in_work`].
///
/// Called without the queue's lock held. `()` counts nothing.
pub trait Metrics: Send + Sync + 'static {
    /// So many runs of a class (1 or more) became due: `workqueue_adds_total`. A request that was merged into a run that
    /// is due already does not count; a delayed one counts when its time comes.
    fn added(&self, class: Class, runs: u64);
    /// A key was handed out after having been due this long: `workqueue_queue_duration_seconds`.
    fn waited(&self, class: Class, wait: Duration);
    /// A run ended after this long: `workqueue_work_duration_seconds`.
    fn worked(&self, work: Duration);
    /// A failed key was given a backoff: `workqueue_retries_total`.
    fn retried(&self);
    /// So many requests (1 or more) were shed, since the queue is at its bound.
    fn shed(&self, requests: u64);
}

impl Metrics for () {
    fn added(&self, _: Class, _: u64) {}
    fn waited(&self, _: Class, _: Duration) {}
    fn worked(&self, _: Duration) {}
    fn retried(&self) {}
    fn shed(&self, _: u64) {}
}
