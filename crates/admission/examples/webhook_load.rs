//! What a decision costs those who wait for it: `/validate` with the shipped policies beside a path that answers a constant,
//! both over TLS on kept connections, at the same rate, in turn, in one run.
//!
//!     cargo run --release -p admission --example webhook_load -- [REQUESTS_PER_SECOND] [SECONDS_OF_EACH]

#[expect(dead_code, reason = "tests need more of it")]
#[path = "../tests/admission/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use admission::webhook::{PATH, Webhook};
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use nix::time::{ClockId, clock_gettime};
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
    let production = Arc::<Production>::default();
    let (serving, authority) = server.block_on(async {
        let desk = desk(2, &planner(), Arc::clone(&production) as Arc<_>);
        desk.guard().activate(shipped());
        let router = Webhook::new(desk).router().merge(constant());
        let (serving, state) = Serving::with(router).await;
        (serving, state.authority.certificate().to_owned())
    });
    let client = Client::new(serving.address, &authority);
    let measured = runtime().block_on(measure(&client, rate, seconds));
    server.block_on(serving.stop());
    report(rate, measured, &production);
}

fn runtime() -> Runtime {
    let built = Builder::new_multi_thread().worker_threads(1).enable_all().build();
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

/// All namespaces are of production. Of decisions is kept how long they took; what keeping them costs is measured elsewhere.
#[derive(Default)]
struct Production {
    waited: Mutex<Vec<u64>>,
    evaluated: Mutex<Vec<u64>>,
}

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

    fn decided(&self, decided: &Decided) {
        let answer = &decided.answer;
        for (kept, took) in [(&self.waited, answer.waited), (&self.evaluated, answer.evaluated)] {
            kept.lock().expect("nobody panics").push(micros(took));
        }
    }

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

/// Of one path.
#[derive(Default)]
struct Measured {
    latencies_us: Vec<u64>,
    /// Of the whole process, clients too: what other processes do is not in it.
    cpu: Duration,
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .expect("a clock")
        .into()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("short")
}

async fn measure(client: &Client, rate: u32, seconds: u32) -> [Measured; 2] {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(client.connect().await.expect("a connection"));
    }
    let question: Arc<str> = question().into();
    check(&mut connections[0], &question).await;
    let mut measured = <[Measured; 2]>::default();
    let turns = WARM_UP + 1_000 * seconds / u32::try_from(TURN.as_millis()).expect("short");
    for turn in 0..turns {
        for (path, measured) in [PATH, CONSTANT].into_iter().zip(&mut measured) {
            let (begun, cpu_before) = (Instant::now(), cpu());
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
                    measured.latencies_us.extend(latencies);
                }
            }
            if turn >= WARM_UP {
                measured.cpu += cpu().saturating_sub(cpu_before);
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
        latencies.push(micros(took));
    }
    (connection, latencies)
}

/// How many, and the middle and the worst hundredth of them.
fn quantiles(mut latencies: Vec<u64>) -> (usize, [u64; 2]) {
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    (latencies.len(), [at(50), at(99)])
}

fn report(rate: u32, measured: [Measured; 2], production: &Production) {
    println!(
        "{rate} requests/s over TLS on {CONNECTIONS} kept connections, in turns of {} ms; all in us",
        TURN.as_millis()
    );
    println!("{:>12} {:>9} {:>9} {:>9} {:>9}", "", "requests", "p50", "p99", "CPU");
    let [validate, constant] = measured.map(|measured| {
        let (count, [p50, p99]) = quantiles(measured.latencies_us);
        let cpu = micros(measured.cpu) / u64::try_from(count).expect("few");
        (count, [p50, p99, cpu])
    });
    for (name, (count, [p50, p99, cpu])) in [("/validate", validate), (CONSTANT, constant)] {
        println!("{name:>12} {count:>9} {p50:>9} {p99:>9} {cpu:>9}");
    }
    let more: Vec<i64> = validate
        .1
        .iter()
        .zip(constant.1)
        .map(|(one, other)| one.cast_signed() - other.cast_signed())
        .collect();
    println!(
        "{:>12} {:>9} {:>+9} {:>+9} {:>+9}",
        "difference", "", more[0], more[1], more[2]
    );
    for (name, kept) in [("waiting", &production.waited), ("evaluation", &production.evaluated)] {
        let (count, [p50, p99]) = quantiles(std::mem::take(&mut kept.lock().expect("nobody panics")));
        println!("{name:>12} {count:>9} {p50:>9} {p99:>9}");
    }
}
