//! The fourth step: carries a plan out. The only place that writes children.
//!
//! What each write answers goes into the store at once, so that the next plan of the same reconcile sees it. What the
//! API server refuses for good is passed over, so that one bad field never keeps the rest from being repaired; only what
//! would start or restart the database waits. Any other failure ends the round. What was done stays done, and the next
//! plan starts from what is observed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use api::database::status::ConditionType;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use planner::action::{Action, Generate, Patch};
use planner::child::{Child, ChildRef, Children, Kind};
use planner::plan::Subject;
use planner::status::NAME_TAKEN;
use serde_json::{Value, json};
use telemetry::{Action as Counted, Metrics, WriteOutcome};

use crate::contests::Contests;
use crate::credentials::{self, CredentialsError};
use crate::requests::{ApiError, Writer};
use crate::restarts::Restarts;
use crate::seen::SeenDatabase;
use crate::store::{Key, Store};

/// Why a plan was not carried out to its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server did not do what was asked.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The administrator's Secret does not hold what the application's is made of.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

impl ApplyError {
    /// Whether the API server refused this very object, and has nothing against others.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Api(ApiError::Invalid { .. } | ApiError::Forbidden { .. }) | Self::Credentials(_) => true,
            Self::Api(
                ApiError::NotFound { .. }
                | ApiError::AlreadyExists { .. }
                | ApiError::Conflict { .. }
                | ApiError::NamespaceTerminating { .. }
                | ApiError::Throttled { .. }
                | ApiError::NotOwner { .. }
                | ApiError::Fenced { .. }
                | ApiError::Unjudged { .. }
                | ApiError::Failed { .. }
                | ApiError::Unknown { .. },
            ) => false,
        }
    }
}

/// What a round of writes came to. The fields are private: only [`apply`] can say that a plan was carried out.
#[derive(Debug, Default)]
pub struct Applied {
    written: usize,
    restarts_put_off: usize,
    contested: Option<ChildRef>,
    failure: Option<(Option<ChildRef>, ApplyError)>,
}

impl Applied {
    /// Number of writes that the API server accepted.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Number of pods whose restart the fleet's brake put off.
    pub fn restarts_put_off(&self) -> usize {
        self.restarts_put_off
    }

    /// A child whose repair was put off, because somebody undoes it again and again.
    pub fn contested(&self) -> Option<&ChildRef> {
        self.contested.as_ref()
    }

    /// What was not done first, and why.
    pub fn failure(&self) -> Option<&(Option<ChildRef>, ApplyError)> {
        self.failure.as_ref()
    }

    /// The same, unless the round ended with the ownership of the Database: then nothing more is to be done or told by
    /// this replica. Nor is it when the API server has too much to do: that is nobody's fault, and telling makes it worse.
    pub fn unless_over(mut self) -> Result<Self, ApplyError> {
        match self.failure.take() {
            Some((_, ApplyError::Api(error @ ApiError::Throttled { .. }))) => Err(error.into()),
            Some((_, ApplyError::Api(error))) if error.ownership_is_over() => Err(error.into()),
            failure => {
                self.failure = failure;
                Ok(self)
            }
        }
    }

    /// What was not done first, and why, by value.
    pub fn into_failure(self) -> Option<(Option<ChildRef>, ApplyError)> {
        self.failure
    }
}

/// What a round of writes works on.
pub struct Round<'a> {
    /// Writes with the epoch of the Database's bucket.
    pub writer: &'a Writer,
    /// Whose children.
    pub subject: &'a Subject,
    /// The Database, as it was last seen or written.
    pub database: &'a mut SeenDatabase,
    /// Its children, which this round updates.
    pub children: &'a mut Children,
    /// Where answers are kept for later reconciles.
    pub store: &'a Store,
    /// Key of the Database.
    pub key: &'a Key,
    /// The brake on restarts across the fleet.
    pub restarts: &'a Restarts,
    /// The brake on repairs.
    pub contests: &'a Contests,
    /// Counts writes.
    pub metrics: &'a Metrics,
}

/// Carries out the actions in their order.
pub async fn apply(mut round: Round<'_>, actions: &[Action]) -> Applied {
    let mut applied = Applied::default();
    let mut admin = None;
    // What was found may be somebody else's; only the next plan knows.
    let mut surprised = false;
    for action in actions {
        if (surprised || applied.failure.is_some()) && rests_on_others(action) {
            continue;
        }
        let done = round.carry_out(action, &mut admin).await;
        match &done {
            Ok(Done::Written) => round.metrics.writes.record(counted_as(action), WriteOutcome::Success),
            Ok(Done::Nothing | Done::PutOff | Done::Contested) | Err(ApplyError::Credentials(_)) => {}
            Err(ApplyError::Api(error)) => {
                if let Some(outcome) = error.write_outcome() {
                    round.metrics.writes.record(counted_as(action), outcome);
                }
            }
        }
        match done {
            Ok(Done::Written) => applied.written += 1,
            Ok(Done::Nothing) => surprised = true,
            Ok(Done::PutOff) => applied.restarts_put_off += 1,
            Ok(Done::Contested) => applied.contested = action.child().cloned(),
            Err(error) => {
                let for_good = error.is_refusal();
                applied.failure.get_or_insert((action.child().cloned(), error));
                if !for_good {
                    break;
                }
            }
        }
    }
    applied
}

/// Whether the action makes a pod start, or what it starts on: never beside children of which one could not be written,
/// or is not what was expected. A volume that was made beside somebody else's Secret would pass for data whose password
/// is lost, and that Secret does not hold what the application's is made of.
fn rests_on_others(action: &Action) -> bool {
    match action {
        Action::RestartPod { .. } => true,
        Action::Apply { child, known, .. } => child.kind == Kind::StatefulSet && known.is_none(),
        Action::CreateOnce { child, generate, .. } => {
            child.kind == Kind::PersistentVolumeClaim || *generate == Generate::AppCredentials
        }
        Action::Stamp(_) | Action::Release(_) | Action::Patch { .. } | Action::Delete { .. } => false,
    }
}

fn counted_as(action: &Action) -> Counted {
    match action {
        Action::Stamp(_) | Action::Release(_) => Counted::Stamp,
        Action::CreateOnce { child, .. } if child.kind == Kind::ControllerRevision => Counted::Revision,
        Action::CreateOnce { .. } => Counted::CreateOnce,
        Action::Apply { .. } => Counted::Apply,
        Action::Patch { .. } => Counted::Patch,
        Action::Delete { .. } => Counted::Delete,
        Action::RestartPod { .. } => Counted::RestartPod,
    }
}

enum Done {
    Written,
    /// What was found makes the write wrong; the next plan knows it.
    Nothing,
    /// The brake on restarts says: not now.
    PutOff,
    /// The brake on repairs says: not now.
    Contested,
}

impl Round<'_> {
    /// `admin`: the administrator's Secret, if this round has made it.
    async fn carry_out(&mut self, action: &Action, admin: &mut Option<Value>) -> Result<Done, ApplyError> {
        // No `..` and no `_`: a new action does not compile until somebody decides how it is done.
        match action {
            Action::Stamp(change) | Action::Release(change) => {
                let version = kube::ResourceExt::resource_version(self.database).unwrap_or_default();
                let stamped = self.writer.stamp(&self.subject.name, &version, change).await;
                match stamped {
                    Ok(database) => {
                        *self.database = database.clone();
                        self.store.answer_database(self.key, database);
                    }
                    // The last finalizer went, and the Database with it.
                    Err(ApiError::NotFound { .. }) if matches!(action, Action::Release(_)) => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(Done::Written)
            }
            Action::CreateOnce {
                child,
                body,
                generate,
                why: _,
            } => self.create(child, body, *generate, admin).await,
            Action::Apply {
                child,
                body,
                known,
                why: _,
                effect: _,
            } => self.server_side_apply(child, body, known.as_deref()).await,
            Action::Patch {
                child,
                uid,
                patch,
                why: _,
                effect: _,
            } => {
                let answer = match patch {
                    Patch::Merge(change) => self.writer.merge(child, uid, change).await,
                    Patch::Remove { version, pointers } => self.writer.remove(child, version, pointers).await,
                };
                match answer {
                    Ok(answer) => self.keep(answer),
                    // A pod that went meanwhile needs no label.
                    Err(ApiError::NotFound { .. }) => return Ok(Done::Nothing),
                    // It changed meanwhile: the next plan knows how.
                    Err(ApiError::Conflict { .. }) => return self.look_again(child).await,
                    Err(error) => return Err(error.into()),
                }
                Ok(Done::Written)
            }
            Action::Delete { child, version, why: _ } => {
                let left = self.writer.delete(child, version).await?;
                self.keep_leaving(child, left);
                Ok(Done::Written)
            }
            Action::RestartPod { child, version, why: _ } => {
                if !self.restarts.admit(self.key) {
                    return Ok(Done::PutOff);
                }
                match self.writer.delete(child, version).await {
                    Ok(left) => self.keep_leaving(child, left),
                    // Its kubelet wrote: the next plan knows what.
                    Err(ApiError::Conflict { .. }) => return self.look_again(child).await,
                    Err(error) => return Err(error.into()),
                }
                Ok(Done::Written)
            }
        }
    }

    async fn create(
        &mut self,
        child: &ChildRef,
        body: &Value,
        generate: Generate,
        admin: &mut Option<Value>,
    ) -> Result<Done, ApplyError> {
        let mut body = Cow::Borrowed(body);
        let extra = match generate {
            Generate::Nothing => BTreeMap::new(),
            Generate::AdminCredentials => {
                // An empty cache never justifies a new password: data that only was not seen knows the old one.
                let claim = planner::plan::claim_ref(self.subject, 0);
                match self.writer.look(&claim).await {
                    Ok((claim, facts)) if !self.children.contains_key(&claim) => {
                        self.children.insert(claim, facts);
                        return Ok(Done::Nothing);
                    }
                    Ok(_) | Err(ApiError::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
                credentials::generate(&mut rand::rng())
            }
            Generate::AppCredentials if let Some(made) = admin => credentials::app(made, &body, self.subject)?,
            Generate::AppCredentials => {
                let admin = ChildRef::new(child.kind, api::names::secret_admin(&self.subject.name));
                match self.writer.read(&admin).await {
                    Ok(admin) => credentials::app(&admin, &body, self.subject)?,
                    // It was not made as planned; the next plan knows why.
                    Err(ApiError::NotFound { .. }) => return Ok(Done::Nothing),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        for (name, value) in extra {
            body.to_mut()["data"][name] = json!(BASE64.encode(value));
        }
        match self.writer.create(child, &body).await {
            Ok(answer) => {
                self.keep(answer);
                if generate == Generate::AdminCredentials {
                    *admin = Some(body.into_owned());
                }
                Ok(Done::Written)
            }
            // Made before a crash, or somebody else's: the next plan sees which.
            Err(ApiError::AlreadyExists { .. }) => {
                let (child, facts) = self.writer.look(child).await?;
                self.children.insert(child, facts);
                Ok(Done::Nothing)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn server_side_apply(
        &mut self,
        child: &ChildRef,
        body: &Value,
        known: Option<&str>,
    ) -> Result<Done, ApplyError> {
        if known.is_some() && !self.contests.admit(self.key, child, body) {
            return Ok(Done::Contested);
        }
        // A name that was taken at the last report probably is so still: a look is no write, and need not be refused.
        if known.is_none() && self.was_taken() {
            match self.writer.look(child).await {
                Ok((child, facts)) => {
                    self.children.insert(child, facts);
                    return Ok(Done::Nothing);
                }
                Err(ApiError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let was_wiped = self.children.get(child).is_some_and(|found| found.owned.is_none());
        let answer = match known {
            Some(uid) if was_wiped => self.writer.reclaim(child, uid, body).await,
            _ => self.writer.apply(child, body, known).await,
        };
        match answer {
            Ok(answer) => self.keep(answer),
            // It went and came back meanwhile, or is there though it was not seen: look rather than trust the cache.
            Err(ApiError::Conflict { .. }) => return self.look_again(child).await,
            // Somebody set the other side of a choice (another handler of a probe, another source of a volume) or took
            // the name of one of our ports: with ours beside it the object is not valid, and never will be.
            Err(ApiError::Invalid { .. }) if known.is_some() && body.get("spec").is_some() => {
                return self.overrule(child, body).await;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Done::Written)
    }

    async fn overrule(&mut self, child: &ChildRef, body: &Value) -> Result<Done, ApplyError> {
        let Some(version) = self.children.get(child).map(|found| found.version()) else {
            return self.look_again(child).await;
        };
        match self.writer.overrule(child, &version, body).await {
            Ok(answer) => self.keep(answer),
            // What is to be overruled is not what was seen.
            Err(ApiError::Conflict { .. }) => return self.look_again(child).await,
            Err(error) => return Err(error.into()),
        }
        Ok(Done::Written)
    }

    /// Whether somebody else had the name of a child when the status was written last.
    fn was_taken(&self) -> bool {
        let applied = self.database.status.condition(ConditionType::Applied);
        applied.is_some_and(|condition| condition.reason == NAME_TAKEN)
    }

    /// Takes a child as it is now, for the next plan.
    async fn look_again(&mut self, child: &ChildRef) -> Result<Done, ApplyError> {
        match self.writer.look(child).await {
            Ok((child, facts)) => drop(self.children.insert(child, facts)),
            Err(ApiError::NotFound { .. }) => drop(self.children.remove(child)),
            Err(error) => return Err(error.into()),
        }
        Ok(Done::Nothing)
    }

    fn keep(&mut self, (child, facts): (ChildRef, Arc<Child>)) {
        let facts = self.store.answer_child(self.key, child.clone(), facts);
        self.children.insert(child, facts);
    }

    /// Takes what is left of a child that was deleted. It leaves the store by the event of its end only.
    fn keep_leaving(&mut self, child: &ChildRef, left: Option<(ChildRef, Arc<Child>)>) {
        if let Some(left) = left {
            self.keep(left);
        } else if let Some(known) = self.children.get_mut(child) {
            Arc::make_mut(known).deleting = true;
        }
    }
}
