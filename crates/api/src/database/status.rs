//! What the operator reports about a Database.
//!
//! Every field may be absent, and what is not understood (a phase or a time that a newer operator wrote) decodes as
//! absent: replicas of different versions read each other's status during an upgrade. Nothing here is secret, and no
//! decision may rest on it: `phase` and `message` are for people.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::database::LocalRef;

/// What the operator reports. Written by the operator only.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// `metadata.generation` that this status is about. If it is older than the Database's, the last change has not been
    /// looked at yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `metadata.generation` of the last spec that was accepted, which is the one that the database is kept to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_generation: Option<i64>,
    /// Summary for people: `Pending`, `Creating`, `Ready`, `Updating`, `Deleting` or `Failed`. Programs read the
    /// conditions.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub phase: Option<Phase>,
    /// What it waits for, or what is wrong and how to mend it, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
    /// Epoch of the bucket's owner that wrote this status. An older owner is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<i64>,
    /// When the status was last written. It changes only together with something else.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub last_reconcile_time: Option<Time>,
    /// What is true of the database now, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// How to reach the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_info: Option<ConnectionInfo>,
    /// Its members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_status: Option<ReplicaStatus>,
    /// Which version of the engine runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionStatus>,
    /// Its backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_status: Option<BackupStatus>,
    /// The long change that is under way. At most one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
}

impl DatabaseStatus {
    /// The condition of this type, if it is there.
    pub fn condition(&self, of: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == of.as_str())
    }
}

/// Summary of where a database stands, for people.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Nothing has been made yet.
    Pending,
    /// It is being made.
    Creating,
    /// It answers queries, and is as declared.
    Ready,
    /// A change is being carried out.
    Updating,
    /// It is being deleted.
    Deleting,
    /// It cannot go on without a change by its owner.
    Failed,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Creating,
        Self::Ready,
        Self::Updating,
        Self::Deleting,
        Self::Failed,
    ];

    /// As it stands in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Creating => "Creating",
            Self::Ready => "Ready",
            Self::Updating => "Updating",
            Self::Deleting => "Deleting",
            Self::Failed => "Failed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The conditions that the operator reports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConditionType {
    /// The database answers queries (kstatus: `helm --wait` and Flux wait for it).
    Ready,
    /// All children are as the accepted spec wants them.
    Applied,
    /// The declared spec is valid.
    SpecValid,
    /// The policies allow the declared spec.
    PolicyAllowed,
    /// Work is under way (kstatus).
    Reconciling,
    /// Work cannot go on without a change from outside (kstatus).
    Stalled,
    /// The volumes are there, and as large as declared.
    StorageReady,
    /// The engine runs with the declared parameters.
    ConfigurationApplied,
    /// The Secrets and the engine agree about the passwords.
    CredentialsInSync,
    /// Backups are taken as declared.
    BackupHealthy,
    /// Metrics and alerts are there as declared.
    MonitoringHealthy,
    /// An annotation stops all writes but the status.
    Paused,
}

impl ConditionType {
    /// Every type, in the order in which they stand in the status.
    pub const ALL: [Self; 12] = [
        Self::Ready,
        Self::Applied,
        Self::SpecValid,
        Self::PolicyAllowed,
        Self::Reconciling,
        Self::Stalled,
        Self::StorageReady,
        Self::ConfigurationApplied,
        Self::CredentialsInSync,
        Self::BackupHealthy,
        Self::MonitoringHealthy,
        Self::Paused,
    ];

    /// As it stands in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Applied => "Applied",
            Self::SpecValid => "SpecValid",
            Self::PolicyAllowed => "PolicyAllowed",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::StorageReady => "StorageReady",
            Self::ConfigurationApplied => "ConfigurationApplied",
            Self::CredentialsInSync => "CredentialsInSync",
            Self::BackupHealthy => "BackupHealthy",
            Self::MonitoringHealthy => "MonitoringHealthy",
            Self::Paused => "Paused",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no condition of ours: others may add theirs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no condition of the database operator")]
pub struct UnknownCondition(pub String);

impl FromStr for ConditionType {
    type Err = UnknownCondition;

    fn from_str(text: &str) -> Result<Self, UnknownCondition> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| UnknownCondition(text.to_owned()))
    }
}

/// Whether something is true of the database.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about, for example `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// Whether it is true: `True`, `False` or `Unknown`.
    pub status: ConditionStatus,
    /// `metadata.generation` that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub last_transition_time: Option<Time>,
    /// Why, in one word for programs, for example `VersionNotInCatalogue`.
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    )]
    pub reason: String,
    /// Why, in words for people, and how to mend it.
    #[schemars(length(max = 32768))]
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known.
    Unknown,
}

/// What is not understood is not known.
impl<'de> Deserialize<'de> for ConditionStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(deserializer)?.as_str() {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        })
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        })
    }
}

/// How to reach the database. Never a password, and never a URL that holds one.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionInfo {
    /// Name, inside the cluster, of what takes writes, for example `shop-rw.prod.svc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub host: Option<String>,
    /// Name, inside the cluster, of what takes reads only. Absent without a replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub read_only_host: Option<String>,
    /// TCP port of both, for example `5432`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Name of the database inside the engine, for example `app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub database_name: Option<String>,
    /// Secret with everything that an application needs to connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Secret with the certificate (`ca.crt`) by which to check the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<LocalRef>,
}

/// The members of the database.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// How many members there should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<i32>,
    /// How many answer queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<i32>,
    /// Both, for a column of `kubectl get`: `1/1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub summary: Option<String>,
    /// Pod that takes writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub primary: Option<String>,
    /// Pods that follow it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    pub secondaries: Vec<String>,
    /// Each member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub members: Vec<MemberStatus>,
}

/// One member of the database.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Name of its pod.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// What it is: `primary` or `replica`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub role: Option<String>,
    /// Whether it answers queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Version that it runs, for example `16.4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// Whether it takes up a change at its next restart only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_restart: Option<bool>,
}

/// What runs.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// Version that runs, for example `16.4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub running: Option<String>,
    /// Container image, as asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub image: Option<String>,
    /// Container image, as the node resolved it.
    #[serde(default, rename = "imageID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub image_id: Option<String>,
}

/// Backups of the database.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// When the last backup ended.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub last_backup_time: Option<Time>,
    /// When the next one is due.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub next_backup_time: Option<Time>,
    /// How many are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_count: Option<i64>,
    /// How the last one ended, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_backup_status: Option<String>,
}

/// A long change of the database, step by step.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// What tells it from others of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub id: Option<String>,
    /// What it is, for example `RollingUpdate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub kind: Option<String>,
    /// `metadata.generation` of the spec that it works towards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The step that it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub step: Option<String>,
    /// How often this step was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub started_at: Option<Time>,
    /// When this step is given up.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub deadline: Option<Time>,
    /// Whether it is to be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_requested: Option<bool>,
    /// What it waits for, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// A value that may be newer than this code: what is not understood is absent.
fn if_known<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    // By way of JSON: a deserializer of bare text does not know the newtypes that times are.
    Ok(text.and_then(|text| serde_json::from_value(text.into()).ok()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::database::Database;

    #[test]
    fn what_a_newer_operator_wrote_is_passed_over() {
        let status: DatabaseStatus = serde_json::from_value(json!({
            "phase": "Hibernated",
            "message": "sleeps",
            "lastReconcileTime": "yesterday",
            "shards": 3,
            "conditions": [
                {"type": "Hibernated", "status": "Maybe", "reason": "Idle", "message": "", "severity": "Info"},
                {"type": "Ready", "status": "True", "reason": "Answers", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"},
            ],
            "replicaStatus": {"members": [{"name": "a", "role": "arbiter", "lag": 3}]},
        }))
        .unwrap();
        assert_eq!((status.phase, status.last_reconcile_time.as_ref()), (None, None));
        assert_eq!(status.message.as_deref(), Some("sleeps"));
        assert_eq!(status.conditions[0].status, ConditionStatus::Unknown);
        assert_eq!(
            status.condition(ConditionType::Ready).map(|ready| ready.status),
            Some(ConditionStatus::True)
        );
        assert_eq!(status.condition(ConditionType::Paused), None);
        assert_eq!(
            status.replica_status.unwrap().members[0].role.as_deref(),
            Some("arbiter")
        );
    }

    #[test]
    fn an_empty_status_is_written_as_nothing() {
        assert_eq!(serde_json::to_value(DatabaseStatus::default()).unwrap(), json!({}));
        assert_eq!(
            serde_json::from_value::<DatabaseStatus>(json!({})).unwrap(),
            DatabaseStatus::default()
        );
    }

    #[test]
    fn times_are_written_in_whole_seconds() {
        let time = Time("2026-01-02T03:04:05.678Z".parse().unwrap());
        let status = DatabaseStatus {
            last_reconcile_time: Some(time),
            ..DatabaseStatus::default()
        };
        assert_eq!(
            serde_json::to_value(status).unwrap(),
            json!({"lastReconcileTime": "2026-01-02T03:04:05Z"})
        );
    }

    #[test]
    fn names_are_written_as_they_are_read() {
        for of in ConditionType::ALL {
            assert_eq!(of.to_string().parse(), Ok(of));
        }
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
        }
        assert_eq!(
            "ready".parse::<ConditionType>(),
            Err(UnknownCondition("ready".to_owned()))
        );
    }

    #[test]
    fn one_bad_database_does_not_break_a_list() {
        let database = |storage: serde_json::Value| {
            json!({"apiVersion": "intent.example.com/v1", "kind": "Database", "metadata": {"name": "a"}, "spec": {
                "engine": "redis", "version": "seven", "resources": {"requests": {"storage": storage}},
                "backupPolicy": {"schedule": "never", "retention": "0x"}, "unheardOf": true,
            }})
        };
        let list = json!([
            database(json!("much")),
            database(json!(0.5)),
            database(json!(-7)),
            database(json!(u64::MAX))
        ]);
        let list: Vec<Database> = serde_json::from_value(list).unwrap();
        let texts = list
            .iter()
            .map(|database| database.spec.resources.requests.storage.as_str());
        assert_eq!(texts.collect::<Vec<_>>(), ["much", "0.5", "-7", "18446744073709551615"]);
    }
}
