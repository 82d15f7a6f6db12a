//! Who waits how long: a simulation of workers and requests on a clock of its own, with seeded chance. Run with
//! `--nocapture` to see the figures.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use workqueue::{Class, Key, Limits, RetryRate, State, Taken};

const WORKERS: u16 = 16;
/// What a run takes.
const RUN: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Name {
    tenant: u16,
    class: Class,
    number: usize,
}

impl Key for Name {
    type Tenant = u16;

    fn tenant(&self) -> &u16 {
        &self.tenant
    }

    fn group(&self) -> usize {
        0
    }
}

/// A request at a time.
type Request = (u64, Name, Class);

/// What a request came to.
struct Run {
    name: Name,
    class: Class,
    waited: Duration,
}

/// Requests at random times until then, for this share of what all workers can do. Each is for a key of its own.
fn requests(seed: u64, until: Duration, load: f64, of: impl Fn(&mut StdRng) -> (u16, Class)) -> Vec<Request> {
    let mut random = StdRng::seed_from_u64(seed);
    let mean_us = RUN.as_secs_f64() * 1e6 / (load * f64::from(WORKERS));
    let mut at_us = 0.0;
    let mut requests = Vec::new();
    loop {
        at_us -= mean_us * random.random_range(f64::EPSILON..1.0).ln();
        let at = Duration::from_secs_f64(at_us / 1e6);
        if at >= until {
            return requests;
        }
        let (tenant, class) = of(&mut random);
        let number = requests.len();
        requests.push((us(at), Name { tenant, class, number }, class));
    }
}

/// Works on all requests to the end.
fn work(mut requests: Vec<Request>) -> Vec<Run> {
    requests.sort_unstable();
    let mut requests = requests.into_iter().peekable();
    let mut state = State::new(Limits::default());
    let mut runs = Vec::new();
    // Every run takes as long as every other, so they end in the order in which they began.
    let mut running: VecDeque<(u64, Taken<Name>)> = VecDeque::new();
    loop {
        let times = requests.peek().map(|request| request.0);
        let Some(now_us) = times.into_iter().chain(running.front().map(|run| run.0)).min() else {
            return runs;
        };
        while let Some((_, name, class)) = requests.next_if(|request| request.0 <= now_us) {
            state.add(name, class, now_us);
        }
        while running.front().is_some_and(|run| run.0 <= now_us) {
            let (_, taken) = running.pop_front().expect("it is there");
            state.done(taken, now_us);
        }
        while running.len() < usize::from(WORKERS)
            && let Some(taken) = state.take(now_us)
        {
            runs.push(Run {
                name: taken.key,
                class: taken.class,
                waited: taken.waited,
            });
            running.push_back((now_us + us(RUN), taken));
        }
    }
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("short")
}

/// The wait that 99 of 100 do not exceed.
fn p99<'a>(runs: impl Iterator<Item = &'a Run>) -> Duration {
    let mut waits: Vec<Duration> = runs.map(|run| run.waited).collect();
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

/// 99 tenants ask for 90 % of what the workers can do; or for as much in three ways more, and one more tenant floods the
/// queue so that all together ask for twice what can be done.
#[test]
fn a_tenant_that_floods_the_queue_hardly_delays_the_others() {
    let until = Duration::from_mins(1);
    let quiet = |seed| {
        requests(seed, until, 0.9, |random| {
            (random.random_range(1..100), Class::UserChange)
        })
    };
    for seed in 1..=3 {
        let alone = p99(work(quiet(seed)).iter());
        let flood = requests(seed + 100, until, 1.1, |_| (0, Class::UserChange));
        let burst = (0..10_000).map(|number| {
            let name = Name {
                tenant: 0,
                class: Class::Resync,
                number,
            };
            (0, name, Class::UserChange)
        });
        let all = quiet(seed).into_iter().chain(flood).chain(burst).collect();
        let runs = work(all);
        let beside = p99(runs.iter().filter(|run| run.name.tenant != 0));
        let noisy = p99(runs.iter().filter(|run| run.name.tenant == 0));
        println!(
            "seed {seed}: p99 of the quiet {alone:?} alone, {beside:?} beside the noise; the noisy one's {noisy:?}"
        );
        assert!(beside <= alone * 2, "more than twice as long");
        assert!(noisy > Duration::from_secs(1), "it waits for itself");
    }
}

/// The highest class asks for twice what can be done, for five minutes, and all other classes for 4 % each.
#[test]
fn no_class_waits_longer_than_all_of_them_age() {
    let until = Duration::from_mins(5);
    let ageing = Limits::default().ageing;
    let bound = ageing * u32::try_from(Class::ALL.len()).expect("few");
    for highest in [Class::Deletion, Class::UserChange] {
        let mut all = requests(1, until, 2.0, |random| (random.random_range(0..100), highest));
        for class in Class::ALL.into_iter().filter(|class| *class > highest) {
            let seed = class as u64 + 10;
            all.extend(requests(seed, until, 0.04, |random| {
                (random.random_range(0..100), class)
            }));
        }
        let runs = work(all);
        for class in Class::ALL.into_iter().filter(|class| *class > highest) {
            let waits = runs.iter().filter(|run| run.class == class).map(|run| run.waited);
            let longest = waits.max().unwrap_or_default();
            println!(
                "{highest:?} asks for twice what can be done: {class:?} waits {longest:?} at most (bound {bound:?})"
            );
            assert!(longest <= bound, "{class:?} starves");
            assert!(
                longest >= ageing * class as u32 / 2,
                "{class:?} did not have to wait: nothing is shown"
            );
        }
    }
}

/// Retries that are due are handed out as their tokens come, and keep nobody else.
#[test]
fn retries_are_handed_out_at_their_rate() {
    let limits = Limits::default();
    let mut state = State::new(limits);
    let names = (0..5_000).map(|number| Name {
        tenant: 0,
        class: Class::Retry,
        number,
    });
    for name in names {
        state.retry(name, 0, 0);
    }
    let other = Name {
        tenant: 1,
        class: Class::Resync,
        number: 0,
    };
    let mut by_second = [0_u32; 10];
    let mut now_us = 0;
    loop {
        let second = usize::try_from(now_us / 1_000_000).expect("small");
        if second >= by_second.len() {
            break;
        }
        if let Some(taken) = state.take(now_us) {
            by_second[second] += 1;
            state.done(taken, now_us);
        } else {
            state.add(other, Class::Resync, now_us);
            let taken = state.take(now_us).expect("others need no token");
            assert_eq!(taken.class, Class::Resync);
            state.done(taken, now_us);
            let next = state.next_due_us(now_us).expect("a token comes");
            assert!(next > now_us, "no busy waiting");
            now_us = next;
        }
    }
    let (rate, burst) = (limits.retries.per_second.get(), limits.retries.burst.get());
    assert!((burst..=burst + rate).contains(&by_second[0]), "{by_second:?}");
    for (second, count) in by_second.iter().enumerate().skip(1) {
        assert!((rate - 1..=rate + 1).contains(count), "second {second}: {by_second:?}");
    }
}

/// Each tenant asks for as much as it can get, some for all at once, some again and again for one thing; in any order of
/// arrival, with so many workers. Each gets the same.
fn shares(waiting: &[bool], class: Class, workers: usize, seed: u64) -> Vec<u32> {
    const TURNS: usize = 100;
    let mut random = StdRng::seed_from_u64(seed);
    let retries = RetryRate {
        per_second: NonZeroU32::MAX,
        burst: NonZeroU32::MAX,
    };
    let mut state = State::new(Limits {
        retries,
        ..Limits::default()
    });
    let names = waiting.iter().zip(0..).flat_map(|(at_once, tenant)| {
        let count = if *at_once { TURNS * waiting.len() } else { 1 };
        (0..count).map(move |number| Name { tenant, class, number })
    });
    let mut names: Vec<Name> = names.collect();
    names.shuffle(&mut random);
    for name in names {
        state.add(name, class, 0);
    }
    let mut got = vec![0; waiting.len()];
    let mut running: VecDeque<Taken<Name>> = VecDeque::new();
    for _ in 0..TURNS * waiting.len() {
        if running.len() >= workers
            && let Some(taken) = running.pop_front()
        {
            let name = taken.key;
            state.done(taken, 0);
            if !waiting[usize::from(name.tenant)] {
                state.add(name, class, 0);
            }
        }
        let taken = state.take(0).expect("there is more");
        got[usize::from(taken.key.tenant)] += 1;
        running.push_back(taken);
    }
    got
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn tenants_that_always_want_more_get_the_same(
        at_once in prop::collection::vec(any::<bool>(), 2..12),
        class in proptest::sample::select(&Class::ALL[..]),
        seed: u64,
    ) {
        // With more workers, who has one thing at a time could not get more than a worker.
        for got in shares(&at_once, class, 1, seed) {
            prop_assert!((90..=110).contains(&got), "of 100: {got}, {at_once:?}");
        }
        let all = vec![true; at_once.len()];
        for got in shares(&all, class, at_once.len() + 3, seed) {
            prop_assert!((98..=102).contains(&got), "of 100: {got}");
        }
    }
}
