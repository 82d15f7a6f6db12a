//! MongoDB's options, by the dotted paths of its configuration file: `storage.wiredTiger.engineConfig.cacheSizeGB`,
//! `setParameter.cursorTimeoutMillis`.

use api::fault::{Fault, HIDDEN};

use super::{Limited, Owned, Removed, Rules};

pub(super) static RULES: Rules = Rules {
    is_name: |name| {
        name.split('.').all(|part| {
            part.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
    },
    name_rule: "words of letters and digits with dots between them, as in the configuration file",
    // Option names are case sensitive.
    fold: str::to_owned,
    owned: OWNED,
    limited: LIMITED,
    removed: REMOVED,
    not_secret: &[],
    reloads: |folded| RUNTIME.contains(&folded),
};

/// The section whose members are parameters of the server, not options.
pub(crate) const SET_PARAMETER: &str = "setParameter.";

const LEAVE_OUT: &str = "leave it out";
const PLACE: &str = "it must find its files where the volume is mounted";
const LISTEN: &str = "clients, probes and Services rely on where it listens";
const LOGS: &str = "logs go to the container's standard output, where the cluster collects them";
const LOGIN: &str = "it decides who may log in and how";
const MEMBERS: &str = "it decides how members copy from each other and which one is the primary";
const TLS: &str = "encrypted connections are not yet available";
const PROCESS: &str = "the container runs it in the foreground, as its only process";

const fn owned(name: &'static str, rule: &'static str) -> Owned {
    Owned {
        name,
        rule,
        remedy: LEAVE_OUT,
    }
}

const OWNED: &[Owned] = &[
    owned("cloud*", PROCESS),
    owned("config*", PROCESS),
    owned("net.bindIp*", LISTEN),
    owned("net.ipv6", LISTEN),
    owned("net.port", LISTEN),
    owned("net.ssl*", TLS),
    owned("net.tls*", TLS),
    owned("net.unixDomainSocket*", LISTEN),
    owned("processManagement*", PROCESS),
    owned("replication.replSet*", MEMBERS),
    owned("security.authorization", LOGIN),
    owned("security.clusterAuthMode", LOGIN),
    owned("security.keyFile", LOGIN),
    owned("security.kmip*", LOGIN),
    owned("security.ldap*", LOGIN),
    owned("setParameter.enableLocalhostAuthBypass", LOGIN),
    owned("setParameter.enableTestCommands", LOGIN),
    owned("sharding*", MEMBERS),
    owned("storage.dbPath", PLACE),
    owned("storage.repairPath", PLACE),
    owned("systemLog.*", LOGS),
];

const LIMITED: &[Limited] = &[Limited {
    name: "storage.engine",
    allowed: &["wiredTiger"],
    rule: "the volume is made for it",
    remedy: LEAVE_OUT,
}];

/// From the release notes of each series.
const REMOVED: &[Removed] = &[Removed {
    name: "storage.journal.enabled",
    since: "6.1",
    remedy: "leave it out: the journal is always on",
}];

/// Well-known parameters that the manual lets `setParameter` change at run time.
const RUNTIME: [&str; 6] = [
    "setParameter.cursorTimeoutMillis",
    "setParameter.internalQueryMaxBlockingSortMemoryUsageBytes",
    "setParameter.logLevel",
    "setParameter.maxTransactionLockRequestTimeoutMillis",
    "setParameter.transactionLifetimeLimitSeconds",
    "setParameter.ttlMonitorEnabled",
];

/// What the layout of the file demands of a name.
///
/// The files of `parameters` and of `secretRef` are joined into one, in which `setParameter` can stand only once.
pub(super) fn check_shape(path: &str, name: &str, secret: bool) -> Option<Fault> {
    if secret && name.starts_with(SET_PARAMETER) {
        let remedy = "write it in spec.configuration.parameters";
        return Some(Fault::new(
            path,
            HIDDEN,
            "is a server parameter, and those cannot come from a Secret",
            remedy,
        ));
    }
    if name.strip_prefix(SET_PARAMETER).is_some_and(|rest| rest.contains('.')) {
        return Some(Fault::new(
            path,
            HIDDEN,
            "has no sections below setParameter",
            "write setParameter.NAME",
        ));
    }
    None
}

/// Names that are at once an option and a section of others.
pub(super) fn check_sections(names: &[&str], field: &str) -> Vec<Fault> {
    let inside = |name: &str| {
        let section = format!("{name}.");
        names.iter().find(|other| other.starts_with(&section))
    };
    let is_section = |name: &str| name == SET_PARAMETER.trim_end_matches('.');
    names
        .iter()
        .filter_map(|name| {
            let rule = match inside(name) {
                Some(other) => format!("is a section, since {other} is set too"),
                None if is_section(name) => "is a section".to_owned(),
                None => return None,
            };
            Some(Fault::new(
                super::path(field, name),
                "",
                rule,
                "name each option below it",
            ))
        })
        .collect()
}
