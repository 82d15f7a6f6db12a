//! What is worth an event: transitions of the status.

use api::database::status::{ConditionStatus, ConditionType, DatabaseStatus};

use super::{
    ENGINE_REFUSES, FOREIGN_VOLUME, NAME_TAKEN, POLICY_DENIED, RECONCILE_PANICKED, RECONCILE_TIMED_OUT,
    RESTART_PENDING, VOLUME_LEAVING,
};

/// Something worth an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Whether somebody should look.
    pub warning: bool,
    /// One word for programs.
    pub reason: &'static str,
    /// What was done or not done.
    pub action: &'static str,
    /// For people.
    pub message: String,
}

/// What to publish about the step from one status to the next: transitions only.
pub fn notes(previous: &DatabaseStatus, next: &DatabaseStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    let is = |status: &DatabaseStatus, kind| {
        status
            .condition(kind)
            .map(|condition| (condition.status, condition.reason.clone()))
    };
    for kind in ConditionType::ALL {
        let (was, now) = (is(previous, kind), is(next, kind));
        let Some(condition) = next.condition(kind).filter(|_| was != now) else {
            continue;
        };
        let holds = condition.status == ConditionStatus::True;
        let held = was.as_ref().is_some_and(|(status, _)| *status == ConditionStatus::True);
        let failed = was
            .as_ref()
            .is_some_and(|(status, _)| *status == ConditionStatus::False);
        let note = match kind {
            ConditionType::Ready if holds && !held => Some((false, "Ready", "Serve")),
            ConditionType::Ready if held => Some((true, "NotReady", "Serve")),
            ConditionType::Applied if holds && was.is_none() => Some((false, "Created", "Apply")),
            ConditionType::Applied if !holds && condition.reason == NAME_TAKEN => Some((true, NAME_TAKEN, "Apply")),
            ConditionType::SpecValid if !holds => Some((true, "SpecRefused", "Validate")),
            ConditionType::SpecValid if failed => Some((false, "SpecAccepted", "Validate")),
            ConditionType::PolicyAllowed if condition.reason == POLICY_DENIED => {
                Some((true, POLICY_DENIED, "Validate"))
            }
            ConditionType::PolicyAllowed if !holds => Some((true, "PolicyViolated", "Validate")),
            ConditionType::PolicyAllowed if failed => Some((false, "PolicyAllowed", "Validate")),
            ConditionType::StorageReady if !holds && condition.reason == FOREIGN_VOLUME => {
                Some((true, FOREIGN_VOLUME, "Mount"))
            }
            ConditionType::StorageReady if !holds && condition.reason == VOLUME_LEAVING => {
                Some((true, VOLUME_LEAVING, "Mount"))
            }
            ConditionType::ConfigurationApplied if !holds && condition.reason == ENGINE_REFUSES => {
                Some((true, ENGINE_REFUSES, "Configure"))
            }
            ConditionType::ConfigurationApplied if !holds && condition.reason == RESTART_PENDING => {
                Some((false, "Restarting", "Configure"))
            }
            ConditionType::CredentialsInSync if !holds => Some((true, "CredentialsOutOfSync", "Authenticate")),
            ConditionType::BackupHealthy if !holds => Some((true, "BackupUnhealthy", "BackUp")),
            ConditionType::Stalled if holds && condition.reason == RECONCILE_PANICKED => {
                Some((true, RECONCILE_PANICKED, "Reconcile"))
            }
            ConditionType::Stalled if holds && condition.reason == RECONCILE_TIMED_OUT => {
                Some((true, RECONCILE_TIMED_OUT, "Reconcile"))
            }
            ConditionType::Paused if holds => Some((false, "Paused", "Pause")),
            ConditionType::Ready
            | ConditionType::Applied
            | ConditionType::SpecValid
            | ConditionType::PolicyAllowed
            | ConditionType::Reconciling
            | ConditionType::Stalled
            | ConditionType::StorageReady
            | ConditionType::ConfigurationApplied
            | ConditionType::BackupHealthy
            | ConditionType::CredentialsInSync
            | ConditionType::MonitoringHealthy
            | ConditionType::Paused => None,
        };
        if let Some((warning, reason, action)) = note {
            notes.push(Note {
                warning,
                reason,
                action,
                message: condition.message.clone(),
            });
        }
    }
    notes
}
