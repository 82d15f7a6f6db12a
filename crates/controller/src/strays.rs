//! Databases whose label names another bucket than their own.
//!
//! The owner of the right bucket does not see them, so the owner of the bucket that the label names puts the label right.
//! It changes nothing else, and only the very version that it saw.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::names;
use fleet::Fleet;
use kube::{Client, ResourceExt as _};
use serde_json::json;
use sharding::Bucket;
use telemetry::{Action, Metrics};

use crate::gate::Pass;
use crate::permit::Permit;
use crate::requests::{ApiError, Writer};
use crate::seen::SeenDatabase;
use crate::store::Key;

/// How often those that are known are tried.
pub(crate) const AGAIN: Duration = Duration::from_secs(5);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The bucket that its label names.
    pub label: Bucket,
    /// `metadata.resourceVersion`.
    pub version: String,
}

/// All that are known. Clones share it.
#[derive(Clone, Default)]
pub struct Strays(Arc<Mutex<HashMap<Key, Stray>>>);

impl Strays {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Stray>> {
        // Each change is one call; a panic leaves none half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a Database as a watch shows it. Whether it is one of them.
    pub fn take(&self, key: &Key, database: &SeenDatabase) -> bool {
        let label = database.bucket().and_then(|label| label.parse::<Bucket>().ok());
        let stray = label.filter(|label| *label != key.bucket).map(|label| Stray {
            label,
            version: database.resource_version().unwrap_or_default(),
        });
        let mut all = self.lock();
        if let Some(stray) = stray {
            all.insert(key.clone(), stray);
            return true;
        }
        all.remove(key);
        false
    }

    /// No watch shows one any more.
    pub fn remove(&self, key: &Key) {
        self.lock().remove(key);
    }

    /// All of them.
    pub fn all(&self) -> Vec<(Key, Stray)> {
        let all = self.lock();
        all.iter().map(|(key, stray)| (key.clone(), stray.clone())).collect()
    }
}

/// Puts the label of one right, in the name of the owner of the bucket that it names. The write carries the epoch of the
/// right bucket, as the fence asks for.
pub(crate) async fn put_right(client: Client, metrics: Metrics, fleet: Fleet, mut pass: Pass, key: Key, stray: Stray) {
    let Some(epoch) = fleet.epoch_of(key.bucket) else {
        return;
    };
    let leave = pass.permit();
    let writer = Writer::new(client, &key.subject(""), Permit::new(epoch, move || leave.holds()));
    let change = json!({"metadata": {"labels": {names::BUCKET_LABEL: key.bucket.to_string()}}});
    let written = tokio::select! {
        () = pass.aborted() => return,
        written = writer.stamp(&key.name, &stray.version, &change) => written,
    };
    ApiError::count(&metrics, Action::Stamp, &written);
    match written {
        Ok(_) => tracing::warn!(database = %key, label = %stray.label, "a wrong label was put right"),
        // It changed; the watch tells.
        Err(ApiError::Conflict { .. } | ApiError::NotFound { .. }) => {}
        Err(error) => {
            let error = telemetry::chain(&error);
            tracing::warn!(database = %key, label = %stray.label, error, "a wrong label stays for now");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(label: Option<&str>) -> SeenDatabase {
        let labels = label.map(|label| json!({names::BUCKET_LABEL: label}));
        let metadata = json!({"name": "orders", "namespace": "shop", "resourceVersion": "7", "labels": labels});
        serde_json::from_value(json!({"metadata": metadata, "spec": null})).expect("a Database")
    }

    #[test]
    fn only_a_bucket_that_is_not_its_own_makes_a_stray() {
        let strays = Strays::default();
        let key = Key::new("shop", "orders");
        let other = Bucket::all().find(|bucket| *bucket != key.bucket).expect("many");
        assert!(strays.take(&key, &labelled(Some(&other.to_string()))));
        let stray = Stray {
            label: other,
            version: "7".to_owned(),
        };
        assert_eq!(strays.all(), [(key.clone(), stray)]);
        assert!(
            !strays.take(&key, &labelled(Some(&key.bucket.to_string()))),
            "put right"
        );
        assert_eq!(strays.all(), []);
        assert!(!strays.take(&key, &labelled(None)), "everybody sees those without one");
        assert!(!strays.take(&key, &labelled(Some("none"))));
    }
}
