//! What the simulated API server adds to objects, and what it refuses to change in them.

use planner::child::Kind;
use serde_json::{Value, json};

/// Adds what a real server adds where the manifest says nothing. Unique values are made from `number`.
pub(crate) fn add(kind: Kind, object: &mut Value, number: u64) {
    let put = |object: &mut Value, pointer: &str, name: &str, value: Value| {
        if let Some(owner) = object.pointer_mut(pointer).and_then(Value::as_object_mut) {
            owner.entry(name).or_insert(value);
        }
    };
    let clean = |object: &mut Value, name: &str| {
        let metadata = object["metadata"].as_object_mut().expect("an object has metadata");
        let empty = metadata.get(name).is_some_and(|map| {
            map.as_object().is_some_and(serde_json::Map::is_empty) || map.as_array().is_some_and(Vec::is_empty)
        });
        if empty {
            metadata.remove(name);
        }
    };
    for name in ["labels", "annotations", "ownerReferences", "finalizers"] {
        clean(object, name);
    }
    match kind {
        Kind::Service => {
            put(object, "/spec", "clusterIP", json!(format!("10.96.0.{number}")));
            let address = object["spec"]["clusterIP"].clone();
            put(object, "/spec", "clusterIPs", json!([address]));
            put(object, "/spec", "type", json!("ClusterIP"));
            put(object, "/spec", "sessionAffinity", json!("None"));
            put(object, "/spec", "internalTrafficPolicy", json!("Cluster"));
            put(object, "/spec", "ipFamilies", json!(["IPv4"]));
        }
        Kind::StatefulSet => {
            put(object, "/metadata", "generation", json!(1));
            for (name, value) in [
                ("restartPolicy", json!("Always")),
                ("dnsPolicy", json!("ClusterFirst")),
                ("schedulerName", json!("default-scheduler")),
            ] {
                put(object, "/spec/template/spec", name, value);
            }
            for list in ["containers", "initContainers"] {
                let pointer = format!("/spec/template/spec/{list}");
                let containers = object.pointer_mut(&pointer).and_then(Value::as_array_mut);
                for container in containers.into_iter().flatten() {
                    put(container, "", "terminationMessagePath", json!("/dev/termination-log"));
                    put(container, "", "resources", json!({}));
                }
            }
        }
        Kind::PersistentVolumeClaim => {
            put(object, "/spec", "storageClassName", json!("standard"));
            put(object, "", "status", json!({"phase": "Pending"}));
        }
        Kind::Secret => put(object, "", "type", json!("Opaque")),
        Kind::ServiceAccount | Kind::ConfigMap | Kind::ControllerRevision | Kind::Pod => {}
    }
}

/// Refuses changes of what a real server holds fixed.
pub(crate) fn check(kind: Kind, before: &Value, after: &Value) -> Result<(), String> {
    let fixed: &[&str] = match kind {
        Kind::Service => &["/spec/clusterIP"],
        Kind::StatefulSet => &[
            "/spec/selector",
            "/spec/serviceName",
            "/spec/podManagementPolicy",
            "/spec/volumeClaimTemplates",
        ],
        Kind::PersistentVolumeClaim => &["/spec/storageClassName", "/spec/accessModes", "/spec/volumeMode"],
        Kind::Secret => &["/type"],
        Kind::ControllerRevision => &["/data"],
        Kind::Pod => &["/spec"],
        Kind::ServiceAccount | Kind::ConfigMap => &[],
    };
    if let Some(field) = fixed.iter().find(|field| before.pointer(field) != after.pointer(field)) {
        return Err(format!("{field} is immutable"));
    }
    // The template's labels are what the selector selects.
    if kind == Kind::StatefulSet {
        let labels = &after["spec"]["template"]["metadata"]["labels"];
        let selected = after["spec"]["selector"]["matchLabels"]
            .as_object()
            .into_iter()
            .flatten();
        if selected.into_iter().any(|(name, value)| labels[name] != *value) {
            return Err("the selector does not match the template's labels".to_owned());
        }
        let required = [
            "/spec/template/spec/containers/0/name",
            "/spec/template/spec/containers/0/image",
        ];
        if required.iter().any(|field| after.pointer(field).is_none()) {
            return Err("a container lacks what it must have".to_owned());
        }
    }
    if kind == Kind::Service
        && after["spec"]["ports"].as_array().is_none_or(Vec::is_empty)
        && after["spec"]["clusterIP"] != "None"
    {
        return Err("spec.ports is required".to_owned());
    }
    if kind == Kind::PersistentVolumeClaim {
        let size = |object: &Value| {
            let text = object["spec"]["resources"]["requests"]["storage"]
                .as_str()
                .unwrap_or_default();
            text.parse::<api::quantity::Quantity>().ok()
        };
        if size(after).is_none() || size(after) < size(before) {
            return Err("a claim does not shrink".to_owned());
        }
    }
    Ok(())
}
