//! The ShardMap: which member owns which bucket, and since when. [`ShardMap`] is the words as types, [`Spec`] is how it
//! stands in the cluster, and [`Spec::read`] is the only way from the one to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::bucket::{BUCKETS, Bucket};
use crate::epoch::Epoch;
use crate::protocol::lease::Incarnation;

/// The largest number that a map may hold: what a JSON number carries without loss. A fence beyond it is nobody's.
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// Who owns what. Written by the leader alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShardMap {
    /// The installation that this map belongs to: a second one refuses to start.
    pub installation: Arc<str>,
    /// Who wrote it.
    pub leader: Incarnation,
    /// Which leadership wrote it. For people and for a superseded leader to notice; no decision of a member rests on it.
    pub term: u64,
    /// Grows with every write. Every epoch and round number is the `sequence` of the write that made it, so one number
    /// is never given twice.
    pub sequence: u64,
    /// In the order in which they joined.
    pub members: Vec<MapMember>,
    /// By bucket: the index of its owner in `members`. None in a fresh map: whoever served it before may not know yet.
    pub owners: Vec<Option<u16>>,
    /// By bucket: the `sequence` of the write that gave it to its owner, or took it from the last one.
    pub epochs: Vec<Epoch>,
    /// The planned moves that are under way.
    pub round: Option<Round>,
}

/// A member as the map knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MapMember {
    /// Which process.
    pub incarnation: Incarnation,
    /// What it is for.
    pub role: Role,
    /// Its share, relative to the others; kept here so that it is known after the member has died.
    pub weight: u32,
}

/// What a member is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// It owns buckets, or is about to.
    Active,
    /// It is warm and waits for a place.
    Standby,
    /// It will exit as soon as it owns nothing. When all are leaving there is no successor to wait for.
    Leaving,
    /// Somebody asked that it own nothing; it stays, and owns again when the wish is taken back or nobody else can.
    Draining,
    /// It is dead and still named as owner, since nobody can take its buckets.
    Gone,
}

/// Moves between live members.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Round {
    /// The sequence of the write that began it.
    pub number: u64,
    /// How far it is.
    pub phase: Phase,
    /// Which bucket goes to which member.
    pub moves: BTreeMap<Bucket, u16>,
}

/// How far a round is. *Active* is not a phase: it is an owner with a new epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// The gainers open their watches; the losers serve on.
    Preparing,
    /// The losers stop taking work, end what runs, and acknowledge.
    Draining,
}

impl ShardMap {
    /// The member that owns a bucket.
    #[must_use]
    pub fn owner(&self, bucket: Bucket) -> Option<&Incarnation> {
        let owner = (*self.owners.get(usize::from(bucket.index()))?)?;
        self.members.get(usize::from(owner)).map(|member| &member.incarnation)
    }

    /// The epoch of a bucket.
    #[must_use]
    pub fn epoch(&self, bucket: Bucket) -> Option<Epoch> {
        self.epochs.get(usize::from(bucket.index())).copied()
    }

    /// Whether the owner of a bucket has been told to stop.
    #[must_use]
    pub fn drains(&self, bucket: Bucket) -> bool {
        self.round
            .as_ref()
            .is_some_and(|round| round.phase == Phase::Draining && round.moves.contains_key(&bucket))
    }

    /// The place of a member.
    #[must_use]
    pub fn index_of(&self, incarnation: &Incarnation) -> Option<u16> {
        let place = self
            .members
            .iter()
            .position(|member| member.incarnation == *incarnation)?;
        u16::try_from(place).ok()
    }

    /// The buckets that a member owns, draining or not.
    pub fn owned_by<'a>(&'a self, incarnation: &Incarnation) -> impl Iterator<Item = (Bucket, Epoch)> + use<'a> {
        // Looked up once, since this is asked at every step of every member.
        let place = self.index_of(incarnation);
        let buckets = self.buckets().zip(&self.owners).zip(&self.epochs);
        buckets
            .filter(move |((_, owner), _)| place.is_some() && **owner == place)
            .map(|((bucket, _), epoch)| (bucket, *epoch))
    }

    /// All of its buckets.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + use<> {
        Bucket::all().take(self.owners.len())
    }

    /// How it stands in the cluster.
    #[must_use]
    pub fn to_spec(&self) -> Spec {
        let mut spec = Spec {
            installation: self.installation.to_string(),
            buckets: u16::try_from(self.owners.len()).unwrap_or(u16::MAX),
            leader: self.leader.clone(),
            term: self.term,
            sequence: self.sequence,
            members: self.members.clone(),
            owners: self.owners.iter().map(|owner| owner.map_or(-1, i32::from)).collect(),
            epochs: self.epochs.iter().map(|epoch| epoch.0).collect(),
            round: self.round.as_ref().map(|round| RoundSpec {
                number: round.number,
                phase: round.phase,
                moves: round
                    .moves
                    .iter()
                    .map(|(bucket, to)| MoveSpec {
                        bucket: bucket.index(),
                        to: *to,
                    })
                    .collect(),
            }),
            seal: String::new(),
        };
        spec.seal = spec.sealed();
        spec
    }
}

/// A ShardMap as it stands in the cluster. Arrays by bucket, since an admission policy reads
/// `params.spec.epochs[bucket]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The installation that this map belongs to.
    pub installation: String,
    /// How many buckets there are.
    pub buckets: u16,
    /// Who wrote it.
    pub leader: Incarnation,
    /// Which leadership wrote it.
    pub term: u64,
    /// Grows with every write.
    pub sequence: u64,
    /// In the order in which they joined.
    pub members: Vec<MapMember>,
    /// By bucket: the index of its owner in `members`, or -1.
    pub owners: Vec<i32>,
    /// By bucket: since which write it has this owner.
    pub epochs: Vec<u64>,
    /// The planned moves that are under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<RoundSpec>,
    /// A digest of all of the above, so that an edit by hand is noticed and not obeyed. No protection from malice:
    /// that is the permissions' work.
    pub seal: String,
}

/// [`Round`] as it stands in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundSpec {
    /// The sequence of the write that began it.
    pub number: u64,
    /// How far it is.
    pub phase: Phase,
    /// Sorted by bucket.
    pub moves: Vec<MoveSpec>,
}

/// One planned move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveSpec {
    /// Which bucket.
    pub bucket: u16,
    /// To which member, by index.
    pub to: u16,
}

/// Why a map is not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MapError {
    /// Two installations would act on the same Databases.
    #[error("the map belongs to installation {found:?}, this is {ours:?}: only one may run in a cluster")]
    Foreign {
        /// In the map.
        found: String,
        /// Ours.
        ours: String,
    },
    /// Another number of buckets would move nearly every Database.
    #[error("the map has {found} buckets, this version has {ours}")]
    BucketCount {
        /// In the map.
        found: usize,
        /// Ours.
        ours: u16,
    },
    /// Somebody changed it by hand.
    #[error("the map does not match its seal: it was edited by hand")]
    Edited,
    /// An owner or a target that is no member.
    #[error("bucket {bucket}: {index} is no member, there are {members}")]
    NoSuchMember {
        /// Which bucket.
        bucket: u16,
        /// The index in the map.
        index: i64,
        /// How many members there are.
        members: usize,
    },
    /// A member is listed twice.
    #[error("{0} is listed twice")]
    Twice(Incarnation),
    /// 0, or more than any write can have given.
    #[error("bucket {bucket}: epoch {epoch} is not between 1 and the map's sequence, {sequence}")]
    Epoch {
        /// Which bucket.
        bucket: u16,
        /// Its epoch.
        epoch: u64,
        /// The bound.
        sequence: u64,
    },
    /// A restored backup, or a late request from before a deletion.
    #[error("the map has sequence {sequence}, and {known} was seen already: it is older than it looks")]
    Older {
        /// In the map.
        sequence: u64,
        /// The greatest that was seen.
        known: u64,
    },
    /// A number that JSON does not carry without loss.
    #[error("{0} is larger than any number of a map")]
    TooLarge(u64),
    /// A round that no leader writes.
    #[error("round {number} is malformed: {reason}")]
    Round {
        /// Its number.
        number: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

/// What a map must agree with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expected {
    /// Ours.
    pub installation: Arc<str>,
    /// [`BUCKETS`] in the product; the model check uses fewer.
    pub buckets: u16,
}

impl Expected {
    /// What the product expects.
    #[must_use]
    pub fn of(installation: &str) -> Self {
        Self {
            installation: installation.into(),
            buckets: BUCKETS,
        }
    }
}

impl Spec {
    /// The map, if it is one that a leader of this installation can have written.
    pub fn read(&self, expected: &Expected) -> Result<ShardMap, MapError> {
        // First whose it is: a foreign map must be told from a damaged one of ours, which the leader replaces.
        if *self.installation != *expected.installation {
            return Err(MapError::Foreign {
                found: self.installation.clone(),
                ours: expected.installation.to_string(),
            });
        }
        for found in [usize::from(self.buckets), self.owners.len(), self.epochs.len()] {
            if found != usize::from(expected.buckets) {
                return Err(MapError::BucketCount {
                    found,
                    ours: expected.buckets,
                });
            }
        }
        if self.seal != self.sealed() {
            return Err(MapError::Edited);
        }
        for number in [self.sequence, self.term] {
            if number > MAX_NUMBER {
                return Err(MapError::TooLarge(number));
            }
        }
        let mut seen = BTreeSet::new();
        if let Some(member) = self.members.iter().find(|member| !seen.insert(&member.incarnation)) {
            return Err(MapError::Twice(member.incarnation.clone()));
        }
        Ok(ShardMap {
            installation: Arc::clone(&expected.installation),
            leader: self.leader.clone(),
            term: self.term,
            sequence: self.sequence,
            members: self.members.clone(),
            owners: self.read_owners()?,
            epochs: self.read_epochs()?,
            round: self.round.as_ref().map(|round| self.read_round(round)).transpose()?,
        })
    }

    fn read_owners(&self) -> Result<Vec<Option<u16>>, MapError> {
        let read = |(bucket, owner): (u16, &i32)| match u16::try_from(*owner) {
            Ok(index) if usize::from(index) < self.members.len() => Ok(Some(index)),
            Err(_) if *owner == -1 => Ok(None),
            _ => Err(MapError::NoSuchMember {
                bucket,
                index: (*owner).into(),
                members: self.members.len(),
            }),
        };
        (0..).zip(&self.owners).map(read).collect()
    }

    fn read_epochs(&self) -> Result<Vec<Epoch>, MapError> {
        let read = |(bucket, epoch): (u16, &u64)| {
            if (1..=self.sequence).contains(epoch) {
                Ok(Epoch(*epoch))
            } else {
                Err(MapError::Epoch {
                    bucket,
                    epoch: *epoch,
                    sequence: self.sequence,
                })
            }
        };
        (0..).zip(&self.epochs).map(read).collect()
    }

    fn read_round(&self, round: &RoundSpec) -> Result<Round, MapError> {
        let malformed = |reason| {
            Err(MapError::Round {
                number: round.number,
                reason,
            })
        };
        if !(1..=self.sequence).contains(&round.number) {
            return malformed("its number is not between 1 and the map's sequence");
        }
        if round.moves.is_empty() {
            return malformed("it moves nothing");
        }
        if !round.moves.is_sorted_by(|a, b| a.bucket < b.bucket) {
            return malformed("its buckets are not in order");
        }
        let mut moves = BTreeMap::new();
        for MoveSpec { bucket, to } in &round.moves {
            if usize::from(*to) >= self.members.len() {
                return Err(MapError::NoSuchMember {
                    bucket: *bucket,
                    index: (*to).into(),
                    members: self.members.len(),
                });
            }
            match (self.owners.get(usize::from(*bucket)), Bucket::try_from(*bucket)) {
                (None, _) | (_, Err(_)) => return malformed("it moves a bucket that does not exist"),
                (Some(-1), _) => return malformed("it moves a bucket that nobody owns"),
                (Some(owner), _) if *owner == i32::from(*to) => return malformed("it moves a bucket to its owner"),
                (Some(_), Ok(known)) => moves.insert(known, *to),
            };
        }
        Ok(Round {
            number: round.number,
            phase: round.phase,
            moves,
        })
    }

    /// The digest that belongs to the rest. Over text that serde has no part in, so that another version of serde
    /// cannot change it.
    fn sealed(&self) -> String {
        let Self {
            installation,
            buckets,
            leader,
            term,
            sequence,
            members,
            owners,
            epochs,
            round,
            seal: _,
        } = self;
        let mut text = format!("{installation}\n{buckets} {leader} {term} {sequence}\n");
        // A String takes whatever is written into it.
        for member in members {
            let _ = writeln!(text, "{} {:?} {}", member.incarnation, member.role, member.weight);
        }
        let _ = writeln!(text, "{owners:?}\n{epochs:?}");
        if let Some(RoundSpec { number, phase, moves }) = round {
            let _ = writeln!(text, "{number} {phase:?}");
            for step in moves {
                let _ = writeln!(text, "{} {}", step.bucket, step.to);
            }
        }
        format!("{:016x}", xxh3_64(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests;
