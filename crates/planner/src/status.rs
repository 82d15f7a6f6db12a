//! What is reported: conditions, a phase for people, and where to connect.
//!
//! Everything is computed anew from what is observed; nothing is decided from a stored phase. The only thing that is
//! taken from the previous status is what cannot be observed again: when a condition last changed, and which version
//! ran before.
//!
//! The fence is none of this: every write of a status carries it, and a new one alone is no reason to write.

mod members;
mod notes;

use std::time::Duration;

use api::database::LocalRef;
use api::database::status::{Condition, ConditionStatus, ConditionType, ConnectionInfo, DatabaseStatus, Phase};
use api::names;
use engines::profile;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use self::members::Members;
pub use self::notes::{Note, notes};

use crate::child::{ChildRef, Children, Facts};
use crate::plan::{Block, Desired, Plan, claim_ref, latest_revision};
use crate::ruling::Ruling;
use crate::validate::Refusal;

/// A write that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What was written; `None` for the Database itself.
    pub child: Option<ChildRef>,
    /// The API server's words.
    pub message: String,
    /// Whether the server will never accept it, so that only a change of the spec helps.
    pub permanent: bool,
}

/// How far a reconcile came.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// `metadata.generation` that was looked at.
    pub generation: i64,
    /// Why the declared spec is refused, if it is.
    pub refusal: Option<&'a Refusal>,
    /// What policies say, if they are asked.
    pub ruling: Option<&'a Ruling>,
    /// What is worked from; `None` if no spec was ever accepted.
    pub desired: Option<&'a Desired>,
    /// The last plan, if one was made.
    pub plan: Option<&'a Plan>,
    /// The children after its writes.
    pub children: &'a Children,
    /// The write that failed, if one did.
    pub failure: Option<&'a Failure>,
    /// A child whose repair was put off, because somebody undoes it again and again.
    pub contested: Option<&'a ChildRef>,
    /// Whether the Database is paused.
    pub paused: bool,
}

impl Progress<'_> {
    /// Whether what is declared is not accepted.
    fn refused(&self) -> bool {
        self.refusal.is_some() || self.ruling.is_some_and(Ruling::refuses)
    }
}

/// A status, ready to be compared and written.
#[derive(Clone, PartialEq, Debug)]
pub struct Reported {
    /// The status.
    pub status: DatabaseStatus,
    ready: bool,
}

impl Reported {
    /// Whether all members serve with the declared configuration.
    pub fn ready(&self) -> bool {
        self.ready
    }
}

/// What one condition says now.
struct Says {
    kind: ConditionType,
    status: ConditionStatus,
    reason: &'static str,
    message: String,
}

fn says(kind: ConditionType, good: bool, reason: &'static str, message: impl Into<String>) -> Says {
    Says {
        kind,
        status: good.into(),
        reason,
        message: message.into(),
    }
}

/// The status after a reconcile.
pub fn of(previous: &DatabaseStatus, progress: &Progress, now: &Time) -> Reported {
    let members = Members::of(progress);
    let spec_valid = spec_valid(progress);
    let allowed = progress.ruling.map(allowed);
    let applied = applied(progress);
    let storage = storage(progress);
    let configuration = members.configuration(progress);
    let credentials = credentials(progress, &members);
    let ready = ready(progress, &members, &[&storage, &credentials, &configuration]);
    let is_ready = ready.status == ConditionStatus::True;

    let stuck = [&spec_valid]
        .into_iter()
        .chain(&allowed)
        .chain([&applied, &storage, &credentials, &configuration])
        .find(|says| NEEDS_A_PERSON.contains(&says.reason));
    let stalled = match stuck {
        Some(says) => self::says(ConditionType::Stalled, true, says.reason, says.message.clone()),
        None => self::says(ConditionType::Stalled, false, "Progressing", "nothing needs a person"),
    };
    let working = !is_ready && stuck.is_none() && !progress.paused;
    let reconciling = if working {
        says(ConditionType::Reconciling, true, ready.reason, ready.message.clone())
    } else {
        says(ConditionType::Reconciling, false, "Settled", "nothing is being changed")
    };
    let phase = phase(previous, progress, is_ready, stuck.is_some());
    let message = stuck.map_or_else(|| ready.message.clone(), |says| says.message.clone());

    let mut all = vec![ready, applied, spec_valid, reconciling, stalled];
    all.extend(allowed);
    if progress.desired.is_some() {
        all.extend([storage, configuration, credentials]);
    }
    let not_yet = "is not yet available; the declaration is kept and will take effect";
    if progress.desired.is_some_and(|desired| desired.intent.backup) {
        all.push(says(
            ConditionType::BackupHealthy,
            false,
            "NotYetAvailable",
            format!("backup {not_yet}: NO BACKUP IS MADE"),
        ));
    }
    if progress.desired.is_some_and(|desired| desired.intent.monitoring) {
        all.push(says(
            ConditionType::MonitoringHealthy,
            false,
            "NotYetAvailable",
            format!("monitoring {not_yet}"),
        ));
    }
    if progress.paused {
        let message = format!(
            "annotation {} is true: nothing is written but this status",
            names::PAUSED_ANNOTATION
        );
        all.push(says(ConditionType::Paused, true, "Paused", message));
    }

    let mut status = DatabaseStatus {
        observed_generation: Some(progress.generation),
        accepted_generation: if !progress.refused() && is_recorded(progress) {
            Some(progress.generation)
        } else {
            previous.accepted_generation
        },
        phase: Some(phase),
        message: Some(shortened(&message)),
        // What is not said any more (a backup that is no longer declared) goes.
        conditions: conditions(previous, all, progress.generation, now, |_| false),
        ..previous.clone()
    };
    if let Some(desired) = progress.desired {
        status.connection_info = Some(connection(desired));
        status.replica_status = Some(members.status(desired));
        status.version = members.version(previous, desired);
    }
    stamp_time(previous, &mut status, now);
    Reported {
        status,
        ready: is_ready,
    }
}

/// The status of a Database that is being deleted.
pub fn deleting(previous: &DatabaseStatus, waits_for: &[ChildRef], now: &Time) -> DatabaseStatus {
    let names: Vec<String> = waits_for.iter().map(ToString::to_string).collect();
    let message = format!("being deleted; waits for {}", names.join(", "));
    let generation = previous.observed_generation.unwrap_or_default();
    let mut status = DatabaseStatus {
        phase: Some(Phase::Deleting),
        // The names change with every child that goes; that alone is no reason to write.
        message: if previous.phase == Some(Phase::Deleting) {
            previous.message.clone()
        } else {
            Some(shortened(&message))
        },
        ..previous.clone()
    };
    let now_says = vec![
        says(ConditionType::Ready, false, "Deleting", "being deleted"),
        says(ConditionType::Reconciling, true, "Deleting", "being deleted"),
    ];
    let said: Vec<ConditionType> = now_says.iter().map(|says| says.kind).collect();
    status.conditions = conditions(previous, now_says, generation, now, |kind| !said.contains(&kind));
    stamp_time(previous, &mut status, now);
    status
}

/// Why a reconcile did not come to its end, by a fault of the operator's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrokenOff {
    /// It panicked: a defect.
    Panicked,
    /// It took longer than it may.
    TimedOut(Duration),
}

/// The status of a Database whose reconcile was broken off: what was known of it, and why nothing more is.
pub fn broken_off(previous: &DatabaseStatus, why: BrokenOff, generation: i64, now: &Time) -> DatabaseStatus {
    let (reason, what) = match why {
        BrokenOff::Panicked => (
            RECONCILE_PANICKED,
            "the operator failed on this Database; that is a defect of the operator, whose log tells more".to_owned(),
        ),
        BrokenOff::TimedOut(limit) => (
            RECONCILE_TIMED_OUT,
            format!(
                "looking after this Database took longer than {} s and was broken off",
                limit.as_secs()
            ),
        ),
    };
    let message = format!("{what}; it is tried again, less and less often. What runs is left as it is");
    let mut status = DatabaseStatus {
        message: Some(shortened(&message)),
        ..previous.clone()
    };
    let stalled = says(ConditionType::Stalled, true, reason, message);
    status.conditions = conditions(previous, vec![stalled], generation, now, |kind| {
        kind != ConditionType::Stalled
    });
    stamp_time(previous, &mut status, now);
    status
}

/// A reconcile panicked.
pub const RECONCILE_PANICKED: &str = "ReconcilePanicked";
/// A reconcile took too long.
pub const RECONCILE_TIMED_OUT: &str = "ReconcileTimedOut";

/// Reasons that only a person can end.
const NEEDS_A_PERSON: [&str; 10] = [
    POLICY_DENIED,
    CONTESTED,
    REFUSED,
    MISSING_REFERENCE,
    NAME_TAKEN,
    FOREIGN_VOLUME,
    CREDENTIALS_LOST,
    ENGINE_REFUSES,
    REJECTED,
    VOLUME_LEAVING,
];
/// The declared spec is refused.
pub const REFUSED: &str = "Refused";
/// Policies refuse the change.
pub const POLICY_DENIED: &str = "PolicyDenied";
/// Something that the spec refers to does not exist.
pub const MISSING_REFERENCE: &str = "ReferenceMissing";
/// An object of a child's name belongs to somebody else.
pub const NAME_TAKEN: &str = "NameTaken";
/// A volume was left by another engine, major or lineage.
pub const FOREIGN_VOLUME: &str = "ForeignVolume";
/// The volume is being deleted while it is used.
pub const VOLUME_LEAVING: &str = "VolumeBeingDeleted";
/// The administrator's Secret is gone and cannot be made anew.
pub const CREDENTIALS_LOST: &str = "CredentialsLost";
/// The engine does not start with what is declared.
pub const ENGINE_REFUSES: &str = "EngineRefuses";
/// A member still runs with other inputs than declared.
const RESTART_PENDING: &str = "RestartPending";
/// Something is left undone because it is not safe.
const BLOCKED: &str = "Blocked";
/// Another controller undoes our repairs.
pub const CONTESTED: &str = "Contested";
/// The API server refuses a child.
pub const REJECTED: &str = "RejectedByServer";

fn allowed(ruling: &Ruling) -> Says {
    Says {
        kind: ConditionType::PolicyAllowed,
        status: ruling.finding.status(),
        reason: ruling.finding.reason(),
        message: ruling.message.clone(),
    }
}

fn spec_valid(progress: &Progress) -> Says {
    match progress.refusal {
        None if progress.refused() => says(ConditionType::SpecValid, true, "Valid", "every check passed"),
        None => says(ConditionType::SpecValid, true, "Accepted", "every check passed"),
        Some(refusal) => {
            let faults: Vec<String> = refusal.faults.iter().map(ToString::to_string).collect();
            let reason = if refusal.only_missing {
                MISSING_REFERENCE
            } else {
                REFUSED
            };
            says(ConditionType::SpecValid, false, reason, faults.join(" | "))
        }
    }
}

fn applied(progress: &Progress) -> Says {
    let no = |reason, message: String| says(ConditionType::Applied, false, reason, message);
    let taken = progress.plan.and_then(|plan| {
        plan.blocks.iter().find_map(|block| match block {
            Block::NameTaken(child) => Some(child),
            _ => None,
        })
    });
    match (progress.failure, taken) {
        (Some(failure), _) => no(
            if failure.permanent { REJECTED } else { "WriteFailed" },
            failure.message.clone(),
        ),
        (None, Some(child)) => no(
            NAME_TAKEN,
            format!("{child} exists and is not ours, so it is not touched; remove it, or name the Database otherwise"),
        ),
        (None, None) if progress.contested.is_some() => no(
            CONTESTED,
            format!(
                "{} is changed by somebody else as often as it is repaired, so it is repaired less often; \
                 `kubectl get --show-managed-fields` tells who, and they must stop",
                progress.contested.map(ToString::to_string).unwrap_or_default()
            ),
        ),
        (None, None) if progress.refused() && progress.desired.is_some() => no(
            "PreviousSpecApplied",
            "the spec accepted before is kept in force".to_owned(),
        ),
        (None, None) if progress.desired.is_none() => no("NothingAccepted", "no spec has been accepted yet".to_owned()),
        (None, None) if progress.paused => no("Paused", "paused".to_owned()),
        (None, None) if progress.plan.is_some_and(|plan| !plan.blocks.is_empty()) => no(
            BLOCKED,
            "what is not safe is left undone; another condition tells why".to_owned(),
        ),
        (None, None) => says(ConditionType::Applied, true, "Applied", "all children are as declared"),
    }
}

fn storage(progress: &Progress) -> Says {
    let no = |reason, message: String| says(ConditionType::StorageReady, false, reason, message);
    for block in progress.plan.into_iter().flat_map(|plan| &plan.blocks) {
        match block {
            Block::ForeignVolume { claim, mismatch } => {
                return no(
                    FOREIGN_VOLUME,
                    format!(
                        "{claim} holds other data ({mismatch}) and is not started upon; \
                         delete the claim if the data is not needed, or name the Database otherwise"
                    ),
                );
            }
            Block::VolumeLeaving(claim) => {
                return no(
                    VOLUME_LEAVING,
                    format!(
                        "{claim} is being deleted and goes when its pod stops; back up the data now, the pod is not restarted"
                    ),
                );
            }
            Block::NameTaken(_) | Block::CredentialsLost(_) | Block::AwaitsSecret => {}
        }
    }
    let Some(desired) = progress.desired else {
        return no("NothingAccepted", String::new());
    };
    let claim = claim_ref(&desired.subject, 0);
    let found = progress.children.get(&claim);
    let Some(Facts::Claim(facts)) = found.map(|claim| &claim.facts) else {
        return no("Missing", format!("{claim} does not exist yet"));
    };
    if facts.phase.as_deref() != Some("Bound") {
        return no("WaitingForVolume", format!("{claim} is not bound yet"));
    }
    let capacity = facts
        .capacity
        .as_deref()
        .and_then(|text| text.parse::<api::quantity::Quantity>().ok());
    match capacity {
        Some(capacity) if capacity < desired.intent.storage => no(
            "Growing",
            format!("{claim} has {capacity} of {}", desired.intent.storage),
        ),
        _ => says(
            ConditionType::StorageReady,
            true,
            "Bound",
            "the volume is bound and as large as declared",
        ),
    }
}

fn credentials(progress: &Progress, members: &Members) -> Says {
    let lost = progress.plan.and_then(|plan| {
        plan.blocks.iter().find_map(|block| match block {
            Block::CredentialsLost(secret) => Some(secret),
            _ => None,
        })
    });
    if let Some(secret) = lost {
        return says(
            ConditionType::CredentialsInSync,
            false,
            CREDENTIALS_LOST,
            format!(
                "{secret} is gone and the data knows its password; \
                 put the Secret back from a copy, or restore a backup into a new Database"
            ),
        );
    }
    if members.stale_credentials {
        return says(
            ConditionType::CredentialsInSync,
            false,
            "Restarting",
            "new credentials take effect at the restart",
        );
    }
    says(
        ConditionType::CredentialsInSync,
        true,
        "InSync",
        "the Secrets and the engine agree",
    )
}

fn ready(progress: &Progress, members: &Members, others: &[&Says]) -> Says {
    let no = |reason, message: String| says(ConditionType::Ready, false, reason, message);
    if progress.desired.is_none() {
        return no("NothingAccepted", "no spec has been accepted yet".to_owned());
    }
    if members.wanted > 0 && members.ready == members.wanted {
        return says(ConditionType::Ready, true, "Serving", "all members serve");
    }
    if let Some(says) = others.iter().find(|says| NEEDS_A_PERSON.contains(&says.reason)) {
        return no(says.reason, says.message.clone());
    }
    if let Some(message) = &members.waits {
        return no("MembersNotReady", message.clone());
    }
    no(
        "MembersNotReady",
        format!("{} of {} members are ready", members.ready, members.wanted),
    )
}

fn phase(previous: &DatabaseStatus, progress: &Progress, ready: bool, stuck: bool) -> Phase {
    let ran_before = previous
        .version
        .as_ref()
        .is_some_and(|version| version.running.is_some());
    match (progress.desired.is_some(), ready, stuck) {
        (_, true, _) => Phase::Ready,
        (_, false, true) => Phase::Failed,
        (false, ..) => Phase::Pending,
        (true, false, false) if ran_before => Phase::Updating,
        (true, false, false) => Phase::Creating,
    }
}

fn connection(desired: &Desired) -> ConnectionInfo {
    let profile = profile(desired.intent.engine);
    ConnectionInfo {
        host: Some(desired.subject.host()),
        read_only_host: None,
        port: Some(i32::from(profile.port)),
        database_name: Some(profile.default_database.to_owned()),
        secret_ref: Some(LocalRef {
            name: names::secret_app(&desired.subject.name),
        }),
        ca_secret_ref: None,
    }
}

/// Whether what is worked from has been recorded as accepted.
fn is_recorded(progress: &Progress) -> bool {
    progress
        .desired
        .is_some_and(|desired| latest_revision(progress.children, &desired.subject.uid).is_some())
}

/// Longest message, in characters; a column of `kubectl get` and an event have no room for more.
const MESSAGE_MAX: usize = 1000;

pub(crate) fn shortened(message: &str) -> String {
    if message.chars().count() <= MESSAGE_MAX {
        return message.to_owned();
    }
    let cut: String = message.chars().take(MESSAGE_MAX - 1).collect();
    format!("{cut}…")
}

/// The conditions as they are written: the time of the last transition is kept while the status of a condition stays,
/// and so are conditions that are not ours, and those of ours that `keeps` names and nobody speaks of now.
fn conditions(
    previous: &DatabaseStatus,
    says: Vec<Says>,
    generation: i64,
    now: &Time,
    keeps: impl Fn(ConditionType) -> bool,
) -> Vec<Condition> {
    let mut all: Vec<Condition> = says
        .into_iter()
        .map(|says| {
            let before = previous
                .condition(says.kind)
                .filter(|before| before.status == says.status);
            Condition {
                type_: says.kind.to_string(),
                status: says.status,
                observed_generation: Some(generation),
                last_transition_time: before
                    .and_then(|before| before.last_transition_time.clone())
                    .or(Some(now.clone())),
                reason: says.reason.to_owned(),
                message: shortened(&says.message),
            }
        })
        .collect();
    let kept = previous
        .conditions
        .iter()
        .filter(|old| match old.type_.parse::<ConditionType>() {
            Ok(kind) => keeps(kind) && all.iter().all(|new| new.type_ != old.type_),
            Err(_) => true,
        });
    let kept: Vec<Condition> = kept.cloned().collect();
    all.extend(kept);
    let place = |condition: &Condition| {
        let kind = condition.type_.parse::<ConditionType>().ok();
        (kind.is_none(), kind)
    };
    all.sort_by_key(place);
    all
}

/// `lastReconcileTime` moves only together with something else: a status that is written for the time alone would wake
/// everybody who watches it.
fn stamp_time(previous: &DatabaseStatus, status: &mut DatabaseStatus, now: &Time) {
    if status != previous {
        status.last_reconcile_time = Some(now.clone());
    }
}

/// JSON merge patch from one status to the next; `null` if nothing changed. Fields that we do not know are not in it,
/// so what a newer operator wrote stays.
pub fn changes(previous: &DatabaseStatus, next: &DatabaseStatus) -> Value {
    if previous == next {
        return Value::Null;
    }
    let [before, after] = [previous, next].map(|status| json!(status));
    difference(&before, &after)
}

fn difference(before: &Value, after: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return after.clone();
    };
    let mut patch = Map::new();
    for (key, value) in after {
        match before.get(key) {
            Some(same) if same == value => {}
            Some(other) => drop(patch.insert(key.clone(), difference(other, value))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    patch.extend(
        before
            .keys()
            .filter(|key| !after.contains_key(*key))
            .map(|key| (key.clone(), Value::Null)),
    );
    Value::Object(patch)
}

#[cfg(test)]
mod tests;
