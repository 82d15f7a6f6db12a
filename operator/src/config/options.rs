//! What can be said, by flag, environment or file.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Settings that may each be absent: the flags with the environment, or the file.
///
/// In the file the same names are written in camelCase, for example `healthAddress`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Options {
    /// Kubeconfig file. Default: the pod's service account, else $KUBECONFIG, else ~/.kube/config
    #[arg(long, env = "DATABASE_OPERATOR_KUBECONFIG", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig to use. Default: its current one
    #[arg(long, env = "DATABASE_OPERATOR_CONTEXT", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,

    /// Namespaces whose Databases are looked after, separated by commas. Default: all
    #[arg(
        long,
        env = "DATABASE_OPERATOR_NAMESPACES",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,

    /// How many Databases are reconciled at once; also bounds the requests in flight. Default: 16
    #[arg(long, env = "DATABASE_OPERATOR_WORKERS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,

    /// How many failed Databases are tried again each second, after a burst of twice as many. Default: 100
    #[arg(long, env = "DATABASE_OPERATOR_RETRIES_PER_SECOND", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries_per_second: Option<u32>,

    /// After so long a reconcile is broken off, and tried again later. Default: 120
    #[arg(long, env = "DATABASE_OPERATOR_RECONCILE_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconcile_seconds: Option<u16>,

    /// About how many Databases may be queued; beyond, those go first of which nothing new is known, and are looked at
    /// later. Default: 1000000
    #[arg(long, env = "DATABASE_OPERATOR_QUEUE_CAPACITY", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_capacity: Option<usize>,

    /// Name of this replica, unique among its replicas. Default: $POD_NAME, else the host name
    #[arg(long, env = "DATABASE_OPERATOR_MEMBER", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,

    /// Namespace of the operator itself, where its Leases are. Names the installation: replicas share the Databases with
    /// those of the same one, and a second installation in the cluster is refused. Default: $POD_NAMESPACE, else
    /// database-operator
    #[arg(long, env = "DATABASE_OPERATOR_OPERATOR_NAMESPACE", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_namespace: Option<String>,

    /// Address of /healthz, /readyz and /metrics; port 0 lets the system choose. Default: 0.0.0.0:8080
    #[arg(long, env = "DATABASE_OPERATOR_HEALTH_ADDRESS", value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_address: Option<SocketAddr>,

    /// How log lines look, on standard error. Default: json
    #[arg(long, env = "DATABASE_OPERATOR_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,

    /// What is logged: a level, or levels by module, as in info,controller=debug. Default: info
    #[arg(long, env = "DATABASE_OPERATOR_LOG_FILTER", value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_filter: Option<String>,

    /// File with engines, versions and images, in place of the built-in catalogue
    #[arg(long, env = "DATABASE_OPERATOR_CATALOGUE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<PathBuf>,

    /// The brake: how many Databases may be restarting at once, in the whole fleet. Each of the shards has its equal part,
    /// at least 1. Default: 10
    #[arg(long, env = "DATABASE_OPERATOR_MAX_RESTARTING_DATABASES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restarting_databases: Option<usize>,

    /// How many replicas share the Databases; further ones are standbys. Default: 3
    #[arg(long, env = "DATABASE_OPERATOR_SHARDS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<u16>,

    /// Share of this replica in relation to that of the others; 0: it takes none. Default: 1
    #[arg(long, env = "DATABASE_OPERATOR_WEIGHT", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,

    /// File with nothing but the weight, in place of --weight; may change while the operator runs
    #[arg(long, env = "DATABASE_OPERATOR_WEIGHT_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_file: Option<PathBuf>,

    /// After so long without a renewal others take over a replica's Databases. Default: 15; on a fast control plane 6
    #[arg(long, env = "DATABASE_OPERATOR_LEASE_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u16>,

    /// After so long without a renewal a replica starts nothing more. Default: 10; on a fast control plane 4
    #[arg(long, env = "DATABASE_OPERATOR_RENEW_DEADLINE_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_deadline_seconds: Option<u16>,

    /// Time between two renewals, and two tries of one. Default: 2; on a fast control plane 1
    #[arg(long, env = "DATABASE_OPERATOR_RETRY_PERIOD_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_period_seconds: Option<u16>,

    /// How long a replica that is to stop waits for others to take over. Less than the pod's grace period. Default: 25
    #[arg(long, env = "DATABASE_OPERATOR_STOP_SECONDS", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_seconds: Option<u16>,

    /// Where policies come from: folders, .tar.gz files, or configmap:NAMESPACE/NAME, separated by commas. Each is a bundle,
    /// looked at again every 10 s. Default: none, and nothing is asked
    #[arg(
        long,
        env = "DATABASE_OPERATOR_POLICIES",
        value_name = "SOURCES",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<String>>,

    /// Files with public keys: then each bundle must be signed with one of them. Default: none, and whoever writes the
    /// sources is trusted
    #[arg(
        long,
        env = "DATABASE_OPERATOR_POLICY_KEYS",
        value_name = "FILES",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_keys: Option<Vec<PathBuf>>,

    /// What bundles must be signed for, as in policy sign --scope. Default: for nothing in particular
    #[arg(long, env = "DATABASE_OPERATOR_POLICY_SCOPE", value_name = "SCOPE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_scope: Option<String>,

    /// Threads that ask policies; each decides on about 1,500 Databases in a second. Default: 2
    #[arg(long, env = "DATABASE_OPERATOR_POLICY_THREADS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_threads: Option<usize>,

    /// Address of the webhook (/validate) and of the decision log (/v1/decisions), over TLS. Default: none, and a change that
    /// policies refuse is refused by the reconcile only
    #[arg(long, env = "DATABASE_OPERATOR_HTTPS_ADDRESS", value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_address: Option<SocketAddr>,

    /// Folder with tls.crt and tls.key, as cert-manager makes them, read again when they change. Default: certificates of the
    /// operator's own, kept in the Secret database-operator-webhook-tls
    #[arg(long, env = "DATABASE_OPERATOR_CERTIFICATES", value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<PathBuf>,

    /// File in which decisions of policy are kept, to be asked for. Its folder must exist. Default: none, and they are lines
    /// of the log only
    #[arg(long, env = "DATABASE_OPERATOR_DECISION_LOG", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_log: Option<PathBuf>,

    /// How long decisions are kept. Default: 7
    #[arg(long, env = "DATABASE_OPERATOR_DECISION_LOG_DAYS", value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_log_days: Option<u16>,

    /// How much room decisions may take; then the oldest go. Default: 1024
    #[arg(long, env = "DATABASE_OPERATOR_DECISION_LOG_MEBIBYTES", value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_log_mebibytes: Option<u32>,

    /// For tests: number of pods of each `StatefulSet`. With 0, a fleet costs no nodes. Default: 1
    #[arg(long, env = "DATABASE_OPERATOR_STATEFULSET_REPLICAS", value_name = "N", hide = true)]
    #[serde(rename = "statefulsetReplicas", skip_serializing_if = "Option::is_none")]
    pub statefulset_replicas: Option<u32>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// One JSON object per line, for machines
    Json,
    /// Text, for people
    Pretty,
}

impl Options {
    /// Reads a file. Keys that are not settings are refused.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|reason| ConfigError::Parse {
            path: path.to_owned(),
            reason,
        })
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // A file of comments only says nothing, which is no fault.
        let said = text
            .lines()
            .any(|line| !matches!(line.trim_start().chars().next(), None | Some('#')));
        if !said {
            return Ok(Self::default());
        }
        serde_yaml::from_str(text).map_err(|error| {
            let text = error.to_string();
            // The library begins with the word that `main` begins with.
            text.strip_prefix("error: ").unwrap_or(&text).to_owned()
        })
    }

    /// These settings, and those of `lower` where they are silent.
    #[must_use]
    pub(crate) fn over(self, lower: Self) -> Self {
        // No `..`: a new setting does not compile until it has its place here.
        let Self {
            kubeconfig,
            context,
            namespaces,
            workers,
            retries_per_second,
            reconcile_seconds,
            queue_capacity,
            member,
            operator_namespace,
            health_address,
            log_format,
            log_filter,
            catalogue,
            max_restarting_databases,
            shards,
            weight,
            weight_file,
            lease_seconds,
            renew_deadline_seconds,
            retry_period_seconds,
            stop_seconds,
            policies,
            policy_keys,
            policy_scope,
            policy_threads,
            https_address,
            certificates,
            decision_log,
            decision_log_days,
            decision_log_mebibytes,
            statefulset_replicas,
        } = self;
        Self {
            kubeconfig: kubeconfig.or(lower.kubeconfig),
            context: context.or(lower.context),
            namespaces: namespaces.or(lower.namespaces),
            workers: workers.or(lower.workers),
            retries_per_second: retries_per_second.or(lower.retries_per_second),
            reconcile_seconds: reconcile_seconds.or(lower.reconcile_seconds),
            queue_capacity: queue_capacity.or(lower.queue_capacity),
            member: member.or(lower.member),
            operator_namespace: operator_namespace.or(lower.operator_namespace),
            health_address: health_address.or(lower.health_address),
            log_format: log_format.or(lower.log_format),
            log_filter: log_filter.or(lower.log_filter),
            catalogue: catalogue.or(lower.catalogue),
            max_restarting_databases: max_restarting_databases.or(lower.max_restarting_databases),
            shards: shards.or(lower.shards),
            weight: weight.or(lower.weight),
            weight_file: weight_file.or(lower.weight_file),
            lease_seconds: lease_seconds.or(lower.lease_seconds),
            renew_deadline_seconds: renew_deadline_seconds.or(lower.renew_deadline_seconds),
            retry_period_seconds: retry_period_seconds.or(lower.retry_period_seconds),
            stop_seconds: stop_seconds.or(lower.stop_seconds),
            policies: policies.or(lower.policies),
            policy_keys: policy_keys.or(lower.policy_keys),
            policy_scope: policy_scope.or(lower.policy_scope),
            policy_threads: policy_threads.or(lower.policy_threads),
            https_address: https_address.or(lower.https_address),
            certificates: certificates.or(lower.certificates),
            decision_log: decision_log.or(lower.decision_log),
            decision_log_days: decision_log_days.or(lower.decision_log_days),
            decision_log_mebibytes: decision_log_mebibytes.or(lower.decision_log_mebibytes),
            statefulset_replicas: statefulset_replicas.or(lower.statefulset_replicas),
        }
    }
}
