use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, mpsc};

use api::fault::Fault;
use engines::catalogue::Catalogue;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::bundle::{Bundle, Files};
use crate::decision::Verdict;
use crate::request::{Namespace, Operation, Source};

/// Policies that refuse everything, and name their revision where they do.
fn policies(revision: &str) -> Policies {
    let mut files = Files::new();
    let manifest = json!({"revision": revision, "roots": ["database"], "rego_version": 1});
    let rule = format!(
        "package database.no\nimport rego.v1\nviolations contains {{\"id\": \"no.{revision}\", \"severity\": \"low\", \
         \"action\": \"deny\", \"path\": \"spec\", \"message\": \"no\"}} if input.object"
    );
    for (name, content) in [(".manifest", manifest.to_string()), ("database/no.rego", rule)] {
        files.add(name, content.into()).expect("a file");
    }
    let bundle = Bundle::open_unverified("no", files).expect("a bundle");
    Policies::load(&[bundle], Catalogue::builtin())
        .expect("policies")
        .with_time_limit(Duration::from_secs(30))
}

fn request() -> Request {
    Request {
        operation: Operation::Create,
        dry_run: false,
        source: Source::Cli,
        user: None,
        namespace: Namespace::default(),
        object: json!({"metadata": {"name": "orders"}, "spec": {}}),
        old: None,
    }
}

fn now() -> Timestamp {
    "2026-11-28T00:00:00Z".parse().expect("it is a time")
}

async fn ask(guard: &Guard) -> Result<Answer, Busy> {
    guard.decide(request(), Arc::default(), now()).await
}

#[expect(clippy::unnecessary_wraps, reason = "it stands for a planner")]
fn no_children(_: &Value, _: &str) -> Result<Vec<Value>, Vec<Fault>> {
    Ok(Vec::new())
}

#[tokio::test]
async fn without_policies_every_answer_is_an_error() {
    let planner: SharedPlanner = Arc::new(no_children);
    let guard = Guard::start(NonZeroUsize::MIN, &planner).expect("a thread");
    let answer = ask(&guard).await.expect("nobody else asks");
    assert_eq!((answer.decision.verdict, answer.generation), (Verdict::Error, 0));
    guard.activate(policies("1"));
    let answer = ask(&guard).await.expect("nobody else asks");
    assert_eq!((answer.decision.verdict, answer.generation), (Verdict::Deny, 1));
}

/// Holds a thread until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let open = self.open.lock().expect("nobody panics");
        drop(self.opened.wait_while(open, |open| !*open).expect("nobody panics"));
    }

    fn open(&self) {
        *self.open.lock().expect("nobody panics") = true;
        self.opened.notify_all();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_would_wait_for_long_is_told_at_once() {
    let gate = Arc::<Gate>::default();
    let (entered, enters) = mpsc::channel();
    let planner: SharedPlanner = {
        let gate = Arc::clone(&gate);
        let entered = Mutex::new(entered);
        Arc::new(move |object: &Value, namespace: &str| {
            entered.lock().expect("nobody panics").send(()).expect("the test waits");
            gate.pass();
            no_children(object, namespace)
        })
    };
    let guard = Guard::start(NonZeroUsize::MIN, &planner).expect("a thread");
    guard.activate(policies("1"));
    let mut asked = JoinSet::new();
    let spawn = |asked: &mut JoinSet<_>| {
        let guard = guard.clone();
        asked.spawn(async move { ask(&guard).await });
    };
    spawn(&mut asked);
    tokio::task::spawn_blocking(move || enters.recv().map(|()| enters))
        .await
        .expect("no panic")
        .expect("the thread has the first question");
    for _ in 0..2 * WAITING_PER_THREAD {
        spawn(&mut asked);
    }
    let mut refused = 0;
    while refused < WAITING_PER_THREAD {
        let answer = asked.join_next().await.expect("more were asked").expect("no panic");
        assert_eq!(
            answer.err(),
            Some(Busy),
            "nothing else can end while the thread is held"
        );
        refused += 1;
    }
    gate.open();
    let mut answered = 0;
    while let Some(answer) = asked.join_next().await {
        answer.expect("no panic").expect("it waited, and was answered");
        answered += 1;
    }
    assert_eq!(answered, 1 + WAITING_PER_THREAD);
}

#[tokio::test]
async fn what_panics_is_an_error_and_the_thread_goes_on() {
    let calls = AtomicUsize::new(0);
    let planner: SharedPlanner = Arc::new(move |object: &Value, namespace: &str| {
        assert!(calls.fetch_add(1, Ordering::Relaxed) > 0, "the first one");
        no_children(object, namespace)
    });
    let guard = Guard::start(NonZeroUsize::MIN, &planner).expect("a thread");
    guard.activate(policies("1"));
    let verdict = async || ask(&guard).await.expect("nobody else asks").decision.verdict;
    assert_eq!(verdict().await, Verdict::Error);
    assert_eq!(verdict().await, Verdict::Deny);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_is_of_the_policies_that_it_names() {
    let planner: SharedPlanner = Arc::new(no_children);
    let guard = Guard::start(NonZeroUsize::new(4).expect("it is not 0"), &planner).expect("threads");
    let versions = ["a", "b"].map(|revision| Arc::new(policies(revision)));
    guard.activate(Arc::clone(&versions[0]));
    let mut asked = JoinSet::new();
    for _ in 0..100 {
        let guard = guard.clone();
        asked.spawn(async move {
            let mut answered = Vec::new();
            while answered.len() < 20 {
                match ask(&guard).await {
                    Ok(answer) => answered.push(answer),
                    Err(Busy) => tokio::task::yield_now().await,
                }
            }
            answered
        });
    }
    let swapping = {
        let guard = guard.clone();
        tokio::spawn(async move {
            for next in versions.iter().cycle().skip(1) {
                guard.activate(Arc::clone(next));
                tokio::task::yield_now().await;
            }
        })
    };
    let mut seen = [0, 0];
    while let Some(answered) = asked.join_next().await {
        for answer in answered.expect("no panic") {
            let named = &answer.decision.bundles["no"].revision;
            assert_eq!(answer.decision.violations[0].id, format!("no.{named}"));
            // The first one was `a`, and they took turns.
            assert_eq!(answer.generation % 2 == 1, named == "a", "{}", answer.generation);
            seen[usize::from(named == "b")] += 1;
        }
    }
    swapping.abort();
    assert_eq!(seen[0] + seen[1], 2000);
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}
