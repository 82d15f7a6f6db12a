//! Redis' directives.

use super::{Limited, Owned, Removed, Rules, lists};

pub(super) static RULES: Rules = Rules {
    is_name: |name| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
            && name.as_bytes()[0].is_ascii_alphabetic()
    },
    name_rule: "letters, digits, dashes and underscores, beginning with a letter",
    // Redis compares directives without regard to case.
    fold: str::to_ascii_lowercase,
    owned: OWNED,
    limited: LIMITED,
    removed: REMOVED,
    not_secret: &[],
    reloads: |folded| lists(include_str!("redis-reload.txt"), folded),
};

const LEAVE_OUT: &str = "leave it out";
const PLACE: &str = "it must find its files where the volume is mounted";
const LISTEN: &str = "clients, probes and Services rely on where it listens";
const LOGS: &str = "logs go to the container's standard output, where the cluster collects them";
const LOGIN: &str = "users and passwords come from the Secrets that the operator keeps";
const MEMBERS: &str = "it decides how members copy from each other and which one is the primary";
const TLS: &str = "encrypted connections are not yet available";
const PROCESS: &str = "the container runs it in the foreground, as its only process";
const DANGER: &str = "it would let a client leave the database's own data";
const INCLUDE: &str = "it would read a file that nobody has checked";

const fn owned(name: &'static str, rule: &'static str) -> Owned {
    Owned {
        name,
        rule,
        remedy: LEAVE_OUT,
    }
}

const OWNED: &[Owned] = &[
    owned("aclfile", LOGIN),
    owned("acl-pubsub-default", LOGIN),
    owned("always-show-logo", LOGS),
    owned("appenddirname", PLACE),
    Owned {
        name: "appendonly",
        // Switched on by a restart, Redis ignores the snapshot; switched off, it ignores the file that is newer.
        rule: "the append-only file is always on, since switching it by a restart loses data",
        remedy: "leave it out; for fewer writes to the disk set appendfsync to no",
    },
    owned("appendfilename", PLACE),
    owned("bind", LISTEN),
    owned("bind-source-addr", LISTEN),
    owned("cluster-*", MEMBERS),
    owned("daemonize", PROCESS),
    owned("dbfilename", PLACE),
    owned("dir", PLACE),
    owned("enable-debug-command", DANGER),
    owned("enable-module-command", DANGER),
    owned("enable-protected-configs", DANGER),
    Owned {
        name: "include",
        rule: INCLUDE,
        remedy: "use configMapRef or secretRef",
    },
    owned("loadmodule", DANGER),
    owned("logfile", LOGS),
    owned("masterauth", LOGIN),
    owned("masteruser", LOGIN),
    owned("oom-score-adj", PROCESS),
    owned("oom-score-adj-values", PROCESS),
    owned("pidfile", PROCESS),
    owned("port", LISTEN),
    owned("primaryauth", LOGIN),
    owned("primaryuser", LOGIN),
    owned("proc-title-template", PROCESS),
    owned("protected-mode", LISTEN),
    owned("rename-command", "probes and the operator rely on the commands' names"),
    owned("replica-announce-ip", MEMBERS),
    owned("replica-announce-port", MEMBERS),
    owned("replica-announced", MEMBERS),
    owned("replica-read-only", MEMBERS),
    owned("replicaof", MEMBERS),
    owned("requirepass", LOGIN),
    owned("server_cpulist", PROCESS),
    owned("set-proc-title", PROCESS),
    owned("slave-announce-ip", MEMBERS),
    owned("slave-announce-port", MEMBERS),
    owned("slave-read-only", MEMBERS),
    owned("slaveof", MEMBERS),
    owned("socket-mark-id", LISTEN),
    owned("supervised", PROCESS),
    owned("syslog-*", LOGS),
    owned("sentinel", MEMBERS),
    owned("tls-*", TLS),
    owned("unixsocket", LISTEN),
    owned("unixsocketperm", LISTEN),
    owned("user", LOGIN),
];

const LIMITED: &[Limited] = &[
    Limited {
        name: "min-replicas-to-write",
        allowed: &["0"],
        rule: "without a replica, every write would be refused",
        remedy: LEAVE_OUT,
    },
    Limited {
        name: "min-slaves-to-write",
        allowed: &["0"],
        rule: "without a replica, every write would be refused",
        remedy: LEAVE_OUT,
    },
];

/// From the release notes of each series.
const REMOVED: &[Removed] = &[
    Removed {
        name: "gopher-enabled",
        since: "7.0",
        remedy: LEAVE_OUT,
    },
    Removed {
        name: "list-max-ziplist-entries",
        since: "7.0",
        remedy: "use list-max-listpack-size",
    },
];
