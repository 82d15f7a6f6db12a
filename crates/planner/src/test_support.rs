//! Builders for tests: a Database, its intent, and its children as they are once everything has settled.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::database::{DatabaseSpec, DeletionPolicy, Engine};
use api::names;
use engines::catalogue::Catalogue;
use serde_json::{Value, json};

use crate::action::Action;
use crate::child::{Child, ChildRef, Children, ClaimFacts, Facts, Kind, PodFacts};
use crate::intent::{Compute, Intent};
use crate::marks;
use crate::owned::digest_of_body;
use crate::plan::{Block, Desired, Observed, Plan, Subject, plan};
use crate::show;

/// Database `orders` in namespace `shop`.
pub(crate) fn subject() -> Subject {
    Subject {
        namespace: "shop".to_owned(),
        name: "orders".to_owned(),
        uid: "database-uid".to_owned(),
        bucket: sharding::bucket_of("shop", "orders"),
    }
}

/// The newest release of an engine with 10Gi, 500m and 1Gi.
pub(crate) fn intent(engine: Engine) -> Intent {
    let release = Catalogue::builtin()
        .releases(engine)
        .last()
        .expect("every engine has releases")
        .clone();
    let some = |text: &str| Some(text.parse().expect("it is a quantity"));
    Intent {
        engine,
        declared_version: release.major.clone(),
        release,
        compute: Compute {
            cpu_request: some("500m"),
            memory_request: some("1Gi"),
            cpu_limit: None,
            memory_limit: some("1Gi"),
        },
        storage: "10Gi".parse().expect("it is a quantity"),
        storage_class: None,
        deletion_policy: DeletionPolicy::Retain,
        backup: false,
        monitoring: false,
        parameters: BTreeMap::new(),
        secret_parameters: BTreeMap::new(),
    }
}

/// The least that a spec needs, with this merged into it.
pub(crate) fn spec(engine: &str, version: &str, more: &Value) -> DatabaseSpec {
    let mut spec = json!({
        "engine": engine, "version": version, "resources": {"requests": {"storage": "10Gi"}},
    });
    merge(&mut spec, more);
    serde_json::from_value(spec).expect("it is a spec")
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

/// What is wanted, its spec accepted before.
pub(crate) fn desired(engine: Engine) -> Desired {
    Desired {
        subject: subject(),
        intent: intent(engine),
        accept: None,
        salt: None,
        replicas: 1,
    }
}

/// The children that a fresh plan makes, as they are once a pod serves.
pub(crate) fn settled(desired: &Desired) -> Children {
    let desired = Desired {
        accept: Some(json!({"engine": desired.intent.engine})),
        ..desired.clone()
    };
    let fresh = plan(&desired, &Observed::default());
    let mut children: Children = fresh.actions.iter().filter_map(made).collect();
    for child in children.values_mut() {
        match &mut Arc::make_mut(child).facts {
            Facts::Claim(facts) => {
                *facts = ClaimFacts {
                    capacity: facts.requested.clone(),
                    phase: Some("Bound".into()),
                    requested: facts.requested.clone(),
                }
            }
            Facts::StatefulSet {
                generation,
                observed_generation,
                ..
            } => (*generation, *observed_generation) = (1, 1),
            Facts::Plain | Facts::Revision { .. } | Facts::Pod(_) => {}
        }
    }
    let (pod, facts) = pod(&desired, &fresh);
    children.insert(pod, facts);
    children
}

/// The child that an action makes, as it is read back.
fn made(action: &Action) -> Option<(ChildRef, Arc<Child>)> {
    let (Action::CreateOnce { child, body, .. } | Action::Apply { child, body, .. }) = action else {
        return None;
    };
    let mut object = body.clone();
    object["metadata"]["uid"] = json!(uid(child));
    object["metadata"]["resourceVersion"] = json!("7");
    let (child, mut facts) = Child::observe(child.kind, &object).expect("it has a uid");
    // A field manager that owns exactly the body is not built here: `tests/convergence.rs` has a server that does.
    Arc::make_mut(&mut facts).owned = matches!(action, Action::Apply { .. }).then(|| digest_of_body(body));
    Some((child, facts))
}

/// uid of a child that [`settled`] made.
pub(crate) fn uid(child: &ChildRef) -> String {
    format!("uid of {child}")
}

fn pod(desired: &Desired, fresh: &Plan) -> (ChildRef, Arc<Child>) {
    let set = ChildRef::new(Kind::StatefulSet, "orders-g1");
    let object = json!({
        "metadata": {
            "name": "orders-g1-0", "uid": "pod-uid", "resourceVersion": "7",
            "labels": {names::DATABASE_LABEL: "orders", names::ROLE_LABEL: "primary"},
            "annotations": {
                names::INPUTS_ANNOTATION: fresh.inputs,
                marks::CREDENTIALS_ANNOTATION: fresh.credentials.to_string(),
            },
            "ownerReferences": [{"kind": "StatefulSet", "name": set.name, "uid": uid(&set), "controller": true}],
        },
        "spec": {"containers": [{"name": "database", "image": desired.intent.release.image}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "database", "imageID": "sha256:1"}],
        },
    });
    Child::observe(Kind::Pod, &object).expect("it has a uid")
}

/// Changes what is particular to a pod.
pub(crate) fn pod_facts(children: &mut Children) -> &mut PodFacts {
    match &mut child(children, Kind::Pod, "orders-g1-0").facts {
        Facts::Pod(facts) => facts,
        other => panic!("a pod has other facts than {other:?}"),
    }
}

/// A child that there is.
pub(crate) fn child<'a>(children: &'a mut Children, kind: Kind, name: &str) -> &'a mut Child {
    let child = children.get_mut(&ChildRef::new(kind, name));
    Arc::make_mut(child.unwrap_or_else(|| panic!("there is a {kind:?} {name}")))
}

/// A plan in a line an action, and its blocks.
pub(crate) fn said(plan: &Plan) -> (Vec<String>, Vec<Block>) {
    let shown = show::shown(plan);
    let line = |action: &Value| {
        let text = |field: &str| action[field].as_str().expect("an action has it").to_owned();
        format!("{} {}: {}", text("action"), text("object"), text("why"))
    };
    let actions = shown["actions"].as_array().expect("a plan has actions");
    (actions.iter().map(line).collect(), plan.blocks.clone())
}
