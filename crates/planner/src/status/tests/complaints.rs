//! What stands in the way, and how it is told.

use super::*;

type Case = (
    &'static str,
    Engine,
    Change,
    Phase,
    &'static [&'static str],
    &'static str,
);

fn volume(scene: &mut Scene) -> &mut crate::child::Child {
    child(&mut scene.children, Kind::PersistentVolumeClaim, "data-orders-g1-0")
}

fn gone(scene: &mut Scene, kind: Kind, name: &str) {
    scene.children.remove(&ChildRef::new(kind, name)).expect("it is there");
}

fn troubled(scene: &mut Scene, reason: &str, message: &str) {
    let facts = pod_facts(&mut scene.children);
    facts.ready = false;
    let [container, reason, message] = ["database", reason, message].map(str::to_owned);
    facts.trouble = Some(Trouble {
        container,
        reason,
        message,
    });
}

fn fault() -> Fault {
    Fault::new("spec.version", "9", "is not known", "write another")
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn complaints_by_cause() {
    let cases: Vec<Case> = vec![
        (
            "nothing",
            Engine::Postgresql,
            |_| {},
            Phase::Ready,
            &[],
            "all members serve",
        ),
        (
            "a refused edit stops nothing",
            Engine::Postgresql,
            |s| {
                s.refusal = Some(Refusal {
                    faults: vec![fault(), fault()],
                    only_missing: false,
                });
            },
            Phase::Ready,
            &[
                "Applied=False PreviousSpecApplied",
                "SpecValid=False Refused",
                "Stalled=True Refused",
            ],
            "spec.version (\"9\"): is not known; write another | spec.version (\"9\"): is not known; write another",
        ),
        (
            "a refused first spec",
            Engine::Postgresql,
            |s| {
                s.refusal = Some(Refusal {
                    faults: vec![fault()],
                    only_missing: false,
                });
                s.desired = None;
                s.children.clear();
            },
            Phase::Failed,
            &[
                "Ready=False NothingAccepted",
                "Applied=False NothingAccepted",
                "SpecValid=False Refused",
                "Stalled=True Refused",
            ],
            "spec.version (\"9\"): is not known; write another",
        ),
        (
            "a reference that is missing",
            Engine::Postgresql,
            |s| {
                s.refusal = Some(Refusal {
                    faults: vec![fault()],
                    only_missing: true,
                });
                s.desired = None;
                s.children.clear();
            },
            Phase::Failed,
            &[
                "Ready=False NothingAccepted",
                "Applied=False NothingAccepted",
                "SpecValid=False ReferenceMissing",
                "Stalled=True ReferenceMissing",
            ],
            "spec.version (\"9\"): is not known; write another",
        ),
        (
            "an object of another's",
            Engine::Postgresql,
            |s| child(&mut s.children, Kind::Service, "orders-rw").controller = None,
            Phase::Ready,
            &["Applied=False NameTaken", "Stalled=True NameTaken"],
            "Service orders-rw exists and is not ours, so it is not touched; remove it, or name the Database otherwise",
        ),
        (
            "a volume of another engine",
            Engine::Postgresql,
            |s| {
                gone(s, Kind::Pod, "orders-g1-0");
                gone(s, Kind::StatefulSet, "orders-g1");
                volume(s).marks.engine = Some("redis".into());
            },
            Phase::Failed,
            &[
                "Ready=False ForeignVolume",
                "Applied=False Blocked",
                "Stalled=True ForeignVolume",
                "StorageReady=False ForeignVolume",
                "ConfigurationApplied=False NoMembers",
            ],
            "PersistentVolumeClaim data-orders-g1-0 holds other data (engine is redis, wanted postgresql) and is not \
             started upon; delete the claim if the data is not needed, or name the Database otherwise",
        ),
        (
            "a volume that is being deleted",
            Engine::Postgresql,
            |s| volume(s).deleting = true,
            Phase::Ready,
            &[
                "Applied=False Blocked",
                "Stalled=True VolumeBeingDeleted",
                "StorageReady=False VolumeBeingDeleted",
            ],
            "PersistentVolumeClaim data-orders-g1-0 is being deleted and goes when its pod stops; back up the data now, \
             the pod is not restarted",
        ),
        (
            "a volume that grows",
            Engine::Postgresql,
            |s| {
                volume(s).facts = Facts::Claim(crate::child::ClaimFacts {
                    requested: Some("10Gi".into()),
                    capacity: Some("5Gi".into()),
                    phase: Some("Bound".into()),
                });
            },
            Phase::Ready,
            &["StorageReady=False Growing"],
            "all members serve",
        ),
        (
            "a volume that is not bound",
            Engine::Postgresql,
            |s| {
                volume(s).facts = Facts::Claim(crate::child::ClaimFacts::default());
                pod_facts(&mut s.children).ready = false;
                pod_facts(&mut s.children).unschedulable = Some("no volume".into());
            },
            Phase::Creating,
            &[
                "Ready=False MembersNotReady",
                "Reconciling=True MembersNotReady",
                "StorageReady=False WaitingForVolume",
                "ConfigurationApplied=False Starting",
            ],
            "orders-g1-0 cannot be scheduled: no volume",
        ),
        (
            "no volume",
            Engine::Postgresql,
            |s| gone(s, Kind::PersistentVolumeClaim, "data-orders-g1-0"),
            Phase::Ready,
            &["StorageReady=False Missing"],
            "all members serve",
        ),
        (
            "a lost password",
            Engine::Postgresql,
            |s| gone(s, Kind::Secret, "orders-admin"),
            Phase::Ready,
            &[
                "Applied=False Blocked",
                "Stalled=True CredentialsLost",
                "CredentialsInSync=False CredentialsLost",
            ],
            "Secret orders-admin is gone and the data knows its password; put the Secret back from a copy, or restore a \
             backup into a new Database",
        ),
        (
            "new credentials",
            Engine::Redis,
            |s| child(&mut s.children, Kind::Pod, "orders-g1-0").marks.credentials = Some(0),
            Phase::Creating,
            &[
                "Ready=False MembersNotReady",
                "Reconciling=True MembersNotReady",
                "CredentialsInSync=False Restarting",
            ],
            "0 of 1 members are ready",
        ),
        (
            "older inputs, on a Database that ran before",
            Engine::Postgresql,
            |s| {
                s.previous = s.status();
                child(&mut s.children, Kind::Pod, "orders-g1-0").marks.inputs = None;
            },
            Phase::Updating,
            &[
                "Ready=False MembersNotReady",
                "Reconciling=True MembersNotReady",
                "ConfigurationApplied=False RestartPending",
            ],
            "0 of 1 members are ready",
        ),
        (
            "an engine that refuses a parameter",
            Engine::Postgresql,
            |s| {
                troubled(
                    s,
                    "Error",
                    "2026-01-01 LOG:  x\nFATAL:  configuration file \"/x\" contains errors",
                );
            },
            Phase::Failed,
            &[
                "Ready=False EngineRefuses",
                "Stalled=True EngineRefuses",
                "ConfigurationApplied=False EngineRefuses",
            ],
            "configuration file \"/x\" contains errors; correct the spec, and the database is started again",
        ),
        (
            "an image that is not there",
            Engine::Postgresql,
            |s| troubled(s, "ImagePullBackOff", "first\nBack-off pulling"),
            Phase::Creating,
            &[
                "Ready=False MembersNotReady",
                "Reconciling=True MembersNotReady",
                "ConfigurationApplied=False Starting",
            ],
            "orders-g1-0, container database: ImagePullBackOff Back-off pulling",
        ),
        (
            "an image of an older operator",
            Engine::Postgresql,
            |s| pod_facts(&mut s.children).image = Some("older".into()),
            Phase::Ready,
            &["ConfigurationApplied=True UpdateAvailable"],
            "all members serve",
        ),
        (
            "no member",
            Engine::Postgresql,
            |s| gone(s, Kind::Pod, "orders-g1-0"),
            Phase::Creating,
            &[
                "Ready=False MembersNotReady",
                "Reconciling=True MembersNotReady",
                "ConfigurationApplied=False NoMembers",
            ],
            "0 of 1 members are ready",
        ),
        (
            "a pod that only carries our labels is no member",
            Engine::Postgresql,
            |s| child(&mut s.children, Kind::Pod, "orders-g1-0").controller = Some("another".into()),
            Phase::Creating,
            &[
                "Ready=False MembersNotReady",
                "Reconciling=True MembersNotReady",
                "ConfigurationApplied=False NoMembers",
            ],
            "0 of 1 members are ready",
        ),
        (
            "a write that fails for now",
            Engine::Postgresql,
            |s| {
                s.failure = Some(Failure {
                    child: None,
                    message: "throttled".to_owned(),
                    permanent: false,
                });
            },
            Phase::Ready,
            &["Applied=False WriteFailed"],
            "all members serve",
        ),
        (
            "a write that the server never takes",
            Engine::Postgresql,
            |s| {
                s.failure = Some(Failure {
                    child: None,
                    message: "invalid".to_owned(),
                    permanent: true,
                });
            },
            Phase::Ready,
            &["Applied=False RejectedByServer", "Stalled=True RejectedByServer"],
            "invalid",
        ),
        (
            "a tug of war",
            Engine::Postgresql,
            |s| s.contested = Some(ChildRef::new(Kind::Service, "orders-rw")),
            Phase::Ready,
            &["Applied=False Contested", "Stalled=True Contested"],
            "Service orders-rw is changed by somebody else as often as it is repaired, so it is repaired less often; \
             `kubectl get --show-managed-fields` tells who, and they must stop",
        ),
        (
            "a pause",
            Engine::Postgresql,
            |s| s.paused = true,
            Phase::Ready,
            &["Applied=False Paused", "Paused=True Paused"],
            "all members serve",
        ),
        (
            "what is declared and not yet available",
            Engine::Postgresql,
            |s| {
                let intent = &mut s.desired.as_mut().expect("it has one").intent;
                (intent.backup, intent.monitoring) = (true, true);
            },
            Phase::Ready,
            &[
                "BackupHealthy=False NotYetAvailable",
                "MonitoringHealthy=False NotYetAvailable",
            ],
            "all members serve",
        ),
        (
            "values of a Secret while the salt is not known",
            Engine::Postgresql,
            |s| {
                drop(
                    s.desired
                        .as_mut()
                        .expect("it has one")
                        .intent
                        .secret_parameters
                        .insert("work_mem".to_owned(), "8MB".to_owned()),
                );
            },
            Phase::Ready,
            &["Applied=False Blocked", "ConfigurationApplied=False Blocked"],
            "all members serve",
        ),
    ];
    for (case, engine, change, phase, expected, message) in cases {
        let mut scene = Scene::new(engine);
        change(&mut scene);
        let status = scene.status();
        let expected: Vec<String> = expected.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!((complaints(&status), status.phase), (expected, Some(phase)), "{case}");
        assert_eq!(status.message.as_deref(), Some(message), "{case}");
    }
}
