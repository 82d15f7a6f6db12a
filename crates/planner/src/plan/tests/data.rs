//! Volumes and credentials: what keeps data is never written over, and nothing is started on what does not fit.

use super::*;

fn volume(children: &mut Children) -> &mut Child {
    child(children, Kind::PersistentVolumeClaim, "data-orders-g1-0")
}

#[test]
fn volumes() {
    let claim = || object(Kind::PersistentVolumeClaim, "data-orders-g1-0");
    let foreign = |mismatch: &str| {
        vec![Block::ForeignVolume {
            claim: claim(),
            mismatch: mismatch.to_owned(),
        }]
    };
    check(
        Engine::Postgresql,
        vec![
            (
                "a missing one is made",
                |_, c| drop_child(c, Kind::PersistentVolumeClaim, "data-orders-g1-0"),
                &["create PersistentVolumeClaim data-orders-g1-0: does not exist"],
                vec![],
            ),
            (
                "a larger one than declared is left",
                |d, _| d.intent.storage = "1Gi".parse().expect("it is a quantity"),
                &[],
                vec![],
            ),
            (
                "a label that was lost is put back",
                |_, c| volume(c).marks.bucket = None,
                &["patch PersistentVolumeClaim data-orders-g1-0: differs from what is declared"],
                vec![],
            ),
            (
                "that of the Database before is taken over",
                |_, c| volume(c).marks.owner = Some("older".into()),
                &["patch PersistentVolumeClaim data-orders-g1-0: differs from what is declared"],
                vec![],
            ),
            (
                "one that the StatefulSet made, because ours had gone, is labelled",
                |_, c| {
                    let marks = &mut volume(c).marks;
                    (marks.engine, marks.major, marks.lineage, marks.owner) = (None, None, None, None);
                },
                &["patch PersistentVolumeClaim data-orders-g1-0: differs from what is declared"],
                vec![],
            ),
            (
                "one of another engine is not started upon",
                |_, c| volume(c).marks.engine = Some("redis".into()),
                &[],
                foreign("engine is redis, wanted postgresql"),
            ),
            (
                "one of another major is not started upon",
                |_, c| volume(c).marks.major = Some("14".into()),
                &[],
                foreign("major is 14, wanted 18"),
            ),
            (
                "one of another data set is not started upon, and all that differs is told",
                |_, c| {
                    volume(c).marks.lineage = Some("other".into());
                    volume(c).marks.major = None;
                },
                &[],
                foreign("major is unknown, wanted 18, lineage is other, wanted database-uid"),
            ),
            (
                "one of another engine that lost its lineage is not taken for ours",
                |_, c| {
                    volume(c).marks.lineage = None;
                    volume(c).marks.engine = Some("redis".into());
                },
                &[],
                foreign("engine is redis, wanted postgresql, lineage is unknown, wanted database-uid"),
            ),
            (
                "one without our labels is somebody else's",
                |_, c| volume(c).marks = Marks::default().into(),
                &[],
                vec![Block::NameTaken(claim())],
            ),
            (
                "one that somebody else controls is not ours",
                |_, c| volume(c).controller = Some("other".into()),
                &[],
                vec![Block::NameTaken(claim())],
            ),
            (
                "one that is being deleted stops restarts",
                |d, c| {
                    volume(c).deleting = true;
                    d.intent.parameters.insert("work_mem".to_owned(), "8MB".to_owned());
                },
                &[
                    "apply ConfigMap orders-config: differs from what is declared",
                    "apply StatefulSet orders-g1: differs from what is declared",
                ],
                vec![Block::VolumeLeaving(claim())],
            ),
        ],
    );
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn credentials() {
    let admin = || object(Kind::Secret, "orders-admin");
    check(
        Engine::Postgresql,
        vec![
            (
                "a lost application's Secret is made again",
                |_, c| drop_child(c, Kind::Secret, "orders-app"),
                &["create Secret orders-app: does not exist"],
                vec![],
            ),
            (
                "a lost administrator's Secret is not, where the data knows the password",
                |_, c| drop_child(c, Kind::Secret, "orders-admin"),
                &[],
                vec![Block::CredentialsLost(admin())],
            ),
            (
                "nor is it when the volume has lost its labels",
                |_, c| {
                    drop_child(c, Kind::Secret, "orders-admin");
                    child(c, Kind::PersistentVolumeClaim, "data-orders-g1-0").marks = Marks::default().into();
                },
                &[],
                taken(Kind::PersistentVolumeClaim, "data-orders-g1-0"),
            ),
            (
                "nor for a volume of another engine",
                |_, c| {
                    drop_child(c, Kind::Secret, "orders-admin");
                    drop_child(c, Kind::Secret, "orders-app");
                    child(c, Kind::PersistentVolumeClaim, "data-orders-g1-0").marks.engine = Some("redis".into());
                },
                &[],
                vec![Block::ForeignVolume {
                    claim: object(Kind::PersistentVolumeClaim, "data-orders-g1-0"),
                    mismatch: "engine is redis, wanted postgresql".to_owned(),
                }],
            ),
            (
                "it is, if the volume has gone too",
                |_, c| {
                    drop_child(c, Kind::Secret, "orders-admin");
                    drop_child(c, Kind::PersistentVolumeClaim, "data-orders-g1-0");
                },
                &[
                    "create Secret orders-admin: does not exist",
                    "create PersistentVolumeClaim data-orders-g1-0: does not exist",
                ],
                vec![],
            ),
            (
                "a label that was lost is put back",
                |_, c| child(c, Kind::Secret, "orders-app").marks.bucket = None,
                &["patch Secret orders-app: differs from what is declared"],
                vec![],
            ),
            (
                "that of the Database before is taken over",
                |_, c| child(c, Kind::Secret, "orders-admin").marks.owner = None,
                &["patch Secret orders-admin: differs from what is declared"],
                vec![],
            ),
            (
                "but not without the data that it belongs to",
                |_, c| {
                    child(c, Kind::Secret, "orders-admin").marks.owner = None;
                    child(c, Kind::PersistentVolumeClaim, "data-orders-g1-0").marks.major = Some("15".into());
                },
                &[],
                vec![Block::ForeignVolume {
                    claim: object(Kind::PersistentVolumeClaim, "data-orders-g1-0"),
                    mismatch: "major is 15, wanted 18".to_owned(),
                }],
            ),
            (
                "that of another engine is not ours",
                |_, c| child(c, Kind::Secret, "orders-admin").marks.engine = Some("redis".into()),
                &[],
                vec![Block::NameTaken(admin())],
            ),
            (
                "one without lineage is not ours",
                |_, c| child(c, Kind::Secret, "orders-admin").marks.lineage = None,
                &[],
                vec![Block::NameTaken(admin())],
            ),
            (
                "an application's Secret of somebody else is not touched",
                |_, c| child(c, Kind::Secret, "orders-app").controller = Some("other".into()),
                &[],
                taken(Kind::Secret, "orders-app"),
            ),
        ],
    );
    check(
        Engine::Redis,
        vec![
            (
                "an engine that follows its Secret gets a new one, and the rest waits until that was seen",
                |_, c| drop_child(c, Kind::Secret, "orders-admin"),
                &["create Secret orders-admin: does not exist"],
                vec![],
            ),
            (
                "also when the pod's count was tampered with",
                |_, c| {
                    drop_child(c, Kind::Secret, "orders-admin");
                    child(c, Kind::Pod, "orders-g1-0").marks.credentials = Some(0);
                    child(c, Kind::StatefulSet, "orders-g1").owned = None;
                },
                &["create Secret orders-admin: does not exist"],
                vec![],
            ),
            (
                "somebody else's Secret restarts nothing",
                |_, c| {
                    let secret = child(c, Kind::Secret, "orders-admin");
                    secret.marks = Marks {
                        credentials: Some(9),
                        ..Marks::default()
                    }
                    .into();
                },
                &[],
                vec![Block::NameTaken(admin())],
            ),
        ],
    );
}

#[test]
fn new_credentials_are_counted_on() {
    let desired = desired(Engine::Redis);
    let mut children = settled(&desired);
    let counted = |children: &Children| {
        plan(
            &desired,
            &Observed {
                stamp: None,
                children: children.clone(),
            },
        )
        .credentials
    };
    assert_eq!(counted(&children), 1);
    child(&mut children, Kind::Secret, "orders-admin").marks.credentials = Some(4);
    assert_eq!(counted(&children), 4, "as the Secret says");
    drop_child(&mut children, Kind::Secret, "orders-admin");
    child(&mut children, Kind::Pod, "orders-g1-0").marks.credentials = Some(4);
    assert_eq!(counted(&children), 5, "a new one counts on from what pods run with");
}
