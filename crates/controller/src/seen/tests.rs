use kube::core::WatchEvent;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::store::Key;

fn database(spec: &Value, status: &Value) -> Value {
    json!({
        "metadata": {
            "name": "orders", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3,
            "labels": {"intent.example.com/bucket": "12", "theirs": "x"},
            "annotations": {
                "intent.example.com/paused": "true", "intent.example.com/fence": "1",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
            },
            "finalizers": ["intent.example.com/finalizer"],
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": spec,
        "status": status,
    })
}

fn spec() -> Value {
    json!({
        "engine": "redis", "version": "7.0", "deletionPolicy": "Delete", "highAvailability": false,
        "resources": {"requests": {"storage": "1Gi"}},
    })
}

#[test]
fn a_status_reads_back_as_it_was_written() {
    let status = json!({
        "observedGeneration": 1,
        "phase": "Ready",
        "fence": 1,
        "lastReconcileTime": "2026-11-25T17:35:51Z",
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Serving", "message": "all members serve",
            "observedGeneration": 1, "lastTransitionTime": "2026-11-25T17:35:51Z",
        }],
        "connectionInfo": {"databaseName": "0", "host": "h", "port": 6379, "secretRef": {"name": "orders-app"}},
        "replicaStatus": {"desired": 0, "ready": 0, "summary": "0/0"},
    });
    let seen: SeenDatabase = serde_json::from_value(database(&spec(), &status)).expect("a Database");
    assert_eq!(serde_json::to_value(&seen.status).expect("JSON"), status);
}

#[test]
fn what_a_reconcile_needs_is_kept_and_nothing_else() {
    let seen: SeenDatabase = serde_json::from_value(database(&spec(), &Value::Null)).expect("a Database");
    let text = database(&spec(), &Value::Null).to_string();
    let from_text: SeenDatabase = serde_json::from_str(&text).expect("a Database");
    for spec in [&seen.spec, &from_text.spec] {
        let spec = serde_json::to_value(spec.as_ref().expect("a spec")).expect("JSON");
        assert_eq!(spec["deletionPolicy"], "Delete");
    }
    assert!(seen.paused);
    assert_eq!(seen.bucket(), Some("12"));
    assert_eq!(seen.generation(), 3);
    assert_eq!(seen.finalizers(), ["intent.example.com/finalizer"]);
    assert!(!seen.deleting());
    // What policies may judge, and nothing that tools or the operator keep there.
    let kept: Vec<_> = seen
        .meta
        .annotations
        .iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(kept, ["intent.example.com/paused"]);
    assert_eq!(seen.meta.labels.as_ref().map(std::collections::BTreeMap::len), Some(2));
    assert_eq!(seen.meta.managed_fields, None);
}

#[test]
fn a_spec_that_cannot_be_read_is_a_fault_of_that_database_only() {
    let mut newer = spec();
    newer["engine"] = json!("cassandra");
    let seen: SeenDatabase = serde_json::from_value(database(&newer, &Value::Null)).expect("still a Database");
    assert_eq!(
        seen.spec.as_ref().expect_err("an engine that we do not know").field,
        "spec.engine"
    );
}

/// A Service at this version, as an event has it.
fn service(version: u64) -> String {
    json!({"metadata": {
        "name": "orders-rw", "namespace": "shop", "uid": "u", "resourceVersion": version.to_string(),
        "ownerReferences": [{"kind": "Database", "name": "orders", "uid": "o", "controller": true}],
    }})
    .to_string()
}

const SERVICE: usize = 2;

fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("it is whole")
}

#[test]
fn the_event_of_an_answer_is_what_the_answer_was_and_every_other_event_is_read() {
    let store = Store::default();
    store.hold(sharding::Bucket::all());
    let key = Key::new("shop", "orders");
    // Facts that no text has tell whether the text was read.
    let answer = |version| {
        let SeenChild { child, mut facts, .. } = read::<SeenChild<SERVICE>>(&service(version));
        Arc::make_mut(&mut facts).deleting = true;
        store.answer_child(&key, child, facts);
    };
    let known = |text: String| STORE.sync_scope(store.clone(), || read::<SeenChild<SERVICE>>(&text));
    answer(7);
    assert!(!known(service(8)).facts.deleting, "another version");
    let echo = known(service(7));
    assert!(echo.facts.deleting, "the version that was answered");
    let whole = read::<SeenChild<SERVICE>>(&service(7));
    assert_eq!(
        (echo.meta, echo.database, echo.child),
        (whole.meta, whole.database, whole.child)
    );
    assert!(!known(service(7)).facts.deleting, "it is read when it comes again");
    answer(9);
    let account = STORE.sync_scope(store.clone(), || read::<SeenChild<1>>(&service(9)));
    assert!(!account.facts.deleting, "another kind");
    answer(10);
    answer(11);
    assert!(!known(service(10)).facts.deleting, "a version that was overtaken");
    store.release(sharding::Bucket::all());
    assert!(!known(service(11)).facts.deleting, "what is forgotten");
    assert!(!store.awaits_events(), "nothing is kept for ever");
}

#[test]
fn the_event_of_an_answer_about_a_database_is_not_read() {
    let store = Store::default();
    store.hold(sharding::Bucket::all());
    let text = database(&spec(), &Value::Null).to_string();
    let mut answer: SeenDatabase = read(&text);
    answer.paused = false;
    store.answer_database(&Key::new("shop", "orders"), answer);
    let known = || STORE.sync_scope(store.clone(), || read::<SeenDatabase>(&text));
    assert!(!known().paused, "what was answered");
    assert!(known().paused, "what is written there, when it comes again");
}

#[test]
fn an_event_is_known_in_whichever_order_its_members_come() {
    let store = Store::default();
    store.hold(sharding::Bucket::all());
    let (one, next) = (service(7), service(8));
    for (object, text) in [
        (&one, format!(r#"{{"type":"MODIFIED","object":{one}}}"#)),
        (&next, format!(r#"{{"object":{next},"type":"MODIFIED"}}"#)),
    ] {
        let SeenChild { child, mut facts, .. } = read::<SeenChild<SERVICE>>(object);
        Arc::make_mut(&mut facts).deleting = true;
        store.answer_child(&Key::new("shop", "orders"), child, facts);
        for known in [true, false] {
            let event = STORE.sync_scope(store.clone(), || {
                serde_json::from_str::<WatchEvent<SeenChild<SERVICE>>>(&text)
            });
            let Ok(WatchEvent::Modified(seen)) = event else {
                panic!("{text}: {event:?}");
            };
            assert_eq!(seen.facts.deleting, known, "{text}");
        }
    }
}
