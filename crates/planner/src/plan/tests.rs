use api::database::Engine;
use serde_json::json;

use super::*;
use crate::child::Marks;
use crate::test_support::{child, desired, pod_facts, said, settled};

mod data;

type Change = fn(&mut Desired, &mut Children);

fn planned(engine: Engine, change: Change) -> (Vec<String>, Vec<Block>) {
    let mut desired = desired(engine);
    let mut children = settled(&desired);
    change(&mut desired, &mut children);
    said(&plan(&desired, &Observed { stamp: None, children }))
}

fn check(engine: Engine, cases: Vec<(&str, Change, &[&str], Vec<Block>)>) {
    for (case, change, actions, blocks) in cases {
        let expected = (actions.iter().map(|line| (*line).to_owned()).collect(), blocks);
        assert_eq!(planned(engine, change), expected, "{case}");
    }
}

fn object(kind: Kind, name: &str) -> ChildRef {
    ChildRef::new(kind, name)
}

fn taken(kind: Kind, name: &str) -> Vec<Block> {
    vec![Block::NameTaken(object(kind, name))]
}

fn drop_child(children: &mut Children, kind: Kind, name: &str) {
    children
        .remove(&object(kind, name))
        .unwrap_or_else(|| panic!("there is a {kind:?} {name}"));
}

#[test]
fn applied_children() {
    check(
        Engine::Postgresql,
        vec![
            ("a settled Database needs nothing", |_, _| {}, &[], vec![]),
            (
                "what is missing is made again",
                |_, c| drop_child(c, Kind::Service, "orders-rw"),
                &["apply Service orders-rw: does not exist"],
                vec![],
            ),
            (
                "what was edited is applied again",
                |_, c| child(c, Kind::ConfigMap, "orders-config").owned = None,
                &["apply ConfigMap orders-config: differs from what is declared"],
                vec![],
            ),
            (
                "what others added beside is taken out",
                |_, c| child(c, Kind::Service, "orders-rw").intruders = ["/spec/ports/1".to_owned()].into(),
                &["patch Service orders-rw: others added what changes its meaning"],
                vec![],
            ),
            (
                "an edit is repaired first, because that makes another version of the object",
                |_, c| {
                    let service = child(c, Kind::Service, "orders-rw");
                    service.intruders = ["/spec/ports/1".to_owned()].into();
                    service.owned = None;
                },
                &["apply Service orders-rw: differs from what is declared"],
                vec![],
            ),
            (
                "what is being deleted is let go first",
                |_, c| {
                    let service = child(c, Kind::Service, "orders-rw");
                    service.deleting = true;
                    service.owned = None;
                },
                &[],
                vec![],
            ),
            (
                "an object of somebody else is not touched",
                |_, c| {
                    let account = child(c, Kind::ServiceAccount, "orders");
                    account.controller = Some("other".into());
                    account.owned = None;
                },
                &[],
                taken(Kind::ServiceAccount, "orders"),
            ),
            (
                "a StatefulSet is not made where a name is taken",
                |_, c| {
                    child(c, Kind::Service, "orders-rw").controller = None;
                    drop_child(c, Kind::StatefulSet, "orders-g1");
                },
                &[],
                taken(Kind::Service, "orders-rw"),
            ),
            (
                "a StatefulSet that is there is kept as declared also where a name is taken",
                |_, c| {
                    child(c, Kind::Service, "orders-rw").controller = None;
                    child(c, Kind::StatefulSet, "orders-g1").owned = None;
                },
                &["apply StatefulSet orders-g1: differs from what is declared"],
                taken(Kind::Service, "orders-rw"),
            ),
            (
                "a StatefulSet keeps its claim template when storage grows",
                |d, c| {
                    d.intent.storage = "20Gi".parse().expect("it is a quantity");
                    child(c, Kind::PersistentVolumeClaim, "data-orders-g1-0");
                },
                &["patch PersistentVolumeClaim data-orders-g1-0: more storage is declared"],
                vec![],
            ),
            (
                "another's StatefulSet with our label does not change ours",
                |_, c| {
                    let mut theirs = child(c, Kind::StatefulSet, "orders-g1").clone();
                    theirs.controller = None;
                    theirs.facts = Facts::StatefulSet {
                        generation: 1,
                        observed_generation: 1,
                        template_storage: Some("1Gi".into()),
                    };
                    c.insert(object(Kind::StatefulSet, "a"), theirs.into());
                },
                &[],
                vec![],
            ),
        ],
    );
}

#[test]
fn pods() {
    fn older_inputs(children: &mut Children) {
        child(children, Kind::Pod, "orders-g1-0").marks.inputs = Some("older".into());
    }
    const RESTART: &str = "restart Pod orders-g1-0: runs with other inputs than declared";
    check(
        Engine::Postgresql,
        vec![
            (
                "one with other inputs is restarted",
                |_, c| older_inputs(c),
                &[RESTART],
                vec![],
            ),
            (
                "but not before all that it will read is in place",
                |_, c| {
                    older_inputs(c);
                    child(c, Kind::ConfigMap, "orders-config").owned = None;
                },
                &["apply ConfigMap orders-config: differs from what is declared"],
                vec![],
            ),
            (
                "nor before the StatefulSet's controller has seen the template",
                |_, c| {
                    older_inputs(c);
                    let facts = &mut child(c, Kind::StatefulSet, "orders-g1").facts;
                    *facts = Facts::StatefulSet {
                        generation: 2,
                        observed_generation: 1,
                        template_storage: Some("10Gi".into()),
                    };
                },
                &[],
                vec![],
            ),
            (
                "nor while it might not come back",
                |_, c| {
                    older_inputs(c);
                    drop_child(c, Kind::Secret, "orders-admin");
                },
                &[],
                vec![Block::CredentialsLost(object(Kind::Secret, "orders-admin"))],
            ),
            (
                "nor twice",
                |_, c| {
                    older_inputs(c);
                    child(c, Kind::Pod, "orders-g1-0").deleting = true;
                },
                &[],
                vec![],
            ),
            (
                "one without role is told",
                |_, c| child(c, Kind::Pod, "orders-g1-0").marks.role = None,
                &["patch Pod orders-g1-0: its role became known"],
                vec![],
            ),
            (
                "one that is not our StatefulSet's is left alone",
                |_, c| {
                    let pod = child(c, Kind::Pod, "orders-g1-0");
                    pod.controller = Some("other".into());
                    pod.marks = Marks::default().into();
                },
                &[],
                vec![],
            ),
            (
                "credentials restart nothing where the engine keeps its users in the data",
                |_, c| child(c, Kind::Pod, "orders-g1-0").marks.credentials = Some(0),
                &[],
                vec![],
            ),
            (
                "an image of a newer operator restarts nothing",
                |d, _| d.intent.release.image = "localhost/newer:1".to_owned(),
                &["apply StatefulSet orders-g1: differs from what is declared"],
                vec![],
            ),
            (
                "one that is not ready is not restarted for that",
                |_, c| pod_facts(c).ready = false,
                &[],
                vec![],
            ),
        ],
    );
    check(
        Engine::Redis,
        vec![(
            "one with older credentials is restarted where the engine follows the Secret",
            |_, c| child(c, Kind::Pod, "orders-g1-0").marks.credentials = Some(0),
            &["restart Pod orders-g1-0: the credentials were made anew"],
            vec![],
        )],
    );
}

#[test]
fn secret_parameters() {
    fn secret(desired: &mut Desired) {
        desired
            .intent
            .secret_parameters
            .insert("work_mem".to_owned(), "8MB".to_owned());
    }
    check(
        Engine::Postgresql,
        vec![
            (
                "without salt, what depends on their hash waits",
                |d, c| {
                    secret(d);
                    drop_child(c, Kind::Service, "orders-rw");
                },
                &["apply Service orders-rw: does not exist"],
                vec![Block::AwaitsSecret],
            ),
            (
                "with salt they are rendered into a Secret",
                |d, _| {
                    secret(d);
                    d.salt = Some(Salt::new("salt"));
                },
                &[
                    "apply ConfigMap orders-config: differs from what is declared",
                    "apply Secret orders-config-secret: does not exist",
                    "apply StatefulSet orders-g1: differs from what is declared",
                ],
                vec![],
            ),
            (
                "a Secret that is used no more goes",
                |d, c| {
                    let mut more = d.clone();
                    secret(&mut more);
                    more.salt = Some(Salt::new("salt"));
                    let secret = object(Kind::Secret, "orders-config-secret");
                    c.insert(secret.clone(), settled(&more)[&secret].clone());
                },
                &["delete Secret orders-config-secret: is wanted no more"],
                vec![],
            ),
            (
                "but not one of somebody else",
                |_, c| {
                    let theirs = Child {
                        controller: None,
                        ..child(c, Kind::Secret, "orders-app").clone()
                    };
                    c.insert(object(Kind::Secret, "orders-config-secret"), theirs.into());
                },
                &[],
                vec![],
            ),
        ],
    );
}

#[test]
fn accepted_specs() {
    fn revisions(children: &mut Children, numbers: impl Iterator<Item = i64>) {
        let one = child(children, Kind::ControllerRevision, "orders-1").clone();
        for number in numbers {
            let mut more = one.clone();
            more.facts = Facts::Revision {
                number,
                spec: digest_of_body(&json!({"number": number})),
            };
            children.insert(
                object(Kind::ControllerRevision, &format!("orders-{number}")),
                more.into(),
            );
        }
    }
    check(
        Engine::Postgresql,
        vec![
            (
                "the next one has the next number, and comes before all that rests on it",
                |d, c| {
                    d.accept = Some(json!({}));
                    revisions(c, 2..=3);
                    drop_child(c, Kind::Service, "orders-rw");
                },
                &[
                    "create ControllerRevision orders-4: the spec passed every check",
                    "apply Service orders-rw: does not exist",
                ],
                vec![],
            ),
            (
                "a name that somebody else took is passed over",
                |d, c| {
                    d.accept = Some(json!({}));
                    revisions(c, 2..=2);
                    child(c, Kind::ControllerRevision, "orders-2").controller = None;
                },
                &["create ControllerRevision orders-3: the spec passed every check"],
                vec![],
            ),
            (
                "one that lost its label gets it back",
                |_, c| child(c, Kind::ControllerRevision, "orders-1").marks.bucket = None,
                &["patch ControllerRevision orders-1: differs from what is declared"],
                vec![],
            ),
            (
                "ten are kept",
                |_, c| revisions(c, 2..=12),
                &[
                    "delete ControllerRevision orders-1: more accepted specs are kept than needed",
                    "delete ControllerRevision orders-2: more accepted specs are kept than needed",
                ],
                vec![],
            ),
            (
                "the one that comes is counted",
                |d, c| {
                    d.accept = Some(json!({}));
                    revisions(c, 2..=10);
                },
                &[
                    "create ControllerRevision orders-11: the spec passed every check",
                    "delete ControllerRevision orders-1: more accepted specs are kept than needed",
                ],
                vec![],
            ),
        ],
    );
}

#[test]
fn the_newest_accepted_spec_is_that_of_this_very_database() {
    let desired = desired(Engine::Postgresql);
    let mut children = settled(&desired);
    let digest = crate::owned::digest_of_value(&json!({"engine": "postgresql"}));
    assert_eq!(latest_revision(&children, "database-uid"), Some((1, digest)));
    assert_eq!(latest_revision(&children, "another"), None);
    let mut newer = child(&mut children, Kind::ControllerRevision, "orders-1").clone();
    newer.facts = Facts::Revision {
        number: 2,
        spec: digest,
    };
    newer.controller = Some("another".into());
    children.insert(object(Kind::ControllerRevision, "orders-2"), newer.into());
    assert_eq!(latest_revision(&children, "database-uid"), Some((1, digest)));
}

#[test]
fn a_fresh_database_is_stamped_and_accepted_before_anything_is_made() {
    let desired = Desired {
        accept: Some(json!({})),
        ..desired(Engine::Redis)
    };
    let observed = Observed {
        stamp: Some(json!({"metadata": {"finalizers": ["x"]}})),
        children: Children::new(),
    };
    let (actions, blocks) = said(&plan(&desired, &observed));
    assert_eq!(blocks, []);
    assert_eq!(
        actions,
        [
            "stamp Database: has no finalizer or bucket label of ours",
            "create ControllerRevision orders-1: the spec passed every check",
            "create Secret orders-admin: does not exist",
            "create Secret orders-app: does not exist",
            "create PersistentVolumeClaim data-orders-g1-0: does not exist",
            "apply ServiceAccount orders: does not exist",
            "apply Service orders-rw: does not exist",
            "apply Service orders-pods: does not exist",
            "apply ConfigMap orders-config: does not exist",
            "apply StatefulSet orders-g1: does not exist",
        ]
    );
}

#[test]
fn a_body_that_is_to_be_sent_need_not_be_made_again_to_be_compared() {
    let (desired, mut rendered) = (desired(Engine::Redis), Rendered::default());
    let observed = Observed {
        stamp: None,
        children: Children::new(),
    };
    let plan = plan_again(&desired, &observed, &mut rendered);
    for part in [Part::Account, Part::Rw, Part::Pods, Part::Config, Part::Set] {
        let child = part.child(&desired.subject);
        let sent = plan.actions.iter().find_map(|action| match action {
            Action::Apply { child: to, body, .. } if *to == child => Some(digest_of_body(body)),
            _ => None,
        });
        assert!(sent.is_some(), "{child} is made");
        assert_eq!(rendered.digest(part), sent, "{child}");
    }
}
