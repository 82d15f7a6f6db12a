//! `database-operator fleet drain`: asks the leader to give a member's buckets to others, or takes that back.
//!
//! All it does is to write an annotation into the member's Lease, by compare-and-swap; the member carries it along with
//! its renewals, and the leader acts on it. So it needs no way to the member, and it ends with the process: one that
//! starts again under that name owns its share again.

use std::time::Duration;

use api::names;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use sharding::protocol::{Incarnation, Version};
use tokio::time::Instant;

use super::facts::{LeaseState, Leases};
use super::read::{Asked, MapSeen, ReadError, leases, map_and_leases};

/// How often the annotation is written again because the member has renewed its Lease in between.
const TRIES: u32 = 10;

/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(500);

/// Why nothing was drained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    /// The fleet cannot be asked, or the Lease not be written.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No such member.
    #[error("there is no member {member}; there are {known}")]
    Unknown {
        /// What was asked for.
        member: String,
        /// Those that there are.
        known: String,
    },
    /// Nobody would be left.
    #[error(
        "{member} is the last one that can own anything: its Databases would be left to nobody; start another first"
    )]
    LastOne {
        /// What was asked for.
        member: Incarnation,
    },
    /// It is written all the time.
    #[error("the Lease of {member} changed before each of {TRIES} writes; try again")]
    Contended {
        /// What was asked for.
        member: Incarnation,
    },
    /// Not within the time.
    #[error(
        "{member} still owns {left} buckets after {seconds} s; it goes on, see `database-operator fleet status`, \
         or take it back with --undo"
    )]
    Late {
        /// What was asked for.
        member: Incarnation,
        /// How many it still owns.
        left: usize,
        /// How long was waited.
        seconds: u64,
    },
    /// Somebody else took it back.
    #[error("{member}: somebody took the wish back, and it owns {left} buckets")]
    TakenBack {
        /// What was asked for.
        member: Incarnation,
        /// How many it owns.
        left: usize,
    },
}

impl DrainError {
    /// Whether a rule refuses it, rather than that something failed.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::LastOne { .. })
    }
}

/// What is to be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Which process.
    pub member: Incarnation,
    /// Of its Lease; none: that says it already.
    pub write_over: Option<Version>,
}

/// Whether a member may be drained. `name`: of the member, or of exactly one process of it.
pub(crate) fn wanted(leases: &Leases, name: &str, undo: bool, now: Timestamp) -> Result<Wanted, DrainError> {
    let running = || leases.members.values().filter(|lease| lease.record.holder.is_some());
    let found = running().find_map(|lease| {
        let holder = lease.record.holder.as_ref()?;
        (*holder.name == *name || holder.to_string() == name).then_some((lease, holder))
    });
    let Some((lease, member)) = found else {
        let mut known: Vec<&str> = running()
            .filter_map(|lease| Some(&*lease.record.holder.as_ref()?.name))
            .collect();
        known.sort_unstable();
        return Err(DrainError::Unknown {
            member: name.to_owned(),
            known: if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            },
        });
    };
    let can_own = running().any(|other| {
        let report = &other.record.report;
        let holder = other.record.holder.as_ref().filter(|holder| *holder != member);
        let alive = holder.is_some_and(|holder| other.state(holder, now) == LeaseState::Held);
        alive && !report.leaving && !report.drain && report.weight > 0
    });
    if !undo && !can_own {
        return Err(DrainError::LastOne { member: member.clone() });
    }
    Ok(Wanted {
        member: member.clone(),
        write_over: (lease.record.report.drain == undo).then_some(lease.version),
    })
}

/// Writes the wish, or takes it back. Returns whose Lease it is in.
pub(crate) async fn ask(client: &Client, namespace: &str, name: &str, undo: bool) -> Result<Incarnation, DrainError> {
    let mut tries = 0;
    loop {
        let known = leases(client, namespace).await?;
        let Wanted { member, write_over } = wanted(&known, name, undo, Timestamp::now())?;
        let Some(version) = write_over else { return Ok(member) };
        if write(client, namespace, &member, version, undo).await? {
            return Ok(member);
        }
        tries += 1;
        if tries == TRIES {
            return Err(DrainError::Contended { member });
        }
    }
}

/// False: the Lease has changed.
async fn write(
    client: &Client,
    namespace: &str,
    member: &Incarnation,
    version: Version,
    undo: bool,
) -> Result<bool, ReadError> {
    let asked = Asked {
        verb: "patch",
        resource: "leases",
        namespace: Some(namespace),
        defined_by: None,
    };
    let value = (!undo).then_some(names::TRUE);
    let patch = json!({"metadata": {
        "resourceVersion": version.0.to_string(),
        "annotations": {names::DRAIN_ANNOTATION: value},
    }});
    let all: Api<LeaseObject> = Api::namespaced(client.clone(), namespace);
    let lease = names::member_lease(&member.name);
    match all.patch(&lease, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(asked.failed(error)),
    }
}

/// Waits until a member owns nothing. `tell` is told how much is left, whenever that changes.
pub(crate) async fn wait(
    client: &Client,
    namespace: &str,
    member: &Incarnation,
    seconds: u64,
    mut tell: impl FnMut(usize),
) -> Result<(), DrainError> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut told = None;
    loop {
        let (MapSeen { map, .. }, leases) = map_and_leases(client, namespace).await?;
        let left = map.owned_by(member).count();
        if told != Some(left) {
            tell(left);
            told = Some(left);
        }
        if left == 0 {
            return Ok(());
        }
        let record = leases.members.get(&member.name).map(|lease| &lease.record);
        // One that is gone meanwhile loses its buckets as well.
        let mine = record.filter(|record| record.holder.as_ref() == Some(member));
        let member = || member.clone();
        if mine.is_some_and(|record| !record.report.drain) {
            return Err(DrainError::TakenBack { member: member(), left });
        }
        if Instant::now() + PAUSE > deadline {
            return Err(DrainError::Late {
                member: member(),
                left,
                seconds,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}
