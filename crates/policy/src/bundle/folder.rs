//! Bundles from a folder: a checkout, or a volume that Kubernetes mounts.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::files::{FileError, Files, MANIFEST, MAX_FILES, SIGNATURES, check_name};

/// How many folders deep a bundle may be; ends loops of links.
const MAX_DEPTH: usize = 16;

/// Why a folder could not be read as a bundle.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file or folder could not be read.
    #[error("{path}: cannot be read; check that it exists and who may read it")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A link out of the folder would make part of the policy change without the bundle changing.
    #[error("{path}: links to {target}, which is outside of the bundle; put a copy there instead")]
    LinkLeaves {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A pipe, socket or device.
    #[error("{path}: neither file nor folder; remove it")]
    NotAFile {
        /// Where.
        path: PathBuf,
    },
    /// Deeper than any bundle, or a loop of links.
    #[error("{path}: more than {MAX_DEPTH} folders deep; a link may lead in a circle")]
    TooDeep {
        /// The folder.
        path: PathBuf,
    },
    /// A name that no path of a bundle can have.
    #[error("{path}: the name is not UTF-8; rename it")]
    NameNotUtf8 {
        /// Where.
        path: PathBuf,
    },
    /// OPA would load it.
    #[error("{path}: rules and data are not read from hidden files and from `cases`; move or remove it")]
    Overlooked {
        /// Where.
        path: PathBuf,
    },
    /// The file was read, but cannot be part of a bundle.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Reads all files of a bundle below `root`.
///
/// Ignored are README.md, the folder `cases` at the top (inputs of tests), and all hidden names except `.manifest` and
/// `.signatures.json` at the top: mounted ConfigMaps have hidden folders of their own. But a hidden file with rules, and
/// rules or data in `cases`, are refused: whoever wrote them would think that they hold. Links are followed
/// as long as they stay below `root`. Whoever can write to the folder while it is read can race this check, but
/// could as well write the files; what a signature covers is checked on what was read.
pub fn read(root: &Path) -> Result<Files, FolderError> {
    let real_root = real(root)?;
    let mut walk = Walk {
        root: real_root.clone(),
        files: Files::new(),
    };
    walk.folder(&real_root, "", 0)?;
    Ok(walk.files)
}

struct Walk {
    root: PathBuf,
    files: Files,
}

impl Walk {
    /// `prefix` is the folder's path in the bundle, empty or ending in `/`.
    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), FolderError> {
        if depth > MAX_DEPTH {
            return Err(FolderError::TooDeep {
                path: folder.to_owned(),
            });
        }
        for base in names(folder)? {
            let name = format!("{prefix}{base}");
            let path = folder.join(&base);
            if is_ignored(&name, &base) {
                if is_overlooked(&path, &base) {
                    return Err(FolderError::Overlooked { path });
                }
                continue;
            }
            let target = real(&path)?;
            if !target.starts_with(&self.root) {
                return Err(FolderError::LinkLeaves { path, target });
            }
            let about = fs::metadata(&target).map_err(|source| FolderError::Io {
                path: path.clone(),
                source,
            })?;
            if about.is_dir() {
                if name == "cases" {
                    no_policies(&target, 0)?;
                } else {
                    self.folder(&target, &format!("{name}/"), depth + 1)?;
                }
            } else if about.is_file() {
                check_name(&name)?;
                let content = self.content(&target, &name)?;
                self.files.add(&name, content)?;
            } else {
                return Err(FolderError::NotAFile { path });
            }
        }
        Ok(())
    }

    /// Reads one byte more than fits, not the whole of a file that is too large.
    fn content(&self, path: &Path, name: &str) -> Result<Vec<u8>, FolderError> {
        let room = self.files.room_bytes();
        let mut content = Vec::new();
        fs::File::open(path)
            .and_then(|file| file.take(room as u64 + 1).read_to_end(&mut content))
            .map_err(|source| FolderError::Io {
                path: path.to_owned(),
                source,
            })?;
        if content.len() > room {
            return Err(FileError::TooLarge { name: name.to_owned() }.into());
        }
        Ok(content)
    }
}

fn is_ignored(name: &str, base: &str) -> bool {
    base == "README.md" || (base.starts_with('.') && name != MANIFEST && name != SIGNATURES)
}

/// Whether a name that is ignored is a file that a reader of bundles loads. Editors lock files by names with `.#`.
fn is_overlooked(path: &Path, base: &str) -> bool {
    let is_policy = is_rules(base) || [".data.json", ".data.yaml"].contains(&base);
    is_policy && !base.starts_with(".#") && path.is_file()
}

fn is_rules(base: &str) -> bool {
    Path::new(base).extension().is_some_and(|extension| extension == "rego")
}

/// Refuses rules and data anywhere in a folder of cases.
fn no_policies(folder: &Path, depth: usize) -> Result<(), FolderError> {
    if depth > MAX_DEPTH {
        return Err(FolderError::TooDeep {
            path: folder.to_owned(),
        });
    }
    for base in names(folder)? {
        let path = folder.join(&base);
        if path.is_dir() {
            no_policies(&path, depth + 1)?;
        } else if is_rules(&base) || ["data.json", "data.yaml"].contains(&base.as_str()) {
            return Err(FolderError::Overlooked { path });
        }
    }
    Ok(())
}

fn real(path: &Path) -> Result<PathBuf, FolderError> {
    fs::canonicalize(path).map_err(|source| FolderError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Sorted, so that the first fault reported is the same everywhere. Bounded, since ignored names count for nothing else.
fn names(folder: &Path) -> Result<Vec<String>, FolderError> {
    let failed = |source| FolderError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| FolderError::NameNotUtf8 { path: entry.path() })?;
        if names.len() >= 2 * MAX_FILES {
            return Err(FileError::TooMany { name }.into());
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests;
