//! What `run` can be told, by flag, environment or file: one definition for all three.
//!
//! Precedence, setting by setting: flags, then environment (`DATABASE_OPERATOR_*`), then the file, then defaults.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

pub(crate) use options::{LogFormat, Options};
use sharding::BUCKETS;
use sharding::assignment::MAX_WEIGHT;
use sharding::timing::{Millis, TimingError, Timings};
use workqueue::{Limits, RetryRate};

use crate::names;
use crate::policy::source::Source;

mod options;

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
    /// Where policies come from; none are asked, if empty.
    pub policies: Vec<String>,
    /// Keys that bundles must be signed with, if any.
    pub policy_keys: Vec<PathBuf>,
    /// What bundles must be signed for, if anything.
    pub policy_scope: Option<String>,
    /// Threads that ask policies.
    pub policy_threads: usize,
    /// Where the webhook and the decision log are served.
    pub https_address: Option<SocketAddr>,
    /// Folder with certificates, if not the operator's own.
    pub certificates: Option<PathBuf>,
    /// File in which decisions are kept.
    pub decision_log: Option<PathBuf>,
    /// How long decisions are kept.
    pub decision_log_days: u16,
    /// How much room they may take.
    pub decision_log_mebibytes: u32,
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

/// Bounds of `policyThreads`: more than the cores of a large machine answer nothing sooner.
const POLICY_THREADS: RangeInclusive<usize> = 1..=64;

/// Bounds of `decisionLogDays`: ten years.
const DECISION_LOG_DAYS: RangeInclusive<u16> = 1..=3660;

/// Bounds of `decisionLogMebibytes`: from a few thousand decisions to a terabyte.
const DECISION_LOG_MEBIBYTES: RangeInclusive<u32> = 16..=1_048_576;

/// What must fit, behind `database-operator-member-`, into the name of a Lease (253 characters).
const MAX_MEMBER: usize = 253 - "database-operator-member-".len();

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
            policies: options.policies.filter(|sources| sources != &[""]).unwrap_or_default(),
            policy_keys: options.policy_keys.unwrap_or_default(),
            policy_scope: options.policy_scope,
            policy_threads: options.policy_threads.unwrap_or(2),
            https_address: options.https_address,
            certificates: options.certificates,
            decision_log: options.decision_log,
            decision_log_days: options.decision_log_days.unwrap_or(7),
            decision_log_mebibytes: options.decision_log_mebibytes.unwrap_or(1024),
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
        faults.extend(self.faults_about_policies());
        if self.statefulset_replicas > 1 {
            faults.push(format!(
                "statefulsetReplicas: {} would make servers that do not replicate; choose 0 or 1",
                self.statefulset_replicas
            ));
        }
        faults
    }

    fn faults_about_policies(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Err(error) = Source::parse_all(&self.policies) {
            faults.push(format!("policies: {error}"));
        }
        faults.extend(out_of_range("policyThreads", self.policy_threads, POLICY_THREADS));
        faults.extend(out_of_range(
            "decisionLogDays",
            self.decision_log_days,
            DECISION_LOG_DAYS,
        ));
        let room = self.decision_log_mebibytes;
        faults.extend(out_of_range("decisionLogMebibytes", room, DECISION_LOG_MEBIBYTES));
        let without = [
            ("policyKeys", !self.policy_keys.is_empty()),
            ("httpsAddress", self.https_address.is_some()),
            ("decisionLog", self.decision_log.is_some()),
        ];
        for (setting, _) in without.iter().filter(|(_, said)| *said && self.policies.is_empty()) {
            faults.push(format!("{setting}: means nothing without policies; set policies too"));
        }
        if self.policy_scope.is_some() && self.policy_keys.is_empty() {
            faults.push("policyScope: means nothing without policyKeys; set them too".to_owned());
        }
        if self.certificates.is_some() && self.https_address.is_none() {
            faults.push("certificates: mean nothing without httpsAddress; set it too".to_owned());
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
            policies: Some(config.policies),
            policy_keys: Some(config.policy_keys),
            policy_scope: config.policy_scope,
            policy_threads: Some(config.policy_threads),
            https_address: config.https_address,
            certificates: config.certificates,
            decision_log: config.decision_log,
            decision_log_days: Some(config.decision_log_days),
            decision_log_mebibytes: Some(config.decision_log_mebibytes),
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
