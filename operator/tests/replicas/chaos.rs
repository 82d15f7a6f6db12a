//! Several real replicas share real Databases at a real API server, and whatever is killed, frozen, cut off or slow, no
//! Database is changed by an owner whose time is over. The API server's audit log is the judge ([`judge`]).
//!
//! First without the fence: there a write that arrives late must be found accepted, or the judge sees nothing. Then with
//! it, under faults of every kind ([`faults`]) from a seeded schedule.
//!
//! `CHAOS_MINUTES` makes it long, `CHAOS_SEED` makes it another one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::seq::SliceRandom as _;

use crate::audit::{Micros, now};
use crate::faults::{self, Fault, an_owner};
use crate::measure::seconds;
use crate::place::{Place, Shape, say};
use crate::replica::STOP_SECONDS;
use crate::setting::{Setting, faketime, in_a_cluster};
use crate::{judge, measure, replica};

const NAMES: [&str; 4] = ["r0", "r1", "r2", "r3"];
/// Nothing may be written for so long once all is done.
const QUIET: Duration = Duration::from_secs(10);
/// Twice the bar of the fast profile: this machine may be busy.
const TAKEOVER: Micros = 13_000_000;

/// What is asked for.
struct Form {
    seed: u64,
    /// The long form, and how long it takes.
    minutes: Option<u64>,
}

impl Form {
    fn asked() -> Self {
        let number = |name| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
        };
        Self {
            seed: number("CHAOS_SEED").unwrap_or(1),
            minutes: number("CHAOS_MINUTES"),
        }
    }

    /// Databases, and changes a second.
    fn load(&self) -> (usize, u32) {
        if self.minutes.is_some() { (80, 10) } else { (36, 8) }
    }

    /// How it is run again.
    fn command(&self) -> String {
        let minutes = self
            .minutes
            .map(|minutes| format!("CHAOS_MINUTES={minutes} "))
            .unwrap_or_default();
        let seed = self.seed;
        format!("{minutes}CHAOS_SEED={seed} cargo test --workspace --test replicas chaos -- --nocapture")
    }
}

#[test]
fn no_database_is_changed_by_an_owner_whose_time_is_over() {
    let form = Form::asked();
    if form.minutes.is_some() {
        faketime();
    }
    in_a_cluster(None, &form.command(), inside);
}

async fn inside(setting: Setting) {
    let form = Form::asked();
    let (databases, rate) = form.load();
    say(&format!("    {}", form.command()));
    let began = Instant::now();
    let faketime = form.minutes.map(|_| faketime());
    let mut place = Place::new(setting, Shape::fast(3), form.seed).await;
    place.faketime = faketime;
    for name in NAMES {
        place.add_replica(name);
    }
    place.declare(databases).await;
    place.settled().await;
    place.tell("4 replicas share the buckets");
    place.all_done().await;
    place.tell("all Databases have their children");
    place.load().start(rate);

    assert_eq!(place.fenced().await.as_deref(), Some("False"), "no fence is installed");
    let stale = without_fence(&mut place).await;
    place.fence().await;
    let fenced = now();
    place.tell("the fence is in force");
    strike(&mut place, &form, began).await;
    // What is held back may be nothing that the fence sees, such as a status, which its version refuses before.
    while judge::judge(&place.log.writes, &place.log.maps, fenced, Micros::MAX).fenced_off == 0 {
        Fault::FreezeAndDeliver.strike(&mut place, false).await;
    }
    converge(&mut place).await;
    conclude(&place, &form, fenced, stale);
    ends_without_a_server(&mut place).await;
}

/// One that is told to stop while it reaches no API server can hand nothing over and give no Lease back, and ends.
async fn ends_without_a_server(place: &mut Place) {
    let one = an_owner(place).await;
    place.replicas[one].proxy.cut(true);
    place.replicas[one].signal(Signal::SIGTERM);
    let deadline = Instant::now() + Duration::from_secs(2 * STOP_SECONDS) + Duration::from_mins(1);
    let status = loop {
        let replica = &mut place.replicas[one];
        if let Some(status) = replica.ended() {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end: {}", replica.last_lines());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let replica = &place.replicas[one];
    assert_eq!(
        status.code(),
        Some(2),
        "it did not leave in order: {}",
        replica.last_lines()
    );
    place.tell(&format!(
        "{} was told to stop while it was cut off, and ended",
        replica.name
    ));
}

/// How often a write is held back, until one is accepted that is stale. On a fast machine most of what is held back is the
/// first write of a change, a revision, which others have made meanwhile.
const TRIES: u32 = 20;

/// A write that arrives late is accepted and found. Returns how many were.
async fn without_fence(place: &mut Place) -> usize {
    for _ in 0..TRIES {
        Fault::FreezeAndDeliver.strike(place, false).await;
        let verdict = judge::judge(&place.log.writes, &place.log.maps, 0, Micros::MAX);
        if let Some(first) = verdict.stale.first() {
            place.tell(&format!(
                "without the fence, stale and accepted: {}; {first}",
                verdict.stale.len()
            ));
            return verdict.stale.len();
        }
    }
    panic!("without the fence no stale write was accepted: the test proves nothing");
}

/// Faults one after the other.
async fn strike(place: &mut Place, form: &Form, began: Instant) {
    let Some(minutes) = form.minutes else {
        for fault in [
            Fault::FreezeAndDeliver,
            Fault::KillLeader,
            Fault::Terminate,
            Fault::ServerFrozen,
        ] {
            fault.strike(place, false).await;
        }
        return;
    };
    let end = began + Duration::from_secs(60 * minutes);
    loop {
        let mut round = faults::ALL;
        round.shuffle(&mut place.random);
        for fault in round {
            if Instant::now() >= end {
                return;
            }
            fault.strike(place, true).await;
        }
    }
}

/// All that was declared is done, and a replica that knows nothing finds nothing to do.
async fn converge(place: &mut Place) {
    let last = place.load().finish().await;
    place.all_done().await;
    // The last event of a watch.
    place.pass(Duration::from_secs(2)).await;
    let wrong = place.load().misconfigured(&place.client, &last).await;
    assert!(wrong.is_empty(), "configuration that nobody asked for last: {wrong:?}");
    let from = now();
    place.add_replica("fresh");
    place.settled().await;
    for name in NAMES {
        let replica = place
            .replicas
            .iter()
            .position(|replica| replica.name == name)
            .expect("it runs");
        place.replicas[replica].signal(Signal::SIGTERM);
        place.stops(replica).await;
    }
    place.settled().await;
    place.tell("a fresh replica owns everything");
    place.pass(QUIET).await;
    assert_eq!(place.fenced().await.as_deref(), Some("True"), "it has looked");
    let written = place.since(from);
    assert!(
        written.is_empty(),
        "{} writes, the first: {:?}",
        written.len(),
        written.first()
    );
}

/// Judges, tells, and then fails if anything was not as it must be.
fn conclude(place: &Place, form: &Form, fenced: Micros, stale_before: usize) {
    let (writes, maps) = (&place.log.writes, &place.log.maps);
    let verdict = judge::judge(writes, maps, fenced, Micros::MAX);
    let reconciles: u64 = place.replicas.iter().map(replica::Replica::reconciles).sum();
    say(&format!(
        "\n    Seed {}. {} Databases, {} changes, {reconciles} reconciles (as far as replicas could be asked), {} maps.",
        form.seed,
        verdict.databases.len(),
        place.load().changes(),
        maps.len()
    ));
    say(&format!("    Faults: {:?}", place.journal.done));
    say(&format!(
        "    With the fence: {} writes accepted, {} of them stale (must be 0), {} under an epoch never given (0), {} \
         without an epoch; {} refused by the fence; {} epochs of Databases. Without it: {stale_before} stale (>= 1).",
        verdict.accepted,
        verdict.stale.len(),
        verdict.not_given.len(),
        verdict.without_fence,
        verdict.fenced_off,
        verdict.owners,
    ));
    let takeovers = measure::takeovers(place);
    let worst = takeovers
        .iter()
        .map(|takeover| takeover.owned)
        .max()
        .unwrap_or_default();
    measure::gaps(place);
    for resumed in &place.journal.resumed {
        say(&format!(
            "    API server back: first write after {:.1} s.",
            seconds(*resumed)
        ));
    }
    say("    No replica ended by itself; all is as declared, and a fresh replica wrote nothing.\n");
    let known: BTreeSet<String> = place.databases.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(
        verdict.databases, known,
        "every Database, and nothing else, was written for"
    );
    assert!(verdict.stale.is_empty(), "{:#?}", verdict.stale);
    assert!(verdict.not_given.is_empty(), "{:#?}", verdict.not_given);
    assert!(worst <= TAKEOVER, "a takeover took {} s", seconds(worst));
}
