//! What it takes to move Databases from replica to replica, and what a replica costs that has only some.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::sys::signal::Signal;
use sharding::map::Phase;

use super::{again, gaps, seconds};
use crate::audit::{LeaseWrite, Micros, now};
use crate::judge::owner;
use crate::place::{Place, Shape, say};
use crate::setting::{Setting, in_a_cluster};

/// How many there are in the end. An API server on two cores creates ten a second, with all of their children, and
/// fewer and fewer.
fn many() -> usize {
    let text = std::env::var("MEASURE_DATABASES").unwrap_or_else(|_| "9000".to_owned());
    text.parse()
        .unwrap_or_else(|_| panic!("MEASURE_DATABASES is no number: {text}"))
}

/// Nothing is written for so long before writes are counted.
const QUIET: Duration = Duration::from_secs(10);

#[test]
#[ignore = "takes 5 minutes: make measure"]
fn measure_a_rolling_replacement() {
    in_a_cluster(None, &again("rolling"), rolling);
}

#[test]
#[ignore = "takes 30 minutes: make measure"]
fn measure_moves_of_thousands() {
    in_a_cluster(None, &again("thousands"), thousands);
}

#[test]
#[ignore = "takes 15 minutes: make measure"]
fn measure_what_a_share_costs() {
    in_a_cluster(None, &again("share_costs"), shares);
}

/// 3 shards are replaced one after the other, a 4th replica is started before each stop, all under load.
async fn rolling(setting: Setting) {
    let mut place = Place::of_three(setting, Shape::fast(3), 1000).await;
    place.load().start(10);
    let from = now();
    for (at, next) in ["r3", "r4", "r5"].into_iter().enumerate() {
        place.add_replica(next);
        place.settled().await;
        place.replicas[at].signal(Signal::SIGTERM);
        place.stops(at).await;
        place.settled().await;
        place.tell(&format!("{next} replaces {}", place.replicas[at].name));
    }
    place.load().finish().await;
    place.all_done().await;
    let mut changes: BTreeMap<usize, usize> = BTreeMap::new();
    for (_, bucket) in &place.databases {
        let maps = place.log.maps.iter();
        let before = maps.clone().rfind(|map| map.done < from).into_iter();
        let owners = before.chain(maps.filter(|map| map.done >= from));
        let mut owners: Vec<_> = owners.filter_map(|map| owner(&map.spec, *bucket)).collect();
        owners.dedup();
        *changes.entry(owners.len() - 1).or_default() += 1;
    }
    say(&format!(
        "    Ownership changes per Database, and for how many: {changes:?} (bar 1)."
    ));
    let p99 = gaps(&place);
    assert_eq!(changes, BTreeMap::from([(1, place.databases.len())]));
    assert!(p99 <= 1_000_000, "the gap is too long");
}

async fn thousands(setting: Setting) {
    let mut place = Place::new(setting, Shape::fast(4), 1).await;
    place.add_replica("r0");
    place.settled().await;
    place.fence().await;
    let many = many();
    for (databases, busy) in [(1000, false), (many, false), (many, true)] {
        place.begin_anew(Shape::fast(4), &["r0", "r1", "r2"], true).await;
        place.declare(databases).await;
        place.all_done().await;
        place.begin_anew(Shape::fast(4), &["r0", "r1", "r2"], false).await;
        place.tell(&format!("{databases} Databases have their children"));
        quiet(&mut place).await;
        if busy {
            place.load().start(10);
            place.pass(Duration::from_secs(5)).await;
        }
        join(&mut place, busy).await;
        if busy {
            for _ in 0..3 {
                place.replicas[3].signal(Signal::SIGTERM);
                place.stops(3).await;
                place.settled().await;
                place.replicas[3].start();
                place.settled().await;
            }
            place.load().finish().await;
            place.all_done().await;
            let p99 = gaps(&place);
            assert!(p99 <= 1_000_000, "the gap is too long");
        }
    }
}

/// What a replica costs that has a fifth of all Databases, against one that has all.
async fn shares(setting: Setting) {
    let mut place = Place::new(setting, Shape::fast(3), 1).await;
    place.begin_anew(Shape::fast(3), &["r0", "r1", "r2"], true).await;
    place.fence().await;
    place.declare(many()).await;
    place.all_done().await;
    let one = cost(&mut place, 1).await;
    let five = cost(&mut place, 5).await;
    let worst = |of: fn(&Cost) -> u64, costs: &[Cost]| costs.iter().map(of).max().unwrap_or_default();
    for (what, of) in [
        ("RSS above idle, KiB", (|cost| cost.rss_kib) as fn(&Cost) -> u64),
        ("bytes from its start until it has its share", |cost| cost.first_bytes),
        ("bytes for each change in the fleet, under load", |cost| cost.load_bytes),
    ] {
        let (one, five) = (worst(of, &one), worst(of, &five));
        say(&format!(
            "    {what}: {one} for one that has all, {five} at most for one of five (bar 1/4)."
        ));
        assert!(five * 4 <= one, "{what}: more than a quarter");
    }
}

/// Waits until nothing is written any more.
async fn quiet(place: &mut Place) {
    loop {
        let from = now();
        place.pass(QUIET).await;
        if place.since(from).is_empty() {
            return;
        }
    }
}

/// A 4th replica starts, and a quarter of all Databases moves to it.
async fn join(place: &mut Place, busy: bool) {
    let from = now();
    let leases_before = place.log.leases.clone();
    let maps_before = place.log.maps.len();
    place.add_replica("r3");
    place.settled().await;
    let to = now();
    place.pass(Duration::from_secs(2)).await;
    let maps = &place.log.maps[maps_before..];
    let retry = Micros::try_from(place.shape.timings[2]).expect("seconds") * 1_000_000;
    let leases = beyond_renewals(&leases_before, &place.log.leases[leases_before.len()..], retry);
    let objects: BTreeSet<&str> = place.since(from).iter().map(|write| write.object.as_str()).collect();
    let moved = maps.last().map_or(0, |last| {
        let theirs = |(_, bucket): &&(String, _)| owner(&last.spec, *bucket).is_some_and(|(owner, _)| owner == "r3");
        place.databases.iter().filter(theirs).count()
    });
    say(&format!(
        "    {moved} of {} Databases moved to a 4th replica in {:.2} s: {} writes of the map, {} of Leases beyond regular \
         renewals, {} objects written meanwhile{}.",
        place.databases.len(),
        seconds(to - from),
        maps.len(),
        leases.len(),
        objects.len(),
        if busy { ", under load" } else { "" },
    ));
    let mut times: Vec<(Micros, String)> = leases
        .iter()
        .map(|lease| (lease.done, format!("Lease {}", lease.name)))
        .collect();
    times.extend(maps.iter().map(|map| {
        let phase = map.spec.round.as_ref().map_or("Active", |round| match round.phase {
            Phase::Preparing => "Preparing",
            Phase::Draining => "Draining",
        });
        (map.done, format!("map {phase}"))
    }));
    times.sort();
    let times: Vec<String> = times
        .into_iter()
        .map(|(at, what)| format!("{:.2} s {what}", seconds(at - from)))
        .collect();
    say(&format!("    {}", times.join(", ")));
    assert!(
        moved * 5 > place.databases.len() && moved * 3 < place.databases.len(),
        "a quarter"
    );
    assert!(maps.len() + leases.len() <= 10, "too many writes");
    if !busy {
        assert!(objects.is_empty(), "written: {objects:?}");
    }
}

/// Those that say something new, and came before the next renewal of that Lease was due.
fn beyond_renewals(before: &[LeaseWrite], writes: &[LeaseWrite], retry: Micros) -> Vec<LeaseWrite> {
    let mut last: BTreeMap<&str, &LeaseWrite> = before.iter().map(|write| (write.name.as_str(), write)).collect();
    let extra = writes.iter().filter(|write| {
        let last = last.insert(&write.name, write);
        // That is when answers were given: some come late, and the next one then seems early.
        last.is_none_or(|last| last.says != write.says && write.done - last.done < retry * 3 / 4)
    });
    extra.cloned().collect()
}

/// What a replica costs.
struct Cost {
    rss_kib: u64,
    first_bytes: u64,
    load_bytes: u64,
}

/// Of each replica, when so many share the Databases. Each has never had more than its share.
async fn cost(place: &mut Place, shards: usize) -> Vec<Cost> {
    let names: Vec<String> = (0..=shards).map(|at| format!("c{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    place.begin_anew(Shape::fast(shards), &names[..1], true).await;
    for name in &names[1..] {
        place.add_replica(name);
    }
    place.settled().await;
    let mut at_start = vec![0; names.len()];
    let mut first_bytes = BTreeMap::new();
    if shards == 1 {
        // It lists what it owns from the beginning.
        place.pass(QUIET * 2).await;
        note(place, &at_start, &mut first_bytes).await;
    } else {
        // Each owner makes room for the one that waits, and comes back as one that waits.
        for at in 0..names.len() {
            if place.databases_of(names[at]).await.is_empty() {
                continue;
            }
            place.replicas[at].signal(Signal::SIGTERM);
            place.stops(at).await;
            place.settled().await;
            note(place, &at_start, &mut first_bytes).await;
            at_start[at] = place.replicas[at].proxy.answered();
            first_bytes.remove(&at);
            place.replicas[at].start();
            place.settled().await;
        }
    }
    // By then the allocator has given back what lists took for a moment.
    place.pass(QUIET * 4).await;
    let owners: Vec<usize> = first_bytes.keys().copied().collect();
    assert_eq!(owners.len(), shards);
    let idle = (0..names.len()).find(|at| !owners.contains(at)).expect("one waits");
    let idle = place.replicas[idle].rss_kib();
    let rss: Vec<u64> = owners.iter().map(|at| place.replicas[*at].rss_kib()).collect();
    let bytes = |place: &Place| -> Vec<u64> { owners.iter().map(|at| place.replicas[*at].proxy.answered()).collect() };
    let (before, changes) = (bytes(place), place.load().changes());
    place.load().start(20);
    place.pass(Duration::from_mins(1)).await;
    place.load().stop().await;
    place.pass(QUIET).await;
    let changes = place.load().changes() - changes;
    // The API server bears more changes at one time than at another.
    let load_bytes: Vec<u64> = before
        .iter()
        .zip(bytes(place))
        .map(|(before, after)| (after - before) / changes.max(1))
        .collect();
    say(&format!(
        "    {shards} shards, {} Databases: RSS {rss:?} KiB, idle {idle} KiB; bytes until each had its share {:?}; bytes \
         under load {load_bytes:?} for each of {changes} changes.",
        place.databases.len(),
        first_bytes.values().collect::<Vec<_>>()
    ));
    let all = first_bytes.into_values().zip(rss).zip(load_bytes);
    let costs = all.map(|((first_bytes, rss), load_bytes)| Cost {
        rss_kib: rss.saturating_sub(idle),
        first_bytes,
        load_bytes,
    });
    costs.collect()
}

/// What each has been sent since its start, once it owns something.
async fn note(place: &mut Place, at_start: &[u64], first_bytes: &mut BTreeMap<usize, u64>) {
    place.pass(Duration::from_secs(3)).await;
    for (at, at_start) in at_start.iter().enumerate() {
        let replica = &place.replicas[at];
        if first_bytes.contains_key(&at) || !replica.is_up() || place.databases_of(&replica.name).await.is_empty() {
            continue;
        }
        first_bytes.insert(at, replica.proxy.answered() - at_start);
    }
}
