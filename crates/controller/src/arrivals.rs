//! Databases that no watch by bucket shows: new ones, and those whose label was taken away or is none.
//!
//! Every replica knows all of them, since one of another bucket may be its own a moment later. They are few, and only
//! for the moment until their owner has stamped them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::names;
use kube::core::ObjectMeta;
use sharding::Bucket;

use crate::store::Key;

/// What the metadata of such a Database says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// `metadata.resourceVersion`.
    pub version: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// The label of the bucket, which is none of the buckets.
    pub bucket: Option<String>,
    /// Whether it may be stamped before it was read: it is neither paused nor being deleted.
    pub plain: bool,
}

impl Arrival {
    /// Takes what is needed of the metadata.
    pub fn of(metadata: ObjectMeta) -> Self {
        let annotations = metadata.annotations.unwrap_or_default();
        let paused = annotations.get(names::PAUSED_ANNOTATION).map(String::as_str) == Some("true");
        Self {
            version: metadata.resource_version.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            finalizers: metadata.finalizers.unwrap_or_default(),
            bucket: metadata.labels.unwrap_or_default().remove(names::BUCKET_LABEL),
            plain: !paused && metadata.deletion_timestamp.is_none(),
        }
    }
}

/// All of them. Clones share it.
#[derive(Clone, Default)]
pub struct Arrivals(Arc<Mutex<HashMap<Key, Arrival>>>);

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arrival>> {
        // Each change is one call; a panic leaves none half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one as it is now.
    pub fn put(&self, key: Key, arrival: Arrival) {
        self.lock().insert(key, arrival);
    }

    /// One has gone, or has its label.
    pub fn remove(&self, key: &Key) {
        let mut all = self.lock();
        all.remove(key);
        // Many at once come seldom, and their memory is not kept for the next time.
        if all.capacity() > 64 && all.len() < all.capacity() / 8 {
            let room = 2 * all.len();
            all.shrink_to(room);
        }
    }

    /// After a new list (of one namespace, or of all): forgets what was not in it.
    pub fn keep(&self, namespace: Option<&str>, listed: &HashSet<Key>) {
        self.lock()
            .retain(|key, _| namespace.is_some_and(|of| *key.namespace != *of) || listed.contains(key));
    }

    /// What is known of one.
    pub fn get(&self, key: &Key) -> Option<Arrival> {
        self.lock().get(key).cloned()
    }

    /// Those that belong into these buckets.
    pub fn keys(&self, buckets: &BTreeSet<Bucket>) -> Vec<Key> {
        let all = self.lock();
        all.keys()
            .filter(|key| buckets.contains(&key.bucket))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arrival(metadata: serde_json::Value) -> Arrival {
        Arrival::of(serde_json::from_value(metadata).expect("metadata"))
    }

    #[test]
    fn what_is_paused_or_going_is_read_before_it_is_stamped() {
        let (name, going) = ("orders", "2026-01-01T00:00:00Z");
        assert!(arrival(json!({"name": name})).plain);
        assert!(!arrival(json!({"name": name, "deletionTimestamp": going})).plain);
        let paused = json!({"name": name, "annotations": {"intent.example.com/paused": "true"}});
        assert!(!arrival(paused).plain);
    }

    #[test]
    fn many_at_once_leave_no_memory_behind() {
        let arrivals = Arrivals::default();
        let keys: Vec<Key> = (0..5000)
            .map(|number| Key::new("shop", &format!("orders-{number}")))
            .collect();
        for key in &keys {
            arrivals.put(key.clone(), arrival(json!({"name": "orders"})));
        }
        keys[1..].iter().for_each(|key| arrivals.remove(key));
        assert!(arrivals.lock().capacity() <= 64, "{}", arrivals.lock().capacity());
        assert!(arrivals.get(&keys[0]).is_some(), "the rest is known still");
    }

    #[test]
    fn a_new_list_of_one_namespace_says_nothing_of_the_others() {
        let arrivals = Arrivals::default();
        let [shop, bank] = ["shop", "bank"].map(|namespace| Key::new(namespace, "orders"));
        for key in [&shop, &bank] {
            arrivals.put(key.clone(), arrival(json!({"name": "orders"})));
        }
        arrivals.keep(Some("shop"), &HashSet::new());
        assert_eq!(arrivals.get(&shop), None);
        assert!(arrivals.get(&bank).is_some());
        arrivals.keep(None, &[bank.clone()].into());
        assert_eq!(arrivals.keys(&[bank.bucket].into()), [bank]);
        assert_eq!(arrivals.keys(&BTreeSet::new()), []);
    }
}
