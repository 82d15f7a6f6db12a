//! What is known of a fleet at one moment. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use serde::{Deserialize, Serialize};
use sharding::map::ShardMap;
use sharding::protocol::{Incarnation, LeaseRecord, Version};
use sharding::{BUCKETS, Bucket, bucket_of};

use ::fleet::lease::{self, VersionError};

/// How many names of Databases are shown; beyond, they are counted.
pub(crate) const SHOWN: usize = 20;

/// A Database gets its label from its owner within moments, so one as young as this may be without.
pub(crate) const LABELLED_WITHIN: SignedDuration = SignedDuration::from_secs(30);

/// All that is known.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Where the Leases are.
    pub namespace: String,
    /// The map.
    pub map: ShardMap,
    /// Its version: what members report as seen.
    pub map_version: Version,
    /// What the leader has written of the fence.
    pub fence: Option<FenceSeen>,
    /// The Leases.
    pub leases: Leases,
    /// The Databases.
    pub census: Census,
    /// By the clock of this machine.
    pub now: Timestamp,
}

/// The map's condition about the fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FenceSeen {
    /// `True` if the API server refuses writes of a replica whose ownership is over.
    pub status: String,
    /// Why.
    pub message: String,
}

/// All Leases of a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leases {
    /// Whose holder leads.
    pub coordinator: Option<LeaseSeen>,
    /// By the name of the member.
    pub members: BTreeMap<Arc<str>, LeaseSeen>,
}

/// A Lease, and what its times look like from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseSeen {
    /// Of the object.
    pub version: Version,
    /// What it says.
    pub record: LeaseRecord,
    /// When its holder wrote it, by the holder's wall clock.
    pub renewed: Option<Timestamp>,
    /// After how long without a renewal others may take it.
    pub duration: SignedDuration,
    /// It was seen to change between two looks, whatever the clocks say.
    pub seen_to_change: bool,
}

/// What is shown of a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum LeaseState {
    /// By the process that is asked about.
    Held,
    /// By the process that is asked about, and it looks as if it had run out.
    LooksExpired,
    /// By nobody: its holder gave it back, or the leader took it.
    Released,
    /// By another process of the same name.
    OfAnother,
    /// There is none.
    Missing,
}

impl Leases {
    /// What objects say; those that are no Leases of a fleet are left out.
    pub(crate) fn of(objects: &[LeaseObject]) -> Result<Self, VersionError> {
        let mut all = Self::default();
        for object in objects {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            if name == api::names::COORDINATOR_LEASE {
                all.coordinator = Some(LeaseSeen::of(object)?);
            } else if let Some(member) = lease::member_of(name) {
                all.members.insert(member, LeaseSeen::of(object)?);
            }
        }
        Ok(all)
    }

    /// Whether there is any.
    pub(crate) fn is_empty(&self) -> bool {
        self.coordinator.is_none() && self.members.is_empty()
    }

    /// Those that are held and look as if they had run out: for how long at most they must be watched to tell.
    pub(crate) fn doubtful(&self, now: Timestamp) -> Option<SignedDuration> {
        let all = self.coordinator.iter().chain(self.members.values());
        all.filter(|lease| lease.looks_expired(now))
            .map(|lease| lease.duration / 3)
            .max()
    }

    /// Notes which of these have changed since an earlier look.
    pub(crate) fn compare(&mut self, earlier: &Self) {
        if let (Some(now), Some(before)) = (&mut self.coordinator, &earlier.coordinator) {
            now.seen_to_change = now.version != before.version;
        }
        for (name, now) in &mut self.members {
            let before = earlier.members.get(name);
            now.seen_to_change = before.is_some_and(|before| now.version != before.version);
        }
    }

    /// How the Lease of a process stands.
    pub(crate) fn state(&self, of: &Incarnation, now: Timestamp) -> LeaseState {
        match self.members.get(&of.name) {
            None => LeaseState::Missing,
            Some(lease) => lease.state(of, now),
        }
    }
}

impl LeaseSeen {
    fn of(object: &LeaseObject) -> Result<Self, VersionError> {
        let lease = lease::from_object(object)?;
        let spec = object.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        Ok(Self {
            version: lease.version,
            record: lease.record,
            renewed: spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0),
            duration: SignedDuration::from_secs(seconds.into()),
            seen_to_change: false,
        })
    }

    /// Since when it was not renewed, as far as two wall clocks tell; negative if they disagree.
    pub(crate) fn age(&self, now: Timestamp) -> Option<SignedDuration> {
        self.renewed.map(|renewed| now.duration_since(renewed))
    }

    fn looks_expired(&self, now: Timestamp) -> bool {
        let old = self.age(now).is_none_or(|age| age > self.duration);
        self.record.holder.is_some() && old && !self.seen_to_change
    }

    /// How it stands for one process.
    pub(crate) fn state(&self, of: &Incarnation, now: Timestamp) -> LeaseState {
        match &self.record.holder {
            None => LeaseState::Released,
            Some(holder) if holder != of => LeaseState::OfAnother,
            Some(_) if self.looks_expired(now) => LeaseState::LooksExpired,
            Some(_) => LeaseState::Held,
        }
    }
}

/// All Databases, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Census {
    by_bucket: Vec<u64>,
    /// How many have no label or a wrong one.
    pub strays: u64,
    /// The first [`SHOWN`] of those.
    pub named: Vec<Stray>,
}

/// A Database that no watch of its owner shows: its label does not say what its name says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Stray {
    /// `NAMESPACE/NAME`.
    pub database: String,
    /// What its label says.
    pub label: Option<String>,
    /// What its name says.
    pub bucket: u16,
}

impl Default for Census {
    fn default() -> Self {
        Self {
            by_bucket: vec![0; usize::from(BUCKETS)],
            strays: 0,
            named: Vec::new(),
        }
    }
}

impl Census {
    /// Counts one. `age`: since it was made.
    pub(crate) fn count(&mut self, namespace: &str, name: &str, label: Option<&str>, age: SignedDuration) {
        let bucket = bucket_of(namespace, name);
        self.by_bucket[usize::from(bucket.index())] += 1;
        let new = label.is_none() && age < LABELLED_WITHIN;
        if new || label == Some(bucket.to_string().as_str()) {
            return;
        }
        self.strays += 1;
        if self.named.len() < SHOWN {
            self.named.push(Stray {
                database: format!("{namespace}/{name}"),
                label: label.map(str::to_owned),
                bucket: bucket.index(),
            });
        }
    }

    /// How many there are.
    pub(crate) fn total(&self) -> u64 {
        self.by_bucket.iter().sum()
    }

    /// How many there are in some buckets.
    pub(crate) fn of(&self, buckets: impl IntoIterator<Item = Bucket>) -> u64 {
        let of_bucket = |bucket: Bucket| self.by_bucket.get(usize::from(bucket.index())).copied();
        buckets.into_iter().filter_map(of_bucket).sum()
    }
}
