//! Every run of a small fleet, within limits that are stated here, of the very code that the product runs, against a
//! model of an API server (simulated): 3 members, 2 buckets, the fast profile (6/4/1 s), a step of one second.
//!
//! The fleet starts cold: two members begin and one joins later, so that election, a first map, a planned handover and
//! whatever the faults cause happen in every order with them. Within a second the members run one after the other. A
//! fault can happen at each turn of each member. `docs/decisions/0005-model-check.md` says what is not covered.
//!
//! The numbers of states are asserted: one that changes says that the protocol or the model behaves differently.

mod world;

#[path = "model_check/explore.rs"]
mod explore;
#[path = "model_check/model.rs"]
mod model;

use std::time::Instant;

use explore::{Explored, explore};
use model::{Choice, Fault, Limits, Node};
use sharding::protocol::Flaw;
use world::invariants::Violation;
use world::{Guard, Setup, World};

const ALL: &[Fault] = &[
    Fault::Crash,
    Fault::Restart,
    Fault::Freeze,
    Fault::Message,
    Fault::LateMap,
    Fault::LateLeases,
    Fault::OldMap,
    Fault::DeleteMap,
    Fault::Leave,
];

/// What befalls the map only when somebody works on the cluster by hand is combined with no second fault.
const ALONE: &[Fault] = &[
    Fault::Crash,
    Fault::Restart,
    Fault::Freeze,
    Fault::Message,
    Fault::LateMap,
    Fault::LateLeases,
    Fault::OldMap,
    Fault::DeleteMap,
    Fault::EditMap,
    Fault::RestoreMap,
    Fault::Leave,
];

/// A takeover is over seven seconds after the last renewal.
const LIMITS: Limits = Limits {
    long: 8,
    short: 3,
    faults: ALL,
    states: 20_000_000,
};

/// A cold fleet before its first second.
fn cold(starts: &[u8], faults: u8) -> Node {
    Node {
        world: World::new(starts),
        slot: starts.len(),
        faults_left: faults,
    }
}

/// A fleet in which a late watch can do most harm: b leads, a has left and is coming back as another incarnation that will
/// own buckets, and c hears of no Lease since it saw that a had left. If b fails, c is the first to notice.
fn late(setup: &Setup) -> Node {
    let mut node = cold(&[2, 1, 2], 1);
    go_on(&mut node, 6, setup);
    node.choose(Choice::Fail(Fault::Leave), setup);
    go_on(&mut node, 8, setup);
    node.world.proc(2).late_leases = Some(0);
    node.world.restart(0);
    node.faults_left = 1;
    node
}

/// A fleet in which a has left, and comes back as another incarnation around the moment at which the leader removes the
/// Lease that a has released.
fn comes_back(after_s: u32, setup: &Setup) -> Node {
    let mut node = cold(&[2, 1, 2], 1);
    go_on(&mut node, 6, setup);
    node.choose(Choice::Fail(Fault::Leave), setup);
    go_on(&mut node, after_s, setup);
    node.world.restart(0);
    node.faults_left = 1;
    node
}

/// What happens in so many seconds if nothing goes wrong.
fn go_on(node: &mut Node, seconds: u32, setup: &Setup) {
    let mut passed = 0;
    while passed < seconds {
        let choice = node.choices(setup, LIMITS)[0];
        node.choose(choice, setup);
        passed += u32::from(choice == Choice::Pass);
    }
}

/// Explores and prints what a reader wants to know.
fn explored(name: &str, start: Node, setup: &Setup, limits: Limits) -> Explored {
    let began = Instant::now();
    let explored = explore(start, setup, limits);
    let seconds = began.elapsed().as_secs_f32();
    println!(
        "{name}: {} states, {} transitions in {seconds:.1} s",
        explored.states, explored.transitions
    );
    match &explored.found {
        Some((violation, path)) => println!("  {violation} after {path:?}"),
        None => println!("  every bucket is served after at most {} s", explored.slowest_seconds),
    }
    assert!(explored.states < limits.states, "{name}: not explored to the end");
    explored
}

#[test]
fn no_two_faults_of_any_kind_break_it() {
    let setup = Setup::new(None, 3);
    let explored = explored("two faults", cold(&[6, 1, 1], 2), &setup, LIMITS);
    assert_eq!(explored.found, None);
    assert_eq!((explored.states, explored.slowest_seconds), (4_369_716, 16));
}

#[test]
fn no_fault_breaks_it_at_any_rates_of_the_clocks_and_in_any_order_of_starts() {
    let mut states = 0;
    let mut slowest = 0;
    // At a second's step, 1.0 and 1.1 of true time are the same; the exploration of two faults has all at 1.0.
    let rates = [900, 1100];
    for starts in [[1, 1, 6], [6, 1, 1], [1, 6, 1]] {
        for place in 0..8 {
            let mut setup = Setup::new(None, 3);
            setup.rates = [rates[place % 2], rates[place / 2 % 2], rates[place / 4], 1000];
            let name = format!("rates {:?}, starts {starts:?}", &setup.rates[..3]);
            let limits = Limits {
                faults: ALONE,
                ..LIMITS
            };
            let explored = explored(&name, cold(&starts, 1), &setup, limits);
            assert_eq!(explored.found, None, "{name}");
            states += explored.states;
            slowest = slowest.max(explored.slowest_seconds);
        }
    }
    assert_eq!((states, slowest), (1_316_978, 13));
}

#[test]
fn a_slow_holder_and_fast_takers_stand_two_faults_of_time() {
    let mut setup = Setup::new(None, 3);
    setup.rates = [1100, 900, 1100, 1000];
    let limits = Limits {
        faults: &[Fault::Freeze, Fault::Renewal],
        ..LIMITS
    };
    let explored = explored("slow holder", cold(&[6, 1, 1], 2), &setup, limits);
    assert_eq!(explored.found, None);
    assert_eq!((explored.states, explored.slowest_seconds), (1_503_531, 11));
}

#[test]
fn a_watch_that_is_late_for_long_misleads_no_new_leader() {
    let setup = Setup::new(None, 3);
    let limits = Limits { long: 20, ..LIMITS };
    let explored = explored("late watch", late(&setup), &setup, limits);
    assert_eq!(explored.found, None);
    assert_eq!((explored.states, explored.slowest_seconds), (342_889, 12));
}

/// The ten minutes are for people: whatever comes between, a Lease can be removed as soon as it looks dead.
#[test]
fn leases_of_the_dead_may_be_removed_at_once() {
    let setup = Setup::new(Some(Flaw::ForgetAtOnce), 3);
    let (mut states, mut slowest, mut removed) = (0, 0, 0);
    for after_s in 4..10 {
        let start = comes_back(after_s, &setup);
        removed += u32::from(!start.world.server.leases.contains_key("a"));
        let explored = explored(&format!("back after {after_s} s"), start, &setup, LIMITS);
        assert_eq!(explored.found, None);
        states += explored.states;
        slowest = slowest.max(explored.slowest_seconds);
    }
    assert_eq!(removed, 1, "one comes after it");
    assert_eq!((states, slowest), (152_559, 12));
}

/// A wish that a member own nothing, at any moment, with any other fault before or after it; also taken back, and also of
/// several members.
#[test]
fn a_drain_breaks_nothing() {
    let setup = Setup::new(None, 3);
    let limits = Limits {
        faults: &[Fault::Drain, Fault::Crash, Fault::Restart, Fault::Message, Fault::Leave],
        ..LIMITS
    };
    let explored = explored("drain", cold(&[6, 1, 1], 2), &setup, limits);
    assert_eq!(explored.found, None);
    assert_eq!((explored.states, explored.slowest_seconds), (1_210_457, 16));
}

/// What each deliberate fault of the protocol is found by.
#[test]
fn each_mutation_is_found() {
    let flaws = [
        (Flaw::SkipTheAcknowledgement, 0, Violation::TwoMembersWork),
        (Flaw::AcknowledgeBeforeTheDrain, 0, Violation::TwoMembersWork),
        (Flaw::CountFromTheAnswer, 2, Violation::StartAfterTheSelfFence),
        (Flaw::ForgetTheEpoch, 1, Violation::EpochFellOrStayed),
        (Flaw::FollowersComputeOwnership, 1, Violation::TwoMembersWork),
        (Flaw::CompareWallClocks, 1, Violation::TwoMembersWork),
        (Flaw::MapBeforeLease, 1, Violation::TwoMembersWork),
        (Flaw::ObeyAnOlderMap, 1, Violation::TwoMembersWork),
        (Flaw::GiveOutAtOnce, 1, Violation::TwoMembersWork),
        (Flaw::SeenBeforeStopped, 1, Violation::TwoMembersWork),
        (Flaw::ReuseTheRoundNumber, 2, Violation::TwoMembersWork),
        (Flaw::ServePastTheDeadline, 1, Violation::StartAfterTheSelfFence),
        (Flaw::ComeBackAfterTheLoss, 2, Violation::TwoMembersWork),
        (Flaw::ReleaseBeforeTheDrain, 2, Violation::TwoMembersWork),
    ];
    for (flaw, faults, expected) in flaws {
        let setup = Setup::new(Some(flaw), 3);
        found_by(&format!("{flaw:?}"), cold(&[6, 1, 1], faults), &setup, LIMITS, expected);
    }
}

#[test]
fn each_precondition_that_is_left_out_is_missed() {
    for (guard, faults, expected) in [
        (Guard::Map, 2, Violation::EpochChangedAlone),
        (Guard::Renewal, 2, Violation::TwoMembersWork),
        (Guard::Take, 2, Violation::TwoMembersWork),
    ] {
        let mut setup = Setup::new(None, 3);
        setup.without = Some(guard);
        found_by(
            &format!("without {guard:?}"),
            cold(&[6, 1, 1], faults),
            &setup,
            LIMITS,
            expected,
        );
    }
}

fn found_by(name: &str, start: Node, setup: &Setup, limits: Limits, expected: Violation) {
    let explored = explored(name, start, setup, limits);
    println!("  {name} is found by {expected}");
    let found = explored.found.map(|(violation, _)| violation);
    assert_eq!(found, Some(expected), "{name}");
}
