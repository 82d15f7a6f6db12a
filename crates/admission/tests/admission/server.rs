//! Connections: handshakes, certificates that change, bounds, the end.

use std::time::Duration;

use admission::server::{Limits, Server};
use admission::tls::Tls;
use axum::Router;
use axum::routing::get;
use http::{Request, StatusCode};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::support::{Client, Connection, PATIENCE, SERVER, Serving, certificates};

fn hello() -> Router {
    Router::new().route("/hello", get(|| async { "hello" }))
}

async fn greeted(connection: &mut Connection) -> hyper::Result<(StatusCode, String)> {
    let request = Request::get("/hello").header("host", SERVER);
    connection
        .send(request.body(axum::body::Body::empty()).expect("a request"))
        .await
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let (serving, state) = Serving::with(hello()).await;
    for version in [&TLS12, &TLS13] {
        let client = Client::speaking(serving.address, &state.bundle(), &[version]);
        let mut connection = client.connect().await.expect("a connection");
        assert_eq!(greeted(&mut connection).await.expect("an answer").1, "hello");
    }
}

#[tokio::test]
async fn another_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let tls = Tls::new().expect("TLS");
    let server = Server::new(tls.clone(), hello());
    let connections = server.connections();
    let serving = Serving::start(server).await;
    let (one, two) = (certificates(), certificates());
    let client = |authorities: &str| Client::new(serving.address, authorities);

    assert!(
        client(&one.bundle()).connect().await.is_err(),
        "there is no certificate yet"
    );
    assert_eq!(connections.failed(), 1);
    tls.show(&one.leaf);
    let mut old = client(&one.bundle()).connect().await.expect("a connection");
    tls.show(&two.leaf);
    assert!(
        client(&one.bundle()).connect().await.is_err(),
        "the old one is shown no more"
    );
    let mut new = client(&two.bundle()).connect().await.expect("a connection");
    assert_ne!(old.shown, new.shown);
    for connection in [&mut old, &mut new] {
        assert_eq!(greeted(connection).await.expect("an answer").0, StatusCode::OK);
    }
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_and_another_has_its_place_later() {
    let (tls, state) = (Tls::new().expect("TLS"), certificates());
    tls.show(&state.leaf);
    let server = Server::new(tls, hello()).with_limits(Limits {
        connections: 2,
        ..Limits::default()
    });
    let connections = server.connections();
    let serving = Serving::start(server).await;
    let client = Client::new(serving.address, &state.bundle());
    let mut two = [
        client.connect().await.expect("one"),
        client.connect().await.expect("two"),
    ];
    let third = timeout(PATIENCE, client.connect()).await.expect("it learns at once");
    assert!(third.is_err());
    assert_eq!(
        (connections.open(), connections.accepted(), connections.cut()),
        (2, 2, 1)
    );
    assert_eq!(greeted(&mut two[0]).await.expect("an answer").0, StatusCode::OK);
    drop(two);
    let again = async {
        while client.connect().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("there is room again");
    let none_is_open = async {
        while connections.open() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, none_is_open).await.expect("all have ended");
}

#[tokio::test]
async fn who_says_nothing_is_given_up() {
    let (tls, state) = (Tls::new().expect("TLS"), certificates());
    tls.show(&state.leaf);
    let server = Server::new(tls, hello()).with_limits(Limits {
        handshake: Duration::from_millis(100),
        idle: Duration::from_millis(300),
        ..Limits::default()
    });
    let serving = Serving::start(server).await;
    let mut silent = TcpStream::connect(serving.address).await.expect("a connection");
    let read = timeout(PATIENCE, silent.read(&mut [0; 8])).await.expect("it ends");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let client = Client::new(serving.address, &state.bundle());
    // A busy machine may be late with the handshake itself.
    let connected = async {
        loop {
            if let Ok(connection) = client.connect().await {
                return connection;
            }
        }
    };
    let mut idle = timeout(PATIENCE, connected).await.expect("a connection");
    timeout(PATIENCE, idle.closed()).await.expect("it ends");
}

#[tokio::test]
async fn one_that_leaves_goes_on_answering_and_lets_go_of_each_connection_after_an_answer() {
    let (tls, state) = (Tls::new().expect("TLS"), certificates());
    tls.show(&state.leaf);
    let server = Server::new(tls, hello()).with_limits(Limits {
        // As long as this test needs, whatever the machine.
        linger: Duration::from_hours(1),
        ..Limits::default()
    });
    let serving = Serving::start(server).await;
    let client = Client::new(serving.address, &state.bundle());
    let mut kept = client.connect().await.expect("a connection");
    assert_eq!(greeted(&mut kept).await.expect("an answer").1, "hello");
    assert_eq!(greeted(&mut kept).await.expect("another on the same").1, "hello");

    let ended = serving.leave();
    // It learns that in a moment; until then a connection is kept.
    let let_go = async {
        while !kept.is_let_go().await {
            assert_eq!(greeted(&mut kept).await.expect("no request is lost").1, "hello");
        }
    };
    timeout(PATIENCE, let_go).await.expect("it is let go of");
    for _ in 0..3 {
        let mut new = client.connect().await.expect("new ones are taken");
        assert_eq!(greeted(&mut new).await.expect("an answer").1, "hello");
        timeout(PATIENCE, new.closed()).await.expect("one answer for each");
    }
    assert!(!ended.is_finished(), "it lingers");
    ended.abort();
}

#[tokio::test]
async fn at_the_end_requests_in_flight_are_answered_and_no_others_taken() {
    let (asked, go) = (watch::Sender::new(false), watch::Sender::new(false));
    let waits = {
        let (asked, go) = (asked.clone(), go.clone());
        move || {
            asked.send_replace(true);
            let mut go = go.subscribe();
            async move {
                go.wait_for(|go| *go).await.expect("it is told");
                "late hello"
            }
        }
    };
    let (serving, state) = Serving::with(Router::new().route("/hello", get(waits))).await;
    let (address, client) = (serving.address, Client::new(serving.address, &state.bundle()));
    let mut connection = client.connect().await.expect("a connection");
    let in_flight = tokio::spawn(async move { greeted(&mut connection).await });
    asked.subscribe().wait_for(|asked| *asked).await.expect("it is asked");
    let stopping = tokio::spawn(serving.stop());
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("no more are taken");
    assert!(!stopping.is_finished());
    go.send_replace(true);
    let (_, text) = in_flight.await.expect("it ends").expect("an answer");
    assert_eq!(text, "late hello");
    timeout(PATIENCE, stopping).await.expect("in time").expect("it ends");
}
