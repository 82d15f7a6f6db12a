//! Bundles as OPA's snapshot archive: a tar.gz, read in memory and written the same for the same files.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use tar::EntryType;

use super::files::{FileError, Files, MAX_FILES, MAX_UNPACKED_BYTES};

/// What headers and padding of [`MAX_FILES`] entries add to the contents.
const MAX_TAR_BYTES: usize = MAX_UNPACKED_BYTES + 1024 * MAX_FILES + 64 * 1024;

/// Why bytes could not be read as an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Not gzip, or damaged.
    #[error("the archive is not whole gzip data; build it with `opa build` or `policy build`, or copy it again")]
    Gzip(#[source] io::Error),
    /// Unpacked, it is larger than any bundle may be. Reading stopped there.
    #[error("the archive unpacks to more than {MAX_TAR_BYTES} bytes; split the bundle by roots")]
    TooLarge,
    /// Not tar, or damaged.
    #[error("the archive is not a whole tar file; build it with `opa build` or `policy build`, or copy it again")]
    Tar(#[source] io::Error),
    /// An entry ends before the size that its header says.
    #[error("{name:?}: cut off; copy the archive again")]
    CutOff {
        /// The entry.
        name: String,
    },
    /// A symbolic or hard link.
    #[error("{name:?}: a link; a bundle holds plain files only, so put a copy there")]
    Link {
        /// The entry.
        name: String,
    },
    /// A device or pipe.
    #[error("{name:?}: a device or pipe; a bundle holds plain files only")]
    Device {
        /// The entry.
        name: String,
    },
    /// Extension headers, which tar programs read in different ways, sparse files, volumes.
    #[error("{name:?}: an entry of tar type {kind:?}; pack with `opa build`, `policy build` or `tar --format=ustar`")]
    Extension {
        /// The entry.
        name: String,
        /// The type byte.
        kind: char,
    },
    /// Bytes after the end mark, which some programs read and some do not.
    #[error("the archive has data after its end; build it anew")]
    Trailing,
    /// More entries, folders included, than [`MAX_FILES`].
    #[error("{name:?}: more than {MAX_FILES} entries; split the bundle by roots")]
    TooMany {
        /// The first entry over the bound.
        name: String,
    },
    /// The entry was read, but cannot be part of a bundle.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Reads an archive. Nothing is unpacked to disk, and never more than the bound into memory.
///
/// One `/` or `./` in front of a name is dropped: OPA writes the one, tar the other.
pub fn read(bytes: &[u8]) -> Result<Files, ArchiveError> {
    let unpacked = unpack(bytes)?;
    let mut files = Files::new();
    let mut archive = tar::Archive::new(unpacked.as_slice());
    // Raw, so that extension headers come out as entries of their own, to be refused, instead of changing the next.
    for (index, entry) in archive.entries().map_err(ArchiveError::Tar)?.raw(true).enumerate() {
        let mut entry = entry.map_err(ArchiveError::Tar)?;
        let path = entry.path_bytes().into_owned();
        let name = String::from_utf8_lossy(&path).into_owned();
        if index >= MAX_FILES {
            return Err(ArchiveError::TooMany { name });
        }
        if !is_file(entry.header().entry_type(), &name)? {
            continue;
        }
        let size_bytes = entry.size();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(ArchiveError::Tar)?;
        if content.len() as u64 != size_bytes {
            return Err(ArchiveError::CutOff { name });
        }
        files.add(normal(&name), content)?;
    }
    if archive.into_inner().iter().any(|byte| *byte != 0) {
        return Err(ArchiveError::Trailing);
    }
    Ok(files)
}

/// Whether the entry is a file (true) or a folder (false); anything else is refused.
fn is_file(kind: EntryType, name: &str) -> Result<bool, ArchiveError> {
    let name = name.to_owned();
    match kind {
        EntryType::Regular => Ok(true),
        EntryType::Directory => Ok(false),
        EntryType::Symlink | EntryType::Link => Err(ArchiveError::Link { name }),
        EntryType::Char | EntryType::Block | EntryType::Fifo => Err(ArchiveError::Device { name }),
        // Not an enum of ours: whatever tar may know one day is refused too.
        other => Err(ArchiveError::Extension {
            name,
            kind: char::from(other.as_byte()),
        }),
    }
}

fn normal(name: &str) -> &str {
    name.strip_prefix("./")
        .or_else(|| name.strip_prefix('/'))
        .unwrap_or(name)
}

/// Reads to the end, so that the checksum of the whole counts, but at most one byte more than allowed.
fn unpack(packed: impl BufRead) -> Result<Vec<u8>, ArchiveError> {
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(packed)
        .take(MAX_TAR_BYTES as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(ArchiveError::Gzip)?;
    if unpacked.len() > MAX_TAR_BYTES {
        Err(ArchiveError::TooLarge)
    } else {
        Ok(unpacked)
    }
}

/// The archive of these files: the same bytes for the same files, whoever builds it, wherever and whenever.
pub fn write(files: &Files) -> Vec<u8> {
    let packed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    let mut archive = tar::Builder::new(packed);
    for (name, content) in files.iter() {
        let mut header = tar::Header::new_ustar();
        header
            .set_path(name)
            .expect("names are checked to fit a header when they are added");
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive
            .append(&header, content.as_bytes())
            .expect("writing to memory does not fail");
    }
    archive
        .into_inner()
        .and_then(flate2::write::GzEncoder::finish)
        .expect("writing to memory does not fail")
}

#[cfg(test)]
mod tests;
