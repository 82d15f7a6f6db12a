//! The model of an API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use sharding::map::ShardMap;
use sharding::protocol::leader::Leader;
use sharding::protocol::{Answer, Command, Event, Kept, Lease, LeaseList, LeaseRecord, Version};

/// A precondition that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Guard {
    /// Of a write of the map.
    Map,
    /// Of a renewal of a member Lease.
    Renewal,
    /// Of the leader's take of a member Lease.
    Take,
}

/// Objects and their versions. Each kind counts on its own, since versions of two kinds are never compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) leases: BTreeMap<Arc<str>, Lease>,
    pub(crate) lease_version: u64,
    pub(crate) coordinator: Option<Lease>,
    pub(crate) coordinator_version: u64,
    pub(crate) map: Option<(Version, Arc<ShardMap>)>,
    pub(crate) map_version: u64,
    /// The map before the last one.
    pub(crate) old: Option<(Version, Arc<ShardMap>)>,
    /// What a wall clock would give as the seed of a new map: nothing greater was ever used.
    pub(crate) highest: u64,
    /// The last map that was deleted, for the invariants.
    pub(crate) deleted: Option<Arc<ShardMap>>,
}

type Writes = Vec<(Option<Arc<ShardMap>>, Arc<ShardMap>)>;

impl Server {
    /// Carries out a request, and answers it.
    pub(crate) fn apply(
        &mut self,
        from: &str,
        command: &Command,
        without: Option<Guard>,
        writes: &mut Writes,
    ) -> Option<Event> {
        Some(match command {
            Command::Read(Kept::Member) => Event::Read(Kept::Member, Some(self.leases.get(from).cloned())),
            Command::Read(Kept::Coordinator) => Event::Read(Kept::Coordinator, Some(self.coordinator.clone())),
            Command::Write(Kept::Member, precondition, record) => {
                let guarded = without != Some(Guard::Renewal);
                Event::Written(
                    Kept::Member,
                    self.write_lease(&from.into(), *precondition, record, guarded),
                )
            }
            Command::Write(Kept::Coordinator, precondition, record) => {
                Event::Written(Kept::Coordinator, self.write_coordinator(*precondition, record))
            }
            Command::Take(name, precondition, record) => {
                let guarded = without != Some(Guard::Take);
                let answer = self.write_lease(name, Some(*precondition), record, guarded);
                Event::Taken(Arc::clone(name), answer)
            }
            Command::ListLeases => {
                let leases = self
                    .leases
                    .iter()
                    .map(|(name, lease)| (Arc::clone(name), lease.clone()));
                Event::Listed(Some(LeaseList {
                    leases: leases.collect(),
                    at: Version(self.lease_version),
                }))
            }
            Command::WriteMap(precondition, map) => {
                let guarded = without != Some(Guard::Map);
                Event::MapWritten(self.write_map(*precondition, map, guarded, writes))
            }
            Command::ReadMap => self.map_event(),
            Command::Start(..)
            | Command::Drain(_)
            | Command::Prepare(..)
            | Command::Abort
            | Command::Refuse(_)
            | Command::Exit(_) => return None,
        })
    }

    pub(crate) fn delete_map(&mut self) {
        if let Some((_, map)) = self.map.take() {
            self.map_version += 1;
            self.deleted = Some(map);
        }
    }

    /// What the watches of the Leases have to tell.
    pub(crate) fn lease_news(&self, known: &Leader) -> Vec<Event> {
        let mut events = Vec::new();
        for (name, lease) in &self.leases {
            if known.leases.get(name).is_none_or(|known| known.at < lease.version) {
                events.push(Event::MemberLease(Arc::clone(name), Some(lease.clone()), lease.version));
            }
        }
        if let Some(lease) = &self.coordinator
            && known.keeper.known.as_ref().is_none_or(|known| known.at < lease.version)
        {
            events.push(Event::Coordinator(Some(lease.clone()), lease.version));
        }
        events
    }

    /// What the watch of the map has to tell to somebody who knows this version.
    pub(crate) fn map_news(&self, known: Option<Version>) -> Option<Event> {
        let newest = Version(self.map_version);
        known.is_none_or(|known| known < newest).then(|| self.map_event())
    }

    /// A copy of the map before the last one.
    pub(crate) fn old_map(&self) -> Option<Event> {
        let (version, map) = self.old.as_ref()?;
        Some(Event::Map(*version, Arc::clone(map)))
    }

    fn map_event(&self) -> Event {
        match &self.map {
            Some((version, map)) => Event::Map(*version, Arc::clone(map)),
            None => Event::MapGone(Version(self.map_version), self.highest),
        }
    }

    fn write_lease(
        &mut self,
        name: &Arc<str>,
        precondition: Option<Version>,
        record: &LeaseRecord,
        guarded: bool,
    ) -> Answer {
        let version = self.leases.get(name).map(|lease| lease.version);
        if guarded && version != precondition {
            return Answer::Conflict;
        }
        self.lease_version += 1;
        let lease = lease(self.lease_version, record);
        self.leases.insert(Arc::clone(name), lease);
        accepted(self.lease_version)
    }

    fn write_coordinator(&mut self, precondition: Option<Version>, record: &LeaseRecord) -> Answer {
        if self.coordinator.as_ref().map(|lease| lease.version) != precondition {
            return Answer::Conflict;
        }
        self.coordinator_version += 1;
        self.coordinator = Some(lease(self.coordinator_version, record));
        accepted(self.coordinator_version)
    }

    fn write_map(
        &mut self,
        precondition: Option<Version>,
        map: &Arc<ShardMap>,
        guarded: bool,
        writes: &mut Writes,
    ) -> Answer {
        if guarded && self.map.as_ref().map(|(version, _)| *version) != precondition {
            return Answer::Conflict;
        }
        self.map_version += 1;
        self.highest = self.highest.max(map.sequence);
        let before = self.map.replace((Version(self.map_version), Arc::clone(map)));
        let earlier = before.as_ref().map(|(_, map)| Arc::clone(map)).or(self.deleted.take());
        writes.push((earlier, Arc::clone(map)));
        self.old = before;
        accepted(self.map_version)
    }
}

fn lease(version: u64, record: &LeaseRecord) -> Lease {
    Lease {
        uid: "u".into(),
        version: Version(version),
        record: record.clone(),
    }
}

fn accepted(version: u64) -> Answer {
    Answer::Accepted {
        version: Version(version),
        uid: "u".into(),
    }
}
