//! Who must have signed bundles: public keys in files, read again at each look so that a key can be changed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use policy::bundle::{KeyError, PublicKey, Trust};

/// Longest file that is read as a key.
const LONGEST_BYTES: u64 = 64 * 1024;

/// Files with public keys, and what bundles must be signed for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Keys {
    /// PEM files. The id of a key is the name of its file without `.pem` and `.pub`. None: signatures are not looked at.
    pub files: Vec<PathBuf>,
    /// What bundles must be signed for; empty: for no scope.
    pub scope: String,
}

/// Why it is not known who is trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// Not there, or not readable.
    #[error("key {}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not a public key.
    #[error("key {}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// Which of them would count is not said.
    #[error("{} and {} are both keys of the id {id:?}; rename one", first.display(), second.display())]
    Twice {
        /// The id.
        id: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

impl Keys {
    /// Whom to trust. With keys, every bundle must be signed by one of them.
    pub(super) fn trust(&self) -> Result<Trust, KeysError> {
        let mut keys = BTreeMap::new();
        for (index, path) in self.files.iter().enumerate() {
            let text = read(path).map_err(|source| KeysError::Read {
                path: path.clone(),
                source,
            })?;
            let key = PublicKey::from_pem(&text).map_err(|source| KeysError::Key {
                path: path.clone(),
                source,
            })?;
            let id = id(path);
            if keys.contains_key(&id) {
                let mut before = self.files.iter().take(index);
                return Err(KeysError::Twice {
                    first: before.find(|other| self::id(other) == id).cloned().unwrap_or_default(),
                    second: path.clone(),
                    id,
                });
            }
            keys.insert(id, key);
        }
        Ok(Trust {
            require_signature: !keys.is_empty(),
            keys,
            scope: self.scope.clone(),
        })
    }
}

fn id(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".pem").unwrap_or(&name);
    name.strip_suffix(".pub").unwrap_or(name).to_owned()
}

fn read(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(LONGEST_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}
