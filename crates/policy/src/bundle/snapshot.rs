//! A bundle that was read, checked and understood.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::archive;
use super::document::{Document, DocumentError};
use super::files::{Files, Kind, MANIFEST, Tests};
use super::manifest::{Manifest, ManifestError};
use super::package::{PackageError, package_of};
use super::signature::{self, Signed, Trust, VerifyError};

/// Why files are no bundle that may be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nobody who is trusted vouches for it.
    #[error("bundle {bundle}: the signature does not hold")]
    Signature {
        /// The bundle.
        bundle: String,
        /// Why.
        source: VerifyError,
    },
    /// It does not mean anything.
    #[error("bundle {bundle}: the content cannot be used")]
    Content {
        /// The bundle.
        bundle: String,
        /// Why.
        source: ContentError,
    },
}

/// Why the content of a bundle cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A data file cannot be read.
    #[error("{name:?}")]
    Document {
        /// The file.
        name: String,
        /// Why.
        source: DocumentError,
    },
    /// Data files are merged, and only objects can be.
    #[error("{name:?}: not an object; write {{...}} with a key per value")]
    NotAnObject {
        /// The file.
        name: String,
    },
    /// Two files give the same value.
    #[error("{name:?}: data.{path} is already given by another file; keep one")]
    DataConflict {
        /// The second file.
        name: String,
        /// The value, with dots between names.
        path: String,
    },
    /// Another bundle may own that part of the tree.
    #[error("data.{path} is outside of the roots {roots:?}; move the file, or add the root to .manifest")]
    DataOutside {
        /// The value, with dots between names.
        path: String,
        /// The roots.
        roots: Vec<String>,
    },
    /// A module has no plain package.
    #[error("{name:?}")]
    Package {
        /// The file.
        name: String,
        /// Why.
        source: PackageError,
    },
    /// Another bundle may own that part of the tree.
    #[error("{name:?}: package {package} is outside of the roots {roots:?}; rename it, or add the root to .manifest")]
    PackageOutside {
        /// The file.
        name: String,
        /// Its package.
        package: String,
        /// The roots.
        roots: Vec<String>,
    },
}

/// A bundle that was read, checked and understood. It cannot be changed, so what was checked stays true.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    name: String,
    manifest: Manifest,
    files: Files,
    data: Value,
    digest: String,
    signed: Option<Signed>,
}

impl Bundle {
    /// Opens a bundle: checks its signature, then reads what it says.
    ///
    /// A signature that is there must hold, also where none is required. If none is required and no key is trusted,
    /// it is not looked at. A bundle without one is opened; whether it may be used is what [`admit`](super::admit) says.
    pub fn open(name: &str, files: Files, trust: &Trust, now: Timestamp) -> Result<Self, OpenError> {
        let looked_at = trust.require_signature || !trust.keys.is_empty();
        let signed = match looked_at.then(|| signature::verify(&files, trust, now)) {
            Some(Ok(signed)) => Some(signed),
            None | Some(Err(VerifyError::Unsigned)) => None,
            Some(Err(source)) => {
                return Err(OpenError::Signature {
                    bundle: name.to_owned(),
                    source,
                });
            }
        };
        let opened = Self::open_unverified(name, files).map_err(|source| OpenError::Content {
            bundle: name.to_owned(),
            source,
        })?;
        Ok(Self { signed, ..opened })
    }

    /// Opens a bundle whatever its signature says, to build, sign or show it.
    pub fn open_unverified(name: &str, files: Files) -> Result<Self, ContentError> {
        let manifest = files
            .get(MANIFEST)
            .map(Manifest::parse)
            .transpose()?
            .unwrap_or_default();
        let data = Value::Object(merged_data(&files)?);
        check_data(&data, &mut Vec::new(), &manifest)?;
        let bundle = Self {
            name: name.to_owned(),
            manifest,
            data,
            digest: files.digest(),
            files,
            signed: None,
        };
        bundle.check_packages()?;
        Ok(bundle)
    }

    /// The name under which it is configured.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Paths and texts of all modules, tests included ([`Kind::of`] tells which they are), sorted by path.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(|(name, _)| matches!(Kind::of(name), Some(Kind::Module | Kind::Test)))
    }

    /// All data files in one tree.
    pub fn data(&self) -> &Value {
        &self.data
    }

    /// `sha256:` over names and contents of all files but the signature.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The id of the key whose signature was checked, if one was.
    pub fn signed_by(&self) -> Option<&str> {
        self.signed.as_ref().map(Signed::key_id)
    }

    /// What is known of the signature that was checked.
    pub fn signed(&self) -> Option<&Signed> {
        self.signed.as_ref()
    }

    /// Its files, as they were read.
    pub fn files(&self) -> &Files {
        &self.files
    }

    fn check_packages(&self) -> Result<(), ContentError> {
        for (name, text) in self.modules() {
            let package = package_of(text).map_err(|source| ContentError::Package {
                name: name.to_owned(),
                source,
            })?;
            if !self.manifest.owns(&package) {
                return Err(ContentError::PackageOutside {
                    name: name.to_owned(),
                    package: package.join("."),
                    roots: self.manifest.roots.clone(),
                });
            }
        }
        Ok(())
    }
}

/// The archive of a bundle, the same bytes for the same files. Tests are left out unless asked for, and with them a
/// signature that covers them ([`Files::without_tests`]).
pub fn build(bundle: &Bundle, tests: Tests) -> Vec<u8> {
    match tests {
        Tests::Include => archive::write(&bundle.files),
        Tests::LeaveOut => archive::write(&bundle.files.without_tests()),
    }
}

/// Puts each data file under the names of its folders.
fn merged_data(files: &Files) -> Result<Map<String, Value>, ContentError> {
    let mut data = Map::new();
    for (name, text) in files.iter() {
        let document = match Kind::of(name) {
            Some(Kind::Json) => Document::from_json(text),
            Some(Kind::Yaml) => Document::from_yaml(text),
            Some(Kind::Module | Kind::Test | Kind::Manifest | Kind::Signatures) | None => continue,
        };
        let document = document.map_err(|source| ContentError::Document {
            name: name.to_owned(),
            source,
        })?;
        let Value::Object(mut tree) = document.value() else {
            return Err(ContentError::NotAnObject { name: name.to_owned() });
        };
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        for part in folder.split('/').rev().filter(|part| !part.is_empty()) {
            tree = Map::from_iter([(part.to_owned(), Value::Object(tree))]);
        }
        merge(&mut data, tree).map_err(|path| ContentError::DataConflict {
            name: name.to_owned(),
            path,
        })?;
    }
    Ok(data)
}

/// Merges objects into objects; anything else in the same place is a conflict, whose path is the error.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) -> Result<(), String> {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (None, value) => {
                into.insert(key, value);
            }
            (Some(Value::Object(mine)), Value::Object(other)) => {
                merge(mine, other).map_err(|path| format!("{key}.{path}"))?;
            }
            (Some(_), _) => return Err(key),
        }
    }
    Ok(())
}

/// Data lies under a root, or leads to one.
fn check_data(data: &Value, path: &mut Vec<String>, manifest: &Manifest) -> Result<(), ContentError> {
    if manifest.owns(path) {
        return Ok(());
    }
    let outside = |path: &[String]| ContentError::DataOutside {
        path: path.join("."),
        roots: manifest.roots.clone(),
    };
    let Value::Object(members) = data else {
        return Err(outside(path));
    };
    if !path.is_empty() && !manifest.owns_below(path) {
        return Err(outside(path));
    }
    for (key, value) in members {
        path.push(key.clone());
        check_data(value, path, manifest)?;
        path.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
