//! The file. `schema.rs` opens it, `append.rs` adds records, `prune.rs` removes the oldest, `writer.rs` is the thread
//! that does these; `plan.rs` and `reader.rs` find records, on connections of their own.

pub(crate) mod append;
pub(crate) mod body;
pub(crate) mod plan;
pub(crate) mod prune;
pub(crate) mod reader;
pub(crate) mod schema;
pub(crate) mod writer;

use std::path::PathBuf;

use rusqlite::ErrorCode;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the database refused")]
    Database(#[from] rusqlite::Error),
    #[error("{path} holds something else than a decision log of this version: {found}")]
    Foreign { path: PathBuf, found: String },
    #[error("record of {0} bytes could not be compressed or unpacked")]
    Body(usize),
}

/// What is to be done after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The file cannot be used any more: begin a new one.
    Unusable,
    /// The surroundings fail (disk, folder, lock, memory): the same will work later.
    Later,
    /// Just this does not work, and never will.
    Never,
}

impl StoreError {
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Database(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Class::Unusable,
                Some(
                    ErrorCode::TooBig
                    | ErrorCode::ConstraintViolation
                    | ErrorCode::TypeMismatch
                    | ErrorCode::ParameterOutOfRange,
                ) => Class::Never,
                // Unknown ones too: giving up records because of a passing fault would be worse than waiting.
                _ => Class::Later,
            },
            Self::Foreign { .. } => Class::Unusable,
            Self::Body(_) => Class::Never,
        }
    }
}
