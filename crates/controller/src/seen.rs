//! Objects as this process keeps them: a few facts, taken while an answer or a watch event is decoded.
//!
//! The types here stand where a whole `k8s-openapi` object would, so that a watch never holds more than what a
//! decision needs (`planner::child`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use api::database::{DatabaseSpec, DatabaseStatus};
use api::names;
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::core::ObjectMeta;
use planner::child::{Child, ChildRef, Kind, database_of};
use planner::json::{Json, at, text};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use sharding::Epoch;

use self::version::{Decoded, decode_unless};
use crate::store::{Recalled, Store};

pub use self::version::version;

mod version;

/// A child of some Database. `K` is the index of its kind in [`Kind::ALL`]: lists do not repeat the kind in each item,
/// so it has to be in the type.
#[derive(Clone, Debug)]
pub struct SeenChild<const K: usize> {
    /// Name, namespace, uid and version only.
    meta: ObjectMeta,
    /// Name of the Database that it belongs to, if any.
    pub database: Option<String>,
    /// Its kind and name.
    pub child: ChildRef,
    /// Its facts.
    pub facts: Arc<Child>,
}

impl<const K: usize> SeenChild<K> {
    /// Its kind.
    pub const KIND: Kind = Kind::ALL[K];

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.meta.namespace.as_deref().unwrap_or_default()
    }
}

tokio::task_local! {
    /// What is known to whoever decodes events in this task. What it knows by the answer to a write is not read again:
    /// most events of a change are the echoes of our own writes.
    pub static STORE: Store;
}

/// Decodes an object, unless it is known: then the rest of it is passed over as soon as its version is read.
fn decode<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    known: impl Fn(Recalled) -> Option<T>,
    read: impl FnOnce(Json<'de>) -> Result<T, D::Error>,
) -> Result<T, D::Error> {
    let store = STORE.try_with(Store::clone).ok();
    let Some(store) = store.filter(Store::awaits_events) else {
        return read(Json::deserialize(deserializer)?);
    };
    match decode_unless(deserializer, |version| store.recall(version).and_then(&known))? {
        Decoded::Known(known) => Ok(known),
        Decoded::Read(object) => read(object),
    }
}

impl<const K: usize> SeenChild<K> {
    fn known(recalled: Recalled) -> Option<Self> {
        let Recalled::Child(key, child, facts) = recalled else {
            return None;
        };
        let meta = ObjectMeta {
            name: Some(child.name.to_string()),
            namespace: Some(key.namespace.to_string()),
            uid: Some(facts.uid.to_string()),
            resource_version: Some(facts.resource_version.to_string()),
            ..ObjectMeta::default()
        };
        // Versions of other kinds may be kept, and counted, elsewhere.
        (child.kind == Self::KIND).then(|| Self {
            meta,
            database: Some(key.name.to_string()),
            child,
            facts,
        })
    }

    fn read<E: de::Error>(object: Json) -> Result<Self, E> {
        let (meta, database) = (identity(&object), database_of(Self::KIND, &object));
        let (child, facts) = Child::observe(Self::KIND, object).map_err(E::custom)?;
        Ok(Self {
            meta,
            database,
            child,
            facts,
        })
    }
}

impl<'de, const K: usize> Deserialize<'de> for SeenChild<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decode(deserializer, Self::known, Self::read)
    }
}

/// Identity of an object, as little as the watcher needs.
fn identity(object: &Json) -> ObjectMeta {
    let text = |field: &str| text(object, &["metadata", field]).map(str::to_owned);
    ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        ..ObjectMeta::default()
    }
}

impl<const K: usize> Resource for SeenChild<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Self::KIND.name().into()
    }
    fn group((): &()) -> Cow<'_, str> {
        Self::KIND.resource().0.into()
    }
    fn version((): &()) -> Cow<'_, str> {
        Self::KIND.resource().1.into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        Self::KIND.resource().2.into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// A Database. Clones are one piece of memory, until one is changed.
#[derive(Clone, Debug)]
pub struct SeenDatabase(Arc<DatabaseFacts>);

impl Deref for SeenDatabase {
    type Target = DatabaseFacts;

    fn deref(&self) -> &DatabaseFacts {
        &self.0
    }
}

impl DerefMut for SeenDatabase {
    fn deref_mut(&mut self) -> &mut DatabaseFacts {
        Arc::make_mut(&mut self.0)
    }
}

/// What is known of a Database. Its spec may be one that this version cannot read: that is a fault of this one object,
/// not of the list.
#[derive(Clone, Debug)]
pub struct DatabaseFacts {
    /// Identity, and what the reconcile reads of the metadata.
    meta: ObjectMeta,
    /// The spec, or the field that cannot be read and why.
    pub spec: Result<Arc<DatabaseSpec>, UnreadableSpec>,
    /// The status as it was last written. One that cannot be read counts as none, and is written anew.
    pub status: DatabaseStatus,
    /// Whether `intent.example.com/paused` is `true`.
    pub paused: bool,
    /// The newest fence that it bears, in its metadata or its status.
    pub fence: Option<Epoch>,
}

/// A field of a spec that this version cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableSpec {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it.
    pub error: String,
}

impl SeenDatabase {
    /// A Database that does not exist yet, as it would be once it is declared. Its uid is not known.
    pub fn undeclared(namespace: &str, name: &str, spec: DatabaseSpec) -> Self {
        let meta = ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid: Some(planner::fresh::UNKNOWN_UID.to_owned()),
            ..ObjectMeta::default()
        };
        Self(Arc::new(DatabaseFacts {
            meta,
            spec: Ok(Arc::new(spec)),
            status: DatabaseStatus::default(),
            paused: false,
            fence: None,
        }))
    }

    /// Gives up its own copy of what was declared, if that was known already and nobody else has this one yet.
    pub fn share_spec(&mut self, known: &Self) {
        if let Some(facts) = Arc::get_mut(&mut self.0)
            && facts.spec == known.spec
        {
            facts.spec.clone_from(&known.spec);
        }
    }
}

impl DatabaseFacts {
    /// `metadata.generation`.
    pub fn generation(&self) -> i64 {
        self.meta.generation.unwrap_or_default()
    }

    /// Whether it has a deletion timestamp.
    pub fn deleting(&self) -> bool {
        self.meta.deletion_timestamp.is_some()
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> &[String] {
        self.meta.finalizers.as_deref().unwrap_or_default()
    }

    /// The bucket label.
    pub fn bucket(&self) -> Option<&str> {
        self.meta.labels.as_ref()?.get(names::BUCKET_LABEL).map(String::as_str)
    }
}

impl<'de> Deserialize<'de> for SeenDatabase {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let known = |recalled| match recalled {
            Recalled::Database(known) => Some(known),
            Recalled::Child(..) => None,
        };
        decode(deserializer, known, |object| Self::read(&object))
    }
}

impl SeenDatabase {
    fn read<E: de::Error>(object: &Json) -> Result<Self, E> {
        let metadata = at(object, &["metadata"]);
        let status = status(object);
        let spec = serde_path_to_error::deserialize(part(object, "spec"));
        let spec = spec.map(Arc::new).map_err(|error| UnreadableSpec {
            field: format!("spec.{}", error.path()),
            error: error.inner().to_string(),
        });
        let annotation = |name: &str| text(metadata, &["annotations", name]);
        let stamped = annotation(names::FENCE_ANNOTATION).and_then(|fence| fence.parse::<Epoch>().ok());
        let reported = status.fence.and_then(|fence| u64::try_from(fence).ok()).map(Epoch);
        Ok(Self(Arc::new(DatabaseFacts {
            fence: stamped.max(reported),
            paused: annotation(names::PAUSED_ANNOTATION) == Some("true"),
            spec,
            status,
            meta: ObjectMeta {
                generation: at(metadata, &["generation"]).as_i64(),
                deletion_timestamp: Option::deserialize(at(metadata, &["deletionTimestamp"])).map_err(E::custom)?,
                finalizers: Option::deserialize(at(metadata, &["finalizers"])).map_err(E::custom)?,
                labels: Option::deserialize(at(metadata, &["labels"])).map_err(E::custom)?,
                annotations: declared_annotations(at(metadata, &["annotations"])).map_err(E::custom)?,
                ..identity(object)
            },
        })))
    }
}

/// Annotations that policies may judge: not what tools and the operator keep there.
fn declared_annotations(annotations: &Json) -> Result<Option<BTreeMap<String, String>>, de::value::Error> {
    let all: Option<BTreeMap<String, String>> = Option::deserialize(annotations)?;
    let all = all.map(|mut all| {
        all.retain(|name, _| !name.starts_with("kubectl.kubernetes.io/") && !names::is_written_by_operator(name));
        all
    });
    Ok(all.filter(|all| !all.is_empty()))
}

/// A member of an object, as what types of ours are made of: `Json` makes no enums.
fn part(object: &Json, name: &str) -> Value {
    at(object, &[name]).into()
}

/// The status, leniently: one that cannot be read is written anew, and the log says so.
fn status(object: &Json) -> DatabaseStatus {
    let status = part(object, "status");
    if status.is_null() {
        return DatabaseStatus::default();
    }
    serde_path_to_error::deserialize(status).unwrap_or_else(|error| {
        let name = text(object, &["metadata", "name"]).unwrap_or_default();
        tracing::warn!(database = name, %error, "a status cannot be read, and is written anew");
        DatabaseStatus::default()
    })
}

impl Resource for SeenDatabase {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        names::KIND.into()
    }
    fn group((): &()) -> Cow<'_, str> {
        names::GROUP.into()
    }
    fn version((): &()) -> Cow<'_, str> {
        names::VERSION.into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        names::PLURAL.into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut Arc::make_mut(&mut self.0).meta
    }
}

#[cfg(test)]
mod tests;
