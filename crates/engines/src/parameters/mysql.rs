//! MySQL's system variables.

use super::{Limited, Owned, Removed, Rules};

pub(super) static RULES: Rules = Rules {
    is_name: |name| {
        !name.is_empty()
            && name.as_bytes()[0].is_ascii_alphabetic()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    },
    name_rule: "letters, digits, underscores, dashes and dots, beginning with a letter",
    fold,
    owned: OWNED,
    limited: LIMITED,
    removed: REMOVED,
    not_secret: &[
        "default_password_lifetime",
        "disconnect_on_expired_password",
        "generated_random_password_length",
        "password_history",
        "password_require_current",
        "password_reuse_interval",
        "validate_password*",
        "caching_sha2_password_*",
        "sha256_password_*",
        "mysql_native_password*",
        "max_digest_length",
    ],
    reloads: |folded| DYNAMIC.contains(&folded),
};

/// MySQL takes dashes for underscores, and prefixes that say how an option is meant.
fn fold(name: &str) -> String {
    let mut folded = name.to_ascii_lowercase().replace('-', "_");
    while let Some(rest) = ["loose_", "skip_", "disable_", "enable_", "maximum_"]
        .iter()
        .find_map(|prefix| folded.strip_prefix(prefix))
    {
        folded = rest.to_owned();
    }
    folded
}

const LEAVE_OUT: &str = "leave it out";
const PLACE: &str = "it must find its files where the volume is mounted";
const LISTEN: &str = "clients, probes and Services rely on where it listens";
const LOGS: &str = "logs go to the container's standard error, where the cluster collects them";
const LOGIN: &str = "it decides who may log in and how";
const MEMBERS: &str = "it decides how members copy from each other and which one is the primary";
const TLS: &str = "encrypted connections are not yet available";
const PROCESS: &str = "the container runs it in the foreground, as its only process";
const BIRTH: &str = "it can only be chosen when the data directory is made";

const fn owned(name: &'static str, rule: &'static str) -> Owned {
    Owned {
        name,
        rule,
        remedy: LEAVE_OUT,
    }
}

/// Names are folded: without `skip_` and its kin.
const OWNED: &[Owned] = &[
    owned("admin_*", LISTEN),
    owned("authentication_policy", LOGIN),
    owned("auto_generate_certs", TLS),
    owned("basedir", PLACE),
    owned("bind_address", LISTEN),
    owned("binlog_format", MEMBERS),
    owned("character_sets_dir", PLACE),
    owned("chroot", PROCESS),
    owned("clone_*", MEMBERS),
    owned("console", LOGS),
    owned("core_file", PROCESS),
    owned("daemonize", PROCESS),
    owned("datadir", PLACE),
    owned("defaults_*", PLACE),
    owned("early_plugin_load", PROCESS),
    owned("enforce_gtid_consistency", MEMBERS),
    owned("general_log_file", LOGS),
    owned("grant_tables", LOGIN),
    owned("group_replication*", MEMBERS),
    owned("gtid_mode", MEMBERS),
    owned("gtid_purged", MEMBERS),
    owned("init_file", PROCESS),
    owned("init_replica", MEMBERS),
    owned("init_slave", MEMBERS),
    owned("initialize*", BIRTH),
    owned("innodb_data_file_path", BIRTH),
    owned("innodb_data_home_dir", PLACE),
    owned("innodb_directories", PLACE),
    owned("innodb_log_group_home_dir", PLACE),
    owned("innodb_page_size", BIRTH),
    owned("innodb_temp_tablespaces_dir", PLACE),
    owned("innodb_undo_directory", PLACE),
    owned("lc_messages_dir", PLACE),
    owned("log_bin*", MEMBERS),
    owned("log_error*", LOGS),
    owned("log_replica_updates", MEMBERS),
    owned("log_slave_updates", MEMBERS),
    owned("lower_case_table_names", BIRTH),
    owned("mysqlx*", LISTEN),
    owned(
        "name_resolve",
        "clients are told apart by address, not by what a name server says of it",
    ),
    owned("named_pipe", LISTEN),
    owned("networking", LISTEN),
    owned("pid_file", PROCESS),
    owned("plugin_dir", PLACE),
    owned("plugin_load*", PROCESS),
    owned("port", LISTEN),
    owned("relay_log*", MEMBERS),
    owned("replica_load_tmpdir", PLACE),
    owned("report_*", MEMBERS),
    owned("rpl_semi_sync*", MEMBERS),
    owned("secure_file_priv", PLACE),
    owned("server_id*", MEMBERS),
    owned("shared_memory*", LISTEN),
    owned("slow_query_log_file", LOGS),
    owned("socket", LISTEN),
    owned("ssl*", TLS),
    owned("tls_*", TLS),
    owned("tmpdir", PLACE),
    owned("user", PROCESS),
];

const LIMITED: &[Limited] = &[Limited {
    name: "default_storage_engine",
    allowed: &["InnoDB"],
    rule: "other engines lose data in a crash and cannot be copied while they are written to",
    remedy: LEAVE_OUT,
}];

/// From the release notes of each series.
const REMOVED: &[Removed] = &[
    Removed {
        name: "default_authentication_plugin",
        since: "8.4",
        remedy: LEAVE_OUT,
    },
    Removed {
        name: "expire_logs_days",
        since: "8.4",
        remedy: "use binlog_expire_logs_seconds",
    },
    Removed {
        name: "innodb_log_file_size",
        since: "9.0",
        remedy: "use innodb_redo_log_capacity",
    },
    Removed {
        name: "query_cache_size",
        since: "8.0",
        remedy: LEAVE_OUT,
    },
    Removed {
        name: "query_cache_type",
        since: "8.0",
        remedy: LEAVE_OUT,
    },
];

/// Well-known variables that the manual calls dynamic, with global scope.
const DYNAMIC: [&str; 26] = [
    "autocommit",
    "binlog_expire_logs_seconds",
    "connect_timeout",
    "event_scheduler",
    "general_log",
    "innodb_adaptive_hash_index",
    "innodb_buffer_pool_size",
    "innodb_flush_log_at_trx_commit",
    "innodb_io_capacity",
    "innodb_io_capacity_max",
    "innodb_lock_wait_timeout",
    "innodb_redo_log_capacity",
    "interactive_timeout",
    "join_buffer_size",
    "local_infile",
    "lock_wait_timeout",
    "long_query_time",
    "max_allowed_packet",
    "max_connections",
    "max_heap_table_size",
    "slow_query_log",
    "sort_buffer_size",
    "sync_binlog",
    "table_open_cache",
    "tmp_table_size",
    "wait_timeout",
];
