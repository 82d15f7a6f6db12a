//! `postgresql.conf` and `pg_hba.conf`.

use std::collections::BTreeMap;

use super::{CONFIG_SECRET, Files, HEADER, Parts, pairs, text};
use crate::catalogue::Release;

pub(super) const FILE: &str = "postgresql.conf";

/// Inside the pod, the user of the container is the administrator, by what the kernel says of the socket's other end;
/// the socket's directory belongs to the pod alone. Everybody else shows a password, which is never sent in the clear.
const HBA: &str = "\
# TYPE  DATABASE  USER      ADDRESS  METHOD
local   all       postgres           peer
local   all       all                scram-sha-256
host    all       all       all      scram-sha-256
";

pub(super) fn configuration(
    release: &Release,
    memory_bytes: Option<i64>,
    parameters: &BTreeMap<String, String>,
) -> Files {
    // What initdb would have written into a file of its own.
    let mut defaults = pairs([
        ("TimeZone", "UTC"),
        ("log_timezone", "UTC"),
        ("default_text_search_config", "pg_catalog.english"),
    ]);
    if let Some(bytes) = memory_bytes {
        // A quarter for PostgreSQL's own cache and an estimate of three quarters for it and the kernel's together: the
        // manual's advice for a server of its own (chapters "Resource Consumption" and "Query Planning").
        defaults.insert("shared_buffers".to_owned(), kilobytes(bytes / 4));
        defaults.insert("effective_cache_size".to_owned(), kilobytes(bytes / 4 * 3));
    }
    let mut fixed = pairs([
        ("listen_addresses", "*"),
        ("port", "5432"),
        ("unix_socket_directories", "/run/database"),
        ("password_encryption", "scram-sha-256"),
        ("log_destination", "stderr"),
        ("logging_collector", "off"),
        ("ssl", "off"),
    ]);
    if release.major.parse::<u32>().is_ok_and(|major| major >= 17) {
        // Settings come from the Database; one made inside would outlive it unseen.
        fixed.insert("allow_alter_system".to_owned(), "off".to_owned());
    }
    let main = Parts {
        defaults: lines(&defaults),
        parameters: lines(parameters),
        include: &format!("include_if_exists = '{CONFIG_SECRET}/{FILE}'"),
        fixed: lines(&fixed),
    };
    BTreeMap::from([
        (FILE.to_owned(), main.join()),
        ("pg_hba.conf".to_owned(), format!("{HEADER}{HBA}")),
    ])
}

/// In PostgreSQL's unit `kB`, which is 1,024 bytes.
fn kilobytes(bytes: i64) -> String {
    format!("{}kB", bytes / 1024)
}

/// One `name = 'value'` a line.
pub(super) fn lines(parameters: &BTreeMap<String, String>) -> String {
    text(
        parameters
            .iter()
            .map(|(name, value)| format!("{name} = {}", quoted(value))),
    )
}

/// A string of the configuration file: a quote is doubled, and a backslash too, since it begins an escape.
pub(super) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}
