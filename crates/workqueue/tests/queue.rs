//! The shell, on a clock that the tests advance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep, timeout};
use workqueue::{Backoff, Class, Counts, Key, Limits, Metrics, Queue};

const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(100),
    cap: Duration::from_secs(1),
};

fn limits() -> Limits {
    Limits {
        backoff: BACKOFF,
        ..Limits::default()
    }
}

/// Retries wait for their whole ceiling.
fn queue() -> Queue<&'static str> {
    Queue::new(limits(), clock(), || u64::MAX, ())
}

/// The clock of the runtime, in microseconds.
fn clock() -> impl Fn() -> u64 {
    let zero = Instant::now();
    move || u64::try_from(zero.elapsed().as_micros()).expect("tests are short")
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

async fn nothing(queue: &Queue<&'static str>, within: Duration) {
    assert!(
        timeout(within, queue.get()).await.is_err(),
        "nothing is due within {within:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn more_urgent_classes_go_first_and_equals_in_order_of_arrival() {
    let queue = queue();
    queue.add("resync", Class::Resync);
    queue.add("drift", Class::ChildDrift);
    queue.add("first change", Class::UserChange);
    queue.add("second change", Class::UserChange);
    queue.add("deletion", Class::Deletion);
    assert_eq!(queue.len(), 5);
    for expected in ["deletion", "first change", "second change", "drift", "resync"] {
        assert_eq!(*queue.get().await.expect("open").key(), expected);
    }
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_key_added_many_times_runs_once_with_its_most_urgent_class() {
    let queue = queue();
    for class in [Class::Resync, Class::UserChange, Class::ChildDrift] {
        queue.add("a", class);
    }
    let item = queue.get().await.expect("open");
    assert_eq!((*item.key(), item.class()), ("a", Class::UserChange));
    item.done();
    nothing(&queue, ms(1_000)).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_added_while_worked_on_waits_and_then_runs_again() {
    let queue = queue();
    queue.add("a", Class::UserChange);
    let item = queue.get().await.expect("open");
    queue.add("a", Class::ChildDrift);
    nothing(&queue, ms(1_000)).await;
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.get().await.expect("open").class() }
    });
    sleep(ms(1)).await;
    item.done();
    let class = timeout(ms(10), waiting).await.expect("it is woken").expect("no panic");
    assert_eq!(class, Class::ChildDrift);
}

#[tokio::test(start_paused = true)]
async fn the_earliest_deadline_wins() {
    let queue = queue();
    let start = Instant::now();
    queue.add_after("a", Class::Resync, ms(300));
    queue.add_after("a", Class::Resync, ms(200));
    queue.add_after("a", Class::Resync, ms(900));
    let item = queue.get().await.expect("open");
    assert_eq!(start.elapsed(), ms(200));
    item.done();
    nothing(&queue, ms(5_000)).await;
}

#[tokio::test(start_paused = true)]
async fn an_add_makes_a_delayed_key_immediate_and_its_deadline_is_spent() {
    let queue = queue();
    let start = Instant::now();
    queue.add_after("a", Class::Resync, ms(300));
    queue.add("a", Class::ChildDrift);
    queue.get().await.expect("open").done();
    assert_eq!(start.elapsed(), Duration::ZERO);
    nothing(&queue, ms(5_000)).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_asked_for_while_working_counts_from_then() {
    let queue = queue();
    queue.add("a", Class::UserChange);
    let item = queue.get().await.expect("open");
    let start = Instant::now();
    queue.add_after("a", Class::Resync, ms(400));
    sleep(ms(100)).await;
    item.done();
    assert_eq!(queue.get().await.expect("open").class(), Class::Resync);
    assert_eq!(start.elapsed(), ms(400));
}

#[tokio::test(start_paused = true)]
async fn retries_back_off_to_the_cap_and_forgetting_begins_anew() {
    let queue = queue();
    queue.add("a", Class::UserChange);
    for (failures, wait_ms) in [(0, 100), (1, 200), (2, 400), (3, 800), (4, 1_000), (5, 1_000)] {
        let start = Instant::now();
        let item = queue.get().await.expect("open");
        assert_eq!(item.failures(), failures);
        assert_eq!(queue.retry("a"), ms(wait_ms));
        item.done();
        nothing(&queue, ms(wait_ms - 1)).await;
        queue.get().await.expect("open").done();
        assert_eq!(start.elapsed(), ms(wait_ms));
        queue.add("a", Class::UserChange);
    }
    queue.forget(&"a");
    assert_eq!(queue.get().await.expect("open").failures(), 0);
    assert_eq!(queue.retry("a"), ms(100));
}

#[tokio::test(start_paused = true)]
async fn shutdown_answers_all_who_wait_hands_out_nothing_and_waits_for_work() {
    let queue = queue();
    queue.add("running", Class::UserChange);
    let item = queue.get().await.expect("open");
    let mut waiting = JoinSet::new();
    for _ in 0..16 {
        let queue = queue.clone();
        waiting.spawn(async move { queue.get().await.is_none() });
    }
    sleep(ms(10)).await;
    queue.add_after("later", Class::Resync, ms(1));
    queue.shutdown();
    let start = Instant::now();
    let answers = timeout(ms(10), waiting.join_all()).await.expect("they are woken");
    assert!(answers.into_iter().all(|none| none));
    assert_eq!(start.elapsed(), Duration::ZERO, "no one waits for a timer");

    queue.add("running", Class::UserChange);
    assert_eq!(queue.retry("running"), Duration::ZERO);
    assert!(queue.get().await.is_none());
    assert_eq!(
        queue.counts(),
        Counts {
            delayed: 1,
            working: 1,
            ..Counts::default()
        }
    );

    assert!(timeout(ms(500), queue.drained()).await.is_err(), "a run is in progress");
    let drained = tokio::spawn({
        let queue = queue.clone();
        async move { queue.drained().await }
    });
    sleep(ms(1)).await;
    item.done();
    timeout(ms(10), drained).await.expect("it is woken").expect("no panic");
    queue.drained().await;
}

#[tokio::test(start_paused = true)]
async fn an_open_queue_is_not_drained() {
    let queue = queue();
    assert!(timeout(ms(1_000), queue.drained()).await.is_err());
}

/// Workers that wait know different deadlines, or none; whichever of them are busy, a deadline is kept if one is idle.
#[tokio::test(start_paused = true)]
async fn deadlines_are_kept_whichever_workers_are_busy() {
    for workers in 1..=4 {
        for delayed in 1..=workers {
            for immediate in 0..=workers - delayed {
                let queue: Queue<Number> = Queue::new(limits(), clock(), || u64::MAX, ());
                let mut tasks = JoinSet::new();
                for _ in 0..workers {
                    let queue = queue.clone();
                    tasks.spawn(async move {
                        let mut waits = Vec::new();
                        while let Some(item) = queue.get().await {
                            waits.push(item.waited());
                            // For longer than the test: a worker takes one key.
                            sleep(ms(60_000)).await;
                        }
                        waits
                    });
                }
                sleep(ms(1)).await;
                for key in 0..delayed {
                    let delay = Duration::from_secs(5 - u64::try_from(key).expect("small"));
                    queue.add_after(Number(key), Class::Resync, delay);
                    sleep(ms(1)).await;
                }
                for key in 0..immediate {
                    queue.add(Number(100 + key), Class::Resync);
                    sleep(ms(1)).await;
                }
                sleep(ms(10_000)).await;
                queue.shutdown();
                let waits = tasks.join_all().await.concat();
                let expected = vec![Duration::ZERO; delayed + immediate];
                assert_eq!(
                    waits, expected,
                    "{workers} workers, {delayed} deadlines, {immediate} at once"
                );
            }
        }
    }
}

/// Also if the one who knew gives up waiting.
#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept_although_the_worker_that_heard_of_it_was_cancelled() {
    let queue = queue();
    let start = Instant::now();
    let impatient = tokio::spawn({
        let queue = queue.clone();
        async move { timeout(ms(100), queue.get()).await.is_err() }
    });
    sleep(ms(1)).await;
    let patient = tokio::spawn({
        let queue = queue.clone();
        async move { *queue.get().await.expect("open").key() }
    });
    sleep(ms(1)).await;
    // Wakes the one that has waited longest.
    queue.add_after("a", Class::Resync, ms(1_000));
    assert!(impatient.await.expect("no panic"));
    let key = timeout(ms(2_000), patient)
        .await
        .expect("it is woken")
        .expect("no panic");
    assert_eq!(key, "a");
    assert_eq!(start.elapsed(), ms(1_002));
}

/// A run ends also when its worker panics.
#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_run() {
    let queue = queue();
    queue.add("a", Class::UserChange);
    let worker = tokio::spawn({
        let queue = queue.clone();
        async move {
            let _item = queue.get().await.expect("open");
            panic!("a defect in a reconcile");
        }
    });
    assert!(worker.await.expect_err("it panicked").is_panic());
    assert_eq!(queue.counts(), Counts::default());
    queue.add("a", Class::UserChange);
    assert_eq!(*queue.get().await.expect("open").key(), "a");
}

#[derive(Default)]
struct Counted {
    added: AtomicU64,
    waited_ms: AtomicU64,
    worked_ms: AtomicU64,
    retried: AtomicU64,
    shed: AtomicU64,
}

#[derive(Clone, Default)]
struct Recorder(Arc<Counted>);

fn add_ms(sum: &AtomicU64, duration: Duration) {
    sum.fetch_add(u64::try_from(duration.as_millis()).expect("short"), Ordering::Relaxed);
}

impl Metrics for Recorder {
    fn added(&self, _: Class, runs: u64) {
        self.0.added.fetch_add(runs, Ordering::Relaxed);
    }
    fn waited(&self, _: Class, wait: Duration) {
        add_ms(&self.0.waited_ms, wait);
    }
    fn worked(&self, work: Duration) {
        add_ms(&self.0.worked_ms, work);
    }
    fn retried(&self) {
        self.0.retried.fetch_add(1, Ordering::Relaxed);
    }
    fn shed(&self, requests: u64) {
        self.0.shed.fetch_add(requests, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn every_run_is_counted_once_with_its_times() {
    let recorder = Recorder::default();
    let queue = Queue::new(limits(), clock(), || u64::MAX, recorder.clone());
    queue.add("a", Class::UserChange);
    queue.add("a", Class::UserChange);
    advance(ms(30)).await;
    let item = queue.get().await.expect("open");
    assert_eq!(item.waited(), ms(30));
    advance(ms(7)).await;
    assert_eq!(queue.in_work().longest, ms(7));
    queue.retry("a");
    item.done();
    queue.get().await.expect("open").done();

    let counted = |value: &AtomicU64| value.load(Ordering::Relaxed);
    assert_eq!(counted(&recorder.0.added), 2);
    assert_eq!(counted(&recorder.0.waited_ms), 30);
    assert_eq!(counted(&recorder.0.worked_ms), 7);
    assert_eq!(counted(&recorder.0.retried), 1);
}

/// Of three tenants and seven groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Number(usize);

impl Key for Number {
    type Tenant = usize;

    fn tenant(&self) -> &usize {
        &TENANTS[self.0 % TENANTS.len()]
    }

    fn group(&self) -> usize {
        self.0 % 7
    }
}

const TENANTS: [usize; 3] = [0, 1, 2];

#[tokio::test(start_paused = true)]
async fn a_group_is_removed_with_all_that_was_asked_for() {
    let queue: Queue<Number> = Queue::new(limits(), clock(), || u64::MAX, ());
    for number in 0..21 {
        queue.add(Number(number), Class::UserChange);
        queue.add_after(Number(number + 21), Class::Resync, ms(5));
        queue.retry(Number(number + 42));
    }
    let item = queue.get().await.expect("open");
    assert_eq!(item.key().group(), 0);
    queue.add(*item.key(), Class::UserChange);
    queue.remove_group(0);
    item.done();
    let mut left = Vec::new();
    while let Ok(Some(item)) = timeout(ms(5_000), queue.get()).await {
        left.push(item.key().0);
        queue.forget(&Number(item.key().0));
    }
    left.sort_unstable();
    let expected: Vec<usize> = (0..63).filter(|number| number % 7 != 0).collect();
    assert_eq!(left, expected);
    assert_eq!(queue.counts(), Counts::default());
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_sheds_resyncs_and_asks_for_everything_again_once_there_is_room() {
    let recorder = Recorder::default();
    let limits = Limits {
        capacity: 4,
        ..limits()
    };
    let queue: Queue<Number> = Queue::new(limits, clock(), || u64::MAX, recorder.clone());
    for number in 0..4 {
        queue.add(Number(number), Class::Resync);
    }
    for number in 4..7 {
        queue.add(Number(number), Class::UserChange);
    }
    queue.add(Number(7), Class::Resync);
    assert_eq!(recorder.0.shed.load(Ordering::Relaxed), 4);
    assert_eq!(queue.len(), 4);
    assert!(timeout(ms(1), queue.recall()).await.is_err(), "it is full");
    for class in [Class::UserChange, Class::UserChange] {
        let item = queue.get().await.expect("open");
        assert_eq!(item.class(), class);
    }
    timeout(ms(1), queue.recall()).await.expect("there is room");
    assert!(timeout(ms(1), queue.recall()).await.is_err(), "said once");
}

/// Real threads: no key is lost, none runs twice at once, and all come to an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_workers_never_share_a_key_and_lose_none() {
    const KEYS: usize = 50;
    const ADDS: usize = 20_000;
    let queue: Queue<Number> = Queue::new(limits(), clock(), || u64::MAX, ());
    let busy: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
    // What was asked for last, and what a run has seen last: equal in the end, or a request was lost.
    let asked: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
    let seen: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
    let mut workers = JoinSet::new();
    for _ in 0..16 {
        let (queue, busy, asked, seen) = (queue.clone(), busy.clone(), asked.clone(), seen.clone());
        workers.spawn(async move {
            while let Some(item) = queue.get().await {
                let key = item.key().0;
                assert_eq!(
                    busy[key].fetch_add(1, Ordering::SeqCst),
                    0,
                    "key {key} is worked on twice"
                );
                let latest = asked[key].load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                seen[key].store(latest, Ordering::SeqCst);
                busy[key].fetch_sub(1, Ordering::SeqCst);
            }
        });
    }
    for number in 0..ADDS {
        let key = (number * 7) % KEYS;
        asked[key].fetch_add(1, Ordering::SeqCst);
        match number % 3 {
            0 => queue.add_after(Number(key), Class::Resync, Duration::from_micros(300)),
            _ => queue.add(Number(key), Class::ALL[number % Class::ALL.len()]),
        }
        if number % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    timeout(Duration::from_secs(20), async {
        while queue.counts() != Counts::default() {
            sleep(ms(1)).await;
        }
    })
    .await
    .expect("everything runs in the end");
    queue.shutdown();
    queue.drained().await;
    workers.join_all().await;
    for key in 0..KEYS {
        assert_eq!(
            seen[key].load(Ordering::SeqCst),
            asked[key].load(Ordering::SeqCst),
            "key {key}"
        );
    }
}
