//! The hash chain: each record names the hash of the one before it.
//!
//! Promise: [`Walk`] finds a record that was changed, removed or put in, and, with a [`Head`] from elsewhere, a chain
//! that was cut short or written anew. Not guaranteed: without such a head, whoever can write the file can rewrite all.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What the first record names as the hash before it.
pub const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The end of a chain. Kept outside the store, it makes later tampering visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// When the store was begun, in nanoseconds since 1970: tells a new store from an old one.
    pub born: i64,
    /// The number of the newest record, from 1; 0 before the first.
    pub number: i64,
    /// Its hash in hex, or [`START`].
    pub hash: String,
}

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A number is not there.
    #[error("record {0} was removed")]
    Removed(i64),
    /// The record, or the one before it, is not what it was.
    #[error("record {0} does not continue the one before it; one of the two was changed")]
    Changed(i64),
    /// The columns that searches use do not belong to the record.
    #[error("record {0} is filed under wrong keys")]
    Misfiled(i64),
    /// The newest records are not there, or the newest was changed.
    #[error("the chain ends at record {found}, and should end at {expected}")]
    CutShort {
        /// Where it ends.
        found: i64,
        /// Where it should end.
        expected: i64,
    },
    /// The record under the given head has another hash.
    #[error("record {0} has another hash than the head that was kept")]
    NotAnchored(i64),
    /// The head is of another store.
    #[error("the head that was kept is of another store, begun at {0}")]
    OtherStore(i64),
}

/// The hash of a record: of its JSON as it is stored, so with the hash before it.
#[must_use]
pub fn hash(json: &[u8]) -> String {
    hex(&Sha256::digest(json))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// Puts the hash before it in front of a record's JSON, which must be an object without `previous`.
pub(crate) fn link(previous: &str, json: &[u8]) -> Vec<u8> {
    let mut linked = Vec::with_capacity(json.len() + previous.len() + 16);
    linked.extend_from_slice(b"{\"previous\":\"");
    linked.extend_from_slice(previous.as_bytes());
    linked.push(b'"');
    // An empty object would need no comma; a record is never empty.
    linked.push(b',');
    linked.extend_from_slice(json.get(1..).unwrap_or_default());
    linked
}

/// Goes along a chain, record by record. Pure.
#[derive(Debug)]
pub struct Walk<'a> {
    at: Head,
    anchor: Option<&'a Head>,
}

impl<'a> Walk<'a> {
    /// Begins after `from`: the start of the store, or the last record that retention removed.
    ///
    /// An anchor that retention has already removed proves nothing any more, and is passed over.
    pub fn new(from: Head, anchor: Option<&'a Head>) -> Result<Self, Fault> {
        if let Some(anchor) = anchor
            && anchor.born != from.born
        {
            return Err(Fault::OtherStore(anchor.born));
        }
        let walk = Self { at: from, anchor };
        walk.check_anchor()?;
        Ok(walk)
    }

    /// Where it stands.
    pub fn at(&self) -> &Head {
        &self.at
    }

    /// Goes on to a record: its number, its JSON, and the hash that the JSON names.
    pub fn step(&mut self, number: i64, json: &[u8], previous: Option<&str>) -> Result<(), Fault> {
        if number != self.at.number + 1 {
            return Err(Fault::Removed(self.at.number + 1));
        }
        if previous != Some(self.at.hash.as_str()) {
            return Err(Fault::Changed(number));
        }
        self.at = Head {
            born: self.at.born,
            number,
            hash: hash(json),
        };
        self.check_anchor()
    }

    /// Ends, where the store says that it ends.
    pub fn finish(self, end: &Head) -> Result<Head, Fault> {
        let expected = self.anchor.map_or(end.number, |anchor| end.number.max(anchor.number));
        if self.at.number < expected || self.at != *end {
            return Err(Fault::CutShort {
                found: self.at.number,
                expected,
            });
        }
        Ok(self.at)
    }

    fn check_anchor(&self) -> Result<(), Fault> {
        match self.anchor {
            Some(anchor) if anchor.number == self.at.number && anchor.hash != self.at.hash => {
                Err(Fault::NotAnchored(anchor.number))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Head {
        Head {
            born: 1,
            number: 0,
            hash: START.to_owned(),
        }
    }

    /// Three linked records.
    fn three() -> Vec<Vec<u8>> {
        let mut previous = START.to_owned();
        let mut records = Vec::new();
        for text in [r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#] {
            let linked = link(&previous, text.as_bytes());
            previous = hash(&linked);
            records.push(linked);
        }
        records
    }

    fn walk(records: &[(i64, Vec<u8>)], end: &Head, anchor: Option<&Head>) -> Result<Head, Fault> {
        let mut walk = Walk::new(start(), anchor)?;
        for (number, json) in records {
            let value: serde_json::Value = serde_json::from_slice(json).unwrap();
            walk.step(*number, json, value["previous"].as_str())?;
        }
        walk.finish(end)
    }

    fn numbered(records: &[Vec<u8>]) -> Vec<(i64, Vec<u8>)> {
        (1..).zip(records.iter().cloned()).collect()
    }

    #[test]
    fn tampering_is_found() {
        let records = three();
        let end = Head {
            born: 1,
            number: 3,
            hash: hash(&records[2]),
        };
        let whole = numbered(&records);
        assert_eq!(walk(&whole, &end, None), Ok(end.clone()));
        assert_eq!(walk(&whole, &end, Some(&end)), Ok(end.clone()));

        let mut changed = whole.clone();
        changed[1].1 = String::from_utf8(changed[1].1.clone())
            .unwrap()
            .replace(":2", ":9")
            .into_bytes();
        assert_eq!(walk(&changed, &end, None), Err(Fault::Changed(3)));

        let removed = [whole[0].clone(), whole[2].clone()];
        assert_eq!(walk(&removed, &end, None), Err(Fault::Removed(2)));

        assert_eq!(
            walk(&whole[..2], &end, None),
            Err(Fault::CutShort { found: 2, expected: 3 })
        );
        let shorter = Head {
            born: 1,
            number: 2,
            hash: hash(&records[1]),
        };
        assert_eq!(
            walk(&whole[..2], &shorter, None),
            Ok(shorter.clone()),
            "nobody kept the head"
        );
        assert_eq!(
            walk(&whole[..2], &shorter, Some(&end)),
            Err(Fault::CutShort { found: 2, expected: 3 })
        );

        let other = Head {
            number: 2,
            hash: hash(b"else"),
            born: 1,
        };
        assert_eq!(walk(&whole, &end, Some(&other)), Err(Fault::NotAnchored(2)));
        let elsewhere = Head { born: 2, ..end.clone() };
        assert_eq!(walk(&whole, &end, Some(&elsewhere)), Err(Fault::OtherStore(2)));
    }
}
