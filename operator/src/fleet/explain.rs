//! `database-operator fleet explain`: who looks after one Database, and why. Pure, but for [`read`].
//!
//! Not guaranteed: why a bucket left the member that it prefers. The map says who owns what, not what it looked like when
//! that was decided; what can be known is said, and the rest is not made up.

use std::fmt;

use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use serde::Serialize;
use sharding::assignment::score;
use sharding::map::{Phase, Role, ShardMap};
use sharding::protocol::Incarnation;
use sharding::{Bucket, Epoch, bucket_of};

use api::database::Database;
use api::names;

use super::facts::{LeaseState, Leases};
use super::read::{Asked, MapSeen, ReadError, map_and_leases};

/// A Database, as far as its owner matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// The bucket's label.
    pub label: Option<String>,
    /// The fence in its annotations.
    pub annotation: Option<String>,
    /// The fence in its status.
    pub status: Option<u64>,
}

/// Who looks after a Database, and why.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    /// `NAMESPACE/NAME`.
    pub database: String,
    /// A bucket follows from the name alone, so all but the marks is known of one that does not exist, too.
    pub exists: bool,
    /// By the name.
    pub bucket: u16,
    /// By the map.
    pub owner: Option<Incarnation>,
    /// How the owner's Lease stands.
    pub owner_lease: Option<LeaseState>,
    /// Under which the owner writes.
    pub epoch: u64,
    /// Epochs are not below the Unix time of the leader that gave them, so this is about when.
    pub epoch_given_about: Option<Timestamp>,
    /// Where it is about to go.
    pub moves: Option<Moves>,
    /// What the label says against the name.
    pub label: Mark,
    /// What the fence in the annotations says against the map.
    pub fence: Mark,
    /// What the fence in the status says against the map.
    pub status_fence: Mark,
    /// The active members, the one that the bucket prefers first.
    pub preference: Vec<Preferred>,
    /// Why it is with its owner.
    pub why: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Moves {
    /// Of the round.
    pub round: u64,
    /// How far it is.
    pub phase: Phase,
    /// Who gets it.
    pub to: Incarnation,
}

/// A word on the object, and what it is worth.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mark {
    /// As it stands there.
    pub value: Option<String>,
    /// Against what should be.
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    /// It is as it should be.
    Agrees,
    /// There is none.
    Absent,
    /// It is of an earlier owner: this one has not written the object yet.
    Older,
    /// No owner so far may have written it. The owner that meets it asks for a greater epoch.
    Newer,
    /// It is wrong.
    Disagrees,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Preferred {
    /// Which.
    pub member: Incarnation,
    /// Its share, relative to the others.
    pub weight: u32,
    /// It is the owner.
    pub owns: bool,
}

/// Reads what is needed to explain one Database.
pub(crate) async fn read(
    client: &Client,
    operator_namespace: &str,
    namespace: &str,
    name: &str,
) -> Result<Explanation, ReadError> {
    let (MapSeen { map, .. }, leases) = map_and_leases(client, operator_namespace).await?;
    let asked = Asked {
        verb: "get",
        resource: "databases.intent.example.com",
        namespace: Some(namespace),
        defined_by: None,
    };
    let databases: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Database>(&()));
    let object = databases.get_opt(name).await.map_err(|error| asked.failed(error))?;
    let marks = object.map(|object| {
        let text =
            |all: Option<&std::collections::BTreeMap<String, String>>, key| all.and_then(|all| all.get(key).cloned());
        Marks {
            label: text(object.metadata.labels.as_ref(), names::BUCKET_LABEL),
            annotation: text(object.metadata.annotations.as_ref(), names::FENCE_ANNOTATION),
            status: object.data["status"]["fence"].as_u64(),
        }
    });
    Ok(Explanation::of(&map, &leases, namespace, name, marks, Timestamp::now()))
}

impl Explanation {
    /// What follows from the map, the Leases and the object. `marks`: none, if it does not exist.
    pub(crate) fn of(
        map: &ShardMap,
        leases: &Leases,
        namespace: &str,
        name: &str,
        marks: Option<Marks>,
        now: Timestamp,
    ) -> Self {
        let bucket = bucket_of(namespace, name);
        let owner = map.owner(bucket);
        // A map that was read has an epoch for each bucket.
        let epoch = map.epoch(bucket).unwrap_or(Epoch(0));
        let exists = marks.is_some();
        let marks = marks.unwrap_or_default();
        let preference = preference(map, bucket);
        Self {
            database: format!("{namespace}/{name}"),
            exists,
            bucket: bucket.index(),
            owner: owner.cloned(),
            owner_lease: owner.map(|owner| leases.state(owner, now)),
            epoch: epoch.0,
            epoch_given_about: i64::try_from(epoch.0)
                .ok()
                .and_then(|seconds| Timestamp::from_second(seconds).ok()),
            moves: moves(map, bucket),
            label: label(marks.label, bucket),
            fence: fence(marks.annotation, epoch),
            status_fence: fence(marks.status.map(|fence| fence.to_string()), epoch),
            why: why(map, bucket, &preference),
            preference,
        }
    }
}

fn moves(map: &ShardMap, bucket: Bucket) -> Option<Moves> {
    let round = map.round.as_ref()?;
    let to = map.members.get(usize::from(*round.moves.get(&bucket)?))?;
    Some(Moves {
        round: round.number,
        phase: round.phase,
        to: to.incarnation.clone(),
    })
}

fn label(value: Option<String>, bucket: Bucket) -> Mark {
    let verdict = match &value {
        None => Verdict::Absent,
        Some(text) if *text == bucket.to_string() => Verdict::Agrees,
        Some(_) => Verdict::Disagrees,
    };
    Mark { value, verdict }
}

fn fence(value: Option<String>, epoch: Epoch) -> Mark {
    let verdict = match value.as_deref().map(str::parse::<Epoch>) {
        None => Verdict::Absent,
        Some(Err(_)) => Verdict::Disagrees,
        Some(Ok(fence)) if fence == epoch => Verdict::Agrees,
        Some(Ok(fence)) if fence < epoch => Verdict::Older,
        Some(Ok(_)) => Verdict::Newer,
    };
    Mark { value, verdict }
}

/// As the assignment ranks: by name and weight, among those that may own.
fn preference(map: &ShardMap, bucket: Bucket) -> Vec<Preferred> {
    let mut active: Vec<_> = map
        .members
        .iter()
        .filter(|member| member.role == Role::Active && member.weight > 0)
        .map(|member| {
            let name = &*member.incarnation.name;
            (score::cost(score::draw(name, bucket.index())), name, member)
        })
        .collect();
    active.sort_by(|(cost_a, name_a, a), (cost_b, name_b, b)| {
        let [a, b] = [(cost_a, b), (cost_b, a)].map(|(cost, other)| u128::from(*cost) * u128::from(other.weight));
        a.cmp(&b).then(name_a.cmp(name_b))
    });
    let shown = active.into_iter().map(|(_, _, member)| Preferred {
        member: member.incarnation.clone(),
        weight: member.weight,
        owns: map.owner(bucket) == Some(&member.incarnation),
    });
    shown.collect()
}

fn why(map: &ShardMap, bucket: Bucket, preference: &[Preferred]) -> String {
    let Some(owner) = map.owner(bucket) else {
        return "nobody owns it: the map is new, and it is given out as soon as all members have seen that".to_owned();
    };
    let place = preference.iter().position(|preferred| preferred.owns);
    let members = preference.len();
    match place {
        Some(0) => format!("of the {members} active members it prefers {owner}"),
        Some(place) => format!(
            "of the {members} active members it prefers {}, and {owner} is its choice no. {}. A bucket stays with its \
             owner as long as all loads are within 2 % of their shares, and moves for no other reason than those bounds \
             or a member that comes or goes; the map does not record which of these gave it to {owner}",
            preference[0].member,
            place + 1
        ),
        None => {
            let role = map
                .members
                .iter()
                .find(|member| member.incarnation == *owner)
                .map(|member| member.role);
            match role {
                Some(Role::Leaving) => format!("{owner} is leaving, and serves it until others have taken it over"),
                Some(Role::Draining) => {
                    format!("{owner} is being drained, and serves it until others have taken it over")
                }
                Some(Role::Gone) => format!("{owner} is dead, and nobody could take it over yet"),
                Some(Role::Active | Role::Standby) | None => format!("{owner} owns it, and may own nothing anew"),
            }
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = if self.exists {
            ""
        } else {
            " (does not exist; a bucket follows from the name alone)"
        };
        writeln!(f, "Database      {}{missing}", self.database)?;
        writeln!(f, "Bucket        {}", self.bucket)?;
        match (&self.owner, self.owner_lease) {
            (Some(owner), Some(lease)) => writeln!(f, "Owner         {owner}, its Lease: {}", word(lease))?,
            (Some(_), None) | (None, _) => writeln!(f, "Owner         nobody")?,
        }
        let about = self.epoch_given_about.map(|time| format!(", given about {time}"));
        writeln!(f, "Epoch         {}{}", self.epoch, about.unwrap_or_default())?;
        match &self.moves {
            Some(Moves { round, phase, to }) => writeln!(f, "Moves         to {to}, round {round}, {phase:?}")?,
            None => writeln!(f, "Moves         not now")?,
        }
        if self.exists {
            writeln!(f, "Label         {}", self.label.text("its bucket"))?;
            writeln!(f, "Fence         {}", self.fence.text("the epoch"))?;
            writeln!(f, "Status fence  {}", self.status_fence.text("the epoch"))?;
        }
        writeln!(f, "\nWhy: {}.\n\nIts choices among the active members:", self.why)?;
        for (place, preferred) in (1..).zip(&self.preference) {
            let owns = if preferred.owns { ", the owner" } else { "" };
            writeln!(f, "  {place}. {} (weight {}){owns}", preferred.member, preferred.weight)?;
        }
        Ok(())
    }
}

impl Mark {
    fn text(&self, what: &str) -> String {
        let value = self.value.as_deref().unwrap_or_default();
        match self.verdict {
            Verdict::Agrees => format!("{value}, {what}"),
            Verdict::Absent => "none yet: its owner has not written it".to_owned(),
            Verdict::Older => format!("{value}, of an earlier owner: this one has not written it yet"),
            Verdict::Newer => {
                format!("{value}, NEWER than {what}: the owner asks for a greater one when it meets this")
            }
            Verdict::Disagrees => format!("{value:?}, WRONG: it is not {what}"),
        }
    }
}

fn word(lease: LeaseState) -> &'static str {
    match lease {
        LeaseState::Held => "held",
        LeaseState::LooksExpired => "looks EXPIRED by the clock of this machine",
        LeaseState::Released => "RELEASED",
        LeaseState::OfAnother => "of ANOTHER process of its name",
        LeaseState::Missing => "MISSING",
    }
}
