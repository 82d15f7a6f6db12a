//! From [`crate::assignment`], which knows names and weights, to what [`super::plan`] asks: who is to own what among the
//! members of a map.
//!
//! Promises, for any input: it never panics; the same input gives the same answer; a bucket is with its owner, or with a
//! member that is fit and has a weight; one whose owner is neither stays only if no member is both.
//!
//! Where [`assign`] refuses (0 shards, more buckets than there are, two fit members of one name, an owner that is no
//! candidate) all owners stay as they are: a leader that cannot tell who is to own what moves nothing.

use super::plan::Candidate;
use crate::assignment::{Assignment, Fleet, MAX_MEMBERS, MAX_WEIGHT, Member, assign};

/// Who is to own what: the [`super::Assign`] of the product. By bucket the index of a candidate; the owner now, if
/// nobody can be given the bucket.
///
/// Weights above [`MAX_WEIGHT`] count as that. Of more than [`MAX_MEMBERS`] candidates that decide anything the ones that
/// can be given nothing are left out first, then those that joined last and own nothing.
#[must_use]
pub fn assigned(owners: &[Option<u16>], candidates: &[Candidate], shards: u16) -> Vec<Option<u16>> {
    target(owners, candidates, shards).unwrap_or_else(|| owners.to_vec())
}

/// None: it is refused.
fn target(owners: &[Option<u16>], candidates: &[Candidate], shards: u16) -> Option<Vec<Option<u16>>> {
    let counted = counted(owners, candidates)?;
    let members: Vec<Member> = counted.iter().map(|index| member(&candidates[*index])).collect();
    // A bucket whose owner is left out counts as one that nobody owns.
    let place = |owner: u16| counted.binary_search(&usize::from(owner)).ok();
    let owned: Vec<Option<usize>> = owners.iter().map(|owner| owner.and_then(place)).collect();
    let fleet = Fleet {
        members: &members,
        owners: &owned,
        shards: shards.into(),
        objects: None,
    };
    let Assignment { owners: target, .. } = assign(&fleet).ok()?;
    let index = |place: usize| u16::try_from(*counted.get(place)?).ok();
    let kept = target.into_iter().zip(owners);
    Some(kept.map(|(to, now)| to.and_then(index).or(*now)).collect())
}

/// The candidates that decide anything, at most [`MAX_MEMBERS`], in the order in which they joined. Whoever owns nothing
/// and can be given nothing has no part in the assignment. None: an owner is no candidate.
fn counted(owners: &[Option<u16>], candidates: &[Candidate]) -> Option<Vec<usize>> {
    let mut owns = vec![false; candidates.len()];
    for owner in owners.iter().flatten() {
        *owns.get_mut(usize::from(*owner))? = true;
    }
    let rank = |index: &usize| match (able(&candidates[*index]), owns[*index]) {
        (true, true) => 0,
        (true, false) => 1,
        (false, true) => 2,
        (false, false) => 3,
    };
    let mut counted: Vec<usize> = (0..candidates.len()).filter(|index| rank(index) < 3).collect();
    if counted.len() > MAX_MEMBERS {
        counted.sort_by_key(rank);
        counted.truncate(MAX_MEMBERS);
        counted.sort_unstable();
    }
    Some(counted)
}

/// A fit member draws by its name alone, so that a process that starts again under it prefers the same buckets. One that
/// is not fit draws nothing, and only must not have the name of its successor.
fn member(candidate: &Candidate) -> Member {
    Member {
        name: if candidate.fit {
            candidate.incarnation.name.to_string()
        } else {
            candidate.incarnation.to_string()
        },
        weight: candidate.weight.min(MAX_WEIGHT),
        leaving: !candidate.fit,
    }
}

fn able(candidate: &Candidate) -> bool {
    candidate.fit && candidate.weight > 0
}

#[cfg(test)]
mod tests;
