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
use xxhash_rust::xxh3::xxh3_128;

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
    let identity = ["name", "namespace", "uid", "resourceVersion"];
    let body = members(
        body,
        |name| !["apiVersion", "kind"].contains(&name),
        |name, value| match name {
            "metadata" => members(value, |name| !identity.contains(&name), |_, value| Part::Whole(value)),
            _ => Part::Whole(value),
        },
    );
    digest(body)
}

/// Digest of any value in canonical form: key order, and the order of lists of objects, do not count.
pub fn digest_of_value(value: &Value) -> OwnedDigest {
    digest(Part::Whole(value))
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

/// A value cut down to a part of it, without a copy.
enum Part<'a> {
    /// All of it.
    Whole(&'a Value),
    /// Members of an object.
    Members(Vec<(&'a str, Part<'a>)>),
    /// Items of a list.
    Items(Vec<Part<'a>>),
}

impl Part<'_> {
    fn is_object(&self) -> bool {
        match self {
            Self::Whole(value) => value.is_object(),
            Self::Members(_) => true,
            Self::Items(_) => false,
        }
    }
}

/// The members of `value` that are wanted, each cut down; all of it, if it is no object.
fn members<'a>(value: &'a Value, wanted: impl Fn(&str) -> bool, cut: impl Fn(&str, &'a Value) -> Part<'a>) -> Part<'a> {
    let Value::Object(object) = value else {
        return Part::Whole(value);
    };
    let kept = object.iter().filter(|(name, _)| wanted(name));
    Part::Members(kept.map(|(name, value)| (name.as_str(), cut(name, value))).collect())
}

/// Keeps of `value` what the `FieldsV1` tree names. A leaf (`{}`) keeps everything below it that `others`, the trees of
/// other managers, do not name: an empty map that we applied (`emptyDir: {}`) is a leaf too, and what they add into it
/// is theirs.
fn project<'a>(value: &'a Value, fields: &'a Value, others: &[&Value]) -> Part<'a> {
    let Some(fields) = fields.as_object().filter(|fields| !fields.is_empty()) else {
        return without(value, others);
    };
    let below = |key: &str| -> Vec<&Value> { others.iter().filter_map(|other| other.get(key)).collect() };
    match value {
        Value::Object(object) => Part::Members(
            fields
                .iter()
                .filter_map(|(field, ours)| {
                    let name = field.strip_prefix("f:")?;
                    Some((name, project(object.get(name)?, ours, &below(field))))
                })
                .collect(),
        ),
        Value::Array(items) => {
            let keys = Keys::of(fields);
            let selected = items.iter().filter_map(|item| Some((item, keys.select(item)?)));
            Part::Items(
                selected
                    .map(|(item, (key, ours))| project(item, ours, &below(key)))
                    .collect(),
            )
        }
        scalar => Part::Whole(scalar),
    }
}

/// `value` without the members that `others` name. What they own as a whole, as we do, stays.
fn without<'a>(value: &'a Value, others: &[&Value]) -> Part<'a> {
    if others.is_empty() {
        return Part::Whole(value);
    }
    let theirs = |name: &str| others.iter().any(|other| other.get(format!("f:{name}")).is_some());
    members(value, |name| !theirs(name), |_, value| Part::Whole(value))
}

/// The keys of a list in a `FieldsV1` tree, each with the tree below it.
struct Keys<'a>(Vec<(&'a str, Key, &'a Value)>);

/// What selects items of a list: `k:{"name":"x"}` by the members of an object, `v:"x"` by value.
enum Key {
    Members(Map<String, Value>),
    Value(Value),
}

impl<'a> Keys<'a> {
    fn of(fields: &'a Map<String, Value>) -> Self {
        let read = |key: &str| match key.split_at_checked(2)? {
            ("k:", members) => Some(Key::Members(serde_json::from_str(members).ok()?)),
            ("v:", value) => Some(Key::Value(serde_json::from_str(value).ok()?)),
            _ => None,
        };
        Self(
            fields
                .iter()
                .filter_map(|(key, below)| Some((key.as_str(), read(key)?, below)))
                .collect(),
        )
    }

    /// The key that selects this item, and the tree below it.
    fn select(&self, item: &Value) -> Option<(&'a str, &'a Value)> {
        let matches = |key: &Key| match key {
            Key::Members(members) => members.iter().all(|(name, value)| item.get(name) == Some(value)),
            Key::Value(value) => item == value,
        };
        self.0
            .iter()
            .find(|(_, key, _)| matches(key))
            .map(|(text, _, below)| (*text, *below))
    }
}

fn digest(mut part: Part) -> OwnedDigest {
    leave_out_fence(&mut part);
    let mut canonical = Vec::with_capacity(1024);
    write(&part, &mut canonical);
    OwnedDigest(xxh3_128(&canonical))
}

/// Leaves out the fence, and annotations of which nothing is left.
fn leave_out_fence(object: &mut Part) {
    let not_fence = |name: &str| name != FENCE_ANNOTATION;
    change(object, "metadata", |metadata| {
        change(metadata, "annotations", |annotations| match annotations {
            Part::Whole(all) => *annotations = members(all, not_fence, |_, value| Part::Whole(value)),
            Part::Members(all) => all.retain(|(name, _)| not_fence(name)),
            Part::Items(_) => {}
        });
        if let Part::Members(all) = metadata {
            all.retain(|(name, part)| *name != "annotations" || !matches!(part, Part::Members(all) if all.is_empty()));
        }
    });
}

/// Changes the member of this name, if there is one.
fn change(object: &mut Part, name: &str, with: impl FnOnce(&mut Part)) {
    if let Part::Whole(whole) = object
        && whole.get(name).is_some()
    {
        *object = members(whole, |_| true, |_, value| Part::Whole(value));
    }
    if let Part::Members(all) = object
        && let Some((_, part)) = all.iter_mut().find(|(found, _)| *found == name)
    {
        with(part);
    }
}

/// Writes a part in canonical form. Keys are sorted; objects in a list are sorted by content, because an associative
/// list keeps the order of its first writer, not ours. Scalars in a list keep their order: it means something there.
fn write(part: &Part, into: &mut Vec<u8>) {
    match part {
        Part::Whole(value) => write_value(value, into),
        Part::Members(all) => write_members(all.iter().map(|(name, part)| (*name, part)).collect(), write, into),
        Part::Items(all) => write_items(all, Part::is_object, write, into),
    }
}

fn write_value(value: &Value, into: &mut Vec<u8>) {
    match value {
        Value::Null => into.push(b'n'),
        Value::Bool(flag) => into.push(if *flag { b't' } else { b'f' }),
        Value::Number(number) => {
            into.push(b'#');
            into.extend_from_slice(number.to_string().as_bytes());
            into.push(b';');
        }
        Value::String(text) => sized(b's', text, into),
        Value::Array(items) => write_items(items, Value::is_object, write_value, into),
        Value::Object(object) => {
            write_members(
                object.iter().map(|(name, value)| (name.as_str(), value)).collect(),
                write_value,
                into,
            );
        }
    }
}

fn write_members<T>(mut members: Vec<(&str, &T)>, write: impl Fn(&T, &mut Vec<u8>), into: &mut Vec<u8>) {
    members.sort_unstable_by_key(|(name, _)| *name);
    into.push(b'{');
    for (name, value) in members {
        sized(b'k', name, into);
        write(value, into);
    }
    into.push(b'}');
}

fn write_items<T>(items: &[T], is_object: impl Fn(&T) -> bool, write: impl Fn(&T, &mut Vec<u8>), into: &mut Vec<u8>) {
    if !items.iter().all(is_object) {
        into.push(b'[');
        for item in items {
            write(item, into);
        }
        into.push(b']');
        return;
    }
    let start = into.len();
    let mut digests: Vec<u128> = Vec::with_capacity(items.len());
    for item in items {
        write(item, into);
        digests.push(xxh3_128(&into[start..]));
        into.truncate(start);
    }
    digests.sort_unstable();
    into.extend_from_slice(b"{[");
    for digest in digests {
        into.extend_from_slice(&digest.to_le_bytes());
    }
    into.extend_from_slice(b"]}");
}

fn sized(tag: u8, text: &str, into: &mut Vec<u8>) {
    into.push(tag);
    into.extend_from_slice(&(text.len() as u64).to_le_bytes());
    into.extend_from_slice(text.as_bytes());
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
            // An empty tree means that the whole (atomic) list is ours.
            let ours = owner_fields.get(format!("f:{list}")).and_then(Value::as_object);
            if ours.is_some_and(Map::is_empty) {
                continue;
            }
            let keys = ours.map(Keys::of);
            let is_ours = |item| keys.as_ref().is_some_and(|keys| keys.select(item).is_some());
            for (index, _) in items.iter().enumerate().rev().filter(|(_, item)| !is_ours(item)) {
                found.push(format!("{pointer}/{list}/{index}"));
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
        let Some(keys) = their_fields.map(Keys::of) else {
            continue;
        };
        for (index, container) in containers.iter().enumerate() {
            if let Some((_, ours)) = keys.select(container) {
                guard(container, ours, &format!("{pointer}/{index}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
