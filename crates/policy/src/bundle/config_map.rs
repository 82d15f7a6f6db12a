//! Bundles from ConfigMaps, as the maps that a client already has in memory.

use std::collections::BTreeMap;

use super::archive::{self, ArchiveError};
use super::files::{FileError, Files};

/// The key of `binaryData` that holds a whole archive.
pub const ARCHIVE_KEY: &str = "bundle.tar.gz";

/// Keys and values of one ConfigMap.
#[derive(Debug, Clone, Copy)]
pub struct ConfigMapContent<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its `data`.
    pub data: &'a BTreeMap<String, String>,
    /// Its `binaryData`, decoded.
    pub binary_data: &'a BTreeMap<String, Vec<u8>>,
}

/// Why ConfigMaps could not be read as a bundle.
#[derive(Debug, thiserror::Error)]
pub enum ConfigMapError {
    /// There is nothing to read.
    #[error("no ConfigMap has a key; give one `binaryData` key {ARCHIVE_KEY}, or a key per file")]
    Empty,
    /// An archive is a whole bundle, so nothing can be added to it.
    #[error(
        "ConfigMap {config_map}: key {ARCHIVE_KEY} is a whole bundle, but there are other keys; keep the one or the others"
    )]
    Mixed {
        /// The one with the archive.
        config_map: String,
    },
    /// Archives are binary; as text they would be damaged.
    #[error("ConfigMap {config_map}: key {ARCHIVE_KEY} is in `data`; put it, in base64, in `binaryData`")]
    ArchiveAsText {
        /// The one with the archive.
        config_map: String,
    },
    /// The archive cannot be read.
    #[error("ConfigMap {config_map}, key {ARCHIVE_KEY}")]
    Archive {
        /// The one with the archive.
        config_map: String,
        /// Why.
        source: ArchiveError,
    },
    /// A key is no file of a bundle.
    #[error("ConfigMap {config_map}, key {key}")]
    File {
        /// The one with the key.
        config_map: String,
        /// The key.
        key: String,
        /// Why.
        source: FileError,
    },
}

/// Reads a bundle from the ConfigMaps that make it up, since one holds at most 1 MiB.
///
/// Either exactly one key, [`ARCHIVE_KEY`] in `binaryData`, or a key per file, in which `__` stands for `/`:
/// `database__environment__production__data.json`. A name that itself has `__` needs an archive.
pub fn read(maps: &[ConfigMapContent]) -> Result<Files, ConfigMapError> {
    let keys: usize = maps.iter().map(|map| map.data.len() + map.binary_data.len()).sum();
    if keys == 0 {
        return Err(ConfigMapError::Empty);
    }
    for map in maps {
        let config_map = map.name.to_owned();
        if map.data.contains_key(ARCHIVE_KEY) {
            return Err(ConfigMapError::ArchiveAsText { config_map });
        }
        if let Some(bytes) = map.binary_data.get(ARCHIVE_KEY) {
            if keys > 1 {
                return Err(ConfigMapError::Mixed { config_map });
            }
            return archive::read(bytes).map_err(|source| ConfigMapError::Archive { config_map, source });
        }
    }
    plain(maps)
}

fn plain(maps: &[ConfigMapContent]) -> Result<Files, ConfigMapError> {
    let mut files = Files::new();
    for map in maps {
        let texts = map.data.iter().map(|(key, text)| (key, text.as_bytes()));
        let binaries = map.binary_data.iter().map(|(key, bytes)| (key, bytes.as_slice()));
        for (key, content) in texts.chain(binaries) {
            files
                .add(&key.replace("__", "/"), content.to_vec())
                .map_err(|source| ConfigMapError::File {
                    config_map: map.name.to_owned(),
                    key: key.clone(),
                    source,
                })?;
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
