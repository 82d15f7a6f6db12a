//! Exceptions from rules: for some Databases, approved by somebody, with a reason and an end.

pub use api::exception::PolicyException;
use api::exception::PolicyExceptionSpec as Spec;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::Value;

use crate::decision::{Action, Excepted, OPERATOR, Violation};

/// The longest that an exception may hold, in days.
pub const LONGEST_DAYS: i64 = 90;

/// By how much the clock of an API server may be ahead of ours.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);

/// Whom a decision is about.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub namespace: &'a str,
    pub object: &'a Value,
}

/// Why an exception does not hold at the moment `now`, if so.
pub fn why_not(exception: &PolicyException, now: Timestamp) -> Option<String> {
    let created = exception.metadata.creation_timestamp.as_ref();
    let begun = created.map_or(now, |created| created.0);
    let latest = begun.checked_add((LONGEST_DAYS * 24).hours()).ok();
    let Spec {
        rules,
        selector,
        reason,
        approver,
        expires,
    } = &exception.spec;
    let expires = expires.0;
    let why = if expires <= now {
        format!("expired at {expires}")
    } else if begun.duration_since(now) > CLOCKS_DIFFER {
        format!("was made at {begun}, which is not yet; correct the clock of whoever made it, and make it again")
    } else if latest.is_none_or(|latest| expires > latest) {
        format!("holds for more than {LONGEST_DAYS} days; make one that ends sooner")
    } else if rules.is_empty() || selector.namespaces.is_empty() {
        "names no rule or no namespace".to_owned()
    } else if reason.trim().is_empty() || approver.trim().is_empty() {
        "has no reason or no approver".to_owned()
    } else {
        return None;
    };
    Some(why)
}

fn is_for(exception: &PolicyException, subject: Subject) -> bool {
    let selector = &exception.spec.selector;
    let name = subject.object["metadata"]["name"].as_str().unwrap_or_default();
    let labels = &subject.object["metadata"]["labels"];
    selector.namespaces.iter().any(|selected| selected == subject.namespace)
        && (selector.databases.is_empty() || selector.databases.iter().any(|selected| selected == name))
        && selector
            .match_labels
            .iter()
            .all(|(key, value)| labels[key].as_str() == Some(value))
}

/// Lets those denials pass, with a warning, that a valid exception names. Returns the exceptions that were used, and
/// what is to be said about those that would have been, had they been valid.
pub(crate) fn apply(
    exceptions: &[PolicyException],
    violations: &mut [Violation],
    subject: Subject,
    now: Timestamp,
) -> (Vec<Excepted>, Vec<String>) {
    let (mut used, mut said) = (Vec::new(), Vec::new());
    for exception in exceptions.iter().filter(|exception| is_for(exception, subject)) {
        let Spec {
            rules,
            reason,
            approver,
            expires,
            ..
        } = &exception.spec;
        // What the operator itself refuses is no rule of anybody's.
        let named = |violation: &&mut Violation| {
            violation.action == Action::Deny && violation.level != OPERATOR && rules.contains(&violation.id)
        };
        let name = exception.metadata.name.clone().unwrap_or_default();
        let mut denied = violations.iter_mut().filter(named).peekable();
        if denied.peek().is_none() {
            continue;
        }
        if let Some(why) = why_not(exception, now) {
            said.push(format!("the exception {name} does not hold: it {why}"));
            continue;
        }
        for violation in denied {
            violation.action = Action::Warn;
            used.push(Excepted {
                name: name.clone(),
                rule: violation.id.clone(),
                reason: reason.clone(),
                approver: approver.clone(),
                expires: expires.0.to_string(),
            });
        }
    }
    used.sort_by(|a, b| (&a.rule, &a.name).cmp(&(&b.rule, &b.name)));
    used.dedup();
    (used, said)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::decision::Severity;

    fn at(time: &str) -> Time {
        Time(time.parse().expect("it is a time"))
    }

    fn violation(id: &str) -> Violation {
        Violation {
            id: id.to_owned(),
            level: "global".to_owned(),
            severity: Severity::High,
            action: Action::Deny,
            path: "spec".to_owned(),
            message: "no".to_owned(),
            measure: None,
        }
    }

    fn exception(change: impl FnOnce(&mut PolicyException)) -> PolicyException {
        let mut exception = serde_json::from_value(json!({
            "apiVersion": "intent.example.com/v1", "kind": "PolicyException",
            "metadata": {"name": "legacy", "creationTimestamp": "2026-11-01T00:00:00Z"},
            "spec": {"rules": ["a.b"], "selector": {"namespaces": ["shop"]}, "reason": "moves out in January",
                "approver": "head of platform", "expires": "2026-12-31T00:00:00Z"},
        }))
        .expect("it is an exception");
        change(&mut exception);
        exception
    }

    fn shop(object: &Value) -> Subject<'_> {
        Subject {
            namespace: "shop",
            object,
        }
    }

    fn outcome(exception: PolicyException) -> (Vec<Action>, usize, Vec<String>) {
        let object = json!({"metadata": {"name": "orders", "labels": {"tier": "old"}}});
        let mut violations = [violation("a.b"), violation("a.c")];
        let now = "2026-11-28T00:00:00Z".parse().expect("it is a time");
        let (used, said) = apply(&[exception], &mut violations, shop(&object), now);
        (
            violations.iter().map(|violation| violation.action).collect(),
            used.len(),
            said,
        )
    }

    #[test]
    fn only_the_named_rule_of_the_selected_database_passes() {
        let passed = (vec![Action::Warn, Action::Deny], 1, vec![]);
        let refused = (vec![Action::Deny, Action::Deny], 0, vec![]);
        assert_eq!(outcome(exception(|_| ())), passed);
        let label = |value: &str| BTreeMap::from([("tier".to_owned(), value.to_owned())]);
        assert_eq!(
            outcome(exception(|e| e.spec.selector.match_labels = label("old"))),
            passed
        );
        assert_eq!(
            outcome(exception(|e| e.spec.selector.match_labels = label("new"))),
            refused
        );
        assert_eq!(
            outcome(exception(|e| e.spec.selector.databases = vec!["orders".to_owned()])),
            passed
        );
        assert_eq!(
            outcome(exception(|e| e.spec.selector.databases = vec!["other".to_owned()])),
            refused
        );
        assert_eq!(
            outcome(exception(|e| e.spec.selector.namespaces = vec!["other".to_owned()])),
            refused
        );
        assert_eq!(outcome(exception(|e| e.spec.rules = vec!["a".to_owned()])), refused);
    }

    #[test]
    fn what_the_operator_refuses_has_no_exception() {
        let mut refused = [violation("a.b")];
        OPERATOR.clone_into(&mut refused[0].level);
        let now = "2026-11-28T00:00:00Z".parse().expect("it is a time");
        let (used, _) = apply(&[exception(|_| ())], &mut refused, shop(&json!({})), now);
        assert_eq!((used.len(), refused[0].action), (0, Action::Deny));
    }

    #[test]
    fn an_exception_ends_and_needs_a_name_to_it() {
        type Change = fn(&mut PolicyException);
        let changes: [(Change, &str); 6] = [
            (
                |e| e.spec.expires = at("2026-11-27T00:00:00Z"),
                "expired at 2026-11-27T00:00:00Z",
            ),
            (
                |e| e.spec.expires = at("2027-01-31T00:00:00Z"),
                "holds for more than 90 days",
            ),
            (
                |e| {
                    e.metadata.creation_timestamp = Some(at("2099-01-01T00:00:00Z"));
                    e.spec.expires = at("2099-01-02T00:00:00Z");
                },
                "was made at 2099-01-01T00:00:00Z, which is not yet",
            ),
            (
                |e| {
                    e.metadata.creation_timestamp = None;
                    e.spec.expires = Time(Timestamp::MAX);
                },
                "holds for more than 90 days",
            ),
            (|e| e.spec.approver = " ".to_owned(), "has no reason or no approver"),
            (|e| e.spec.reason = String::new(), "has no reason or no approver"),
        ];
        for (change, words) in changes {
            let (actions, used, said) = outcome(exception(change));
            assert_eq!((actions, used), (vec![Action::Deny, Action::Deny], 0));
            assert!(said[0].contains(words), "{said:?}");
        }
    }
}
