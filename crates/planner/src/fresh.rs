//! Plans for Databases that do not exist yet: what would be made of one.

use std::collections::BTreeMap;

use api::database::{Database, DatabaseSpec};
use api::fault::Fault;
use engines::catalogue::Catalogue;
use kube::ResourceExt as _;
use serde_json::Value;

use crate::action::Action;
use crate::deletion;
use crate::intent::{Intent, Salt};
use crate::plan::{Desired, Observed, Plan, Subject, plan};
use crate::validate::as_declared;

/// Stands for what the API server has not given yet.
pub const UNKNOWN_UID: &str = "(set when it is created)";

/// A spec in the form in which it is recorded as accepted, and compared.
pub fn as_recorded(spec: &DatabaseSpec) -> Value {
    serde_json::to_value(spec).expect("a spec is made of strings, numbers and maps with string keys")
}

/// Whom a Database would be about.
pub fn subject(database: &Database, namespace: &str) -> Subject {
    let namespace = database.namespace().unwrap_or_else(|| namespace.to_owned());
    let name = database.name_any();
    let bucket = sharding::bucket_of(&namespace, &name);
    Subject {
        namespace,
        name,
        uid: UNKNOWN_UID.to_owned(),
        bucket,
    }
}

/// The plan if nothing of it existed.
pub fn fresh(subject: &Subject, intent: Intent, spec: Value) -> Plan {
    let stamp = deletion::stamp(subject, &[], None);
    // The salt comes with the administrator's Secret, which does not exist yet; no hash is compared here.
    let salt = Some(Salt::new(""));
    let desired = Desired {
        subject: subject.clone(),
        intent,
        accept: Some(spec),
        salt,
        replicas: 1,
    };
    plan(
        &desired,
        &Observed {
            stamp,
            children: BTreeMap::new(),
        },
    )
}

/// The children that policies judge: of what is declared, also where the operator cannot make it yet, and without what
/// comes from objects that it refers to.
pub fn children(database: &Database, namespace: &str, catalogue: &Catalogue) -> Result<Vec<Value>, Vec<Fault>> {
    let intent = as_declared(&database.spec, catalogue)?;
    let plan = fresh(&subject(database, namespace), intent, as_recorded(&database.spec));
    let body = |action| match action {
        Action::CreateOnce { body, .. } | Action::Apply { body, .. } => Some(body),
        Action::Stamp(_)
        | Action::Release(_)
        | Action::Patch { .. }
        | Action::Delete { .. }
        | Action::RestartPod { .. } => None,
    };
    Ok(plan.actions.into_iter().filter_map(body).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::spec;

    fn kinds(engine: &str, version: &str, more: &Value) -> Result<Vec<String>, Vec<Fault>> {
        let database = Database::new("orders", spec(engine, version, more));
        let children = children(&database, "shop", &Catalogue::builtin())?;
        Ok(children
            .iter()
            .map(|child| child["kind"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    #[test]
    fn what_cannot_be_made_yet_has_children_to_judge() {
        let plain = kinds("postgresql", "16", &json!({})).expect("it can be planned");
        assert!(plain.iter().any(|kind| kind == "StatefulSet"), "{plain:?}");
        assert_eq!(kinds("postgresql", "16", &json!({"highAvailability": true})), Ok(plain));
        for (engine, version) in [("mysql", "8.4"), ("mongodb", "8.0"), ("redis", "7.4")] {
            let found = kinds(engine, version, &json!({})).unwrap_or_else(|faults| panic!("{engine}: {faults:?}"));
            assert!(found.iter().any(|kind| kind == "StatefulSet"), "{engine}: {found:?}");
        }
        let refers = json!({"configuration": {"secretRef": {"name": "not-there"}}});
        assert!(kinds("redis", "7.4", &refers).is_ok());
    }

    #[test]
    fn what_is_wrong_has_faults() {
        let faults = kinds("postgresql", "99", &json!({})).expect_err("there is no such version");
        assert_eq!(faults[0].field, "spec.version");
    }
}
