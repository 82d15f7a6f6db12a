//! Where the running operator has its policies from, and how they come into force.
//!
//! Read in this order: [`Source`] (one bundle each), [`read`] (its files), [`keys`] (who must have signed it), [`state`]
//! (what was in force before, over restarts and replicas), [`follow`] (from files to policies in force), [`status`].
//!
//! Promise: policies come into force together, all sources of one look, after they were signed (if keys are given), are not
//! older than what was in force, and have passed the gate; if anything of that fails, what is in force stays.
//! Not guaranteed: that an unsigned folder that is written in place is whole when it comes into force. It is only seen to
//! have been the same twice ([`follow::Pace::settle`]). Archives, ConfigMaps and signatures prove that they are whole.

pub(crate) mod follow;
pub(crate) mod keys;
mod read;
mod state;
pub(crate) mod status;

use std::fmt;
use std::path::{Path, PathBuf};

use super::read as files;
use crate::names::{is_label, is_subdomain};

/// Begins a source that is ConfigMaps.
const CONFIG_MAP: &str = "configmap:";

/// Where one bundle comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Source {
    /// Of the bundle, under which it is remembered and named in decisions.
    name: String,
    place: Place,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    /// A folder, or an archive.
    Path(PathBuf),
    /// What all of them hold together.
    ConfigMaps { namespace: String, names: Vec<String> },
}

/// Why a text names no source.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// A path like `/` or `..`.
    #[error(
        "{text:?}: names neither a folder nor a file; give a path that ends in a name, which becomes that of the bundle"
    )]
    NoName {
        /// What was given.
        text: String,
    },
    /// What cannot be the key of a ConfigMap.
    #[error("{text:?}: {name:?} cannot be the name of a bundle; use letters, digits, '.', '_' and '-', at most 253")]
    Name {
        /// What was given.
        text: String,
        /// The name that follows from it.
        name: String,
    },
    /// Not of the form.
    #[error("{text:?}: write configmap:NAMESPACE/NAME, or configmap:NAMESPACE/NAME+NAME if several make one bundle")]
    ConfigMap {
        /// What was given.
        text: String,
    },
    /// They would be taken for one.
    #[error("{first} and {second} are both bundles of the name {name:?}; rename one")]
    Twice {
        /// The name.
        name: String,
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
}

impl Source {
    /// Reads `PATH` (a folder or a `.tar.gz`), `configmap:NAMESPACE/NAME`, or `configmap:NAMESPACE/NAME+NAME`.
    pub(crate) fn parse(text: &str) -> Result<Self, SourceError> {
        let source = match text.strip_prefix(CONFIG_MAP) {
            Some(rest) => Self::config_maps(text, rest)?,
            None => Self {
                name: files::name(Path::new(text)),
                place: Place::Path(text.into()),
            },
        };
        if source.name.is_empty() {
            return Err(SourceError::NoName { text: text.to_owned() });
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if source.name.len() > 253 || source.name.starts_with("..") || !source.name.bytes().all(allowed) {
            return Err(SourceError::Name {
                text: text.to_owned(),
                name: source.name,
            });
        }
        Ok(source)
    }

    /// All of them, no two of one name.
    pub(crate) fn parse_all<T: AsRef<str>>(texts: &[T]) -> Result<Vec<Self>, SourceError> {
        let mut sources: Vec<Self> = Vec::new();
        for text in texts {
            let source = Self::parse(text.as_ref())?;
            if let Some(other) = sources.iter().find(|other| other.name == source.name) {
                return Err(SourceError::Twice {
                    name: source.name.clone(),
                    first: other.to_string(),
                    second: source.to_string(),
                });
            }
            sources.push(source);
        }
        Ok(sources)
    }

    fn config_maps(text: &str, rest: &str) -> Result<Self, SourceError> {
        let wrong = || SourceError::ConfigMap { text: text.to_owned() };
        let (namespace, names) = rest.split_once('/').ok_or_else(wrong)?;
        let names: Vec<String> = names.split('+').map(str::to_owned).collect();
        if !is_label(namespace) || !names.iter().all(|name| is_subdomain(name)) {
            return Err(wrong());
        }
        Ok(Self {
            name: names.first().cloned().unwrap_or_default(),
            place: Place::ConfigMaps {
                namespace: namespace.to_owned(),
                names,
            },
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Path(path) => path.display().fmt(f),
            Place::ConfigMaps { namespace, names } => write!(f, "{CONFIG_MAP}{namespace}/{}", names.join("+")),
        }
    }
}

#[cfg(test)]
mod tests;
