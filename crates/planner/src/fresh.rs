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
use crate::plan::{Desired, Observed, Plan, Subject, plan, set_alone};
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

fn desired(subject: &Subject, intent: Intent, spec: Option<Value>) -> Desired {
    Desired {
        subject: subject.clone(),
        intent,
        accept: spec,
        // It comes with the administrator's Secret, which does not exist yet; no hash is compared here.
        salt: Some(Salt::new("")),
        replicas: 1,
    }
}

/// The plan if nothing of it existed.
pub fn fresh(subject: &Subject, intent: Intent, spec: Value) -> Plan {
    let stamp = deletion::stamp(subject, &[], None);
    plan(
        &desired(subject, intent, Some(spec)),
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

/// Of [`children`] the StatefulSets, which say what will run, in a third of the time.
pub fn sets(database: &Database, namespace: &str, catalogue: &Catalogue) -> Result<Vec<Value>, Vec<Fault>> {
    let intent = as_declared(&database.spec, catalogue)?;
    Ok(vec![set_alone(&desired(&subject(database, namespace), intent, None))])
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
    fn sets_alone_are_those_among_all_children() {
        let with_secret = json!({"configuration": {"parameters": {"maxmemory": "100mb"}, "secretRef": {"name": "x"}}});
        for (engine, version, more) in [
            (
                "postgresql",
                "16",
                json!({"configuration": {"parameters": {"work_mem": "8MB"}}}),
            ),
            ("mysql", "8.4", json!({"highAvailability": true})),
            ("mongodb", "8.0", json!({"monitoring": {"enabled": true}})),
            ("redis", "7.4", with_secret),
            ("postgresql", "99", json!({})),
        ] {
            let database = Database::new("orders", spec(engine, version, &more));
            let catalogue = Catalogue::builtin();
            let mut children = children(&database, "shop", &catalogue);
            if let Ok(children) = &mut children {
                children.retain(|child| child["kind"] == "StatefulSet");
            }
            assert_eq!(sets(&database, "shop", &catalogue), children, "{engine}");
        }
    }

    #[test]
    fn what_is_wrong_has_faults() {
        let faults = kinds("postgresql", "99", &json!({})).expect_err("there is no such version");
        assert_eq!(faults[0].field, "spec.version");
    }
}
