use serde_json::{Value, json};

use super::*;

fn owned(kind: &str, name: &str) -> Value {
    json!([{"kind": "Other", "name": "x", "uid": "0"}, {"kind": kind, "name": name, "uid": "1", "controller": true}])
}

#[test]
fn an_object_is_told_by_its_owner_then_its_name_then_its_label() {
    let labelled = json!({names::DATABASE_LABEL: "labelled"});
    let mine = |name: &str| json!({"metadata": {"name": name, "labels": labelled}});
    let of =
        |name: &str, owner: Value| json!({"metadata": {"name": name, "labels": labelled, "ownerReferences": owner}});
    for (case, kind, object, expected) in [
        (
            "the controller, whatever the name says",
            Kind::Secret,
            of("other-admin", owned("Database", "orders")),
            Some("orders"),
        ),
        (
            "the controller",
            Kind::Service,
            of("x", owned("Database", "orders")),
            Some("orders"),
        ),
        (
            "an owner of another kind is none",
            Kind::Service,
            of("x", owned("Other", "orders")),
            Some("labelled"),
        ),
        ("the label", Kind::ConfigMap, mine("orders-config"), Some("labelled")),
        (
            "the name of the administrator's Secret",
            Kind::Secret,
            mine("orders-admin"),
            Some("orders"),
        ),
        (
            "another Secret has none",
            Kind::Secret,
            mine("orders-app"),
            Some("labelled"),
        ),
        (
            "the name of a claim",
            Kind::PersistentVolumeClaim,
            mine("data-my-orders-g2-0"),
            Some("my-orders"),
        ),
        (
            "a claim that only looks alike",
            Kind::PersistentVolumeClaim,
            mine("data-orders-0"),
            Some("labelled"),
        ),
        (
            "the StatefulSet of a pod",
            Kind::Pod,
            of("orders-g1-0", owned("StatefulSet", "orders-g1")),
            Some("orders"),
        ),
        (
            "a pod of another StatefulSet",
            Kind::Pod,
            of("x-0", owned("StatefulSet", "x")),
            Some("labelled"),
        ),
        (
            "a revision that a StatefulSet keeps for itself is no accepted spec",
            Kind::ControllerRevision,
            of("orders-g1-abc", owned("StatefulSet", "orders-g1")),
            None,
        ),
        (
            "an accepted spec",
            Kind::ControllerRevision,
            of("orders-1", owned("Database", "orders")),
            Some("orders"),
        ),
        ("nothing", Kind::Service, json!({"metadata": {"name": "x"}}), None),
        ("no name", Kind::Secret, json!({"metadata": {"labels": labelled}}), None),
    ] {
        assert_eq!(database_of(kind, &Json::from(&object)).as_deref(), expected, "{case}");
    }
}

#[test]
fn an_object_without_identity_is_refused() {
    let whole = json!({"metadata": {"name": "orders", "uid": "1", "resourceVersion": "7"}});
    assert!(Child::observe(Kind::Service, &whole).is_ok());
    for field in ["name", "uid", "resourceVersion"] {
        let mut object = whole.clone();
        object["metadata"].as_object_mut().expect("it is one").remove(field);
        let error = Child::observe(Kind::Service, &object).expect_err("it lacks one");
        assert_eq!(error.to_string(), format!("Service: metadata.{field} is missing"));
    }
}

#[test]
fn what_a_child_is_known_by() {
    let object = json!({
        "metadata": {
            "name": "orders-g1-0", "uid": "1", "resourceVersion": "7", "deletionTimestamp": "2026-01-01T00:00:00Z",
            "labels": {
                names::MANAGED_BY_LABEL: "database-operator", names::DATABASE_LABEL: "orders", names::BUCKET_LABEL: "12",
                "intent.example.com/engine": "redis", "intent.example.com/major": "7",
                "intent.example.com/lineage": "l", "intent.example.com/owner": "o", "intent.example.com/generation": "1",
                names::ROLE_LABEL: "primary",
            },
            "annotations": {
                "intent.example.com/credentials": "3", names::INPUTS_ANNOTATION: "abc", names::FENCE_ANNOTATION: "17",
            },
            "ownerReferences": owned("StatefulSet", "orders-g1"),
        },
    });
    let text = |text: &str| Some(Text::new(text));
    let (child, facts) = Child::observe(Kind::Service, &object).expect("it is whole");
    assert_eq!(child, ChildRef::new(Kind::Service, "orders-g1-0"));
    assert_eq!(
        *facts,
        Child {
            uid: "1".into(),
            resource_version: "7".into(),
            controller: text("1"),
            fence: Some(Epoch(17)),
            deleting: true,
            marks: Marks {
                managed_by: text("database-operator"),
                database: text("orders"),
                bucket: text("12"),
                engine: text("redis"),
                major: text("7"),
                lineage: text("l"),
                owner: text("o"),
                generation: text("1"),
                credentials: Some(3),
                inputs: text("abc"),
                role: text("primary"),
            }
            .into(),
            owned: None,
            intruders: Box::default(),
            facts: Facts::Plain,
        }
    );
    assert!(
        facts.is_controlled_by("1") && !facts.is_controlled_by("0"),
        "only the controller counts"
    );
}

#[test]
fn facts_by_kind() {
    let of = |kind: Kind, object: Value| {
        let mut object = object;
        object["metadata"]["name"] = json!("x");
        object["metadata"]["uid"] = json!("1");
        object["metadata"]["resourceVersion"] = json!("7");
        Child::observe(kind, &object).expect("it is whole").1.facts.clone()
    };
    let text = |text: &str| Some(Text::new(text));
    assert_eq!(
        of(
            Kind::PersistentVolumeClaim,
            json!({
                "spec": {"resources": {"requests": {"storage": "20Gi"}}},
                "status": {"phase": "Bound", "capacity": {"storage": "10Gi"}},
            })
        ),
        Facts::Claim(ClaimFacts {
            requested: text("20Gi"),
            capacity: text("10Gi"),
            phase: text("Bound")
        })
    );
    assert_eq!(
        of(
            Kind::StatefulSet,
            json!({
                "metadata": {"generation": 3}, "status": {"observedGeneration": 2},
                "spec": {"volumeClaimTemplates": [{"spec": {"resources": {"requests": {"storage": "10Gi"}}}}]},
            })
        ),
        Facts::StatefulSet {
            generation: 3,
            observed_generation: 2,
            template_storage: text("10Gi")
        }
    );
    let spec = json!({"engine": "redis"});
    assert_eq!(
        of(Kind::ControllerRevision, json!({"revision": 4, "data": {"spec": spec}})),
        Facts::Revision {
            number: 4,
            spec: owned::digest_of_value(&spec)
        }
    );
    assert_eq!(
        of(Kind::Pod, json!({})),
        Facts::Pod(Box::default()),
        "whatever is missing is absent"
    );
}

#[test]
fn a_pods_troubles() {
    let trouble = |container: &str, reason: &str, message: &str| {
        Some(Trouble {
            container: container.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        })
    };
    let status = |list: &str, status: Value| json!({"status": {list: [status]}});
    let database = "containerStatuses";
    for (case, object, expected) in [
        (
            "runs",
            status(database, json!({"name": "database", "state": {"running": {}}})),
            None,
        ),
        (
            "is being started",
            status(
                database,
                json!({"name": "database", "state": {"waiting": {"reason": "ContainerCreating"}}}),
            ),
            None,
        ),
        (
            "waits for the init container",
            status(
                database,
                json!({"name": "database", "state": {"waiting": {"reason": "PodInitializing"}}}),
            ),
            None,
        ),
        (
            "has no image",
            status(
                database,
                json!({"name": "database", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found\n"}}}),
            ),
            trouble("database", "ErrImagePull", "not found"),
        ),
        (
            "backs off after an end that says why",
            status(
                database,
                json!({"name": "database", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "FATAL: no"}}}),
            ),
            trouble("database", "Error", "FATAL: no"),
        ),
        (
            "has just ended badly",
            status(
                database,
                json!({"name": "database", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}),
            ),
            trouble("database", "OOMKilled", ""),
        ),
        (
            "initialised well",
            status(
                "initContainerStatuses",
                json!({"name": "initialise", "state": {"terminated": {"exitCode": 0}}}),
            ),
            None,
        ),
        (
            "did not initialise",
            status(
                "initContainerStatuses",
                json!({"name": "initialise", "state": {"terminated": {"exitCode": 1, "message": "refused: no"}}}),
            ),
            trouble("initialise", "Unknown", "refused: no"),
        ),
    ] {
        assert_eq!(pod(&(&object).into()).trouble, expected, "{case}");
    }
    let unschedulable = json!({"status": {"phase": "Failed", "conditions": [
        {"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}, {"type": "Ready", "status": "False"},
    ]}});
    assert_eq!(
        pod(&(&unschedulable).into()),
        PodFacts {
            ended: true,
            unschedulable: Some("0/1 nodes".into()),
            ..PodFacts::default()
        }
    );
}
