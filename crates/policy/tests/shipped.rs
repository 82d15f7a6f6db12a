//! The shipped rules and the children that the real planner makes, with changes that it never would: what `norm` says of
//! pods and what rules make of it, as one.

use std::collections::BTreeSet;
use std::path::Path;

use engines::catalogue::Catalogue;
use policy::bundle::{Bundle, folder};
use policy::policies::Policies;
use policy::request::{Namespace, Operation, Request, Source};
use policy::stack;
use serde_json::{Value, json};

fn shipped() -> Policies {
    let files = folder::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies")).unwrap();
    let bundle = Bundle::open_unverified("policies", files).unwrap();
    // A busy machine must not make an error.
    Policies::load(&[bundle], Catalogue::builtin())
        .unwrap()
        .with_time_limit(std::time::Duration::from_secs(10))
}

/// A Database in which nothing is found.
fn database() -> Value {
    json!({
        "apiVersion": "intent.example.com/v1", "kind": "Database", "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {
            "engine": "postgresql", "version": "16",
            "resources": {"requests": {"cpu": "1", "memory": "1Gi", "storage": "10Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        },
    })
}

/// What is planned for it.
fn planned() -> Vec<Value> {
    let database = api::strict::database(database()).unwrap();
    planner::fresh::children(&database, "shop", &Catalogue::builtin()).unwrap()
}

/// Ids of what the rules about security find if these children were planned; none of them is an error.
fn found(policies: &Policies, children: &[Value]) -> BTreeSet<String> {
    let request = Request {
        operation: Operation::Create,
        dry_run: false,
        source: Source::Cli,
        user: None,
        namespace: Namespace {
            name: "shop".to_owned(),
            labels: [("intent.example.com/environment".to_owned(), "development".to_owned())].into(),
        },
        object: database(),
        old: None,
    };
    let planner = |_: &Value, _: &str| Ok(children.to_vec());
    let decision = policies.evaluate(&request, &planner, &[], "2026-11-28T00:00:00Z".parse().unwrap());
    let ids = decision.violations.into_iter().map(|violation| violation.id);
    ids.map(|id| id.trim_start_matches("security.").to_owned()).collect()
}

/// The planned children, with another value at a place of their StatefulSet; `null` stands for none.
fn changed(place: &str, value: &Value) -> Vec<Value> {
    let mut children = planned();
    let set = children
        .iter_mut()
        .find(|child| child["kind"] == "StatefulSet")
        .unwrap();
    let (parent, name) = place.rsplit_once('/').unwrap();
    match set.pointer_mut(parent) {
        Some(Value::Array(list)) if name == "-" => list.push(value.clone()),
        Some(parent) if name.parse::<usize>().is_err() => parent[name] = value.clone(),
        Some(parent) => parent[name.parse::<usize>().unwrap()] = value.clone(),
        None => panic!("{parent} is not there"),
    }
    children
}

const POD: &str = "/spec/template/spec";

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn what_no_planner_would_make_is_found() {
    let container = "/spec/template/spec/containers/0";
    let bare = [
        "capabilities-kept",
        "image-invalid",
        "limits-missing",
        "privilege-escalation",
        "requests-missing",
        "writable-root",
    ];
    let cases: Vec<(&str, String, Value, Vec<&str>)> = vec![
        ("nothing", "/x".into(), json!(1), vec![]),
        ("another kind", "/kind".into(), json!("Deployment"), vec!["unplanned"]),
        (
            "a spec that is a text",
            "/spec".into(),
            json!("text"),
            vec!["token", "unplanned", "unreadable"],
        ),
        (
            "a pod that is a text",
            POD.into(),
            json!("text"),
            vec!["token", "unplanned", "unreadable"],
        ),
        (
            "no container but the first",
            format!("{POD}/containers"),
            json!(null),
            vec!["unreadable"],
        ),
        (
            "containers that are a text",
            format!("{POD}/containers"),
            json!("text"),
            [&bare[..], &["unreadable"]].concat(),
        ),
        (
            "a container that is a text",
            container.into(),
            json!("text"),
            bare.to_vec(),
        ),
        (
            "init containers that are one",
            format!("{POD}/initContainers"),
            json!({"name": "a"}),
            bare.to_vec(),
        ),
        (
            "another container",
            format!("{POD}/ephemeralContainers"),
            json!([{"securityContext": {"privileged": true}}]),
            [&bare[..], &["privileged"]].concat(),
        ),
        (
            "another user",
            format!("{POD}/securityContext/runAsUser"),
            json!("999"),
            vec!["root"],
        ),
        (
            "no context of the pod",
            format!("{POD}/securityContext"),
            json!(null),
            vec!["root", "seccomp"],
        ),
        (
            "a context that is a text",
            format!("{container}/securityContext"),
            json!("text"),
            vec!["capabilities-kept", "privilege-escalation", "writable-root"],
        ),
        (
            "a capability",
            format!("{container}/securityContext/capabilities/add"),
            json!(["ALL"]),
            vec!["capability-added"],
        ),
        (
            "a capability that is no list",
            format!("{container}/securityContext/capabilities/add"),
            json!("ALL"),
            vec!["capability-added"],
        ),
        (
            "one capability dropped",
            format!("{container}/securityContext/capabilities/drop"),
            json!("NET_RAW"),
            vec!["capabilities-kept"],
        ),
        (
            "all dropped, as a text",
            format!("{container}/securityContext/capabilities/drop"),
            json!("ALL"),
            vec![],
        ),
        (
            "a port of the node",
            format!("{container}/ports/0/hostPort"),
            json!(5432),
            vec!["host-port"],
        ),
        (
            "ports that are one",
            format!("{container}/ports"),
            json!({"hostPort": 5432}),
            vec!["host-port"],
        ),
        (
            "a directory of the node",
            format!("{POD}/volumes/-"),
            json!({"name": "a", "hostPath": {"path": "/"}}),
            vec!["host-path"],
        ),
        (
            "volumes that are one",
            format!("{POD}/volumes"),
            json!({"hostPath": {"path": "/"}}),
            vec!["host-path"],
        ),
        (
            "a token",
            format!("{POD}/volumes/-"),
            json!({"projected": {"sources": [{"configMap": {}}, {"serviceAccountToken": {}}]}}),
            vec!["token"],
        ),
        (
            "sources that are one",
            format!("{POD}/volumes/-"),
            json!({"projected": {"sources": {"serviceAccountToken": {}}}}),
            vec!["token"],
        ),
        (
            "no limits",
            format!("{container}/resources/limits"),
            json!([]),
            vec!["limits-missing"],
        ),
        (
            "an image of someone else",
            format!("{container}/image"),
            json!("quay.io.evil.com/a:1"),
            vec!["image-registry"],
        ),
        (
            "an image that is none",
            format!("{container}/image"),
            json!("A B"),
            vec!["image-invalid"],
        ),
        (
            "an image without a tag",
            format!("{container}/image"),
            json!("postgres"),
            vec!["image-tag"],
        ),
        (
            "no image",
            format!("{container}/image"),
            json!(null),
            vec!["image-invalid"],
        ),
        (
            "no name",
            format!("{container}/name"),
            json!(null),
            vec!["image-invalid"],
        ),
    ];
    stack::large(|| {
        let policies = shipped();
        for (case, place, value, expected) in cases {
            let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(found(&policies, &changed(&place, &value)), expected, "{case}");
        }
    })
    .unwrap();
}

#[test]
fn one_set_does_not_cover_for_another_and_none_is_no_safety() {
    stack::large(|| {
        let policies = shipped();
        let mut two = planned();
        two.push(json!({"kind": "StatefulSet"}));
        let names = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert_eq!(found(&policies, &two), names(&["token", "unreadable"]));
        assert_eq!(found(&policies, &[]), names(&["unplanned"]));
        assert_eq!(
            found(&policies, &[json!(null), json!("text"), json!({})]),
            names(&["unplanned"])
        );
    })
    .unwrap();
}
