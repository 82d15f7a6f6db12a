//! Field ownership as the API server keeps it: which fields a manifest has, by the list keys of the real schema, and
//! how manifests are merged, pruned and compared field by field.
//!
//! A field is a path of the elements of `FieldsV1`: `f:spec`, `f:ports`, `k:{"port":5432,"protocol":"TCP"}`, ...

use std::collections::{BTreeMap, BTreeSet};

use planner::child::Kind;
use serde_json::{Map, Value, json};

/// Elements joined by [`SEPARATOR`].
pub(crate) type Path = String;
/// A set of fields.
pub(crate) type Fields = BTreeSet<Path>;
/// Every field of a manifest with its value; `None` for an item of a keyed list, which is a field of its own.
pub(crate) type Flat<'a> = BTreeMap<Path, Option<&'a Value>>;

/// Occurs in no name.
pub(crate) const SEPARATOR: char = '\u{1f}';

/// How the real schema merges a field.
#[derive(Clone, Copy)]
enum Shape {
    /// By its members.
    Granular,
    /// Whole, whatever is inside.
    Atomic,
    /// By items that these members identify.
    Keyed(&'static [&'static str]),
    /// By items, each of which is its own key.
    Set,
}

fn shape(kind: Kind, field: &str, value: &Value) -> Shape {
    match field {
        "containers" | "initContainers" | "env" | "volumes" => Shape::Keyed(&["name"]),
        "volumeMounts" => Shape::Keyed(&["mountPath"]),
        "volumeDevices" => Shape::Keyed(&["devicePath"]),
        "ownerReferences" => Shape::Keyed(&["uid"]),
        "ports" if kind == Kind::Service => Shape::Keyed(&["port", "protocol"]),
        "ports" => Shape::Keyed(&["containerPort", "protocol"]),
        "finalizers" => Shape::Set,
        "selector" | "fieldRef" | "secretKeyRef" | "configMapKeyRef" => Shape::Atomic,
        "data" if kind == Kind::ControllerRevision => Shape::Atomic,
        _ if value.is_object() => Shape::Granular,
        _ => Shape::Atomic,
    }
}

/// Members of `metadata` that no manager owns.
const UNOWNED_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];

/// All fields of a manifest, but for its identity and its status.
pub(crate) fn flatten(kind: Kind, object: &Value) -> Flat<'_> {
    let mut flat = Flat::new();
    for (field, below) in object.as_object().into_iter().flatten() {
        let empty = field == "metadata" && below.as_object().is_some_and(Map::is_empty);
        if !empty && !["apiVersion", "kind", "status"].contains(&field.as_str()) {
            field_into(kind, "", field, below, &mut flat);
        }
    }
    flat
}

fn field_into<'a>(kind: Kind, above: &str, field: &str, value: &'a Value, flat: &mut Flat<'a>) {
    if above == "f:metadata" && UNOWNED_METADATA.contains(&field) {
        return;
    }
    let path = if above.is_empty() {
        format!("f:{field}")
    } else {
        format!("{above}{SEPARATOR}f:{field}")
    };
    match (shape(kind, field, value), value) {
        (Shape::Granular, Value::Object(members)) if !members.is_empty() => {
            for (member, below) in members {
                field_into(kind, &path, member, below, flat);
            }
        }
        (Shape::Keyed(keys), Value::Array(items)) => {
            for item in items {
                let item_path = format!("{path}{SEPARATOR}{}", key_of(keys, item));
                if field == "ownerReferences" {
                    flat.insert(item_path, Some(item));
                    continue;
                }
                for (member, below) in item.as_object().into_iter().flatten() {
                    field_into(kind, &item_path, member, below, flat);
                }
                flat.insert(item_path, None);
            }
        }
        (Shape::Set, Value::Array(items)) => {
            flat.extend(items.iter().map(|item| (format!("{path}{SEPARATOR}v:{item}"), None)));
        }
        _ => drop(flat.insert(path, Some(value))),
    }
}

fn key_of(keys: &[&str], item: &Value) -> String {
    let members: Vec<String> = keys.iter().map(|key| format!("{key:?}:{}", item[*key])).collect();
    format!("k:{{{}}}", members.join(","))
}

/// Puts what `wanted` has into `live`, field by field.
pub(crate) fn merge(kind: Kind, live: &mut Value, wanted: &Value) {
    let (Some(live), Some(wanted)) = (live.as_object_mut(), wanted.as_object()) else {
        return;
    };
    for (field, wanted) in wanted {
        match (shape(kind, field, wanted), live.get_mut(field), wanted) {
            (Shape::Granular, Some(have), Value::Object(_)) if have.is_object() => merge(kind, have, wanted),
            (Shape::Keyed(keys), Some(Value::Array(have)), Value::Array(items)) => {
                for item in items {
                    let same = |other: &&mut Value| keys.iter().all(|key| other[*key] == item[*key]);
                    match have.iter_mut().find(same) {
                        Some(other) if field == "ownerReferences" => *other = item.clone(),
                        Some(other) => merge(kind, other, item),
                        None => have.push(item.clone()),
                    }
                }
            }
            (Shape::Set, Some(Value::Array(have)), Value::Array(items)) => {
                for item in items {
                    if !have.contains(item) {
                        have.push(item.clone());
                    }
                }
            }
            _ => drop(live.insert(field.clone(), wanted.clone())),
        }
    }
}

/// Takes one field out of an object, and whatever is left empty by that.
pub(crate) fn remove(object: &mut Value, path: &str) {
    let (first, rest) = path
        .split_once(SEPARATOR)
        .map_or((path, None), |(first, rest)| (first, Some(rest)));
    match object {
        Value::Object(members) => {
            let field = first.trim_start_matches("f:");
            let Some(rest) = rest else {
                return drop(members.remove(field));
            };
            let Some(below) = members.get_mut(field) else { return };
            remove(below, rest);
            // `emptyDir: {}` says something; other empty members are left out by the API server.
            let empty = below.as_object().is_some_and(Map::is_empty) || below.as_array().is_some_and(Vec::is_empty);
            if empty && field != "emptyDir" {
                members.remove(field);
            }
        }
        Value::Array(items) => {
            let Some(index) = items.iter().position(|item| selects(first, item)) else {
                return;
            };
            match rest {
                Some(rest) => remove(&mut items[index], rest),
                None => drop(items.remove(index)),
            }
        }
        _ => {}
    }
}

fn selects(element: &str, item: &Value) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("it was written by `flatten`");
    match (element.strip_prefix("k:"), element.strip_prefix("v:")) {
        (Some(keys), _) => read(keys)
            .as_object()
            .is_some_and(|keys| keys.iter().all(|(name, value)| item[name] == *value)),
        (_, Some(value)) => *item == read(value),
        _ => false,
    }
}

/// The set as `FieldsV1`.
pub(crate) fn rendered(fields: &Fields) -> Value {
    let mut tree = json!({});
    // In the order of a set a field comes before what is below it.
    for path in fields {
        let mut node = &mut tree;
        for element in path.split(SEPARATOR) {
            node = &mut node[element];
            if node.is_null() {
                *node = json!({});
            }
        }
    }
    for path in fields {
        let node = path
            .split(SEPARATOR)
            .fold(&mut tree, |node, element| &mut node[element]);
        if node.as_object().is_some_and(|below| !below.is_empty()) {
            node["."] = json!({});
        }
    }
    tree
}

/// What changed from one object to the next: fields that are new or have another value, and fields that went. An empty
/// map that gets its first member, or loses its last, is the same map.
pub(crate) fn compared(before: &Flat, after: &Flat) -> (Fields, Fields) {
    let is_map_of = |path: &Path, value: Option<&Value>, other: &Flat| {
        value.and_then(Value::as_object).is_some_and(Map::is_empty) && has_members(other, path)
    };
    let changed = after
        .iter()
        .filter(|(path, value)| before.get(*path) != Some(value) && !is_map_of(path, **value, before))
        .map(|(path, _)| path.clone());
    let gone = before
        .iter()
        .filter(|(path, value)| !after.contains_key(*path) && !is_map_of(path, **value, after))
        .map(|(path, _)| path.clone());
    (changed.collect(), gone.collect())
}

/// Whether there is anything below a field.
pub(crate) fn has_members(flat: &Flat, path: &str) -> bool {
    let below = format!("{path}{SEPARATOR}");
    flat.range(below.clone()..)
        .next()
        .is_some_and(|(first, _)| first.starts_with(&below))
}
