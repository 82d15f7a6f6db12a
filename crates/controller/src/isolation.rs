//! One reconcile that harms no other: it ends when its bucket is lost, when it panics, and when it takes too long.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use planner::status::BrokenOff;
use telemetry::label;
use tokio::time::timeout;

use crate::gate::Pass;
use crate::permit::Permit;
use crate::reconcile::{Context, Next, ReconcileError, reconcile};
use crate::report::{ReportError, report};
use crate::requests::Writer;
use crate::store::Key;

/// How long it may take to say in the status that a reconcile was broken off.
const TELL_WITHIN: Duration = Duration::from_secs(10);

/// How a reconcile ended.
pub enum Ended {
    /// By itself.
    Done(Result<Next, ReconcileError>),
    /// By a fault of ours. The status tells it, if it could be written.
    BrokenOff,
    /// Its bucket is another replica's matter now.
    Lost,
}

/// Reconciles once, for no longer than `deadline`. A reconcile that never yields cannot be ended by that: then the process
/// counts as not alive after a while.
pub async fn isolated(cx: &Context, key: &Key, pass: &mut Pass, deadline: Duration) -> Ended {
    let permit = pass.permit();
    // What a reconcile shares with others is whole whenever it could panic: locks are held for single changes.
    let work = AssertUnwindSafe(reconcile(cx, key, &permit)).catch_unwind();
    let why = tokio::select! {
        biased;
        () = pass.aborted() => return Ended::Lost,
        ended = timeout(deadline, work) => match ended {
            Ok(Ok(result)) => return Ended::Done(result),
            Ok(Err(_)) => BrokenOff::Panicked,
            Err(_) => BrokenOff::TimedOut(deadline),
        },
    };
    let reason = match why {
        BrokenOff::Panicked => label::BrokenOff::Panic,
        BrokenOff::TimedOut(_) => label::BrokenOff::Deadline,
    };
    cx.metrics.broken_off.record(reason);
    tracing::error!(database = %key, ?why, "a reconcile was broken off; it is tried again");
    let tell = AssertUnwindSafe(tell(cx, key, &permit, why)).catch_unwind();
    tokio::select! {
        biased;
        () = pass.aborted() => return Ended::Lost,
        told = timeout(TELL_WITHIN, tell) => match told {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                tracing::warn!(database = %key, error = %telemetry::chain(&error), "its status could not tell of it");
            }
            Ok(Err(_)) | Err(_) => tracing::warn!(database = %key, "its status could not tell of it"),
        },
    }
    Ended::BrokenOff
}

async fn tell(cx: &Context, key: &Key, permit: &Permit, why: BrokenOff) -> Result<(), ReportError> {
    let Some(database) = cx.store.get(key).database else {
        return Ok(());
    };
    let subject = key.subject(&database.uid().unwrap_or_default());
    let writer = Writer::new(cx.client.clone(), &subject, permit.clone());
    let now = Time(Timestamp::now());
    let status = planner::status::broken_off(&database.status, why, database.generation(), &now);
    report(cx, &writer, key, &database, &subject, status).await
}
