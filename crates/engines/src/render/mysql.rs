//! `my.cnf`. Read by MySQL 9.7.4, by hand; not yet by the releases of the catalogue.

use std::collections::BTreeMap;

use super::{CONFIG_SECRET, Files, Parts, pairs, text};
use crate::catalogue::Release;

pub(super) const FILE: &str = "my.cnf";

pub(super) fn configuration(
    release: &Release,
    memory_bytes: Option<i64>,
    parameters: &BTreeMap<String, String>,
) -> Files {
    // A member has its own volume, so its caches need not be shared with the kernel's: half of the memory is the least
    // that the manual recommends, and leaves room for the buffers of connections.
    let mut defaults = BTreeMap::new();
    if let Some(bytes) = memory_bytes {
        defaults.insert("innodb_buffer_pool_size".to_owned(), (bytes / 2).to_string());
    }
    let mut fixed = pairs([
        ("bind_address", "*"),
        ("datadir", "/var/lib/database/data"),
        ("enforce_gtid_consistency", "ON"),
        ("gtid_mode", "ON"),
        ("log_bin", "binlog"),
        // Names are compared as they are written; it cannot be changed once there is data.
        ("lower_case_table_names", "0"),
        ("mysqlx", "OFF"),
        ("pid_file", "/run/database/mysqld.pid"),
        ("port", "3306"),
        // No statement reads or writes files of the server.
        ("secure_file_priv", "NULL"),
        ("server_id", "1"),
        ("skip_name_resolve", "ON"),
        ("socket", "/run/database/mysqld.sock"),
        ("tmpdir", "/tmp"),
    ]);
    if release.major.starts_with("8.") {
        // From 9.0 on the row format is the only one.
        fixed.insert("binlog_format".to_owned(), "ROW".to_owned());
    }
    let main = Parts {
        defaults: section(&defaults),
        parameters: section(parameters),
        include: &format!("!include {CONFIG_SECRET}/{FILE}"),
        fixed: section(&fixed),
    };
    BTreeMap::from([(FILE.to_owned(), main.join())])
}

/// A group of the option file: `name = "value"` a line.
pub(super) fn section(parameters: &BTreeMap<String, String>) -> String {
    format!(
        "[mysqld]\n{}",
        text(
            parameters
                .iter()
                .map(|(name, value)| format!("{name} = {}", quoted(value)))
        )
    )
}

/// A string of the option file: backslashes and quotes are escaped by a backslash.
pub(super) fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}
