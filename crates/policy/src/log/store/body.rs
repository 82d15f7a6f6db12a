//! A record's JSON as it lies in the file: text, or, if it is long, compressed.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::StoreError;

/// A compressed body may not unpack to more than this: the file could have been tampered with.
const MAX_BYTES: u64 = 64 << 20;

/// What is written. The type of the column tells the two apart, and short ones stay readable with any tool.
pub(crate) enum Body {
    Text(Vec<u8>),
    Deflate(Vec<u8>),
}

impl Body {
    pub(crate) fn pack(json: Vec<u8>, compress_above_bytes: usize) -> Result<Self, StoreError> {
        if json.len() <= compress_above_bytes {
            return Ok(Self::Text(json));
        }
        let mut encoder = DeflateEncoder::new(Vec::with_capacity(json.len() / 4), Compression::fast());
        encoder
            .write_all(&json)
            .and_then(|()| encoder.finish())
            .map(Self::Deflate)
            .map_err(|_| StoreError::Body(json.len()))
    }

    pub(crate) fn sql(&self) -> ToSqlOutput<'_> {
        ToSqlOutput::Borrowed(match self {
            Self::Text(json) => ValueRef::Text(json),
            Self::Deflate(packed) => ValueRef::Blob(packed),
        })
    }

    /// The JSON again.
    pub(crate) fn unpack(value: ValueRef<'_>) -> Result<Vec<u8>, StoreError> {
        match value {
            ValueRef::Text(json) => Ok(json.to_vec()),
            ValueRef::Blob(packed) => {
                let mut json = Vec::with_capacity(packed.len() * 4);
                DeflateDecoder::new(packed)
                    .take(MAX_BYTES)
                    .read_to_end(&mut json)
                    .map_err(|_| StoreError::Body(packed.len()))?;
                Ok(json)
            }
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => Err(StoreError::Body(0)),
        }
    }
}
