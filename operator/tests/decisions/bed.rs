//! A cluster, three replicas that keep decisions, and accounts that may see some of them.

use std::io::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use admission::certificates::Times;
use admission::certificates::issue::carry_out;
use admission::certificates::rotation::{State, Step};
use admission::server::{Limits, Server};
use admission::tls::Tls;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use decisions::reviews::ApiServer;
use decisions::server::router;
use jiff::Timestamp;
use kube::{Client, Config};
use policy::log::{Log, Options, Record, Retention, decision_id, mask};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The operator's namespace.
pub(crate) const OPERATORS: &str = "operators";
/// Stands in every record before it is masked.
pub(crate) const PLANTED: &str = "pw-7d1e0f4b9c2a";

pub(crate) fn kubectl(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes())
        .expect("written");
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "kubectl {arguments:?}: {errors}");
    String::from_utf8(stdout).expect("UTF-8")
}

/// Record `number`: even ones are denied; of `shop`, `bank` and `farm` in turn by twos.
pub(crate) fn record(number: u32) -> Record {
    let timestamp = Timestamp::from_second(1_795_000_000 + i64::from(number)).expect("a time");
    let random = [u8::try_from(number).expect("a small number"); 10];
    let namespace = ["shop", "bank", "farm"][number as usize / 2 % 3];
    let denied = json!([{
        "id": "sizes.cpu", "level": "global", "severity": "high", "action": "deny", "path": "spec",
        "message": format!("quotes {PLANTED}"),
    }]);
    let is_denied = number.is_multiple_of(2);
    serde_json::from_value(json!({
        "decision_id": decision_id(timestamp, random), "timestamp": timestamp, "replica": format!("replica-{}", number % 3),
        "source": "admission", "operation": "CREATE", "user": {"name": "alice", "groups": ["staff"]},
        "resource": {"kind": "Database", "namespace": namespace, "name": format!("database-{number}")},
        "verdict": if is_denied { "deny" } else { "allow" }, "violations": if is_denied { denied } else { json!([]) },
        "input": {"object": {"spec": {"configuration": {"parameters": {"password": PLANTED}}}}},
    }))
    .expect("a record")
}

/// Names of the Databases in records that fit, newest first.
pub(crate) fn expected(fits: impl Fn(u32) -> bool) -> Vec<String> {
    let numbers = (0..RECORDS).rev().filter(|number| fits(*number));
    numbers.map(|number| format!("database-{number}")).collect()
}

pub(crate) const RECORDS: u32 = 60;

pub(crate) fn is_of_shop(number: u32) -> bool {
    (number / 2).is_multiple_of(3)
}

pub(crate) struct Bed {
    folder: TempDir,
    pub(crate) running: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
    pub(crate) logs: Vec<Log>,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        let bed = Self {
            folder: TempDir::new().expect("a folder"),
            running: Vec::new(),
            logs: Vec::new(),
        };
        grant();
        let config = Config::infer().await.expect("KUBECONFIG leads to the test cluster");
        bed.serve(config).await
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Three replicas that may ask who somebody is, and nothing else.
    async fn serve(mut self, mut config: Config) -> Self {
        let address = own_address(&config);
        config.auth_info =
            serde_json::from_value(json!({"token": token(OPERATORS, "operator", None)})).expect("a user");
        let reviews = Arc::new(ApiServer::new(Client::try_from(config).expect("a client")));
        let server = admission::registration::server_name(OPERATORS);
        let state: State =
            carry_out(Step::Begin, None, &server, Timestamp::now(), &Times::default()).expect("certificates");
        std::fs::write(self.path("ca.crt"), state.bundle()).expect("written");
        kubectl(&["create", "-f", "-"], &webhook(&state.bundle()).to_string());
        for replica in 0..3 {
            let mut options = Options::new(self.path(&format!("{replica}.db")));
            options.retention = Retention::default();
            let log = Log::start(options).expect("a thread");
            for number in (0..RECORDS).filter(|number| number % 3 == replica) {
                log.record(&mask(record(number)));
            }
            assert!(log.flush(Duration::from_mins(1)));
            let listener = TcpListener::bind((address, 0)).await.expect("a port");
            let port = listener.local_addr().expect("an address").port();
            kubectl(&["create", "-f", "-"], &slice(replica, address, port).to_string());
            let tls = Tls::new().expect("TLS");
            tls.show(&state.leaf);
            let (stop, stopped) = oneshot::channel();
            let router = router(
                vec![log.reader(), log.reader()],
                Arc::clone(&reviews) as Arc<_>,
                Arc::new(|_, _| {}),
            );
            let server = Server::new(tls, router).with_limits(Limits {
                linger: Duration::ZERO,
                ..Limits::DEFAULT
            });
            let serving = server.serve(listener, async { drop(stopped.await) });
            self.running.push((stop, tokio::spawn(serving)));
            self.logs.push(log);
        }
        self
    }

    /// A kubeconfig with a token of this account.
    pub(crate) fn kubeconfig(&self, namespace: &str, account: &str) -> String {
        let path = self.path(&format!("{namespace}-{account}"));
        let admin = std::env::var("KUBECONFIG").expect("it is set");
        std::fs::copy(admin, &path).expect("copied");
        let path = path.to_str().expect("UTF-8").to_owned();
        let view = kubectl(&["config", "view", "--raw", "-o", "json", "--kubeconfig", &path], "");
        let mut config: Value = serde_json::from_str(&view).expect("JSON");
        config["users"][0]["user"] = json!({"token": token(namespace, account, None)});
        std::fs::write(&path, config.to_string()).expect("written");
        path
    }
}

/// The manifests of the documentation, and who gets them.
fn grant() {
    for namespace in [OPERATORS, "shop", "bank", "farm", "audit"] {
        kubectl(&["create", "namespace", namespace], "");
    }
    for (namespace, account) in [
        (OPERATORS, "operator"),
        ("audit", "auditor"),
        ("shop", "developer"),
        ("farm", "stranger"),
    ] {
        kubectl(&["create", "serviceaccount", "-n", namespace, account], "");
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/decisions-log.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let manifests = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let manifests = manifests
        .expect("manifests")
        .replace("namespace: database-operator", &format!("namespace: {OPERATORS}"));
    kubectl(&["create", "-f", "-"], &manifests);
    let reviewer = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "reviewer"},
        "rules": [
            {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
            {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
        ],
    });
    kubectl(&["create", "-f", "-"], &reviewer.to_string());
    let cluster = |name: &str, role: &str, account: &str| {
        kubectl(
            &[
                "create",
                "clusterrolebinding",
                name,
                "--clusterrole",
                role,
                "--serviceaccount",
                account,
            ],
            "",
        );
    };
    cluster("reviewer", "reviewer", "operators:operator");
    cluster("all", "database-operator-decisions", "audit:auditor");
    for (number, account) in ["audit:auditor", "shop:developer"].iter().enumerate() {
        cluster(&format!("authority-{number}"), "database-operator-authority", account);
        let name = format!("replicas-{number}");
        let binding = [
            "create",
            "rolebinding",
            &name,
            "-n",
            OPERATORS,
            "--role",
            "database-operator-replicas",
            "--serviceaccount",
            account,
        ];
        kubectl(&binding, "");
    }
    let one = [
        "create",
        "rolebinding",
        "one",
        "-n",
        "shop",
        "--clusterrole",
        "database-operator-decisions",
        "--serviceaccount",
        "shop:developer",
    ];
    kubectl(&one, "");
}

pub(crate) fn token(namespace: &str, account: &str, audience: Option<&str>) -> String {
    let mut arguments = vec!["create", "token", "-n", namespace, account];
    if let Some(audience) = audience {
        arguments.extend(["--audience", audience]);
    }
    kubectl(&arguments, "").trim().to_owned()
}

fn webhook(bundle: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "database-operator"},
        "webhooks": [{
            "name": "databases.intent.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Ignore",
            "clientConfig": {
                "service": {"name": "database-operator", "namespace": OPERATORS}, "caBundle": STANDARD.encode(bundle),
            },
        }],
    })
}

fn slice(replica: u32, address: IpAddr, port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("replica-{replica}"), "namespace": OPERATORS,
            "labels": {"kubernetes.io/service-name": "database-operator"},
        },
        "ports": [{"name": "https", "port": port}],
        "endpoints": [{
            "addresses": [address.to_string()], "targetRef": {"kind": "Pod", "name": format!("replica-{replica}")},
        }],
    })
}

/// An address of this machine that an EndpointSlice may name.
fn own_address(config: &Config) -> IpAddr {
    let server = config.cluster_url.host().and_then(|host| host.parse::<IpAddr>().ok());
    server.filter(|address| !address.is_loopback()).unwrap_or_else(|| {
        // Sends nothing: it only chooses from where something would be sent.
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect("192.0.2.1:9").expect("a network");
        socket.local_addr().expect("an address").ip()
    })
}
