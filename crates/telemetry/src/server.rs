//! The pages `/healthz` (alive), `/readyz` (ready) and `/metrics`, on one address.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::health::Health;
use crate::metrics::Metrics;

/// How long open connections may hold up the end of the server.
const GRACE: Duration = Duration::from_secs(2);

/// A server that listens already, so that a busy address is known before anything else starts.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// Why the health server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is busy, or not one of this machine's.
    #[error("health server: cannot listen on {address}; choose another with --health-address")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Accepting connections failed for good.
    #[error("health server: stopped serving")]
    Serve(#[source] io::Error),
}

#[derive(Clone)]
struct Shown {
    health: Health,
    metrics: Metrics,
}

impl Server {
    /// Listens on `address`; port 0 lets the system choose one.
    pub async fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        let bind = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind.await.map_err(|source| ServerError::Bind { address, source })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` completes; answers that are being written then get 2 s.
    pub async fn serve(
        self,
        health: Health,
        metrics: Metrics,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServerError> {
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(show_metrics))
            .with_state(Shown { health, metrics });
        let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = axum::serve(self.listener, router).with_graceful_shutdown(async move {
            stop.await;
            drop(stopping);
        });
        let grace_is_over = async {
            // Completes, with an error, when the sender is dropped: nothing is ever sent.
            drop(stopped.await);
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serve.into_future() => served.map_err(ServerError::Serve),
            () = grace_is_over => Ok(()),
        }
    }
}

async fn healthz(State(shown): State<Shown>) -> Response {
    let faults = shown.health.faults();
    if faults.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, faults.join("\n") + "\n").into_response()
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let (ready, reason) = shown.health.readiness();
    if ready {
        return format!("ok: {reason}\n").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response()
}

async fn show_metrics(State(shown): State<Shown>) -> Response {
    match shown.metrics.scrape() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "scrape failed");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
    }
}
