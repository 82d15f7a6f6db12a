//! Removes the oldest records, a few at a time.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::StoreError;
use super::body::Body;
use crate::log::chain::hash;

/// Records in one go: a commit that does not keep new records waiting for long.
const CHUNK_RECORDS: i64 = 512;

/// Free pages that are left in the file for the next records; more go back to the file system.
const SPARE_PAGES: i64 = 256;

/// Pages that are given back in one go.
const VACUUM_PAGES: i64 = 512;

/// What may go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    /// Records before this time, in nanoseconds since 1970.
    pub(crate) before: Option<i64>,
    /// Records beyond this size of the file's used part.
    pub(crate) max_bytes: Option<u64>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    pub(crate) records: u64,
    /// Bytes in use afterwards.
    pub(crate) used_bytes: u64,
    /// There is more to do.
    pub(crate) more: bool,
}

/// Removes one chunk of what may go, and gives some space back.
///
/// Records go in the order of the chain, and the hash of the last one that went is kept: so a removal by retention can
/// be told from any other.
pub(crate) fn prune(connection: &mut Connection, bounds: Bounds) -> Result<Pruned, StoreError> {
    let used_bytes = used_bytes(connection)?;
    let over_bytes = bounds.max_bytes.is_some_and(|max| used_bytes > max);
    let Some(last) = last_to_go(connection, bounds.before, over_bytes)? else {
        let more = vacuum(connection)?;
        return Ok(Pruned {
            records: 0,
            used_bytes,
            more,
        });
    };
    let records = remove_through(connection, last)?;
    vacuum(connection)?;
    Ok(Pruned {
        records,
        used_bytes: self::used_bytes(connection)?,
        more: true,
    })
}

/// The number of the last record of the chunk, if there is something to remove.
fn last_to_go(connection: &Connection, before: Option<i64>, over_bytes: bool) -> Result<Option<i64>, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT number, at FROM decision ORDER BY number LIMIT ?1")?;
    let mut rows = statement.query([CHUNK_RECORDS])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let at: i64 = row.get(1)?;
        if !over_bytes && before.is_none_or(|before| at >= before) {
            break;
        }
        last = Some(row.get(0)?);
    }
    Ok(last)
}

fn remove_through(connection: &mut Connection, last: i64) -> Result<u64, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let json = transaction
        .query_row("SELECT body FROM decision WHERE number = ?1", [last], |row| {
            Ok(Body::unpack(row.get_ref(0)?))
        })
        .optional()?;
    let Some(json) = json else { return Ok(0) };
    // An unreadable record must not stay for ever; that it was changed shows in the chain all the same.
    let json = json.unwrap_or_default();
    transaction
        .prepare_cached("UPDATE chain SET first_number = ?1, first_hash = ?2")?
        .execute((last, hash(&json)))?;
    transaction
        .prepare_cached("DELETE FROM tag WHERE number <= ?1")?
        .execute([last])?;
    let records = transaction
        .prepare_cached("DELETE FROM decision WHERE number <= ?1")?
        .execute([last])?;
    transaction.commit()?;
    Ok(u64::try_from(records).unwrap_or(0))
}

/// Bytes of the file that hold something.
pub(crate) fn used_bytes(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let used = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
    Ok(u64::try_from(used).unwrap_or(0))
}

/// Gives free pages back. Whether there are more.
fn vacuum(connection: &Connection) -> Result<bool, rusqlite::Error> {
    let free: i64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    let surplus = free - SPARE_PAGES;
    if surplus <= 0 {
        return Ok(false);
    }
    // The pragma works only while it is stepped, one page for each row.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({})", surplus.min(VACUUM_PAGES)))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(surplus > VACUUM_PAGES)
}
