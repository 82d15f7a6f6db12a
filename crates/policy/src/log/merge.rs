//! Pages, and how those of several replicas become one. Pure.

use serde::{Deserialize, Serialize};

use crate::log::cursor::Cursor;
use crate::log::record::Record;

/// A record and its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The record's time in nanoseconds since 1970, moved by the little that makes it unique within its store.
    pub position: i64,
    /// The decision.
    pub record: Record,
}

impl Entry {
    /// The entry's place in the order of all records.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            position: self.position,
            id: self.record.decision_id,
        }
    }
}

/// A part of an answer, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The records.
    pub entries: Vec<Entry>,
    /// Where to go on. `None` is the end. A page may hold less than was asked for and still have a cursor: then the
    /// search was long, and stopped there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
    /// Records that were found and could not be read: damaged, or of another version.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// What one replica answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The replica.
    pub replica: String,
    /// Its page, or why there is none.
    pub outcome: Result<Page, String>,
}

/// A replica that did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The replica.
    pub replica: String,
    /// Why.
    pub reason: String,
}

/// One page made of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Merged {
    /// The records, newest first, each once.
    pub entries: Vec<Entry>,
    /// Where to go on, at every replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
    /// Not everybody answered: records may be absent.
    pub partial: bool,
    /// Who did not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// Records that were found and could not be read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: u64,
}

/// Makes one page of at most `limit` records out of the answers of all replicas to the same filter.
///
/// Nothing is given that is older than the place where some replica's search stopped: that replica may have more there,
/// and it would come out of order. The next page begins at that place, everywhere.
#[must_use]
pub fn merge(answers: Vec<Answer>, limit: usize) -> Merged {
    let mut merged = Merged::default();
    let mut horizon: Option<Cursor> = None;
    for Answer { replica, outcome } in answers {
        match outcome {
            Ok(page) => {
                horizon = horizon.max(page.next);
                merged.unreadable += page.unreadable;
                merged.entries.extend(page.entries);
            }
            Err(reason) => merged.missing.push(Missing { replica, reason }),
        }
    }
    merged.partial = !merged.missing.is_empty();
    merged
        .entries
        .sort_unstable_by_key(|entry| std::cmp::Reverse(entry.cursor()));
    merged.entries.dedup_by_key(|entry| entry.cursor());
    if let Some(horizon) = horizon {
        merged.entries.retain(|entry| entry.cursor() >= horizon);
    }
    merged.next = horizon;
    if merged.entries.len() > limit {
        merged.entries.truncate(limit);
        merged.next = merged.entries.last().map(Entry::cursor).or(horizon);
    }
    merged
}
