//! A declared Database after validation: typed, complete, resolved. Only [`crate::validate`] makes one.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use api::database::{DeletionPolicy, Engine};
use api::quantity::Quantity;
use engines::catalogue::Release;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::child::Text;

/// What the user wants, ready to be planned.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// Which engine.
    pub engine: Engine,
    /// `spec.version` as the user wrote it; a newer operator may resolve it to a newer release.
    pub declared_version: String,
    /// The release that the catalogue has for it.
    pub release: Release,
    /// CPU and memory of a member.
    pub compute: Compute,
    /// Size of a member's volume.
    pub storage: Quantity,
    /// Class of the volume; `None` means the cluster's default.
    pub storage_class: Option<String>,
    /// What happens to the data when the Database is deleted.
    pub deletion_policy: DeletionPolicy,
    /// Whether backups are declared.
    pub backup: bool,
    /// Whether monitoring is declared.
    pub monitoring: bool,
    /// Parameters whose values may be seen: from `parameters` and `configMapRef`.
    pub parameters: BTreeMap<String, String>,
    /// Parameters whose values come from `secretRef`, and may be seen by the engine only.
    pub secret_parameters: BTreeMap<String, String>,
}

/// CPU and memory, requested and limited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compute {
    /// `resources.requests.cpu`.
    pub cpu_request: Option<Quantity>,
    /// `resources.requests.memory`.
    pub memory_request: Option<Quantity>,
    /// `resources.limits.cpu`.
    pub cpu_limit: Option<Quantity>,
    /// `resources.limits.memory`.
    pub memory_limit: Option<Quantity>,
}

impl Compute {
    /// The `resources` of a container, with quantities in the form in which the API server keeps them.
    pub fn to_resources(&self) -> Value {
        let mut resources = json!({});
        for (kind, name, quantity) in [
            ("requests", "cpu", &self.cpu_request),
            ("requests", "memory", &self.memory_request),
            ("limits", "cpu", &self.cpu_limit),
            ("limits", "memory", &self.memory_limit),
        ] {
            if let Some(quantity) = quantity {
                resources[kind][name] = json!(quantity.to_string());
            }
        }
        resources
    }
}

impl Intent {
    /// Hash of what the user declared that a running pod depends on, the annotation `intent.example.com/inputs`.
    ///
    /// Only a change of this restarts a pod. The image that a version resolves to, and whatever else a newer operator
    /// decides, is deliberately not in it. Values from a Secret are mixed with `salt`, which is secret itself, so
    /// that nobody can try likely values against the hash.
    pub fn inputs(&self, salt: Option<&Salt>) -> Text {
        let declared = json!({
            "engine": self.engine.to_string(),
            "version": self.declared_version,
            "resources": self.compute.to_resources(),
            "parameters": self.parameters,
        });
        let mut hasher = Sha256::new();
        hasher.update(declared.to_string());
        if !self.secret_parameters.is_empty() {
            hasher.update(salt.map_or("", |salt| &salt.0));
            hasher.update(json!(self.secret_parameters).to_string());
        }
        hex(&hasher.finalize()[..16])
    }
}

impl Intent {
    /// Feeds all of it, with quantities as they are written: the text of one goes into a body.
    ///
    /// No `..`: a new field does not compile until it is in here.
    pub(crate) fn feed(&self, into: &mut impl Hasher) {
        let Self {
            engine,
            declared_version,
            release,
            compute,
            storage,
            storage_class,
            deletion_policy,
            backup,
            monitoring,
            parameters,
            secret_parameters,
        } = self;
        (engine, declared_version, storage.to_string(), storage_class).hash(into);
        (deletion_policy, backup, monitoring, parameters, secret_parameters).hash(into);
        let Release {
            engine,
            version,
            major,
            image,
            uid,
            end_of_life,
        } = release;
        (engine, version.to_string(), major, image, uid, end_of_life).hash(into);
        let Compute {
            cpu_request,
            memory_request,
            cpu_limit,
            memory_limit,
        } = compute;
        for quantity in [cpu_request, memory_request, cpu_limit, memory_limit] {
            quantity.as_ref().map(ToString::to_string).hash(into);
        }
    }
}

fn hex(bytes: &[u8]) -> Text {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Random text of the administrator's Secret that salts hashes of secret values. Never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Salt(String);

impl Salt {
    /// Wraps the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(hidden)")
    }
}

#[cfg(test)]
mod tests;
