//! The files of a bundle: which names they may have, and how many and how large they may be.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::manifest::Manifest;

/// How many bytes all files of a bundle may have together, once unpacked.
pub const MAX_UNPACKED_BYTES: usize = 16 * 1024 * 1024;
/// How many files (in an archive: entries) a bundle may have.
pub const MAX_FILES: usize = 4_000;
/// What the name field of a tar header holds, so that no bundle needs an extension header.
const MAX_NAME_BYTES: usize = 100;
/// What the prefix field of a tar header holds, less a margin.
const MAX_FOLDER_BYTES: usize = 150;

pub(super) const MANIFEST: &str = ".manifest";
pub(super) const SIGNATURES: &str = ".signatures.json";

/// Why a file cannot be part of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The path leaves the bundle, or could be read in more than one way.
    #[error("{name:?}: {why}; use a path relative to the bundle, of parts made of letters, digits, '.', '_' and '-'")]
    Name {
        /// The path as it was given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// OPA or we would ignore it, and a file that is signed but ignored hides something.
    #[error(
        "{name:?}: not a file of a bundle; it may hold *.rego, data.json and data.yaml in any folder, and \
         .manifest and .signatures.json at the top; rename or remove it"
    )]
    Unexpected {
        /// The path as it was given.
        name: String,
    },
    /// Which of the two would count is a matter of the reader, so neither does.
    #[error("{name:?}: there twice; keep one")]
    Duplicate {
        /// The path that both have.
        name: String,
    },
    /// See [`MAX_FILES`].
    #[error("{name:?}: more than {MAX_FILES} files; split the bundle by roots")]
    TooMany {
        /// The first file over the bound.
        name: String,
    },
    /// See [`MAX_UNPACKED_BYTES`].
    #[error("{name:?}: with it the bundle has more than {MAX_UNPACKED_BYTES} bytes; split it by roots")]
    TooLarge {
        /// The first file over the bound.
        name: String,
    },
    /// Rego, JSON and YAML are all UTF-8.
    #[error("{name:?}: not UTF-8 at byte {at}; save it as UTF-8")]
    NotUtf8 {
        /// The file.
        name: String,
        /// Offset of the first wrong byte.
        at: usize,
    },
}

/// What a file is, which its name alone decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `NAME.rego`
    Module,
    /// `NAME_test.rego`
    Test,
    /// `data.json`
    Json,
    /// `data.yaml`
    Yaml,
    /// `.manifest` at the top.
    Manifest,
    /// `.signatures.json` at the top.
    Signatures,
}

impl Kind {
    /// The kind of a file, or none if a bundle cannot hold a file of that name.
    pub fn of(name: &str) -> Option<Self> {
        let base = name.rsplit('/').next().unwrap_or(name);
        match base {
            _ if name == MANIFEST => Some(Self::Manifest),
            _ if name == SIGNATURES => Some(Self::Signatures),
            "data.json" => Some(Self::Json),
            "data.yaml" => Some(Self::Yaml),
            _ if base.starts_with('.') => None,
            _ => {
                let stem = base.strip_suffix(".rego")?;
                Some(if stem.ends_with("_test") {
                    Self::Test
                } else {
                    Self::Module
                })
            }
        }
    }

    /// OPA hashes these by their content, not by their bytes, so that white space and the order of keys do not count.
    pub(super) fn is_structured(self) -> bool {
        match self {
            Self::Json | Self::Yaml | Self::Manifest => true,
            Self::Module | Self::Test | Self::Signatures => false,
        }
    }
}

/// Whether tests are part of what is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tests {
    /// What clusters load: rules and data.
    #[default]
    LeaveOut,
    /// What a pipeline hands on to be tested elsewhere.
    Include,
}

/// The files of one bundle, each checked for name, size and encoding. Sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    files: BTreeMap<String, String>,
    total_bytes: usize,
}

impl Files {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file under its path in the bundle, with `/` between folders and none in front.
    pub fn add(&mut self, name: &str, content: Vec<u8>) -> Result<(), FileError> {
        check_name(name)?;
        let name = name.to_owned();
        if self.files.contains_key(&name) {
            return Err(FileError::Duplicate { name });
        }
        if self.files.len() >= MAX_FILES {
            return Err(FileError::TooMany { name });
        }
        if content.len() > MAX_UNPACKED_BYTES - self.total_bytes {
            return Err(FileError::TooLarge { name });
        }
        let content = String::from_utf8(content).map_err(|error| FileError::NotUtf8 {
            name: name.clone(),
            at: error.utf8_error().valid_up_to(),
        })?;
        self.total_bytes += content.len();
        self.files.insert(name, content);
        Ok(())
    }

    /// Puts `content` in place of the file `name`, or adds it.
    pub(super) fn replace(&mut self, name: &str, content: String) -> Result<(), FileError> {
        self.remove(name);
        self.add(name, content.into_bytes())
    }

    /// Puts this manifest in place of the one that is there. A signature over the old one no longer holds.
    pub fn set_manifest(&mut self, manifest: &Manifest) -> Result<(), FileError> {
        self.replace(MANIFEST, manifest.render())
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some(old) = self.files.remove(name) {
            self.total_bytes -= old.len();
        }
    }

    /// How many more bytes fit.
    pub(super) fn room_bytes(&self) -> usize {
        MAX_UNPACKED_BYTES - self.total_bytes
    }

    /// The content of a file.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(String::as_str)
    }

    /// Names and contents, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|(name, content)| (name.as_str(), content.as_str()))
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The same bundle for clusters. If that takes files away, a signature would no longer hold, so it goes too:
    /// leave tests out first, then sign.
    #[must_use]
    pub fn without_tests(&self) -> Self {
        let mut kept = self.clone();
        let tests: Vec<&str> = self
            .iter()
            .map(|(name, _)| name)
            .filter(|name| Kind::of(name) == Some(Kind::Test))
            .collect();
        for test in &tests {
            kept.remove(test);
        }
        if !tests.is_empty() {
            kept.remove(SIGNATURES);
        }
        kept
    }

    /// `sha256:` over names and contents, byte for byte, of all files but the signature: the same content signed
    /// anew has the same digest. Lengths go in too, so that no two bundles run together into one text.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (name, content) in self.iter().filter(|(name, _)| *name != SIGNATURES) {
            for part in [name, content] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        format!("sha256:{}", hex(&hash.finalize()))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String never fails.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Names that mean the same to every reader: no roots, no dots, nothing that needs escaping.
pub(super) fn check_name(name: &str) -> Result<(), FileError> {
    let wrong = |why| {
        Err(FileError::Name {
            name: name.chars().take(200).collect(),
            why,
        })
    };
    if name.is_empty() {
        return wrong("the name is empty");
    }
    if name.starts_with('/') {
        return wrong("the path is absolute");
    }
    for part in name.split('/') {
        match part {
            "" => return wrong("the path has an empty part"),
            "." | ".." => return wrong("the path has a part '.' or '..'"),
            _ if !part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) => {
                return wrong("the path has a character that not all tools read alike");
            }
            _ => {}
        }
    }
    let (folder, base) = name.rsplit_once('/').unwrap_or(("", name));
    if base.len() > MAX_NAME_BYTES || folder.len() > MAX_FOLDER_BYTES {
        return wrong("the name is over 100 bytes or its folder over 150");
    }
    if Kind::of(name).is_none() || folder.split('/').any(|part| part.starts_with('.')) {
        return Err(FileError::Unexpected { name: name.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
