use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::bucket::BUCKETS;
use crate::protocol::{Assign, Incarnation};

fn candidate(name: &str, nonce: u64, weight: u32, fit: bool) -> Candidate {
    Candidate {
        incarnation: Incarnation {
            name: name.into(),
            nonce,
        },
        weight,
        fit,
    }
}

fn load(owners: &[Option<u16>], index: u16) -> usize {
    owners.iter().filter(|owner| **owner == Some(index)).count()
}

#[test]
fn it_is_what_the_protocol_asks_for() {
    let assign: Assign = assigned;
    assert_eq!(assign(&[None], &[candidate("a", 0, 1, true)], 1), [Some(0)]);
}

#[test]
fn a_standby_takes_the_whole_place_of_the_one_that_leaves() {
    let owners: Vec<Option<u16>> = (0..32).map(|bucket| Some(bucket % 2)).collect();
    let members = [
        candidate("a", 0, 5, false),
        candidate("b", 0, 5, true),
        candidate("c", 0, 5, true),
    ];
    let heir: Vec<Option<u16>> = (0..32).map(|bucket| Some(2 - bucket % 2)).collect();
    assert_eq!(assigned(&owners, &members, 2), heir);
}

#[test]
fn the_next_process_of_a_name_takes_the_place_of_the_dead_one() {
    let owners: Vec<Option<u16>> = (0..32).map(|bucket| Some(bucket % 2)).collect();
    let members = [
        candidate("a", 1, 5, false),
        candidate("b", 2, 5, true),
        candidate("a", 3, 5, true),
    ];
    let heir: Vec<Option<u16>> = (0..32).map(|bucket| Some(2 - bucket % 2)).collect();
    assert_eq!(assigned(&owners, &members, 2), heir);
}

#[test]
fn a_process_that_starts_again_draws_the_same_buckets() {
    let members = |nonce| [candidate("a", nonce, 1, true), candidate("b", 0, 1, true)];
    assert_eq!(
        assigned(&[None; 64], &members(1), 2),
        assigned(&[None; 64], &members(2), 2)
    );
}

#[test]
fn a_weight_of_nothing_owns_nothing_and_too_large_a_one_counts_as_the_largest() {
    let members = [
        candidate("a", 0, 0, true),
        candidate("b", 0, u32::MAX, true),
        candidate("c", 0, MAX_WEIGHT, true),
    ];
    let owners = assigned(&[Some(0); 100], &members, 3);
    assert_eq!(load(&owners, 0), 0);
    assert!([1, 2].iter().all(|index| (49..=51).contains(&load(&owners, *index))));
}

#[test]
fn what_is_refused_moves_nothing() {
    let owners: Vec<Option<u16>> = [Some(1), None].repeat(512);
    let two = [candidate("a", 0, 1, true), candidate("b", 0, 1, true)];
    let twins = [candidate("a", 0, 1, true), candidate("a", 1, 1, true)];
    for (case, owners, members, shards) in [
        ("0 shards", owners.clone(), &two, 0),
        ("two fit members of one name", owners.clone(), &twins, 2),
        ("too many buckets", vec![Some(1); usize::from(BUCKETS) + 1], &two, 2),
        ("an owner that is no member", vec![None, Some(2)], &two, 2),
    ] {
        assert_eq!(assigned(&owners, members, shards), owners, "{case}");
    }
}

#[test]
fn too_many_members_leave_out_first_whoever_can_be_given_nothing() {
    let dead = (0..500).map(|index| candidate(&format!("dead-{index}"), 0, 1, false));
    let mut members: Vec<Candidate> = dead.collect();
    members.extend((0..4).map(|index| candidate(&format!("fit-{index}"), 0, 1, true)));
    let owners: Vec<Option<u16>> = (0..BUCKETS).map(|bucket| Some(bucket % 500)).collect();
    let target = assigned(&owners, &members, 4);
    assert!((500..504).all(|index| (250..=262).contains(&load(&target, index))));

    let fit = (0..500).map(|index| candidate(&format!("fit-{index}"), 0, 1, true));
    let members: Vec<Candidate> = fit.collect();
    let last: Vec<Option<u16>> = (0..BUCKETS).map(|bucket| Some(496 + bucket % 4)).collect();
    assert_eq!(
        assigned(&last, &members, 4),
        last,
        "owners stay, though they joined last"
    );
}

/// A fleet as no leader may ever see it.
fn cases() -> impl Strategy<Value = (Vec<Option<u16>>, Vec<Candidate>, u16)> {
    let weight = prop_oneof![Just(0), 1..4_u32, Just(MAX_WEIGHT), Just(u32::MAX)];
    let member = (0..40_u16, 0..3_u64, weight, any::<bool>())
        .prop_map(|(name, nonce, weight, fit)| candidate(&format!("m-{name}"), nonce, weight, fit));
    let members = prop_oneof![9 => vec(member.clone(), 0..12), 1 => vec(member, 250..300)];
    let owners = prop_oneof![
        9 => vec(proptest::option::weighted(0.9, 0..14_u16), 0..65),
        1 => vec(proptest::option::weighted(0.9, 0..300_u16), 1000..1030),
    ];
    (owners, members, 0..14_u16)
}

/// The same, of members that a map can name: one fit process per name, and owners among them.
fn sound() -> impl Strategy<Value = (Vec<Option<u16>>, Vec<Candidate>, u16)> {
    cases().prop_map(|(mut owners, mut members, shards)| {
        for (index, member) in members.iter_mut().enumerate() {
            member.incarnation.nonce = u64::try_from(index).expect("few");
            if member.fit {
                member.incarnation.name = format!("fit-{index}").into();
            }
        }
        owners.truncate(usize::from(BUCKETS));
        for owner in &mut owners {
            *owner = owner.filter(|owner| usize::from(*owner) < members.len());
        }
        (owners, members, shards.max(1))
    })
}

proptest! {
    #[test]
    fn it_is_total_and_gives_only_to_the_fit((owners, members, shards) in cases()) {
        let target = assigned(&owners, &members, shards);
        prop_assert_eq!(target.len(), owners.len());
        for (to, now) in target.iter().zip(&owners) {
            let given = to.is_some_and(|to| members.get(usize::from(to)).is_some_and(able));
            prop_assert!(to == now || given, "{:?} instead of {:?}", to, now);
        }
        prop_assert_eq!(assigned(&owners, &members, shards), target);
    }

    #[test]
    fn everything_is_given_to_the_fit_if_there_are_any((owners, members, shards) in sound()) {
        let target = assigned(&owners, &members, shards);
        if members.iter().any(able) {
            for to in &target {
                prop_assert!(to.is_some_and(|to| able(&members[usize::from(to)])), "{:?}", to);
            }
            let mut active: Vec<&Option<u16>> = target.iter().collect();
            active.sort_unstable();
            active.dedup();
            prop_assert!(active.len() <= shards.into(), "{} own buckets", active.len());
        } else {
            prop_assert_eq!(&target, &owners);
        }
        // Rounds come to an end. (A share of less than one bucket may go from one to another first.)
        let equal = members.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        if equal && owners.len() >= members.len() {
            prop_assert_eq!(assigned(&target, &members, shards), target);
        }
    }
}
