//! The imperative shell around the planner: watches, the five steps of a reconcile, workers.
//!
//! Read in this order: [`reconcile`](mod@reconcile) (the whole of it), then its steps in files of their names:
//! [`dereference`](mod@dereference), [`validate`](mod@validate), `planner::plan`, [`apply`](mod@apply),
//! [`report`](mod@report). Around them: [`ownership`] does what the fleet orders: it opens watches for buckets
//! ([`holdings`]) and lets reconciles in ([`gate`]); [`watch`] feeds [`store`] and the queue with what [`seen`] takes of
//! each object, and [`arrivals`] (`meet`) and [`strays`] with Databases that carry no bucket or the wrong one; `objects`
//! lists (`listing`) and watches a kind, `reopen` says how soon a watch that broke is opened again; [`requests`] is every request that
//! is made, [`permit`] the leave to write, [`api_error`] what an answer means; [`events`] tells of transitions; `recent` is
//! memory of what counts for a while, `clock` that of the queue; [`live`] reads one Database for the command line.
//!
//! Promise: a Database is reconciled only while its bucket is owned, and never twice at once; a settled one costs no
//! request, and no failure of one Database keeps another from being looked at.
//! Not guaranteed: that a request that was sent while the bucket was owned arrives before it is somebody else's. That is
//! what the fence at the API server is for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::database::Phase as Reported;
use engines::catalogue::Catalogue;
use fleet::{Fleet, Orders};
use kube::Client;
use policy::desk::Desk;
use telemetry::label::Orphan;
use telemetry::{Metrics, Outcome, Phase, Telemetry, Verdict};
use tokio::sync::watch as channel;
use workqueue::{Class, Limits, Queue};

use gate::Gate;
use isolation::{Ended, isolated};
use ownership::Ownership;
use reconcile::{Context, Next};
use store::Key;

pub mod answers;
pub mod api_error;
pub mod apply;
pub mod arrivals;
pub mod audit;
mod clock;
pub mod contests;
pub mod credentials;
pub mod dereference;
pub mod events;
pub mod gate;
pub mod holdings;
pub mod isolation;
mod listing;
pub mod live;
mod meet;
mod objects;
pub mod ownership;
pub mod permit;
mod recent;
pub mod reconcile;
mod reopen;
pub mod report;
pub mod requests;
pub mod restarts;
pub mod rule;
pub mod seen;
pub mod store;
pub mod strays;
pub mod surroundings;
mod terminating;
pub mod validate;
pub mod watch;

/// What a run needs to know.
#[derive(Clone)]
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
    /// What bounds the queue of Databases.
    pub queue: Limits,
    /// How long a reconcile may take; then it is broken off and tried again.
    pub deadline: Duration,
    /// Where policies are asked; nothing is asked without.
    pub desk: Option<Desk>,
    /// How long others get to take over when this replica is to stop.
    pub patience: Duration,
}

/// Works in the buckets that the fleet gives to this replica, until the fleet has no more orders. When `stop` turns true
/// it asks the fleet to take them back: requests in flight are finished, and nothing new is started.
pub async fn run(
    client: Client,
    settings: Settings,
    (fleet, orders): (Fleet, Orders),
    telemetry: Telemetry,
    stop: channel::Receiver<bool>,
) {
    let queue = Arc::new(Queue::new(
        settings.queue,
        clock::clock(),
        rand::random::<u64>,
        telemetry.metrics.queue.clone(),
    ));
    let sink = watch::Sink {
        store: store::Store::default(),
        arrivals: arrivals::Arrivals::default(),
        strays: strays::Strays::default(),
        queue: queue.clone(),
    };
    let source = watch::Source::new(client.clone(), &settings.namespaces, sink.clone());
    let cx = Arc::new(Context {
        client: client.clone(),
        fleet: fleet.clone(),
        store: sink.store.clone(),
        arrivals: sink.arrivals.clone(),
        catalogue: settings.catalogue.clone(),
        replicas: settings.replicas,
        restarts: restarts::Restarts::new(settings.max_restarting),
        contests: contests::Contests::default(),
        desk: settings.desk.clone(),
        events: events::Events::new(client, &settings.member),
        metrics: telemetry.metrics.clone(),
    });
    count_at_scrape(&telemetry.metrics, &sink, &fleet);
    let shared = source.shared();
    let health = telemetry.health.clone();
    let ownership = Ownership::new(fleet, source, cx.clone(), queue.clone(), health);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..settings.workers.max(1) {
        workers.spawn(work(
            cx.clone(),
            ownership.gate(),
            queue.clone(),
            telemetry.clone(),
            settings.deadline,
        ));
    }
    let audits = async {
        match &settings.desk {
            Some(desk) => audit::audit(desk, &sink.store, &queue).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = ownership.obey(orders, stop, settings.patience) => {}
        () = audits => {}
    }
    telemetry.health.set_ready(false, "not part of the fleet");
    queue.shutdown();
    while workers.join_next().await.is_some() {}
    drop(shared);
}

async fn work(cx: Arc<Context>, gate: Arc<Gate>, queue: Arc<Queue<Key>>, telemetry: Telemetry, deadline: Duration) {
    while let Some(item) = queue.get().await {
        let key = item.key().clone();
        // Whoever owns the bucket looks at all that is in it when it begins.
        let Some(mut pass) = gate.enter(key.bucket) else {
            queue.forget(&key);
            item.done();
            continue;
        };
        let busy = telemetry.health.busy();
        let started = Instant::now();
        let ended = isolated(&cx, &key, &mut pass, deadline).await;
        drop((busy, pass));
        let next = match &ended {
            Ended::Lost => Next::Wait,
            Ended::BrokenOff => Next::Retry,
            Ended::Done(Ok(next)) => {
                let seconds = started.elapsed().as_secs_f64();
                tracing::debug!(database = %key, seconds, ?next, "reconciled");
                *next
            }
            Ended::Done(Err(error)) if error.not_owner() => {
                cx.metrics.errors.record(error.error_type(), error.step());
                tracing::debug!(database = %key, error = %telemetry::chain(error), "ownership ended in a reconcile");
                error.next()
            }
            Ended::Done(Err(error)) => {
                cx.metrics.steps.record(error.step(), Outcome::Failed);
                cx.metrics.errors.record(error.error_type(), error.step());
                tracing::info!(database = %key, error = %telemetry::chain(error), "reconcile failed");
                error.next()
            }
        };
        let verdict = match &ended {
            Ended::Lost => None,
            Ended::Done(Err(error)) if !error.not_owner() => Some(Verdict::Error),
            Ended::BrokenOff => Some(Verdict::Error),
            Ended::Done(_) => Some(Verdict::Success),
        };
        if let Some(verdict) = verdict {
            cx.metrics.reconciled(verdict, started.elapsed());
        }
        match next {
            Next::Wait => queue.forget(&key),
            Next::LookAgain(after) => {
                queue.forget(&key);
                let class = match &ended {
                    Ended::Done(Ok(_)) => Class::Resync,
                    // It was not done: not as if nothing were known to have changed.
                    Ended::Done(Err(_)) | Ended::BrokenOff | Ended::Lost => Class::Retry,
                };
                queue.add_after(key.clone(), class, after);
            }
            Next::Retry => drop(queue.retry(key.clone())),
        }
        item.done();
    }
}

/// Gauges show what is true at the scrape, so that nothing has to keep them up to date meanwhile.
fn count_at_scrape(metrics: &Metrics, sink: &watch::Sink, fleet: &Fleet) {
    let (store, strays, fleet) = (sink.store.clone(), sink.strays.clone(), fleet.clone());
    let queue = Arc::downgrade(&sink.queue);
    metrics.before_scrape(move |metrics| {
        if let Some(queue) = queue.upgrade() {
            metrics.queue.set(queue.counts(), queue.in_work());
        }
        metrics.fleet.orphans.count(|count| {
            let map = fleet.served().borrow().map.clone();
            let unowned = map
                .iter()
                .flat_map(|map| map.buckets().filter(|bucket| map.owner(*bucket).is_none()));
            unowned.for_each(|_| count(Orphan::Bucket));
            strays.all().iter().for_each(|_| count(Orphan::Database));
        });
        metrics.phases.count(|count| {
            store.for_each(|key, database| {
                if fleet.may_start(key.bucket).is_some() {
                    count(phase_of(database.status.phase));
                }
            });
        });
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
