//! Which member owns which bucket: pure, in integers only, so that every version of the binary on every machine gives
//! the same answer to the same input, for ever (`tests/golden_assignment.txt`).
//!
//! Read in this order: [`Fleet`] (what is known), [`assign`] (what follows), `succession` (who is active, and who takes
//! whose place), `balance` (bounds and moves), [`score`] (which member a bucket prefers).
//!
//! Promises, each held by a test:
//! - Every bucket is owned, if there is a member that can own it.
//! - The load of each member is within 2 % of its share by weight, on both sides, or at the next whole bucket.
//! - A bucket stays with its owner while that is within those bounds; no more buckets move than the bounds ask for.
//! - The buckets of a member that leaves go whole to a standby of the same weight, if there is one.
//!
//! Not guaranteed: that the answer depends on the members alone. It depends on who owns what now, so only one may
//! decide: the leader, who writes it into the map. Deliberately absent: clocks, randomness, floating point, and maps
//! whose order differs from run to run.

mod balance;
pub mod score;
mod succession;
#[cfg(test)]
mod tests;

use crate::bucket::BUCKETS;

/// How many members may be given. More than 100 is beyond what 1024 buckets can balance; the rest are standbys and
/// members that have just left.
pub const MAX_MEMBERS: usize = 256;

/// The largest weight. Large enough for shares of a hundredth of a percent, small enough that no product overflows.
pub const MAX_WEIGHT: u32 = 10_000;

/// A replica, as far as the assignment cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name: what buckets are hashed with, and what decides between equals.
    pub name: String,
    /// Its share is its weight over the sum of the weights. 0: it owns nothing.
    pub weight: u32,
    /// It is about to leave, or has vanished: it will own nothing. A member that owns buckets and has vanished is still
    /// given, with the weight that it had, so that a standby can take its place.
    pub leaving: bool,
}

/// All that the assignment follows from.
#[derive(Debug, Clone, Copy)]
pub struct Fleet<'a> {
    /// The members in the order in which they joined: the first of the standbys is the first to succeed.
    pub members: &'a [Member],
    /// For each bucket the index of its owner in `members`, if it has one now.
    pub owners: &'a [Option<usize>],
    /// How many members are to be active; further ones are standbys.
    pub shards: usize,
    /// How many objects each bucket holds. A bucket weighs one more than that, since new objects come to the empty ones
    /// too; without this each weighs the same.
    pub objects: Option<&'a [u32]>,
}

/// Who is to own what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Indices of the active members, in the order in which they joined.
    pub active: Vec<usize>,
    /// For each bucket the index of its owner; none only if no member is active.
    pub owners: Vec<Option<usize>>,
}

/// Why nothing was assigned: the input contradicts itself or exceeds a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// More than [`MAX_MEMBERS`].
    #[error("{0} members are too many: at most {MAX_MEMBERS}")]
    TooManyMembers(usize),
    /// The member at this index has an empty name.
    #[error("member {0} has no name")]
    NoName(usize),
    /// Two members have the same name.
    #[error("two members have the name {0:?}")]
    DuplicateName(String),
    /// A weight above [`MAX_WEIGHT`].
    #[error("member {name:?}: weight {weight} is too large: at most {MAX_WEIGHT}")]
    WeightTooLarge {
        /// Whose.
        name: String,
        /// How large.
        weight: u32,
    },
    /// No member may be active.
    #[error("0 shards: at least 1 member must be active")]
    NoShards,
    /// More than [`BUCKETS`].
    #[error("{0} buckets are too many: there are {BUCKETS}")]
    TooManyBuckets(usize),
    /// An owner that is none of the members.
    #[error("bucket {bucket}: its owner is member {owner}, and there are {members}")]
    UnknownOwner {
        /// Which bucket.
        bucket: usize,
        /// The index given as its owner.
        owner: usize,
        /// How many members there are.
        members: usize,
    },
    /// Objects were counted for another number of buckets.
    #[error("objects are counted for {counted} buckets, and there are {buckets}")]
    ObjectsOfOtherBuckets {
        /// For how many.
        counted: usize,
        /// How many there are.
        buckets: usize,
    },
}

/// Gives each bucket its owner. See the promises above; idempotent: given its own result as owners, and nothing else
/// changed, it returns the same (where weights are so unequal that an active member's share is less than one bucket, a
/// standby may first replace it).
pub fn assign(fleet: &Fleet) -> Result<Assignment, AssignError> {
    check(fleet)?;
    let succession = succession::succeed(fleet);
    // Sorted by name, so that the order in which members joined decides nothing but succession.
    let mut by_name = succession.active.clone();
    by_name.sort_by(|a, b| fleet.members[*a].name.cmp(&fleet.members[*b].name));
    let place_of = |member: usize| by_name.iter().position(|other| *other == member);
    let places: Vec<Option<usize>> = succession
        .successors
        .iter()
        .map(|heir| heir.and_then(place_of))
        .collect();

    let active: Vec<&Member> = by_name.iter().map(|member| &fleet.members[*member]).collect();
    let loads = match fleet.objects {
        Some(objects) => objects.iter().map(|count| u64::from(*count) + 1).collect(),
        None => vec![1; fleet.owners.len()],
    };
    let owners = fleet.owners.iter().map(|owner| owner.and_then(|owner| places[owner]));
    let owners = balance::balance(&active, loads, owners.collect());
    Ok(Assignment {
        active: succession.active,
        owners: owners
            .into_iter()
            .map(|owner| owner.map(|place| by_name[place]))
            .collect(),
    })
}

fn check(fleet: &Fleet) -> Result<(), AssignError> {
    let Fleet {
        members,
        owners,
        shards,
        objects,
    } = *fleet;
    if members.len() > MAX_MEMBERS {
        return Err(AssignError::TooManyMembers(members.len()));
    }
    for (index, member) in members.iter().enumerate() {
        if member.name.is_empty() {
            return Err(AssignError::NoName(index));
        }
        if members[..index].iter().any(|other| other.name == member.name) {
            return Err(AssignError::DuplicateName(member.name.clone()));
        }
        if member.weight > MAX_WEIGHT {
            return Err(AssignError::WeightTooLarge {
                name: member.name.clone(),
                weight: member.weight,
            });
        }
    }
    if shards == 0 {
        return Err(AssignError::NoShards);
    }
    if owners.len() > usize::from(BUCKETS) {
        return Err(AssignError::TooManyBuckets(owners.len()));
    }
    for (bucket, owner) in owners.iter().enumerate() {
        if let Some(owner) = owner.filter(|owner| *owner >= members.len()) {
            return Err(AssignError::UnknownOwner {
                bucket,
                owner,
                members: members.len(),
            });
        }
    }
    match objects {
        Some(objects) if objects.len() != owners.len() => Err(AssignError::ObjectsOfOtherBuckets {
            counted: objects.len(),
            buckets: owners.len(),
        }),
        Some(_) | None => Ok(()),
    }
}
