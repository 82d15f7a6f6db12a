//! Doing a deed to a child, and judging what came of it.

use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use planner::child::Kind;
use planner::owned;
use serde_json::{Value, json};

use super::damages::{Deed, is_applied};
use crate::support::Bed;

/// How long a finalizer holds what is deleted slowly: enough for a hasty operator to do something about it.
const SLOWLY: Duration = Duration::from_millis(500);

/// The object without what the server and others say of it.
pub(crate) fn cleaned(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    metadata.retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "labels" | "ownerReferences"));
    let all = object.as_object_mut().expect("an object");
    all.remove("status");
    if let Some(spec) = all.get_mut("spec").and_then(Value::as_object_mut) {
        for assigned in ["clusterIP", "clusterIPs", "volumeName"] {
            // `None` was asked for; an address was given.
            if spec
                .get(assigned)
                .is_some_and(|value| value != "None" && *value != json!(["None"]))
            {
                spec.remove(assigned);
            }
        }
    }
    object
}

/// The first thing that `has` lacks of `wanted`; lists of objects count without order.
fn lacks(wanted: &Value, has: &Value, at: &str) -> Option<String> {
    match (wanted, has) {
        (Value::Object(wanted), Value::Object(has)) => wanted.iter().find_map(|(field, wanted)| {
            let at = format!("{at}/{field}");
            has.get(field)
                .map_or_else(|| Some(format!("{at} is missing")), |has| lacks(wanted, has, &at))
        }),
        (Value::Array(wanted), Value::Array(has)) if wanted.iter().all(Value::is_object) => {
            wanted.iter().enumerate().find_map(|(index, wanted)| {
                let at = format!("{at}/{index}");
                let same = has.iter().any(|has| lacks(wanted, has, &at).is_none());
                (!same).then(|| format!("{at}: {wanted} is not in {has:?}"))
            })
        }
        _ if wanted == has => None,
        _ => Some(format!("{at} is {has}, was {wanted}")),
    }
}

/// Why the object is not what we want it to be, if it is not.
pub(crate) fn unrepaired(kind: Kind, name: &str, before: &Value, now: &Value) -> Option<String> {
    if let Some(lack) = lacks(&cleaned(before), &cleaned(now), "") {
        return Some(lack);
    }
    if cleaned(now).to_string().contains("intruder") {
        return Some(format!("an intruder is still there: {}", cleaned(now)));
    }
    if is_applied(kind, name)
        && (owned::digest_of_live(now).is_none() || owned::digest_of_live(now) != owned::digest_of_live(before))
    {
        return Some("what we own is not what we owned".to_owned());
    }
    None
}

/// Every `key: value` that is theirs by its name.
pub(crate) fn theirs(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = vec![("", object)];
    while let Some((key, value)) = rest.pop() {
        match value {
            Value::Object(fields) => rest.extend(
                fields
                    .iter()
                    .filter(|(key, _)| *key != "managedFields")
                    .map(|(key, value)| (key.as_str(), value)),
            ),
            Value::Array(items) => rest.extend(items.iter().map(|item| (key, item))),
            scalar => {
                let line = format!("{key}={scalar}");
                if line.contains("theirs") {
                    found.push(line);
                }
            }
        }
    }
    found
}

fn by(manager: &str) -> PatchParams {
    PatchParams {
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    }
}

/// Does the deed, as a manager of this name. Returns what the server made of it.
pub(crate) async fn perform(
    bed: &Bed,
    (kind, name): &(Kind, String),
    deed: &Deed,
    manager: &str,
) -> Result<Value, kube::Error> {
    let api = bed.children(*kind);
    let as_value = |object: DynamicObject| serde_json::to_value(object).expect("objects are JSON");
    match deed {
        Deed::Delete => {
            api.delete(name, &DeleteParams::background()).await?;
            Ok(Value::Null)
        }
        Deed::DeleteSlowly => {
            let hold = |finalizers: Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
            api.patch(name, &by(manager), &hold(json!(["example.org/slow"])))
                .await?;
            api.delete(name, &DeleteParams::background()).await?;
            tokio::time::sleep(SLOWLY).await;
            api.patch(name, &by(manager), &hold(Value::Null)).await?;
            Ok(Value::Null)
        }
        Deed::Merge(change) => api.patch(name, &by(manager), &Patch::Merge(change)).await.map(as_value),
        Deed::Apply(fields) => {
            let mut body = fields.clone();
            body["apiVersion"] = json!(kind.api_version());
            body["kind"] = json!(kind.name());
            body["metadata"]["name"] = json!(name);
            api.patch(name, &by(manager).force(), &Patch::Apply(body))
                .await
                .map(as_value)
        }
        Deed::Json(operations) => {
            let operations = serde_json::from_value(operations.clone()).expect("a JSON patch");
            api.patch(name, &by(manager), &Patch::Json::<()>(operations))
                .await
                .map(as_value)
        }
        Deed::Replace(change) => loop {
            let mut object = as_value(api.get(name).await?);
            change(&mut object);
            let object = serde_json::from_value(object).expect("an object");
            let parameters = PostParams {
                field_manager: Some(manager.to_owned()),
                ..PostParams::default()
            };
            match api.replace(name, &parameters, &object).await {
                // Its status was written in between.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                other => return other.map(as_value),
            }
        },
    }
}
