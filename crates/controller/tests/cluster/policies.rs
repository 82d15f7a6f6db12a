//! Policies in a reconcile: what they refuse is not accepted, and stops nothing.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use controller::surroundings::{Around, Hears};
use engines::catalogue::Catalogue;
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PostParams};
use planner::child::Kind;
use policy::bundle::{Bundle, Files};
use policy::desk::{Decided, Desk, Outside};
use policy::guard::{Guard, SharedPlanner};
use policy::policies::Policies;
use serde_json::{Value, json};

use crate::support::{Bed, Operator, bed, catalogue, condition, eventually, postgresql, redis, user};

/// Storage is bounded by the level, and CPU everywhere.
const RULES: &str = r#"
package database.sizes

import rego.v1

violations contains {
	"id": "sizes.storage", "severity": "high", "action": "deny", "path": "spec.resources.requests.storage",
	"message": sprintf("%v is more than %v", [input.object.spec.resources.requests.storage, input.settings.max.storage.text]),
	"measure": input.norm.requests.storage,
} if {
	input.norm.requests.storage > input.settings.max.storage.value
}

violations contains {
	"id": "sizes.cpu", "severity": "high", "action": "deny", "path": "spec.resources.requests.cpu",
	"message": sprintf("%v is more than %v", [input.object.spec.resources.requests.cpu, input.settings.max.cpu.text]),
	"measure": input.norm.requests.cpu,
} if {
	input.norm.requests.cpu > input.settings.max.cpu.value
}
"#;

/// Policies with these bounds.
fn policies(usual: &str, production: &str) -> Policies {
    let mut files = Files::new();
    let settings = |storage: &str, more: Value| {
        let mut settings = json!({"max": {"storage": storage, "cpu": "2"}});
        settings
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        json!({"settings": settings}).to_string().into_bytes()
    };
    let add = |files: &mut Files, name: &str, content: Vec<u8>| files.add(name, content).expect("a file");
    add(
        &mut files,
        ".manifest",
        br#"{"revision": "1", "roots": ["database"], "rego_version": 1}"#.to_vec(),
    );
    add(&mut files, "database/sizes.rego", RULES.into());
    add(
        &mut files,
        "database/data.json",
        settings(usual, json!({"default_environment": "development"})),
    );
    let of_production = settings(production, json!({}));
    add(&mut files, "database/environment/production/data.json", of_production);
    let bundle = Bundle::open_unverified("sizes", files).expect("a bundle");
    let catalogue = Catalogue::from_yaml(catalogue()).expect("a catalogue");
    // A busy machine must not make errors here.
    Policies::load(&[bundle], catalogue)
        .expect("policies")
        .with_time_limit(Duration::from_secs(30))
}

/// Nobody listens.
struct Deaf;

impl Hears for Deaf {
    fn decided(&self, _: &Decided) {}
    fn shed(&self) {}
}

/// An operator that asks policies.
struct Asking {
    guard: Guard,
    /// Ends with it.
    _operator: Operator,
    follows: tokio::task::JoinHandle<std::convert::Infallible>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.follows.abort();
    }
}

fn asking(bed: &Bed) -> Asking {
    let of_tests = Arc::new(Catalogue::from_yaml(catalogue()).expect("a catalogue"));
    let planner: SharedPlanner = Arc::new(move |object: &Value, namespace: &str| {
        let database = api::strict::filled(object)?;
        planner::fresh::children(&database, namespace, &of_tests)
    });
    let guard = Guard::start(NonZeroUsize::MIN, &planner).expect("a thread");
    let client = || Client::try_from(bed.operator_config()).expect("a client for the operator");
    let around = Around::new(client(), Deaf);
    let outside = Outside {
        now: Timestamp::now,
        random: || [7; 10],
    };
    let desk = Desk::new(guard.clone(), around.clone(), outside, "test");
    let namespace = bed.namespace.clone();
    let follows = tokio::spawn(async move { around.follow(&[namespace]).await });
    let operator = bed.operator_as(client(), |settings| settings.desk = Some(desk));
    Asking {
        guard,
        _operator: operator,
        follows,
    }
}

fn storage(size: &str) -> Value {
    json!({"spec": {"resources": {"requests": {"storage": size}}}})
}

fn cpu(cpu: &str) -> Value {
    json!({"spec": {"resources": {"requests": {"cpu": cpu}}}})
}

fn with_storage(mut spec: Value, size: &str) -> Value {
    spec["resources"]["requests"]["storage"] = size.into();
    spec
}

/// Waits until policies have said this of the current generation.
async fn ruled(bed: &Bed, name: &str, reason: &str) -> Value {
    bed.database_when(
        name,
        &format!("{name}: PolicyAllowed because of {reason}"),
        |database| {
            let says = condition(database, "PolicyAllowed");
            says["reason"] == reason && says["observedGeneration"] == database["metadata"]["generation"]
        },
    )
    .await
}

async fn label_namespace(bed: &Bed, environment: Value) {
    let namespaces: Api<DynamicObject> = Api::all_with(
        bed.admin(),
        &kube::core::ApiResource::from_gvk_with_plural(
            &kube::core::GroupVersionKind::gvk("", "v1", "Namespace"),
            "namespaces",
        ),
    );
    let change = json!({"metadata": {"labels": {"intent.example.com/environment": environment}}});
    namespaces
        .patch(&bed.namespace, &user(), &Patch::Merge(change))
        .await
        .expect("the namespace is labelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_change_is_told_changes_nothing_and_stops_nothing() {
    let Some(bed) = bed("policy-change").await else { return };
    let asking = asking(&bed);
    asking.guard.activate(policies("2Gi", "1Gi"));
    bed.declare("orders", postgresql()).await;
    let accepted = ruled(&bed, "orders", "Allowed").await;
    assert_eq!(condition(&accepted, "PolicyAllowed")["status"], "True");
    bed.condition("orders", "Applied", "True").await;

    bed.edit("orders", cpu("4")).await;
    let denied = ruled(&bed, "orders", "PolicyDenied").await;
    let says = condition(&denied, "PolicyAllowed");
    assert_eq!(
        (&says["status"], &says["message"]),
        (
            &json!("False"),
            &json!("spec.resources.requests.cpu: 4 is more than 2 (sizes.cpu)")
        )
    );
    assert_eq!(denied["status"]["acceptedGeneration"], 1);
    assert_eq!(condition(&denied, "Stalled")["reason"], "PolicyDenied");
    assert_eq!(condition(&denied, "SpecValid")["status"], "True");
    let told = says["message"].as_str().expect("words");
    assert_eq!(denied["status"]["message"], told, "`kubectl get` shows it");
    eventually("an event tells it", async || {
        let events = bed.api("events.k8s.io", "v1", "Event", "events");
        let all = events.list(&ListParams::default()).await.expect("events can be listed");
        let found = all
            .items
            .iter()
            .any(|event| event.data["reason"] == "PolicyDenied" && event.data["note"] == told);
        if found {
            Ok(())
        } else {
            Err(format!("{} others", all.items.len()))
        }
    })
    .await;

    // Drift repair goes on from what was accepted.
    let before = bed.child(Kind::Service, "orders-rw").await.expect("it is there");
    bed.delete(Kind::Service, "orders-rw").await;
    eventually("the Service is made again", async || {
        match bed.child(Kind::Service, "orders-rw").await {
            Some(service) if service["metadata"]["uid"] != before["metadata"]["uid"] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let set = bed.child(Kind::StatefulSet, "orders-g1").await.expect("it is there");
    let requests = &set["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"];
    assert_eq!(requests["cpu"], Value::Null, "what was refused is not done: {requests}");

    bed.edit("orders", cpu("1")).await;
    let accepted = ruled(&bed, "orders", "Allowed").await;
    assert_eq!(condition(&accepted, "Stalled")["status"], "False");
    bed.database_when("orders", "the third generation is accepted", |database| {
        database["status"]["acceptedGeneration"] == 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_database_has_no_children_until_an_exception_lets_it() {
    let Some(bed) = bed("policy-exception").await else {
        return;
    };
    let asking = asking(&bed);
    asking.guard.activate(policies("2Gi", "1Gi"));
    bed.declare("big", with_storage(postgresql(), "4Gi")).await;
    let denied = ruled(&bed, "big", "PolicyDenied").await;
    assert_eq!(denied["status"]["phase"], "Failed");
    assert_eq!(bed.all_children().await.len(), 0);

    let exceptions: Api<DynamicObject> = Api::all_with(
        bed.admin(),
        &kube::core::ApiResource::from_gvk_with_plural(
            &kube::core::GroupVersionKind::gvk(api::names::GROUP, api::names::VERSION, "PolicyException"),
            api::names::EXCEPTIONS_PLURAL,
        ),
    );
    let expires = Timestamp::now().checked_add(Duration::from_hours(24)).expect("a time");
    let exception = json!({
        "apiVersion": api::names::API_VERSION, "kind": "PolicyException", "metadata": {"name": bed.namespace},
        "spec": {
            "rules": ["sizes.storage"], "selector": {"namespaces": [bed.namespace], "databases": ["big"]},
            "reason": "moves out in January", "approver": "head of platform", "expires": expires,
        },
    });
    let exception = serde_json::from_value(exception).expect("an object");
    exceptions
        .create(&PostParams::default(), &exception)
        .await
        .expect("an exception is made");
    let allowed = ruled(&bed, "big", "Allowed").await;
    let message = condition(&allowed, "PolicyAllowed")["message"].as_str().expect("words");
    assert!(
        message.contains(&format!("sizes.storage is excepted by {}", bed.namespace)),
        "{message}"
    );
    bed.condition("big", "Applied", "True").await;

    exceptions
        .delete(&bed.namespace, &DeleteParams::default())
        .await
        .expect("the exception is deleted");
    let before = ruled(&bed, "big", "AcceptedBefore").await;
    assert_eq!(before["status"]["acceptedGeneration"], 1);
    assert_eq!(condition(&before, "Applied")["status"], "True", "it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_is_looked_at_again_when_labels_or_policies_change() {
    let Some(bed) = bed("policy-audit").await else { return };
    let asking = asking(&bed);
    asking.guard.activate(policies("4Gi", "1Gi"));
    bed.declare("orders", with_storage(redis(), "2Gi")).await;
    ruled(&bed, "orders", "Allowed").await;
    bed.condition("orders", "Applied", "True").await;

    label_namespace(&bed, json!("production")).await;
    let before = ruled(&bed, "orders", "AcceptedBefore").await;
    let message = condition(&before, "PolicyAllowed")["message"].as_str().expect("words");
    assert!(message.contains("2Gi is more than 1Gi"), "{message}");
    assert_eq!(before["status"]["acceptedGeneration"], 1);
    // What does not make it worse is accepted.
    bed.edit("orders", json!({"spec": {"deletionPolicy": "Delete"}})).await;
    bed.database_when("orders", "the second generation is accepted", |database| {
        database["status"]["acceptedGeneration"] == 2
    })
    .await;
    // What makes it worse is not.
    bed.edit("orders", storage("3Gi")).await;
    ruled(&bed, "orders", "PolicyDenied").await;
    // Nothing is done for a Database whose state nobody changes.
    bed.settled(Duration::from_secs(2)).await;

    asking.guard.activate(policies("4Gi", "8Gi"));
    ruled(&bed, "orders", "Allowed").await;
    bed.database_when("orders", "the third generation is accepted", |database| {
        database["status"]["acceptedGeneration"] == 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_policies_in_force_nothing_is_accepted_and_what_runs_goes_on() {
    let Some(bed) = bed("policy-none").await else { return };
    let first = bed.operator(0);
    bed.declare("old", postgresql()).await;
    bed.condition("old", "Applied", "True").await;
    first.stop().await;

    let asking = asking(&bed);
    bed.declare("new", postgresql()).await;
    let error = ruled(&bed, "new", "PolicyError").await;
    assert_eq!(condition(&error, "PolicyAllowed")["status"], "False");
    assert_ne!(error["status"]["phase"], "Failed", "it may pass");
    let unjudged = ruled(&bed, "old", "NotJudged").await;
    assert_eq!(condition(&unjudged, "PolicyAllowed")["status"], "Unknown");
    bed.delete(Kind::Service, "old-rw").await;
    eventually("the Service is made again", async || {
        bed.child(Kind::Service, "old-rw")
            .await
            .map(|_| ())
            .ok_or("it is not there".to_owned())
    })
    .await;
    let children = bed.all_children().await;
    assert!(
        children.keys().all(|(_, name)| !name.starts_with("new")),
        "{:?}",
        children.keys()
    );

    asking.guard.activate(policies("2Gi", "1Gi"));
    ruled(&bed, "new", "Allowed").await;
    ruled(&bed, "old", "Allowed").await;
    bed.condition("new", "Applied", "True").await;
}
