//! Objects that a spec refers to: missing, appearing, spoilt, gone.

use std::time::Duration;

use api::names;
use kube::api::Patch;
use planner::child::Kind;
use planner::status::{MISSING_REFERENCE, REFUSED};
use serde_json::json;
use tokio::time::Instant;

use super::{QUIET, message, reason, versions};
use crate::support::{bed, condition, eventually, postgresql, user};

#[tokio::test]
async fn what_is_referred_to_and_missing_is_named_and_picked_up_when_it_appears() {
    let Some(bed) = bed("missing").await else { return };
    let operator = bed.operator(0);
    let refer = |what: &str, name: &str| {
        let mut spec = postgresql();
        spec["configuration"] = json!({what: {"name": name}});
        spec
    };
    let object = |kind: &str, name: &str, watched: bool| {
        let labels = if watched {
            json!({names::WATCH_LABEL: "true"})
        } else {
            json!({})
        };
        let field = if kind == "Secret" { "stringData" } else { "data" };
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels}, field: {"work_mem": "7MB"}})
    };
    for (database, what, name) in [
        ("map", "configMapRef", "tuning"),
        ("map-watched", "configMapRef", "tuning-watched"),
        ("secret", "secretRef", "hidden"),
        ("secret-watched", "secretRef", "hidden-watched"),
    ] {
        bed.declare(database, refer(what, name)).await;
        let told = reason(&bed, database, "SpecValid", MISSING_REFERENCE).await;
        let says = message(&told, "SpecValid");
        assert!(says.contains(name) && says.contains(what), "{says}");
        assert!(
            versions(&bed, database).await.is_empty(),
            "nothing is made before it is known what"
        );
    }
    for (database, kind, name, watched) in [
        ("map-watched", Kind::ConfigMap, "tuning-watched", true),
        ("secret-watched", Kind::Secret, "hidden-watched", true),
        ("map", Kind::ConfigMap, "tuning", false),
        ("secret", Kind::Secret, "hidden", false),
    ] {
        let since = Instant::now();
        bed.create(&bed.children(kind), object(kind.name(), name, watched))
            .await;
        bed.condition(database, "Applied", "True").await;
        println!("{database}: picked up after {} ms", since.elapsed().as_millis());
        // Unwatched ones are looked for every 15 s; that one is not waited for here.
        assert!(
            !watched || since.elapsed() < Duration::from_secs(10),
            "{database}: {:?}",
            since.elapsed()
        );
    }
    // A watched one that changes is taken over at once.
    bed.children(Kind::ConfigMap)
        .patch(
            "tuning-watched",
            &user(),
            &Patch::Merge(json!({"data": {"work_mem": "6MB"}})),
        )
        .await
        .expect("edited");
    eventually("the new value", async || {
        let config = bed
            .child(Kind::ConfigMap, "map-watched-config")
            .await
            .unwrap_or_default();
        if config["data"]["postgresql.conf"].to_string().contains("6MB") {
            Ok(())
        } else {
            Err(config["data"].to_string())
        }
    })
    .await;
    operator.stop().await;
}

/// What was accepted and is later spoilt by an object that it refers to: told, and nothing that runs is given up.
#[tokio::test]
async fn a_reference_that_goes_or_turns_bad_later_stops_nothing() {
    let Some(bed) = bed("spoilt").await else { return };
    let _operator = bed.operator(0);
    let tuning = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"work_mem": "7MB"},
        "metadata": {"name": "tuning", "labels": {names::WATCH_LABEL: "true"}},
    });
    bed.create(&bed.children(Kind::ConfigMap), tuning.clone()).await;
    let mut spec = postgresql();
    spec["configuration"] = json!({"configMapRef": {"name": "tuning"}});
    bed.declare("orders", spec).await;
    bed.condition("orders", "Applied", "True").await;
    let config = async || bed.child(Kind::ConfigMap, "orders-config").await.unwrap_or_default()["data"].clone();
    let (set, before) = (
        bed.child(Kind::StatefulSet, "orders-g1").await.expect("there"),
        config().await,
    );
    let still_kept = async |what: &str| {
        bed.delete(Kind::Service, "orders-rw").await;
        eventually(&format!("the Service is made again although {what}"), async || {
            bed.child(Kind::Service, "orders-rw")
                .await
                .map(drop)
                .ok_or_else(String::new)
        })
        .await;
        assert_eq!(config().await, before, "{what}");
        assert_eq!(
            bed.child(Kind::StatefulSet, "orders-g1").await.expect("there")["spec"],
            set["spec"],
            "{what}"
        );
        let database = bed.database("orders").await.expect("there");
        assert_ne!(
            condition(&database, "Ready")["reason"],
            "NothingAccepted",
            "{what}: something was accepted"
        );
    };

    let spoil = Patch::Merge(json!({"data": {"port": "1"}}));
    bed.children(Kind::ConfigMap)
        .patch("tuning", &user(), &spoil)
        .await
        .expect("spoilt");
    let told = reason(&bed, "orders", "SpecValid", REFUSED).await;
    assert!(
        message(&told, "SpecValid").contains("spec.configuration.configMapRef"),
        "{}",
        message(&told, "SpecValid")
    );
    still_kept("the ConfigMap turned bad").await;

    bed.delete(Kind::ConfigMap, "tuning").await;
    reason(&bed, "orders", "SpecValid", MISSING_REFERENCE).await;
    still_kept("the ConfigMap is gone").await;

    bed.create(&bed.children(Kind::ConfigMap), tuning).await;
    bed.condition("orders", "SpecValid", "True").await;
    bed.condition("orders", "Applied", "True").await;
    assert_eq!(config().await, before);
    bed.settled(QUIET).await;
}

#[tokio::test]
async fn an_administrators_secret_without_its_salt_is_told_and_stops_nothing_else() {
    let Some(bed) = bed("salt").await else { return };
    let operator = bed.operator(0);
    let hidden = json!({
        "apiVersion": "v1", "kind": "Secret", "stringData": {"work_mem": "7MB"},
        "metadata": {"name": "hidden", "labels": {names::WATCH_LABEL: "true"}},
    });
    bed.create(&bed.children(Kind::Secret), hidden).await;
    let mut spec = postgresql();
    spec["configuration"] = json!({"secretRef": {"name": "hidden"}});
    bed.declare("orders", spec).await;
    bed.condition("orders", "Applied", "True").await;
    let rendered = bed.child(Kind::Secret, "orders-config-secret").await.expect("rendered");
    let salt = bed.child(Kind::Secret, "orders-admin").await.expect("there")["data"]["salt"].clone();
    let spoil = async |salt: serde_json::Value| {
        bed.children(Kind::Secret)
            .patch("orders-admin", &user(), &Patch::Merge(json!({"data": {"salt": salt}})))
            .await
            .expect("edited");
    };

    spoil(serde_json::Value::Null).await;
    bed.delete(Kind::Service, "orders-rw").await;
    let told = bed.condition("orders", "Applied", "False").await;
    let says = message(&told, "Applied");
    assert!(says.contains("orders-admin: key salt is missing"), "{says}");
    eventually("the Service comes back all the same", async || {
        bed.child(Kind::Service, "orders-rw").await.ok_or_else(String::new)
    })
    .await;
    let now = bed.child(Kind::Secret, "orders-config-secret").await.expect("kept");
    assert_eq!(
        now["metadata"]["resourceVersion"],
        rendered["metadata"]["resourceVersion"]
    );

    spoil(salt).await;
    bed.condition("orders", "Applied", "True").await;
    operator.stop().await;
}
