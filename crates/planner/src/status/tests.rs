use api::database::Engine;
use api::database::status::{ConditionStatus, ConditionType, DatabaseStatus, Phase};
use api::fault::Fault;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::child::{Kind, Marks, Trouble};
use crate::plan::{Observed, plan};
use crate::test_support::{child, desired, pod_facts, settled};

mod complaints;

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(1_800_000_000 + second).expect("it is a time"))
}

/// Everything that a status is made of, as in a settled Database.
struct Scene {
    previous: DatabaseStatus,
    refusal: Option<Refusal>,
    ruling: Option<Ruling>,
    desired: Option<Desired>,
    children: Children,
    failure: Option<Failure>,
    contested: Option<ChildRef>,
    paused: bool,
}

impl Scene {
    fn new(engine: Engine) -> Self {
        let desired = desired(engine);
        Self {
            previous: DatabaseStatus::default(),
            refusal: None,
            ruling: None,
            children: settled(&desired),
            desired: Some(desired),
            failure: None,
            contested: None,
            paused: false,
        }
    }

    fn reported(&self, generation: i64, second: i64) -> Reported {
        let observed = Observed {
            stamp: None,
            children: self.children.clone(),
        };
        let plan = self
            .desired
            .as_ref()
            .filter(|_| !self.paused)
            .map(|desired| plan(desired, &observed));
        let progress = Progress {
            generation,
            refusal: self.refusal.as_ref(),
            ruling: self.ruling.as_ref(),
            desired: self.desired.as_ref(),
            plan: plan.as_ref(),
            children: &self.children,
            failure: self.failure.as_ref(),
            contested: self.contested.as_ref(),
            paused: self.paused,
        };
        of(&self.previous, &progress, &at(second))
    }

    fn status(&self) -> DatabaseStatus {
        self.reported(3, 0).status
    }
}

/// Condition, whether it holds, and its reason, of all that do not say that everything is well.
fn complaints(status: &DatabaseStatus) -> Vec<String> {
    let well = |condition: &Condition| {
        let good = !["Reconciling", "Stalled", "Paused"].contains(&condition.type_.as_str());
        condition.status == ConditionStatus::from(good) && condition.reason != "UpdateAvailable"
    };
    let told = |condition: &Condition| format!("{}={} {}", condition.type_, condition.status, condition.reason);
    status
        .conditions
        .iter()
        .filter(|condition| !well(condition))
        .map(told)
        .collect()
}

#[test]
fn a_settled_database_in_full() {
    let scene = Scene::new(Engine::Postgresql);
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 3,
            "lastTransitionTime": "2027-01-15T08:00:00Z",
        })
    };
    let release = &scene.desired.as_ref().expect("it has one").intent.release;
    let reported = scene.reported(3, 0);
    assert!(reported.ready());
    assert_eq!(
        json!(reported.status),
        json!({
            "observedGeneration": 3, "acceptedGeneration": 3, "phase": "Ready", "message": "all members serve",
            "lastReconcileTime": "2027-01-15T08:00:00Z",
            "conditions": [
                condition("Ready", "True", "Serving", "all members serve"),
                condition("Applied", "True", "Applied", "all children are as declared"),
                condition("SpecValid", "True", "Accepted", "every check passed"),
                condition("Reconciling", "False", "Settled", "nothing is being changed"),
                condition("Stalled", "False", "Progressing", "nothing needs a person"),
                condition("StorageReady", "True", "Bound", "the volume is bound and as large as declared"),
                condition("ConfigurationApplied", "True", "Applied", "all members run with the declared configuration"),
                condition("CredentialsInSync", "True", "InSync", "the Secrets and the engine agree"),
            ],
            "connectionInfo": {"host": "orders-rw.shop.svc", "port": 5432, "databaseName": "app", "secretRef": {"name": "orders-app"}},
            "replicaStatus": {
                "desired": 1, "ready": 1, "summary": "1/1", "primary": "orders-g1-0",
                "members": [{"name": "orders-g1-0", "role": "primary", "ready": true, "pendingRestart": false}],
            },
            "version": {"running": release.version.to_string(), "image": release.image, "imageID": "sha256:1"},
        })
    );
}

#[test]
fn a_second_look_at_the_same_changes_nothing() {
    let mut scene = Scene::new(Engine::Redis);
    let first = scene.reported(3, 0).status;
    scene.previous = first.clone();
    let second = scene.reported(3, 60).status;
    assert_eq!(second, first);
    assert_eq!(changes(&first, &second), Value::Null);
    assert_eq!(notes(&first, &second), []);
    // Nor does it under a new owner: a handover writes nothing to Databases.
    scene.previous.fence = Some(7);
    let by_the_next = scene.reported(3, 120).status;
    assert_eq!(changes(&scene.previous, &by_the_next), Value::Null);
}

type Change = fn(&mut Scene);

#[test]
fn values_from_a_secret_are_masked_in_what_the_engine_says() {
    let mut scene = Scene::new(Engine::Postgresql);
    let intent = &mut scene.desired.as_mut().expect("it has one").intent;
    intent
        .secret_parameters
        .insert("work_mem".to_owned(), "Planted-7f3a".to_owned());
    let facts = pod_facts(&mut scene.children);
    facts.ready = false;
    facts.trouble = Some(Trouble {
        container: "database".to_owned(),
        reason: "Error".to_owned(),
        message: "FATAL:  invalid value for parameter \"work_mem\": \"Planted-7f3a\"".to_owned(),
    });
    let status = scene.status();
    let text = json!(status).to_string();
    assert!(
        text.contains("invalid value for parameter") && text.contains("(hidden)"),
        "{text}"
    );
    assert!(!text.contains("Planted"), "{text}");
    pod_facts(&mut scene.children)
        .trouble
        .as_mut()
        .expect("it has one")
        .message = "exec Planted-7f3a".to_owned();
    let text = json!(scene.status()).to_string();
    assert!(text.contains("exec (hidden)") && !text.contains("Planted"), "{text}");
}

#[test]
fn a_condition_keeps_the_time_of_its_last_change() {
    let mut scene = Scene::new(Engine::Postgresql);
    let time = |status: &DatabaseStatus, kind| status.condition(kind).and_then(|c| c.last_transition_time.clone());
    scene.previous = scene.reported(3, 0).status;
    pod_facts(&mut scene.children).ready = false;
    let down = scene.reported(4, 60).status;
    assert_eq!(time(&down, ConditionType::Ready), Some(at(60)), "it changed");
    assert_eq!(time(&down, ConditionType::Applied), Some(at(0)), "it did not");
    let generation = down
        .condition(ConditionType::Applied)
        .and_then(|condition| condition.observed_generation);
    assert_eq!(generation, Some(4), "though it is about a newer spec");
    assert_eq!(down.last_reconcile_time, Some(at(60)));
    scene.previous = down;
    child(&mut scene.children, Kind::Pod, "orders-g1-0").marks.inputs = None;
    let still = scene.reported(4, 120).status;
    assert_eq!(
        time(&still, ConditionType::Ready),
        Some(at(60)),
        "another reason is no other status"
    );
}

#[test]
fn conditions_of_others_are_kept_and_ours_that_are_not_said_any_more_go() {
    let mut scene = Scene::new(Engine::Postgresql);
    let theirs = Condition {
        type_: "example.com/Audited".to_owned(),
        status: ConditionStatus::True,
        observed_generation: Some(1),
        last_transition_time: Some(at(-100)),
        reason: "Audited".to_owned(),
        message: String::new(),
    };
    scene.desired.as_mut().expect("it has one").intent.backup = true;
    scene.previous.conditions = vec![theirs.clone()];
    let first = scene.status();
    assert_eq!(first.conditions.last(), Some(&theirs), "after ours");
    assert!(first.condition(ConditionType::BackupHealthy).is_some());
    scene.previous = first;
    scene.desired.as_mut().expect("it has one").intent.backup = false;
    let second = scene.status();
    assert_eq!(second.conditions.last(), Some(&theirs));
    assert_eq!(second.condition(ConditionType::BackupHealthy), None);
}

#[test]
fn what_was_accepted_and_what_ran_is_remembered() {
    let mut scene = Scene::new(Engine::Postgresql);
    scene.previous = scene.reported(3, 0).status;
    let refusal = Refusal {
        faults: vec![Fault::new("spec.version", "9", "is not known", "write another")],
        only_missing: false,
    };
    scene.refusal = Some(refusal);
    let status = scene.reported(4, 0).status;
    assert_eq!(
        (status.observed_generation, status.accepted_generation),
        (Some(4), Some(3))
    );
    let ran = scene.previous.version.clone();
    pod_facts(&mut scene.children).ready = false;
    assert_eq!(
        scene.status().version,
        ran,
        "no member serves: what ran before is what is known"
    );
    pod_facts(&mut scene.children).ready = true;
    pod_facts(&mut scene.children).image = Some("newer".into());
    let version = scene.status().version.expect("a member serves");
    assert_eq!(
        version.running,
        ran.and_then(|ran| ran.running),
        "of another image the version is not known"
    );
    assert_eq!(version.image.as_deref(), Some("newer"));
    scene.refusal = None;
    scene.children.retain(|child, _| child.kind != Kind::ControllerRevision);
    assert_eq!(
        scene.reported(4, 0).status.accepted_generation,
        Some(3),
        "nothing is accepted before it is recorded"
    );
}

#[test]
fn only_what_changed_is_written() {
    let before = DatabaseStatus {
        phase: Some(Phase::Ready),
        message: Some("all members serve".to_owned()),
        observed_generation: Some(1),
        fence: Some(5),
        ..DatabaseStatus::default()
    };
    let after = DatabaseStatus {
        phase: Some(Phase::Updating),
        message: None,
        ..before.clone()
    };
    assert_eq!(changes(&before, &after), json!({"phase": "Updating", "message": null}));
    assert_eq!(changes(&before, &before), Value::Null);
    let nested = |host: Option<&str>, port: Option<i32>| DatabaseStatus {
        connection_info: Some(ConnectionInfo {
            host: host.map(str::to_owned),
            port,
            ..ConnectionInfo::default()
        }),
        ..before.clone()
    };
    assert_eq!(
        changes(&nested(Some("a"), Some(1)), &nested(None, Some(1))),
        json!({"connectionInfo": {"host": null}}),
        "down to the member"
    );
    assert_eq!(
        changes(&before, &nested(None, Some(1))),
        json!({"connectionInfo": {"port": 1}})
    );
}

#[test]
fn a_deletion_is_reported_once() {
    let mut scene = Scene::new(Engine::Postgresql);
    scene.previous = scene.reported(3, 0).status;
    let waits_for = [
        ChildRef::new(Kind::StatefulSet, "orders-g1"),
        ChildRef::new(Kind::Pod, "orders-g1-0"),
    ];
    let first = deleting(&scene.previous, &waits_for, &at(60));
    assert_eq!(first.phase, Some(Phase::Deleting));
    assert_eq!(
        first.message.as_deref(),
        Some("being deleted; waits for StatefulSet orders-g1, Pod orders-g1-0")
    );
    assert_eq!(
        complaints(&first),
        ["Ready=False Deleting", "Reconciling=True Deleting"]
    );
    let kept = |status: &DatabaseStatus| status.condition(ConditionType::StorageReady).cloned();
    assert_eq!(kept(&first), kept(&scene.previous), "what else was known stays");
    let second = deleting(&first, &waits_for[1..], &at(120));
    assert_eq!(
        changes(&first, &second),
        Value::Null,
        "a child that went is no reason to write"
    );
    assert_eq!(second.fence, first.fence, "nor is a new owner");
}

#[test]
fn events_are_for_transitions() {
    let noted = |before: &DatabaseStatus, change: Change| {
        let mut scene = Scene::new(Engine::Postgresql);
        scene.previous = before.clone();
        change(&mut scene);
        let next = scene.status();
        assert_eq!(notes(&next, &next), [], "nothing changed");
        notes(before, &next)
            .into_iter()
            .map(|note| (note.warning, note.reason))
            .collect::<Vec<_>>()
    };
    let new = DatabaseStatus::default();
    let settled = Scene::new(Engine::Postgresql).status();
    let refused: Change = |s| {
        s.refusal = Some(Refusal {
            faults: Vec::new(),
            only_missing: false,
        });
    };
    let refused_status = {
        let mut scene = Scene::new(Engine::Postgresql);
        refused(&mut scene);
        scene.status()
    };
    for (case, before, change, expected) in [
        (
            "it serves for the first time",
            &new,
            (|_| {}) as Change,
            vec![(false, "Ready"), (false, "Created")],
        ),
        ("nothing", &settled, |_| {}, vec![]),
        (
            "it serves no more",
            &settled,
            |s| pod_facts(&mut s.children).ready = false,
            vec![(true, "NotReady")],
        ),
        ("a refused edit", &settled, refused, vec![(true, "SpecRefused")]),
        (
            "a corrected edit",
            &refused_status,
            |_| {},
            vec![(false, "SpecAccepted")],
        ),
        (
            "a name that was taken",
            &settled,
            |s| child(&mut s.children, Kind::Service, "orders-rw").controller = None,
            vec![(true, NAME_TAKEN)],
        ),
        (
            "a volume of another data set",
            &settled,
            |s| {
                child(&mut s.children, Kind::PersistentVolumeClaim, "data-orders-g1-0")
                    .marks
                    .lineage = Some("x".into());
            },
            vec![(true, FOREIGN_VOLUME)],
        ),
        (
            "a volume that goes",
            &settled,
            |s| child(&mut s.children, Kind::PersistentVolumeClaim, "data-orders-g1-0").deleting = true,
            vec![(true, VOLUME_LEAVING)],
        ),
        (
            "a restart",
            &settled,
            |s| child(&mut s.children, Kind::Pod, "orders-g1-0").marks = Marks::default().into(),
            vec![(true, "NotReady"), (false, "Restarting")],
        ),
        (
            "a lost password",
            &settled,
            |s| drop(s.children.remove(&ChildRef::new(Kind::Secret, "orders-admin"))),
            vec![(true, "CredentialsOutOfSync")],
        ),
        (
            "backups that are not made",
            &settled,
            |s| s.desired.as_mut().expect("it has one").intent.backup = true,
            vec![(true, "BackupUnhealthy")],
        ),
        ("a pause", &settled, |s| s.paused = true, vec![(false, "Paused")]),
    ] {
        assert_eq!(noted(before, change), expected, "{case}");
    }
}

#[test]
fn a_long_message_is_cut() {
    let mut scene = Scene::new(Engine::Postgresql);
    let failure = Failure {
        child: None,
        message: "ü".repeat(2000),
        permanent: true,
    };
    scene.failure = Some(failure);
    let message = scene.status().message.expect("it has one");
    assert_eq!(message.chars().count(), MESSAGE_MAX);
    assert!(message.ends_with('…'));
}

#[test]
fn what_policies_say_is_told_and_a_refused_change_is_not_accepted() {
    use crate::ruling::Finding;
    let mut scene = Scene::new(Engine::Postgresql);
    scene.ruling = Some(Ruling::new(Finding::Allowed, "nothing speaks against it"));
    scene.previous = scene.reported(3, 0).status;
    assert_eq!(complaints(&scene.previous), [""; 0]);
    assert_eq!(Ruling::recorded(&scene.previous, 3), scene.ruling);
    assert_eq!(Ruling::recorded(&scene.previous, 4), None, "that one was never judged");

    let expected = [
        (
            Finding::Denied,
            vec![
                "Applied=False PreviousSpecApplied",
                "PolicyAllowed=False PolicyDenied",
                "Stalled=True PolicyDenied",
            ],
            Some(3),
        ),
        (
            Finding::ErrorOnChange,
            vec!["Applied=False PreviousSpecApplied", "PolicyAllowed=False PolicyError"],
            Some(3),
        ),
        (
            Finding::AcceptedBefore,
            vec!["PolicyAllowed=False AcceptedBefore"],
            Some(4),
        ),
        (Finding::Unjudged, vec!["PolicyAllowed=Unknown NotJudged"], Some(4)),
    ];
    for (finding, told, accepted) in expected {
        scene.ruling = Some(Ruling::new(finding, "spec.resources.requests.cpu: 16 is above 8"));
        let status = scene.reported(4, 1).status;
        assert_eq!(complaints(&status), told, "{finding:?}");
        assert_eq!(status.accepted_generation, accepted, "{finding:?}");
        assert_eq!(status.phase, Some(Phase::Ready), "what runs goes on: {finding:?}");
        assert_eq!(Ruling::recorded(&status, 4), scene.ruling);
        let events = notes(&scene.previous, &status);
        let reasons: Vec<_> = events.iter().map(|note| (note.warning, note.reason)).collect();
        let reason = if finding == Finding::Denied {
            "PolicyDenied"
        } else {
            "PolicyViolated"
        };
        assert!(reasons.contains(&(true, reason)), "{finding:?}: {reasons:?}");
    }
}

#[test]
fn a_long_ruling_reads_back_as_it_was() {
    use crate::ruling::Finding;
    let mut scene = Scene::new(Engine::Redis);
    scene.ruling = Some(Ruling::new(Finding::AcceptedBefore, &"long ".repeat(1000)));
    assert_eq!(Ruling::recorded(&scene.status(), 3), scene.ruling);
}
