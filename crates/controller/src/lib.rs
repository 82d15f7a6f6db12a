//! The imperative shell around the planner: watches, the five steps of a reconcile, workers.
//!
//! Read in this order: [`reconcile`](mod@reconcile) (the whole of it), then its steps in files of their names:
//! [`dereference`](mod@dereference), [`validate`](mod@validate), `planner::plan`, [`apply`](mod@apply),
//! [`report`](mod@report). Around them: [`watch`] feeds [`store`] and the queue with what [`seen`] takes of each
//! object; [`requests`] is every request that is made; [`live`] reads one Database for the command line.
//!
//! Promise: a Database is never reconciled twice at once by this process, a settled one costs no request, and no
//! failure of one Database keeps another from being looked at.
//! Not guaranteed: that no other process reconciles the same Database; that is what ownership of buckets is for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::database::Phase as Reported;
use engines::catalogue::Catalogue;
use kube::Client;
use telemetry::{Metrics, Outcome, Phase, Telemetry, Verdict};
use tokio::sync::watch as channel;
use workqueue::{Backoff, Class, Queue};

use reconcile::{Context, Next, reconcile};
use store::{Key, Store};

pub mod api_error;
pub mod apply;
pub mod contests;
pub mod credentials;
pub mod dereference;
pub mod live;
pub mod permit;
pub mod reconcile;
pub mod report;
pub mod requests;
pub mod restarts;
pub mod seen;
pub mod store;
mod terminating;
pub mod validate;
pub mod watch;

/// What a run needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespaces to look at; all, if empty.
    pub namespaces: Vec<String>,
    /// Reconciles at once. Also bounds the requests in flight.
    pub workers: usize,
    /// Name of this replica.
    pub member: String,
    /// Engines and versions.
    pub catalogue: Arc<Catalogue>,
    /// Databases that may restart a pod at once.
    pub max_restarting: usize,
    /// Number of pods of a StatefulSet: 1, unless a test asks for none.
    pub replicas: u32,
}

/// First wait after a failure, and the longest. Both with full jitter.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(200),
    cap: Duration::from_mins(5),
};

/// Runs until `stop` turns true, then finishes what is in flight and starts nothing new.
pub async fn run(client: Client, settings: Settings, telemetry: Telemetry, mut stop: channel::Receiver<bool>) {
    let store = Store::default();
    let queue = Arc::new(Queue::new(
        BACKOFF,
        rand::random::<u64>,
        telemetry.metrics.queue.clone(),
    ));
    let sink = watch::Sink {
        store: store.clone(),
        queue: queue.clone(),
    };
    let (watches, mut listed) = watch::start(&client, &settings.namespaces, &sink);
    let started = Instant::now();
    tokio::select! {
        _ = listed.wait_for(|listed| *listed) => {}
        _ = stop.wait_for(|stop| *stop) => return,
    }
    tracing::info!(
        databases = store.len(),
        seconds = started.elapsed().as_secs_f64(),
        "caches are complete"
    );
    let cx = Arc::new(Context {
        client: client.clone(),
        store: store.clone(),
        catalogue: settings.catalogue.clone(),
        replicas: settings.replicas,
        restarts: restarts::Restarts::new(settings.max_restarting),
        contests: contests::Contests::default(),
        reporter: report::Reporter::new(client, &settings.member),
        metrics: telemetry.metrics.clone(),
    });
    count_at_scrape(&telemetry.metrics, &store, &queue);
    telemetry.health.set_ready(true, "caches are complete");
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..settings.workers.max(1) {
        workers.spawn(work(cx.clone(), queue.clone(), telemetry.clone()));
    }
    // The sender went only if the process is going, which is also a reason to stop.
    let _ = stop.wait_for(|stop| *stop).await;
    telemetry.health.set_ready(false, "stopping");
    queue.shutdown();
    while workers.join_next().await.is_some() {}
    drop(watches);
}

async fn work(cx: Arc<Context>, queue: Arc<Queue<Key>>, telemetry: Telemetry) {
    while let Some(item) = queue.get().await {
        let key = item.key().clone();
        let busy = telemetry.health.busy();
        let started = Instant::now();
        let result = reconcile(&cx, &key).await;
        drop(busy);
        let verdict = match &result {
            Err(error) if !error.not_owner() => Verdict::Error,
            Ok(_) | Err(_) => Verdict::Success,
        };
        cx.metrics.reconciled(verdict, started.elapsed());
        let next = match &result {
            Ok(next) => *next,
            Err(error) if error.not_owner() => {
                cx.metrics.errors.record(error.error_type(), error.step());
                tracing::debug!(database = %key, error = %telemetry::chain(error), "ownership ended in a reconcile");
                error.next()
            }
            Err(error) => {
                cx.metrics.steps.record(error.step(), Outcome::Failed);
                cx.metrics.errors.record(error.error_type(), error.step());
                tracing::info!(database = %key, error = %telemetry::chain(error), "reconcile failed");
                error.next()
            }
        };
        match next {
            Next::Wait => queue.forget(&key),
            Next::LookAgain(after) => {
                queue.forget(&key);
                queue.add_after(key.clone(), Class::Resync, after);
            }
            Next::Retry => drop(queue.retry(key.clone())),
        }
        item.done();
    }
}

/// Gauges show what is true at the scrape, so that nothing has to keep them up to date meanwhile.
fn count_at_scrape(metrics: &Metrics, store: &Store, queue: &Arc<Queue<Key>>) {
    let (store, queue) = (store.clone(), Arc::downgrade(queue));
    metrics.before_scrape(move |metrics| {
        if let Some(queue) = queue.upgrade() {
            metrics.queue.set(queue.counts(), queue.in_work());
        }
        metrics
            .phases
            .count(|count| store.for_each(|_, database| count(phase_of(database.status.phase))));
    });
}

/// One that was never reported on waits for it.
fn phase_of(reported: Option<Reported>) -> Phase {
    match reported {
        None | Some(Reported::Pending) => Phase::Pending,
        Some(Reported::Creating) => Phase::Creating,
        Some(Reported::Ready) => Phase::Ready,
        Some(Reported::Updating) => Phase::Updating,
        Some(Reported::Deleting) => Phase::Deleting,
        Some(Reported::Failed) => Phase::Failed,
    }
}
