//! What `/validate` answers, to whatever is sent.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use admission::webhook::{BODY_BYTES, Hears, LARGE_BODIES_BYTES, Outcome, REQUESTS, Shed, Webhook};
use axum::body::Body;
use futures::future::join_all;
use futures::stream;
use http::{Method, Request, StatusCode};
use policy::desk::{Decided, Labels, Pending, Surroundings, Unknown};
use policy::exception::PolicyException;
use policy::guard::SharedPlanner;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::support::{
    Client, Connection, PATIENCE, SERVER, Serving, Staging, creation, database, denies, desk, planner, post, rules,
    shipped,
};

/// A webhook that refuses everything, a server, a client.
async fn refusing() -> (Webhook, Serving, Client) {
    let desk = desk(1, &planner(), Arc::new(Staging::default()));
    desk.guard().activate(denies("r1", "input.object"));
    serving(Webhook::new(desk)).await
}

async fn serving(webhook: Webhook) -> (Webhook, Serving, Client) {
    let (serving, state) = Serving::with(webhook.router()).await;
    let client = Client::new(serving.address, state.authority.certificate());
    (webhook, serving, client)
}

/// Hears of each answer, and of what was turned away.
#[derive(Default)]
struct Heard {
    answered: Mutex<Vec<(Outcome, Duration)>>,
    shed: Mutex<Vec<Shed>>,
}

impl Heard {
    fn outcomes(&self) -> Vec<Outcome> {
        let answered = self.answered.lock().expect("nobody panics");
        answered.iter().map(|(outcome, _)| *outcome).collect()
    }

    fn shed(&self) -> Vec<Shed> {
        self.shed.lock().expect("nobody panics").clone()
    }
}

impl Hears for Heard {
    fn answered(&self, outcome: Outcome, after: Duration) {
        self.answered.lock().expect("nobody panics").push((outcome, after));
    }

    fn shed(&self, reason: Shed) {
        self.shed.lock().expect("nobody panics").push(reason);
    }
}

async fn connected(client: &Client) -> Connection {
    client.connect().await.expect("a connection")
}

#[tokio::test]
async fn the_shipped_policies_answer() {
    let desk = desk(1, &planner(), Arc::new(Staging::default()));
    desk.guard().activate(shipped());
    let (webhook, _serving, client) = serving(Webhook::new(desk)).await;
    let mut connection = connected(&client).await;
    let allowed = connection.review(&creation(&database("18"))).await;
    assert_eq!(
        (&allowed["allowed"], &allowed["uid"]),
        (&json!(true), &json!("u-1")),
        "{allowed}"
    );
    let mut large = database("18");
    large["spec"]["resources"]["limits"]["cpu"] = json!("9");
    let denied = connection.review(&creation(&large)).await;
    assert_eq!(denied["allowed"], false);
    let cause = &denied["status"]["details"]["causes"][0];
    assert_eq!(
        (&cause["field"], &cause["reason"]),
        (&json!("spec.resources.limits.cpu"), &json!("governance.max-cpu"))
    );
    assert_eq!(
        (webhook.count(Outcome::Allowed), webhook.count(Outcome::Denied)),
        (1, 1)
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(?s).{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z]{0,8}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// A review with one field changed, JSON that is none, or no JSON.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let fields = vec![
        "/request",
        "/request/uid",
        "/request/operation",
        "/request/namespace",
        "/request/userInfo",
        "/request/dryRun",
        "/request/object",
        "/request/object/spec",
        "/request/object/metadata",
        "/request/object/spec/version",
        "/kind",
    ];
    prop_oneof![
        4 => (prop::sample::select(fields), any_json()).prop_map(|(field, value)| {
            let mut review = creation(&database("18"));
            *review.pointer_mut(field).expect("it is there") = value;
            review.to_string().into_bytes()
        }),
        1 => any_json().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

/// Refused with the uid that was asked about, or an HTTP error with words.
fn is_well_formed(body: &[u8], status: StatusCode, text: &str) -> Result<(), String> {
    if status == StatusCode::BAD_REQUEST {
        return if text.trim().len() > 10 {
            Ok(())
        } else {
            Err("no words".to_owned())
        };
    }
    let asked: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let response = &answer["response"];
    let status = &response["status"];
    let holds = answer["apiVersion"] == "admission.k8s.io/v1"
        && answer["kind"] == "AdmissionReview"
        && response["uid"] == asked["request"]["uid"]
        && response["allowed"] == false
        && status["message"].as_str().is_some_and(|message| !message.is_empty())
        && status["code"].as_i64().is_some_and(|code| code >= 400);
    if holds { Ok(()) } else { Err(answer.to_string()) }
}

#[test]
fn anything_in_gets_a_well_formed_refusal_out() {
    let runtime = Runtime::new().expect("threads");
    let (_webhook, _serving, mut connection) = runtime.block_on(async {
        let (webhook, serving, client) = refusing().await;
        let connection = connected(&client).await;
        (webhook, serving, connection)
    });
    let mut runner = TestRunner::new(Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    });
    let connection = Mutex::new(&mut connection);
    let checked = runner.run(&any_body(), |body| {
        let mut connection = connection.lock().expect("nobody panics");
        let (status, text) = runtime.block_on(connection.post(body.clone())).expect("an answer");
        is_well_formed(&body, status, &text).map_err(TestCaseError::fail)
    });
    checked.expect("all are refused");
}

#[tokio::test]
async fn too_large_a_body_is_refused_in_words_and_the_largest_is_read() {
    let (webhook, _serving, client) = refusing().await;
    let whole = vec![b' '; BODY_BYTES + 1];
    let chunks = stream::iter((0..9).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 20])));
    for body in [Body::from(whole), Body::from_stream(chunks)] {
        let sent = connected(&client).await.send(post("/validate", body)).await;
        let (status, text) = sent.expect("an answer");
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(text.contains("8388608 bytes"), "{text}");
    }
    assert_eq!(webhook.count(Outcome::TooLarge), 2);
    let mut review = creation(&database("18")).to_string();
    review.push_str(&" ".repeat(BODY_BYTES - review.len()));
    let (status, text) = connected(&client).await.post(review).await.expect("an answer");
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("refused by revision r1"), "{text}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let (webhook, _serving, client) = refusing().await;
    let body = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let begun = Instant::now();
    let sent = connected(&client).await.send(post("/validate?timeout=1s", body)).await;
    let (status, text) = sent.expect("an answer");
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{text}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(webhook.count(Outcome::Late), 1);
}

#[tokio::test]
async fn large_bodies_that_do_not_come_are_not_in_the_way_of_usual_ones() {
    let (webhook, _serving, client) = refusing().await;
    let large = || {
        let body = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let mut request = post("/validate?timeout=1s", body);
        request.headers_mut().insert("content-length", BODY_BYTES.into());
        let client = client.clone();
        tokio::spawn(async move { connected(&client).await.send(request).await.expect("an answer").0 })
    };
    // The last of them finds no room.
    let sent: Vec<_> = (0..=LARGE_BODIES_BYTES / BODY_BYTES).map(|_| large()).collect();
    let mut connection = connected(&client).await;
    while webhook.count(Outcome::Late) == 0 {
        let response = connection.review(&creation(&database("18"))).await;
        assert_eq!(response["status"]["code"], 403, "{response}");
    }
    for status in join_all(sent).await {
        assert_eq!(status.expect("it ends"), StatusCode::REQUEST_TIMEOUT);
    }
}

#[tokio::test]
async fn a_large_body_for_which_there_is_no_room_is_turned_away() {
    let desk = desk(1, &planner(), Arc::new(Staging::default()));
    let heard = Arc::new(Heard::default());
    let (_webhook, _serving, client) = serving(Webhook::told(desk, REQUESTS, Arc::clone(&heard) as Arc<_>)).await;
    let large = |seconds: u32| {
        let body = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let mut request = post(&format!("/validate?timeout={seconds}s"), body);
        request.headers_mut().insert("content-length", BODY_BYTES.into());
        let client = client.clone();
        async move { connected(&client).await.send(request).await.expect("an answer").0 }
    };
    let hold = join_all((0..LARGE_BODIES_BYTES / BODY_BYTES).map(|_| async {
        loop {
            large(5).await;
        }
    }));
    let turned_away = async {
        while heard.shed().is_empty() {
            assert_eq!(large(1).await, StatusCode::REQUEST_TIMEOUT);
        }
    };
    tokio::select! {
        _ = hold => unreachable!("they hold it for ever"),
        ended = tokio::time::timeout(PATIENCE, turned_away) => ended.expect("there is no room"),
    }
    assert_eq!(heard.shed(), [Shed::Room]);
    let (outcome, after) = heard.answered.lock().expect("nobody panics")[0];
    assert_eq!(outcome, Outcome::Late);
    assert!(after >= Duration::from_millis(800), "{after:?}");
}

#[tokio::test]
async fn other_paths_and_methods_are_none() {
    let (_webhook, _serving, client) = refusing().await;
    let mut connection = connected(&client).await;
    for (method, path, expected) in [
        (Method::GET, "/validate", StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "/", StatusCode::NOT_FOUND),
    ] {
        let request = Request::builder().method(method).uri(path).header("host", SERVER);
        let sent = connection.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(sent.expect("an answer").0, expected);
    }
}

/// Holds whoever passes until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn planner(self: &Arc<Self>) -> SharedPlanner {
        let gate = Arc::clone(self);
        Arc::new(move |_: &Value, _: &str| {
            let open = gate.open.lock().expect("nobody panics");
            drop(gate.opened.wait_while(open, |open| !*open).expect("nobody panics"));
            Ok(Vec::new())
        })
    }

    fn open(&self) {
        *self.open.lock().expect("nobody panics") = true;
        self.opened.notify_all();
    }
}

#[tokio::test]
async fn who_asks_beside_too_many_is_told_to_come_again() {
    let (gate, heard) = (Arc::new(Gate::default()), Arc::new(Heard::default()));
    let desk = desk(1, &gate.planner(), Arc::new(Staging::default()));
    desk.guard().activate(rules("r1", "violations contains 1 if false"));
    let (webhook, _serving, client) = serving(Webhook::told(desk, REQUESTS, Arc::clone(&heard) as Arc<_>)).await;
    // One is with the thread, 8 wait; so of 12 at least 3 are turned away, at once: nobody else is answered yet.
    let ask = || async {
        let response = connected(&client).await.review(&creation(&database("18"))).await;
        if response["status"]["code"] == 429 {
            assert_eq!(response["status"]["reason"], "TooManyRequests");
            assert_eq!(response["status"]["details"]["retryAfterSeconds"], 1);
            if webhook.count(Outcome::Busy) >= 3 {
                gate.open();
            }
            return false;
        }
        assert_eq!(response["allowed"], true, "{response}");
        true
    };
    let answered = join_all((0..12).map(|_| ask())).await;
    let allowed = answered.iter().filter(|allowed| **allowed).count();
    assert!((8..=9).contains(&allowed), "{answered:?}");
    // And a moment later there is room.
    assert!(ask().await);
    assert_eq!(heard.shed(), vec![Shed::Policies; 12 - allowed]);
    let mut outcomes = heard.outcomes();
    outcomes.sort_by_key(|outcome| *outcome as usize);
    let expected = [vec![Outcome::Allowed; allowed + 1], vec![Outcome::Busy; 12 - allowed]];
    assert_eq!(outcomes, expected.concat());
}

#[tokio::test]
async fn what_takes_too_long_is_refused_before_the_api_server_gives_up() {
    let gate = Arc::new(Gate::default());
    let desk = desk(1, &gate.planner(), Arc::new(Staging::default()));
    desk.guard().activate(rules("r1", "violations contains 1 if false"));
    let (webhook, _serving, client) = serving(Webhook::new(desk)).await;
    let request = post("/validate?timeout=1s", creation(&database("18")).to_string());
    let sent = connected(&client).await.send(request).await;
    gate.open();
    let answer: Value = serde_json::from_str(&sent.expect("an answer").1).expect("JSON");
    let response = &answer["response"];
    assert_eq!(
        (&response["allowed"], &response["status"]["code"]),
        (&json!(false), &json!(504))
    );
    assert_eq!(webhook.count(Outcome::Late), 1);
}

#[tokio::test]
async fn without_policies_nothing_is_allowed() {
    let desk = desk(1, &planner(), Arc::new(Staging::default()));
    let (webhook, _serving, client) = serving(Webhook::new(desk)).await;
    let response = connected(&client).await.review(&creation(&database("18"))).await;
    assert_eq!(
        (&response["allowed"], &response["status"]["code"]),
        (&json!(false), &json!(500))
    );
    assert_eq!(response["status"]["reason"], "PolicyError");
    assert_eq!(webhook.count(Outcome::Error), 1);
}

/// Knows no labels until it is told to.
struct Slow {
    asked: watch::Sender<usize>,
    go: watch::Sender<bool>,
}

impl Surroundings for Slow {
    fn labels<'a>(&'a self, _: &'a str) -> Pending<'a, Result<Labels, Unknown>> {
        self.asked.send_modify(|asked| *asked += 1);
        let mut go = self.go.subscribe();
        Box::pin(async move {
            let told = go.wait_for(|go| *go).await;
            told.map(|_| Labels::new()).map_err(|error| error.to_string())
        })
    }

    fn exceptions(&self) -> Arc<[PolicyException]> {
        Arc::default()
    }

    fn basis(&self, _: &str) -> u64 {
        0
    }

    fn decided(&self, _: &Decided) {}
    fn shed(&self) {}
}

/// Fewer than in production, so that all of them are there before the first of them is late.
const PLACES: usize = 4;

#[tokio::test]
async fn no_more_than_so_many_wait_for_labels() {
    let slow = Arc::new(Slow {
        asked: watch::Sender::new(0),
        go: watch::Sender::new(false),
    });
    let (desk, heard) = (
        desk(1, &planner(), Arc::clone(&slow) as Arc<dyn Surroundings>),
        Arc::new(Heard::default()),
    );
    desk.guard().activate(rules("r1", "violations contains 1 if false"));
    let (webhook, _serving, client) = serving(Webhook::told(desk, PLACES, Arc::clone(&heard) as Arc<_>)).await;
    let waiting: Vec<_> = (0..PLACES)
        .map(|_| {
            let client = client.clone();
            let request = post("/validate", creation(&database("18")).to_string());
            tokio::spawn(async move { connected(&client).await.send(request).await.expect("an answer") })
        })
        .collect();
    let mut asked = slow.asked.subscribe();
    let all = tokio::time::timeout(PATIENCE, asked.wait_for(|asked| *asked == PLACES)).await;
    all.expect("all have come").expect("they are counted");
    let response = connected(&client).await.review(&creation(&database("18"))).await;
    assert_eq!(response["status"]["code"], 429);
    slow.go.send_replace(true);
    for answered in join_all(waiting).await {
        assert_eq!(answered.expect("it ends").0, StatusCode::OK);
    }
    assert_eq!((heard.shed(), webhook.count(Outcome::Busy)), (vec![Shed::Requests], 1));
}

#[tokio::test]
async fn who_does_not_wait_is_counted_and_makes_room() {
    let slow = Arc::new(Slow {
        asked: watch::Sender::new(0),
        go: watch::Sender::new(false),
    });
    let desk = desk(1, &planner(), Arc::clone(&slow) as Arc<dyn Surroundings>);
    desk.guard().activate(rules("r1", "violations contains 1 if false"));
    let (webhook, _serving, client) = serving(Webhook::with_requests(desk, 1)).await;
    let review = creation(&database("18"));
    let mut connection = connected(&client).await;
    let asks = connection.post(review.to_string());
    let mut asked = slow.asked.subscribe();
    tokio::select! {
        answer = asks => panic!("{answer:?}"),
        told = asked.wait_for(|asked| *asked == 1) => drop(told.expect("it is counted")),
    }
    drop(connection);
    let gone = async {
        while webhook.count(Outcome::Gone) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it is noticed");
    slow.go.send_replace(true);
    let response = connected(&client).await.review(&review).await;
    assert_eq!(response["allowed"], true, "{response}");
}
