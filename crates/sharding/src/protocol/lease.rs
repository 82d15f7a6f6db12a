//! A Lease as data, and [`Keeper`]: how one is acquired, kept and lost. Both the member Lease and the coordinator Lease
//! are kept in this way.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Answer, Flaw};
use crate::bucket::Bucket;
use crate::epoch::Epoch;
use crate::timing::{Millis, Timings};

/// One process: its name and a number that it drew at its start. Once a Lease has gone from an incarnation to anybody
/// else it never comes back to it, so "this incarnation does not hold its Lease" is a fact that stays true.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Incarnation {
    /// The name of the member: the pod's.
    pub name: Arc<str>,
    /// Tells two processes of one name apart.
    pub nonce: u64,
}

/// Why a text is not an incarnation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an incarnation: expected a name, `_` and a hexadecimal number")]
pub struct IncarnationError(String);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{:x}", self.name, self.nonce)
    }
}

impl FromStr for Incarnation {
    type Err = IncarnationError;

    fn from_str(text: &str) -> Result<Self, IncarnationError> {
        // A pod's name holds no `_`.
        let parts = text.split_once('_').filter(|(name, _)| !name.is_empty());
        let read = parts.and_then(|(name, nonce)| Some((name, u64::from_str_radix(nonce, 16).ok()?)));
        match read {
            Some((name, nonce)) if format!("{name}_{nonce:x}") == text => Ok(Self {
                name: name.into(),
                nonce,
            }),
            _ => Err(IncarnationError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Incarnation {
    type Error = IncarnationError;

    fn try_from(text: String) -> Result<Self, IncarnationError> {
        text.parse()
    }
}

impl From<Incarnation> for String {
    fn from(incarnation: Incarnation) -> Self {
        incarnation.to_string()
    }
}

/// The resourceVersion of an object. Later ones of one resource are greater, also across a deletion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// What a Lease says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LeaseRecord {
    /// None: released by its holder, or taken by the leader.
    pub holder: Option<Incarnation>,
    /// Grows with every new holder.
    pub transitions: u64,
    /// What a member tells the leader; empty in the coordinator Lease.
    pub report: Report,
}

/// What a member tells the leader, written with its renewals, and at once when somebody waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Report {
    /// The version of the newest map for which it holds that all work of this member is in buckets that this map gives
    /// it.
    pub seen: Version,
    /// The round for which its watches are warm; 0: none.
    pub warm: u64,
    /// The round, still in the newest map it knows, of whose moves it has ended all work; 0: none.
    pub drained: u64,
    /// It was asked to stop.
    pub leaving: bool,
    /// Somebody wants it to own nothing. Not its own word: a person writes it into the Lease, and the member carries it
    /// along. It is for this process: one that starts under the same name begins without, for otherwise a new pod would
    /// stand idle for a reason that nobody remembers. A place that is to stay empty has the weight 0.
    pub drain: bool,
    /// Its share, relative to the others.
    pub weight: u32,
    /// Fences that it met and that are not older than its own epoch of the bucket.
    pub raise: BTreeMap<Bucket, Epoch>,
}

impl Report {
    /// Whether somebody waits for what is new in this, compared with what is written: a round that goes on with it, or,
    /// while there are buckets that nobody owns, the leader that gives them out once all have seen the map without owners.
    /// What is merely over needs no write of its own. With many members, that would be most of all writes.
    fn is_waited_for(&self, written: &Self, all_is_owned: bool) -> bool {
        let news = |new: u64, old: u64| new != old && new != 0;
        news(self.warm, written.warm)
            || news(self.drained, written.drained)
            || self.leaving != written.leaving
            || self.weight != written.weight
            || self.raise != written.raise && !self.raise.is_empty()
            || self.seen != written.seen && !all_is_owned
    }
}

/// A Lease as read. Its `uid` tells it from an earlier one of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The object's uid.
    pub uid: Arc<str>,
    /// The precondition of the next write.
    pub version: Version,
    /// What it says.
    pub record: LeaseRecord,
}

/// All member Leases at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseList {
    /// By the name of the member.
    pub leases: Vec<(Arc<str>, Lease)>,
    /// The version of the list.
    pub at: Version,
}

/// A Lease as somebody else sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Observed {
    /// None: it does not exist.
    pub lease: Option<Lease>,
    /// Up to which version this is known. News about earlier ones are ignored.
    pub at: Version,
    /// When, by the observer's clock, it was first seen like this.
    pub changed_ms: Millis,
}

impl Observed {
    /// Whether it has not been seen to change for a whole Lease. No wall clock has a part in it.
    #[must_use]
    pub fn expired(&self, timings: Timings, now: Millis) -> bool {
        now >= self.changed_ms.saturating_add(timings.lease_ms())
    }

    /// Who holds it.
    #[must_use]
    pub fn holder(&self) -> Option<&Incarnation> {
        self.lease.as_ref()?.record.holder.as_ref()
    }

    /// Takes in what a watch or a list says. Late news are no news.
    pub fn observe(&mut self, lease: Option<Lease>, at: Version, now: Millis) {
        if at <= self.at {
            return;
        }
        if self.lease != lease {
            self.changed_ms = now;
            self.lease = lease;
        }
        self.at = at;
    }
}

/// What a keeper wants done next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wish {
    /// Read the Lease.
    Read,
    /// Write it, if it still has this version; None: if it does not exist.
    Write(Option<Version>, LeaseRecord),
}

/// One Lease of which this process is, or wants to be, the holder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Keeper {
    /// The Lease as last read or written by this process. None: not read yet.
    pub known: Option<Observed>,
    /// A write met a conflict, so what is known is old.
    pub stale: bool,
    /// When the last accepted write was sent, if this process holds the Lease as far as it knows.
    pub held_from: Option<Millis>,
    /// The uid of the Lease that is or was held. The holder of a Lease that was deleted lost it, even if a late request
    /// makes one of the same name.
    pub held_uid: Option<Arc<str>>,
    /// The write on its way, and when it was sent.
    pub writing: Option<(Millis, LeaseRecord)>,
    /// A read is on its way.
    pub reading: bool,
    /// When the last request was sent. None: the next one need not wait.
    pub tried_ms: Option<Millis>,
    /// The last request got no answer, so the next one waits for the retry period.
    pub failed: bool,
}

impl Keeper {
    /// Whether the holder may start work.
    #[must_use]
    pub fn valid(&self, timings: Timings, now: Millis) -> bool {
        self.held_from
            .is_some_and(|sent| now < sent.saturating_add(timings.renew_deadline_ms()))
    }

    /// Whether all work must have stopped.
    #[must_use]
    pub fn over(&self, timings: Timings, now: Millis) -> bool {
        self.held_from
            .is_none_or(|sent| now >= sent.saturating_add(timings.abort_ms()))
    }

    /// Takes in an answer to [`Wish::Read`]; None: there was none.
    pub fn read(&mut self, answer: Option<Option<Lease>>, me: &Incarnation, now: Millis) {
        self.reading = false;
        let Some(lease) = answer else {
            self.failed = true;
            return;
        };
        self.failed = false;
        let floor = self.known.as_ref().map_or(Version::default(), |known| known.at);
        let at = lease.as_ref().map_or(floor, |lease| lease.version);
        if at < floor {
            return;
        }
        self.stale = false;
        if lease
            .as_ref()
            .is_none_or(|lease| lease.record.holder.as_ref() == Some(me))
        {
            self.tried_ms = None;
        }
        let changed_ms = match &self.known {
            Some(known) if known.lease == lease => known.changed_ms,
            _ => now,
        };
        self.known = Some(Observed { lease, at, changed_ms });
    }

    /// Takes in what a watch says.
    pub fn observe(&mut self, lease: Option<Lease>, at: Version, now: Millis) {
        match &mut self.known {
            Some(known) if at <= known.at => {}
            Some(known) => {
                known.observe(lease, at, now);
                self.stale = false;
            }
            none => {
                *none = Some(Observed {
                    lease,
                    at,
                    changed_ms: now,
                });
            }
        }
    }

    /// Takes in the answer to [`Wish::Write`]. An accepted write counts from before it was sent, since from then on it
    /// may have been applied, and others count from when they see it.
    pub fn answered(&mut self, answer: &Answer, me: &Incarnation, now: Millis, flaw: Option<Flaw>) {
        let Some((sent, record)) = self.writing.take() else {
            return;
        };
        self.failed = *answer == Answer::Unknown;
        match answer {
            Answer::Accepted { version, uid } => {
                let mine = record.holder.as_ref() == Some(me);
                let from = if flaw == Some(Flaw::CountFromTheAnswer) {
                    now
                } else {
                    sent
                };
                self.held_from = mine.then_some(from);
                self.held_uid = mine.then(|| Arc::clone(uid));
                self.stale = false;
                self.known = Some(Observed {
                    lease: Some(Lease {
                        uid: Arc::clone(uid),
                        version: *version,
                        record,
                    }),
                    at: *version,
                    changed_ms: now,
                });
            }
            // Somebody else wrote, or an earlier request of ours arrived late: only reading tells.
            Answer::Conflict => self.stale = true,
            // It may have been applied, or may yet be. It does not count; the next one tells by its precondition.
            Answer::Unknown => {}
        }
    }

    /// Whether this process held the Lease and learned that it does not any more.
    #[must_use]
    pub fn lost(&self, me: &Incarnation) -> bool {
        let Some(held) = &self.held_uid else { return false };
        self.known.as_ref().is_some_and(|known| {
            known.holder() != Some(me) || known.lease.as_ref().is_some_and(|lease| lease.uid != *held)
        })
    }

    /// Forgets that it held the Lease, to be a candidate again.
    pub fn give_up(&mut self) {
        self.held_from = None;
        self.held_uid = None;
    }

    /// What to do now, to hold the Lease with this report. `all_is_owned`: by the newest map that is known.
    pub fn wish(
        &mut self,
        report: &Report,
        all_is_owned: bool,
        me: &Incarnation,
        timings: Timings,
        now: Millis,
    ) -> Option<Wish> {
        if self.writing.is_some() || self.reading {
            return None;
        }
        let due = self.due(timings, now);
        let may = due || !self.failed;
        let Some(known) = self.known.as_ref().filter(|_| !self.stale) else {
            return may.then(|| self.start_read(now));
        };
        let mut record = LeaseRecord {
            holder: Some(me.clone()),
            transitions: 1,
            report: report.clone(),
        };
        let Some(lease) = &known.lease else {
            return may.then(|| self.start_write(None, record, now));
        };
        let precondition = Some(lease.version);
        let mine = lease.record.holder.as_ref() == Some(me);
        // Whoever wrote it has changed the version, so it was read before anything was written over it.
        record.report.drain = mine && lease.record.report.drain;
        if mine && self.held_uid.is_some() {
            record.transitions = lease.record.transitions;
            let news = record.report.is_waited_for(&lease.record.report, all_is_owned);
            return (due || news && may).then(|| self.start_write(precondition, record, now));
        }
        // Free, or ours by a request whose answer was lost, or run out.
        let free = lease.record.holder.as_ref().is_none_or(|holder| holder == me);
        if free || known.expired(timings, now) {
            record.transitions = lease.record.transitions + 1;
            return may.then(|| self.start_write(precondition, record, now));
        }
        due.then(|| self.start_read(now))
    }

    /// The write that gives the Lease back. Only for a holder all of whose work has ended.
    pub fn release(&mut self, timings: Timings, now: Millis) -> Option<Wish> {
        if self.writing.is_some() || self.reading || self.failed && !self.due(timings, now) {
            return None;
        }
        let Some(lease) = self
            .known
            .as_ref()
            .filter(|_| !self.stale)
            .and_then(|known| known.lease.as_ref())
        else {
            return Some(self.start_read(now));
        };
        let record = LeaseRecord {
            holder: None,
            transitions: lease.record.transitions,
            report: Report::default(),
        };
        let precondition = Some(lease.version);
        Some(self.start_write(precondition, record, now))
    }

    fn due(&self, timings: Timings, now: Millis) -> bool {
        self.tried_ms.is_none_or(|tried| now >= tried + timings.retry_ms())
    }

    fn start_read(&mut self, now: Millis) -> Wish {
        self.reading = true;
        self.tried_ms = Some(now);
        Wish::Read
    }

    fn start_write(&mut self, precondition: Option<Version>, record: LeaseRecord, now: Millis) -> Wish {
        self.writing = Some((now, record.clone()));
        self.tried_ms = Some(now);
        Wish::Write(precondition, record)
    }
}
