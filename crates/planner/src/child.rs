//! What a reconcile knows of a child: a few facts, taken from the object while it is decoded.
//!
//! No object is kept whole (a StatefulSet costs 41 KiB as its full type; the budget is a fifth of the twin's 61 KiB
//! for a Database with *all* its children). What is needed later is its identity, the digest of the fields that we
//! own, and the values that a decision rests on.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use api::names;
use sharding::Epoch;
/// Text of an object: what a child says of itself is short for the most part, and lies in place then.
pub use smol_str::SmolStr as Text;

use crate::json::{Json, at, items, text};
use crate::owned::{self, OwnedDigest};

/// The kinds of objects that are made for a Database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Who the pods are, with no rights and no token.
    ServiceAccount,
    /// Ways to reach the database.
    Service,
    /// Credentials, and configuration that comes from a Secret.
    Secret,
    /// Configuration.
    ConfigMap,
    /// A volume of the database.
    PersistentVolumeClaim,
    /// What runs the pods.
    StatefulSet,
    /// An accepted spec.
    ControllerRevision,
    /// A member. Made by the StatefulSet, restarted by us.
    Pod,
}

impl Kind {
    /// Every kind, in the order in which they are written: a pod needs its Secret, and a volume its labels, first.
    pub const ALL: [Self; 8] = [
        Self::ControllerRevision,
        Self::ServiceAccount,
        Self::Service,
        Self::Secret,
        Self::ConfigMap,
        Self::PersistentVolumeClaim,
        Self::StatefulSet,
        Self::Pod,
    ];

    /// API group (empty for the core group), version, and plural name of the resource.
    pub fn resource(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("", "v1", "serviceaccounts"),
            Self::Service => ("", "v1", "services"),
            Self::Secret => ("", "v1", "secrets"),
            Self::ConfigMap => ("", "v1", "configmaps"),
            Self::PersistentVolumeClaim => ("", "v1", "persistentvolumeclaims"),
            Self::StatefulSet => ("apps", "v1", "statefulsets"),
            Self::ControllerRevision => ("apps", "v1", "controllerrevisions"),
            Self::Pod => ("", "v1", "pods"),
        }
    }

    /// `apiVersion` as it stands in a manifest.
    pub fn api_version(self) -> String {
        match self.resource() {
            ("", version, _) => version.to_owned(),
            (group, version, _) => format!("{group}/{version}"),
        }
    }

    /// `kind` as it stands in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Service => "Service",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::StatefulSet => "StatefulSet",
            Self::ControllerRevision => "ControllerRevision",
            Self::Pod => "Pod",
        }
    }
}

/// Kind and name of a child; its namespace is the Database's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChildRef {
    /// What it is.
    pub kind: Kind,
    /// What it is called.
    pub name: Text,
}

impl ChildRef {
    /// A reference to the child of this kind and name.
    pub fn new(kind: Kind, name: impl Into<Text>) -> Self {
        Self {
            kind,
            name: name.into(),
        }
    }
}

impl fmt::Display for ChildRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}

/// All children of one Database that are known now.
pub type Children = BTreeMap<ChildRef, Arc<Child>>;

/// What is known of one child.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Child {
    /// `metadata.uid`.
    pub uid: Text,
    /// `metadata.resourceVersion`.
    pub resource_version: Text,
    /// uid of the owner reference with `controller: true`.
    pub controller: Option<Text>,
    /// Epoch with which it was written last, if one is to be read.
    pub fence: Option<Epoch>,
    /// Whether it has a deletion timestamp.
    pub deleting: bool,
    /// Labels that say what it is.
    pub marks: SharedMarks,
    /// Digest of the fields that we own, if we ever applied it.
    pub owned: Option<OwnedDigest>,
    /// JSON pointers of what others put where it changes our meaning (`owned::intruders`).
    pub intruders: Box<[String]>,
    /// What is particular to its kind.
    pub facts: Facts,
}

/// One version of an object, for a write that must not meet any other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// `metadata.uid`.
    pub uid: Text,
    /// `metadata.resourceVersion`.
    pub resource_version: Text,
    /// The fence that this version bears.
    pub fence: Option<Epoch>,
    /// The bucket that its label names.
    pub bucket: Option<Text>,
}

/// The labels and annotations by which we know our own, above all what outlives its Database.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Marks {
    /// Label `app.kubernetes.io/managed-by`.
    pub managed_by: Option<Text>,
    /// Label `intent.example.com/database`.
    pub database: Option<Text>,
    /// Label `intent.example.com/bucket`.
    pub bucket: Option<Text>,
    /// Label `intent.example.com/engine`.
    pub engine: Option<Text>,
    /// Label `intent.example.com/major`.
    pub major: Option<Text>,
    /// Label `intent.example.com/lineage`: which data set this belongs to.
    pub lineage: Option<Text>,
    /// Label `intent.example.com/owner`: uid of the Database that works with it now.
    pub owner: Option<Text>,
    /// Label `intent.example.com/generation`: of volumes.
    pub generation: Option<Text>,
    /// Annotation `intent.example.com/credentials`: how often the credentials were made anew.
    pub credentials: Option<u32>,
    /// Annotation `intent.example.com/inputs`.
    pub inputs: Option<Text>,
    /// Label `intent.example.com/role`.
    pub role: Option<Text>,
}

/// Marks that may be shared with other children. What changes them makes its own first.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SharedMarks(Arc<Marks>);

impl SharedMarks {
    /// Whether both are one piece of memory.
    pub fn is_one_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl From<Marks> for SharedMarks {
    fn from(marks: Marks) -> Self {
        Self(Arc::new(marks))
    }
}

impl Deref for SharedMarks {
    type Target = Marks;

    fn deref(&self) -> &Marks {
        &self.0
    }
}

impl DerefMut for SharedMarks {
    fn deref_mut(&mut self) -> &mut Marks {
        Arc::make_mut(&mut self.0)
    }
}

/// What a decision needs to know of one kind of child.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Facts {
    /// Nothing beyond what every child has.
    Plain,
    /// An accepted spec.
    Revision {
        /// `revision`, which only grows.
        number: i64,
        /// Digest of the spec in it.
        spec: OwnedDigest,
    },
    /// A volume.
    Claim(ClaimFacts),
    /// What runs the pods.
    StatefulSet {
        /// `metadata.generation`.
        generation: i64,
        /// `status.observedGeneration`.
        observed_generation: i64,
        /// Storage request in its (immutable) claim template.
        template_storage: Option<Text>,
    },
    /// A member.
    Pod(Box<PodFacts>),
}

/// A volume, as the API server reports it. Quantities are texts as the server wrote them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClaimFacts {
    /// `spec.resources.requests.storage`.
    pub requested: Option<Text>,
    /// `status.capacity.storage`.
    pub capacity: Option<Text>,
    /// `status.phase`.
    pub phase: Option<Text>,
}

/// A pod, as the kubelet reports it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PodFacts {
    /// Condition `Ready`.
    pub ready: bool,
    /// Whether it has ended for good (`Succeeded` or `Failed`).
    pub ended: bool,
    /// Image of the container `database`.
    pub image: Option<Text>,
    /// Image id that the runtime resolved it to.
    pub image_id: Option<Text>,
    /// Why it cannot be scheduled, if so.
    pub unschedulable: Option<Text>,
    /// Last complaint of a container that waits or ended: reason and message.
    pub trouble: Option<Trouble>,
}

/// A container that does not run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// Name of the container.
    pub container: String,
    /// Why it waits or how it ended: `CrashLoopBackOff`, `ImagePullBackOff`, `Error`, `OOMKilled`, ...
    pub reason: String,
    /// Its termination message (its last log lines, if it left none) or the runtime's message.
    pub message: String,
}

/// Why an object could not be read as a child.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{kind}: {field} is missing")]
pub struct ObserveError {
    kind: &'static str,
    field: &'static str,
}

impl Child {
    /// Takes the facts of an object. Total over whatever the API server can send; only an object without a name, uid
    /// or version is refused.
    pub fn observe<'a>(kind: Kind, object: impl Into<Json<'a>>) -> Result<(ChildRef, Arc<Self>), ObserveError> {
        let object = &object.into();
        let metadata = at(object, &["metadata"]);
        let required = |name: &str, field| {
            text(metadata, &[name]).map(Text::new).ok_or(ObserveError {
                kind: kind.name(),
                field,
            })
        };
        let child = Self {
            uid: required("uid", "metadata.uid")?,
            resource_version: required("resourceVersion", "metadata.resourceVersion")?,
            controller: controller(object)
                .and_then(|owner| text(owner, &["uid"]))
                .map(Text::new),
            fence: text(metadata, &["annotations", names::FENCE_ANNOTATION]).and_then(|text| text.parse().ok()),
            deleting: text(metadata, &["deletionTimestamp"]).is_some(),
            marks: Marks::of(metadata).into(),
            owned: owned::digest_of_seen(object),
            intruders: owned::intruders(kind, object).into(),
            facts: facts(kind, object),
        };
        Ok((
            ChildRef {
                kind,
                name: required("name", "metadata.name")?,
            },
            Arc::new(child),
        ))
    }

    /// This version of it.
    pub fn version(&self) -> Version {
        Version {
            uid: self.uid.clone(),
            resource_version: self.resource_version.clone(),
            fence: self.fence,
            bucket: self.marks.bucket.clone(),
        }
    }

    /// Gives up its own copies of what siblings say in the same words, as most children of a Database do.
    pub fn share<'a>(&mut self, siblings: impl IntoIterator<Item = &'a Self>) {
        for sibling in siblings {
            if self.marks == sibling.marks {
                self.marks = sibling.marks.clone();
            }
            if self.controller == sibling.controller {
                self.controller.clone_from(&sibling.controller);
            }
        }
    }

    /// Whether the Database with this uid controls it.
    pub fn is_controlled_by(&self, uid: &str) -> bool {
        self.controller.as_deref() == Some(uid)
    }
}

impl Marks {
    fn of(metadata: &Json) -> Self {
        let (labels, annotations) = (at(metadata, &["labels"]), at(metadata, &["annotations"]));
        let label = |name: &str| text(labels, &[name]).map(Text::new);
        let annotation = |name: &str| text(annotations, &[name]).map(Text::new);
        Self {
            managed_by: label(names::MANAGED_BY_LABEL),
            database: label(names::DATABASE_LABEL),
            bucket: label(names::BUCKET_LABEL),
            engine: label(crate::marks::ENGINE_LABEL),
            major: label(crate::marks::MAJOR_LABEL),
            lineage: label(crate::marks::LINEAGE_LABEL),
            owner: label(crate::marks::OWNER_LABEL),
            generation: label(crate::marks::GENERATION_LABEL),
            credentials: annotation(crate::marks::CREDENTIALS_ANNOTATION).and_then(|text| text.parse().ok()),
            inputs: annotation(names::INPUTS_ANNOTATION),
            role: label(names::ROLE_LABEL),
        }
    }
}

fn controller<'a>(object: &'a Json<'_>) -> Option<&'a Json<'a>> {
    let owners = items(object, &["metadata", "ownerReferences"]);
    owners
        .iter()
        .find(|owner| at(owner, &["controller"]).as_bool() == Some(true))
}

/// Name of the Database that an object belongs to. The owner reference and the fixed names of what has none come
/// before the label, because a label that somebody edits must not hide the object from its Database.
pub fn database_of(kind: Kind, object: &Json) -> Option<String> {
    let name = text(object, &["metadata", "name"])?;
    let owner = controller(object);
    let owned_by = |owner_kind| {
        owner
            .filter(|owner| text(owner, &["kind"]) == Some(owner_kind))
            .and_then(|owner| text(owner, &["name"]))
    };
    let by_name = match kind {
        Kind::Secret => name.strip_suffix("-admin"),
        Kind::PersistentVolumeClaim => name
            .strip_prefix("data-")
            .and_then(|rest| rest.rsplit_once('-'))
            .and_then(|(set, _)| of_stateful_set(set)),
        Kind::Pod => owned_by("StatefulSet").and_then(of_stateful_set),
        Kind::ServiceAccount | Kind::Service | Kind::ConfigMap | Kind::StatefulSet | Kind::ControllerRevision => None,
    };
    // A StatefulSet keeps revisions of its own, which carry the labels of its template: they are not accepted specs.
    let by_label = || {
        (kind != Kind::ControllerRevision)
            .then(|| text(object, &["metadata", "labels", names::DATABASE_LABEL]))
            .flatten()
    };
    owned_by(names::KIND).or(by_name).or_else(by_label).map(str::to_owned)
}

/// `NAME` of `NAME-g1`.
fn of_stateful_set(name: &str) -> Option<&str> {
    let (database, generation) = name.rsplit_once("-g")?;
    generation.parse::<u32>().ok().map(|_| database)
}

fn facts(kind: Kind, object: &Json) -> Facts {
    let owned_text = |path: &[&str]| text(object, path).map(Text::new);
    let number = |path: &[&str]| at(object, path).as_i64().unwrap_or_default();
    match kind {
        Kind::ServiceAccount | Kind::Service | Kind::Secret | Kind::ConfigMap => Facts::Plain,
        Kind::ControllerRevision => Facts::Revision {
            number: number(&["revision"]),
            spec: owned::digest_of_part(at(object, &["data", "spec"])),
        },
        Kind::PersistentVolumeClaim => Facts::Claim(ClaimFacts {
            requested: owned_text(&["spec", "resources", "requests", "storage"]),
            capacity: owned_text(&["status", "capacity", "storage"]),
            phase: owned_text(&["status", "phase"]),
        }),
        Kind::StatefulSet => Facts::StatefulSet {
            generation: number(&["metadata", "generation"]),
            observed_generation: number(&["status", "observedGeneration"]),
            template_storage: items(object, &["spec", "volumeClaimTemplates"])
                .first()
                .and_then(|claim| text(claim, &["spec", "resources", "requests", "storage"]))
                .map(Text::new),
        },
        Kind::Pod => Facts::Pod(pod(object).into()),
    }
}

fn pod(object: &Json) -> PodFacts {
    let status = at(object, &["status"]);
    let condition = |name: &str| {
        items(status, &["conditions"])
            .iter()
            .find(|condition| text(condition, &["type"]) == Some(name))
    };
    let is = |condition: &Json, wanted: &str| text(condition, &["status"]) == Some(wanted);
    let is_database = |container: &&Json| text(container, &["name"]) == Some("database");
    let database = items(status, &["containerStatuses"]).iter().find(is_database);
    let said = |value: &Json, name: &str| text(value, &[name]).filter(|text| !text.is_empty()).map(Text::new);
    PodFacts {
        ready: condition("Ready").is_some_and(|condition| is(condition, "True")),
        ended: matches!(text(status, &["phase"]), Some("Succeeded" | "Failed")),
        image: items(object, &["spec", "containers"])
            .iter()
            .find(is_database)
            .and_then(|container| said(container, "image")),
        image_id: database.and_then(|status| said(status, "imageID")),
        unschedulable: condition("PodScheduled")
            .filter(|condition| is(condition, "False"))
            .and_then(|condition| said(condition, "message")),
        trouble: items(status, &["initContainerStatuses"])
            .iter()
            .chain(items(status, &["containerStatuses"]))
            .find_map(trouble),
    }
}

/// What keeps a container from running. Its last end says more than the back-off that follows it.
fn trouble(status: &Json) -> Option<Trouble> {
    let said = |value: &Json, name: &str| text(value, &[name]).map(str::to_owned);
    let of = |state: &Json| {
        state.is_object().then(|| Trouble {
            container: said(status, "name").unwrap_or_default(),
            reason: said(state, "reason").unwrap_or_else(|| "Unknown".to_owned()),
            message: text(state, &["message"]).unwrap_or_default().trim().to_owned(),
        })
    };
    let failed = |state: &Json| of(state).filter(|_| at(state, &["exitCode"]).as_i64() != Some(0));
    if let Some(now) = failed(at(status, &["state", "terminated"])) {
        return Some(now);
    }
    // A container that is only being started waits too; that is no trouble.
    let waits = of(at(status, &["state", "waiting"]))
        .filter(|waits| !matches!(waits.reason.as_str(), "ContainerCreating" | "PodInitializing"))?;
    Some(failed(at(status, &["lastState", "terminated"])).unwrap_or(waits))
}

#[cfg(test)]
mod tests;
