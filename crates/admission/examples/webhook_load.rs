//! What a decision costs those who wait for it: `/validate` with the shipped policies beside a path that answers a constant,
//! both over TLS on kept connections, at the same rate, in turn, in one run.
//!
//!     cargo run --release -p admission --example webhook_load -- [REQUESTS_PER_SECOND] [SECONDS_OF_EACH]

#[expect(dead_code, reason = "tests need more of it")]
#[path = "../tests/admission/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use admission::webhook::{PATH, Webhook};
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use policy::desk::{Decided, Labels, Pending, Surroundings, Unknown};
use policy::exception::PolicyException;
use serde_json::{Value, json};
use support::{Client, Connection, Serving, creation, desk, planner, shipped};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep_until};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Connections that are kept, as an API server keeps them.
const CONNECTIONS: u32 = 16;
/// How long each path has its turn.
const TURN: Duration = Duration::from_millis(500);
/// Turns of each path that are not counted.
const WARM_UP: u32 = 4;
const CONSTANT: &str = "/constant";

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<u32>().expect("a number"));
    let rate = arguments.next().unwrap_or(1_000);
    let seconds = arguments.next().unwrap_or(20);

    // The server has threads of its own, as it would beside clients on other machines.
    let server = runtime();
    let (serving, authority) = server.block_on(async {
        let desk = desk(2, &planner(), Arc::new(Production));
        desk.guard().activate(shipped());
        let router = Webhook::new(desk).router().merge(constant());
        let (serving, state) = Serving::with(router).await;
        (serving, state.authority.certificate().to_owned())
    });
    let client = Client::new(serving.address, &authority);
    let measured = runtime().block_on(measure(&client, rate, seconds));
    server.block_on(serving.stop());
    report(rate, measured);
}

fn runtime() -> Runtime {
    let built = Builder::new_current_thread().enable_all().build();
    built.expect("a runtime")
}

/// Reads the question and says what a decision that allows says.
fn constant() -> Router {
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": "u-1", "allowed": true, "auditAnnotations": {
            "decision-id": "0193e5a4-0000-7000-8000-000000000001", "bundle-revision": "policies=42", "verdict": "allow",
        }},
    });
    let answer = answer.to_string();
    let handler = move |_: Bytes| ready(([("content-type", "application/json")], answer));
    Router::new().route(CONSTANT, post(handler))
}

/// All namespaces are of production. Decisions are not kept: what that costs is measured elsewhere.
struct Production;

impl Surroundings for Production {
    fn labels<'a>(&'a self, _: &'a str) -> Pending<'a, Result<Labels, Unknown>> {
        let label = ("intent.example.com/environment".to_owned(), "production".to_owned());
        Box::pin(ready(Ok(BTreeMap::from([label]))))
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

/// A Database of production: two members, backups, monitoring.
fn question() -> String {
    let mut database = support::database("16");
    database["spec"]["highAvailability"] = json!(true);
    database["spec"]["backupPolicy"] = json!({"schedule": "0 2 * * *", "retention": "30d"});
    database["spec"]["monitoring"] = json!({"enabled": true});
    creation(&database).to_string()
}

/// Microseconds, for each path.
type Measured = [Vec<u64>; 2];

async fn measure(client: &Client, rate: u32, seconds: u32) -> Measured {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(client.connect().await.expect("a connection"));
    }
    let question: Arc<str> = question().into();
    check(&mut connections[0], &question).await;
    let mut measured = Measured::default();
    let turns = WARM_UP + 1_000 * seconds / u32::try_from(TURN.as_millis()).expect("short");
    for turn in 0..turns {
        for (path, measured) in [PATH, CONSTANT].into_iter().zip(&mut measured) {
            let begun = Instant::now();
            let drivers: Vec<_> = (0..CONNECTIONS)
                .zip(connections.drain(..))
                .map(|(number, connection)| {
                    tokio::spawn(drive(connection, (path, Arc::clone(&question)), begun, (number, rate)))
                })
                .collect();
            for driver in drivers {
                let (connection, latencies) = driver.await.expect("no request fails");
                connections.push(connection);
                if turn >= WARM_UP {
                    measured.extend(latencies);
                }
            }
        }
    }
    measured
}

/// What is measured is an answer that allows.
async fn check(connection: &mut Connection, question: &str) {
    for path in [PATH, CONSTANT] {
        let (_, text) = connection
            .send(support::post(path, question.to_owned()))
            .await
            .expect("an answer");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(answer["response"]["allowed"], true, "{answer}");
    }
}

/// The requests of one connection in a turn: each n-th of the rate. One that must wait for the one before it waited from
/// its own time on, not from when it was sent.
async fn drive(
    mut connection: Connection,
    (path, question): (&str, Arc<str>),
    begun: Instant,
    (number, rate): (u32, u32),
) -> (Connection, Vec<u64>) {
    let between = Duration::from_secs(1) / rate;
    let mut latencies = Vec::new();
    for tick in (number..).step_by(CONNECTIONS as usize) {
        let due = begun + between * tick;
        if due >= begun + TURN {
            break;
        }
        let from = if Instant::now() > due {
            due
        } else {
            sleep_until(due).await;
            Instant::now()
        };
        let request = support::post(path, question.to_string());
        let (status, text) = connection.send(request).await.expect("an answer");
        let took = from.elapsed();
        assert!(status.is_success() && text.contains("\"allowed\":true"), "{text}");
        latencies.push(u64::try_from(took.as_micros()).expect("short"));
    }
    (connection, latencies)
}

fn report(rate: u32, measured: Measured) {
    println!(
        "{rate} requests/s over TLS on {CONNECTIONS} kept connections, in turns of {} ms",
        TURN.as_millis()
    );
    println!("{:>10} {:>10} {:>10} {:>10}", "", "requests", "p50 us", "p99 us");
    let quantiles = measured.map(|mut latencies| {
        latencies.sort_unstable();
        let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
        (latencies.len(), at(50), at(99))
    });
    for (name, (count, p50, p99)) in ["/validate", CONSTANT].into_iter().zip(quantiles) {
        println!("{name:>10} {count:>10} {p50:>10} {p99:>10}");
    }
    let [(_, p50, p99), (_, least50, least99)] = quantiles;
    let more = |one: u64, other: u64| i64::try_from(one).expect("short") - i64::try_from(other).expect("short");
    println!(
        "{:>10} {:>10} {:>+10} {:>+10}",
        "difference",
        "",
        more(p50, least50),
        more(p99, least99)
    );
}
