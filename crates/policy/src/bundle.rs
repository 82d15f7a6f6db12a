//! A set of policies with their data: read from a folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Policies and data that belong together.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Bundle {
    /// What it is called here: the last part of its path.
    pub name: String,
    /// What its manifest says.
    pub manifest: Manifest,
    /// Rego by path.
    pub modules: BTreeMap<String, String>,
    /// Data of all folders.
    pub data: Value,
    /// Of all files.
    pub digest: String,
}

/// `.manifest`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Which version of the policies this is.
    pub revision: String,
    /// Paths under which this bundle has rules and data.
    pub roots: Vec<String>,
}

/// Why a folder is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not readable.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not what its name says.
    #[error("{}: {problem}", path.display())]
    Form {
        /// What.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl Bundle {
    /// Reads a folder.
    pub fn read(folder: &Path) -> Result<Self, BundleError> {
        let mut files = BTreeMap::new();
        collect(folder, "", &mut files)?;
        let mut hasher = Sha256::new();
        let (mut modules, mut data, mut manifest) = (BTreeMap::new(), Value::Object(Map::new()), Manifest::default());
        for (path, text) in files {
            hasher.update(format!("{path}\0{}\0{text}", text.len()));
            let form = |problem: String| BundleError::Form {
                path: folder.join(&path),
                problem,
            };
            if path == ".manifest" {
                manifest = serde_json::from_str(&text).map_err(|error| form(error.to_string()))?;
            } else if path.ends_with(".rego") {
                modules.insert(path, text);
            } else {
                let mut value: Value = serde_json::from_str(&text).map_err(|error| form(error.to_string()))?;
                for part in path.rsplit('/').skip(1) {
                    value = Value::Object(Map::from_iter([(part.to_owned(), value)]));
                }
                merge(&mut data, value);
            }
        }
        let digest = hasher.finalize();
        Ok(Self {
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            manifest,
            modules,
            data,
            digest: digest
                .iter()
                .fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}")),
        })
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> Result<(), BundleError> {
    let read = |path: &Path, source| BundleError::Read {
        path: path.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(|error| read(folder, error))? {
        let entry = entry.map_err(|error| read(folder, error))?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let inner = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}/{name}")
        };
        if path.is_dir() {
            if name != "cases" {
                collect(&path, &inner, files)?;
            }
        } else if name.ends_with(".rego") || name == "data.json" || inner == ".manifest" {
            files.insert(inner, fs::read_to_string(&path).map_err(|error| read(&path, error))?);
        }
    }
    Ok(())
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
