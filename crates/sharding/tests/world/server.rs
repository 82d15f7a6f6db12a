//! The model of an API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use sharding::map::{MapError, ShardMap};
use sharding::protocol::leader::Leader;
use sharding::protocol::{Answer, Command, Event, Kept, Lease, LeaseList, LeaseRecord, Version};

use super::invariants::Given;

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
    /// Somebody edited the map: its seal is broken.
    pub(crate) edited: bool,
    /// The map is an old one, from a backup.
    pub(crate) restored: bool,
    /// The map before the last one.
    pub(crate) old: Option<(Version, Arc<ShardMap>)>,
    /// How many Leases were made, if each is to have a uid of its own. None: all have one, so that states are alike.
    pub(crate) uids: Option<u64>,
    /// What a wall clock shows: nothing greater was ever used.
    pub(crate) highest: u64,
    /// By bucket: the last epoch under which it was given to anybody, and to whom. For the invariants.
    pub(crate) given: Given,
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
            Command::Forget(name, uid, version) => {
                Event::Forgotten(Arc::clone(name), self.forget_lease(name, uid, *version))
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
        self.map = None;
        self.edited = false;
        self.restored = false;
        self.map_version += 1;
    }

    /// Whether a request can never be applied any more: its object has a newer version than its precondition. The map
    /// alone can be deleted, so the creation of one always has hope.
    pub(crate) fn is_hopeless(&self, from: &str, command: &Command) -> bool {
        let newer = |version: Option<Version>, precondition: &Option<Version>| version != *precondition;
        let lease = |name: &str| self.leases.get(name).map(|lease| lease.version);
        let coordinator = || self.coordinator.as_ref().map(|lease| lease.version);
        match command {
            Command::Write(Kept::Member, precondition, _) => newer(lease(from), precondition),
            Command::Write(Kept::Coordinator, precondition, _) => newer(coordinator(), precondition),
            Command::Take(name, precondition, _) => newer(lease(name), &Some(*precondition)),
            Command::Forget(name, _, version) => newer(lease(name), &Some(*version)),
            Command::WriteMap(Some(precondition), _) => self.map_version != precondition.0,
            _ => false,
        }
    }

    pub(crate) fn delete_lease(&mut self, name: &str) {
        self.lease_version += 1;
        self.leases.remove(name);
    }

    /// Somebody writes into a Lease that its member is to own nothing, or takes that back.
    pub(crate) fn drain(&mut self, name: &str, drain: bool) {
        self.lease_version += 1;
        let lease = self.leases.get_mut(name).expect("its Lease is there");
        lease.version = Version(self.lease_version);
        lease.record.report.drain = drain;
    }

    pub(crate) fn edit_map(&mut self) {
        self.map_version += 1;
        self.edited = true;
        if let Some((version, _)) = &mut self.map {
            *version = Version(self.map_version);
        }
    }

    /// A backup of the map alone is restored.
    pub(crate) fn restore_map(&mut self) {
        self.map_version += 1;
        self.edited = false;
        self.restored = true;
        let old = self.old.as_ref().map(|(_, map)| Arc::clone(map));
        self.map = old.map(|map| (Version(self.map_version), map));
    }

    /// What the watches of the Leases have to tell.
    pub(crate) fn lease_news(&self, known: &Leader) -> Vec<Event> {
        let mut events = Vec::new();
        for (name, lease) in &self.leases {
            if known.leases.get(name).is_none_or(|known| known.at < lease.version) {
                events.push(Event::MemberLease(Arc::clone(name), Some(lease.clone()), lease.version));
            }
        }
        let now = Version(self.lease_version);
        for (name, lease) in &known.leases {
            if lease.lease.is_some() && lease.at < now && !self.leases.contains_key(name) {
                events.push(Event::MemberLease(Arc::clone(name), None, now));
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

    pub(crate) fn map_event(&self) -> Event {
        match &self.map {
            Some((version, _)) if self.edited => Event::MapDamaged(*version, MapError::Edited),
            Some((version, map)) => Event::Map(*version, Arc::clone(map)),
            None => Event::MapGone(Version(self.map_version)),
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
        let known = self.leases.get(name).map(|lease| Arc::clone(&lease.uid));
        let uid = known.unwrap_or_else(|| self.new_uid());
        let lease = lease(&uid, self.lease_version, record);
        self.leases.insert(Arc::clone(name), lease);
        accepted(&uid, self.lease_version)
    }

    fn forget_lease(&mut self, name: &Arc<str>, uid: &Arc<str>, version: Version) -> Answer {
        let same = |lease: &&Lease| lease.version == version && lease.uid == *uid;
        let lease = self.leases.get(name).filter(same);
        let Some(lease) = lease.cloned() else {
            return Answer::Conflict;
        };
        self.delete_lease(name);
        Answer::Accepted {
            version: lease.version,
            uid: lease.uid,
        }
    }

    fn write_coordinator(&mut self, precondition: Option<Version>, record: &LeaseRecord) -> Answer {
        if self.coordinator.as_ref().map(|lease| lease.version) != precondition {
            return Answer::Conflict;
        }
        self.coordinator_version += 1;
        let known = self.coordinator.as_ref().map(|lease| Arc::clone(&lease.uid));
        let uid = known.unwrap_or_else(|| self.new_uid());
        self.coordinator = Some(lease(&uid, self.coordinator_version, record));
        accepted(&uid, self.coordinator_version)
    }

    fn new_uid(&mut self) -> Arc<str> {
        let Some(made) = &mut self.uids else { return "u".into() };
        *made += 1;
        format!("u{made}").into()
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
        self.edited = false;
        self.restored = false;
        self.old = self.map.replace((Version(self.map_version), Arc::clone(map)));
        writes.push((self.old.as_ref().map(|(_, map)| Arc::clone(map)), Arc::clone(map)));
        accepted("u", self.map_version)
    }
}

fn lease(uid: &Arc<str>, version: u64, record: &LeaseRecord) -> Lease {
    Lease {
        uid: Arc::clone(uid),
        version: Version(version),
        record: record.clone(),
    }
}

fn accepted(uid: &str, version: u64) -> Answer {
    Answer::Accepted {
        version: Version(version),
        uid: uid.into(),
    }
}
