//! A page of what somebody may see, made of as many looks into the store as it takes, up to a bound.
//!
//! Whatever stops a page early (its size, its time, namespaces that are not known yet), its cursor is the place up to which
//! every record was either given or is not for the caller. So the pages together leave nothing out and repeat nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::log::{Cursor, Entry, Filter, Page};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use uuid::Uuid;

use super::Refusal;
use super::access::Caller;
use crate::reviews::Pending;

/// What one request may cost. The page then ends, with a cursor.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Records that are read at a time, if those are not enough that are asked for: most may not be for the caller.
    pub chunk: usize,
    /// Bytes of records in a page, give or take one of the store.
    pub bytes: usize,
    /// Namespaces that are reviewed.
    pub reviews: usize,
    /// After this no further chunk is read.
    pub time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            chunk: 128,
            bytes: 4 << 20,
            reviews: 32,
            time: Duration::from_secs(3),
        }
    }
}

/// A record that was found, as it is sent.
#[derive(Debug)]
pub(super) struct Found {
    cursor: Cursor,
    namespace: Option<String>,
    json: Box<RawValue>,
}

/// What one look into the store gives.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    found: Vec<Found>,
    next: Option<Cursor>,
    unreadable: u64,
}

impl Chunk {
    /// Writes records as JSON, which takes a while for many of them: not for an asynchronous thread.
    pub(super) fn of(page: Page) -> Result<Self, serde_json::Error> {
        let found = page.entries.into_iter().map(|entry: Entry| {
            Ok(Found {
                cursor: entry.cursor(),
                json: serde_json::value::to_raw_value(&entry)?,
                namespace: entry.record.resource.namespace,
            })
        });
        Ok(Self {
            found: found.collect::<Result<_, serde_json::Error>>()?,
            next: page.next,
            unreadable: page.unreadable,
        })
    }
}

/// Where records are.
pub(super) trait Store: Sync {
    /// One look: the newest that the filter lets through, up to its limit.
    fn look(&self, filter: Filter) -> Pending<'_, Result<Chunk, Refusal>>;
}

/// What is answered: a [`Page`], and whether there may be more than the caller sees.
#[derive(Debug, Default, Serialize)]
pub(super) struct Answer {
    pub(super) entries: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<Cursor>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) unreadable: u64,
    /// Only namespaces were looked at that the caller may see.
    pub(super) restricted: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// What the caller sees.
pub(super) enum View<'a> {
    /// Everything that the filter lets through.
    All,
    /// What is in namespaces that they may see.
    Some(&'a Caller<'a>),
}

/// Gathers a page.
pub(super) async fn gather(
    mut filter: Filter,
    view: View<'_>,
    bounds: Bounds,
    store: &impl Store,
) -> Result<Answer, Refusal> {
    let (wanted, begun) = (filter.effective_limit(), Instant::now());
    let mut answer = Answer {
        restricted: matches!(view, View::Some(_)),
        ..Answer::default()
    };
    let (mut bytes, mut reviews) = (0, bounds.reviews.max(1));
    loop {
        filter.limit = match view {
            View::All => wanted,
            View::Some(_) => wanted.max(bounds.chunk),
        };
        let chunk = store.look(filter.clone()).await?;
        answer.unreadable += chunk.unreadable;
        let may = match view {
            View::All => None,
            View::Some(caller) => Some(visible(&chunk, caller, &mut reviews).await?),
        };
        let mut left = chunk.found.len();
        for found in chunk.found {
            match seen(may.as_ref(), found.namespace.as_deref()) {
                Some(true) => {
                    bytes += found.json.get().len();
                    answer.entries.push(found.json);
                    filter.cursor = Some(found.cursor);
                }
                // The time is told and the id is not.
                Some(false) => {
                    filter.cursor = Some(Cursor {
                        id: Uuid::nil(),
                        ..found.cursor
                    });
                }
                None => {
                    answer.next = filter.cursor;
                    return Ok(answer);
                }
            }
            left -= 1;
            if answer.entries.len() == wanted && left > 0 {
                answer.next = filter.cursor;
                return Ok(answer);
            }
        }
        let is_full = answer.entries.len() == wanted || bytes >= bounds.bytes || begun.elapsed() >= bounds.time;
        if chunk.next.is_none() || is_full {
            answer.next = chunk.next;
            return Ok(answer);
        }
        filter.cursor = chunk.next;
    }
}

/// Whether a record is for the caller; `None` if that is not known.
fn seen(may: Option<&BTreeMap<String, bool>>, namespace: Option<&str>) -> Option<bool> {
    match (may, namespace) {
        (None, _) => Some(true),
        (Some(_), None) => Some(false),
        (Some(may), Some(namespace)) => may.get(namespace).copied(),
    }
}

/// What the caller may see of the namespaces in a chunk. Those that come first are found out first, as long as reviews are
/// left.
async fn visible(chunk: &Chunk, caller: &Caller<'_>, reviews: &mut usize) -> Result<BTreeMap<String, bool>, Refusal> {
    let namespaces = || chunk.found.iter().filter_map(|found| found.namespace.as_deref());
    let mut may = caller.known(namespaces());
    let mut unknown = BTreeSet::new();
    for namespace in namespaces().filter(|namespace| !may.contains_key(*namespace)) {
        if unknown.len() == *reviews {
            break;
        }
        unknown.insert(namespace.to_owned());
    }
    *reviews -= unknown.len();
    may.extend(caller.find_out(unknown).await?);
    Ok(may)
}

#[cfg(test)]
mod tests;
