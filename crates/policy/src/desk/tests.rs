use std::num::NonZeroUsize;
use std::sync::Mutex;

use engines::catalogue::Catalogue;
use serde_json::json;

use super::*;
use crate::bundle::{Bundle, Files};
use crate::decision::{POLICY_ERROR, Verdict};
use crate::guard::SharedPlanner;
use crate::policies::Policies;

/// A rule that quotes what it should not, where the namespace is of production.
const RULES: &str = r#"
package database.loud

import rego.v1

violations contains {
	"id": "loud.parameters", "severity": "low", "action": "deny", "path": "spec.configuration.parameters",
	"message": sprintf("%v is not allowed", [object.get(input.object, ["spec", "configuration", "parameters", "admin_password"], "")]),
} if {
	object.get(input.namespace.labels, ["intent.example.com/environment"], "") == "production"
}
"#;

const SECRET: &str = "correct-horse-battery";

#[derive(Default)]
struct Around {
    labels: Option<Labels>,
    told: Mutex<Vec<Decided>>,
}

impl Surroundings for Around {
    fn labels<'a>(&'a self, _: &'a str) -> Pending<'a, Result<Labels, Unknown>> {
        let labels = self.labels.clone().ok_or("nobody answers".to_owned());
        Box::pin(std::future::ready(labels))
    }

    fn exceptions(&self) -> Arc<[PolicyException]> {
        Arc::default()
    }

    fn basis(&self, _: &str) -> u64 {
        0
    }

    fn decided(&self, decided: &Decided) {
        self.told.lock().expect("nobody panics").push(decided.clone());
    }

    fn shed(&self) {}
}

fn desk(around: &Arc<Around>) -> Desk {
    let mut files = Files::new();
    let manifest = r#"{"revision": "1", "roots": ["database"], "rego_version": 1}"#;
    for (name, content) in [(".manifest", manifest), ("database/loud.rego", RULES)] {
        files.add(name, content.into()).expect("a file");
    }
    let bundle = Bundle::open_unverified("loud", files).expect("a bundle");
    let planner: SharedPlanner = Arc::new(|_: &Value, _: &str| Ok(Vec::new()));
    let guard = Guard::start(NonZeroUsize::MIN, &planner).expect("a thread");
    let policies = Policies::load(&[bundle], Catalogue::builtin()).expect("policies");
    guard.activate(policies.with_time_limit(Duration::from_secs(30)));
    let outside = Outside {
        now: || "2026-11-28T10:00:00Z".parse().expect("it is a time"),
        random: || [7; 10],
    };
    Desk::new(guard, around.clone(), outside, "replica-1")
}

fn asked(operation: Operation) -> Asked {
    Asked {
        operation,
        dry_run: true,
        source: Source::Admission,
        user: Some(User {
            name: "ann".to_owned(),
            ..User::default()
        }),
        namespace: "shop".to_owned(),
        object: json!({
            "apiVersion": "intent.example.com/v1", "kind": "Database",
            "metadata": {"generateName": "orders-", "generation": 3, "managedFields": [{"manager": "kubectl"}]},
            "spec": {"configuration": {"parameters": {"admin_password": SECRET}}},
        }),
        old: None,
        request_uid: Some("one".to_owned()),
    }
}

#[tokio::test]
async fn a_decision_is_recorded_as_it_is_answered_and_neither_holds_a_secret() {
    let production = ("intent.example.com/environment".to_owned(), "production".to_owned());
    let around = Arc::new(Around {
        labels: Some([production].into()),
        ..Around::default()
    });
    let desk = desk(&around);
    let decided = desk.decide(asked(Operation::Create)).await.expect("nobody else asks");
    let decision = &decided.decision;
    assert_eq!(decision.verdict, Verdict::Deny);
    assert_eq!(decision.violations[0].message, "[masked] is not allowed");
    desk.settle().await;
    let told = around.told.lock().expect("nobody panics").clone();
    let [told] = &told[..] else { panic!("{told:?}") };
    let record = json!(told.record.record());
    assert!(!record.to_string().contains(SECRET) && !json!(decision).to_string().contains(SECRET));
    let expected = json!({
        "decision_id": decided.id, "timestamp": "2026-11-28T10:00:00Z", "replica": "replica-1", "source": "admission",
        "requestUid": "one", "operation": "CREATE", "dryRun": true, "user": {"name": "ann"}, "verdict": "deny",
        "resource": {
            "group": "intent.example.com", "version": "v1", "kind": "Database", "namespace": "shop", "name": "orders-",
            "generation": 3,
        },
    });
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&record[field], value, "{field}");
    }
    let metadata = json!({"generateName": "orders-", "generation": 3});
    assert_eq!(record["input"]["object"]["metadata"], metadata);
    assert_eq!(record["violations"], json!(decision.violations));
    assert_eq!(record["bundles"], json!(decision.bundles));
    assert!(
        record["masked"].as_array().is_some_and(|masked| !masked.is_empty()),
        "{record}"
    );
    assert_eq!(told.id, decided.id);
}

#[tokio::test]
async fn what_nothing_is_said_of_is_masked_when_it_is_recorded() {
    let around = Arc::<Around>::default();
    let desk = desk(&around);
    let answered = desk.decide(asked(Operation::Delete)).await.expect("nobody else asks");
    assert_eq!(answered.decision.verdict, Verdict::Allow);
    // On a runtime of one thread nothing else has run yet.
    assert!(around.told.lock().expect("nobody panics").is_empty());
    desk.settle().await;
    let told = around.told.lock().expect("nobody panics");
    assert_eq!(told.iter().map(|told| told.id).collect::<Vec<_>>(), [answered.id]);
    let record = json!(told[0].record.record()).to_string();
    assert!(
        record.contains("admin_password") && !record.contains(SECRET),
        "{record}"
    );
}

#[tokio::test]
async fn labels_that_cannot_be_read_deny_everything_but_an_end() {
    let around = Arc::<Around>::default();
    let desk = desk(&around);
    let decided = desk.decide(asked(Operation::Create)).await.expect("nobody else asks");
    let decision = &decided.decision;
    assert_eq!(
        (decision.verdict, &*decision.violations[0].id),
        (Verdict::Error, POLICY_ERROR)
    );
    let words = &decision.violations[0].message;
    assert!(words.contains("shop") && words.contains("nobody answers"), "{words}");
    desk.settle().await;
    let error = around.told.lock().expect("nobody panics")[0]
        .record
        .record()
        .error
        .clone();
    let error = error.expect("an error");
    assert!(error.contains("nobody answers"), "{error}");
    let decided = desk.decide(asked(Operation::Delete)).await.expect("nobody else asks");
    assert_eq!(decided.decision.verdict, Verdict::Allow);
}
