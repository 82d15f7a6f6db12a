use serde_json::{Value, json};

use super::*;

fn database(spec: &Value, status: &Value) -> Value {
    json!({
        "metadata": {
            "name": "orders", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3,
            "labels": {"intent.example.com/bucket": "12", "theirs": "x"},
            "annotations": {"intent.example.com/paused": "true"},
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
    assert_eq!(seen.meta.labels.as_ref().map(std::collections::BTreeMap::len), Some(1));
    assert_eq!(seen.meta.managed_fields, None);
}

#[test]
fn a_spec_that_cannot_be_read_is_a_fault_of_that_database_only() {
    let mut newer = spec();
    newer["engine"] = json!("cassandra");
    let seen: SeenDatabase = serde_json::from_value(database(&newer, &Value::Null)).expect("still a Database");
    assert_eq!(
        seen.spec.expect_err("an engine that we do not know").field,
        "spec.engine"
    );
}
