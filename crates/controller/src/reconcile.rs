//! One reconcile: five steps, each fed by the one before.
//!
//! `dereference` reads, `validate` judges, `plan` decides (both pure), `apply` writes children, `report` writes the
//! status, once, at the end. Nothing here sleeps or polls: it says when to look again.

use std::sync::Arc;
use std::time::Duration;

use engines::catalogue::Catalogue;
use fleet::Fleet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, ResourceExt as _};
use planner::child::{ChildRef, Kind};
use planner::deletion::{self, plan_deletion};
use planner::kept::without_configuration;
use planner::plan::{Block, Desired, Observed, Plan, Subject, latest_revision, plan_again};
use planner::rendered::Rendered;
use planner::ruling::{Finding, Ruling};
use planner::status::{Failure, Progress};
use policy::desk::Desk;
use policy::guard::Busy;
use telemetry::{ErrorType, Outcome, Step};

use crate::apply::{Applied, ApplyError, Round, apply};
use crate::arrivals::Arrivals;
use crate::contests::Contests;
use crate::dereference::{DereferenceError, dereference, salt};
use crate::events::Events;
use crate::meet::meet;
use crate::permit::Permit;
use crate::report::{ReportError, report};
use crate::requests::{ApiError, Writer};
use crate::restarts::Restarts;
use crate::rule;
use crate::seen::SeenDatabase;
use crate::store::{Entry, Key, Store};
use crate::terminating;
use crate::validate::{self, Verdict, validate};

/// How often a plan is made again within one reconcile because a write found something unexpected. The queue goes on
/// from there.
const ROUNDS: usize = 5;

/// When a Database that refers to objects which are not watched for certain is looked at again.
const REFERENCES_AGAIN: Duration = Duration::from_mins(5);
/// When a Database that waits for an object of the user's is looked at again.
const MISSING_AGAIN: Duration = Duration::from_secs(15);
/// When a Database with a newer fence than its bucket is looked at again, if the raise itself does not lead to it.
const RAISED_AGAIN: Duration = Duration::from_secs(5);
/// When a Database that is blocked by somebody else's object is looked at again: nothing tells us when that one goes.
const BLOCKED_AGAIN: Duration = Duration::from_mins(1);

/// What every reconcile shares.
pub struct Context {
    /// The one client.
    pub client: Client,
    /// To ask for a newer epoch.
    pub fleet: Fleet,
    /// What is known.
    pub store: Store,
    /// What is known of Databases that have no bucket yet.
    pub arrivals: Arrivals,
    /// Engines and versions.
    pub catalogue: Arc<Catalogue>,
    /// Number of pods of a StatefulSet: 1, unless a test asks for none.
    pub replicas: u32,
    /// The brake on restarts.
    pub restarts: Restarts,
    /// The brake on repairs.
    pub contests: Contests,
    /// Where policies are asked, if they are.
    pub desk: Option<Desk>,
    /// Publishes events.
    pub events: Events,
    /// Counts.
    pub metrics: telemetry::Metrics,
}

/// What happens next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing, until an event.
    Wait,
    /// Look again after this time, event or not.
    LookAgain(Duration),
    /// Try again soon, less and less often.
    Retry,
}

/// Why a reconcile did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The Database itself could not be read, or not be given its finalizer and its label.
    #[error("reading the Database")]
    Meet(#[source] ApiError),
    /// Something could not be read.
    #[error("reading what the Database refers to")]
    Dereference(#[from] DereferenceError),
    /// Policies could not be asked.
    #[error("asking policies")]
    Policies(#[from] Busy),
    /// Whether the namespace or the CRD is going could not be read.
    #[error("reading whether the namespace or the CRD is being deleted")]
    Terminating(#[source] ApiError),
    /// The status could not be written.
    #[error("writing the status")]
    Report(#[from] ReportError),
    /// A write failed; the status tells it.
    #[error("writing children")]
    Apply(#[source] ApplyError),
}

impl ReconcileError {
    /// What happens next. No `_`: a new error does not compile until it has an answer.
    pub fn next(&self) -> Next {
        let api = match (self, self.api()) {
            (_, Some(api)) => api,
            (Self::Policies(Busy), None) => return Next::Retry,
            (_, None) => return Next::LookAgain(BLOCKED_AGAIN),
        };
        match api {
            ApiError::Throttled { after, .. } => Next::LookAgain(*after),
            // The namespace's end will end the Database too, and that is an event.
            ApiError::NamespaceTerminating { .. } => Next::LookAgain(BLOCKED_AGAIN),
            ApiError::Invalid { .. } => Next::LookAgain(REFERENCES_AGAIN),
            // Whoever owns the bucket looks.
            ApiError::NotOwner { .. } => Next::Wait,
            ApiError::NotFound { .. }
            | ApiError::AlreadyExists { .. }
            | ApiError::Conflict { .. }
            | ApiError::Forbidden { .. }
            | ApiError::Unjudged { .. }
            // The owner may first have to ask for an epoch that is newer than the object's.
            | ApiError::Fenced { .. }
            | ApiError::Failed { .. }
            | ApiError::Unknown { .. } => Next::Retry,
        }
    }

    /// What it counts as.
    pub fn error_type(&self) -> ErrorType {
        match (self, self.api()) {
            (_, Some(api)) => api.error_type(),
            (Self::Policies(Busy), None) => ErrorType::Transient,
            (_, None) => ErrorType::Safety,
        }
    }

    /// Whether it ended because the bucket is owned no more. Nothing is wrong then.
    pub fn not_owner(&self) -> bool {
        matches!(self.api(), Some(ApiError::NotOwner { .. }))
    }

    /// The failed request that it came from, if it came from one.
    fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Dereference(DereferenceError::Api(error))
            | Self::Meet(error)
            | Self::Terminating(error)
            | Self::Report(ReportError::Api(error))
            | Self::Apply(ApplyError::Api(error)) => Some(error),
            Self::Policies(Busy)
            | Self::Dereference(DereferenceError::Revision { .. } | DereferenceError::Salt(_))
            | Self::Apply(ApplyError::Credentials(_)) => None,
        }
    }

    /// Which step it belongs to.
    pub fn step(&self) -> Step {
        match self {
            Self::Meet(_) | Self::Dereference(_) => Step::Dereference,
            Self::Policies(Busy) => Step::Validate,
            Self::Terminating(_) => Step::Plan,
            Self::Apply(_) => Step::Apply,
            Self::Report(_) => Step::Report,
        }
    }
}

/// Brings one Database closer to what is declared, for as long as the permit holds.
pub async fn reconcile(cx: &Context, key: &Key, permit: &Permit) -> Result<Next, ReconcileError> {
    let entry = cx.store.get(key);
    let writer = Writer::new(cx.client.clone(), &key.subject(""), permit.clone()).knowing(&cx.store, key);
    let met = meet(cx, key, &writer, &entry).await.map_err(ReconcileError::Meet)?;
    let Some(database) = met else {
        cx.restarts.settled(key);
        return Ok(Next::Wait);
    };
    let subject = key.subject(&database.uid().unwrap_or_default());
    let fences = entry.children.values().map(|child| child.fence).chain([database.fence]);
    if let Some(newer) = fences.flatten().max().filter(|fence| *fence > permit.epoch()) {
        // Every write would be refused. If the bucket is still ours, its epoch is too low.
        cx.fleet.fence(key.bucket, newer);
        return Ok(Next::LookAgain(RAISED_AGAIN));
    }
    if database.deleting() {
        finalize(cx, key, &subject, &writer, database, entry).await
    } else {
        converge(cx, key, &subject, &writer, database, entry).await
    }
}

async fn converge(
    cx: &Context,
    key: &Key,
    subject: &Subject,
    writer: &Writer,
    mut database: SeenDatabase,
    entry: Entry,
) -> Result<Next, ReconcileError> {
    let Entry {
        mut children,
        rendered,
        before,
        judged,
        ..
    } = entry;
    let found = dereference(writer, &database, before.as_ref(), &children, &subject.name).await?;
    cx.metrics.steps.record(Step::Dereference, Outcome::Done);
    let mut verdict = validate(&found, &cx.catalogue);
    let ruling = match &cx.desk {
        // In a box: it is seldom asked, and every worker would keep room for it.
        Some(desk) => {
            Box::pin(rule::ruling(
                desk,
                &cx.store,
                (key, &database),
                (&found, &verdict),
                &judged,
            ))
            .await?
        }
        None => None,
    };
    let denied = ruling.as_ref().is_some_and(Ruling::refuses);
    if denied {
        verdict = validate::denied(&found, &cx.catalogue);
    }
    let refused = denied || verdict.refusal().is_some();
    cx.metrics
        .steps
        .record(Step::Validate, if refused { Outcome::Refused } else { Outcome::Done });

    let mut desired = verdict.intent().map(|intent| Desired {
        subject: subject.clone(),
        intent: intent.clone(),
        accept: verdict.accept().cloned(),
        salt: found.salt.clone(),
        replicas: cx.replicas,
    });
    let mut last = Carried::default();
    if let Some(desired) = &mut desired {
        last = carry_out(
            cx,
            key,
            writer,
            &mut database,
            (&mut children, rendered),
            desired,
            verdict.configuration_unknown(),
        )
        .await?;
    }
    if !refused && desired.as_ref().is_some_and(|desired| desired.accept.is_none()) {
        cx.store.accepted(key, database.generation());
    }
    let spoilt = found.spoilt.map(|spoilt| {
        let admin = ChildRef::new(Kind::Secret, api::names::secret_admin(&subject.name));
        (Some(admin), ApplyError::Credentials(spoilt))
    });
    let failure = last
        .applied
        .failure()
        .or(spoilt.as_ref())
        .map(|(child, error)| Failure {
            child: child.clone(),
            message: telemetry::chain(error),
            permanent: matches!(error, ApplyError::Api(ApiError::Invalid { .. })),
        });
    let progress = Progress {
        generation: database.generation(),
        refusal: verdict.refusal(),
        ruling: ruling.as_ref(),
        desired: desired.as_ref(),
        plan: last.plan.as_ref(),
        children: &children,
        failure: failure.as_ref(),
        contested: last.applied.contested(),
        paused: database.paused,
    };
    let status = planner::status::of(&database.status, &progress, &Time(Timestamp::now()));
    let ready = status.ready();
    let unasked = ruling.is_some_and(|ruling| ruling.finding == Finding::ErrorOnChange);
    report(cx, writer, key, &database, subject, status.status).await?;
    cx.metrics.steps.record(Step::Report, Outcome::Done);
    if ready {
        cx.restarts.settled(key);
    }
    let contested = last.applied.contested().is_some();
    match last.applied.into_failure().or(spoilt) {
        Some((_, error)) => Err(ReconcileError::Apply(error)),
        None if contested => Ok(Next::LookAgain(Contests::ASK_AGAIN)),
        None if unasked => Ok(Next::LookAgain(MISSING_AGAIN)),
        None => Ok(look_again(&verdict, last.plan.as_ref(), last.put_off)),
    }
}

/// What all rounds of one reconcile came to.
#[derive(Default)]
struct Carried {
    plan: Option<Plan>,
    applied: Applied,
    put_off: bool,
}

/// Plans and applies, again while a round found something that the plan did not know. For a paused Database nothing is
/// applied, and the plan only tells how it stands.
async fn carry_out(
    cx: &Context,
    key: &Key,
    writer: &Writer,
    database: &mut SeenDatabase,
    (children, mut rendered): (&mut planner::child::Children, Box<Rendered>),
    desired: &mut Desired,
    configuration_unknown: bool,
) -> Result<Carried, ReconcileError> {
    let mut carried = Carried::default();
    let mut looked = false;
    for _ in 0..ROUNDS {
        let observed = Observed {
            stamp: deletion::stamp(&desired.subject, database.finalizers(), database.bucket()),
            children: std::mem::take(children),
        };
        let mut next = plan_again(desired, &observed, &mut rendered);
        if configuration_unknown {
            next = without_configuration(next, &desired.subject, &observed.children);
        }
        *children = observed.children;
        // An empty cache never says that a password is lost: without its label no watch shows the Secret.
        if let Some(secret) = lost(&next).filter(|_| !looked) {
            looked = true;
            match writer.look(secret).await {
                Ok((secret, facts)) => {
                    children.insert(secret, facts);
                    continue;
                }
                Err(ApiError::NotFound { .. }) => {}
                Err(error) => return Err(DereferenceError::Api(error).into()),
            }
        }
        let settled = next.actions.is_empty();
        cx.metrics
            .steps
            .record(Step::Plan, if settled { Outcome::Nothing } else { Outcome::Done });
        if next.actions.is_empty() || database.paused {
            carried.plan = Some(next);
            break;
        }
        let subject = desired.subject.clone();
        let round = Round {
            writer,
            subject: &subject,
            database,
            children,
            store: &cx.store,
            key,
            restarts: &cx.restarts,
            contests: &cx.contests,
            metrics: &cx.metrics,
        };
        let applied = apply(round, &next.actions).await;
        let applied = applied.unless_over().map_err(ReconcileError::Apply)?;
        let failed = applied.failure().is_some();
        cx.metrics
            .steps
            .record(Step::Apply, if failed { Outcome::Failed } else { Outcome::Done });
        carried.put_off = applied.restarts_put_off() > 0;
        let contested = applied.contested().is_some();
        let waits = next.blocks.contains(&Block::AwaitsSecret);
        carried.plan = Some(next);
        carried.applied = applied;
        // Else a plan is made again, also if all went as planned: the echo of our own writes wakes nobody, and what was
        // written may have been the first of two steps.
        if failed || contested || carried.put_off {
            break;
        }
        if desired.accept.is_some()
            && latest_revision(children, &desired.subject.uid).map(|(_, digest)| digest) == accepted_digest(desired)
        {
            desired.accept = None;
        }
        if waits {
            desired.salt = salt(writer, &desired.subject.name, true).await?;
        }
    }
    cx.store.planned(key, rendered);
    Ok(carried)
}

/// The administrator's Secret, if the plan takes it for lost.
pub(crate) fn lost(plan: &Plan) -> Option<&ChildRef> {
    plan.blocks.iter().find_map(|block| match block {
        Block::CredentialsLost(secret) => Some(secret),
        Block::NameTaken(_) | Block::ForeignVolume { .. } | Block::VolumeLeaving(_) | Block::AwaitsSecret => None,
    })
}

fn accepted_digest(desired: &Desired) -> Option<planner::owned::OwnedDigest> {
    desired.accept.as_ref().map(planner::owned::digest_of_value)
}

fn look_again(verdict: &Verdict, plan: Option<&Plan>, put_off: bool) -> Next {
    if put_off {
        Next::LookAgain(Restarts::ASK_AGAIN)
    } else if verdict.refusal().is_some_and(|refusal| refusal.only_missing) {
        Next::LookAgain(MISSING_AGAIN)
    } else if plan.is_some_and(|plan| plan.blocks.iter().any(|block| *block != Block::AwaitsSecret)) {
        Next::LookAgain(BLOCKED_AGAIN)
    } else if verdict.has_references() {
        Next::LookAgain(REFERENCES_AGAIN)
    } else {
        Next::Wait
    }
}

/// Ends a Database: its children go, what its policy keeps stays, and the finalizer lets go when all is gone.
async fn finalize(
    cx: &Context,
    key: &Key,
    subject: &Subject,
    writer: &Writer,
    mut database: SeenDatabase,
    entry: Entry,
) -> Result<Next, ReconcileError> {
    if !database
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == api::names::FINALIZER)
        || database.paused
    {
        return Ok(Next::Wait);
    }
    let mut children = entry.children;
    // A spec that cannot be read does not say that data may be destroyed.
    let policy = database
        .spec
        .as_ref()
        .map(|spec| spec.deletion_policy)
        .unwrap_or_default();
    let finalizers = database.finalizers().to_vec();
    let again = |let_go, children: &_| plan_deletion(subject, policy, let_go, &finalizers, children);
    let mut deletion = again(None, &children);
    let unseen = deletion.to_look_at(subject, policy);
    if !unseen.is_empty() {
        terminating::look_at(writer, unseen, &mut children)
            .await
            .map_err(ReconcileError::Terminating)?;
        deletion = again(None, &children);
    }
    if deletion.destroys() {
        let let_go = terminating::let_go(&cx.client, &subject.namespace)
            .await
            .map_err(ReconcileError::Terminating)?;
        if let_go.is_some() {
            deletion = again(let_go, &children);
        }
    }
    let round = Round {
        writer,
        subject,
        database: &mut database,
        children: &mut children,
        store: &cx.store,
        key,
        restarts: &cx.restarts,
        contests: &cx.contests,
        metrics: &cx.metrics,
    };
    let applied = apply(round, &deletion.actions).await;
    match applied.into_failure() {
        Some((_, error)) => Err(ReconcileError::Apply(error)),
        None if deletion.waits_for.is_empty() => {
            cx.restarts.settled(key);
            Ok(Next::Wait)
        }
        None => {
            let status = planner::status::deleting(&database.status, &deletion.waits_for, &Time(Timestamp::now()));
            report(cx, writer, key, &database, subject, status).await?;
            // What we wait for is watched; but what was found by a live read may carry no label.
            Ok(Next::LookAgain(MISSING_AGAIN))
        }
    }
}
