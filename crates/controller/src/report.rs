//! The fifth step: the status, once, only if it changed, and an event for each transition.

use kube::ResourceExt as _;
use planner::plan::Subject;
use planner::status::{Note, changes, notes};
use serde_json::Value;
use telemetry::{Action, WriteOutcome};

use api::database::DatabaseStatus;

use crate::events::Events;
use crate::reconcile::Context;
use crate::requests::{ApiError, Writer};
use crate::seen::SeenDatabase;
use crate::store::Key;

/// Why the report was not made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The status was not written. Nothing is lost: it is computed anew next time.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Publishes one note. An event that is lost is told in the log, and harms nothing.
async fn publish(events: &Events, database: &SeenDatabase, note: &Note) -> WriteOutcome {
    match events.publish(database, note).await {
        Ok(()) => WriteOutcome::Success,
        Err(error) => {
            let error = telemetry::chain(&error);
            tracing::warn!(database = %database.name_any(), reason = note.reason, error, "event lost");
            WriteOutcome::Error
        }
    }
}

/// Writes the status if it differs from the one that is there, and publishes what changed.
pub async fn report(
    cx: &Context,
    writer: &Writer,
    key: &Key,
    database: &SeenDatabase,
    subject: &Subject,
    status: DatabaseStatus,
) -> Result<(), ReportError> {
    let change = changes(&database.status, &status);
    if change == Value::Null {
        return Ok(());
    }
    let version = database.resource_version().unwrap_or_default();
    let written = writer.status(&subject.name, &version, &change).await;
    ApiError::count(&cx.metrics, Action::Status, &written);
    cx.store.answer_database(key, written?);
    for note in notes(&database.status, &status) {
        if !writer.holds() {
            // The status tells it, and the next transition is the next owner's to tell.
            break;
        }
        let outcome = publish(&cx.events, database, &note).await;
        cx.metrics.writes.record(Action::Event, outcome);
    }
    Ok(())
}
