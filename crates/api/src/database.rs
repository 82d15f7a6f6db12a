//! The `Database`: what a user declares, and (in [`status`]) what the operator reports.
//!
//! The descriptions here are what `kubectl explain database` prints. Bounds, patterns, defaults and CEL rules here are
//! what the API server enforces; [`crate::rules`] tells the same offline.

#![allow(
    unreachable_pub,
    reason = "`KubeSchema` copies each struct into a function to derive its schema"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use quantity_text::QuantityText;
pub use status::{
    BackupStatus, Condition, ConditionStatus, ConditionType, ConnectionInfo, DatabaseStatus, MemberStatus, Operation,
    Phase, ReplicaStatus, VersionStatus,
};

mod quantity_text;
pub mod status;

/// What kind of database to run, which version, with what resources, and how to look after it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "intent.example.com",
    version = "v1",
    kind = "Database",
    plural = "databases",
    singular = "database",
    shortname = "db",
    category = "all",
    namespaced,
    status = "DatabaseStatus",
    derive = "PartialEq",
    doc = "A database that is declared here and made, kept and looked after by the database operator.",
    printcolumn(name = "Engine", type_ = "string", json_path = ".spec.engine", description = "Database engine."),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version", description = "Declared version."),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Where it stands."),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.replicaStatus.summary",
        description = "Members that are ready, of those that are wanted."
    ),
    printcolumn(
        name = "Primary",
        type_ = "string",
        json_path = ".status.replicaStatus.primary",
        description = "Pod that takes writes.",
        priority = 1
    ),
    printcolumn(
        name = "Running",
        type_ = "string",
        json_path = ".status.version.running",
        description = "Version that runs.",
        priority = 1
    ),
    printcolumn(
        name = "Last Backup",
        type_ = "date",
        json_path = ".status.backupStatus.lastBackupTime",
        description = "When the last backup ended.",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "What it waits for, or what is wrong."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Age."),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name: must begin with a lower-case letter, hold only lower-case letters, digits and '-', and end with a letter or digit (its Services bear it); rename the Database")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new("size(self.metadata.name) <= 40")
        .message("metadata.name: must have at most 40 characters (the names of its children are longer, and theirs are bounded); shorten the name")
        .reason(Reason::FieldValueInvalid)
)]
#[x_kube(
    validation = Rule::new("self.engine != 'postgresql' || self.version.matches('^[1-9][0-9]{0,4}(\\\\.(0|[1-9][0-9]{0,4}))?$')")
        .message("PostgreSQL has versions of the form MAJOR or MAJOR.MINOR; write for example '16' or '16.4'")
        .field_path(".version")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new("self.engine == 'postgresql' || self.version.matches('^[1-9][0-9]{0,4}(\\\\.(0|[1-9][0-9]{0,4})){1,2}$')")
        .message("this engine has versions of the form X.Y or X.Y.Z; write for example '8.4' or '8.4.3'")
        .field_path(".version")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new("has(self.storageClass) == has(oldSelf.storageClass) && (!has(self.storageClass) || self.storageClass == oldSelf.storageClass)")
        .message("cannot be changed, added or removed after creation, because a volume cannot move; restore the old value, or create a new Database and copy the data")
        .field_path(".storageClass")
        .reason(Reason::FieldValueForbidden)
)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSpec {
    /// Database engine: `postgresql`, `mysql`, `mongodb` or `redis`.
    ///
    /// Required. Cannot be changed after creation: another engine cannot read the data. Create a new Database instead.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message(Message::Expression("'cannot be changed from ' + oldSelf + ' to ' + self + ' after creation, because one engine cannot read the data of another; restore the old value, or create a new Database'".into()))
        .reason(Reason::FieldValueForbidden))]
    pub engine: Engine,

    /// Version of the engine, as text. PostgreSQL: `MAJOR` or `MAJOR.MINOR`, for example `"16"` or `"16.4"`. The other
    /// engines: `X.Y` or `X.Y.Z`, for example `"8.4"`. In YAML it must stand in quotes, or it is read as a number.
    ///
    /// Required. An incomplete version means the newest one that the operator's catalogue has for it. May be raised
    /// within a major version; that restarts the database. Major upgrades and downgrades are refused.
    #[schemars(
        length(min = 1, max = 20),
        regex(pattern = r"^[1-9][0-9]{0,4}(\.(0|[1-9][0-9]{0,4})){0,2}$")
    )]
    pub version: String,

    /// How much CPU, memory and storage each member of the database has.
    ///
    /// Required. CPU and memory may be changed, which restarts the database. Storage may only grow.
    pub resources: ResourceRequirements,

    /// Name of the StorageClass that makes the volumes, for example `fast-ssd`.
    ///
    /// Default: the cluster's default StorageClass at the time of creation. Cannot be changed, added or removed after
    /// creation, because a volume cannot move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub storage_class: Option<String>,

    /// Whether the database survives the loss of a node, by more than one member with replication between them.
    ///
    /// Default: `false`. Not yet available: `true` is refused in the condition `SpecValid`.
    #[serde(default)]
    pub high_availability: bool,

    /// What happens to the data when the Database is deleted: `Retain` keeps volumes and administrator's credentials, so
    /// that a Database of the same name finds them again; `Delete` deletes them for ever.
    ///
    /// Default: `Retain`. May be changed at any time, without a restart; what stands here at the deletion counts.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// When to take backups, how long to keep them, and where.
    ///
    /// Default: no backups. May be changed at any time, without a restart. Not yet available: it is accepted and the
    /// condition `BackupHealthy` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_policy: Option<BackupPolicy>,

    /// Parameters of the engine. A parameter that is named in several places is taken from `parameters` first, then
    /// from `secretRef`, then from `configMapRef`.
    ///
    /// Default: the engine's defaults, fitted to the resources. May be changed at any time; a change restarts the
    /// database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Configuration>,

    /// Metrics and alerts for this database.
    ///
    /// Default: none. May be changed at any time, without a restart. Not yet available: it is accepted and the condition
    /// `MonitoringHealthy` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,
}

/// A database engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// PostgreSQL.
    Postgresql,
    /// MySQL.
    Mysql,
    /// MongoDB.
    Mongodb,
    /// Redis.
    Redis,
}

impl Engine {
    /// Every engine.
    pub const ALL: [Self; 4] = [Self::Postgresql, Self::Mysql, Self::Mongodb, Self::Redis];

    /// As it stands in a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Mysql => "mysql",
            Self::Mongodb => "mongodb",
            Self::Redis => "redis",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no engine.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("must be postgresql, mysql, mongodb or redis, but is {0:?}")]
pub struct UnknownEngine(pub String);

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        Self::ALL
            .into_iter()
            .find(|engine| engine.as_str() == text)
            .ok_or_else(|| UnknownEngine(text.to_owned()))
    }
}

/// What happens to the data when the Database is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Volumes and administrator's credentials are kept.
    #[default]
    Retain,
    /// They are deleted for ever.
    Delete,
}

/// CPU, memory and storage of each member.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceRequirements {
    /// What each member is sure to have. Required, because it names the size of the storage.
    pub requests: Requests,
    /// The most that each member may use. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// What each member is sure to have.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// CPU that each member is sure to have, in cores or thousandths (`m`) of one, for example `500m` or `2`.
    ///
    /// Default: none reserved. More than 0 and at most `limits.cpu`. May be changed; that restarts the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("quantity(string(self)).isGreaterThan(quantity('0'))")
        .message("must be more than 0; write for example 500m, or leave it out")
        .reason(Reason::FieldValueInvalid))]
    pub cpu: Option<QuantityText>,
    /// Memory that each member is sure to have, in bytes, with a suffix, for example `512Mi` (powers of 1024) or `2G`
    /// (powers of 1000).
    ///
    /// Default: none reserved. More than 0 and at most `limits.memory`. May be changed; that restarts the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("quantity(string(self)).isGreaterThan(quantity('0'))")
        .message("must be more than 0; write for example 512Mi, or leave it out")
        .reason(Reason::FieldValueInvalid))]
    pub memory: Option<QuantityText>,
    /// Size of each member's volume, in bytes, with a suffix, for example `20Gi` (powers of 1024) or `20G` (powers of
    /// 1000).
    ///
    /// Required. May grow at any time, if the StorageClass allows it; never shrinks, because a volume cannot.
    #[x_kube(validation = Rule::new("quantity(string(self)).isGreaterThan(quantity('0'))")
        .message("must be more than 0; write for example 20Gi")
        .reason(Reason::FieldValueInvalid))]
    #[x_kube(validation = Rule::new("quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0")
        .message(Message::Expression("'cannot shrink from ' + string(oldSelf) + ' to ' + string(self) + ', because a volume cannot; write ' + string(oldSelf) + ' or more'".into()))
        .reason(Reason::FieldValueForbidden))]
    pub storage: QuantityText,
}

/// The most that each member may use.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The most CPU that each member may use, in cores or thousandths (`m`) of one, for example `2`. Above it, the
    /// database is slowed down.
    ///
    /// Default: no limit. More than 0 and at least `requests.cpu`. May be changed; that restarts the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("quantity(string(self)).isGreaterThan(quantity('0'))")
        .message("must be more than 0; write for example 2, or leave it out")
        .reason(Reason::FieldValueInvalid))]
    pub cpu: Option<QuantityText>,
    /// The most memory that each member may use, in bytes, with a suffix, for example `4Gi`. Above it, the database is
    /// killed and restarted.
    ///
    /// Default: no limit. More than 0 and at least `requests.memory`. May be changed; that restarts the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("quantity(string(self)).isGreaterThan(quantity('0'))")
        .message("must be more than 0; write for example 4Gi, or leave it out")
        .reason(Reason::FieldValueInvalid))]
    pub memory: Option<QuantityText>,
}

/// When to take backups, how long to keep them, and where.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupPolicy {
    /// When to take a backup: five fields of cron (minute, hour, day of the month, month, day of the week), for example
    /// `0 2 * * *` for every night at two, or one of `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`,
    /// `@annually`.
    ///
    /// Required. If day of the month and day of the week are both restricted, either suffices.
    #[schemars(length(min = 1, max = 128))]
    pub schedule: String,
    /// Time zone of `schedule`, a name of the IANA database, for example `Europe/Berlin`.
    ///
    /// Default: `UTC`.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_+/-]*$"))]
    pub time_zone: String,
    /// How long to keep a backup: a number and a unit, `d` days, `w` weeks, `m` months (not minutes) or `y` years, for
    /// example `30d` or `6m`.
    ///
    /// Required. The last good backup is kept, whatever its age.
    #[schemars(length(min = 2, max = 6), regex(pattern = r"^[1-9][0-9]*[dwmy]$"))]
    pub retention: String,
    /// Where to keep backups, as a URL, for example `s3://company-backups/databases/shop/`.
    ///
    /// Default: where the operator is configured to keep backups. Never put credentials in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[a-z][a-z0-9+.-]*://[^\s@]+$"))]
    pub storage_location: Option<String>,
    /// Whether backups are encrypted before they leave the pod.
    ///
    /// Default: left to the operator's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<bool>,
}

/// Default of [`BackupPolicy::time_zone`].
fn utc() -> String {
    "UTC".to_owned()
}

/// Parameters of the engine, and where they come from.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Parameters by the names that the engine has for them, for example `max_connections: "200"`. Values are text: in
    /// YAML, numbers and words such as `on` must stand in quotes. At most 200.
    ///
    /// Default: none. Parameters that the operator sets itself (paths, ports, replication, authentication) are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 200), schema_with = "parameters_schema")]
    #[x_kube(validation = Rule::new("self.all(name, size(name) <= 128)")
        .message("a parameter's name must have at most 128 characters; shorten it")
        .reason(Reason::FieldValueInvalid))]
    pub parameters: BTreeMap<String, String>,
    /// ConfigMap in the same namespace whose keys are names of parameters and whose values are theirs.
    ///
    /// Default: none. A change of it is seen within 5 minutes, at once if it has the label
    /// `intent.example.com/watch: "true"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<LocalRef>,
    /// Secret in the same namespace whose keys are names of parameters and whose values are theirs.
    ///
    /// Default: none. Its values appear in no status, event, log, metric or ConfigMap. A change of it is seen within 5
    /// minutes, at once if it has the label `intent.example.com/watch: "true"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// Values are bounded, and are single lines: a line break would smuggle in parameters that were never checked.
fn parameters_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 200,
        "additionalProperties": {"type": "string", "maxLength": 4096, "pattern": r"^[^\x00-\x08\x0a-\x1f\x7f]*$"},
    })
}

/// An object in the same namespace.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the object, for example `shop-settings`. Required.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

/// Metrics and alerts for this database.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Whether the database exports metrics. Default: `false`.
    #[serde(default)]
    pub enabled: bool,
    /// Whether a ServiceMonitor tells Prometheus to scrape it; needs the Prometheus operator. Default: `false`.
    #[serde(default)]
    pub service_monitor: bool,
    /// Whether a PrometheusRule brings alerts for it; needs the Prometheus operator. Default: `false`.
    #[serde(default)]
    pub prometheus_rule: bool,
    /// Names of further metrics to export, for example `pg_stat_statements_calls`. At most 50, each once.
    ///
    /// Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 50),
        inner(length(min = 1, max = 128), regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub custom_metrics: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_written_as_they_are_read() {
        for engine in Engine::ALL {
            assert_eq!(engine.to_string().parse(), Ok(engine));
            assert_eq!(serde_json::to_value(engine).unwrap(), engine.as_str());
        }
        let error = "PostgreSQL".parse::<Engine>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "must be postgresql, mysql, mongodb or redis, but is \"PostgreSQL\""
        );
    }

    #[test]
    fn quantities_keep_their_text() {
        for text in ["\"1024Mi\"", "\"1e3\"", "\" x \""] {
            let kept: QuantityText = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&kept).unwrap(), text);
        }
        let number: QuantityText = serde_json::from_str("10").unwrap();
        assert_eq!(number, QuantityText::from("10"));
        assert!(serde_json::from_str::<QuantityText>("[]").is_err());
    }

    proptest::proptest! {
        /// Whatever the schema lets through is a quantity, so that the API server's own arithmetic on it cannot fail.
        #[test]
        fn the_pattern_lets_only_quantities_through(text in "[0-9]{0,3}(\\.[0-9]{0,3})?[numkKMGTPEei]{0,2}[+-]?[0-9]{0,3}") {
            let pattern = regex::bytes::Regex::new(quantity_text::PATTERN).unwrap();
            if pattern.is_match(text.as_bytes()) {
                proptest::prop_assert!(QuantityText::new(text).parse().is_ok());
            }
        }
    }
}
