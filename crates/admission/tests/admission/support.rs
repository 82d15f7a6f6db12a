//! Policies, a desk, a server and a client, all of them real.

use std::collections::BTreeMap;
use std::future::ready;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use admission::certificates::Times;
use admission::certificates::issue::carry_out;
use admission::certificates::rotation::{State, Step};
use admission::server::{Limits, Server};
use admission::tls::Tls;
use api::fault::Fault;
use axum::Router;
use axum::body::Body;
use engines::catalogue::Catalogue;
use http::{Request, StatusCode};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use planner::fresh;
use policy::bundle::{Bundle, Files, folder};
use policy::desk::{Decided, Desk, Labels, Outside, Pending, Surroundings, Unknown};
use policy::exception::PolicyException;
use policy::guard::{Guard, SharedPlanner};
use policy::policies::Policies;
use policy::request::Planner;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring, version};

/// Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Where the operator is said to live.
pub(crate) const NAMESPACE: &str = "operators";

/// The name that API servers ask for.
pub(crate) const SERVER: &str = "database-operator.operators.svc";

/// A rule that denies with a message which names the revision of its bundle, wherever `condition` holds.
pub(crate) fn denies(revision: &str, condition: &str) -> Policies {
    rules(
        revision,
        &format!(
            "violations contains {{\"id\": \"test.{revision}\", \"severity\": \"high\", \"action\": \"deny\", \
             \"path\": \"spec.version\", \"message\": \"refused by revision {revision}\"}} if {{ {condition} }}"
        ),
    )
}

/// These rules, as policies.
pub(crate) fn rules(revision: &str, rules: &str) -> Policies {
    let mut files = Files::new();
    let manifest = json!({"revision": revision, "roots": ["database"], "rego_version": 1}).to_string();
    let module = format!("package database.test\n\nimport rego.v1\n\n{rules}\n");
    // Staging is known, so that nobody is warned of it.
    let staging = json!({"settings": {"max": {"storage": "1Ti"}}}).to_string();
    for (name, text) in [
        (".manifest", manifest),
        ("database/test.rego", module),
        ("database/environment/staging/data.json", staging),
    ] {
        files.add(name, text.into_bytes()).expect("a file");
    }
    let bundle = Bundle::open_unverified("tested", files).expect("a bundle");
    patient(&bundle)
}

/// The policies that come with the operator.
pub(crate) fn shipped() -> Policies {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let files = folder::read(&folder).expect("they are there");
    patient(&Bundle::open_unverified("policies", files).expect("a bundle"))
}

/// A busy machine must not make errors.
fn patient(bundle: &Bundle) -> Policies {
    let policies = Policies::load(std::slice::from_ref(bundle), Catalogue::builtin()).expect("they load");
    policies.with_time_limit(PATIENCE)
}

/// The planner of the operator.
pub(crate) fn planner() -> SharedPlanner {
    Arc::new(Strict(Catalogue::builtin()))
}

struct Strict(Catalogue);

impl Planner for Strict {
    fn children(&self, object: &Value, namespace: &str) -> Result<Vec<Value>, Vec<Fault>> {
        fresh::children(&api::strict::filled(object)?, namespace, &self.0)
    }

    fn sets(&self, object: &Value, namespace: &str) -> Result<Vec<Value>, Vec<Fault>> {
        fresh::sets(&api::strict::filled(object)?, namespace, &self.0)
    }
}

/// All namespaces are of staging; decisions are kept.
#[derive(Default)]
pub(crate) struct Staging(pub(crate) Mutex<Vec<Decided>>);

impl Surroundings for Staging {
    fn labels<'a>(&'a self, _: &'a str) -> Pending<'a, Result<Labels, Unknown>> {
        let label = ("intent.example.com/environment".to_owned(), "staging".to_owned());
        Box::pin(ready(Ok(BTreeMap::from([label]))))
    }

    fn exceptions(&self) -> Arc<[PolicyException]> {
        Arc::default()
    }

    fn basis(&self, _: &str) -> u64 {
        0
    }

    fn decided(&self, decided: &Decided) {
        self.0.lock().expect("nobody panics").push(decided.clone());
    }

    fn shed(&self) {}
}

/// A desk before so many threads.
pub(crate) fn desk(threads: usize, planner: &SharedPlanner, surroundings: Arc<dyn Surroundings>) -> Desk {
    let threads = NonZeroUsize::new(threads).expect("some");
    let guard = Guard::start(threads, planner).expect("threads");
    let outside = Outside {
        now: Timestamp::now,
        random: || [7; 10],
    };
    Desk::new(guard, surroundings, outside, "replica")
}

/// An authority with a certificate for [`SERVER`].
pub(crate) fn certificates() -> State {
    carry_out(Step::Begin, None, SERVER, Timestamp::now(), &Times::default()).expect("they are made")
}

/// For a server that nobody looks for any more when it is to leave.
pub(crate) const AT_ONCE: Limits = Limits {
    linger: Duration::ZERO,
    ..Limits::DEFAULT
};

/// A server that serves.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Serving {
    pub(crate) async fn start(server: Server) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), server).await
    }

    pub(crate) async fn at(address: IpAddr, server: Server) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(server.serve(listener, async {
            // Dropped counts as told.
            drop(stopped.await);
        }));
        Self { address, stop, ended }
    }

    /// With a certificate of its own.
    pub(crate) async fn with(router: Router) -> (Self, State) {
        let (tls, state) = (Tls::new().expect("TLS"), certificates());
        tls.show(&state.leaf);
        (Self::start(Server::new(tls, router).with_limits(AT_ONCE)).await, state)
    }

    /// Tells it to leave.
    pub(crate) fn leave(self) -> JoinHandle<()> {
        drop(self.stop);
        self.ended
    }

    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.ended.await.expect("it ends");
    }
}

/// A client that trusts some authorities, as API servers do.
#[derive(Clone)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    address: SocketAddr,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, authorities: &str) -> Self {
        Self::speaking(address, authorities, &[&version::TLS13, &version::TLS12])
    }

    pub(crate) fn speaking(
        address: SocketAddr,
        authorities: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots.add(authority.expect("PEM")).expect("a certificate");
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            config: Arc::new(config),
            address,
        }
    }

    pub(crate) async fn connect(&self) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER).expect("a name");
        let stream = TlsConnector::from(Arc::clone(&self.config))
            .connect(name, stream)
            .await?;
        let shown = stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec();
        let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        // Ends with the connection, however that does; the requests tell.
        tokio::spawn(async { drop(connection.await) });
        Ok(Connection { requests, shown })
    }
}

/// A connection that is kept.
pub(crate) struct Connection {
    requests: SendRequest<Body>,
    /// The certificate that was shown.
    pub(crate) shown: Vec<u8>,
}

impl Connection {
    pub(crate) async fn send(&mut self, request: Request<Body>) -> hyper::Result<(StatusCode, String)> {
        self.requests.ready().await?;
        let answer = self.requests.send_request(request).await?;
        let (status, body) = (answer.status(), Body::new(answer.into_body()));
        let body = axum::body::to_bytes(body, 16 << 20).await.expect("a whole body");
        Ok((status, String::from_utf8(body.to_vec()).expect("UTF-8")))
    }

    pub(crate) async fn post(&mut self, body: impl Into<Body>) -> hyper::Result<(StatusCode, String)> {
        self.send(post("/validate?timeout=5s", body)).await
    }

    /// Whether the server has let go of it, after the last answer. A moment is left to learn of it.
    pub(crate) async fn is_let_go(&mut self) -> bool {
        self.requests.ready().await.is_err()
    }

    /// Completes when it is closed.
    pub(crate) async fn closed(&mut self) {
        while self.requests.ready().await.is_ok() && !self.requests.is_closed() {
            tokio::task::yield_now().await;
        }
    }

    /// The response to a review.
    pub(crate) async fn review(&mut self, review: &Value) -> Value {
        let (status, text) = self.post(review.to_string()).await.expect("an answer");
        assert_eq!(status, StatusCode::OK, "{text}");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        answer["response"].take()
    }
}

pub(crate) fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(path)
        .header("host", SERVER)
        .header("content-type", "application/json");
    request.body(body.into()).expect("a request")
}

/// A Database that the shipped policies allow in staging, of this version.
pub(crate) fn database(version: &str) -> Value {
    json!({
        "apiVersion": "intent.example.com/v1", "kind": "Database", "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {
            "engine": "postgresql", "version": version,
            "resources": {
                "requests": {"cpu": "1", "memory": "2Gi", "storage": "10Gi"}, "limits": {"cpu": "2", "memory": "2Gi"},
            },
        },
    })
}

/// A review of its creation.
pub(crate) fn creation(object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "operation": "CREATE", "namespace": "shop", "name": "orders", "dryRun": false,
            "kind": {"group": "intent.example.com", "version": "v1", "kind": "Database"},
            "resource": {"group": "intent.example.com", "version": "v1", "resource": "databases"},
            "userInfo": {"username": "eve", "groups": ["staff"]}, "object": object, "oldObject": null,
        },
    })
}
