//! Adds records.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::StoreError;
use super::body::Body;
use super::schema::ends;
use crate::log::chain::{Head, hash, link};
use crate::log::keys::Keys;

/// A record on its way into the store.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Nanoseconds since 1970.
    pub(crate) time: i64,
    /// Any number that differs between records: where to look for a free place.
    pub(crate) salt: u64,
    pub(crate) keys: Keys,
    /// The JSON, without the hash of the record before it.
    pub(crate) json: Vec<u8>,
}

/// Adds all of them, or none.
pub(crate) fn append(
    connection: &mut Connection,
    items: &[Item],
    compress_above_bytes: usize,
) -> Result<(), StoreError> {
    // Immediate: what is read below stays true, even if another process writes to the same file.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut head = ends(&transaction)?.last;
    let mut newest = transaction.query_row("SELECT max(at) FROM decision", [], |row| row.get::<_, Option<i64>>(0))?;
    for item in items {
        let at = free_place(&transaction, item, newest)?;
        newest = newest.max(Some(at));
        head = insert(&transaction, item, at, &head, compress_above_bytes)?;
    }
    transaction
        .prepare_cached("UPDATE chain SET last_number = ?1, last_hash = ?2")?
        .execute((head.number, &head.hash))?;
    transaction.commit()?;
    Ok(())
}

fn insert(
    transaction: &Transaction<'_>,
    item: &Item,
    at: i64,
    head: &Head,
    compress_above_bytes: usize,
) -> Result<Head, StoreError> {
    let json = link(&head.hash, &item.json);
    let next = Head {
        born: head.born,
        number: head.number + 1,
        hash: hash(&json),
    };
    let body = Body::pack(json, compress_above_bytes)?;
    let keys = &item.keys;
    transaction
        .prepare_cached("INSERT INTO decision VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute((
            next.number,
            at,
            keys.signature,
            keys.class(),
            keys.user,
            keys.namespace,
            keys.name,
            body.sql(),
        ))?;
    let mut tag = transaction.prepare_cached("INSERT INTO tag VALUES (?1, ?2, ?3, ?4)")?;
    for key in &keys.tags {
        tag.execute((key, at, keys.signature, next.number))?;
    }
    Ok(next)
}

/// The record's time, or a free nanosecond soon after it: many records of the same time spread over a window that grows
/// with each try. The tries differ even for equal records, so one of them succeeds.
fn free_place(transaction: &Transaction<'_>, item: &Item, newest: Option<i64>) -> Result<i64, StoreError> {
    const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut window: u64 = 1;
    let mut salt = item.salt;
    loop {
        let offset = i64::try_from(salt % window).unwrap_or(0);
        let at = item.time.saturating_add(offset);
        if newest.is_none_or(|newest| at > newest) {
            return Ok(at);
        }
        let taken = transaction
            .prepare_cached("SELECT 1 FROM decision INDEXED BY by_time WHERE at = ?1")?
            .query_row([at], |_| Ok(()))
            .optional()?;
        if taken.is_none() {
            return Ok(at);
        }
        salt = (salt ^ salt >> 31).wrapping_add(STRIDE);
        // At the end of its growth the window is days long; there is always room.
        window = (window * 4).min(1 << 50);
    }
}
