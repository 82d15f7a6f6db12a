//! Which fields of an object are ours, and whether they still say what we said.
//!
//! The API server keeps, for every manager, the set of fields that it owns (`metadata.managedFields`, format
//! `FieldsV1`). [`digest_of_live`] cuts an object down to the fields of our own apply and hashes them;
//! [`digest_of_body`] hashes an apply body in the same form. Equal digests mean that an apply would change nothing,
//! so nothing is sent. A field that another manager took from us is missing from our set, and so from the digest:
//! that is drift. A field that another manager added beside ours is in neither, and stays theirs.
//!
//! What this needs from an apply body: whatever the API server would default *inside* a part that we own whole (an
//! atomic list or map, a key of an associative list) is spelled out, and quantities are in canonical form. A body
//! that forgets one never settles, which the tests on a real API server show at once.
//!
//! Left out of both sides: the identity of the object, and the fence, which changes with each handover.

use api::names::{FENCE_ANNOTATION, FIELD_MANAGER};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::Xxh3;

use crate::child::Kind;

/// Hash of the fields that one manager owns of one object (xxh3-128 of their canonical form).
///
/// Not a defence against somebody who forges objects; it finds accidents.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OwnedDigest(u128);

/// Digest of what we own of a live object, or `None` if we never applied it (or somebody took all of it).
pub fn digest_of_live(object: &Value) -> Option<OwnedDigest> {
    let fields = our_fields(object)?;
    let others: Vec<&Value> = entries(object)
        .filter(|entry| !is_ours_entry(entry))
        .map(|entry| &entry["fieldsV1"])
        .collect();
    Some(digest(project(object, fields, &others)))
}

/// Digest of an apply body.
pub fn digest_of_body(body: &Value) -> OwnedDigest {
    let mut body = body.clone();
    if let Some(body) = body.as_object_mut() {
        body.remove("apiVersion");
        body.remove("kind");
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            for identity in ["name", "namespace", "uid", "resourceVersion"] {
                metadata.remove(identity);
            }
        }
    }
    digest(body)
}

/// Digest of any value in canonical form: key order, and the order of lists of objects, do not count.
pub fn digest_of_value(value: &Value) -> OwnedDigest {
    digest(value.clone())
}

/// The entries of `managedFields`.
fn entries(object: &Value) -> impl Iterator<Item = &Value> {
    object
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Whether an entry is of our own apply to the object itself (not to a subresource).
fn is_ours_entry(entry: &Value) -> bool {
    entry["manager"] == FIELD_MANAGER
        && entry["operation"] == "Apply"
        && entry.get("subresource").is_none_or(|subresource| subresource == "")
}

/// The `FieldsV1` tree of our own apply.
fn our_fields(object: &Value) -> Option<&Value> {
    entries(object).find(|entry| is_ours_entry(entry))?.get("fieldsV1")
}

/// Keeps of `value` what the `FieldsV1` tree names. A leaf (`{}`) keeps everything below it that `others`, the trees of
/// other managers, do not name: an empty map that we applied (`emptyDir: {}`) is a leaf too, and what they add into it
/// is theirs.
fn project(value: &Value, fields: &Value, others: &[&Value]) -> Value {
    let Some(fields) = fields.as_object().filter(|fields| !fields.is_empty()) else {
        return without(value, others);
    };
    let below = |key: &str| -> Vec<&Value> { others.iter().filter_map(|other| other.get(key)).collect() };
    match value {
        Value::Object(object) => Value::Object(
            fields
                .iter()
                .filter_map(|(field, ours)| {
                    let name = field.strip_prefix("f:")?;
                    Some((name.to_owned(), project(object.get(name)?, ours, &below(field))))
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(
            items
                .iter()
                .filter_map(|item| {
                    fields
                        .iter()
                        .find_map(|(key, ours)| Some(project(item, selected(key, item, ours)?, &below(key))))
                })
                .collect(),
        ),
        scalar => scalar.clone(),
    }
}

/// `value` without the members that `others` name. What they own as a whole, as we do, stays.
fn without(value: &Value, others: &[&Value]) -> Value {
    let mut rest = value.clone();
    if let Some(members) = rest.as_object_mut() {
        for other in others.iter().filter_map(|other| other.as_object()) {
            members.retain(|name, _| !other.contains_key(&format!("f:{name}")));
        }
    }
    rest
}

/// `below`, if the list key selects this item: `k:{"name":"x"}` by the members of an object, `v:"x"` by value.
fn selected<'a>(key: &str, item: &Value, below: &'a Value) -> Option<&'a Value> {
    let matches = if let Some(members) = key.strip_prefix("k:") {
        let members: Map<String, Value> = serde_json::from_str(members).ok()?;
        members.iter().all(|(name, value)| item.get(name) == Some(value))
    } else {
        let value: Value = serde_json::from_str(key.strip_prefix("v:")?).ok()?;
        *item == value
    };
    matches.then_some(below)
}

fn digest(mut value: Value) -> OwnedDigest {
    if let Some(annotations) = value
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(FENCE_ANNOTATION);
        if annotations.is_empty() {
            value["metadata"]
                .as_object_mut()
                .expect("annotations were found in it")
                .remove("annotations");
        }
    }
    let mut hasher = Xxh3::new();
    hash(&value, &mut hasher);
    OwnedDigest(hasher.digest128())
}

/// Feeds a value in canonical form. Keys are sorted; objects in a list are sorted by content, because an associative
/// list keeps the order of its first writer, not ours. Scalars in a list keep their order: it means something there.
fn hash(value: &Value, into: &mut Xxh3) {
    match value {
        Value::Null => into.update(b"n"),
        Value::Bool(flag) => into.update(if *flag { b"t" } else { b"f" }),
        Value::Number(number) => {
            into.update(b"#");
            into.update(number.to_string().as_bytes());
            into.update(b";");
        }
        Value::String(text) => sized(b"s", text, into),
        Value::Array(items) if items.iter().all(Value::is_object) => {
            let mut digests: Vec<u128> = items
                .iter()
                .map(|item| {
                    let mut hasher = Xxh3::new();
                    hash(item, &mut hasher);
                    hasher.digest128()
                })
                .collect();
            digests.sort_unstable();
            into.update(b"{[");
            for digest in digests {
                into.update(&digest.to_le_bytes());
            }
            into.update(b"]}");
        }
        Value::Array(items) => {
            into.update(b"[");
            for item in items {
                hash(item, into);
            }
            into.update(b"]");
        }
        Value::Object(object) => {
            let mut keys: Vec<&String> = object.keys().collect();
            keys.sort_unstable();
            into.update(b"{");
            for key in keys {
                sized(b"k", key, into);
                hash(&object[key], into);
            }
            into.update(b"}");
        }
    }
}

fn sized(tag: &[u8], text: &str, into: &mut Xxh3) {
    into.update(tag);
    into.update(&(text.len() as u64).to_le_bytes());
    into.update(text.as_bytes());
}

/// Lists in which an item that another manager added changes what *our* part means: a port of a Service, a variable
/// or mount of one of our containers. (A whole container, such as an injected sidecar, is left alone.)
const GUARDED_LISTS: [&str; 5] = ["env", "envFrom", "volumeMounts", "volumeDevices", "ports"];

/// JSON pointers of items that others added to guarded lists, last item first, so that removing them one after the
/// other keeps the pointers true.
pub fn intruders(kind: Kind, object: &Value) -> Vec<String> {
    let Some(fields) = our_fields(object) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut guard = |owner: &Value, owner_fields: &Value, pointer: &str| {
        for list in GUARDED_LISTS {
            let Some(items) = owner.get(list).and_then(Value::as_array) else {
                continue;
            };
            let ours = owner_fields.get(format!("f:{list}"));
            for (index, item) in items.iter().enumerate().rev() {
                if !is_ours(item, ours) {
                    found.push(format!("{pointer}/{list}/{index}"));
                }
            }
        }
    };
    if kind == Kind::Service {
        guard(&object["spec"], fields.get("f:spec").unwrap_or(&Value::Null), "/spec");
    }
    for list in ["containers", "initContainers"] {
        let pointer = format!("/spec/template/spec/{list}");
        let containers = object
            .pointer(&pointer)
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        let their_fields = fields
            .pointer(&format!("/f:spec/f:template/f:spec/f:{list}"))
            .and_then(Value::as_object);
        for (index, container) in containers.iter().enumerate() {
            let ours =
                their_fields.and_then(|keys| keys.iter().find_map(|(key, below)| selected(key, container, below)));
            if let Some(ours) = ours {
                guard(container, ours, &format!("{pointer}/{index}"));
            }
        }
    }
    found
}

/// Whether our `FieldsV1` of a list covers this item. An empty tree means the whole (atomic) list is ours.
fn is_ours(item: &Value, list_fields: Option<&Value>) -> bool {
    let Some(keys) = list_fields.and_then(Value::as_object) else {
        return false;
    };
    keys.is_empty() || keys.iter().any(|(key, below)| selected(key, item, below).is_some())
}

#[cfg(test)]
mod tests;
