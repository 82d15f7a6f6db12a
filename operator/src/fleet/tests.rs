//! Fleets made up, and what is said of them.

mod drain;
mod explain;

use std::sync::Arc;

use ::fleet::lease::{name_of, to_object};
use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use serde_json::json;
use sharding::map::{MapMember, Phase, Role, Round, ShardMap};
use sharding::protocol::{Incarnation, Kept, LeaseRecord, Report, Version};
use sharding::timing::Timings;
use sharding::{BUCKETS, Bucket, Epoch, bucket_of};

use super::facts::{Census, Facts, FenceSeen, LABELLED_WITHIN, LeaseState, Leases};
use super::status::Status;

/// The version of the map.
const MAP: u64 = 900;
const OLD: SignedDuration = SignedDuration::from_hours(1);

fn now() -> Timestamp {
    Timestamp::from_second(1_767_323_045).expect("in range")
}

fn incarnation(text: &str) -> Incarnation {
    text.parse().expect("an incarnation")
}

fn bucket(index: u16) -> Bucket {
    Bucket::try_from(index).expect("a bucket")
}

/// Three members, of whom the first two own half of the buckets each.
fn map() -> ShardMap {
    let member = |(text, role, weight): (&str, Role, u32)| MapMember {
        incarnation: incarnation(text),
        role,
        weight,
    };
    let members = [
        ("operator-0_a1", Role::Active, 1),
        ("operator-1_b2", Role::Active, 1),
        ("operator-2_c3", Role::Standby, 2),
    ];
    ShardMap {
        installation: "ops/database-operator".into(),
        leader: incarnation("operator-0_a1"),
        term: 7,
        sequence: 1_767_300_000,
        members: members.map(member).into(),
        owners: (0..BUCKETS).map(|bucket| Some(bucket % 2)).collect(),
        epochs: vec![Epoch(1_767_300_000); usize::from(BUCKETS)],
        round: None,
    }
}

/// A Lease that was renewed so many seconds ago; an empty holder: it was released.
fn lease(name: &str, holder: &str, seconds_ago: i64, report: Report) -> LeaseObject {
    let record = LeaseRecord {
        holder: (!holder.is_empty()).then(|| incarnation(holder)),
        transitions: 1,
        report,
    };
    let kept = if name.is_empty() {
        Kept::Coordinator
    } else {
        Kept::Member
    };
    let renewed = now() - SignedDuration::from_secs(seconds_ago);
    let version = Some(Version(1000));
    to_object(&name_of(kept, name), version, &record, Timings::DEFAULT, renewed)
}

fn seen(version: u64) -> Report {
    Report {
        seen: Version(version),
        weight: 1,
        ..Report::default()
    }
}

fn healthy() -> Facts {
    let leases = [
        lease("", "operator-0_a1", 1, Report::default()),
        lease("operator-0", "operator-0_a1", 1, seen(MAP)),
        lease("operator-1", "operator-1_b2", 0, seen(MAP)),
        lease("operator-2", "operator-2_c3", 2, seen(MAP)),
    ];
    let mut census = Census::default();
    for database in 0..100 {
        let name = format!("orders-{database}");
        let label = bucket_of("shop", &name).to_string();
        census.count("shop", &name, Some(&label), OLD);
    }
    Facts {
        namespace: "ops".to_owned(),
        map: map(),
        map_version: Version(MAP),
        fence: Some(FenceSeen {
            status: "True".to_owned(),
            message: "all layers".to_owned(),
        }),
        leases: Leases::of(&leases).expect("Leases"),
        census,
        now: now(),
    }
}

/// Replaces the Lease of a member.
fn with(mut facts: Facts, member: &str, object: &LeaseObject) -> Facts {
    let mut all = Leases::of(std::slice::from_ref(object)).expect("a Lease");
    let lease = all.members.remove(member).expect("of this member");
    facts.leases.members.insert(member.into(), lease);
    facts
}

#[test]
fn a_fleet_at_rest() {
    let table: Expect = expect![[r"
        Installation  ops/database-operator, Leases in namespace ops
        Leader        operator-0_a1, its Lease is held, renewed 1 s ago
        Map           term 7, sequence 1767300000, version 900
        Fence         in force at the API server
        Databases     100

        MEMBER         ROLE     WEIGHT  BUCKETS   SHARE  OBJECTS  LEASE                  MAP
        operator-0_a1  Active        1      512  50.0 %       50  held, renewed 1 s ago  current
        operator-1_b2  Active        1      512  50.0 %       50  held, renewed 0 s ago  current
        operator-2_c3  Standby       2        0   0.0 %        0  held, renewed 2 s ago  current

        Nothing moves.
        Every bucket has a live owner, and every Database its label.
    "]];
    let status = Status::of(&healthy());
    table.assert_eq(&status.to_string());
    assert!(status.healthy);
}

#[test]
fn a_fleet_at_rest_for_machines() {
    let status = serde_json::to_value(Status::of(&healthy())).expect("JSON");
    let expected = json!({
        "healthy": true,
        "installation": "ops/database-operator",
        "namespace": "ops",
        "leader": {"member": "operator-0_a1", "lease": "held", "renewedSecondsAgo": 1.0},
        "term": 7,
        "sequence": 1_767_300_000,
        "mapVersion": 900,
        "databases": 100,
        "members": [
            {
                "member": "operator-0_a1", "role": "Active", "weight": 1, "buckets": 512, "sharePercent": 50.0,
                "objects": 50, "lease": "held", "renewedSecondsAgo": 1.0, "map": "current", "seenMapVersion": 900,
                "leaving": false, "draining": false,
            },
            {
                "member": "operator-1_b2", "role": "Active", "weight": 1, "buckets": 512, "sharePercent": 50.0,
                "objects": 50, "lease": "held", "renewedSecondsAgo": 0.0, "map": "current", "seenMapVersion": 900,
                "leaving": false, "draining": false,
            },
            {
                "member": "operator-2_c3", "role": "Standby", "weight": 2, "buckets": 0, "sharePercent": 0.0,
                "objects": 0, "lease": "held", "renewedSecondsAgo": 2.0, "map": "current", "seenMapVersion": 900,
                "leaving": false, "draining": false,
            },
        ],
        "fence": {"status": "True", "message": "all layers"},
        "formerMembers": [],
        "round": null,
        "orphans": {"buckets": [], "databases": {"count": 0, "first": []}},
    });
    assert_eq!(status, expected);
}

#[test]
fn a_wish_to_drain_is_shown_before_and_after_the_leader_has_seen_it() {
    let drain = Report {
        drain: true,
        ..seen(MAP)
    };
    let mut facts = with(healthy(), "operator-1", &lease("operator-1", "operator-1_b2", 0, drain));
    let row = |facts: &Facts| {
        let shown = Status::of(facts).to_string();
        let row = shown
            .lines()
            .find(|line| line.starts_with("operator-1"))
            .map(str::to_owned);
        row.expect("a row")
    };
    assert!(row(&facts).contains("Active, to be drained  "), "{}", row(&facts));
    facts.map.members[1].role = Role::Draining;
    assert!(row(&facts).contains("_b2  Draining  "), "{}", row(&facts));
    assert!(Status::of(&facts).healthy);
}

/// One leaves, one joins, one is behind, one is gone.
#[test]
fn a_fleet_that_moves() {
    let leaving = Report {
        leaving: true,
        drained: 1_767_300_000,
        ..seen(MAP)
    };
    let mut facts = with(
        healthy(),
        "operator-1",
        &lease("operator-1", "operator-1_b2", 3, leaving),
    );
    let joins = lease("operator-9", "operator-9_f", 1, seen(0));
    facts = with(facts, "operator-9", &joins);
    facts = with(facts, "gone", &lease("gone", "", 100, Report::default()));
    facts = with(
        facts,
        "operator-0",
        &lease("operator-0", "operator-0_a1", -5, seen(MAP - 1)),
    );
    facts.map.round = Some(Round {
        number: 1_767_300_000,
        phase: Phase::Draining,
        moves: (0..10).map(|index| (bucket(index), 2)).collect(),
    });
    let table: Expect = expect![[r"
        Installation  ops/database-operator, Leases in namespace ops
        Leader        operator-0_a1, its Lease is held, renewed 1 s ago
        Map           term 7, sequence 1767300000, version 900
        Fence         in force at the API server
        Databases     100

        MEMBER         ROLE             WEIGHT  BUCKETS   SHARE  OBJECTS  LEASE                                  MAP
        operator-0_a1  Active                1      512  50.0 %       50  held, renewed 5 s ahead of this clock  behind, at version 899
        operator-1_b2  Active, leaving       1      512  50.0 %       50  held, renewed 3 s ago                  current
        operator-2_c3  Standby               2        0   0.0 %        0  held, renewed 2 s ago                  current
        operator-9_f   joining               1        0   0.0 %        0  held, renewed 1 s ago                  -

        Gone, with Leases that the leader removes after some time: gone

        Round 1767300000 moves 10 buckets, draining: losers end what runs
          5 from operator-0_a1 to operator-2_c3
          5 from operator-1_b2 to operator-2_c3
          waits for operator-0_a1 to acknowledge
        Every bucket has a live owner, and every Database its label.
    "]];
    let status = Status::of(&facts);
    table.assert_eq(&status.to_string());
    assert!(status.healthy);
    let round = serde_json::to_value(&status.round).expect("JSON");
    assert_eq!(
        round,
        json!({
            "number": 1_767_300_000, "phase": "Draining",
            "moves": [
                {"from": "operator-0_a1", "to": "operator-2_c3", "buckets": [0, 2, 4, 6, 8]},
                {"from": "operator-1_b2", "to": "operator-2_c3", "buckets": [1, 3, 5, 7, 9]},
            ],
            "waitsFor": ["operator-0_a1"],
        })
    );
    facts.map.round.as_mut().expect("a round").phase = Phase::Preparing;
    let waits = Status::of(&facts).round.expect("a round").waits_for;
    assert_eq!(waits, [incarnation("operator-2_c3")], "the gainer is not warm");
}

#[test]
fn whatever_nobody_looks_after_is_told() {
    let mut facts = with(
        healthy(),
        "operator-1",
        &lease("operator-1", "operator-1_b2", 16, seen(MAP)),
    );
    facts.map.owners[4] = None;
    facts.map.owners[5] = None;
    for database in 0..30 {
        let label = (database == 1).then_some("1024");
        facts.census.count("shop", &format!("lost-{database}"), label, OLD);
    }
    let table: Expect = expect![[r#"
        Installation  ops/database-operator, Leases in namespace ops
        Leader        operator-0_a1, its Lease is held, renewed 1 s ago
        Map           term 7, sequence 1767300000, version 900
        Fence         in force at the API server
        Databases     130

        MEMBER         ROLE     WEIGHT  BUCKETS   SHARE  OBJECTS  LEASE                            MAP
        operator-0_a1  Active        1      511  49.9 %       65  held, renewed 1 s ago            current
        operator-1_b2  Active        1      511  49.9 %       65  looks EXPIRED, renewed 16 s ago  current
        operator-2_c3  Standby       2        0   0.0 %        0  held, renewed 2 s ago            current

        Nothing moves.
        ORPHANED: 2 buckets (0 Databases) of nobody
        ORPHANED: 511 buckets (65 Databases) of operator-1_b2, whose Lease looks as if it had run out
        ORPHANED: 30 Databases whose label does not say their bucket; the first 20:
          shop/lost-0: no label, bucket 171
          shop/lost-1: label "1024", bucket 934
          shop/lost-2: no label, bucket 492
          shop/lost-3: no label, bucket 1021
          shop/lost-4: no label, bucket 550
          shop/lost-5: no label, bucket 728
          shop/lost-6: no label, bucket 779
          shop/lost-7: no label, bucket 303
          shop/lost-8: no label, bucket 778
          shop/lost-9: no label, bucket 396
          shop/lost-10: no label, bucket 1006
          shop/lost-11: no label, bucket 291
          shop/lost-12: no label, bucket 672
          shop/lost-13: no label, bucket 611
          shop/lost-14: no label, bucket 78
          shop/lost-15: no label, bucket 589
          shop/lost-16: no label, bucket 418
          shop/lost-17: no label, bucket 777
          shop/lost-18: no label, bucket 73
          shop/lost-19: no label, bucket 224
    "#]];
    let status = Status::of(&facts);
    table.assert_eq(&status.to_string());
    assert!(!status.healthy);
    assert_eq!(
        (status.orphans.databases.count, status.orphans.databases.first.len()),
        (30, 20)
    );
}

#[test]
fn a_bucket_is_an_orphan_unless_its_owner_holds_its_lease() {
    let released = lease("operator-1", "", 1, Report::default());
    let restarted = lease("operator-1", "operator-1_dd", 1, seen(0));
    let late = lease("operator-1", "operator-1_b2", 16, seen(MAP));
    for (case, lease, expected) in [
        ("released", Some(released), Some(LeaseState::Released)),
        ("another process", Some(restarted), Some(LeaseState::OfAnother)),
        (
            "not renewed for longer than a Lease",
            Some(late),
            Some(LeaseState::LooksExpired),
        ),
        ("no Lease", None, Some(LeaseState::Missing)),
    ] {
        let mut facts = healthy();
        facts.leases.members.remove("operator-1");
        if let Some(lease) = &lease {
            facts = with(facts, "operator-1", lease);
        }
        let status = Status::of(&facts);
        assert!(!status.healthy, "{case}");
        let [orphaned] = status.orphans.buckets.as_slice() else {
            panic!("{case}: {:?}", status.orphans)
        };
        assert_eq!((orphaned.lease, orphaned.buckets.len()), (expected, 512), "{case}");
        assert_eq!(orphaned.owner, Some(incarnation("operator-1_b2")), "{case}");
    }
    let mut facts = healthy();
    facts.leases.members.remove("operator-2");
    assert!(Status::of(&facts).healthy, "a standby owns nothing");
}

/// Clocks of two machines say nothing against a Lease that was seen to be renewed.
#[test]
fn a_lease_that_changes_is_held_whatever_the_clocks_say() {
    let late = lease("operator-1", "operator-1_b2", 400, seen(MAP));
    let mut facts = with(healthy(), "operator-1", &late);
    assert_eq!(facts.leases.doubtful(now()), Some(SignedDuration::from_secs(5)));
    let mut earlier = facts.leases.clone();
    facts.leases.compare(&earlier);
    assert!(!Status::of(&facts).healthy, "it has not changed");
    let before = earlier.members.get_mut("operator-1").expect("it is there");
    before.version = Version(999);
    facts.leases.compare(&earlier);
    assert!(Status::of(&facts).healthy);
    assert_eq!(healthy().leases.doubtful(now()), None, "nothing to be watched");
    let released = with(healthy(), "gone", &lease("gone", "", 400, Report::default()));
    assert_eq!(released.leases.doubtful(now()), None, "nobody renews it");
}

#[test]
fn only_leases_of_a_fleet_count() {
    let mut stranger = lease("", "operator-0_a1", 1, Report::default());
    stranger.metadata.name = Some("kube-scheduler".to_owned());
    let leases = Leases::of(&[stranger.clone()]).expect("Leases");
    assert!(leases.is_empty());
    stranger.metadata.name = Some("database-operator-member-a".to_owned());
    let leases = Leases::of(&[stranger]).expect("Leases");
    assert_eq!(leases.members.keys().collect::<Vec<_>>(), [&Arc::from("a")]);
}

#[test]
fn a_label_must_say_what_the_name_says() {
    let right = bucket_of("shop", "orders");
    let other = bucket((right.index() + 1) % BUCKETS);
    for (case, label, age, stray) in [
        ("right", Some(right.to_string()), OLD, false),
        ("another bucket", Some(other.to_string()), OLD, true),
        (
            "another bucket, just made",
            Some(other.to_string()),
            SignedDuration::ZERO,
            true,
        ),
        ("another form", Some(format!("0{right}")), OLD, true),
        ("no label", None, OLD, true),
        ("no label, as old as is allowed", None, LABELLED_WITHIN, true),
        ("no label, just made", None, SignedDuration::from_secs(29), false),
    ] {
        let mut census = Census::default();
        census.count("shop", "orders", label.as_deref(), age);
        assert_eq!(census.strays == 1, stray, "{case}");
        assert_eq!(
            (census.total(), census.of([right]), census.of([other])),
            (1, 1, 0),
            "{case}"
        );
        assert_eq!(census.named.len(), usize::from(stray), "{case}");
    }
}
