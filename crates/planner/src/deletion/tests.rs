use std::sync::Arc;

use api::database::Engine;
use serde_json::json;

use super::*;
use crate::test_support::{child, desired, settled, subject};

/// Name, policy, change of a settled Database's children, actions and what is waited for.
type Case = (
    &'static str,
    DeletionPolicy,
    fn(&mut Children),
    (Vec<String>, Vec<String>),
);

const FINALIZERS: [&str; 2] = ["example.com/theirs", names::FINALIZER];

fn planned(policy: DeletionPolicy, let_go: Option<LetGo>, change: fn(&mut Children)) -> (Vec<String>, Vec<String>) {
    let mut children = settled(&desired(Engine::Postgresql));
    change(&mut children);
    let finalizers = FINALIZERS.map(str::to_owned);
    let deletion = plan_deletion(&subject(), policy, let_go, &finalizers, &children);
    let line = |action: &Action| match action {
        Action::Delete {
            child,
            version,
            why: Why::Deleting,
        } => {
            assert_eq!(*version, children[child].version(), "of exactly what is known");
            format!("delete {child}")
        }
        Action::Release(change) => {
            assert_eq!(
                *change,
                json!({"metadata": {"finalizers": ["example.com/theirs"]}}),
                "others' finalizers stay"
            );
            "release".to_owned()
        }
        other => panic!("no business of a deletion: {other:?}"),
    };
    (
        deletion.actions.iter().map(line).collect(),
        deletion.waits_for.iter().map(ToString::to_string).collect(),
    )
}

/// Everything but what keeps data, and the accepted specs.
fn undone(children: &mut Children) {
    children.retain(|child, _| {
        matches!(child.kind, Kind::PersistentVolumeClaim | Kind::ControllerRevision) || child.name == "orders-admin"
    });
}

const VOLUME: &str = "PersistentVolumeClaim data-orders-g1-0";

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn deletions() {
    use DeletionPolicy::{Delete, Retain};
    let all = [
        "StatefulSet orders-g1",
        "Service orders-pods",
        "Service orders-rw",
        "Secret orders-app",
        "ConfigMap orders-config",
        "ServiceAccount orders",
    ];
    let deletes =
        |objects: &[&str]| -> Vec<String> { objects.iter().map(|object| format!("delete {object}")).collect() };
    let texts = |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| (*text).to_owned()).collect() };
    let and_pod = [&all[..], &["Pod orders-g1-0"]].concat();
    let release = || (texts(&["release"]), vec![]);
    let cases: Vec<Case> = vec![
        (
            "what is controlled goes, and the data stays until all of that has gone",
            Delete,
            |_| {},
            (deletes(&all), texts(&and_pod)),
        ),
        (
            "what goes already is waited for",
            Retain,
            |c| c.values_mut().for_each(|c| Arc::make_mut(c).deleting = true),
            (vec![], texts(&and_pod)),
        ),
        ("the data outlives the Database", Retain, undone, release()),
        (
            "unless the intent says otherwise: the volume first",
            Delete,
            undone,
            (deletes(&[VOLUME]), texts(&[VOLUME])),
        ),
        (
            "its password only when the volume has gone",
            Delete,
            |c| {
                undone(c);
                child(c, Kind::PersistentVolumeClaim, "data-orders-g1-0").deleting = true;
            },
            (vec![], texts(&[VOLUME])),
        ),
        (
            "and then the password",
            Delete,
            |c| {
                undone(c);
                c.retain(|child, _| child.kind == Kind::Secret);
            },
            (deletes(&["Secret orders-admin"]), texts(&["Secret orders-admin"])),
        ),
        (
            "data of another Database stays, and its password with it",
            Delete,
            |c| {
                undone(c);
                child(c, Kind::PersistentVolumeClaim, "data-orders-g1-0").marks.owner = Some("another".into());
            },
            release(),
        ),
        (
            "data that nothing tells the owner of stays",
            Delete,
            |c| {
                undone(c);
                for child in c.values_mut() {
                    Arc::make_mut(child).marks.owner = None;
                }
            },
            release(),
        ),
        (
            "what somebody else controls stays",
            Delete,
            |c| {
                undone(c);
                for child in c.values_mut() {
                    Arc::make_mut(child).controller = Some("another".into());
                }
            },
            release(),
        ),
        (
            "a pod of somebody else's StatefulSet of that name is not waited for",
            Retain,
            |c| {
                let set = child(c, Kind::StatefulSet, "orders-g1").clone();
                let pod = child(c, Kind::Pod, "orders-g1-0").clone();
                undone(c);
                c.insert(ChildRef::new(Kind::Pod, "orders-g1-0"), pod.into());
                let theirs = Child {
                    controller: Some("another".into()),
                    ..set
                };
                c.insert(ChildRef::new(Kind::StatefulSet, "orders-g1"), theirs.into());
            },
            release(),
        ),
        (
            "a pod that only carries our labels is not waited for",
            Retain,
            |c| {
                undone(c);
                let mut pod = settled(&desired(Engine::Postgresql))
                    .remove(&ChildRef::new(Kind::Pod, "orders-g1-0"))
                    .expect("it has one");
                Arc::make_mut(&mut pod).controller = Some("another".into());
                c.insert(ChildRef::new(Kind::Pod, "orders-debugger"), pod);
            },
            release(),
        ),
    ];
    for (case, policy, change, expected) in cases {
        assert_eq!(planned(policy, None, change), expected, "{case}");
    }
    for let_go in [LetGo::NamespaceTerminating, LetGo::CrdTerminating] {
        assert_eq!(
            planned(Delete, Some(let_go), |_| {}),
            release(),
            "{let_go:?} destroys nothing"
        );
    }
}

#[test]
fn a_database_is_stamped_once() {
    let finalizers = |list: &[&str]| list.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>();
    let bucket = subject().bucket.to_string();
    let label = json!({names::BUCKET_LABEL: bucket});
    for (case, has, label_has, expected) in [
        ("it has both", finalizers(&FINALIZERS), Some(bucket.as_str()), None),
        (
            "it lacks both",
            finalizers(&["example.com/theirs"]),
            None,
            Some(json!({"metadata": {
            "labels": label, "finalizers": FINALIZERS}})),
        ),
        (
            "it lacks the label",
            finalizers(&FINALIZERS),
            None,
            Some(json!({"metadata": {"labels": label}})),
        ),
        (
            "it has another label",
            finalizers(&FINALIZERS),
            Some("1"),
            Some(json!({"metadata": {"labels": label}})),
        ),
    ] {
        assert_eq!(stamp(&subject(), &has, label_has), expected, "{case}");
    }
}
