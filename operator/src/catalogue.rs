//! The catalogue of engines and versions: built in, or with engines replaced by a file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use engines::catalogue::{Catalogue, CatalogueError};

/// Why there is no catalogue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The file is not there, or not readable.
    #[error("catalogue {}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not a catalogue.
    #[error("catalogue {}: invalid", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CatalogueError,
    },
}

/// The catalogue with what `path` says, if given.
pub(crate) fn load(path: Option<&Path>) -> Result<Catalogue, LoadError> {
    let Some(path) = path else {
        return Ok(Catalogue::builtin());
    };
    let text = fs::read_to_string(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    Catalogue::from_yaml(&text).map_err(|source| LoadError::Invalid {
        path: path.to_owned(),
        source,
    })
}
