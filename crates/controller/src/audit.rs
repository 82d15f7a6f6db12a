//! Looks at what was accepted again, when something changed that policies depend on: policies themselves, exceptions, labels
//! of a namespace, the hour.
//!
//! It only finds and tells. Nothing that runs is touched by what it finds.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use planner::ruling::Ruling;
use policy::desk::Desk;
use workqueue::{Class, Queue};

use crate::dereference::is_accepted;
use crate::rule::{self, Judged, audited};
use crate::store::{Key, Store};

/// How often it looks whether anything changed. That costs a few milliseconds for 10,000 Databases.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long it lets others ask when too many do.
const BUSY: Duration = Duration::from_millis(200);

/// Audits for as long as it is polled.
pub async fn audit(desk: &Desk, store: &Store, queue: &Arc<Queue<Key>>) {
    loop {
        for key in due(desk, store) {
            // One at a time: changes are more urgent, and share the threads.
            while look(desk, store, queue, &key).await.is_err() {
                tokio::time::sleep(BUSY).await;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Databases that were judged on another basis than that of now.
fn due(desk: &Desk, store: &Store) -> Vec<Key> {
    let (mut due, now) = (Vec::new(), Timestamp::now());
    store.for_each_entry(|key, entry| {
        let Some(database) = entry.database.as_ref().filter(|database| !database.deleting()) else {
            return;
        };
        if entry.judged.basis != rule::basis(desk, key, database.generation(), now) {
            due.push(key.clone());
        }
    });
    due
}

async fn look(desk: &Desk, store: &Store, queue: &Arc<Queue<Key>>, key: &Key) -> Result<(), policy::guard::Busy> {
    let entry = store.get(key);
    let Some(database) = entry.database.as_ref() else {
        return Ok(());
    };
    let Ok(spec) = &database.spec else { return Ok(()) };
    if !is_accepted(database, &entry.children) {
        // A reconcile asks about it: again, if it was refused.
        if entry.judged.ruling.is_some() {
            queue.add(key.clone(), Class::Resync);
        }
        return Ok(());
    }
    let generation = database.generation();
    let basis = rule::basis(desk, key, generation, Timestamp::now());
    let ruling = audited(desk, key, database, spec).await?;
    let told = Ruling::recorded(&database.status, generation);
    if told.as_ref() == Some(&ruling) {
        store.judged(key, Judged { basis, ruling: None });
        return Ok(());
    }
    let ruling = Some(Box::new((generation, ruling)));
    store.judged(key, Judged { basis, ruling });
    queue.add(key.clone(), Class::Resync);
    Ok(())
}
