//! What is refused, and how it is told; and that a refusal changes nothing and stops nothing.

mod references;
mod taken;

use std::collections::BTreeMap;
use std::time::Duration;

use api::database::DatabaseSpec;
use api::names;
use api::test_support::{By, Refused, refused};
use controller::events::Events;
use controller::live::preview;
use controller::seen::SeenDatabase;
use engines::catalogue::Catalogue;
use futures::{StreamExt as _, stream};
use kube::Client;
use kube::api::{DeleteParams, ListParams, Patch};
use planner::child::Kind;
use planner::status::{Note, REFUSED};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Bed, bed, condition, eventually, postgresql, user};

/// The catalogue that an operator has if it is given none.
const BUILTIN: &str = include_str!("../../../engines/src/catalogue.yaml");
/// How long without a write an operator counts as having nothing left to do.
const QUIET: Duration = Duration::from_secs(2);

fn message(database: &Value, name: &str) -> String {
    condition(database, name)["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Waits until a condition has this reason for the current generation.
async fn reason(bed: &Bed, name: &str, kind: &str, reason: &str) -> Value {
    bed.database_when(name, &format!("{name}: {kind} because of {reason}"), |database| {
        let says = condition(database, kind);
        says["reason"] == reason && says["observedGeneration"] == database["metadata"]["generation"]
    })
    .await
}

/// Versions of all children of a Database, to see whether one was touched.
async fn versions(bed: &Bed, database: &str) -> BTreeMap<(Kind, String), Value> {
    let all = bed.all_children().await.into_iter();
    all.filter(|((kind, _), object)| planner::child::database_of(*kind, &object.into()).as_deref() == Some(database))
        .map(|(child, object)| (child, object["metadata"]["resourceVersion"].clone()))
        .collect()
}

async fn annotate(bed: &Bed, name: &str, annotation: &str, value: Value) {
    bed.edit(name, json!({"metadata": {"annotations": {annotation: value}}}))
        .await;
}

/// Waits until an Event about a Database has this reason.
async fn event(bed: &Bed, name: &str, reason: &str) {
    let events = bed.api("events.k8s.io", "v1", "Event", "events");
    eventually(&format!("{name}: event {reason}"), async || {
        let all = events.list(&ListParams::default()).await.expect("events can be listed");
        let told: Vec<Value> = all
            .items
            .iter()
            .map(|event| event.data.clone())
            .filter(|event| event["regarding"]["name"] == name)
            .collect();
        if told.iter().any(|event| event["reason"] == reason) {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await;
}

/// One case of the table, through a running operator.
async fn is_told(bed: &Bed, number: usize, case: &Refused) -> Result<(), String> {
    let name = format!("case-{number}");
    let before = if let Some(existing) = &case.existing {
        bed.declare(&name, existing["spec"].clone()).await;
        bed.condition(&name, "Applied", "True").await;
        let before = versions(bed, &name).await;
        // What the command line would say of the edit.
        let spec: DatabaseSpec = serde_json::from_value(case.manifest["spec"].clone()).expect("it can be decoded");
        let catalogue = Catalogue::from_yaml(BUILTIN).expect("the built-in catalogue");
        let preview = preview(&bed.admin(), &catalogue, &bed.namespace, &name, &spec)
            .await
            .expect("a preview");
        let faults = preview
            .verdict
            .refusal()
            .map(|refusal| refusal.faults.clone())
            .unwrap_or_default();
        if !faults.iter().any(|fault| fault.field == case.field) {
            return Err(format!("plan: {faults:?}"));
        }
        bed.edit(&name, json!({"spec": case.manifest["spec"]})).await;
        before
    } else {
        bed.declare(&name, case.manifest["spec"].clone()).await;
        BTreeMap::new()
    };
    let database = bed.condition(&name, "SpecValid", "False").await;
    event(bed, &name, "SpecRefused").await;
    let says = condition(&database, "SpecValid");
    if says["reason"] != REFUSED || !message(&database, "SpecValid").contains(&case.field) {
        return Err(says.to_string());
    }
    if condition(&database, "Stalled")["status"] != "True" {
        return Err(format!("not stalled: {}", database["status"]));
    }
    let after = versions(bed, &name).await;
    if after != before {
        return Err(format!("children were {before:?} and are {after:?}"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_validate_refuses_is_told_with_its_field_and_nothing_is_made() {
    let Some(bed) = bed("refused").await else { return };
    let operator = bed.operator_with_catalogue(0, BUILTIN);
    let cases: Vec<Refused> = refused().into_iter().filter(|case| case.by == By::Validate).collect();
    assert!(cases.len() >= 15, "{}", cases.len());
    let outcomes = stream::iter(cases.iter().enumerate()).map(async |(number, case)| {
        is_told(&bed, number, case)
            .await
            .map_err(|why| format!("{} ({}): {why}", case.name, case.field))
    });
    let outcomes: Vec<_> = outcomes.buffer_unordered(8).collect().await;
    let wrong: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    bed.settled(QUIET).await;
    println!("{} specs refused by validate", cases.len());
    operator.stop().await;
}

#[tokio::test]
async fn a_refused_edit_changes_nothing_and_stops_nothing_also_across_a_restart_of_the_operator() {
    let Some(bed) = bed("refused-edit").await else { return };
    let mut operator = bed.operator(0);
    let mut spec = postgresql();
    spec["configuration"] = json!({"parameters": {"work_mem": "8MB"}});
    bed.declare("orders", spec).await;
    bed.condition("orders", "Applied", "True").await;
    let config = async || bed.child(Kind::ConfigMap, "orders-config").await.unwrap_or_default()["data"].clone();
    let (set, accepted) = (
        bed.child(Kind::StatefulSet, "orders-g1").await.expect("a StatefulSet"),
        config().await,
    );

    bed.edit(
        "orders",
        json!({"spec": {"highAvailability": true, "configuration": {"parameters": {"work_mem": "9MB"}}}}),
    )
    .await;
    let told = bed.condition("orders", "SpecValid", "False").await;
    assert_eq!(told["status"]["acceptedGeneration"], 1);
    assert!(
        message(&told, "SpecValid").contains("spec.highAvailability"),
        "{}",
        message(&told, "SpecValid")
    );
    for restarted in [false, true] {
        if restarted {
            operator.stop().await;
            operator = bed.operator(0);
        }
        bed.delete(Kind::Service, "orders-rw").await;
        bed.children(Kind::ConfigMap)
            .patch(
                "orders-config",
                &user(),
                &Patch::Merge(json!({"data": {"postgresql.conf": "port = 1"}})),
            )
            .await
            .expect("damaged");
        eventually("repaired to the spec accepted last", async || {
            let service = bed.child(Kind::Service, "orders-rw").await.is_some();
            let now = config().await;
            if service && now == accepted {
                Ok(())
            } else {
                Err(format!("service: {service}, config: {now}"))
            }
        })
        .await;
        bed.settled(QUIET).await;
    }
    let now = bed.child(Kind::StatefulSet, "orders-g1").await.expect("a StatefulSet");
    assert_eq!(now["spec"], set["spec"]);
    assert!(
        bed.child(Kind::ControllerRevision, "orders-2").await.is_none(),
        "what is refused is not recorded"
    );

    // Every fault is told at once, and the way back is open.
    bed.edit(
        "orders",
        json!({"spec": {"configuration": {"parameters": {"port": "1"}}}}),
    )
    .await;
    let told = bed.condition("orders", "SpecValid", "False").await;
    for field in ["spec.highAvailability", "spec.configuration.parameters.port"] {
        assert!(
            message(&told, "SpecValid").contains(field),
            "{}",
            message(&told, "SpecValid")
        );
    }
    bed.edit(
        "orders",
        json!({"spec": {"highAvailability": false, "configuration": {"parameters": {"port": null}}}}),
    )
    .await;
    let database = bed.condition("orders", "Applied", "True").await;
    assert_eq!(condition(&database, "SpecValid")["status"], "True");
    assert_eq!(
        database["status"]["acceptedGeneration"],
        database["metadata"]["generation"]
    );
    assert!(
        config().await["postgresql.conf"]
            .as_str()
            .expect("the file")
            .contains("9MB")
    );
    operator.stop().await;
}

#[tokio::test]
async fn a_lower_release_is_refused_and_a_higher_one_of_the_same_major_is_not() {
    let Some(bed) = bed("downgrade").await else { return };
    let catalogue = "postgresql:\n  - {version: \"15.17\", image: \"localhost/postgres:15\", uid: 999}\n  - {version: \"15.18\", image: \"localhost/postgres:15\", uid: 999}\n";
    let _operator = bed.operator_with_catalogue(0, catalogue);
    let mut spec = postgresql();
    spec["version"] = json!("15.17");
    bed.declare("orders", spec).await;
    bed.condition("orders", "Applied", "True").await;
    bed.edit("orders", json!({"spec": {"version": "15.18"}})).await;
    bed.condition("orders", "Applied", "True").await;
    bed.edit("orders", json!({"spec": {"version": "15.17"}})).await;
    let told = bed.condition("orders", "SpecValid", "False").await;
    let says = message(&told, "SpecValid");
    assert!(
        says.contains("spec.version") && says.contains("would go back from 15.18"),
        "{says}"
    );
}

#[tokio::test]
async fn backups_and_monitoring_are_accepted_and_told_as_not_yet_available() {
    let Some(bed) = bed("not-yet").await else { return };
    let _operator = bed.operator(0);
    let mut spec = postgresql();
    spec["backupPolicy"] = json!({"schedule": "0 2 * * *", "retention": "30d"});
    spec["monitoring"] = json!({"enabled": true});
    bed.declare("orders", spec).await;
    let database = bed.condition("orders", "Applied", "True").await;
    for kind in ["BackupHealthy", "MonitoringHealthy"] {
        assert_eq!(condition(&database, kind)["status"], "False", "{kind}");
        assert_eq!(condition(&database, kind)["reason"], "NotYetAvailable", "{kind}");
    }
    bed.edit("orders", json!({"spec": {"backupPolicy": null, "monitoring": null}}))
        .await;
    let database = bed.condition("orders", "Applied", "True").await;
    for kind in ["BackupHealthy", "MonitoringHealthy"] {
        assert!(
            condition(&database, kind).is_null(),
            "{kind} is not said of what is not declared"
        );
    }
}

/// Every sample does through an operator what its comments promise.
#[tokio::test]
async fn every_sample_is_accepted_by_the_server_and_judged_by_the_operator() {
    let Some(bed) = bed("samples").await else { return };
    let _operator = bed.operator_with_catalogue(0, BUILTIN);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/samples");
    let output = tokio::process::Command::new("kubectl")
        .args([
            "apply",
            "--server-side",
            "--validate=strict",
            "-n",
            &bed.namespace,
            "-f",
            folder,
        ])
        .output()
        .await
        .expect("kubectl is on the PATH");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all = bed
        .databases()
        .list(&ListParams::default())
        .await
        .expect("databases can be listed");
    assert!(all.items.len() >= 6, "{}", all.items.len());
    for database in all.items {
        let name = database.metadata.name.expect("a name");
        match database.data["spec"]["engine"].as_str() {
            Some("mysql" | "mongodb") => {
                let told = bed.condition(&name, "SpecValid", "False").await;
                assert!(
                    message(&told, "SpecValid").contains("spec.engine"),
                    "{}",
                    message(&told, "SpecValid")
                );
            }
            _ => drop(bed.condition(&name, "Applied", "True").await),
        }
    }
}

#[tokio::test]
async fn a_paused_database_is_written_to_by_nobody_but_for_its_status_and_repaired_when_it_goes_on() {
    let Some(bed) = bed("paused").await else { return };
    let operator = bed.operator(0);
    bed.declare("orders", postgresql()).await;
    bed.condition("orders", "Applied", "True").await;
    annotate(&bed, "orders", names::PAUSED_ANNOTATION, json!("true")).await;
    bed.condition("orders", "Paused", "True").await;
    bed.settled(QUIET).await;
    let before = bed.writes().len();
    bed.delete(Kind::Service, "orders-rw").await;
    bed.children(Kind::ConfigMap)
        .patch(
            "orders-config",
            &user(),
            &Patch::Merge(json!({"data": {"postgresql.conf": "port = 1"}})),
        )
        .await
        .expect("damaged");
    bed.edit(
        "orders",
        json!({"spec": {"configuration": {"parameters": {"work_mem": "8MB"}}}}),
    )
    .await;
    bed.database_when("orders", "the edit was seen", |database| {
        database["status"]["observedGeneration"] == database["metadata"]["generation"]
    })
    .await;
    bed.settled(QUIET).await;
    let written = bed.writes().split_off(before);
    assert!(
        written.iter().all(|line| line.starts_with("patch databases/status ")),
        "{written:?}"
    );
    assert!(!written.is_empty(), "the edit was reported on");
    assert!(bed.child(Kind::Service, "orders-rw").await.is_none());

    annotate(&bed, "orders", names::PAUSED_ANNOTATION, Value::Null).await;
    let database = bed.condition("orders", "Applied", "True").await;
    assert!(condition(&database, "Paused").is_null(), "{database}");
    assert!(bed.child(Kind::Service, "orders-rw").await.is_some());
    let config = bed.child(Kind::ConfigMap, "orders-config").await.expect("there");
    assert!(
        config["data"]["postgresql.conf"]
            .as_str()
            .expect("the file")
            .contains("8MB"),
        "{config}"
    );

    // Its end waits too.
    annotate(&bed, "orders", names::PAUSED_ANNOTATION, json!("true")).await;
    bed.condition("orders", "Paused", "True").await;
    let before = bed.writes().len();
    bed.databases()
        .delete("orders", &DeleteParams::default())
        .await
        .expect("deleted");
    bed.settled(QUIET).await;
    let written = bed.writes().split_off(before);
    assert!(
        written.iter().all(|line| line.starts_with("patch databases/status ")),
        "{written:?}"
    );
    annotate(&bed, "orders", names::PAUSED_ANNOTATION, Value::Null).await;
    bed.gone("orders").await;
    operator.stop().await;
}

#[tokio::test]
async fn a_namespace_that_is_deleted_under_its_databases_goes_away() {
    let Some(bed) = bed("terminating").await else { return };
    let operator = bed.operator(0);
    for (name, policy) in [("kept", "Retain"), ("dropped", "Delete"), ("refused", "Retain")] {
        let mut spec = postgresql();
        spec["deletionPolicy"] = json!(policy);
        spec["highAvailability"] = json!(name == "refused");
        bed.declare(name, spec).await;
    }
    bed.condition("kept", "Applied", "True").await;
    bed.condition("dropped", "Applied", "True").await;
    bed.condition("refused", "SpecValid", "False").await;
    let namespaces = kube::Api::<kube::api::DynamicObject>::all_with(
        bed.admin(),
        &kube::core::ApiResource::from_gvk_with_plural(
            &kube::core::GroupVersionKind::gvk("", "v1", "Namespace"),
            "namespaces",
        ),
    );
    let since = Instant::now();
    namespaces
        .delete(&bed.namespace, &DeleteParams::default())
        .await
        .expect("deleted");
    eventually("the namespace is gone", async || {
        match namespaces.get_opt(&bed.namespace).await.expect("it can be read") {
            None => Ok(()),
            Some(namespace) => Err(namespace.data["status"].to_string()),
        }
    })
    .await;
    println!("the namespace was gone after {} ms", since.elapsed().as_millis());
    operator.stop().await;
}

/// A pod that goes up and down is one event that counts, and words of any length are told as far as the server takes them.
#[tokio::test(flavor = "multi_thread")]
async fn what_repeats_is_counted_in_one_event_and_long_words_are_cut() {
    let Some(bed) = bed("events").await else {
        return;
    };
    let client = Client::try_from(bed.operator_config()).expect("a client");
    let events = Events::new(client, "test");
    let metadata = json!({
        "namespace": bed.namespace, "name": "orders", "uid": "0b1f6c7e-3f0e-4b51-8a5a-6c0e1d2f3a4b", "resourceVersion": "1",
    });
    let database: SeenDatabase =
        serde_json::from_value(json!({"metadata": metadata, "spec": null})).expect("enough of a Database");
    for time in 1..=3 {
        let note = Note {
            warning: true,
            reason: "NotReady",
            action: "Serve",
            message: format!("the {time}. time: {}", "word ".repeat(1000)),
        };
        events.publish(&database, &note).await.expect("it is accepted");
    }
    let api = bed.api("events.k8s.io", "v1", "Event", "events");
    let all = api.list(&ListParams::default()).await.expect("events can be listed");
    let [event] = &all.items[..] else {
        panic!("{} events", all.items.len());
    };
    assert_eq!(event.data["series"]["count"], 3);
    let note = event.data["note"].as_str().expect("words");
    assert!(
        note.starts_with("the 1. time: word") && note.ends_with(" ..."),
        "{note}"
    );
    assert_eq!(event.data["regarding"]["name"], "orders");
}
