//! What the pods say, in the light of what is wanted.

use api::database::status::{ConditionType, DatabaseStatus, MemberStatus, ReplicaStatus, VersionStatus};
use engines::profile;

use super::{BLOCKED, ENGINE_REFUSES, Progress, RESTART_PENDING, Says, says};
use crate::child::{Facts, PodFacts, Text, Trouble};
use crate::plan::{self, Block, Desired};

/// The pods, in the light of what is wanted.
#[derive(Default)]
pub(super) struct Members {
    pub(super) wanted: u32,
    pub(super) ready: u32,
    pub(super) stale_credentials: bool,
    pub(super) list: Vec<MemberNow>,
    pub(super) waits: Option<String>,
}

pub(super) struct MemberNow {
    name: Text,
    role: Option<Text>,
    ready: bool,
    outdated: bool,
    older_image: bool,
    facts: Box<PodFacts>,
}

impl Members {
    pub(super) fn of(progress: &Progress) -> Self {
        let Some(desired) = progress.desired else {
            return Self::default();
        };
        let inputs = progress.plan.map_or_else(
            || desired.intent.inputs(desired.salt.as_ref()),
            |plan| plan.inputs.clone(),
        );
        let credentials = progress.plan.map(|plan| plan.credentials);
        let follows = profile(desired.intent.engine).credentials_follow_secret;
        let mut members = Self {
            wanted: desired.replicas,
            ..Self::default()
        };
        for (child, pod) in plan::members(&desired.subject, progress.children) {
            let Facts::Pod(facts) = &pod.facts else { continue };
            let outdated = pod.marks.inputs.as_deref() != Some(inputs.as_str());
            let stale = follows && credentials.is_some() && pod.marks.credentials != credentials;
            let ready = facts.ready && !pod.deleting;
            members.ready += u32::from(ready && !outdated && !stale);
            members.stale_credentials |= stale;
            members.list.push(MemberNow {
                name: child.name.clone(),
                role: pod.marks.role.clone(),
                ready,
                outdated,
                older_image: facts.image.as_deref() != Some(desired.intent.release.image.as_str()),
                facts: facts.clone(),
            });
        }
        members.waits = members.list.iter().find_map(|member| member.waits(desired));
        members
    }

    pub(super) fn configuration(&self, progress: &Progress) -> Says {
        let no = |reason, message: String| says(ConditionType::ConfigurationApplied, false, reason, message);
        let Some(desired) = progress.desired else {
            return no("NothingAccepted", String::new());
        };
        if let Some(message) = self.list.iter().find_map(|member| member.engine_refuses(desired)) {
            return no(
                ENGINE_REFUSES,
                format!("{message}; correct the spec, and the database is started again"),
            );
        }
        if progress
            .plan
            .is_some_and(|plan| plan.blocks.contains(&Block::AwaitsSecret))
        {
            return no(
                BLOCKED,
                "whether values of the Secret are in force cannot be told".to_owned(),
            );
        }
        if self.list.iter().any(|member| member.outdated) {
            return no(
                RESTART_PENDING,
                "a member still runs with the configuration before".to_owned(),
            );
        }
        if self.list.is_empty() {
            return no("NoMembers", "no member runs".to_owned());
        }
        if self.list.iter().any(|member| !member.ready) {
            return no("Starting", "a member is not ready yet".to_owned());
        }
        if self.list.iter().any(|member| member.older_image) {
            let message = "as declared; a newer image is taken at the next restart".to_owned();
            return says(ConditionType::ConfigurationApplied, true, "UpdateAvailable", message);
        }
        says(
            ConditionType::ConfigurationApplied,
            true,
            "Applied",
            "all members run with the declared configuration",
        )
    }

    pub(super) fn status(&self, desired: &Desired) -> ReplicaStatus {
        let primary = self
            .list
            .iter()
            .find(|member| member.ready && member.role.as_deref() == Some("primary"));
        let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        ReplicaStatus {
            desired: Some(count(desired.replicas)),
            ready: Some(count(self.ready)),
            summary: Some(format!("{}/{}", self.ready, desired.replicas)),
            primary: primary.map(|member| member.name.to_string()),
            secondaries: Vec::new(),
            members: self
                .list
                .iter()
                .map(|member| MemberStatus {
                    name: member.name.to_string(),
                    role: member.role.as_deref().map(str::to_owned),
                    ready: Some(member.ready),
                    version: None,
                    pending_restart: Some(member.outdated || member.older_image),
                })
                .collect(),
        }
    }

    pub(super) fn version(&self, previous: &DatabaseStatus, desired: &Desired) -> Option<VersionStatus> {
        let Some(member) = self.list.iter().find(|member| member.ready) else {
            return previous.version.clone();
        };
        let before = previous.version.clone().unwrap_or_default();
        let running = if member.older_image {
            before.running
        } else {
            Some(desired.intent.release.version.to_string())
        };
        Some(VersionStatus {
            running,
            image: member.facts.image.as_deref().map(str::to_owned),
            image_id: member.facts.image_id.as_deref().map(str::to_owned),
        })
    }
}

impl MemberNow {
    /// The engine's own complaint, if its last end was by a complaint. Values that came from a Secret are masked.
    fn engine_refuses(&self, desired: &Desired) -> Option<String> {
        if self.ready {
            return None;
        }
        let Trouble { message, .. } = self.facts.trouble.as_ref()?;
        let complaint = engines::refusal(desired.intent.engine, message)?;
        Some(masked(desired, &complaint))
    }

    fn waits(&self, desired: &Desired) -> Option<String> {
        if self.ready {
            return None;
        }
        if let Some(message) = &self.facts.unschedulable {
            return Some(format!("{} cannot be scheduled: {message}", self.name));
        }
        let Trouble {
            container,
            reason,
            message,
        } = self.facts.trouble.as_ref()?;
        let last_line = masked(desired, message.lines().last().unwrap_or_default());
        Some(
            format!("{}, container {container}: {reason} {last_line}", self.name)
                .trim()
                .to_owned(),
        )
    }
}

fn masked(desired: &Desired, text: &str) -> String {
    let secrets: Vec<&str> = desired.intent.secret_parameters.values().map(String::as_str).collect();
    engines::mask(text, &secrets)
}
