//! `.manifest`: what a bundle says about itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::document::{Document, DocumentError};

/// What a bundle says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// What people call this state of the bundle: a version, a commit. Decisions name it.
    pub revision: String,
    /// The parts of the tree below `data` that the bundle owns, with `/` between names. One empty root is all of it.
    pub roots: Vec<String>,
    /// The version of Rego. Only 1 is accepted.
    pub rego_version: u32,
    /// What goes beyond OPA.
    pub metadata: Metadata,
}

/// The part of the manifest that OPA leaves to us.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    /// Grows with each release, so that an old bundle cannot be passed off as new.
    pub sequence: Option<u64>,
    /// From when on the bundle may not be activated any more.
    pub expires: Option<Timestamp>,
    /// The sequence that this older bundle is meant to take back: the highest one that was ever active.
    pub rollback_from: Option<u64>,
    /// Whatever else is there, kept as it is.
    pub other: Map<String, Value>,
}

/// Longest revision, in bytes.
const REVISION_MAX: usize = 256;

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON.
    #[error(".manifest")]
    Document(#[from] DocumentError),
    /// A field has the wrong type, or is none that we know. It could change what the bundle means.
    #[error(".manifest: {why}; mend or remove that field")]
    Field {
        /// Which, and what is wrong.
        why: String,
    },
    /// The policies are written in a Rego that our engine does not read.
    #[error(".manifest: rego_version {found} for {what}; only 1 is supported, so rewrite with `opa fmt --v0-v1`")]
    RegoVersion {
        /// The version.
        found: i64,
        /// The bundle, or a file pattern.
        what: String,
    },
    /// It is shown in every decision, on terminals too.
    #[error(
        ".manifest: the revision must have at most {REVISION_MAX} bytes and no control characters; write for example v42"
    )]
    Revision,
    /// WebAssembly is not run.
    #[error(".manifest: WebAssembly modules are not supported; build with `opa build -t rego`")]
    Wasm,
    /// A root is no path.
    #[error(".manifest: root {root:?} is not names with '/' between them; write database/security, for instance")]
    Root {
        /// The root.
        root: String,
    },
    /// Nothing could tell which root owns what lies below both.
    #[error(".manifest: roots {first:?} and {second:?} overlap; keep the shorter one")]
    RootsOverlap {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
}

impl Default for Manifest {
    /// What a bundle without a manifest means in OPA.
    fn default() -> Self {
        Self {
            revision: String::new(),
            roots: vec![String::new()],
            rego_version: 1,
            metadata: Metadata::default(),
        }
    }
}

/// The fields of OPA's manifest, and no others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    revision: String,
    roots: Option<Vec<String>>,
    rego_version: Option<i64>,
    #[serde(default)]
    file_rego_versions: BTreeMap<String, i64>,
    #[serde(default)]
    wasm: Vec<Value>,
    metadata: Option<Map<String, Value>>,
}

impl Manifest {
    /// Reads the text of `.manifest`.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let value = Document::from_json(text)?.value();
        let fields: Fields =
            serde_json::from_value(value).map_err(|error| ManifestError::Field { why: error.to_string() })?;
        let versions = fields.rego_version.iter().map(|found| (*found, "the bundle"));
        let of_files = fields
            .file_rego_versions
            .iter()
            .map(|(pattern, found)| (*found, pattern.as_str()));
        if let Some((found, what)) = versions.chain(of_files).find(|(found, _)| *found != 1) {
            return Err(ManifestError::RegoVersion {
                found,
                what: what.to_owned(),
            });
        }
        if !fields.wasm.is_empty() {
            return Err(ManifestError::Wasm);
        }
        if fields.revision.len() > REVISION_MAX || fields.revision.chars().any(char::is_control) {
            return Err(ManifestError::Revision);
        }
        Ok(Self {
            revision: fields.revision,
            roots: roots(fields.roots)?,
            rego_version: 1,
            metadata: Metadata::parse(fields.metadata.unwrap_or_default())?,
        })
    }

    /// The text of `.manifest` for this manifest.
    pub fn render(&self) -> String {
        let mut metadata = self.metadata.other.clone();
        if let Some(sequence) = self.metadata.sequence {
            metadata.insert("sequence".to_owned(), sequence.into());
        }
        if let Some(expires) = self.metadata.expires {
            metadata.insert("expires".to_owned(), expires.to_string().into());
        }
        if let Some(rollback_from) = self.metadata.rollback_from {
            metadata.insert("rollback_from".to_owned(), rollback_from.into());
        }
        let fields = json!({
            "revision": self.revision,
            "roots": self.roots,
            "rego_version": self.rego_version,
            "metadata": metadata,
        });
        format!("{fields:#}\n")
    }

    /// A root of this one and a root of another, one of which owns part of the other.
    pub fn overlap<'a>(&'a self, other: &'a Self) -> Option<(&'a str, &'a str)> {
        let pairs = self
            .roots
            .iter()
            .flat_map(|own| other.roots.iter().map(move |root| (own, root)));
        let mut pairs = pairs.map(|(own, root)| (own.as_str(), root.as_str()));
        pairs.find(|(own, root)| overlap(own, root))
    }

    /// Whether the bundle owns the tree at `path`.
    pub(super) fn owns(&self, path: &[String]) -> bool {
        self.roots.iter().any(|root| starts_with(path, &names(root)))
    }

    /// Whether the bundle owns something below `path`.
    pub(super) fn owns_below(&self, path: &[String]) -> bool {
        self.roots.iter().any(|root| {
            let root: Vec<String> = names(root).into_iter().map(str::to_owned).collect();
            starts_with(&root, &path.iter().map(String::as_str).collect::<Vec<_>>())
        })
    }
}

impl Metadata {
    /// A wrong type is an error, never the same as an absent field: that would switch a protection off.
    fn parse(mut fields: Map<String, Value>) -> Result<Self, ManifestError> {
        fn take<T: serde::de::DeserializeOwned>(
            fields: &mut Map<String, Value>,
            name: &str,
        ) -> Result<Option<T>, ManifestError> {
            fields
                .remove(name)
                .map(serde_json::from_value)
                .transpose()
                .map_err(|error| ManifestError::Field {
                    why: format!("metadata.{name}: {error}"),
                })
        }
        Ok(Self {
            sequence: take(&mut fields, "sequence")?,
            expires: take(&mut fields, "expires")?,
            rollback_from: take(&mut fields, "rollback_from")?,
            other: fields,
        })
    }
}

fn roots(given: Option<Vec<String>>) -> Result<Vec<String>, ManifestError> {
    let Some(given) = given else {
        return Ok(Manifest::default().roots);
    };
    let mut roots: Vec<String> = Vec::new();
    for root in given {
        let root = root.trim_matches('/').to_owned();
        let is_path = root.is_empty()
            || root
                .split('/')
                .all(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
        if !is_path {
            return Err(ManifestError::Root { root });
        }
        if let Some(other) = roots.iter().find(|other| overlap(other, &root)) {
            return Err(ManifestError::RootsOverlap {
                first: other.clone(),
                second: root,
            });
        }
        roots.push(root);
    }
    Ok(roots)
}

/// Whether one root contains the other, or both are the same.
fn overlap(first: &str, second: &str) -> bool {
    let (first, second) = (names(first), names(second));
    first.iter().zip(&second).all(|(one, other)| one == other)
}

fn names(root: &str) -> Vec<&str> {
    if root.is_empty() {
        Vec::new()
    } else {
        root.split('/').collect()
    }
}

fn starts_with(path: &[String], start: &[&str]) -> bool {
    path.len() >= start.len() && path.iter().zip(start).all(|(name, other)| name == other)
}

#[cfg(test)]
mod tests;
