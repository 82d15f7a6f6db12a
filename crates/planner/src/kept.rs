//! What is still done while the configuration of an accepted spec cannot be known.
//!
//! A spec that was accepted may refer to a ConfigMap or Secret that was deleted or spoilt since. What was rendered from
//! it is then kept as it is, pods included; everything else is repaired as ever. A fault in an object that a spec refers
//! to must stop as little as a fault in the spec itself.

use api::names;

use crate::action::Action;
use crate::child::{ChildRef, Children, Kind};
use crate::plan::{Plan, Subject, named_members};

/// Takes out of a plan, made without what the spec refers to, everything that rests on it.
#[must_use]
pub fn without_configuration(mut plan: Plan, subject: &Subject, children: &Children) -> Plan {
    let rendered = [
        ChildRef::new(Kind::ConfigMap, names::config(&subject.name)),
        ChildRef::new(Kind::Secret, names::config_secret(&subject.name)),
    ];
    plan.actions.retain(|action| match action {
        Action::RestartPod { .. } => false,
        Action::Stamp(_) | Action::Release(_) => true,
        Action::CreateOnce { child, .. }
        | Action::Apply { child, .. }
        | Action::Patch { child, .. }
        | Action::Delete { child, .. } => child.kind != Kind::StatefulSet && !rendered.contains(child),
    });
    // What pods run with is what they should run with, as long as nothing else is known.
    if let Some(inputs) = named_members(subject, children).find_map(|(_, pod)| pod.marks.inputs.clone()) {
        plan.inputs = inputs;
    }
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::action::{Effect, Patch, Why};
    use crate::child::Version;

    fn apply(kind: Kind, name: &str) -> Action {
        Action::Apply {
            child: ChildRef::new(kind, name),
            body: Value::Null,
            known: Some("1".into()),
            why: Why::Differs,
            effect: Effect::None,
        }
    }

    #[test]
    fn what_rests_on_the_configuration_is_left_and_everything_else_is_done() {
        let name = "orders";
        let subject = Subject {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            uid: "1".to_owned(),
            bucket: sharding::bucket_of("shop", name),
        };
        let pod = ChildRef::new(Kind::Pod, "orders-g1-0");
        let restart = Action::RestartPod {
            child: pod.clone(),
            version: Version {
                uid: "2".into(),
                resource_version: "3".into(),
                fence: None,
                bucket: None,
            },
            why: Why::InputsChanged,
        };
        let role = Action::Patch {
            child: pod,
            uid: "2".into(),
            patch: Patch::Merge(json!({})),
            why: Why::Role,
            effect: Effect::None,
        };
        let service = apply(Kind::Service, &names::service_rw(name));
        let credentials = apply(Kind::Secret, &names::secret_app(name));
        let plan = Plan {
            actions: vec![
                apply(Kind::ConfigMap, &names::config(name)),
                service.clone(),
                apply(Kind::Secret, &names::config_secret(name)),
                credentials.clone(),
                apply(Kind::StatefulSet, &names::stateful_set(name, 1)),
                restart,
                role.clone(),
            ],
            inputs: "unknown".into(),
            ..Plan::default()
        };
        let pod = json!({
            "metadata": {
                "name": "orders-g1-0", "uid": "2", "resourceVersion": "3",
                "annotations": {names::INPUTS_ANNOTATION: "running"},
                "ownerReferences": [{"kind": "StatefulSet", "name": "orders-g1", "uid": "4", "controller": true}],
            },
        });
        let children: Children = [crate::child::Child::observe(Kind::Pod, &pod).expect("a pod")].into();
        let kept = without_configuration(plan, &subject, &children);
        assert_eq!(kept.actions, [service, credentials, role]);
        assert_eq!(kept.inputs, "running");
    }
}
