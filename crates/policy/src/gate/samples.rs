//! Odd inputs that every rule must have an answer to: what is missing, empty or of another type must not stop a rule.

use std::collections::BTreeMap;
use std::iter;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::decision::Verdict;
use crate::policies::Policies;
use crate::request::{Namespace, Operation, Request, Source, User};

/// What rules cannot answer, in words.
pub(super) fn check(policies: &Policies) -> Vec<String> {
    let (mut problems, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
    for (object, children) in all() {
        let request = Request {
            operation: Operation::Create,
            dry_run: false,
            source: Source::Cli,
            user: Some(User::default()),
            namespace: Namespace {
                name: "sample".to_owned(),
                labels: BTreeMap::new(),
            },
            object: object.clone(),
            old: None,
        };
        let planner = |_: &Value, _: &str| Ok(children.clone());
        let now = Timestamp::UNIX_EPOCH;
        let here = policies.evaluate(&request, &planner, &[], now);
        // Rules of teams, business units and other environments are asked too, all at once: one after the other would
        // take as many times as long.
        let decisions = iter::once(here).chain(policies.evaluate_everywhere(&request, &planner, now));
        for decision in decisions.filter(|decision| decision.verdict == Verdict::Error) {
            let said = decision
                .violations
                .first()
                .map_or(String::new(), |violation| violation.message.clone());
            // The same rule fails at many of them.
            if seen.insert(said.clone()) {
                problems.push(format!(
                    "{said}\nfor the Database {object} and children {}",
                    Value::Array(children.clone())
                ));
            }
        }
    }
    problems
}

/// Every odd Database with children in order, and every odd set of children of a Database in order.
pub fn all() -> impl Iterator<Item = (Value, Vec<Value>)> {
    let (objects, children) = (objects(), children());
    let (good, whole) = (objects[0].clone(), children[0].clone());
    let odd = objects.into_iter().map(move |object| (object, whole.clone()));
    odd.chain(children.into_iter().map(move |set| (good.clone(), set)))
}

/// A Database in order, then with each part missing or of another type.
fn objects() -> Vec<Value> {
    let good = json!({
        "apiVersion": "intent.example.com/v1", "kind": "Database", "metadata": {"name": "sample", "namespace": "sample"},
        "spec": {
            "engine": "postgresql", "version": "16", "highAvailability": false, "deletionPolicy": "Retain",
            "resources": {"requests": {"cpu": "1", "memory": "1Gi", "storage": "10Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
            "backupPolicy": {"schedule": "0 2 * * *", "retention": "30d", "timeZone": "UTC"},
            "configuration": {"parameters": {"work_mem": "8MB"}}, "monitoring": {"enabled": true},
        },
    });
    let mut all = vec![
        good.clone(),
        json!({}),
        json!([]),
        json!("text"),
        json!(1),
        json!({"spec": []}),
    ];
    let parts = [
        "/metadata",
        "/spec",
        "/spec/engine",
        "/spec/version",
        "/spec/resources",
        "/spec/resources/requests",
        "/spec/resources/limits",
        "/spec/backupPolicy",
        "/spec/configuration",
        "/spec/monitoring",
        "/spec/deletionPolicy",
        "/spec/highAvailability",
        "/spec/resources/requests/cpu",
        "/spec/resources/requests/storage",
    ];
    for part in parts {
        for odd in [json!(null), json!([]), json!({}), json!("odd"), json!(7), json!(true)] {
            let mut object = good.clone();
            if let Some(place) = object.pointer_mut(part) {
                *place = odd;
            }
            all.push(object);
        }
    }
    all
}

/// One in order, none, and odd ones.
fn children() -> Vec<Vec<Value>> {
    let set =
        |pod: Value| json!({"kind": "StatefulSet", "metadata": {"name": "x-g1"}, "spec": {"template": {"spec": pod}}});
    let container = json!({
        "name": "database", "image": "docker.io/library/postgres:16.1",
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    vec![
        vec![set(
            json!({"containers": [container], "securityContext": {"runAsUser": 999}}),
        )],
        vec![],
        vec![set(json!({"containers": "odd", "securityContext": [], "volumes": {}}))],
        vec![set(
            json!({"containers": [7, {}, {"image": 1, "securityContext": "x", "resources": [], "ports": 1}]}),
        )],
        vec![json!({"kind": "StatefulSet"}), json!(7)],
    ]
}
