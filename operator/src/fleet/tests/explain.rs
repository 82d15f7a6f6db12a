//! Who looks after a Database, and why.

use super::*;
use crate::fleet::explain::{Explanation, Marks, Verdict};

/// Bucket of `shop/orders`. It prefers the second member, and the made-up fleet has it with the first.
const BUCKET: u16 = 786;

fn with_its_first_choice() -> Facts {
    let mut facts = healthy();
    facts.map.owners[usize::from(BUCKET)] = Some(1);
    facts
}

fn marks() -> Marks {
    Marks {
        label: Some(BUCKET.to_string()),
        annotation: Some("1767300000".to_owned()),
        status: Some(1_767_299_999),
    }
}

fn explained(facts: &Facts, marks: Option<Marks>) -> Explanation {
    Explanation::of(&facts.map, &facts.leases, "shop", "orders", marks, now())
}

#[test]
fn a_database_with_its_first_choice() {
    assert_eq!(bucket_of("shop", "orders").index(), BUCKET);
    let shown: Expect = expect![[r"
        Database      shop/orders
        Bucket        786
        Owner         operator-1_b2, its Lease: held
        Epoch         1767300000, given about 2026-01-01T20:40:00Z
        Moves         not now
        Label         786, its bucket
        Fence         1767300000, the epoch
        Status fence  1767299999, of an earlier owner: this one has not written it yet

        Why: of the 2 active members it prefers operator-1_b2.

        Its choices among the active members:
          1. operator-1_b2 (weight 1), the owner
          2. operator-0_a1 (weight 1)
    "]];
    shown.assert_eq(&explained(&with_its_first_choice(), Some(marks())).to_string());
}

#[test]
fn a_database_that_is_elsewhere_and_moves() {
    let mut facts = healthy();
    let round = Round {
        number: 1_767_323_000,
        phase: Phase::Preparing,
        moves: [(bucket(BUCKET), 2)].into(),
    };
    facts.map.round = Some(round);
    let shown: Expect = expect![[r"
        Database      shop/orders (does not exist; a bucket follows from the name alone)
        Bucket        786
        Owner         operator-0_a1, its Lease: held
        Epoch         1767300000, given about 2026-01-01T20:40:00Z
        Moves         to operator-2_c3, round 1767323000, Preparing

        Why: of the 2 active members it prefers operator-1_b2, and operator-0_a1 is its choice no. 2. A bucket stays with its owner as long as all loads are within 2 % of their shares, and moves for no other reason than those bounds or a member that comes or goes; the map does not record which of these gave it to operator-0_a1.

        Its choices among the active members:
          1. operator-1_b2 (weight 1)
          2. operator-0_a1 (weight 1), the owner
    "]];
    shown.assert_eq(&explained(&facts, None).to_string());
}

#[test]
fn a_database_for_machines() {
    let explanation = serde_json::to_value(explained(&with_its_first_choice(), Some(marks()))).expect("JSON");
    let expected = json!({
        "database": "shop/orders", "exists": true, "bucket": BUCKET,
        "owner": "operator-1_b2", "ownerLease": "held",
        "epoch": 1_767_300_000, "epochGivenAbout": "2026-01-01T20:40:00Z",
        "moves": null,
        "label": {"value": BUCKET.to_string(), "verdict": "agrees"},
        "fence": {"value": "1767300000", "verdict": "agrees"},
        "statusFence": {"value": "1767299999", "verdict": "older"},
        "preference": [
            {"member": "operator-1_b2", "weight": 1, "owns": true},
            {"member": "operator-0_a1", "weight": 1, "owns": false},
        ],
        "why": "of the 2 active members it prefers operator-1_b2",
    });
    assert_eq!(explanation, expected);
}

#[test]
fn marks_are_judged() {
    use Verdict::{Absent, Agrees, Disagrees, Newer, Older};
    let with = |change: fn(&mut Marks)| {
        let mut marks = marks();
        change(&mut marks);
        let explanation = explained(&healthy(), Some(marks));
        (
            explanation.label.verdict,
            explanation.fence.verdict,
            explanation.status_fence.verdict,
        )
    };
    for (case, change, expected) in [
        ("all is well", (|_| {}) as fn(&mut Marks), (Agrees, Agrees, Older)),
        (
            "nothing yet",
            |marks| *marks = Marks::default(),
            (Absent, Absent, Absent),
        ),
        (
            "another label",
            |marks| marks.label = Some("7".to_owned()),
            (Disagrees, Agrees, Older),
        ),
        (
            "no number",
            |marks| marks.annotation = Some("x".to_owned()),
            (Agrees, Disagrees, Older),
        ),
        (
            "newer",
            |marks| marks.status = Some(1_767_300_001),
            (Agrees, Agrees, Newer),
        ),
    ] {
        assert_eq!(with(change), expected, "{case}");
    }
}

#[test]
fn whatever_is_known_of_an_owner_is_said() {
    let why = |owner: Option<u16>, role: Role| {
        let mut facts = healthy();
        facts.map.owners[usize::from(BUCKET)] = owner;
        if let Some(owner) = owner {
            facts.map.members[usize::from(owner)].role = role;
        }
        explained(&facts, None).why
    };
    for (owner, role, expected) in [
        (None, Role::Active, "nobody owns it"),
        (Some(1), Role::Active, "it prefers operator-1_b2"),
        (Some(0), Role::Active, "operator-0_a1 is its choice no. 2"),
        (Some(0), Role::Leaving, "operator-0_a1 is leaving"),
        (Some(0), Role::Draining, "operator-0_a1 is being drained"),
        (Some(0), Role::Gone, "operator-0_a1 is dead"),
    ] {
        assert!(
            why(owner, role).contains(expected),
            "{expected:?} is missing in: {}",
            why(owner, role)
        );
    }
}
