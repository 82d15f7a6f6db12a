//! HTTPS: connections in, requests to a router.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::middleware::map_response_with_state;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::tls::Tls;

/// Rest when the system gives no connection (out of file descriptors).
const REST: Duration = Duration::from_millis(100);

/// What is served to how many for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Open connections. One more is closed at once: whoever opens it learns that without waiting.
    pub connections: usize,
    /// Longest that a handshake may take.
    pub handshake: Duration,
    /// Longest between two requests, and for the head of one. Longer than clients in Go keep a connection that they do
    /// not use (90 s): a request that crosses the end of its connection is lost, and they do not send a POST again.
    pub idle: Duration,
    /// How long new connections are taken once the server is to leave. See [`LINGER`].
    pub linger: Duration,
    /// How long requests in flight may hold up the end after that.
    pub grace: Duration,
}

/// API servers learn that a replica goes from the endpoints of its Service, which are withdrawn only when its termination
/// has begun: a pod is marked, a controller writes, every node's proxy follows. That takes a second or two; a request that
/// meets a closed port meanwhile is one that nobody could declare.
pub const LINGER: Duration = Duration::from_secs(5);

impl Limits {
    /// The usual ones.
    pub const DEFAULT: Self = Self {
        connections: 1_024,
        handshake: Duration::from_secs(5),
        idle: Duration::from_mins(2),
        linger: LINGER,
        grace: Duration::from_secs(5),
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What happened to connections. All but [`Connections::open`] only grow.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicUsize,
    accepted: AtomicU64,
    cut: AtomicU64,
    failed: AtomicU64,
}

impl Connections {
    /// Open now, those included whose handshake is under way.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Taken.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Closed at once, since there are as many as [`Limits::connections`].
    pub fn cut(&self) -> u64 {
        self.cut.load(Relaxed)
    }

    /// Given up: no handshake, or none in time.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }
}

/// What a connection takes up as long as it lasts.
struct Place {
    connections: Arc<Connections>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn take(connections: &Arc<Connections>, permit: OwnedSemaphorePermit) -> Self {
        connections.accepted.fetch_add(1, Relaxed);
        connections.open.fetch_add(1, Relaxed);
        Self {
            connections: Arc::clone(connections),
            _permit: permit,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Relaxed);
    }
}

/// A server that is about to serve.
#[derive(Debug)]
pub struct Server {
    tls: Tls,
    router: Router,
    limits: Limits,
    connections: Arc<Connections>,
}

impl Server {
    /// With the usual limits.
    pub fn new(tls: Tls, router: Router) -> Self {
        Self {
            tls,
            router,
            limits: Limits::default(),
            connections: Arc::default(),
        }
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// What happens to its connections.
    pub fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }

    /// Serves until `leave` completes, and then ends in steps:
    ///
    /// 1. for [`Limits::linger`] all goes on, but each answer ends its connection: whoever keeps one gets another, to
    ///    another replica as soon as the endpoints say so, and none is closed on a request that is under way;
    /// 2. no more connections are taken, those that nobody uses are closed, and requests in flight get [`Limits::grace`].
    pub async fn serve(self, listener: TcpListener, leave: impl Future<Output = ()>) {
        let Limits { linger, grace, .. } = self.limits;
        let leaving = Arc::new(AtomicBool::new(false));
        let last = map_response_with_state(Arc::clone(&leaving), last_of_its_connection);
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let door = Arc::new(Door {
            acceptor: self.tls.acceptor(),
            router: self.router.layer(last),
            limits: self.limits,
            connections: self.connections,
        });
        let graceful = GracefulShutdown::new();
        let mut until = pin!(async {
            leave.await;
            leaving.store(true, Relaxed);
            sleep(linger).await;
        });
        loop {
            let accepted = tokio::select! {
                () = &mut until => break,
                accepted = listener.accept() => accepted,
            };
            match (accepted, Arc::clone(&places).try_acquire_owned()) {
                (Ok((stream, _)), Ok(permit)) => {
                    let place = Place::take(&door.connections, permit);
                    tokio::spawn(Arc::clone(&door).connection(stream, graceful.watcher(), place));
                }
                (Ok(_), Err(_)) => {
                    door.connections.cut.fetch_add(1, Relaxed);
                }
                (Err(error), _) => rest(&error).await,
            }
        }
        drop(listener);
        if timeout(grace, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests in flight were broken off at the end");
        }
    }
}

/// Says so, if the server is leaving.
async fn last_of_its_connection(State(leaving): State<Arc<AtomicBool>>, mut response: Response) -> Response {
    if leaving.load(Relaxed) {
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

struct Door {
    acceptor: TlsAcceptor,
    router: Router,
    limits: Limits,
    connections: Arc<Connections>,
}

impl Door {
    /// Holds its place as long as it lasts.
    async fn connection(self: Arc<Self>, stream: TcpStream, watcher: Watcher, _place: Place) {
        // An answer is one small packet, which nothing else will join.
        if let Err(error) = stream.set_nodelay(true) {
            return self.failed(&error);
        }
        let stream = match timeout(self.limits.handshake, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.failed(&error),
            Err(late) => return self.failed(&late),
        };
        let service = TowerToHyperService::new(self.router.clone());
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.idle)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(served).await {
            tracing::debug!(%error, "a connection broke off");
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) {
        self.connections.failed.fetch_add(1, Relaxed);
        tracing::debug!(%error, "no handshake");
    }
}

async fn rest(error: &io::Error) {
    tracing::warn!(%error, "no connection can be taken");
    sleep(REST).await;
}
