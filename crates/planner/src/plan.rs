//! What must be done now to bring a Database's children to what is declared.
//!
//! [`plan`] is total and pure: data in, data out. It is asked again after every write and every event, so it never
//! assumes that an earlier plan was carried out: each decision comes from what is observed.

use std::collections::BTreeMap;

use api::names;
use serde_json::{Map, Value, json};
use sharding::Bucket;

use self::data::{is_admin_of, is_volume_of};
pub(crate) use self::pods::{members, named_members};
use crate::action::{Action, Effect, Generate, Patch, Why};
use crate::bodies::{self, Context, Part};
use crate::child::{Child, ChildRef, Children, Facts, Kind, Text};
use crate::intent::{Intent, Salt};
use crate::owned::{OwnedDigest, digest_of_body};
use crate::rendered::Rendered;

mod data;
mod pods;

/// Accepted specs that are kept (`docs/api-rules.md`, "What is accepted").
pub const REVISIONS_KEPT: usize = 10;

/// Which Database this is about.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Subject {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// The bucket that its name falls into.
    pub bucket: Bucket,
}

impl Subject {
    /// The owner reference that its children carry.
    pub fn owner_reference(&self) -> Value {
        json!({
            "apiVersion": names::API_VERSION, "kind": names::KIND, "name": self.name, "uid": self.uid,
            "controller": true, "blockOwnerDeletion": true,
        })
    }

    /// Name by which clients in the cluster reach the primary.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", names::service_rw(&self.name), self.namespace)
    }
}

/// What is wanted.
#[derive(Clone, PartialEq, Debug)]
pub struct Desired {
    /// Whose children.
    pub subject: Subject,
    /// The accepted intent.
    pub intent: Intent,
    /// The spec to be recorded as accepted, as JSON; `None` when an earlier accepted spec is being worked from.
    pub accept: Option<Value>,
    /// Salt of the hashes of secret values, if the administrator's Secret exists and there are any.
    pub salt: Option<Salt>,
    /// Number of pods of a member's StatefulSet: 1, unless a test asks for none.
    pub replicas: u32,
}

/// What there is.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Observed {
    /// Merge patch that stamps the Database with finalizer and bucket label, if it lacks one of them.
    pub stamp: Option<Value>,
    /// All children that are known.
    pub children: Children,
}

/// What to do, and what stands in the way of more.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// Writes, in order. A later one may depend on an earlier one.
    pub actions: Vec<Action>,
    /// What was left undone because it is not safe.
    pub blocks: Vec<Block>,
    /// Hash of the user's inputs that pods should run with.
    pub inputs: Text,
    /// How often the credentials were made anew, as pods should have it.
    pub credentials: u32,
}

/// Something that is not done, because doing it would not be safe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Block {
    /// An object of this name exists that is not ours.
    NameTaken(ChildRef),
    /// A volume was written by another engine, major or lineage.
    ForeignVolume {
        /// The claim.
        claim: ChildRef,
        /// What it carries and what is wanted.
        mismatch: String,
    },
    /// A volume is being deleted while it is in use: the data goes when its pod stops.
    VolumeLeaving(ChildRef),
    /// There is data, but the administrator's Secret is gone, and this engine cannot be given a new password.
    CredentialsLost(ChildRef),
    /// Waits for the administrator's Secret, which is made in the same plan.
    AwaitsSecret,
}

/// What brings `observed` to `desired` now. No actions means settled: nothing is written.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    plan_again(desired, observed, &mut Rendered::default())
}

/// The same, sooner, if `rendered` is of an earlier plan for the same Database; it is brought up to date.
pub fn plan_again(desired: &Desired, observed: &Observed, rendered: &mut Rendered) -> Plan {
    let mut planner = Planner::new(desired, observed, rendered);
    planner.stamp_and_accept();
    planner.credentials();
    planner.volumes();
    planner.applied();
    planner.pods();
    planner.surplus();
    planner.plan
}

/// The StatefulSet of a plan if nothing existed, without the rest of that plan.
pub(crate) fn set_alone(desired: &Desired) -> Value {
    let observed = Observed {
        stamp: None,
        children: BTreeMap::new(),
    };
    Part::Set.body(&Planner::new(desired, &observed, &mut Rendered::default()).cx)
}

struct Planner<'a> {
    desired: &'a Desired,
    children: &'a Children,
    cx: Context<'a>,
    rendered: &'a mut Rendered,
    plan: Plan,
    /// Whether pods may be started on what there is.
    startable: bool,
    /// Whether the administrator's Secret is there and ours, or is made by this plan.
    has_secret: bool,
    /// Whether credentials that pods run with are being made anew.
    remaking: bool,
}

impl<'a> Planner<'a> {
    fn new(desired: &'a Desired, observed: &'a Observed, rendered: &'a mut Rendered) -> Self {
        let children = &observed.children;
        let subject = &desired.subject;
        let found = children.get(&ChildRef::new(Kind::Secret, names::secret_admin(&subject.name)));
        let admin = found.filter(|found| is_admin_of(found, desired));
        let claim = children.get(&claim_ref(subject, 0));
        let lineage = admin
            .and_then(|admin| admin.marks.lineage.clone())
            .or_else(|| {
                claim
                    .filter(|claim| is_volume_of(claim, desired))
                    .and_then(|claim| claim.marks.lineage.clone())
            })
            .unwrap_or_else(|| subject.uid.as_str().into());
        let running = named_members(subject, children)
            .filter_map(|(_, pod)| pod.marks.credentials)
            .max();
        let credentials = match (admin, found) {
            (Some(admin), _) => admin.marks.credentials.unwrap_or(1),
            (None, None) if engines::profile(desired.intent.engine).credentials_follow_secret => {
                running.map_or(1, |number| number + 1)
            }
            // Somebody else's Secret says nothing about ours; and where the engine does not follow its Secret, none is
            // made anew over data.
            (None, _) => running.unwrap_or(1),
        };
        let template_storage = children
            .get(&set_ref(subject))
            .and_then(|set| match &set.facts {
                Facts::StatefulSet { template_storage, .. } => template_storage.clone(),
                _ => None,
            })
            .unwrap_or_else(|| desired.intent.storage.to_string().into());
        let mut cx = Context {
            subject,
            intent: &desired.intent,
            lineage,
            credentials,
            inputs: Text::default(),
            template_storage,
            replicas: desired.replicas,
        };
        rendered.begin(&mut cx, desired);
        let mut plan = Plan {
            inputs: cx.inputs.clone(),
            credentials,
            ..Plan::default()
        };
        plan.actions.extend(observed.stamp.clone().map(Action::Stamp));
        Self {
            desired,
            children,
            cx,
            rendered,
            plan,
            startable: true,
            has_secret: false,
            remaking: false,
        }
    }

    fn block(&mut self, block: Block) {
        self.startable = false;
        self.plan.blocks.push(block);
    }

    fn ours(&self, child: &Child) -> bool {
        child.is_controlled_by(&self.desired.subject.uid)
    }

    /// Records the accepted spec before anything is done about it.
    fn stamp_and_accept(&mut self) {
        let subject = &self.desired.subject;
        let mut relabelled = Vec::new();
        let mut last = 0;
        for (child, found) in of_kind(self.children, Kind::ControllerRevision).filter(|(_, found)| self.ours(found)) {
            let number = revision_number(found).unwrap_or_default();
            last = last.max(number);
            if found.marks.bucket.as_deref() != Some(subject.bucket.to_string().as_str()) {
                relabelled.push((child, found));
            }
        }
        for (child, found) in relabelled {
            self.keep_labels(child, found, &bodies::revision_labels(subject));
        }
        let Some(spec) = &self.desired.accept else { return };
        // A name that somebody else took is passed over.
        let taken = |number: &i64| self.children.contains_key(&bodies::revision_ref(subject, *number));
        let number = (last + 1..i64::MAX).find(|number| !taken(number)).unwrap_or(i64::MAX);
        self.plan.actions.push(Action::CreateOnce {
            child: bodies::revision_ref(subject, number),
            body: bodies::revision(subject, number, spec),
            generate: Generate::Nothing,
            why: Why::Accepted,
        });
    }

    fn create(&mut self, child: &ChildRef, body: Value, generate: Generate) {
        self.plan.actions.push(Action::CreateOnce {
            child: child.clone(),
            body,
            generate,
            why: Why::Missing,
        });
    }

    /// Puts back labels of something that is created and not applied: without it no watch shows it.
    fn keep_labels(&mut self, child: &ChildRef, found: &Child, wanted: &Map<String, Value>) {
        let marks = &found.marks;
        let differs = [
            (names::BUCKET_LABEL, &marks.bucket),
            (names::DATABASE_LABEL, &marks.database),
            (names::MANAGED_BY_LABEL, &marks.managed_by),
            (crate::marks::OWNER_LABEL, &marks.owner),
            (crate::marks::GENERATION_LABEL, &marks.generation),
        ]
        .into_iter()
        .any(|(label, has)| {
            wanted
                .get(label)
                .and_then(Value::as_str)
                .is_some_and(|wanted| has.as_deref() != Some(wanted))
        });
        if differs && !found.deleting {
            self.merge(child, found, json!({"metadata": {"labels": wanted}}), Why::Differs);
        }
    }

    /// Changes what is not applied, without a restart.
    fn merge(&mut self, child: &ChildRef, found: &Child, change: Value, why: Why) {
        self.plan.actions.push(Action::Patch {
            child: child.clone(),
            uid: found.uid.clone(),
            patch: Patch::Merge(change),
            why,
            effect: Effect::None,
        });
    }

    /// Everything that is applied: compared with what we own of it, and sent only if it differs.
    fn applied(&mut self) {
        let salted = self.desired.intent.secret_parameters.is_empty() || self.desired.salt.is_some();
        for part in [Part::Account, Part::Rw, Part::Pods] {
            self.apply(part, Effect::None);
        }
        if !salted {
            self.block(Block::AwaitsSecret);
            // What pods run with is what they should run with, as long as nothing else is known.
            let running = members(&self.desired.subject, self.children).find_map(|(_, pod)| pod.marks.inputs.clone());
            self.plan.inputs = running.unwrap_or_default();
            return;
        }
        self.apply(Part::Config, Effect::None);
        if self.desired.intent.secret_parameters.is_empty() {
            self.unwanted(Part::ConfigSecret.child(&self.desired.subject));
        } else {
            self.apply(Part::ConfigSecret, Effect::None);
        }
        // It may be that the Secret was only not seen: what its pods should have is known when it was looked at.
        if self.remaking {
            return;
        }
        let set = Part::Set.child(&self.desired.subject);
        // Also when it may not be started on: one that runs already is kept as declared, so that a lost Secret or a
        // taken name never stops a running database; one that does not exist is not made.
        if self.startable || self.children.get(&set).is_some_and(|found| self.ours(found)) {
            let restarts = members(&self.desired.subject, self.children).any(|(_, pod)| self.outdated(pod).is_some());
            self.apply(Part::Set, if restarts { Effect::Restart } else { Effect::None });
        }
    }

    fn apply(&mut self, part: Part, effect: Effect) {
        let child = part.child(&self.desired.subject);
        match self.children.get(&child) {
            None => {
                let body = part.body(&self.cx);
                // Once it is made, the next plan asks for it, and the body would be made again.
                if self.rendered.digest(part).is_none() {
                    self.rendered.keep(part, digest_of_body(&body));
                }
                self.push_apply(child, body, None, Why::Missing, Effect::None);
            }
            Some(found) if !self.ours(found) => self.block(Block::NameTaken(child)),
            // It goes; its end is an event, and then it is made again.
            Some(found) if found.deleting => {}
            Some(found) => {
                let (digest, body) = if let Some(digest) = self.rendered.digest(part) {
                    (digest, None)
                } else {
                    let body = part.body(&self.cx);
                    let digest = digest_of_body(&body);
                    self.rendered.keep(part, digest);
                    (digest, Some(body))
                };
                if found.owned != Some(digest) {
                    let body = body.unwrap_or_else(|| part.body(&self.cx));
                    // What others added is removed in the next round: an apply makes a new version of the object, for
                    // which the pointers to it need not hold.
                    self.push_apply(child, body, Some(found.uid.clone()), Why::Differs, effect);
                } else if !found.intruders.is_empty() {
                    self.plan.actions.push(Action::Patch {
                        child,
                        uid: found.uid.clone(),
                        patch: Patch::Remove {
                            version: found.version(),
                            pointers: found.intruders.to_vec(),
                        },
                        why: Why::Intruders,
                        effect: Effect::None,
                    });
                }
            }
        }
    }

    fn push_apply(&mut self, child: ChildRef, body: Value, known: Option<Text>, why: Why, effect: Effect) {
        self.plan.actions.push(Action::Apply {
            child,
            body,
            known,
            why,
            effect,
        });
    }

    fn unwanted(&mut self, child: ChildRef) {
        let Some(found) = self.children.get(&child) else { return };
        if self.ours(found) && !found.deleting {
            self.plan.actions.push(delete(child, found, Why::Unwanted));
        }
    }

    fn surplus(&mut self) {
        let mut revisions: BTreeMap<i64, (&ChildRef, &Child)> = of_kind(self.children, Kind::ControllerRevision)
            .filter(|(_, child)| self.ours(child) && !child.deleting)
            .filter_map(|(child, found)| Some((revision_number(found)?, (child, found))))
            .collect();
        let room = REVISIONS_KEPT - usize::from(self.desired.accept.is_some());
        while revisions.len() > room {
            if let Some((_, (child, found))) = revisions.pop_first() {
                self.plan.actions.push(delete(child.clone(), found, Why::Surplus));
            }
        }
    }
}

/// The volume of member `ordinal`.
pub fn claim_ref(subject: &Subject, ordinal: u32) -> ChildRef {
    ChildRef::new(
        Kind::PersistentVolumeClaim,
        names::claim(&subject.name, bodies::GENERATION, ordinal),
    )
}

pub(crate) fn set_ref(subject: &Subject) -> ChildRef {
    Part::Set.child(subject)
}

pub(crate) fn of_kind(children: &Children, kind: Kind) -> impl Iterator<Item = (&ChildRef, &Child)> {
    let of_kind = children.iter().filter(move |(child, _)| child.kind == kind);
    of_kind.map(|(child, found)| (child, &**found))
}

pub(crate) fn delete(child: ChildRef, found: &Child, why: Why) -> Action {
    Action::Delete {
        child,
        version: found.version(),
        why,
    }
}

fn revision_number(child: &Child) -> Option<i64> {
    match child.facts {
        Facts::Revision { number, .. } => Some(number),
        _ => None,
    }
}

/// The newest accepted spec of the Database with this uid: the number of its revision, and its digest. Revisions of a
/// Database of the same name that went before may still be there, until the garbage collector comes by.
pub fn latest_revision(children: &Children, uid: &str) -> Option<(i64, OwnedDigest)> {
    of_kind(children, Kind::ControllerRevision)
        .filter(|(_, child)| child.is_controlled_by(uid))
        .filter_map(|(_, child)| match child.facts {
            Facts::Revision { number, spec } => Some((number, spec)),
            _ => None,
        })
        .max_by_key(|(number, _)| *number)
}

#[cfg(test)]
mod tests;
