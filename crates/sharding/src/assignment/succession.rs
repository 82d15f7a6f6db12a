//! Who is active, and who takes whose place.

use super::{Fleet, Member};

/// Who is active, and who takes over the buckets of whom.
pub(super) struct Succession {
    /// Indices of the active members, in the order in which they joined.
    pub(super) active: Vec<usize>,
    /// For each member who owns its buckets from now on: itself if it is active, a standby of the same weight that
    /// takes its place, or none.
    pub(super) successors: Vec<Option<usize>>,
}

/// Members that own buckets stay active. A standby succeeds the first owner of its weight that does not stay, so that
/// replacing a member moves its buckets whole and nobody else's; further places go to whoever joined first.
pub(super) fn succeed(fleet: &Fleet) -> Succession {
    let members = fleet.members;
    let mut owns = vec![false; members.len()];
    for owner in fleet.owners.iter().flatten() {
        owns[*owner] = true;
    }
    let able = |member: &Member| member.weight > 0 && !member.leaving;
    let mut successors = vec![None; members.len()];
    let mut active = vec![false; members.len()];
    let mut places = fleet.shards;

    for (index, member) in members.iter().enumerate() {
        if places > 0 && owns[index] && able(member) {
            active[index] = true;
            places -= 1;
        }
    }
    for (index, member) in members.iter().enumerate() {
        if places > 0 && owns[index] && !active[index] {
            let standbys = members.iter().enumerate().filter(|(standby, _)| !active[*standby]);
            let mut heirs = standbys.filter(|(_, heir)| able(heir) && heir.weight == member.weight);
            if let Some((heir, _)) = heirs.next() {
                successors[index] = Some(heir);
                active[heir] = true;
                places -= 1;
            }
        }
    }
    for (index, member) in members.iter().enumerate() {
        if places > 0 && able(member) && !active[index] {
            active[index] = true;
            places -= 1;
        }
    }

    let active: Vec<usize> = (0..members.len()).filter(|index| active[*index]).collect();
    for index in &active {
        successors[*index] = Some(*index);
    }
    Succession { active, successors }
}
