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
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::child::Kind;
use crate::json::{Json, at, get, items, text};

/// Hash of the fields that one manager owns of one object (xxh3-128 of their canonical form).
///
/// Not a defence against somebody who forges objects; it finds accidents.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OwnedDigest(u128);

/// Digest of what we own of a live object, or `None` if we never applied it (or somebody took all of it).
pub fn digest_of_live<'a>(object: impl Into<Json<'a>>) -> Option<OwnedDigest> {
    digest_of_seen(&object.into())
}

/// The same, of one that is still needed.
pub(crate) fn digest_of_seen(object: &Json) -> Option<OwnedDigest> {
    let fields = our_fields(object)?;
    let others: Vec<&Json> = entries(object)
        .iter()
        .filter(|entry| !is_ours_entry(entry))
        .map(|entry| at(entry, &["fieldsV1"]))
        .collect();
    Some(digest(project(object, fields, &others)))
}

/// Digest of an apply body.
pub fn digest_of_body(body: &Value) -> OwnedDigest {
    let body = Json::from(body);
    let identity = ["name", "namespace", "uid", "resourceVersion"];
    digest(members(
        &body,
        |name| !["apiVersion", "kind"].contains(&name),
        |name, value| match name {
            "metadata" => members(value, |name| !identity.contains(&name), |_, value| Part::Whole(value)),
            _ => Part::Whole(value),
        },
    ))
}

/// Digest of any value in canonical form: key order, and the order of lists of objects, do not count.
pub fn digest_of_value<'a>(value: impl Into<Json<'a>>) -> OwnedDigest {
    digest(Part::Whole(&value.into()))
}

/// The same, of one that is still needed.
pub(crate) fn digest_of_part(value: &Json) -> OwnedDigest {
    digest(Part::Whole(value))
}

/// The entries of `managedFields`.
fn entries<'a>(object: &'a Json<'_>) -> &'a [Json<'a>] {
    items(object, &["metadata", "managedFields"])
}

/// Whether an entry is of our own apply to the object itself (not to a subresource).
fn is_ours_entry(entry: &Json) -> bool {
    text(entry, &["manager"]) == Some(FIELD_MANAGER)
        && text(entry, &["operation"]) == Some("Apply")
        && get(entry, "subresource").is_none_or(|subresource| subresource.as_str() == Some(""))
}

/// The `FieldsV1` tree of our own apply.
fn our_fields<'a>(object: &'a Json<'_>) -> Option<&'a Json<'a>> {
    get(entries(object).iter().find(|entry| is_ours_entry(entry))?, "fieldsV1")
}

/// A value cut down to a part of it, without a copy.
enum Part<'a> {
    /// All of it.
    Whole(&'a Json<'a>),
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
fn members<'a>(
    value: &'a Json<'a>,
    wanted: impl Fn(&str) -> bool,
    cut: impl Fn(&str, &'a Json<'a>) -> Part<'a>,
) -> Part<'a> {
    let Json::Object(object) = value else {
        return Part::Whole(value);
    };
    let kept = object.iter().filter(|(name, _)| wanted(name));
    Part::Members(kept.map(|(name, value)| (name, cut(name, value))).collect())
}

/// Keeps of `value` what the `FieldsV1` tree names. A leaf (`{}`) keeps everything below it that `others`, the trees of
/// other managers, do not name: an empty map that we applied (`emptyDir: {}`) is a leaf too, and what they add into it
/// is theirs.
fn project<'a>(value: &'a Json<'a>, fields: &'a Json<'a>, others: &[&Json]) -> Part<'a> {
    let Some(fields) = fields.iter_object().filter(|_| !is_leaf(fields)) else {
        return without(value, others);
    };
    let below = |key: &str| -> Vec<&Json> { others.iter().filter_map(|other| get(other, key)).collect() };
    match value {
        Json::Object(object) => Part::Members(
            fields
                .filter_map(|(field, ours)| {
                    let name = field.strip_prefix("f:")?;
                    Some((name, project(object.get(name)?, ours, &below(field))))
                })
                .collect(),
        ),
        Json::Array(items) => {
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

/// Whether a `FieldsV1` tree has nothing below.
fn is_leaf(fields: &Json) -> bool {
    fields.iter_object().is_some_and(|mut below| below.next().is_none())
}

/// `value` without the members that `others` name. What they own as a whole, as we do, stays.
fn without<'a>(value: &'a Json<'a>, others: &[&Json]) -> Part<'a> {
    if others.is_empty() {
        return Part::Whole(value);
    }
    let theirs = |name: &str| others.iter().any(|other| get(other, &format!("f:{name}")).is_some());
    members(value, |name| !theirs(name), |_, value| Part::Whole(value))
}

/// The keys of a list in a `FieldsV1` tree, each with the tree below it.
struct Keys<'a>(Vec<(&'a str, Key<'a>, &'a Json<'a>)>);

/// What selects items of a list: `k:{"name":"x"}` by the members of an object, `v:"x"` by value.
enum Key<'a> {
    Members(Json<'a>),
    Value(Json<'a>),
}

impl<'a> Keys<'a> {
    fn of(fields: impl Iterator<Item = (&'a str, &'a Json<'a>)>) -> Self {
        let read = |key: &'a str| match key.split_at_checked(2)? {
            ("k:", members) => Some(Key::Members(serde_json::from_str(members).ok()?)),
            ("v:", value) => Some(Key::Value(serde_json::from_str(value).ok()?)),
            _ => None,
        };
        Self(
            fields
                .filter_map(|(key, below)| Some((key, read(key)?, below)))
                .collect(),
        )
    }

    /// The key that selects this item, and the tree below it.
    fn select(&self, item: &Json) -> Option<(&'a str, &'a Json<'a>)> {
        let matches = |key: &Key| match key {
            Key::Members(members) => members.iter_object().is_some_and(|mut members| {
                members.all(|(name, value)| get(item, name).is_some_and(|has| same(has, value)))
            }),
            Key::Value(value) => same(item, value),
        };
        self.0
            .iter()
            .find(|(_, key, _)| matches(key))
            .map(|(text, _, below)| (*text, *below))
    }
}

/// Whether two scalars are equal. A number counts as the same whatever it was read from, where `Json` tells `5` that was
/// text from `5` that was a signed integer.
fn same(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) => (one.as_i64(), one.as_f64()) == (other.as_i64(), other.as_f64()),
        _ => one == other,
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
        && get(whole, name).is_some()
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

fn write_value(value: &Json, into: &mut Vec<u8>) {
    match value {
        Json::Null => into.push(b'n'),
        Json::Bool(flag) => into.push(if *flag { b't' } else { b'f' }),
        Json::Number(number) => {
            into.push(b'#');
            into.extend_from_slice(number.to_string().as_bytes());
            into.push(b';');
        }
        Json::Str(text) => sized(b's', text, into),
        Json::Array(items) => write_items(items, Json::is_object, write_value, into),
        Json::Object(object) => write_members(object.iter().collect(), write_value, into),
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
pub(crate) fn intruders(kind: Kind, object: &Json) -> Vec<String> {
    let Some(fields) = our_fields(object) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut guard = |owner: &Json, owner_fields: &Json, pointer: &str| {
        for list in GUARDED_LISTS {
            let all = items(owner, &[list]);
            if all.is_empty() {
                continue;
            }
            // An empty tree means that the whole (atomic) list is ours.
            let ours = at(owner_fields, &[&format!("f:{list}")]);
            if is_leaf(ours) {
                continue;
            }
            let keys = ours.iter_object().map(Keys::of);
            let is_ours = |item| keys.as_ref().is_some_and(|keys| keys.select(item).is_some());
            for (index, _) in all.iter().enumerate().rev().filter(|(_, item)| !is_ours(item)) {
                found.push(format!("{pointer}/{list}/{index}"));
            }
        }
    };
    if kind == Kind::Service {
        guard(at(object, &["spec"]), at(fields, &["f:spec"]), "/spec");
    }
    for list in ["containers", "initContainers"] {
        let containers = items(object, &["spec", "template", "spec", list]);
        let their_fields = at(fields, &["f:spec", "f:template", "f:spec", &format!("f:{list}")]);
        let Some(keys) = their_fields.iter_object().map(Keys::of) else {
            continue;
        };
        for (index, container) in containers.iter().enumerate() {
            if let Some((_, ours)) = keys.select(container) {
                guard(container, ours, &format!("/spec/template/spec/{list}/{index}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
