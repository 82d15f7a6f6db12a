//! Where a page ended.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A place in the order of all records: by position (the time, made unique within a store), then by id.
///
/// A page that is asked for with a cursor holds only what is older. Records that are added later are newer than any
/// cursor, or lie where they belong, so paging neither repeats nor skips one that was there from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    /// Nanoseconds since 1970.
    pub position: i64,
    /// The decision.
    pub id: Uuid,
}

/// A text that is no cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no cursor; pass the one of the page before, unchanged")]
pub struct CursorError(String);

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.position, self.id)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let parse = |text: &str| {
            let (position, id) = text.split_once('.')?;
            Some(Self {
                position: position.parse().ok()?,
                id: id.parse().ok()?,
            })
        };
        // A wrong cursor is quoted in the answer, so a long one is cut.
        parse(text).ok_or_else(|| CursorError(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Cursor {
    type Error = CursorError;

    fn try_from(text: String) -> Result<Self, CursorError> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let cursor = Cursor {
            position: 1_700_000_000_000_000_001,
            id: Uuid::from_u128(7),
        };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in [
            "",
            ".",
            "1",
            "1.x",
            "x.00000000-0000-0000-0000-000000000000",
            "99999999999999999999.0",
        ] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
