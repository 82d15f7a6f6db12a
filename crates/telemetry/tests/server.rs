//! The three pages, over a real connection.

use std::net::SocketAddr;
use std::time::Duration;

use telemetry::{Health, Metrics, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

struct Running {
    address: SocketAddr,
    health: Health,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), telemetry::server::ServerError>>,
}

async fn start(stuck_after: Duration) -> Running {
    let health = Health::new(stuck_after);
    let metrics = Metrics::new("1.2.3").expect("metrics");
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
    let address = server.address();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.serve(health.clone(), metrics, async {
        stopped.await.expect("the test stops it");
    }));
    Running {
        address,
        health,
        stop,
        task,
    }
}

/// The whole answer: status line, headers, body.
async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

#[track_caller]
fn assert_answer(answer: &str, status: u16, body: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert_eq!(answer.split_once("\r\n\r\n").expect("a body").1, body);
}

#[tokio::test]
async fn ready_only_when_it_says_so_with_the_reason() {
    let running = start(Duration::from_mins(1)).await;
    assert_answer(&get(running.address, "/readyz").await, 503, "starting\n");
    running.health.set_ready(true, "caches are complete");
    assert_answer(&get(running.address, "/readyz").await, 200, "ok: caches are complete\n");
    running.health.set_ready(false, "stopping");
    assert_answer(&get(running.address, "/readyz").await, 503, "stopping\n");
}

#[tokio::test]
async fn alive_until_a_worker_is_stuck() {
    let running = start(Duration::from_millis(20)).await;
    assert_answer(&get(running.address, "/healthz").await, 200, "ok\n");
    let busy = running.health.busy();
    tokio::time::sleep(Duration::from_millis(40)).await;
    let answer = get(running.address, "/healthz").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("stuck for"),
        "{answer}"
    );
    drop(busy);
    assert_answer(&get(running.address, "/healthz").await, 200, "ok\n");
}

#[tokio::test]
async fn metrics_come_in_the_format_of_prometheus_and_other_pages_do_not_exist() {
    let running = start(Duration::from_mins(1)).await;
    let answer = get(running.address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(
        answer.contains("\nworkqueue_depth{name=\"database\",priority=\"resync\"} 0\n"),
        "{answer}"
    );
    assert!(get(running.address, "/").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn it_stops_although_a_client_stays_connected_and_then_refuses() {
    let running = start(Duration::from_mins(1)).await;
    let mut stream = TcpStream::connect(running.address).await.expect("connects");
    // Half a request: this client will never be done.
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.expect("sent");
    assert_answer(&get(running.address, "/healthz").await, 200, "ok\n");
    running.stop.send(()).expect("it runs");
    timeout(Duration::from_secs(5), running.task)
        .await
        .expect("in time")
        .expect("no panic")
        .expect("no error");
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn a_busy_address_is_named_with_the_way_out() {
    let running = start(Duration::from_mins(1)).await;
    let error = Server::bind(running.address).await.expect_err("busy");
    let expected = format!(
        "health server: cannot listen on {}; choose another with --health-address",
        running.address
    );
    assert_eq!(error.to_string(), expected);
}
