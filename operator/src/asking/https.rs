//! The webhook, over TLS, on a thread of its own: the API server waits for it, and reconciles must not be in its way.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use admission::certificates::keeper::Keeper;
use admission::certificates::{Standing, Times, files};
use admission::server::{Connections, Server};
use admission::tls::{Tls, TlsError};
use admission::webhook::{Hears, REQUESTS, Webhook};
use axum::Router;
use jiff::Timestamp;
use kube::Client;
use policy::desk::Desk;
use tokio::net::TcpListener;
use tokio::sync::watch;

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
    /// What happens to its connections.
    pub connections: Arc<Connections>,
    /// How its certificates stand.
    pub standing: watch::Receiver<Standing>,
    end: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Https {
    /// Begins to serve the webhook, which tells `hears`, and `more`.
    pub(crate) fn begin(
        address: SocketAddr,
        certificates: Certificates,
        desk: &Desk,
        hears: Arc<dyn Hears>,
        more: Router,
    ) -> Result<Self, HttpsError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(HttpsError::Thread)?;
        let cannot = |source| HttpsError::Bind { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let tls = Tls::new()?;
        let router = Webhook::told(desk.clone(), REQUESTS, hears).router().merge(more);
        let server = Server::new(tls.clone(), router);
        let connections = server.connections();
        let (stands, standing) = watch::channel(Standing::default());
        let (end, ended) = watch::channel(false);
        let serve = async move {
            let listener = match TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "the webhook is not served"),
            };
            let keep = tokio::spawn(keep(certificates, tls, stands, until(ended.clone())));
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, "webhook");
            }
            server.serve(listener, until(ended)).await;
            keep.abort();
        };
        let thread = thread::Builder::new()
            .name("https".to_owned())
            .spawn(move || runtime.block_on(serve))
            .map_err(HttpsError::Thread)?;
        Ok(Self {
            connections,
            standing,
            end,
            thread,
        })
    }

    /// Ends it: requests in flight are answered.
    pub(crate) async fn end(self) {
        self.end.send_replace(true);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the webhook ended in a panic");
        }
    }
}

async fn until(mut ended: watch::Receiver<bool>) {
    // An error means that the sender is gone, and nobody wants this any more.
    drop(ended.wait_for(|ended| *ended).await);
}

async fn keep(
    certificates: Certificates,
    tls: Tls,
    standing: watch::Sender<Standing>,
    until: impl Future<Output = ()>,
) {
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
