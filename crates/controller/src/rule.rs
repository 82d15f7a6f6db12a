//! Policies in a reconcile: what they say of the declared spec, asked as seldom as it can be.
//!
//! A change is asked about before it is accepted. What is accepted goes on whatever policies say later; that it breaks rules
//! of now is found by [`crate::audit`], and told.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use api::database::DatabaseSpec;
use api::names;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use planner::fresh::as_recorded;
use planner::ruling::{Finding, Ruling};
use policy::decision::{Action, Decision, Verdict, Violation};
use policy::desk::{Asked, Desk};
use policy::guard::Busy;
use policy::request::{Operation, Source};
use serde_json::{Value, json};

use crate::dereference::Found;
use crate::seen::SeenDatabase;
use crate::store::{Key, Store};
use crate::validate::Verdict as Checked;

/// What was said last of a Database, as far as its status does not tell it.
#[derive(Clone, Default, Debug)]
pub struct Judged {
    /// Of what it depended on.
    pub basis: u64,
    /// For which generation, and what; nothing, if the status tells it.
    pub ruling: Option<Box<(i64, Ruling)>>,
}

impl Judged {
    fn of(&self, generation: i64) -> Option<&Ruling> {
        let (judged, ruling) = self.ruling.as_deref()?;
        (*judged == generation).then_some(ruling)
    }
}

/// A digest of all that a ruling depends on. Time goes by the hour: exceptions expire, versions come to their end.
pub(crate) fn basis(desk: &Desk, key: &Key, generation: i64, now: Timestamp) -> u64 {
    let mut hasher = DefaultHasher::new();
    let around = desk.surroundings().basis(&key.namespace);
    (desk.guard().generation(), around, generation, now.as_second() / 3600).hash(&mut hasher);
    hasher.finish()
}

/// What policies say of what is declared. `None` where that is not asked: it cannot be read, or is refused without them.
pub(crate) async fn ruling(
    desk: &Desk,
    store: &Store,
    (key, database): (&Key, &SeenDatabase),
    (found, checked): (&Found, &Checked),
    judged: &Judged,
) -> Result<Option<Ruling>, Busy> {
    let Ok(current) = &found.current else { return Ok(None) };
    let generation = database.generation();
    let basis = basis(desk, key, generation, Timestamp::now());
    let object = object(key, database, &current.spec);
    let (asked, turn): (_, fn(&Decision) -> Ruling) = if found.is_accepted {
        let told = Ruling::recorded(&database.status, generation).filter(|told| !told.refuses());
        if let Some(known) = judged.of(generation).cloned().filter(|known| !known.refuses()).or(told) {
            return Ok(Some(known));
        }
        (question(key, Source::Reconcile, object, None), of_accepted)
    } else if checked.refusal().is_some() {
        return Ok(None);
    } else {
        let known = judged.of(generation).filter(|_| judged.basis == basis);
        if let Some(known) = known {
            return Ok(Some(known.clone()));
        }
        let old = found
            .before
            .as_ref()
            .map(|before| self::object(key, database, &before.spec));
        (question(key, Source::Reconcile, object, old), of_change)
    };
    let decided = desk.decide(asked).await?;
    let ruling = turn(&decided.decision);
    let kept = match ruling.finding {
        // The status will tell it.
        Finding::Allowed => None,
        // To be asked again.
        Finding::ErrorOnChange => return Ok(Some(ruling)),
        Finding::Denied | Finding::AcceptedBefore | Finding::Unjudged => Some(Box::new((generation, ruling.clone()))),
    };
    store.judged(key, Judged { basis, ruling: kept });
    Ok(Some(ruling))
}

/// What policies of now say of an accepted spec.
pub(crate) async fn audited(
    desk: &Desk,
    key: &Key,
    database: &SeenDatabase,
    spec: &DatabaseSpec,
) -> Result<Ruling, Busy> {
    let asked = question(key, Source::Audit, object(key, database, spec), None);
    Ok(of_accepted(&desk.decide(asked).await?.decision))
}

fn question(key: &Key, source: Source, object: Value, old: Option<Value>) -> Asked {
    Asked {
        operation: if old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        },
        dry_run: false,
        source,
        user: None,
        namespace: key.namespace.to_string(),
        object,
        old,
        request_uid: None,
    }
}

fn object(key: &Key, database: &SeenDatabase, spec: &DatabaseSpec) -> Value {
    json!({
        "apiVersion": names::API_VERSION,
        "kind": names::KIND,
        "metadata": {
            "name": &*key.name,
            "namespace": &*key.namespace,
            "uid": database.uid(),
            "generation": database.generation(),
            "labels": database.labels(),
            "annotations": database.annotations(),
        },
        "spec": as_recorded(spec),
    })
}

/// A decision about a change.
fn of_change(decision: &Decision) -> Ruling {
    match decision.verdict {
        Verdict::Allow | Verdict::Warn => Ruling::new(Finding::Allowed, &allowed(decision)),
        Verdict::Deny => Ruling::new(Finding::Denied, &denials(decision)),
        Verdict::Error => Ruling::new(Finding::ErrorOnChange, &denials(decision)),
    }
}

/// A decision about what is accepted already.
fn of_accepted(decision: &Decision) -> Ruling {
    match decision.verdict {
        Verdict::Allow | Verdict::Warn => Ruling::new(Finding::Allowed, &allowed(decision)),
        Verdict::Deny => Ruling::new(
            Finding::AcceptedBefore,
            &format!(
                "it was accepted and goes on, but is against policies of now: {}",
                denials(decision)
            ),
        ),
        Verdict::Error => Ruling::new(Finding::Unjudged, &denials(decision)),
    }
}

fn denials(decision: &Decision) -> String {
    let denials = decision
        .violations
        .iter()
        .filter(|violation| violation.action == Action::Deny);
    denials.map(Violation::sentence).collect::<Vec<_>>().join(" | ")
}

fn allowed(decision: &Decision) -> String {
    let mut said = decision.warnings.clone();
    said.extend(decision.exceptions.iter().map(|exception| {
        let policy::decision::Excepted {
            name, rule, expires, ..
        } = exception;
        format!("{rule} is excepted by {name} until {expires}")
    }));
    if said.is_empty() {
        "nothing speaks against it".to_owned()
    } else {
        format!("allowed, but: {}", said.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(verdict: &str, action: &str) -> Decision {
        serde_json::from_value(json!({
            "verdict": verdict,
            "violations": [{
                "id": "governance.cpu", "level": "global", "severity": "high", "action": action,
                "path": "spec.resources.requests.cpu", "message": "16 is above 8",
            }],
            "warnings": ["an old version"],
            "exceptions": [{
                "name": "legacy", "rule": "cost.idle", "reason": "r", "approver": "a", "expires": "2026-12-31T00:00:00Z",
            }],
            "bundles": {},
        }))
        .expect("it is a decision")
    }

    #[test]
    fn a_refused_change_and_what_was_accepted_before_are_told_apart() {
        let denied = decision("deny", "deny");
        let sentence = "spec.resources.requests.cpu: 16 is above 8 (governance.cpu)";
        assert_eq!(of_change(&denied), Ruling::new(Finding::Denied, sentence));
        let before = of_accepted(&denied);
        assert_eq!(before.finding, Finding::AcceptedBefore);
        assert!(before.message.ends_with(sentence), "{}", before.message);
        let error = decision("error", "deny");
        assert_eq!(of_change(&error).finding, Finding::ErrorOnChange);
        assert_eq!(of_accepted(&error).finding, Finding::Unjudged);
        let warned = decision("warn", "warn");
        for ruling in [of_change(&warned), of_accepted(&warned)] {
            assert_eq!(ruling.finding, Finding::Allowed);
            for words in ["an old version", "cost.idle is excepted by legacy until 2026-12-31"] {
                assert!(ruling.message.contains(words), "{}", ruling.message);
            }
        }
    }
}
