//! Opens the file, or makes it.
//!
//! | what | why |
//! | --- | --- |
//! | `decision.number` | the place in the hash chain; the table only grows at its end and shrinks at its beginning |
//! | `decision.at` | the time in nanoseconds, moved by the little that makes it unique: the order of every answer |
//! | `decision.signature` | class and parts of the keys; in every index, so that most candidates are refused unread |
//! | `tag` | rules and bundles, of which a record has several |
//! | `chain` | one row: where the chain begins and ends now |

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;
use crate::log::chain::{Head, START};
use crate::log::options::{Durability, Options};

/// "dlog": other SQLite files are not taken for ours.
const APPLICATION_ID: i64 = 0x646c_6f67;

/// A file of another version is moved aside, not converted: the log is a record of days, not of years.
const VERSION: i64 = 1;

/// How long a connection waits for another one that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Pages in the write-ahead log before they are copied into the file: 64 MiB. A page that changes often is copied once.
const CHECKPOINT_PAGES: u32 = 16_384;

const PAGE_BYTES: u64 = 4096;

const TABLES: &str = "
CREATE TABLE decision (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    signature INTEGER NOT NULL,
    class INTEGER NOT NULL,
    user INTEGER,
    namespace INTEGER,
    name INTEGER,
    body ANY NOT NULL
) STRICT;
CREATE INDEX by_time ON decision (at, signature);
CREATE INDEX by_class ON decision (class, at, signature);
CREATE INDEX by_user ON decision (user, at, signature) WHERE user IS NOT NULL;
CREATE INDEX by_namespace ON decision (namespace, at, signature) WHERE namespace IS NOT NULL;
CREATE INDEX by_name ON decision (name, at, signature) WHERE name IS NOT NULL;
CREATE TABLE tag (
    tag INTEGER NOT NULL,
    at INTEGER NOT NULL,
    signature INTEGER NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (tag, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_by_number ON tag (number);
CREATE TABLE chain (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    born INTEGER NOT NULL,
    first_number INTEGER NOT NULL,
    first_hash TEXT NOT NULL,
    last_number INTEGER NOT NULL,
    last_hash TEXT NOT NULL
) STRICT;
";

/// The two ends of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The last record that retention removed, or the start.
    pub(crate) before_first: Head,
    /// The newest record.
    pub(crate) last: Head,
}

/// Opens the file for writing; makes it if it is not there. `now` is when a new store is born.
pub(crate) fn open(options: &Options, now: i64) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&options.path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let is_new = count_of(&connection, "SELECT count(*) FROM sqlite_schema")? == 0;
    if is_new {
        // Only before the first table: later it would need the whole file to be written anew.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
    }
    configure(&connection, options)?;
    if is_new {
        create(&mut connection, now)?;
    }
    check(&connection, &options.path)?;
    Ok(connection)
}

fn configure(connection: &Connection, options: &Options) -> Result<(), StoreError> {
    // NORMAL keeps every commit over the death of the process; FULL also over a loss of power.
    let synchronous = match options.durability {
        Durability::Process => "NORMAL",
        Durability::Power => "FULL",
    };
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = {synchronous};
         PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};
         PRAGMA journal_size_limit = {};
         PRAGMA cache_size = -{};
         PRAGMA temp_store = MEMORY;",
        u64::from(CHECKPOINT_PAGES) * PAGE_BYTES,
        (options.cache_bytes / 1024).max(1),
    ))?;
    if let Some(bytes) = options.hard_limit_bytes {
        connection.execute_batch(&format!("PRAGMA max_page_count = {}", (bytes / PAGE_BYTES).max(1)))?;
    }
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn create(connection: &mut Connection, now: i64) -> Result<(), StoreError> {
    // One transaction: whoever opens the file after a crash finds nothing, or everything.
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute("INSERT INTO chain VALUES (1, ?1, 0, ?2, 0, ?2)", (now, START))?;
    transaction.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
    ))?;
    transaction.commit()?;
    Ok(())
}

/// Whether it is ours, and its end fits together. The whole file is not read: that would take too long.
fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let foreign = |found: String| StoreError::Foreign {
        path: path.to_owned(),
        found,
    };
    let application = count_of(connection, "PRAGMA application_id")?;
    let version = count_of(connection, "PRAGMA user_version")?;
    if (application, version) != (APPLICATION_ID, VERSION) {
        return Err(foreign(format!("application {application:#x}, version {version}")));
    }
    let ends = ends(connection)?;
    let newest = count_of(connection, "SELECT coalesce(max(number), 0) FROM decision")?;
    if newest != ends.last.number && newest != 0 {
        return Err(foreign(format!(
            "newest record {newest}, end of the chain {}",
            ends.last.number
        )));
    }
    Ok(())
}

fn count_of(connection: &Connection, sql: &str) -> Result<i64, rusqlite::Error> {
    connection.query_row(sql, [], |row| row.get(0))
}

pub(crate) fn ends(connection: &Connection) -> Result<Ends, rusqlite::Error> {
    let mut statement =
        connection.prepare_cached("SELECT born, first_number, first_hash, last_number, last_hash FROM chain")?;
    statement.query_row([], |row| {
        let born = row.get(0)?;
        Ok(Ends {
            before_first: Head {
                born,
                number: row.get(1)?,
                hash: row.get(2)?,
            },
            last: Head {
                born,
                number: row.get(3)?,
                hash: row.get(4)?,
            },
        })
    })
}

/// Opens the file for reading only.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch("PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY; PRAGMA query_only = ON;")?;
    Ok(connection)
}

/// Moves a file that cannot be used out of the way. The one before it goes: they must not fill the disk.
pub(crate) fn move_aside(path: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let from = with_suffix(path, suffix);
        let to = with_suffix(path, &format!(".unusable{suffix}"));
        match std::fs::rename(&from, &to) {
            // What is left of an older one does not belong to this one.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => drop(std::fs::remove_file(&to)),
            other => other?,
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
