//! What is built or downloaded once and kept: one folder for each tool, version and content of its inputs.
//!
//! Promise: a folder that [`Cache::get`] returns is complete. It is made beside its place and renamed into it, under a
//! file lock that the kernel releases when its holder dies, so neither an interrupted nor a simultaneous run harms it.
//! Not guaranteed: that nobody changes it afterwards. Remove the folder to have it made again.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::progress;

/// Why the cache cannot be used.
#[derive(Debug, Error)]
pub enum CacheError {
    /// Neither of the variables that say where the user's files are is set.
    #[error("neither {variable} nor HOME is set, so there is no place for files that are kept")]
    NoHome {
        /// The variable that could be set instead of `HOME`.
        variable: &'static str,
    },
    /// A file or folder could not be made or moved.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl CacheError {
    fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// The folder of the user (not of the machine) that keeps what was made.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// Names one thing in the cache: the same key always means the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    /// `inputs` are all that the result depends on besides `version`: pins, sources, flags, recipes.
    pub(crate) fn new(tool: &str, version: &str, inputs: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for input in inputs {
            // The length keeps ("ab", "c") and ("a", "bc") apart.
            hash.update((input.len() as u64).to_le_bytes());
            hash.update(input);
        }
        let digest = format!("{:x}", hash.finalize());
        Self(format!("{tool}-{version}-{}", &digest[..12]))
    }
}

/// The folder for our files under a base directory of the user, by the rules of the XDG base directory specification.
pub(crate) fn user_folder(
    variable: &'static str,
    below_home: &str,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, CacheError> {
    // The specification says that a relative path is to be ignored.
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute(env(variable)).or_else(|| absolute(env("HOME")).map(|home| home.join(below_home)));
    Ok(base
        .ok_or(CacheError::NoHome { variable })?
        .join("database-operator/devcluster"))
}

impl Cache {
    /// The cache of the user who runs this process.
    pub(crate) fn of_user() -> Result<Self, CacheError> {
        Ok(Self::at(user_folder("XDG_CACHE_HOME", ".cache", |name| {
            std::env::var_os(name)
        })?))
    }

    /// A cache in a given folder, which need not exist.
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where everything is kept.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The finished folder of `key`; `make` fills an empty one first if there is none. `what` is said while that lasts.
    pub(crate) fn get<E: From<CacheError>>(
        &self,
        key: &Key,
        what: &str,
        make: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let place = self.root.join(&key.0);
        if place.is_dir() {
            return Ok(place);
        }
        fs::create_dir_all(&self.root).map_err(CacheError::at(&self.root))?;
        let lock_path = self.root.join(format!("{}.lock", key.0));
        let lock = File::create(&lock_path).map_err(CacheError::at(&lock_path))?;
        wait_for(&lock, &format!("waiting for another process: {what}")).map_err(CacheError::at(&lock_path))?;
        if place.is_dir() {
            return Ok(place); // made by the process that was waited for
        }
        let scratch = self.root.join(format!(".making-{}", key.0));
        remove_folder(&scratch)?; // left by a run that was interrupted: the lock says that nobody uses it
        fs::create_dir(&scratch).map_err(CacheError::at(&scratch))?;
        if let Err(error) = progress::during(what, || make(&scratch)) {
            remove_folder(&scratch)?;
            return Err(error);
        }
        fs::rename(&scratch, &place).map_err(CacheError::at(&place))?;
        // Whoever waits on the unlinked file gets the lock, then finds the folder.
        fs::remove_file(&lock_path).map_err(CacheError::at(&lock_path))?;
        Ok(place)
    }
}

fn wait_for(lock: &File, what: &str) -> Result<(), std::io::Error> {
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => progress::during(what, || lock.lock()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn remove_folder(path: &Path) -> Result<(), CacheError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(CacheError::at(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_key_depends_on_every_input_and_on_where_one_ends() {
        let keys = [
            Key::new("etcd", "1.0", &["ab", "c"]),
            Key::new("etcd", "1.0", &["a", "bc"]),
            Key::new("etcd", "1.0", &["abc"]),
            Key::new("etcd", "1.1", &["ab", "c"]),
        ];
        for (i, left) in keys.iter().enumerate() {
            assert!(left.0.starts_with("etcd-1."), "{left:?}");
            assert!(keys.iter().skip(i + 1).all(|right| left != right), "{left:?} twice");
        }
        assert_eq!(keys[0], Key::new("etcd", "1.0", &["ab", "c"]));
    }

    #[test]
    fn the_folder_follows_the_variable_then_home() {
        let find = |set: &'static [(&str, &str)]| {
            let env = move |name: &str| {
                set.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| OsString::from(value))
            };
            user_folder("XDG_CACHE_HOME", ".cache", env).ok()
        };
        for (case, set, expected) in [
            (
                "the variable first",
                &[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")][..],
                Some("/c/database-operator/devcluster"),
            ),
            (
                "a relative one is ignored",
                &[("XDG_CACHE_HOME", "c"), ("HOME", "/h")],
                Some("/h/.cache/database-operator/devcluster"),
            ),
            (
                "then home",
                &[("HOME", "/h")],
                Some("/h/.cache/database-operator/devcluster"),
            ),
            ("nothing set", &[], None),
        ] {
            assert_eq!(find(set), expected.map(PathBuf::from), "{case}");
        }
    }

    #[test]
    fn a_thing_is_made_once_however_many_want_it() {
        let folder = tempfile::tempdir().unwrap();
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let cache = Cache::at(folder.path().to_owned());
                    let place = cache.get(&Key::new("tool", "1", &[]), "making", |scratch| {
                        made.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(50));
                        fs::write(scratch.join("file"), "content").map_err(CacheError::at(scratch))
                    });
                    assert_eq!(fs::read_to_string(place.unwrap().join("file")).unwrap(), "content");
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failure_leaves_nothing_and_the_next_run_tries_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        let key = Key::new("tool", "1", &[]);
        let failed = cache.get(&key, "making", |scratch| {
            fs::write(scratch.join("half"), "").map_err(CacheError::at(scratch))?;
            Err(CacheError::NoHome { variable: "ANY" })
        });
        assert!(failed.is_err());
        assert!(!folder.path().join(".making-tool-1-e3b0c44298fc").exists());
        let place = cache.get(&key, "making", |_| Ok::<(), CacheError>(())).unwrap();
        assert_eq!(fs::read_dir(place).unwrap().count(), 0, "nothing of the failed attempt");
    }
}
