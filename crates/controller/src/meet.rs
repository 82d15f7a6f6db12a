//! A Database that no watch shows as it is: a new one, or one that may have gone or lost its label.

use planner::deletion;
use telemetry::Action;

use crate::arrivals::Arrival;
use crate::reconcile::Context;
use crate::requests::{ApiError, Writer};
use crate::seen::SeenDatabase;
use crate::store::{Entry, Key};

/// The Database as it is; `None` if there is none.
pub(crate) async fn meet(
    cx: &Context,
    key: &Key,
    writer: &Writer,
    entry: &Entry,
) -> Result<Option<SeenDatabase>, ApiError> {
    let arrival = cx.arrivals.get(key);
    match (&entry.database, &arrival) {
        (Some(database), _) if !entry.doubted => return Ok(Some(database.clone())),
        // New ones are stamped at once: the answer is all that a read would tell.
        (None, Some(arrival)) if arrival.plain => match stamp(cx, key, writer, arrival).await {
            Ok(database) => return Ok(Some(database)),
            // What the watch told is no longer so.
            Err(ApiError::Conflict { .. } | ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        },
        (None, None) => return Ok(None),
        (Some(_), _) | (None, Some(_)) => {}
    }
    match writer.database(&key.name).await {
        Ok(database) => {
            cx.store.believe(key, database.clone());
            Ok(Some(database))
        }
        Err(ApiError::NotFound { .. }) => {
            cx.store.remove_database(key);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn stamp(cx: &Context, key: &Key, writer: &Writer, arrival: &Arrival) -> Result<SeenDatabase, ApiError> {
    let subject = key.subject(&arrival.uid);
    let Some(change) = deletion::stamp(&subject, &arrival.finalizers, arrival.bucket.as_deref()) else {
        // It has its label, so whatever was told is no longer so.
        return Err(ApiError::NotFound {
            object: key.to_string(),
        });
    };
    let stamped = writer.stamp(&key.name, &arrival.version, &change).await;
    ApiError::count(&cx.metrics, Action::Stamp, &stamped);
    let database = stamped?;
    cx.store.answer_database(key, database.clone());
    Ok(database)
}
