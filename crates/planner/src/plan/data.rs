//! Data and the credentials that it knows: what is never made anew over data, and never started upon if it is another's.

use std::sync::Arc;

use api::names;
use api::quantity::Quantity;
use serde_json::json;

use super::{Block, Desired, Planner, claim_ref, named_members};
use crate::action::{Generate, Why};
use crate::bodies;
use crate::child::{Child, ChildRef, ClaimFacts, Facts, Kind, Text};

impl Planner<'_> {
    /// The two Secrets. An administrator's Secret that was lost is made anew only if there is no data yet that knows
    /// the old password, or if the engine takes the new one at its next start.
    pub(super) fn credentials(&mut self) {
        let name = &self.desired.subject.name;
        let admin = ChildRef::new(Kind::Secret, names::secret_admin(name));
        let app = ChildRef::new(Kind::Secret, names::secret_app(name));
        let volume = self.children.get(&claim_ref(&self.desired.subject, 0));
        let data = volume.filter(|volume| !self.is_from_template(volume));
        self.has_secret = match self.children.get(&admin) {
            // It is adopted together with its volume, or not at all: it stays with data that this Database refuses.
            Some(found) if is_admin_of(found, self.desired) => {
                let belongs =
                    |data: &Arc<Child>| is_volume_of(data, self.desired) && data.marks.lineage == found.marks.lineage;
                if data.is_none_or(belongs) {
                    self.keep_labels(&admin, found, &self.cx.lasting_labels());
                }
                true
            }
            Some(_) => {
                self.block(Block::NameTaken(admin.clone()));
                false
            }
            // There is data that this Database will not start upon; `volumes` says why. A Secret made for it would
            // look as if the two belonged together.
            None if data.is_some_and(|data| !is_volume_of(data, self.desired)) => false,
            None if data.is_some() && !engines::profile(self.desired.intent.engine).credentials_follow_secret => {
                self.block(Block::CredentialsLost(admin.clone()));
                false
            }
            None => {
                let body = bodies::secret_admin(&self.cx);
                self.create(&admin, body, Generate::AdminCredentials);
                self.remaking =
                    named_members(&self.desired.subject, self.children).any(|(_, pod)| pod.marks.credentials.is_some());
                true
            }
        };
        match self.children.get(&app) {
            Some(found) if !self.ours(found) => self.block(Block::NameTaken(app)),
            Some(found) => self.keep_labels(&app, found, &self.cx.labels()),
            None if self.has_secret => {
                let body = bodies::secret_app(&self.cx);
                self.create(&app, body, Generate::AppCredentials);
            }
            None => {}
        }
    }

    /// Whether the StatefulSet made this claim from our template, because ours had gone. Such a one is empty; it lacks the
    /// labels that every volume of ours is born with. A claim whose labels have all gone is none: it may hold data.
    fn is_from_template(&self, claim: &Child) -> bool {
        let marks = &claim.marks;
        marks.managed_by.as_deref() == Some(names::FIELD_MANAGER)
            && marks.database.as_deref() == Some(self.desired.subject.name.as_str())
            && marks.engine.is_none()
            && marks.lineage.is_none()
    }

    /// The volume, which is made before its pod, and never started upon if it is of another engine, major or lineage.
    pub(super) fn volumes(&mut self) {
        let claim = claim_ref(&self.desired.subject, 0);
        let Some(found) = self.children.get(&claim) else {
            // Without a Secret of its own it would pass for data whose password is lost.
            if self.has_secret {
                let body = bodies::claim(&self.cx, &claim);
                self.create(&claim, body, Generate::Nothing);
            }
            return;
        };
        if found.deleting {
            self.block(Block::VolumeLeaving(claim));
            return;
        }
        if found.controller.is_some() {
            self.block(Block::NameTaken(claim));
            return;
        }
        let mut labels = bodies::claim_labels(&self.cx);
        if !self.startable {
            // Taken over only to be started upon.
            labels.remove(crate::marks::OWNER_LABEL);
        }
        let intent = &self.desired.intent;
        let engine = intent.engine.to_string();
        let marks = &found.marks;
        let fits = |has: &Option<Text>, wanted: &str| has.as_deref().is_none_or(|has| has == wanted);
        if marks.lineage.is_none() && fits(&marks.engine, &engine) && fits(&marks.major, &intent.release.major) {
            // Made by the StatefulSet from our template because ours had gone: it is empty, and ours. Or the label was
            // taken off one that is ours: should it hold other data, the init container finds that out.
            let is_ours = marks.managed_by.as_deref() == Some(names::FIELD_MANAGER)
                && marks.database.as_deref() == Some(self.desired.subject.name.as_str());
            if !is_ours {
                self.block(Block::NameTaken(claim));
                return;
            }
            self.merge(&claim, found, json!({"metadata": {"labels": labels}}), Why::Differs);
        } else {
            let expected = [
                ("engine", &marks.engine, engine.as_str()),
                ("major", &marks.major, intent.release.major.as_str()),
                ("lineage", &marks.lineage, self.cx.lineage.as_str()),
            ];
            let mismatch: Vec<String> = expected
                .iter()
                .filter(|(_, has, wanted)| has.as_deref() != Some(*wanted))
                .map(|(what, has, wanted)| {
                    format!("{what} is {}, wanted {wanted}", has.as_deref().unwrap_or("unknown"))
                })
                .collect();
            if !mismatch.is_empty() {
                self.block(Block::ForeignVolume {
                    claim,
                    mismatch: mismatch.join(", "),
                });
                return;
            }
            self.keep_labels(&claim, found, &labels);
        }
        self.grow(&claim, found);
    }

    fn grow(&mut self, claim: &ChildRef, found: &Child) {
        let Facts::Claim(ClaimFacts {
            requested: Some(requested),
            ..
        }) = &found.facts
        else {
            return;
        };
        let Ok(requested) = requested.parse::<Quantity>() else {
            return;
        };
        let wanted = &self.desired.intent.storage;
        if *wanted > requested {
            let storage = json!({"storage": wanted.to_string()});
            self.merge(
                claim,
                found,
                json!({"spec": {"resources": {"requests": storage}}}),
                Why::Grow,
            );
        }
    }
}

/// Whether a volume of the right name holds data that this engine and major wrote for a Database of this name.
pub(super) fn is_volume_of(claim: &Child, desired: &Desired) -> bool {
    outlives(claim, desired) && claim.marks.major.as_deref() == Some(desired.intent.release.major.as_str())
}

/// Whether a Secret of the right name holds the administrator's credentials of this Database and engine: one that we
/// made, now or for the Database of this name that went before.
pub(super) fn is_admin_of(secret: &Child, desired: &Desired) -> bool {
    outlives(secret, desired)
}

/// Whether this was made to outlive a Database of this name and engine.
fn outlives(child: &Child, desired: &Desired) -> bool {
    let marks = &child.marks;
    child.controller.is_none()
        && marks.managed_by.as_deref() == Some(names::FIELD_MANAGER)
        && marks.database.as_deref() == Some(desired.subject.name.as_str())
        && marks.engine.as_deref() == Some(desired.intent.engine.as_str())
        && marks.lineage.is_some()
}
