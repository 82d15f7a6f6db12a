//! What decides about the safety of the planned pods, out of their templates: flat, so that a rule compares a few values
//! and does not walk a whole StatefulSet.
//!
//! Fields have the names and values that they have in the template; nothing is judged here. What should be a list and is
//! none becomes a list of one, so that a rule looks at it too.

use serde_json::{Map, Value, json};

use crate::image;

/// Kinds of containers, in the order in which they start.
const KINDS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Fields of a pod that are taken over as they are.
const OF_POD: [&str; 5] = [
    "automountServiceAccountToken",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "securityContext",
];

/// What `norm` says of the planned pods.
pub(super) struct Planned {
    /// One for each StatefulSet.
    pub(super) pods: Vec<Value>,
    /// Those of all pods.
    pub(super) containers: Vec<Value>,
    /// Their images.
    pub(super) images: Vec<Value>,
}

impl Planned {
    /// Out of the children of a Database.
    pub(super) fn of(children: &[Value]) -> Self {
        let mut planned = Self {
            pods: Vec::new(),
            containers: Vec::new(),
            images: Vec::new(),
        };
        for set in children.iter().filter(|child| child["kind"] == "StatefulSet") {
            let template = &set["spec"]["template"]["spec"];
            planned.pods.push(pod(set, template));
            for kind in KINDS {
                for container in listed(&template[kind]) {
                    let image = image(container);
                    planned
                        .containers
                        .push(self::container(kind, container, &image, template));
                    planned.images.push(described(kind, container, image));
                }
            }
        }
        planned
    }
}

fn pod(set: &Value, template: &Value) -> Value {
    let first = &template["containers"][0];
    let mut pod = Map::new();
    put(&mut pod, "set", &set["metadata"]["name"]);
    pod.insert("readable".to_owned(), json!(!first.is_null() && *first != false));
    for field in OF_POD {
        put(&mut pod, field, &template[field]);
    }
    let (mut host_paths, mut projected) = (Vec::new(), Vec::new());
    for volume in listed(&template["volumes"]) {
        let mut named = Map::new();
        put(&mut named, "name", &volume["name"]);
        for source in listed(&volume["projected"]["sources"]) {
            let mut named = named.clone();
            put(&mut named, "source", source);
            projected.push(Value::Object(named));
        }
        if !volume["hostPath"].is_null() {
            put(&mut named, "hostPath", &volume["hostPath"]);
            host_paths.push(Value::Object(named));
        }
    }
    pod.insert("hostPaths".to_owned(), Value::Array(host_paths));
    pod.insert("projected".to_owned(), Value::Array(projected));
    Value::Object(pod)
}

fn container(kind: &str, container: &Value, image: &Map<String, Value>, template: &Value) -> Value {
    let mut norm = image.clone();
    norm.insert("kind".to_owned(), json!(kind));
    for field in ["name", "image", "resources"] {
        put(&mut norm, field, &container[field]);
    }
    if !container["ports"].is_null() {
        norm.insert("ports".to_owned(), listed(&container["ports"]).cloned().collect());
    }
    let mut security = container["securityContext"].clone();
    for field in ["add", "drop"] {
        if let Some(list) = security.pointer_mut(&format!("/capabilities/{field}"))
            && !list.is_null()
        {
            *list = listed(&list.take()).cloned().collect();
        }
    }
    put(&mut norm, "securityContext", &security);
    put(&mut norm, "podSecurityContext", &template["securityContext"]);
    Value::Object(norm)
}

/// The parts of a container's image, or that it cannot be read.
fn image(container: &Value) -> Map<String, Value> {
    let mut norm = Map::new();
    match image::parse(container["image"].as_str().unwrap_or_default()) {
        None => drop(norm.insert("valid".to_owned(), json!(false))),
        Some(image) => {
            norm.insert("registry".to_owned(), json!(image.registry));
            norm.insert("repository".to_owned(), json!(image.repository));
            for (key, value) in [("tag", image.tag), ("digest", image.digest)] {
                if let Some(value) = value {
                    norm.insert(key.to_owned(), json!(value));
                }
            }
        }
    }
    norm
}

fn described(kind: &str, container: &Value, mut image: Map<String, Value>) -> Value {
    image.insert("container".to_owned(), container["name"].clone());
    image.insert("kind".to_owned(), json!(kind));
    image.insert(
        "image".to_owned(),
        json!(container["image"].as_str().unwrap_or_default()),
    );
    Value::Object(image)
}

/// Takes over what is there.
fn put(into: &mut Map<String, Value>, field: &str, value: &Value) {
    if !value.is_null() {
        into.insert(field.to_owned(), value.clone());
    }
}

/// Elements of a list; anything else that is there is one element.
fn listed(value: &Value) -> impl Iterator<Item = &Value> {
    let one = (!value.is_array() && !value.is_null()).then_some(value);
    value.as_array().into_iter().flatten().chain(one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(template: &Value) -> Value {
        json!({"kind": "StatefulSet", "metadata": {"name": "x-g1"}, "spec": {"template": {"spec": template}}})
    }

    #[test]
    fn a_pod_and_its_containers() {
        let context = json!({"runAsUser": 999});
        let own = json!({"privileged": false, "capabilities": {"drop": ["ALL"]}});
        let template = json!({
            "containers": [{"name": "database", "image": "postgres:16", "ports": [{"hostPort": 1}], "securityContext": own, "env": []}],
            "initContainers": [{"image": "A B", "resources": {"limits": {"cpu": 1}}}],
            "securityContext": context, "hostPID": "yes", "terminationGracePeriodSeconds": 3,
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "node", "hostPath": {"path": "/"}},
                {"name": "all", "projected": {"sources": [{"secret": {}}, {"serviceAccountToken": {}}]}},
            ],
        });
        let planned = Planned::of(&[json!({"kind": "Service"}), set(&template)]);
        let pod = json!({
            "set": "x-g1", "readable": true, "securityContext": context, "hostPID": "yes",
            "hostPaths": [{"name": "node", "hostPath": {"path": "/"}}],
            "projected": [{"name": "all", "source": {"secret": {}}}, {"name": "all", "source": {"serviceAccountToken": {}}}],
        });
        assert_eq!(planned.pods, [pod]);
        let init = json!({
            "kind": "initContainers", "image": "A B", "valid": false, "resources": {"limits": {"cpu": 1}},
            "podSecurityContext": context,
        });
        let database = json!({
            "kind": "containers", "name": "database", "image": "postgres:16", "registry": "docker.io",
            "repository": "docker.io/library/postgres", "tag": "16", "ports": [{"hostPort": 1}],
            "securityContext": own, "podSecurityContext": context,
        });
        assert_eq!(planned.containers, [init, database]);
    }

    #[test]
    fn what_is_no_list_is_one() {
        let template = json!({
            "containers": {"ports": {"hostPort": 1}, "securityContext": {"capabilities": {"add": "ALL", "drop": null}}},
            "volumes": {"hostPath": "/", "projected": {"sources": "text"}},
        });
        let planned = Planned::of(&[set(&template)]);
        let container = json!({
            "kind": "containers", "valid": false, "ports": [{"hostPort": 1}],
            "securityContext": {"capabilities": {"add": ["ALL"], "drop": null}},
        });
        assert_eq!(planned.containers, [container]);
        let pod = json!({
            "set": "x-g1", "readable": false, "hostPaths": [{"hostPath": "/"}], "projected": [{"source": "text"}],
        });
        assert_eq!(planned.pods, [pod]);
    }

    #[test]
    fn a_set_without_containers_is_named_as_unreadable() {
        for template in [
            json!(null),
            json!("text"),
            json!({}),
            json!({"containers": []}),
            json!({"containers": [null]}),
        ] {
            let planned = Planned::of(&[set(&template)]);
            assert_eq!(
                (planned.pods.len(), &planned.pods[0]["readable"]),
                (1, &json!(false)),
                "{template}"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_template_has_its_entry(kinds in prop::collection::vec(0..6_usize, 0..6)) {
            let odd = [json!(7), json!("x"), json!([]), json!({"name": 1, "ports": "x", "securityContext": [1]}), json!(true),
                json!({"securityContext": {"capabilities": 7}, "image": {}})];
            let containers: Vec<&Value> = kinds.iter().map(|kind| &odd[*kind]).collect();
            let template = json!({"containers": containers, "ephemeralContainers": containers, "volumes": containers});
            let planned = Planned::of(&[set(&template), json!(7), set(&template)]);
            prop_assert_eq!(planned.containers.len(), 4 * kinds.len());
            prop_assert_eq!(planned.images.len(), 4 * kinds.len());
            prop_assert_eq!(planned.pods.len(), 2);
        }
    }
}
