//! HTTPS: connections in, requests to a router.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::tls::Tls;

/// Open connections. One more is closed at once: whoever opens it learns that without waiting.
pub const CONNECTIONS: usize = 1_024;
/// Longest that a handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// Longest between two requests, and for the head of one. Longer than clients in Go keep a connection that they do not
/// use (90 s): a request that crosses the end of its connection is lost, and they do not send a POST again.
pub const IDLE: Duration = Duration::from_secs(120);
/// How long requests in flight may hold up the end.
pub const GRACE: Duration = Duration::from_secs(5);
/// Rest when the system gives no connection (out of file descriptors).
const REST: Duration = Duration::from_millis(100);

/// What happened to connections. All only grow.
#[derive(Debug, Default)]
pub struct Connections {
    accepted: AtomicU64,
    cut: AtomicU64,
    failed: AtomicU64,
}

impl Connections {
    /// Taken.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Closed at once, since there are [`CONNECTIONS`].
    pub fn cut(&self) -> u64 {
        self.cut.load(Relaxed)
    }

    /// Given up: no handshake, or none in time.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }
}

/// Serves `router` until `until` completes; requests in flight then get [`GRACE`].
///
/// API servers learn some time after the start of a termination that a replica goes: let `until` complete a few seconds
/// later, or their requests meet a closed port.
pub async fn serve(
    listener: TcpListener,
    tls: &Tls,
    router: Router,
    connections: Arc<Connections>,
    until: impl Future<Output = ()>,
) {
    let door = Arc::new(Door {
        acceptor: tls.acceptor(),
        router,
        connections,
    });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut until = std::pin::pin!(until);
    loop {
        let accepted = tokio::select! {
            () = &mut until => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    door.connections.accepted.fetch_add(1, Relaxed);
                    tokio::spawn(Arc::clone(&door).connection(stream, graceful.watcher(), place));
                }
                Err(_) => {
                    door.connections.cut.fetch_add(1, Relaxed);
                }
            },
            Err(error) => rest(&error).await,
        }
    }
    drop(listener);
    if timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests in flight were broken off at the end");
    }
}

struct Door {
    acceptor: tokio_rustls::TlsAcceptor,
    router: Router,
    connections: Arc<Connections>,
}

impl Door {
    async fn connection(self: Arc<Self>, stream: TcpStream, watcher: Watcher, place: OwnedSemaphorePermit) {
        // An answer is one small packet, which nothing else will join.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended at once");
            return;
        }
        let stream = match timeout(HANDSHAKE, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.failed(&error),
            Err(late) => return self.failed(&late),
        };
        let service = TowerToHyperService::new(self.router.clone());
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(served).await {
            tracing::debug!(%error, "a connection broke off");
        }
        drop(place);
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
