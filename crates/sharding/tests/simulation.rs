//! Simulated fleets of 3 to 100 members, of the very code that the product runs: the real `step` and the real assignment,
//! around a model of an API server, in true time that no member knows. Nothing here is a measurement of the product.
//!
//! Read in this order: `schedule` (what one seed stands for), `fleet` (the run), `member` (one process), `api` (requests,
//! answers, watches), `work` (reconciles), `faults` (what befalls them), `judge` and `health`
//! (what is watched and counted).
//!
//! Simulated: objects have versions and writes of Leases and of the map are compare-and-swap; each way takes its own
//! time; watches are late, each for itself; answers get lost, of requests that were carried out, that were not, and that
//! will be much later; each clock runs at its own rate, 0.9 to 1.1. The admission at the API server knows each map at once
//! (a real one some milliseconds later), and writes of objects carry no resourceVersion, so that only the fence refuses.
//!
//! `SIMULATION_SEED=7 cargo test -p sharding --test simulation -- --nocapture` plays one seed, with a trace.

mod world;

#[path = "simulation/api.rs"]
mod api;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/fleet.rs"]
mod fleet;
#[path = "simulation/health.rs"]
mod health;
#[path = "simulation/judge.rs"]
mod judge;
#[path = "simulation/member.rs"]
mod member;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/schedule.rs"]
mod schedule;
#[path = "simulation/trace.rs"]
mod trace;
#[path = "simulation/work.rs"]
mod work;

use std::collections::BTreeMap;
use std::env;
use std::ops::Range;
use std::time::Instant;

use fleet::{Options, Outcome, Simulation};
use judge::Counts;
use schedule::{Schedule, Sizes, Theme};
use sharding::protocol::Flaw;
use sharding::timing::Millis;

/// Two of each theme in small fleets at the least, and one of 100 members.
const SEEDS: Range<u64> = 0..24;

/// What the default run must reach.
const RECONCILES: u64 = 1_000_000;

/// `SIMULATION_SEED`: one number, or a range of them as `100..200`.
fn asked_for() -> Option<Range<u64>> {
    let text = env::var("SIMULATION_SEED").ok()?;
    let number = |text: &str| text.parse::<u64>().expect("SIMULATION_SEED is a number or a range");
    Some(match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(&text)..number(&text) + 1,
    })
}

/// `SIMULATION_SIZES=small`: the fleets of the tests of flaws.
fn sizes() -> Sizes {
    match env::var("SIMULATION_SIZES").as_deref() {
        Ok("small") => Sizes::Small,
        _ => Sizes::Mixed,
    }
}

fn play(seed: u64, sizes: Sizes, options: Options) -> (Schedule, Outcome) {
    let schedule = Schedule::new(seed, sizes);
    let outcome = Simulation::new(schedule.clone(), options).run();
    (schedule, outcome)
}

/// Plays it again, in words.
fn explain(seed: u64, sizes: Sizes, options: Options) -> String {
    let (_, outcome) = play(seed, sizes, Options { trace: true, ..options });
    Vec::from(outcome.trace).join("\n")
}

#[test]
fn a_million_reconciles_keep_the_promises() {
    let seeds = asked_for().unwrap_or(SEEDS);
    let mut total = Total::default();
    for seed in seeds.clone() {
        let began = Instant::now();
        let (schedule, outcome) = play(seed, sizes(), Options::PRODUCT);
        let line = describe(&schedule, &outcome);
        println!("simulation {seed}: {line}, {:.1} s", began.elapsed().as_secs_f32());
        if seeds.end == seeds.start + 1 || outcome.violation.is_some() {
            println!("{}", explain(seed, sizes(), Options::PRODUCT));
        }
        assert_eq!(
            outcome.violation,
            None,
            "the simulation of seed {seed} broke a promise: {line}\n\
             {}SIMULATION_SEED={seed} cargo test -p sharding --test simulation -- --nocapture a_million",
            if sizes() == Sizes::Small {
                "SIMULATION_SIZES=small "
            } else {
                ""
            }
        );
        match schedule.theme {
            // Each bucket changed its owner exactly once.
            Theme::Rolling => assert_eq!(outcome.counts.changes, vec![1; schedule.buckets.into()], "seed {seed}"),
            Theme::Crashes => assert!(
                outcome.counts.slowest_takeover.1 <= schedule.taken_over_within(),
                "seed {seed}: a takeover took {:?} us",
                outcome.counts.slowest_takeover
            ),
            Theme::All | Theme::Time | Theme::Network | Theme::Hands => {}
        }
        total.add(&schedule, &outcome.counts);
    }
    println!("{}", total.describe(&seeds));
    if seeds == SEEDS {
        assert!(total.counts.reconciles >= RECONCILES, "{}", total.counts.reconciles);
        assert!(
            total.counts.refused > 0,
            "the fence had nothing to refuse: this proves little"
        );
    }
}

fn describe(schedule: &Schedule, outcome: &Outcome) -> String {
    let Counts {
        reconciles,
        accepted,
        refused,
        taken,
        handed,
        served_after,
        balanced_after,
        ..
    } = outcome.counts;
    let Schedule {
        theme,
        members,
        shards,
        buckets,
        timings,
        ..
    } = schedule;
    let verdict = outcome
        .violation
        .map_or("no violation".into(), |violation| violation.to_string());
    format!(
        "{theme:?}, {members} members at first, {shards} shards, {buckets} buckets, {timings}: {verdict} in {} s; \
         {reconciles} reconciles, {accepted} writes accepted, {refused} refused by the fence, buckets: {taken} taken over, \
         {handed} handed over; after the last fault served in {} ms, balanced in {} ms",
        outcome.at / 1_000_000,
        served_after / 1000,
        balanced_after / 1000
    )
}

/// All that a run of many seeds has counted.
#[derive(Default)]
struct Total {
    counts: Counts,
    fleets: BTreeMap<Theme, u64>,
    largest: u64,
    /// By the length of the Lease.
    slowest: BTreeMap<Millis, Slowest>,
}

/// The slowest of one profile, in milliseconds, and what it must not pass.
#[derive(Default)]
struct Slowest {
    served_after: [u64; 2],
    balanced_after: [u64; 2],
    /// Of a crashed member, when nothing else is wrong: by the clock of the leader, and by true time.
    takeover: [u64; 2],
}

impl Total {
    fn add(&mut self, schedule: &Schedule, counts: &Counts) {
        let total = &mut self.counts;
        total.reconciles += counts.reconciles;
        total.accepted += counts.accepted;
        total.refused += counts.refused;
        total.stale += counts.stale;
        total.map_writes += counts.map_writes;
        total.taken += counts.taken;
        total.handed += counts.handed;
        total.given_out += counts.given_out;
        total.raised += counts.raised;
        total.processes += counts.processes;
        total.steps += counts.steps;
        *self.fleets.entry(schedule.theme).or_default() += 1;
        self.largest = self.largest.max(schedule.members);
        let slowest = self.slowest.entry(schedule.timings.lease_ms()).or_default();
        let worse = |kept: &mut u64, micros: u64| *kept = (*kept).max(micros / 1000);
        worse(&mut slowest.served_after[0], counts.served_after);
        worse(&mut slowest.served_after[1], schedule.served_within());
        worse(&mut slowest.balanced_after[0], counts.balanced_after);
        worse(&mut slowest.balanced_after[1], schedule.balanced_within());
        if schedule.theme == Theme::Crashes {
            worse(&mut slowest.takeover[0], counts.slowest_takeover.1);
            worse(&mut slowest.takeover[1], counts.slowest_takeover.0);
        }
    }

    fn describe(&self, seeds: &Range<u64>) -> String {
        let Counts {
            reconciles,
            accepted,
            refused,
            stale,
            map_writes,
            taken,
            handed,
            given_out,
            raised,
            processes,
            steps,
            ..
        } = self.counts;
        let counted = format!(
            "simulation, seeds {seeds:?}, {:?}, up to {} members, {processes} processes, {steps} steps of cores:\n  \
             {reconciles} reconciles; writes of objects: {accepted} accepted, {refused} refused by the fence, \
             {stale} stale ones accepted\n  {map_writes} writes of maps; buckets: {taken} taken over, {handed} handed over, \
             {given_out} given out that nobody owned, {raised} raised",
            self.fleets, self.largest
        );
        let profiles = self.slowest.iter().map(|(lease, slowest)| {
            let [served, served_within] = slowest.served_after;
            let [balanced, balanced_within] = slowest.balanced_after;
            let [by_leader, by_truth] = slowest.takeover;
            format!(
                "  Leases of {lease} ms: after the last fault all is served in {served} ms (allowed: {served_within}) and \
                 balanced in {balanced} ms ({balanced_within}); slowest takeover of a crashed member {by_leader} ms by the \
                 leader's clock, {by_truth} ms by true time"
            )
        });
        let rolled = self.fleets.get(&Theme::Rolling).copied().unwrap_or_default();
        let rolled =
            format!("  rolling replacement: each bucket changed its owner exactly once, in each of {rolled} fleets");
        let lines: Vec<String> = [counted, rolled].into_iter().chain(profiles).collect();
        lines.join("\n")
    }
}

#[test]
fn a_seed_replays_exactly() {
    let options = Options {
        trace: true,
        ..Options::PRODUCT
    };
    for seed in [3, 7] {
        let (_, first) = play(seed, Sizes::Small, options);
        let (_, second) = play(seed, Sizes::Small, options);
        assert_eq!(first, second, "seed {seed}");
    }
}

/// In how many small fleets a deliberate fault is looked for.
const FEW: u64 = 100;

/// The deliberate faults of the protocol that some dozens of small simulated fleets find: all but
/// `Flaw::ReuseTheRoundNumber`, which takes a report that outlives its round. `tests/model_check.rs` finds that too.
#[test]
fn mutations_are_found() {
    for flaw in [
        Flaw::SkipTheAcknowledgement,
        Flaw::AcknowledgeBeforeTheDrain,
        Flaw::CountFromTheAnswer,
        Flaw::ForgetTheEpoch,
        Flaw::FollowersComputeOwnership,
        Flaw::CompareWallClocks,
        Flaw::MapBeforeLease,
        Flaw::ObeyAnOlderMap,
        Flaw::GiveOutAtOnce,
        Flaw::SeenBeforeStopped,
        Flaw::ServePastTheDeadline,
        Flaw::ComeBackAfterTheLoss,
        Flaw::ReleaseBeforeTheDrain,
    ] {
        let options = Options {
            flaw: Some(flaw),
            ..Options::PRODUCT
        };
        let found = (0..FEW).find_map(|seed| Some((seed, play(seed, Sizes::Small, options).1.violation?)));
        let (seed, violation) = found.unwrap_or_else(|| panic!("{flaw:?} is not found in {FEW} small fleets"));
        println!("simulation: {flaw:?} is found by {violation}, seed {seed}");
    }
}

/// Without the fence, a member that is frozen between its check and its write does what the fence is there for.
#[test]
fn without_the_fence_stale_writes_are_accepted() {
    let frozen = || (0..FEW).filter(|seed| Schedule::new(*seed, Sizes::Small).theme == Theme::Time);
    let without = Options {
        fence: false,
        ..Options::PRODUCT
    };
    let mut refused = 0;
    let mut stale = 0;
    for seed in frozen() {
        refused += play(seed, Sizes::Small, Options::PRODUCT).1.counts.refused;
        stale += play(seed, Sizes::Small, without).1.counts.stale;
    }
    println!("simulation: {refused} writes refused by the fence; without it {stale} fleets saw a stale write accepted");
    assert!(refused > 0 && stale > 0, "{refused}, {stale}: this proves nothing");
}
