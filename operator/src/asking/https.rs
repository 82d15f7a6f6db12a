//! The webhook, over TLS, on a thread of its own: the API server waits for it, and reconciles must not be in its way.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use admission::certificates::keeper::Keeper;
use admission::certificates::{Standing, Times, files};
use admission::server::{Connections, Limits, Server};
use admission::tls::{Tls, TlsError};
use axum::Router;
use jiff::Timestamp;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::run::stopped;

/// How often the files of certificates are read.
const LOOK_AT_FILES: Duration = Duration::from_secs(10);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpsError {
    /// The address is taken, or not ours.
    #[error("https address {address}: cannot be listened at")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No thread.
    #[error("the thread of the webhook cannot be started")]
    Thread(#[source] io::Error),
}

/// Where certificates come from.
pub(crate) enum Certificates {
    /// The operator's own, kept in a Secret of this namespace.
    Own {
        /// Reaches the API server.
        client: Client,
        /// The operator's namespace.
        namespace: String,
    },
    /// Somebody else's, in this folder.
    Files(PathBuf),
}

/// A server that runs. It ends by [`Https::end`].
pub(crate) struct Https {
    /// Where it listens.
    pub address: SocketAddr,
    /// What happens to its connections.
    pub connections: Arc<Connections>,
    /// How its certificates stand.
    pub standing: watch::Receiver<Standing>,
    end: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Https {
    /// Begins to serve this. Once `stop` is true it begins to leave, beside whatever else ends then.
    pub(crate) fn begin(
        address: SocketAddr,
        certificates: Certificates,
        router: Router,
        limits: Limits,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Self, HttpsError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(HttpsError::Thread)?;
        let cannot = |source| HttpsError::Bind { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let tls = Tls::new()?;
        let server = Server::new(tls.clone(), router).with_limits(limits);
        let connections = server.connections();
        let (stands, standing) = watch::channel(Standing::default());
        let (end, mut ended) = watch::channel(false);
        let serve = async move {
            let listener = match TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "the webhook is not served"),
            };
            let keep = tokio::spawn(keep(certificates, tls, stands));
            let leave = async {
                tokio::select! {
                    () = stopped(&mut stop) => {}
                    () = stopped(&mut ended) => {}
                }
            };
            server.serve(listener, leave).await;
            tracing::info!("the webhook is served no more");
            keep.abort();
        };
        let thread = thread::Builder::new()
            .name("https".to_owned())
            .spawn(move || runtime.block_on(serve))
            .map_err(HttpsError::Thread)?;
        Ok(Self {
            address,
            connections,
            standing,
            end,
            thread,
        })
    }

    /// Completes when it has left, which it begins now at the latest.
    pub(crate) async fn end(self) {
        self.end.send_replace(true);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the webhook ended in a panic");
        }
    }
}

/// Keeps certificates for ever.
async fn keep(certificates: Certificates, tls: Tls, standing: watch::Sender<Standing>) {
    let until = std::future::pending();
    match certificates {
        Certificates::Files(folder) => files::follow(&folder, LOOK_AT_FILES, &tls, &standing, until).await,
        Certificates::Own { client, namespace } => {
            let keeper = Keeper {
                client,
                namespace,
                tls,
                times: Times::default(),
                now: Timestamp::now,
                standing,
            };
            keeper.run(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use tokio::time::timeout;

    use super::*;

    /// Generous: the machine may be busy.
    const PATIENCE: Duration = Duration::from_mins(1);

    fn begun(linger: Duration, stop: watch::Receiver<bool>) -> Https {
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let limits = Limits {
            linger,
            ..Limits::DEFAULT
        };
        let nowhere = Certificates::Files(PathBuf::from("/nonexistent"));
        Https::begin(address, nowhere, Router::new(), limits, stop).expect("it listens")
    }

    #[tokio::test]
    async fn it_leaves_by_itself_when_the_process_is_to_stop() {
        let (stop, stopping) = watch::channel(false);
        let https = begun(Duration::ZERO, stopping);
        TcpStream::connect(https.address).expect("it listens");
        stop.send_replace(true);
        let left = async {
            while !https.thread.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, left).await.expect("nobody has to end it");
        https.end().await;
    }

    #[tokio::test]
    async fn it_leaves_when_what_it_is_beside_has_ended() {
        let (_stop, stopping) = watch::channel(false);
        let https = begun(Duration::ZERO, stopping);
        let address = https.address;
        timeout(PATIENCE, https.end()).await.expect("it ends");
        TcpStream::connect(address).expect_err("nobody listens");
    }

    #[tokio::test]
    async fn the_lease_is_given_back_at_once_while_it_goes_on_answering() {
        let (stop, stopping) = watch::channel(false);
        let linger = Duration::from_secs(2);
        let https = begun(linger, stopping.clone());
        let address = https.address;
        let mut told = stopping.clone();
        let work = async {
            stopped(&mut told).await;
            // Here a member gives its Lease back.
            TcpStream::connect(address).expect("it goes on");
            std::time::Instant::now()
        };
        let begun = std::time::Instant::now();
        stop.send_replace(true);
        let given_back = super::super::to_the_end(work, Some(https)).await;
        assert!(
            given_back.duration_since(begun) < linger,
            "nothing waits for the server"
        );
        assert!(begun.elapsed() >= linger, "the server has lingered");
        TcpStream::connect(address).expect_err("it has ended");
    }
}
