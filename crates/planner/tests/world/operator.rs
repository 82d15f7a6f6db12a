//! A simulated operator: the shell around the planner, as `crates/controller` is, against the simulated API server.
//!
//! It knows of the children what a watch by the bucket label shows, and what it looked at in the same reconcile. It can
//! be killed after any number of writes. Every action is checked against what no plan may ever do.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::database::{DatabaseSpec, DeletionPolicy};
use api::names;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engines::catalogue::Catalogue;
use planner::action::{Action, Generate, Patch};
use planner::child::{ChildRef, Children, Kind, Version, database_of};
use planner::deletion::{self, LetGo, plan_deletion};
use planner::intent::Salt;
use planner::json::Json;
use planner::owned::digest_of_value;
use planner::plan::{Block, Desired, Observed, Plan, latest_revision, plan, plan_again};
use planner::validate::{References, validate};
use serde_json::{Value, json};
use sharding::Epoch;

use super::cluster::{Cluster, decoded};
use super::server::Refused;

/// What a user declares, with what it refers to.
#[derive(Clone)]
pub(crate) struct Declared {
    pub(crate) spec: DatabaseSpec,
    pub(crate) references: References,
    /// The spec as it is recorded when it is accepted.
    pub(crate) recorded: Value,
}

impl std::fmt::Debug for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.recorded, self.references)
    }
}

/// What one reconcile came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Writes that the API server was asked for, creations of what exists already among them.
    pub(crate) writes: usize,
    /// Those that it answered with `AlreadyExists`.
    pub(crate) in_vain: usize,
    pub(crate) plan: Option<Plan>,
    pub(crate) desired: Option<Desired>,
    pub(crate) children: Children,
    pub(crate) failure: Option<(Option<ChildRef>, Refused)>,
    pub(crate) crashed: bool,
    /// What a deletion still waits for.
    pub(crate) waits_for: Vec<ChildRef>,
}

/// How often a reconcile plans again, as in the shell.
const PASSES: usize = 5;

/// One version of the operator.
#[derive(Clone)]
pub(crate) struct Operator {
    pub(crate) catalogue: Catalogue,
    /// Epoch that its writes carry.
    pub(crate) epoch: u64,
}

struct Reconcile<'a> {
    operator: &'a Operator,
    cluster: &'a mut Cluster,
    /// Writes until the operator is killed.
    writes_left: Option<usize>,
    outcome: Outcome,
}

impl Operator {
    pub(crate) fn new() -> Self {
        Self {
            catalogue: Catalogue::builtin(),
            epoch: 1,
        }
    }

    /// One reconcile, killed after `cut` writes.
    pub(crate) fn reconcile(&self, cluster: &mut Cluster, declared: &Declared, cut: Option<usize>) -> Outcome {
        let Some(database) = cluster.database.clone() else {
            return Outcome::default();
        };
        let mut reconcile = Reconcile {
            operator: self,
            cluster,
            writes_left: cut,
            outcome: Outcome::default(),
        };
        reconcile.watch();
        if database.deleting {
            reconcile.finalize(declared.spec.deletion_policy);
        } else {
            reconcile.converge(declared);
        }
        reconcile.outcome
    }
}

impl Reconcile<'_> {
    /// What a watch by the bucket label shows.
    fn watch(&mut self) {
        let subject = self.cluster.subject.clone();
        let bucket = subject.bucket.to_string();
        let shown: Vec<ChildRef> = self
            .cluster
            .server
            .list()
            .filter(|(child, object)| {
                object["metadata"]["labels"][names::BUCKET_LABEL] == bucket
                    && database_of(child.kind, &Json::from(&**object)).as_deref() == Some(subject.name.as_str())
            })
            .map(|(child, _)| child.clone())
            .collect();
        for child in shown {
            self.look(&child);
        }
    }

    fn look(&mut self, child: &ChildRef) {
        match self.cluster.server.look(child) {
            Some(facts) => drop(self.outcome.children.insert(child.clone(), facts)),
            None => drop(self.outcome.children.remove(child)),
        }
    }

    fn converge(&mut self, declared: &Declared) {
        let recorded = &declared.recorded;
        let latest = latest_revision(&self.outcome.children, &self.cluster.subject.uid);
        let is_accepted = latest.is_some_and(|(_, digest)| digest == digest_of_value(recorded));
        let before = latest.filter(|_| !is_accepted).and_then(|(number, _)| {
            let child = ChildRef::new(
                Kind::ControllerRevision,
                names::revision(&self.cluster.subject.name, number),
            );
            let spec = self.cluster.server.get(&child)?["data"]["spec"].clone();
            serde_json::from_value::<DatabaseSpec>(spec).ok()
        });
        let intent = validate(
            &declared.spec,
            &declared.references,
            &self.operator.catalogue,
            before.as_ref(),
        )
        .expect("only valid specs are declared here");
        let mut desired = Desired {
            subject: self.cluster.subject.clone(),
            salt: self.salt(!intent.secret_parameters.is_empty()),
            intent,
            accept: (!is_accepted).then(|| recorded.clone()),
            replicas: 1,
        };
        for _ in 0..PASSES {
            let database = self.cluster.database.clone().expect("it is not being deleted");
            let observed = Observed {
                stamp: deletion::stamp(&desired.subject, &database.finalizers, database.bucket.as_deref()),
                children: std::mem::take(&mut self.outcome.children),
            };
            let next = plan_again(&desired, &observed, &mut self.cluster.rendered);
            assert_eq!(
                next,
                plan(&desired, &observed),
                "what was rendered before changes no plan"
            );
            self.outcome.children = observed.children;
            let waits = next.blocks.contains(&Block::AwaitsSecret);
            let as_planned = self.carry_out_all(&next.actions);
            let done = next.actions.is_empty();
            self.outcome.plan = Some(next);
            if done {
                break;
            }
            if self.outcome.crashed || self.outcome.failure.is_some() || (as_planned && !waits) {
                break;
            }
            let accepted = desired.accept.as_ref().map(digest_of_value);
            if accepted.is_some()
                && latest_revision(&self.outcome.children, &self.cluster.subject.uid).map(|(_, digest)| digest)
                    == accepted
            {
                desired.accept = None;
            }
            if waits {
                desired.salt = self.salt(true);
            }
        }
        self.outcome.desired = Some(desired);
    }

    fn claim(&self) -> ChildRef {
        let name = names::claim(&self.cluster.subject.name, planner::bodies::GENERATION, 0);
        ChildRef::new(Kind::PersistentVolumeClaim, name)
    }

    fn salt(&self, needed: bool) -> Option<Salt> {
        let admin = ChildRef::new(Kind::Secret, names::secret_admin(&self.cluster.subject.name));
        let secret = self.cluster.server.get(&admin).filter(|_| needed)?;
        secret["data"]["salt"].as_str().map(|salt| Salt::new(decoded(salt)))
    }

    fn finalize(&mut self, policy: DeletionPolicy) {
        let subject = self.cluster.subject.clone();
        let finalizers = self
            .cluster
            .database
            .as_ref()
            .map(|database| database.finalizers.clone())
            .unwrap_or_default();
        if !finalizers.iter().any(|finalizer| finalizer == names::FINALIZER) {
            return;
        }
        let let_go: Option<LetGo> = None;
        let planned = plan_deletion(&subject, policy, let_go, &finalizers, &self.outcome.children);
        for child in planned.to_look_at(&subject, policy) {
            self.look(&child);
        }
        let deletion = plan_deletion(&subject, policy, let_go, &finalizers, &self.outcome.children);
        self.outcome.waits_for = deletion.waits_for;
        for action in &deletion.actions {
            self.assert_only_retired(action, policy);
        }
        self.carry_out_all(&deletion.actions);
    }

    /// Whether every action did what it was planned to do.
    fn carry_out_all(&mut self, actions: &[Action]) -> bool {
        let mut written = 0;
        for action in actions {
            if self.writes_left == Some(0) {
                self.outcome.crashed = true;
                return false;
            }
            self.writes_left = self.writes_left.map(|left| left - 1);
            self.assert_allowed(action);
            self.outcome.writes += 1;
            match self.carry_out(action) {
                Ok(did) => written += usize::from(did),
                Err(refused) => {
                    self.outcome.failure = Some((action.child().cloned(), refused));
                    return false;
                }
            }
        }
        written == actions.len()
    }

    fn fenced(&self, body: &Value) -> Value {
        let mut body = body.clone();
        body["metadata"]["annotations"][names::FENCE_ANNOTATION] = json!(self.operator.epoch.to_string());
        body["metadata"]["labels"][names::BUCKET_LABEL] = json!(self.cluster.subject.bucket.to_string());
        body
    }

    /// The version that bears our fence and label. The stamp belongs to the write that follows, and is not counted.
    fn stamped(&mut self, child: &ChildRef, version: &Version) -> Result<Version, Refused> {
        let bucket = self.cluster.subject.bucket.to_string();
        if version.fence == Some(Epoch(self.operator.epoch)) && version.bucket.as_deref() == Some(&bucket) {
            return Ok(version.clone());
        }
        let mut stamp = self.fenced(&json!({}));
        stamp["metadata"]["uid"] = json!(version.uid);
        stamp["metadata"]["resourceVersion"] = json!(version.resource_version);
        self.cluster.server.merge_patch(child, &stamp, names::FIELD_MANAGER)?;
        Ok(self.cluster.server.look(child).ok_or(Refused::NotFound)?.version())
    }

    fn carry_out(&mut self, action: &Action) -> Result<bool, Refused> {
        match action {
            Action::Stamp(change) | Action::Release(change) => {
                let database = self.cluster.database.as_mut().expect("a reconcile has a Database");
                if let Some(list) = change["metadata"]["finalizers"].as_array() {
                    database.finalizers = list.iter().filter_map(|f| f.as_str().map(str::to_owned)).collect();
                }
                if let Some(bucket) = change["metadata"]["labels"][names::BUCKET_LABEL].as_str() {
                    database.bucket = Some(bucket.to_owned());
                }
                if database.deleting && database.finalizers.is_empty() {
                    self.cluster.database = None;
                }
                Ok(true)
            }
            Action::CreateOnce {
                child,
                body,
                generate,
                why: _,
            } => self.create(child, body, *generate),
            Action::Apply {
                child,
                body,
                known,
                why: _,
                effect: _,
            } => self.apply(child, body, known.as_deref()),
            Action::Patch {
                child,
                uid,
                patch,
                why: _,
                effect: _,
            } => {
                let patched = match patch {
                    Patch::Merge(change) => {
                        let mut change = self.fenced(change);
                        change["metadata"]["uid"] = json!(uid);
                        self.cluster.server.merge_patch(child, &change, names::FIELD_MANAGER)
                    }
                    Patch::Remove { version, pointers } => self.stamped(child, version).and_then(|version| {
                        let server = &mut self.cluster.server;
                        server.remove(
                            child,
                            &version.uid,
                            &version.resource_version,
                            pointers,
                            names::FIELD_MANAGER,
                        )
                    }),
                };
                self.look(child);
                match patched {
                    Err(Refused::NotFound) => Ok(false),
                    other => other.map(|()| true),
                }
            }
            Action::Delete { child, version, why: _ } | Action::RestartPod { child, version, why: _ } => {
                self.delete(child, version)
            }
        }
    }

    fn create(&mut self, child: &ChildRef, body: &Value, generate: Generate) -> Result<bool, Refused> {
        let claim = self.claim();
        let unseen = !self.outcome.children.contains_key(&claim) && self.cluster.server.get(&claim).is_some();
        if generate == Generate::AdminCredentials && unseen {
            // No password is made for data that is there unseen. That was a read.
            self.look(&claim);
            self.outcome.writes -= 1;
            return Ok(false);
        }
        let mut body = self.fenced(body);
        for (name, value) in self.generated(generate)? {
            body["data"][name] = json!(BASE64.encode(value));
        }
        let created = self.cluster.server.create(child, &body, names::FIELD_MANAGER);
        self.look(child);
        match created {
            Ok(()) => Ok(true),
            Err(Refused::AlreadyExists) => {
                self.outcome.in_vain += 1;
                Ok(false)
            }
            Err(refused) => Err(refused),
        }
    }

    fn apply(&mut self, child: &ChildRef, body: &Value, known: Option<&str>) -> Result<bool, Refused> {
        if known.is_none() && self.cluster.server.get(child).is_some() {
            // That was a read.
            self.look(child);
            self.outcome.writes -= 1;
            return Ok(false);
        }
        let mut body = self.fenced(body);
        if let Some(uid) = known {
            body["metadata"]["uid"] = json!(uid);
        }
        let server = &mut self.cluster.server;
        let applied = server.apply(child, &body, names::FIELD_MANAGER, known.is_some());
        self.look(child);
        match applied {
            Err(Refused::Conflict(_)) if known.is_some() => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn delete(&mut self, child: &ChildRef, version: &Version) -> Result<bool, Refused> {
        let deleted = self.stamped(child, version).and_then(|version| {
            let server = &mut self.cluster.server;
            server.delete(child, Some(&version.uid), Some(&version.resource_version))
        });
        match deleted {
            Ok(()) | Err(Refused::NotFound) => {
                if let Some(known) = self.outcome.children.get_mut(child) {
                    Arc::make_mut(known).deleting = true;
                }
                Ok(true)
            }
            // A pod's kubelet writes often.
            Err(Refused::Conflict(_)) if child.kind == Kind::Pod => {
                self.look(child);
                Ok(false)
            }
            Err(refused) => Err(refused),
        }
    }

    fn generated(&self, generate: Generate) -> Result<BTreeMap<&'static str, String>, Refused> {
        // Unlike any other, as random ones are.
        let number = self.cluster.server.clock();
        match generate {
            Generate::Nothing => Ok(BTreeMap::new()),
            Generate::AdminCredentials => Ok(BTreeMap::from([
                ("password", format!("password-{number}")),
                ("app-password", format!("app-password-{number}")),
                ("salt", format!("salt-{number}")),
            ])),
            Generate::AppCredentials => {
                let admin = ChildRef::new(Kind::Secret, names::secret_admin(&self.cluster.subject.name));
                let admin = self.cluster.server.get(&admin).ok_or(Refused::NotFound)?;
                let value = |key: &str| decoded(admin["data"][key].as_str().unwrap_or_default());
                Ok(BTreeMap::from([
                    ("username", value("app-username")),
                    ("password", value("app-password")),
                ]))
            }
        }
    }

    /// What no plan may do, whatever it was made from.
    fn assert_allowed(&self, action: &Action) {
        let Some(child) = action.child() else { return };
        let subject = &self.cluster.subject;
        let keeps_data = child.kind == Kind::PersistentVolumeClaim
            || *child == ChildRef::new(Kind::Secret, names::secret_admin(&subject.name))
            || *child == ChildRef::new(Kind::Secret, names::secret_app(&subject.name));
        let deleting = self.cluster.database.as_ref().is_some_and(|database| database.deleting);
        if keeps_data && !deleting {
            match action {
                Action::CreateOnce {
                    generate: Generate::AdminCredentials,
                    ..
                } if self.cluster.server.get(child).is_none() => {
                    let uid = self
                        .cluster
                        .server
                        .get(&self.claim())
                        .and_then(|claim| claim["metadata"]["uid"].as_str());
                    let data = uid
                        .filter(|_| self.outcome.children.contains_key(&self.claim()))
                        .and_then(|uid| self.cluster.data.get(uid));
                    assert!(
                        data.is_none_or(|data| data.engine == "redis"),
                        "a new password for old data: {data:?}"
                    );
                }
                Action::CreateOnce { .. } => {}
                Action::Patch {
                    patch: Patch::Merge(change),
                    ..
                } => {
                    let metadata_only = change["metadata"]
                        .as_object()
                        .is_none_or(|metadata| metadata.keys().all(|key| key == "labels"));
                    let rest: Vec<&String> = change
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(key, _)| key)
                        .filter(|key| *key != "metadata")
                        .collect();
                    let growth = child.kind == Kind::PersistentVolumeClaim
                        && change.pointer("/spec/resources/requests/storage").is_some()
                        && rest == ["spec"];
                    assert!(
                        metadata_only && (rest.is_empty() || growth),
                        "writes to what keeps data: {action:?}"
                    );
                }
                other => panic!("touches what keeps data: {other:?}"),
            }
        }
        // What exists and is written to must be ours; a create or an unforced apply answers that itself.
        let Some(object) = self.cluster.server.get(child) else {
            return;
        };
        let expected = match action {
            Action::CreateOnce { .. } | Action::Apply { known: None, .. } | Action::Stamp(_) | Action::Release(_) => {
                return;
            }
            Action::Apply { known: Some(uid), .. } | Action::Patch { uid, .. } => uid,
            Action::Delete { version, .. } | Action::RestartPod { version, .. } => &version.uid,
        };
        // The server refuses a write to another object than was meant.
        if object["metadata"]["uid"] != **expected {
            return;
        }
        let owner = object["metadata"]["ownerReferences"]
            .as_array()
            .and_then(|owners| owners.iter().find(|owner| owner["controller"] == true));
        let label = |name: &str| object["metadata"]["labels"][name].as_str();
        let ours = match child.kind {
            Kind::Pod => {
                let set = ChildRef::new(
                    Kind::StatefulSet,
                    names::stateful_set(&subject.name, planner::bodies::GENERATION),
                );
                let set = self.cluster.server.get(&set);
                owner.is_some_and(|owner| set.is_some_and(|set| set["metadata"]["uid"] == owner["uid"]))
            }
            Kind::PersistentVolumeClaim | Kind::Secret if owner.is_none() => {
                self.cluster.is_of_our_data(object)
                    || (label(names::MANAGED_BY_LABEL) == Some(names::FIELD_MANAGER)
                        && label(names::DATABASE_LABEL) == Some(subject.name.as_str()))
            }
            _ => owner.is_some_and(|owner| owner["uid"] == subject.uid),
        };
        assert!(ours, "touches what is not ours: {action:?}\n{object:#}");
    }

    /// Data is destroyed only on the user's word, and only what this Database has served.
    fn assert_only_retired(&self, action: &Action, policy: DeletionPolicy) {
        let Action::Delete { child, .. } = action else { return };
        if child.kind != Kind::PersistentVolumeClaim {
            return;
        }
        let subject = &self.cluster.subject;
        assert_eq!(policy, DeletionPolicy::Delete, "a volume is deleted that is to be kept");
        let claim = self.cluster.server.get(child).expect("it was observed");
        let uid = claim["metadata"]["uid"]
            .as_str()
            .expect("an object has a uid")
            .to_owned();
        let served = self.cluster.served.contains(&(subject.uid.clone(), uid.clone()));
        assert!(
            served || !self.cluster.data.contains_key(&uid),
            "data is deleted that was never this Database's"
        );
    }
}
