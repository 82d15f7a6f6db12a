//! `redis.conf`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{CONFIG_SECRET, Files, Parts, pairs, text};

pub(super) const FILE: &str = "redis.conf";

pub(super) fn configuration(memory_bytes: Option<i64>, parameters: &BTreeMap<String, String>) -> Files {
    // A crash loses a second at most. Snapshots are Redis' own default, so they need no line; `save` lines add up, and one
    // here would stand beside the user's.
    let mut defaults = pairs([("appendfsync", "everysec")]);
    if let Some(bytes) = memory_bytes {
        // The rest is for clients' buffers and for the pages that a fork copies while the files are rewritten. Full
        // means that writes are refused, which is seen; without a limit the kernel kills the server.
        defaults.insert("maxmemory".to_owned(), (bytes / 4 * 3).to_string());
    }
    let fixed = pairs([
        ("aclfile", "/run/database/users.acl"),
        ("appenddirname", "appendonlydir"),
        ("appendfilename", "appendonly.aof"),
        ("appendonly", "yes"),
        ("daemonize", "no"),
        ("dbfilename", "dump.rdb"),
        ("dir", "/var/lib/database/data"),
        ("enable-debug-command", "no"),
        ("enable-module-command", "no"),
        ("enable-protected-configs", "no"),
        ("logfile", ""),
        ("pidfile", ""),
        ("port", "6379"),
        // Every user has a password, so that any address may connect.
        ("protected-mode", "no"),
        ("supervised", "no"),
        ("unixsocket", "/run/database/redis.sock"),
        ("unixsocketperm", "700"),
    ]);
    let main = Parts {
        defaults: lines(&defaults),
        parameters: lines(parameters),
        include: &format!("include {CONFIG_SECRET}/{FILE}"),
        // All addresses of IPv4, and of IPv6 where there is any. Two arguments, so it is written as they stand.
        fixed: format!("bind * -::*\n{}", lines(&fixed)),
    };
    BTreeMap::from([(FILE.to_owned(), main.join())])
}

/// One `name "value"` a line. Redis splits the text of one pair of quotes where a directive takes several arguments.
pub(super) fn lines(parameters: &BTreeMap<String, String>) -> String {
    text(
        parameters
            .iter()
            .map(|(name, value)| format!("{name} {}", quoted(value))),
    )
}

/// A string of the configuration file. Control characters are written as `\xHH`; bytes above ASCII stand for themselves.
pub(super) fn quoted(value: &str) -> String {
    let mut quoted = String::from('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_ascii_control() => {
                write!(quoted, "\\x{:02x}", u32::from(control)).expect("a String takes all that is written to it");
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
