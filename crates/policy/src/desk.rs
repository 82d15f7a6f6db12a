//! Where questions about policies are handed in: the webhook's, a reconcile's.
//!
//! Whoever asks knows a Database and who wants it. What else a decision rests on (the namespace's labels, exceptions, the
//! time) is found here, in one way for all of them.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::decision::Decision;
use crate::exception::PolicyException;
use crate::guard::{Answer, Busy, Guard};
use crate::log::{self, Masked, decision_id, mask};
use crate::request::{Namespace, Operation, Request, Source, User};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What is done.
    pub operation: Operation,
    /// Whether the API server only tries it.
    pub dry_run: bool,
    /// Which part of ours asks.
    pub source: Source,
    /// Who wants it; nobody in a reconcile.
    pub user: Option<User>,
    /// Name of the namespace.
    pub namespace: String,
    /// The Database as it is to be: any JSON.
    pub object: Value,
    /// The Database as it was, of an update.
    pub old: Option<Value>,
    /// Uid of the admission request.
    pub request_uid: Option<String>,
}

/// Labels of a namespace.
pub type Labels = BTreeMap<String, String>;

/// Why labels are not known, in words.
pub type Unknown = String;

/// What is pending.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a decision rests on beside the Database.
pub trait Surroundings: Send + Sync {
    /// Labels of a namespace.
    fn labels<'a>(&'a self, namespace: &'a str) -> Pending<'a, Result<Labels, Unknown>>;

    /// All exceptions that there are.
    fn exceptions(&self) -> Arc<[PolicyException]>;

    /// A digest of what is known of both for this namespace: while it stays, decisions do.
    fn basis(&self, namespace: &str) -> u64;

    /// Is told of each decision, soon after whoever asked for it. Must not wait.
    fn decided(&self, decided: &Decided);

    /// Is told of each question that is not asked, because too many wait.
    fn shed(&self);
}

/// What whoever asked is told. It holds no secret, whatever a rule quotes.
#[derive(Clone, Debug)]
pub struct Told {
    /// The decision's id, under which it is recorded.
    pub id: Uuid,
    /// The decision.
    pub decision: Decision,
}

/// A decision with what names it.
#[derive(Clone, Debug)]
pub struct Decided {
    /// Its id, under which it is recorded.
    pub id: Uuid,
    /// When it was made.
    pub at: Timestamp,
    /// Uid of the admission request.
    pub request_uid: Option<String>,
    /// Question and answer. What the decision says holds no secret, whatever a rule quotes: it goes into answers and statuses.
    pub answer: Answer,
    /// Its record.
    pub record: Masked,
}

impl Decided {
    /// Masks what is said, and records it.
    pub fn of(id: Uuid, at: Timestamp, request_uid: Option<String>, mut answer: Answer, replica: &str) -> Self {
        let record = mask(log::of(id, at, request_uid.as_deref(), &answer, replica));
        answer.decision.violations.clone_from(&record.record().violations);
        answer.decision.warnings.clone_from(&record.record().warnings);
        Self {
            id,
            at,
            request_uid,
            answer,
            record,
        }
    }
}

/// Decides, with all that belongs to it.
#[derive(Clone)]
pub struct Desk {
    guard: Guard,
    surroundings: Arc<dyn Surroundings>,
    outside: Outside,
    replica: Arc<str>,
    /// Turns of those whom no API server waits for: half of the places, so that they never turn one away.
    turns: Arc<Semaphore>,
    /// One permit for each decision that is answered and not recorded yet.
    recording: Arc<Semaphore>,
}

/// Decisions that are answered and not recorded yet; beyond it, answers wait.
const RECORDING: u32 = 1_024;

/// Time and randomness.
#[derive(Clone, Copy, Debug)]
pub struct Outside {
    /// The time.
    pub now: fn() -> Timestamp,
    /// Random bytes.
    pub random: fn() -> [u8; 10],
}

impl Desk {
    /// A desk before `guard`, of the replica of this name.
    pub fn new(guard: Guard, surroundings: Arc<dyn Surroundings>, outside: Outside, replica: &str) -> Self {
        Self {
            turns: Arc::new(Semaphore::new((guard.places() / 2).max(1))),
            recording: Arc::new(Semaphore::new(RECORDING as usize)),
            guard,
            surroundings,
            outside,
            replica: replica.into(),
        }
    }

    /// Which policies are in force.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// What decisions rest on.
    pub fn surroundings(&self) -> &dyn Surroundings {
        &*self.surroundings
    }

    /// Decides; for the API server at once or not at all, for others when it is their turn. A namespace whose labels cannot be read is an error, and so a denial: it may be one of production.
    pub async fn decide(&self, asked: Asked) -> Result<Told, Busy> {
        let labels = self.surroundings.labels(&asked.namespace).await;
        let unknown = labels.as_ref().err().cloned();
        let request = Request {
            operation: asked.operation,
            dry_run: asked.dry_run,
            source: asked.source,
            user: asked.user,
            namespace: Namespace {
                name: asked.namespace,
                labels: labels.unwrap_or_default(),
            },
            object: asked.object,
            old: asked.old,
        };
        let _turn = match request.source {
            Source::Admission => None,
            // Nobody closes it.
            Source::Reconcile | Source::Audit | Source::Cli => Some(self.turns.acquire().await.map_err(|_| Busy)?),
        };
        let now = (self.outside.now)();
        let answer = match unknown.filter(|_| request.operation != Operation::Delete) {
            None => self.guard.decide(request, self.surroundings.exceptions(), now).await?,
            Some(why) => Answer {
                decision: Decision::failed(format!(
                    "the labels of namespace {} cannot be read, which choose the policies: {why}",
                    request.namespace.name
                )),
                request,
                waited: Duration::ZERO,
                evaluated: Duration::ZERO,
                generation: self.guard.generation(),
            },
        };
        let id = decision_id(now, (self.outside.random)());
        Ok(self.record(id, now, asked.request_uid, answer).await)
    }

    /// Has a decision recorded, and says what is answered. Only words can quote a secret: where there are none, nobody
    /// waits until the question is masked.
    async fn record(&self, id: Uuid, at: Timestamp, request_uid: Option<String>, answer: Answer) -> Told {
        let permit = Arc::clone(&self.recording).acquire_owned().await;
        let (surroundings, replica) = (Arc::clone(&self.surroundings), Arc::clone(&self.replica));
        let is_silent = answer.decision.violations.is_empty() && answer.decision.warnings.is_empty();
        let (told, masked) = if is_silent {
            (answer.decision.clone(), Err(answer))
        } else {
            let decided = Decided::of(id, at, request_uid.clone(), answer, &replica);
            (decided.answer.decision.clone(), Ok(decided))
        };
        tokio::spawn(async move {
            let decided = masked.unwrap_or_else(|answer| Decided::of(id, at, request_uid, answer, &replica));
            surroundings.decided(&decided);
            drop(permit);
        });
        Told { id, decision: told }
    }

    /// Waits until all that was decided is recorded.
    pub async fn settle(&self) {
        // Nobody closes it.
        drop(self.recording.acquire_many(RECORDING).await);
    }
}

#[cfg(test)]
mod tests;
