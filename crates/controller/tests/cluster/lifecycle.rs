//! Create, change, delete, without pods.

use std::time::Duration;

use planner::child::Kind;
use serde_json::json;

use crate::support::{bed, condition, postgresql, redis};

#[tokio::test]
async fn a_database_is_applied_changed_and_deleted_and_its_volume_stays() {
    let Some(bed) = bed("lifecycle").await else { return };
    let operator = bed.operator(0);
    bed.declare("orders", postgresql()).await;
    let database = bed.condition("orders", "Applied", "True").await;
    assert_eq!(database["status"]["acceptedGeneration"], 1);
    assert_eq!(database["status"]["connectionInfo"]["port"], 5432);
    let set = bed.child(Kind::StatefulSet, "orders-g1").await.expect("a StatefulSet");
    assert_eq!(set["spec"]["updateStrategy"]["type"], "OnDelete");
    let app = bed
        .child(Kind::Secret, "orders-app")
        .await
        .expect("the application's Secret");
    let keys: Vec<&String> = app["data"].as_object().expect("data").keys().collect();
    assert_eq!(
        keys,
        ["database", "host", "password", "port", "type", "uri", "username"]
    );
    let lineage = database["metadata"]["uid"].clone();

    bed.edit(
        "orders",
        json!({"spec": {"configuration": {"parameters": {"work_mem": "8MB"}}}}),
    )
    .await;
    bed.condition("orders", "Applied", "True").await;
    let config = bed
        .child(Kind::ConfigMap, "orders-config")
        .await
        .expect("the configuration");
    assert!(
        config["data"]["postgresql.conf"]
            .as_str()
            .expect("the file")
            .contains("work_mem")
    );
    assert!(
        bed.child(Kind::ControllerRevision, "orders-2").await.is_some(),
        "the second accepted spec"
    );

    bed.databases()
        .delete("orders", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    bed.gone("orders").await;
    assert!(bed.child(Kind::StatefulSet, "orders-g1").await.is_none());
    assert!(bed.child(Kind::Service, "orders-rw").await.is_none());
    let claim = bed
        .child(Kind::PersistentVolumeClaim, "data-orders-g1-0")
        .await
        .expect("the volume is kept");
    assert_eq!(claim["metadata"]["labels"]["intent.example.com/lineage"], lineage);
    let admin = bed
        .child(Kind::Secret, "orders-admin")
        .await
        .expect("so is the password");

    let again = bed.declare("orders", postgresql()).await;
    assert_ne!(again["metadata"]["uid"], lineage);
    bed.condition("orders", "Applied", "True").await;
    let admin_again = bed.child(Kind::Secret, "orders-admin").await.expect("there");
    assert_eq!(
        admin_again["data"], admin["data"],
        "the same volume has the same password"
    );
    assert_eq!(
        bed.child(Kind::Secret, "orders-app").await.expect("made again")["data"],
        app["data"]
    );
    bed.settled(Duration::from_secs(2)).await;
    operator.stop().await;
}

#[tokio::test]
async fn a_leftover_volume_of_another_engine_is_never_started_upon() {
    let Some(bed) = bed("leftover").await else { return };
    let _operator = bed.operator(0);
    bed.declare("cache", postgresql()).await;
    bed.condition("cache", "Applied", "True").await;
    bed.databases()
        .delete("cache", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    bed.gone("cache").await;
    bed.declare("cache", redis()).await;
    let database = bed.condition("cache", "StorageReady", "False").await;
    let message = condition(&database, "StorageReady")["message"]
        .as_str()
        .unwrap_or_default();
    assert!(message.contains("engine is postgresql, wanted redis"), "{message}");
    assert!(
        bed.child(Kind::StatefulSet, "cache-g1").await.is_none(),
        "nothing is started"
    );
    assert_eq!(database["status"]["phase"], "Failed");
}

#[tokio::test]
async fn deletion_policy_delete_takes_volume_and_password_with_it() {
    let Some(bed) = bed("delete").await else { return };
    let _operator = bed.operator(0);
    let mut spec = postgresql();
    spec["deletionPolicy"] = json!("Delete");
    bed.declare("orders", spec).await;
    bed.condition("orders", "Applied", "True").await;
    bed.databases()
        .delete("orders", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    bed.gone("orders").await;
    assert!(
        bed.child(Kind::PersistentVolumeClaim, "data-orders-g1-0")
            .await
            .is_none()
    );
    assert!(bed.child(Kind::Secret, "orders-admin").await.is_none());
}

#[tokio::test]
async fn a_deletion_finds_the_stateful_set_that_lost_its_label() {
    let Some(bed) = bed("unlabelled").await else { return };
    let operator = bed.operator(0);
    bed.declare("orders", postgresql()).await;
    bed.condition("orders", "Applied", "True").await;
    operator.stop().await;
    let labels = json!({"metadata": {"labels": {api::names::BUCKET_LABEL: null}}});
    bed.children(Kind::StatefulSet)
        .patch("orders-g1", &crate::support::user(), &kube::api::Patch::Merge(labels))
        .await
        .expect("edited");
    bed.databases()
        .delete("orders", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    let _operator = bed.operator(0);
    bed.gone("orders").await;
    let deleted = bed.writes();
    assert!(
        deleted.iter().any(|line| line.starts_with("delete statefulsets")),
        "{deleted:?}"
    );
}
