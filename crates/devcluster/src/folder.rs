//! The name of a cluster, and the files that belong to it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::cache::{CacheError, user_folder};
use crate::progress;

/// The name of a cluster when none is given.
pub const DEFAULT_NAME: &str = "dev";

/// Long names would make paths of sockets too long for the kernel.
const LONGEST: usize = 30;

/// The name of a cluster: 1 to 30 lower-case letters, digits and inner hyphens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

/// A text that cannot be the name of a cluster.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("cluster name {0:?}: use 1 to {LONGEST} lower-case letters, digits and inner hyphens")]
pub struct InvalidName(String);

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let hyphen_outside = text.starts_with('-') || text.ends_with('-');
        if text.is_empty() || text.len() > LONGEST || !text.bytes().all(allowed) || hyphen_outside {
            return Err(InvalidName(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why the files of clusters cannot be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// No place for them is known.
    #[error(transparent)]
    Place(#[from] CacheError),
    /// A file could not be used.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl FolderError {
    pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// The folder that holds all files of one cluster: it exists from `up` to `down`.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    name: Name,
    path: PathBuf,
}

/// Held while a command changes whether a cluster exists, so that two commands do not do it at once.
#[derive(Debug)]
pub(crate) struct CommandLock {
    _file: File,
    path: PathBuf,
}

/// The folder with all clusters of this user.
fn clusters() -> Result<PathBuf, CacheError> {
    user_folder("XDG_STATE_HOME", ".local/state", |name| std::env::var_os(name))
}

impl Folder {
    /// The folder of the cluster `name`, which need not exist.
    pub(crate) fn of(name: &Name) -> Result<Self, FolderError> {
        Ok(Self {
            name: name.clone(),
            path: clusters()?.join(&name.0),
        })
    }

    /// A folder in a given place.
    #[cfg(test)]
    pub(crate) fn in_place(name: &Name, path: PathBuf) -> Self {
        Self {
            name: name.clone(),
            path,
        }
    }

    /// The folders of all clusters of this user, by name.
    pub(crate) fn all() -> Result<Vec<Self>, FolderError> {
        let parent = clusters()?;
        let entries = match fs::read_dir(&parent) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(FolderError::at(&parent))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(FolderError::at(&parent))?;
            if entry.path().is_dir()
                && let Some(name) = entry.file_name().to_str().and_then(|text| text.parse::<Name>().ok())
            {
                names.push(name);
            }
        }
        names.sort();
        names.iter().map(Self::of).collect()
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the cgroups of this cluster from those of every other on the machine, also of other users.
    pub(crate) fn id(&self) -> String {
        let digest = format!("{:x}", Sha256::digest(self.path.as_os_str().as_encoded_bytes()));
        digest[..8].to_owned()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("state.json")
    }

    pub(crate) fn supervisor_lock(&self) -> PathBuf {
        self.path.join("supervisor.lock")
    }

    pub(crate) fn supervisor_log(&self) -> PathBuf {
        self.log("supervisor")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The log of a component; `n1/kubelet` is the kubelet of node `n1`.
    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.logs().join(format!("{}.log", component.replace('/', "-")))
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.path.join("pki")
    }

    pub(crate) fn kubeconfigs(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    /// The kubeconfig of the administrator.
    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.kubeconfigs().join("admin")
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.path.join("audit.log")
    }

    /// Where `kubectl` keeps what it learnt of this API server. Clusters share addresses, so they must not share this.
    pub(crate) fn kubectl_cache(&self) -> PathBuf {
        self.path.join("kubectl-cache")
    }

    /// The files of one node: its `/var/lib` and `/var/log`, and its settings.
    pub(crate) fn node(&self, node: &str) -> PathBuf {
        self.path.join("nodes").join(node)
    }

    /// Waits until no other command changes this cluster.
    pub(crate) fn lock(&self) -> Result<CommandLock, FolderError> {
        let parent = clusters()?;
        fs::create_dir_all(&parent).map_err(FolderError::at(&parent))?;
        let path = parent.join(format!("{}.lock", self.name));
        loop {
            let file = File::create(&path).map_err(FolderError::at(&path))?;
            let locked = match file.try_lock() {
                Ok(()) => Ok(()),
                Err(TryLockError::WouldBlock) => {
                    progress::during(&format!("waiting for another command on cluster {}", self.name), || {
                        file.lock()
                    })
                }
                Err(TryLockError::Error(error)) => Err(error),
            };
            locked.map_err(FolderError::at(&path))?;
            // The holder before us may have removed the file: then the name belongs to nobody, or to a newer file.
            let held = file.metadata().map_err(FolderError::at(&path))?;
            if fs::metadata(&path).is_ok_and(|named| named.ino() == held.ino()) {
                return Ok(CommandLock { _file: file, path });
            }
        }
    }

    /// Whether a supervisor lives: it holds a lock that the kernel releases with its death, however it dies.
    pub(crate) fn is_supervised(&self) -> Result<bool, FolderError> {
        let path = self.supervisor_lock();
        let file = match OpenOptions::new().read(true).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            file => file.map_err(FolderError::at(&path))?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(FolderError::at(&path)(error)),
        }
    }
}

impl CommandLock {
    /// Ends the lock and removes its file: the cluster is gone.
    pub(crate) fn remove(self) -> Result<(), FolderError> {
        fs::remove_file(&self.path).map_err(FolderError::at(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["dev", "a", "test-1", "123456789012345678901234567890"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "a/b",
            "..",
            "1234567890123456789012345678901",
        ] {
            assert_eq!(bad.parse::<Name>(), Err(InvalidName(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn a_component_of_a_node_has_its_own_log() {
        let folder = Folder {
            name: "dev".parse().unwrap(),
            path: PathBuf::from("/state/dev"),
        };
        assert_eq!(
            folder.log("n1/kubelet"),
            PathBuf::from("/state/dev/logs/n1-kubelet.log")
        );
        assert_eq!(folder.id().len(), 8);
    }
}
