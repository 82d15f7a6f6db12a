//! A newer operator beside running pods: what it would do otherwise waits for the next restart that the user asks for.

use std::time::Duration;

use api::database::DatabaseSpec;
use engines::catalogue::Catalogue;
use kube::api::{DeleteParams, Patch, PatchParams};
use planner::bodies;
use planner::child::Kind;
use planner::plan::Subject;
use planner::validate::{References, validate};
use serde_json::{Value, json};

use crate::support::{Bed, bed_with_node, catalogue, condition, eventually, postgresql};

/// How long without a write an operator counts as having nothing left to do.
const QUIET: Duration = Duration::from_secs(3);
const NAME: &str = "orders";
const POD: &str = "orders-g1-0";
const SET: &str = "orders-g1";

/// A release that is newer than the one that runs, under an image of another name.
const NEWER_CATALOGUE: &str = r#"
postgresql:
  - {version: "15.18", image: "localhost/postgres:15", uid: 999}
  - {version: "15.99", image: "localhost/postgres:15-next", uid: 999}
"#;

async fn pod(bed: &Bed) -> Value {
    bed.child(Kind::Pod, POD).await.expect("the member's pod")
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().expect("a uid")
}

/// Pods that the operator deleted, from the audit log.
fn restarts(bed: &Bed) -> Vec<String> {
    bed.requests()
        .into_iter()
        .filter(|line| line.starts_with("delete pods "))
        .collect()
}

/// Waits until another pod than this one stands in its place, and returns it.
async fn next_pod(bed: &Bed, before: &str) -> Value {
    eventually("another pod", async || match bed.child(Kind::Pod, POD).await {
        Some(pod) if uid(&pod) != before => Ok(pod),
        other => Err(format!(
            "{:?}",
            other.map(|pod| pod["metadata"]["deletionTimestamp"].clone())
        )),
    })
    .await
}

#[tokio::test]
async fn a_newer_catalogue_restarts_no_pod_and_is_taken_at_the_next_restart() {
    let Some(bed) = bed_with_node("upgrade-image").await else {
        return;
    };
    let operator = bed.operator(1);
    bed.declare(NAME, postgresql()).await;
    let running = bed.condition(NAME, "Ready", "True").await["status"]["version"]["running"].clone();
    bed.settled(QUIET).await;
    operator.stop().await;
    let before = pod(&bed).await;
    assert_eq!(before["spec"]["containers"][0]["image"], "localhost/postgres:15");

    let operator = bed.operator_with_catalogue(1, NEWER_CATALOGUE);
    let database = bed
        .database_when(NAME, "the newer image is told of", |database| {
            condition(database, "ConfigurationApplied")["reason"] == "UpdateAvailable"
        })
        .await;
    bed.settled(QUIET).await;
    assert_eq!(uid(&pod(&bed).await), uid(&before), "the same pod");
    assert_eq!(restarts(&bed), [""; 0]);
    let set = bed.child(Kind::StatefulSet, SET).await.expect("the StatefulSet");
    let image = set.pointer("/spec/template/spec/containers/0/image").expect("an image");
    assert_eq!(
        image, "localhost/postgres:15-next",
        "the template waits for the next restart"
    );
    assert_eq!(
        condition(&database, "Ready")["status"],
        "True",
        "it serves all the time"
    );
    assert_eq!(condition(&database, "ConfigurationApplied")["status"], "True");
    assert_eq!(
        database["status"]["version"]["running"], running,
        "what runs is what is told"
    );
    assert_eq!(
        database["status"]["replicaStatus"]["members"][0]["pendingRestart"],
        true
    );

    // The user's own change restarts it, once, and then the newer release is what starts. (That image does not exist
    // in this cluster; which one is asked for is what counts here.)
    bed.edit(
        NAME,
        json!({"spec": {"configuration": {"parameters": {"work_mem": "7MB"}}}}),
    )
    .await;
    let after = next_pod(&bed, uid(&before)).await;
    assert_eq!(after["spec"]["containers"][0]["image"], "localhost/postgres:15-next");
    bed.settled(QUIET).await;
    assert_eq!(uid(&pod(&bed).await), uid(&after));
    assert_eq!(restarts(&bed).len(), 1, "{:?}", restarts(&bed));
    operator.stop().await;
}

/// The StatefulSet as an operator applied it whose template had one label more.
fn set_with_one_label_more(bed: &Bed, database: &Value) -> Value {
    let spec: DatabaseSpec = serde_json::from_value(database["spec"].clone()).expect("a spec");
    let catalogue = Catalogue::from_yaml(catalogue()).expect("the demo's catalogue");
    let intent = validate(&spec, &References::default(), &catalogue, None).expect("an accepted spec");
    let subject = Subject {
        namespace: bed.namespace.clone(),
        name: NAME.to_owned(),
        uid: uid(database).to_owned(),
        bucket: sharding::bucket_of(&bed.namespace, NAME),
    };
    let cx = bodies::Context {
        subject: &subject,
        intent: &intent,
        lineage: subject.uid.as_str().into(),
        credentials: 1,
        inputs: intent.inputs(None),
        template_storage: intent.storage.to_string().into(),
        replicas: 1,
    };
    let mut body = bodies::Part::Set.body(&cx);
    body["spec"]["template"]["metadata"]["labels"]["example.com/template"] = json!("other");
    body
}

#[tokio::test]
async fn a_template_that_differs_by_one_label_restarts_no_pod_and_is_taken_at_the_next_restart() {
    let Some(bed) = bed_with_node("upgrade-template").await else {
        return;
    };
    let operator = bed.operator(1);
    bed.declare(NAME, postgresql()).await;
    let database = bed.condition(NAME, "Ready", "True").await;
    bed.settled(QUIET).await;
    operator.stop().await;

    // What another version of the operator left behind: its template, and a pod made from that.
    let other = PatchParams::apply(api::names::FIELD_MANAGER).force();
    let body = set_with_one_label_more(&bed, &database);
    bed.children(Kind::StatefulSet)
        .patch(SET, &other, &Patch::Apply(body))
        .await
        .expect("applied");
    eventually("the template is taken", async || {
        let set = bed.child(Kind::StatefulSet, SET).await.expect("the StatefulSet");
        let (wanted, seen) = (&set["metadata"]["generation"], &set["status"]["observedGeneration"]);
        if wanted == seen {
            Ok(())
        } else {
            Err(format!("{seen} of {wanted}"))
        }
    })
    .await;
    let first = uid(&pod(&bed).await).to_owned();
    bed.children(Kind::Pod)
        .delete(POD, &DeleteParams::default())
        .await
        .expect("deleted");
    let before = next_pod(&bed, &first).await;
    let label = |object: &Value| object["metadata"]["labels"]["example.com/template"].clone();
    assert_eq!(label(&before), "other", "the other version's pod");

    let operator = bed.operator(1);
    eventually("the template is ours", async || {
        let set = bed.child(Kind::StatefulSet, SET).await.expect("the StatefulSet");
        match label(&set["spec"]["template"]) {
            Value::Null => Ok(()),
            label => Err(label.to_string()),
        }
    })
    .await;
    bed.condition(NAME, "Ready", "True").await;
    bed.settled(QUIET).await;
    assert_eq!(uid(&pod(&bed).await), uid(&before), "the same pod");
    assert_eq!(label(&pod(&bed).await), "other");
    assert_eq!(restarts(&bed), [""; 0]);

    bed.edit(
        NAME,
        json!({"spec": {"configuration": {"parameters": {"work_mem": "7MB"}}}}),
    )
    .await;
    let after = next_pod(&bed, uid(&before)).await;
    bed.condition(NAME, "Ready", "True").await;
    bed.settled(QUIET).await;
    assert_eq!(uid(&pod(&bed).await), uid(&after), "one restart, not more");
    assert_eq!(label(&after), Value::Null, "by the present template");
    assert_eq!(restarts(&bed).len(), 1, "{:?}", restarts(&bed));
    operator.stop().await;
}
