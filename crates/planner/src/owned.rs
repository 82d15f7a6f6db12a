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
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

use crate::child::Kind;
use crate::json::{Json, at, get, items, text};

/// Hash of the fields that one manager owns of one object (a tree of xxh3-128).
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
    Some(OwnedDigest(hash_of_owned(object, Place::Object, fields, &others)))
}

/// Digest of an apply body.
pub fn digest_of_body(body: &Value) -> OwnedDigest {
    let body = Json::from(body);
    let kept = |(name, _): &(&str, &Json)| !["apiVersion", "kind"].contains(name);
    let hash = |(name, value)| match name {
        "metadata" => (name, hash_without_identity(value)),
        _ => (name, hash_of(value, Place::Object.below(name))),
    };
    OwnedDigest(hash_of_members(
        Place::Object,
        body.iter_object().into_iter().flatten().filter(kept).map(hash),
    ))
}

/// Digest of any value: the order of keys, and the order of lists of objects, do not count.
pub fn digest_of_value<'a>(value: impl Into<Json<'a>>) -> OwnedDigest {
    digest_of_part(&value.into())
}

/// The same, of one that is still needed.
pub(crate) fn digest_of_part(value: &Json) -> OwnedDigest {
    OwnedDigest(hash_of(value, Place::Object))
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

/// Hash of what the `FieldsV1` tree names of `value`. A leaf (`{}`) names everything below it that `others`, the trees of
/// other managers, do not name: an empty map that we applied (`emptyDir: {}`) is a leaf too, and what they add into it
/// is theirs.
fn hash_of_owned<'a>(value: &'a Json<'a>, place: Place, fields: &'a Json<'a>, others: &[&'a Json<'a>]) -> u128 {
    let Some(fields) = fields.iter_object().filter(|_| !is_leaf(fields)) else {
        return hash_without(value, place, others);
    };
    let below = |key: &str| -> Vec<&Json> { others.iter().filter_map(|other| get(other, key)).collect() };
    match value {
        Json::Object(object) => hash_of_members(
            place,
            fields.filter_map(|(field, ours)| {
                let name = field.strip_prefix("f:")?;
                let hash = hash_of_owned(object.get(name)?, place.below(name), ours, &below(field));
                Some((name, hash))
            }),
        ),
        Json::Array(items) => {
            let keys = Keys::of(fields);
            let selected = items.iter().filter_map(|item| Some((item, keys.select(item)?)));
            hash_of_items(selected.map(|(item, (key, ours))| {
                let hash = hash_of_owned(item, Place::Elsewhere, ours, &below(key));
                (item.is_object(), hash)
            }))
        }
        scalar => hash_of(scalar, place),
    }
}

/// Hash of `value` without the members that `others` name. What they own as a whole, as we do, stays.
fn hash_without(value: &Json, place: Place, others: &[&Json]) -> u128 {
    let theirs = |name: &str| others.iter().any(|other| get(other, &format!("f:{name}")).is_some());
    match value {
        Json::Object(object) => hash_of_members(
            place,
            object
                .iter()
                .filter(|(name, _)| !theirs(name))
                .map(|(name, value)| (name, hash_of(value, place.below(name)))),
        ),
        other => hash_of(other, place),
    }
}

/// Whether a `FieldsV1` tree has nothing below.
fn is_leaf(fields: &Json) -> bool {
    fields.iter_object().is_some_and(|mut below| below.next().is_none())
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

/// How far from the root of an object a value lies, as far as it matters for what is left out.
#[derive(Clone, Copy)]
enum Place {
    /// The object itself.
    Object,
    /// `metadata`.
    Metadata,
    /// `metadata.annotations`.
    Annotations,
    /// Anywhere else.
    Elsewhere,
}

impl Place {
    /// The place of the member of this name.
    fn below(self, name: &str) -> Self {
        match (self, name) {
            (Self::Object, "metadata") => Self::Metadata,
            (Self::Metadata, "annotations") => Self::Annotations,
            _ => Self::Elsewhere,
        }
    }

    /// Whether a member counts. The fence does not, nor do annotations of which nothing is left.
    fn counts(self, name: &str, hash: u128) -> bool {
        match self {
            Self::Metadata => name != "annotations" || hash != hash_of_object(0),
            Self::Annotations => name != FENCE_ANNOTATION,
            Self::Object | Self::Elsewhere => true,
        }
    }
}

/// Hash of a value, taken while it is walked: nothing of it is copied, and nothing is sorted.
fn hash_of(value: &Json, place: Place) -> u128 {
    match value {
        Json::Null => tagged(b'n', &[]),
        Json::Bool(flag) => tagged(b'b', &[u8::from(*flag)]),
        Json::Number(number) => tagged(b'#', number.to_string().as_bytes()),
        Json::Str(text) => tagged(b's', text.as_bytes()),
        Json::Array(items) => hash_of_items(
            items
                .iter()
                .map(|item| (item.is_object(), hash_of(item, Place::Elsewhere))),
        ),
        Json::Object(object) => hash_of_members(
            place,
            object
                .iter()
                .map(|(name, value)| (name, hash_of(value, place.below(name)))),
        ),
    }
}

/// Hash of `metadata` without what only says which object it is.
fn hash_without_identity(metadata: &Json) -> u128 {
    let identity = ["name", "namespace", "uid", "resourceVersion"];
    match metadata {
        Json::Object(object) => hash_of_members(
            Place::Metadata,
            object
                .iter()
                .filter(|(name, _)| !identity.contains(name))
                .map(|(name, value)| (name, hash_of(value, Place::Metadata.below(name)))),
        ),
        other => hash_of(other, Place::Metadata),
    }
}

/// Hash of an object, from the hashes of its members. A sum, since their order does not count.
fn hash_of_members<'a>(place: Place, members: impl Iterator<Item = (&'a str, u128)>) -> u128 {
    let counted = members.filter(|(name, hash)| place.counts(name, *hash));
    hash_of_object(counted.fold(0, |sum: u128, (name, hash)| {
        sum.wrapping_add(both(tagged(b'k', name.as_bytes()), hash))
    }))
}

/// Hash of an object, from the sum over its members.
fn hash_of_object(sum: u128) -> u128 {
    tagged(b'{', &sum.to_le_bytes())
}

/// Hash of a list, from the hashes of its items and whether each is an object. The order of objects does not count,
/// because an associative list keeps the order of its first writer, not ours; that of anything else means something.
fn hash_of_items(items: impl Iterator<Item = (bool, u128)>) -> u128 {
    let (mut all_are_objects, mut sum, mut sequence) = (true, 0_u128, 0);
    for (is_object, hash) in items {
        all_are_objects &= is_object;
        sum = sum.wrapping_add(hash);
        sequence = both(sequence, hash);
    }
    if all_are_objects {
        tagged(b'(', &sum.to_le_bytes())
    } else {
        tagged(b'[', &sequence.to_le_bytes())
    }
}

/// Hash of two hashes in this order.
fn both(first: u128, second: u128) -> u128 {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&first.to_le_bytes());
    bytes[16..].copy_from_slice(&second.to_le_bytes());
    xxh3_128(&bytes)
}

/// Hash of bytes that are of this kind.
fn tagged(kind: u8, bytes: &[u8]) -> u128 {
    xxh3_128_with_seed(bytes, kind.into())
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
