//! What `run` can be told, by flag, environment or file: one definition for all three.
//!
//! Precedence, setting by setting: flags, then environment (`DATABASE_OPERATOR_*`), then the file, then defaults.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Display;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use sharding::BUCKETS;
use sharding::assignment::MAX_WEIGHT;
use sharding::timing::{Millis, TimingError, Timings};
use workqueue::{Limits, RetryRate};

use crate::names;

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

/// The settings of one run, complete and valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// Kubeconfig file, if not the usual places.
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig, if not its current one.
    pub context: Option<String>,
    /// Namespaces whose Databases are looked after; empty means all.
    pub namespaces: Vec<String>,
    /// How many Databases are reconciled at once.
    pub workers: usize,
    /// How many failed Databases are tried again each second.
    pub retries_per_second: u32,
    /// After so long a reconcile is broken off.
    pub reconcile_seconds: u16,
    /// About how many Databases may be queued.
    pub queue_capacity: usize,
    /// Name of this replica.
    pub member: String,
    /// Namespace of the operator itself.
    pub operator_namespace: String,
    /// Where health and metrics are served.
    pub health_address: SocketAddr,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_filter: String,
    /// File in place of the built-in catalogue.
    pub catalogue: Option<PathBuf>,
    /// How many Databases may be restarting at once.
    pub max_restarting_databases: usize,
    /// How many replicas share the Databases.
    pub shards: u16,
    /// Share of this replica.
    pub weight: u32,
    /// File with the weight.
    pub weight_file: Option<PathBuf>,
    /// Of both kinds of Lease.
    pub timings: Timings,
    /// How long a replica that is to stop waits for others.
    pub stop_seconds: u16,
    /// Number of pods of each `StatefulSet`; 1 but in tests.
    pub statefulset_replicas: u32,
}

/// What the defaults are taken from: the pod's environment and the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// `$POD_NAME`.
    pub pod_name: Option<String>,
    /// `$POD_NAMESPACE`.
    pub pod_namespace: Option<String>,
    /// The host name.
    pub host_name: Option<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file is not there, or not readable.
    #[error("configuration file {}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file has an unknown key, a value of the wrong type, or is not YAML. The message tells the line.
    #[error("configuration file {}: {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Settings with values that cannot be, all of them.
    #[error("invalid configuration:\n  {}", .0.join("\n  "))]
    Invalid(Vec<String>),
}

/// Upper bound of `workers`: more reconciles at once than any API server answers in time.
const MAX_WORKERS: usize = 1024;

/// Bounds of `retriesPerSecond`: more than the workers could do.
const RETRIES_PER_SECOND: RangeInclusive<u32> = 1..=10_000;

/// Bounds of `reconcileSeconds`: from well above the answers of a slow API server to well below the time after which the
/// process counts as stuck.
const RECONCILE_SECONDS: RangeInclusive<u16> = 10..=300;

/// Bounds of `queueCapacity`: from little to about two gigabytes.
const QUEUE_CAPACITY: RangeInclusive<usize> = 1_000..=10_000_000;

/// What must fit, behind `database-operator-member-`, into the name of a Lease (253 characters).
const MAX_MEMBER: usize = 253 - "database-operator-member-".len();

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

    fn parse(text: &str) -> Result<Self, String> {
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
            statefulset_replicas: statefulset_replicas.or(lower.statefulset_replicas),
        }
    }
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn of_this_process() -> Self {
        // An empty variable is how templates say "not set".
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            pod_name: variable("POD_NAME"),
            pod_namespace: variable("POD_NAMESPACE"),
            host_name: nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()),
        }
    }
}

impl Config {
    /// The configuration of this process: `flags` (with the environment) over the file over the defaults.
    pub(crate) fn load(flags: Options, file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = file.map(Options::read).transpose()?.unwrap_or_default();
        Self::complete(flags.over(file), Surroundings::of_this_process())
    }

    /// Fills in the defaults and checks the whole.
    pub(crate) fn complete(options: Options, surroundings: Surroundings) -> Result<Self, ConfigError> {
        // Names of hosts may have capitals, names of objects may not.
        let host_name = surroundings.host_name.map(|name| name.to_lowercase());
        let (timings, wrong_timings) = match timings(&options) {
            Ok(timings) => (timings, None),
            Err(error) => (Timings::DEFAULT, Some(error)),
        };
        let config = Self {
            kubeconfig: options.kubeconfig,
            context: options.context,
            // `--namespaces ""` is how templates say "all".
            namespaces: options.namespaces.filter(|names| names != &[""]).unwrap_or_default(),
            workers: options.workers.unwrap_or(16),
            retries_per_second: options.retries_per_second.unwrap_or(100),
            reconcile_seconds: options.reconcile_seconds.unwrap_or(120),
            queue_capacity: options.queue_capacity.unwrap_or(1_000_000),
            member: options
                .member
                .or(surroundings.pod_name)
                .or(host_name)
                .unwrap_or_default(),
            operator_namespace: options
                .operator_namespace
                .or(surroundings.pod_namespace)
                .unwrap_or_else(|| "database-operator".to_owned()),
            health_address: options
                .health_address
                .unwrap_or((IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080).into()),
            log_format: options.log_format.unwrap_or(LogFormat::Json),
            log_filter: options.log_filter.unwrap_or_else(|| "info".to_owned()),
            catalogue: options.catalogue,
            max_restarting_databases: options.max_restarting_databases.unwrap_or(10),
            shards: options.shards.unwrap_or(3),
            weight: options.weight.unwrap_or(1),
            weight_file: options.weight_file,
            timings,
            stop_seconds: options.stop_seconds.unwrap_or(25),
            statefulset_replicas: options.statefulset_replicas.unwrap_or(1),
        };
        let mut faults = config.faults();
        faults.extend(
            wrong_timings.map(|error| format!("leaseSeconds, renewDeadlineSeconds, retryPeriodSeconds: {error}")),
        );
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Invalid(faults))
        }
    }

    /// All values that cannot be, each with the setting, the value, the rule and the way out.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut seen = BTreeSet::new();
        for namespace in &self.namespaces {
            if !names::is_label(namespace) {
                faults.push(format!(
                    "namespaces: {namespace:?} is not the name of a namespace; {}",
                    names::LABEL_RULE
                ));
            }
            if !seen.insert(namespace) {
                faults.push(format!("namespaces: {namespace:?} is named twice; name it once"));
            }
        }
        faults.extend(out_of_range("workers", self.workers, 1..=MAX_WORKERS));
        faults.extend(out_of_range(
            "retriesPerSecond",
            self.retries_per_second,
            RETRIES_PER_SECOND,
        ));
        faults.extend(out_of_range(
            "reconcileSeconds",
            self.reconcile_seconds,
            RECONCILE_SECONDS,
        ));
        faults.extend(out_of_range("queueCapacity", self.queue_capacity, QUEUE_CAPACITY));
        if !names::is_subdomain(&self.member) || self.member.len() > MAX_MEMBER {
            faults.push(format!(
                "member: {:?} cannot be part of the name of a Lease; {}, at most {MAX_MEMBER} characters in all; set \
                 --member",
                self.member,
                names::SUBDOMAIN_RULE
            ));
        }
        if !names::is_label(&self.operator_namespace) {
            faults.push(format!(
                "operatorNamespace: {:?} is not the name of a namespace; {}",
                self.operator_namespace,
                names::LABEL_RULE
            ));
        }
        if let Err(error) = telemetry::logs::check_filter(&self.log_filter) {
            faults.push(format!("logFilter: {error}"));
        }
        if self.max_restarting_databases == 0 {
            faults
                .push("maxRestartingDatabases: 0 would hold back every restart for ever; choose 1 or more".to_owned());
        }
        faults.extend(out_of_range("shards", self.shards, 1..=BUCKETS));
        if self.weight > MAX_WEIGHT {
            faults.push(format!(
                "weight: {} is too large; choose 0 to {MAX_WEIGHT}",
                self.weight
            ));
        }
        if self.statefulset_replicas > 1 {
            faults.push(format!(
                "statefulsetReplicas: {} would make servers that do not replicate; choose 0 or 1",
                self.statefulset_replicas
            ));
        }
        faults
    }

    /// What bounds the queue of Databases.
    #[must_use]
    pub(crate) fn queue(&self) -> Limits {
        let default = Limits::default();
        // Zero was refused.
        let per_second = NonZeroU32::new(self.retries_per_second).unwrap_or(NonZeroU32::MIN);
        Limits {
            retries: RetryRate {
                per_second,
                burst: per_second.saturating_mul(NonZeroU32::MIN.saturating_add(1)),
            },
            capacity: self.queue_capacity,
            ..default
        }
    }

    /// This replica's part of the brake on restarts: replicas do not ask each other. At least one, or nothing would ever
    /// restart.
    #[must_use]
    pub(crate) fn restarting_share(&self) -> usize {
        (self.max_restarting_databases / usize::from(self.shards)).max(1)
    }

    /// The whole of it as options, for `--print-config`: what is printed can be used as a file.
    #[must_use]
    pub(crate) fn to_options(&self) -> Options {
        let config = self.clone();
        Options {
            kubeconfig: config.kubeconfig,
            context: config.context,
            namespaces: Some(config.namespaces),
            workers: Some(config.workers),
            retries_per_second: Some(config.retries_per_second),
            reconcile_seconds: Some(config.reconcile_seconds),
            queue_capacity: Some(config.queue_capacity),
            member: Some(config.member),
            operator_namespace: Some(config.operator_namespace),
            health_address: Some(config.health_address),
            log_format: Some(config.log_format),
            log_filter: Some(config.log_filter),
            catalogue: config.catalogue,
            max_restarting_databases: Some(config.max_restarting_databases),
            shards: Some(config.shards),
            weight: Some(config.weight),
            weight_file: config.weight_file,
            lease_seconds: seconds(config.timings.lease_ms()),
            renew_deadline_seconds: seconds(config.timings.renew_deadline_ms()),
            retry_period_seconds: seconds(config.timings.retry_ms()),
            stop_seconds: Some(config.stop_seconds),
            statefulset_replicas: Some(config.statefulset_replicas),
        }
    }
}

/// What is wrong with a number, if it is not in its range.
fn out_of_range<N: PartialOrd + Display + Copy>(setting: &str, value: N, range: RangeInclusive<N>) -> Option<String> {
    let (least, most) = (range.start(), range.end());
    (!range.contains(&value)).then(|| format!("{setting}: {value} is out of range; choose {least} to {most}"))
}

/// Each of the three by itself may be silent.
fn timings(options: &Options) -> Result<Timings, TimingError> {
    let millis = |said: Option<u16>, default: Millis| said.map_or(default, |seconds| Millis::from(seconds) * 1000);
    let default = Timings::DEFAULT;
    Timings::new(
        millis(options.lease_seconds, default.lease_ms()),
        millis(options.renew_deadline_seconds, default.renew_deadline_ms()),
        millis(options.retry_period_seconds, default.retry_ms()),
    )
}

/// Whole seconds, as they came from.
fn seconds(millis: Millis) -> Option<u16> {
    u16::try_from(millis / 1000).ok()
}

#[cfg(test)]
mod tests;
