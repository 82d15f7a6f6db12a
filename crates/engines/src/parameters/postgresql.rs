//! PostgreSQL's parameters.

use super::{Limited, Owned, Removed, Rules, lists};

pub(super) static RULES: Rules = Rules {
    is_name,
    name_rule: "letters, digits and underscores, at most one dot after the name of an extension",
    // PostgreSQL compares names without regard to case.
    fold: str::to_ascii_lowercase,
    owned: OWNED,
    limited: LIMITED,
    removed: REMOVED,
    not_secret: &["password_encryption", "credcheck.*", "passwordcheck.*"],
    reloads: |folded| lists(include_str!("postgresql-reload.txt"), folded),
};

/// The lexer's `ID` and `QUALIFIED_ID` in `guc-file.l`, of ASCII only.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        let mut bytes = part.bytes();
        bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$')
    };
    match name.split_once('.') {
        Some((extension, rest)) => is_part(extension) && is_part(rest),
        None => is_part(name),
    }
}

const LEAVE_OUT: &str = "leave it out";

const PLACE: &str = "it must find its files where the volume is mounted";
const LISTEN: &str = "clients, probes and Services rely on where it listens";
const LOGS: &str =
    "logs go to the container's standard error, where the cluster collects them; files would fill the volume";
const LOGS_REMEDY: &str = "choose what is logged with log_min_messages, log_statement and the like";
const MEMBERS: &str = "it decides how members copy from each other and which one is the primary";
const TLS: &str = "encrypted connections are not yet available";
const LOGIN: &str = "it decides who may log in and how";
const ARCHIVE: &str =
    "backups and archiving are set up by spec.backupPolicy; an archive command that fails fills the volume";
const INCLUDE: &str = "it would read a file that nobody has checked";

const fn owned(name: &'static str, rule: &'static str, remedy: &'static str) -> Owned {
    Owned { name, rule, remedy }
}

const OWNED: &[Owned] = &[
    owned(
        "allow_alter_system",
        "settings come from the Database, so that they are seen and kept",
        LEAVE_OUT,
    ),
    owned("archive_*", ARCHIVE, LEAVE_OUT),
    owned("bonjour*", LISTEN, LEAVE_OUT),
    owned("config_file", PLACE, LEAVE_OUT),
    owned("data_directory", PLACE, LEAVE_OUT),
    owned("data_directory_mode", PLACE, LEAVE_OUT),
    owned("db_user_namespace", LOGIN, LEAVE_OUT),
    owned("event_source", LOGS, LOGS_REMEDY),
    owned(
        "exit_on_error",
        "it ends a session at its first error, the operator's own too",
        LEAVE_OUT,
    ),
    owned("external_pid_file", PLACE, LEAVE_OUT),
    owned("gss_accept_delegation", LOGIN, LEAVE_OUT),
    owned("hba_file", LOGIN, LEAVE_OUT),
    owned("hot_standby", MEMBERS, LEAVE_OUT),
    owned("ident_file", LOGIN, LEAVE_OUT),
    owned("include", INCLUDE, "use configMapRef or secretRef"),
    owned("include_dir", INCLUDE, "use configMapRef or secretRef"),
    owned("include_if_exists", INCLUDE, "use configMapRef or secretRef"),
    owned("krb_*", LOGIN, LEAVE_OUT),
    owned("listen_addresses", LISTEN, LEAVE_OUT),
    owned("log_destination", LOGS, LOGS_REMEDY),
    owned("log_directory", LOGS, LOGS_REMEDY),
    owned("log_file_mode", LOGS, LOGS_REMEDY),
    owned("log_filename", LOGS, LOGS_REMEDY),
    owned("log_rotation_*", LOGS, LOGS_REMEDY),
    owned("log_truncate_on_rotation", LOGS, LOGS_REMEDY),
    owned("logging_collector", LOGS, LOGS_REMEDY),
    owned("max_wal_senders", MEMBERS, LEAVE_OUT),
    owned("oauth_*", LOGIN, LEAVE_OUT),
    owned("port", LISTEN, LEAVE_OUT),
    owned("primary_*", MEMBERS, LEAVE_OUT),
    owned("promote_trigger_file", MEMBERS, LEAVE_OUT),
    owned("recovery_end_command", ARCHIVE, LEAVE_OUT),
    owned("recovery_min_apply_delay", MEMBERS, LEAVE_OUT),
    owned("recovery_target*", ARCHIVE, LEAVE_OUT),
    owned(
        "restart_after_crash",
        "the cluster restarts it, which is seen and counted",
        LEAVE_OUT,
    ),
    owned("restore_command", ARCHIVE, LEAVE_OUT),
    owned("ssl*", TLS, LEAVE_OUT),
    owned("standby_mode", MEMBERS, LEAVE_OUT),
    owned("stats_temp_directory", PLACE, LEAVE_OUT),
    owned("summarize_wal", ARCHIVE, LEAVE_OUT),
    owned("synchronized_standby_slots", MEMBERS, LEAVE_OUT),
    owned(
        "synchronous_standby_names",
        MEMBERS,
        "without a standby, every commit would wait for ever; leave it out",
    ),
    owned("sync_replication_slots", MEMBERS, LEAVE_OUT),
    owned("syslog_*", LOGS, LOGS_REMEDY),
    owned("trigger_file", MEMBERS, LEAVE_OUT),
    owned("unix_socket_directories", LISTEN, LEAVE_OUT),
    owned("unix_socket_group", LISTEN, LEAVE_OUT),
    owned("unix_socket_permissions", LISTEN, LEAVE_OUT),
    owned("wal_receiver_create_temp_slot", MEMBERS, LEAVE_OUT),
    owned(
        "wal_log_hints",
        "data checksums are on, which include what it would add",
        LEAVE_OUT,
    ),
];

const LIMITED: &[Limited] = &[
    Limited {
        name: "wal_level",
        allowed: &["replica", "logical"],
        rule: "with less, no standby and no backup could follow",
        remedy: "write logical for logical replication, or leave it out",
    },
    Limited {
        name: "password_encryption",
        allowed: &["scram-sha-256"],
        rule: "clients log in by SCRAM only",
        remedy: LEAVE_OUT,
    },
];

/// From the release notes of each major.
const REMOVED: &[Removed] = &[
    Removed {
        name: "force_parallel_mode",
        since: "16",
        remedy: "use debug_parallel_query",
    },
    Removed {
        name: "lc_collate",
        since: "16",
        remedy: "leave it out: a database keeps the one it was made with",
    },
    Removed {
        name: "lc_ctype",
        since: "16",
        remedy: "leave it out: a database keeps the one it was made with",
    },
    Removed {
        name: "old_snapshot_threshold",
        since: "17",
        remedy: LEAVE_OUT,
    },
    Removed {
        name: "trace_recovery_messages",
        since: "17",
        remedy: LEAVE_OUT,
    },
    Removed {
        name: "vacuum_defer_cleanup_age",
        since: "16",
        remedy: "use hot_standby_feedback",
    },
    Removed {
        name: "wal_keep_segments",
        since: "13",
        remedy: "use wal_keep_size",
    },
];
