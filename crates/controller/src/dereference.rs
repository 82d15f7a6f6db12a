//! The first step: everything that a decision needs, read or the reconcile ends here.
//!
//! Almost everything comes from the store. Read live are only: the ConfigMap and Secret that the spec refers to, the
//! accepted spec while a newer one has not been accepted, and the salt of hashes of secret values.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::database::DatabaseSpec;
use api::names;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::ResourceExt as _;
use planner::child::{ChildRef, Children, Kind};
use planner::fresh::as_recorded;
use planner::intent::Salt;
use planner::owned::digest_of_value;
use planner::plan::latest_revision;
use planner::validate::{Reference, References};

use crate::credentials::{self, CredentialsError};
use crate::requests::{ApiError, Writer};
use crate::seen::{SeenDatabase, UnreadableSpec};

/// Why not everything could be read.
#[derive(Debug, thiserror::Error)]
pub enum DereferenceError {
    /// A read failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// An accepted spec does not read as one: somebody changed it, or a newer version wrote it.
    #[error("{revision}: not a spec that this version can read: {error}")]
    Revision {
        /// The ControllerRevision.
        revision: ChildRef,
        /// What is wrong with it.
        error: String,
    },
    /// The administrator's Secret has no salt.
    #[error(transparent)]
    Salt(#[from] CredentialsError),
}

/// A spec with what it refers to.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The spec.
    pub spec: Arc<DatabaseSpec>,
    /// What it refers to.
    pub references: References,
}

/// All that was found.
#[derive(Debug)]
pub struct Found {
    /// What is declared now, or why it cannot be read.
    pub current: Result<Declared, UnreadableSpec>,
    /// The spec accepted last, if it differs from what is declared now.
    pub before: Option<Declared>,
    /// Whether what is declared now has been accepted already.
    pub is_accepted: bool,
    /// Salt of the hashes of secret values, if any are declared and the administrator's Secret exists.
    pub salt: Option<Salt>,
    /// Why the salt is not known, if the administrator's Secret should hold it and does not.
    pub spoilt: Option<CredentialsError>,
}

/// Reads what the Database refers to. `before`: what was declared before its last change, if that is known; if that is
/// what was accepted last, that need not be read.
pub async fn dereference(
    writer: &Writer,
    database: &SeenDatabase,
    before: Option<&Arc<DatabaseSpec>>,
    children: &Children,
    name: &str,
) -> Result<Found, DereferenceError> {
    let latest = latest_revision(children, &database.uid().unwrap_or_default());
    let is_accepted = is_accepted(database, children);
    let before = match latest {
        Some((number, digest)) if !is_accepted => {
            let spec = match before.filter(|spec| digest_of_value(&as_recorded(spec)) == digest) {
                Some(spec) => Arc::clone(spec),
                None => Arc::new(accepted_spec(writer, name, number).await?),
            };
            Some(Declared {
                references: references(writer, &spec).await?,
                spec,
            })
        }
        _ => None,
    };
    let current = match &database.spec {
        Ok(spec) => Ok(Declared {
            references: references(writer, spec).await?,
            spec: Arc::clone(spec),
        }),
        Err(unreadable) => Err(unreadable.clone()),
    };
    let secret = |declared: &Declared| declared.references.secret != Reference::Absent;
    let needs_salt = current.as_ref().is_ok_and(secret) || before.as_ref().is_some_and(secret);
    let (salt, spoilt) = match salt(writer, name, needs_salt).await {
        Ok(salt) => (salt, None),
        // What does not rest on it is done all the same, and the status tells it.
        Err(DereferenceError::Salt(spoilt)) => (None, Some(spoilt)),
        Err(error) => return Err(error),
    };
    Ok(Found {
        current,
        before,
        is_accepted,
        salt,
        spoilt,
    })
}

/// Whether what is declared now is what was accepted last.
pub(crate) fn is_accepted(database: &SeenDatabase, children: &Children) -> bool {
    match (
        &database.spec,
        latest_revision(children, &database.uid().unwrap_or_default()),
    ) {
        (Ok(spec), Some((_, digest))) => digest_of_value(&as_recorded(spec)) == digest,
        _ => false,
    }
}

async fn accepted_spec(writer: &Writer, name: &str, number: i64) -> Result<DatabaseSpec, DereferenceError> {
    let revision = ChildRef::new(Kind::ControllerRevision, names::revision(name, number));
    let mut object = writer.read(&revision).await?;
    serde_path_to_error::deserialize(object["data"]["spec"].take()).map_err(|error| DereferenceError::Revision {
        revision,
        error: error.to_string(),
    })
}

async fn references(writer: &Writer, spec: &DatabaseSpec) -> Result<References, ApiError> {
    let Some(configuration) = &spec.configuration else {
        return Ok(References::default());
    };
    let mut found = References::default();
    if let Some(reference) = &configuration.config_map_ref {
        found.config_map = read(writer, &ChildRef::new(Kind::ConfigMap, &reference.name), |value| {
            Some(value.to_owned())
        })
        .await?;
    }
    if let Some(reference) = &configuration.secret_ref {
        found.secret = read(writer, &ChildRef::new(Kind::Secret, &reference.name), decoded).await?;
    }
    Ok(found)
}

async fn read(writer: &Writer, object: &ChildRef, text: fn(&str) -> Option<String>) -> Result<Reference, ApiError> {
    let object = match writer.read(object).await {
        Ok(object) => object,
        Err(ApiError::NotFound { .. }) => return Ok(Reference::Missing),
        Err(error) => return Err(error),
    };
    let data = object["data"].as_object().into_iter().flatten();
    let mut found = BTreeMap::new();
    let mut unreadable: Vec<String> = object["binaryData"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, _)| k.clone())
        .collect();
    for (key, value) in data {
        match value.as_str().and_then(text) {
            Some(value) => drop(found.insert(key.clone(), value)),
            None => unreadable.push(key.clone()),
        }
    }
    Ok(if unreadable.is_empty() {
        Reference::Found(found)
    } else {
        Reference::NotText(unreadable)
    })
}

fn decoded(value: &str) -> Option<String> {
    String::from_utf8(BASE64.decode(value).ok()?).ok()
}

/// The salt, or `None` while it is not `needed`, there is no administrator's Secret, or one of that name is not ours.
pub async fn salt(writer: &Writer, name: &str, needed: bool) -> Result<Option<Salt>, DereferenceError> {
    if !needed {
        return Ok(None);
    }
    match writer
        .read(&ChildRef::new(Kind::Secret, names::secret_admin(name)))
        .await
    {
        Ok(secret) if secret["metadata"]["labels"][names::MANAGED_BY_LABEL] != names::FIELD_MANAGER => Ok(None),
        Ok(secret) => Ok(Some(Salt::new(credentials::value(&secret, "salt")?))),
        Err(ApiError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
