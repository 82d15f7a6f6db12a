//! What holds for any fleet.

use proptest::collection::vec;
use proptest::prelude::*;
use sharding::assignment::{Assignment, Fleet, Member, assign};

/// Fewer than there are, so that a case is quick; enough that each of 12 members with weights up to 20 has a share.
const BUCKETS: usize = 256;

/// A fleet, owned.
#[derive(Debug, Clone)]
struct Case {
    members: Vec<Member>,
    owners: Vec<Option<usize>>,
    shards: usize,
    objects: Option<Vec<u32>>,
}

impl Case {
    fn fleet(&self) -> Fleet<'_> {
        Fleet {
            members: &self.members,
            owners: &self.owners,
            shards: self.shards,
            objects: self.objects.as_deref(),
        }
    }

    fn assign(&self) -> Assignment {
        assign(&self.fleet()).expect("a right fleet")
    }

    fn load(&self, bucket: usize) -> u64 {
        self.objects
            .as_ref()
            .map_or(1, |objects| u64::from(objects[bucket]) + 1)
    }

    /// Load of each active member, with the least and the most that 2 % or the next whole number allow.
    fn loads(&self, assignment: &Assignment) -> Vec<(usize, u64, u64, u64)> {
        let total: u64 = (0..self.owners.len()).map(|bucket| self.load(bucket)).sum();
        let weight = |member: &usize| u64::from(self.members[*member].weight);
        let weights: u64 = assignment.active.iter().map(weight).sum();
        let load = |member: &usize| {
            let owned = (0..self.owners.len()).filter(|bucket| assignment.owners[*bucket] == Some(*member));
            let share = total * weight(member);
            let least = (share * 98).div_ceil(weights * 100).min(share / weights);
            let most = (share * 102 / (weights * 100)).max(share.div_ceil(weights));
            (*member, owned.map(|bucket| self.load(bucket)).sum(), least, most)
        };
        assignment.active.iter().map(load).collect()
    }

    fn lightest(&self, assignment: &Assignment, member: usize) -> u64 {
        let owned = (0..self.owners.len()).filter(|bucket| assignment.owners[*bucket] == Some(member));
        owned.map(|bucket| self.load(bucket)).min().expect("its load is not 0")
    }
}

fn named(index: usize, (weight, leaving): (u32, bool)) -> Member {
    let name = format!("member-{index}");
    Member { name, weight, leaving }
}

/// Members as `member` says; owners at random, or mostly one, or none.
fn cases(
    member: impl Strategy<Value = (u32, bool)>,
    objects: impl Strategy<Value = Option<Vec<u32>>>,
) -> impl Strategy<Value = Case> {
    let owners = vec(proptest::option::weighted(0.9, any::<prop::sample::Index>()), BUCKETS);
    (vec(member, 1..=12), owners, 1..=12_usize, objects, 1..=12_usize).prop_map(
        |(members, owners, shards, objects, skew)| {
            let count = members.len();
            let owner = |index: prop::sample::Index| index.index(count).min(skew - 1);
            Case {
                members: members
                    .into_iter()
                    .enumerate()
                    .map(|(index, m)| named(index, m))
                    .collect(),
                owners: owners.into_iter().map(|index| index.map(owner)).collect(),
                shards,
                objects,
            }
        },
    )
}

fn any_member() -> impl Strategy<Value = (u32, bool)> {
    (
        prop_oneof![1 => Just(0_u32), 4 => Just(1), 4 => 1..=20_u32],
        prop::bool::weighted(0.2),
    )
}

fn staying() -> impl Strategy<Value = (u32, bool)> {
    (1..=20_u32, Just(false))
}

/// Most buckets hold few objects, some hold very many.
fn objects() -> impl Strategy<Value = Option<Vec<u32>>> {
    vec(prop_oneof![4 => 0..=100_u32, 1 => 0..=5_000_u32], BUCKETS).prop_map(Some)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_bucket_is_owned_if_anybody_can(case in cases(any_member(), prop_oneof![Just(None), objects()])) {
        let Assignment { active, owners } = case.assign();
        let able = |member: &usize| case.members[*member].weight > 0 && !case.members[*member].leaving;
        let able_count = (0..case.members.len()).filter(able).count();
        prop_assert_eq!(active.len(), able_count.min(case.shards));
        prop_assert!(active.iter().all(able));
        for owner in owners {
            prop_assert_eq!(owner.is_some(), !active.is_empty());
            prop_assert!(owner.is_none_or(|owner| active.contains(&owner)));
        }
    }

    #[test]
    fn each_load_is_within_its_bounds(case in cases(any_member(), Just(None))) {
        for (member, load, least, most) in case.loads(&case.assign()) {
            prop_assert!((least..=most).contains(&load), "member {}: {} <= {} <= {}", member, least, load, most);
        }
    }

    /// Buckets with objects are lumps: a member is over by less than its lightest one, and what another lacks is less
    /// than the lightest of whoever has more than the least.
    #[test]
    fn each_load_of_objects_is_at_most_a_bucket_away(case in cases(any_member(), objects())) {
        let assignment = case.assign();
        let loads = case.loads(&assignment);
        let lacking = loads.iter().map(|(_, load, least, _)| least.saturating_sub(*load)).max().unwrap_or(0);
        for (member, load, least, most) in loads {
            prop_assert!(load <= most || load - most < case.lightest(&assignment, member));
            prop_assert!(load <= least || lacking < case.lightest(&assignment, member));
        }
    }

    #[test]
    fn nothing_moves_if_nothing_changes(case in cases(any_member(), Just(None))) {
        let first = case.assign();
        let again = Case { owners: first.owners.clone(), ..case };
        prop_assert_eq!(again.assign(), first);
    }

    #[test]
    fn nothing_moves_if_no_objects_come_or_go(case in cases(any_member(), objects())) {
        let case = Case { shards: case.members.len(), ..case };
        let first = case.assign();
        let again = Case { owners: first.owners.clone(), ..case };
        prop_assert_eq!(again.assign(), first);
    }

    /// Who is above the most must give, who is below the least must get, and what is given to the one may come from the
    /// other or from what nobody owns. Fewer moves cannot do, and more are not made.
    #[test]
    fn no_more_buckets_move_than_must(case in cases(staying(), Just(None))) {
        let case = Case { shards: case.members.len(), ..case };
        let after = case.assign();
        let before = Assignment { owners: case.owners.clone(), ..after.clone() };
        let loads = case.loads(&before);
        let above: u64 = loads.iter().map(|(_, load, _, most)| load.saturating_sub(*most)).sum();
        let below: u64 = loads.iter().map(|(_, load, least, _)| least.saturating_sub(*load)).sum();
        let unowned = case.owners.iter().filter(|owner| owner.is_none()).count() as u64;
        let changed = before.owners.iter().zip(&after.owners).filter(|(before, after)| before.is_some() && before != after);
        prop_assert_eq!(changed.count() as u64, above.max(below.saturating_sub(unowned)));
    }

    #[test]
    fn a_successor_takes_all_and_nobody_else_anything(
        count in 1..=11_usize, leaver in any::<prop::sample::Index>(), weight in 1..=20_u32,
    ) {
        let leaver = leaver.index(count);
        let members: Vec<Member> = (0..count).map(|index| named(index, (weight, false))).collect();
        let fresh = Case { members, owners: vec![None; BUCKETS], shards: count, objects: None };
        let before = fresh.assign().owners;
        let mut case = Case { owners: before.clone(), ..fresh };
        case.members[leaver].leaving = true;
        case.members.push(named(count, (weight, false)));
        let taken = |owner: Option<usize>| if owner == Some(leaver) { Some(count) } else { owner };
        prop_assert_eq!(case.assign().owners, before.into_iter().map(taken).collect::<Vec<_>>());
    }

    /// Join order decides who succeeds. Where all are active and none leaves, it decides nothing.
    #[test]
    fn the_order_of_members_does_not_matter_where_all_are_active(
        case in cases(staying(), prop_oneof![Just(None), objects()]), order in Just((0..12).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let case = Case { shards: case.members.len(), ..case };
        let order: Vec<usize> = order.into_iter().filter(|index| *index < case.members.len()).collect();
        let place = |index: usize| order.iter().position(|other| *other == index);
        let other = Case {
            members: order.iter().map(|index| case.members[*index].clone()).collect(),
            owners: case.owners.iter().map(|owner| owner.and_then(place)).collect(),
            ..case.clone()
        };
        let expected: Vec<_> = case.assign().owners.into_iter().map(|owner| owner.and_then(place)).collect();
        prop_assert_eq!(other.assign().owners, expected);
    }
}
