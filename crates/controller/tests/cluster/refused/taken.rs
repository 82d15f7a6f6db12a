//! Names of children that somebody else has.

use api::names;
use futures::{StreamExt as _, stream};
use planner::child::Kind;
use planner::status::NAME_TAKEN;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{QUIET, event, message, reason};
use crate::support::{bed, postgresql, redis};

/// Somebody else's objects stand where ours would: without any label of ours, so that no watch shows them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_name_is_told_for_each_kind_of_child_and_the_object_is_not_touched() {
    let Some(bed) = bed("taken").await else { return };
    let operator = bed.operator(0);
    let metadata = |name: &str| json!({"name": name, "labels": {"app": "theirs"}});
    let plain = |kind: Kind, name: &str, rest: Value| {
        let mut object = json!({"apiVersion": kind.api_version(), "kind": kind.name(), "metadata": metadata(name)});
        object
            .as_object_mut()
            .expect("an object")
            .extend(rest.as_object().expect("fields").clone());
        object
    };
    let pods = json!({"metadata": {"labels": {"app": "theirs"}}, "spec": {"containers": [{"name": "theirs", "image": "theirs"}]}});
    let set = json!({"spec": {"replicas": 0, "serviceName": "theirs", "selector": {"matchLabels": {"app": "theirs"}}, "template": pods}});
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let theirs = [
        (Kind::ServiceAccount, "{}", json!({})),
        (Kind::Service, "{}-rw", json!({"spec": {"ports": [{"port": 1}]}})),
        (Kind::Service, "{}-pods", json!({"spec": {"ports": [{"port": 1}]}})),
        (Kind::Secret, "{}-app", json!({"stringData": {"password": "theirs"}})),
        (Kind::Secret, "{}-admin", json!({"stringData": {"password": "theirs"}})),
        (
            Kind::ConfigMap,
            "{}-config",
            json!({"data": {"postgresql.conf": "theirs"}}),
        ),
        (Kind::Secret, "{}-config-secret", json!({"stringData": {"a": "theirs"}})),
        (Kind::PersistentVolumeClaim, "data-{}-g1-0", claim),
        (Kind::StatefulSet, "{}-g1", set),
    ];
    bed.create(
        &bed.children(Kind::Secret),
        plain(
            Kind::Secret,
            "hidden",
            json!({"stringData": {"shop.api_key": "planted"}}),
        ),
    )
    .await;
    let take = async |(number, (kind, pattern, rest)): (usize, (Kind, &str, Value))| {
        let database = format!("db{number}");
        let name = pattern.replace("{}", &database);
        let made = bed.create(&bed.children(kind), plain(kind, &name, rest)).await;
        let mut spec = postgresql();
        spec["configuration"] = json!({"secretRef": {"name": "hidden"}});
        bed.declare(&database, spec).await;
        let told = reason(&bed, &database, "Applied", NAME_TAKEN).await;
        let says = message(&told, "Applied");
        assert!(says.contains(&format!("{} {name}", kind.name())), "{says}");
        event(&bed, &database, NAME_TAKEN).await;
        bed.settled(QUIET).await;
        let now = bed.child(kind, &name).await.expect("theirs");
        let part = |object: &Value| {
            let mut object = object.clone();
            // What the server's own controllers write.
            for field in ["status", "metadata"] {
                object.as_object_mut().expect("an object").remove(field);
            }
            (
                object,
                json!([
                    now["metadata"]["labels"],
                    now["metadata"]["ownerReferences"],
                    now["metadata"]["uid"]
                ]),
            )
        };
        assert_eq!(part(&now).0, part(&made).0, "{name} was touched");
        let by_us = now["metadata"]["managedFields"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|entry| entry["manager"] == names::FIELD_MANAGER);
        assert!(
            !by_us && now["metadata"]["labels"] == json!({"app": "theirs"}),
            "{name} was touched: {now}"
        );
        assert!(bed.child(Kind::StatefulSet, &format!("{database}-g1")).await.is_none() || kind == Kind::StatefulSet);
        // Nothing tells us when it goes, so it is looked at again within a minute.
        bed.delete(kind, &name).await;
        bed.condition(&database, "Applied", "True").await;
    };
    let began = Instant::now();
    stream::iter(theirs.into_iter().enumerate())
        .map(take)
        .buffer_unordered(usize::MAX)
        .collect::<Vec<()>>()
        .await;
    println!(
        "all names were free again and taken by us after {} s",
        began.elapsed().as_secs()
    );

    // The name of an accepted spec is passed over: the next number does as well.
    let theirs = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata("noted-1"), "revision": 1, "data": {}});
    bed.create(&bed.children(Kind::ControllerRevision), theirs).await;
    bed.declare("noted", redis()).await;
    bed.condition("noted", "Applied", "True").await;
    assert!(bed.child(Kind::ControllerRevision, "noted-2").await.is_some());
    assert!(
        bed.child(Kind::ControllerRevision, "noted-1").await.expect("theirs")["metadata"]
            .get("ownerReferences")
            .is_none()
    );
    operator.stop().await;
}
