//! `decisions query` of the real binary: three replicas over TLS, and a real API server that says who may see what.
//!
//! One test. It starts a control plane of its own and runs itself again inside, where replicas have an address that an
//! EndpointSlice may name.

use std::io::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use admission::certificates::Times;
use admission::certificates::issue::carry_out;
use admission::certificates::rotation::{State, Step};
use admission::server::serve;
use admission::tls::Tls;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use decisions::reviews::ApiServer;
use decisions::server::router;
use devcluster::TestBed;
use jiff::Timestamp;
use kube::{Client, Config};
use policy::log::{Log, Options, Record, Retention, decision_id, mask};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Set for the run inside of the cluster.
const INSIDE: &str = "DECISIONS_TEST_INSIDE";
/// The operator's namespace.
const OPERATORS: &str = "operators";
/// Stands in every record before it is masked.
const PLANTED: &str = "pw-7d1e0f4b9c2a";

#[test]
fn replicas_are_asked_as_one_by_those_who_may() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        return runtime.block_on(inside());
    }
    let Some(bed) = TestBed::up("decisions") else { return };
    let this = std::env::current_exe().expect("this program");
    let mut again = bed.command(this).expect("a command");
    again
        .args(["--exact", "replicas_are_asked_as_one_by_those_who_may", "--nocapture"])
        .env(INSIDE, "yes");
    let status = again.status().expect("it can be run");
    assert!(status.success(), "inside of the cluster: {status}");
}

async fn inside() {
    let mut bed = Bed::new().await;
    everything_is_seen_by_who_may_list_everywhere(&bed);
    one_namespace_is_seen_by_who_may_list_there(&bed);
    nothing_is_seen_by_others(&bed);
    tokens_are_for_the_api_server_or_for_this(&bed);
    every_format_holds_all_and_no_secret(&bed);
    a_certificate_is_no_token(&bed);
    a_replica_that_is_away_is_named(&mut bed).await;
}

fn kubectl(arguments: &[&str], input: &str) -> String {
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
fn record(number: u32) -> Record {
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
fn expected(fits: impl Fn(u32) -> bool) -> Vec<String> {
    let numbers = (0..RECORDS).rev().filter(|number| fits(*number));
    numbers.map(|number| format!("database-{number}")).collect()
}

const RECORDS: u32 = 60;

fn is_of_shop(number: u32) -> bool {
    (number / 2).is_multiple_of(3)
}

struct Bed {
    folder: TempDir,
    running: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
    logs: Vec<Log>,
}

impl Bed {
    async fn new() -> Self {
        let bed = Self {
            folder: TempDir::new().expect("a folder"),
            running: Vec::new(),
            logs: Vec::new(),
        };
        grant();
        let config = Config::infer().await.expect("KUBECONFIG leads to the test cluster");
        bed.serve(config).await
    }

    fn path(&self, name: &str) -> PathBuf {
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
            let router = router(vec![log.reader(), log.reader()], Arc::clone(&reviews) as Arc<_>);
            let serving = serve(listener, tls, router, async { drop(stopped.await) });
            self.running.push((stop, tokio::spawn(serving)));
            self.logs.push(log);
        }
        self
    }

    /// A kubeconfig with a token of this account.
    fn kubeconfig(&self, namespace: &str, account: &str) -> String {
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

fn token(namespace: &str, account: &str, audience: Option<&str>) -> String {
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

struct Answer {
    code: Option<i32>,
    out: String,
    errors: String,
}

impl Answer {
    /// Of `-o json`.
    fn document(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.errors))
    }

    fn names(&self) -> Vec<String> {
        let document = self.document();
        let decisions = document["decisions"].as_array().expect("decisions");
        let names = decisions.iter().map(|record| record["resource"]["name"].as_str());
        names.map(|name| name.expect("a name").to_owned()).collect()
    }
}

fn ask(kubeconfig: &str, arguments: &[&str]) -> Answer {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_database-operator"))
        .args([
            "decisions",
            "query",
            "--kubeconfig",
            kubeconfig,
            "--operator-namespace",
            OPERATORS,
        ])
        .args(arguments)
        .env_clear()
        .output()
        .expect("it starts");
    let answer = Answer {
        code: status.code(),
        out: String::from_utf8(stdout).expect("UTF-8"),
        errors: String::from_utf8(stderr).expect("UTF-8"),
    };
    assert!(!answer.out.contains(PLANTED) && !answer.errors.contains(PLANTED));
    answer
}

fn everything_is_seen_by_who_may_list_everywhere(bed: &Bed) {
    let auditor = bed.kubeconfig("audit", "auditor");
    let all = ask(&auditor, &["--all", "-o", "json"]);
    assert_eq!((all.code, all.errors.as_str()), (Some(0), ""));
    assert_eq!(all.names(), expected(|_| true));
    let denied = ask(
        &auditor,
        &[
            "--namespace",
            "bank",
            "--verdict",
            "deny",
            "--rule",
            "sizes.cpu",
            "-o",
            "json",
        ],
    );
    assert_eq!(
        denied.names(),
        expected(|number| number / 2 % 3 == 1 && number % 2 == 0)
    );
    // A part of it, and the rest.
    let first = ask(&auditor, &["--limit", "7", "-o", "json"]);
    assert!(first.errors.contains("--cursor"), "{}", first.errors);
    let cursor = first.document()["next"].as_str().expect("there is more").to_owned();
    let rest = ask(&auditor, &["--all", "-o", "json", "--cursor", &cursor]);
    assert_eq!([first.names(), rest.names()].concat(), expected(|_| true));
    // One, by its id.
    let id = all.document()["decisions"][5]["decision_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let one = ask(&auditor, &["--id", &id, "-o", "json"]);
    assert_eq!(one.names(), [all.names()[5].clone()]);
}

fn one_namespace_is_seen_by_who_may_list_there(bed: &Bed) {
    let developer = bed.kubeconfig("shop", "developer");
    for arguments in [
        &["--all", "-o", "json"][..],
        &["--namespace", "shop", "--all", "-o", "json"],
    ] {
        let seen = ask(&developer, arguments);
        assert_eq!(seen.code, Some(0), "{}", seen.errors);
        assert_eq!(seen.names(), expected(is_of_shop));
        let is_told = seen
            .errors
            .contains("only namespaces are shown in which you may list databases");
        assert_eq!(is_told, arguments.len() == 3, "{}", seen.errors);
    }
    let other = ask(&developer, &["--namespace", "bank"]);
    assert_eq!((other.code, other.out.as_str()), (Some(2), ""));
    let refused = "system:serviceaccount:shop:developer may not list databases.intent.example.com in namespace bank";
    assert!(other.errors.contains(refused), "{}", other.errors);
}

fn nothing_is_seen_by_others(bed: &Bed) {
    let stranger = bed.kubeconfig("farm", "stranger");
    let unknown = ask(&stranger, &["--ca-file", bed.path("ca.crt").to_str().expect("UTF-8")]);
    assert_eq!((unknown.code, unknown.out.as_str()), (Some(2), ""));
    for word in ["list endpointslices in namespace operators", "--server"] {
        assert!(unknown.errors.contains(word), "{}", unknown.errors);
    }
    let unknown = ask(&stranger, &["--server", "https://127.0.0.1:1"]);
    assert!(unknown.errors.contains("--ca-file"), "{}", unknown.errors);
    // In the name of another, whose kubeconfig leads to the replicas.
    let file = bed.path("token");
    std::fs::write(&file, token("farm", "stranger", None)).expect("written");
    let auditor = bed.kubeconfig("audit", "auditor");
    let nothing = ask(
        &auditor,
        &["--all", "-o", "json", "--token-file", file.to_str().expect("UTF-8")],
    );
    assert_eq!((nothing.code, nothing.names()), (Some(0), vec![]));
    assert_eq!(nothing.document()["restricted"], true);
}

fn tokens_are_for_the_api_server_or_for_this(bed: &Bed) {
    let auditor = bed.kubeconfig("audit", "auditor");
    let file = bed.path("token");
    let file = file.to_str().expect("UTF-8");
    let asked = |token: &str| {
        std::fs::write(file, format!("{token}\n")).expect("written");
        ask(&auditor, &["--all", "-o", "json", "--token-file", file])
    };
    let ours = asked(&token("shop", "developer", Some("database-operator")));
    assert_eq!(
        (ours.code, ours.names()),
        (Some(0), expected(is_of_shop)),
        "{}",
        ours.errors
    );
    for other in [token("audit", "auditor", Some("vault")), "made-up".to_owned()] {
        let refused = asked(&other);
        assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""));
        for word in ["replica-0", "replica-1", "replica-2", "401"] {
            assert!(refused.errors.contains(word), "{}", refused.errors);
        }
        assert!(!refused.errors.contains(&other));
    }
}

fn every_format_holds_all_and_no_secret(bed: &Bed) {
    let auditor = bed.kubeconfig("audit", "auditor");
    // One line each, and heads.
    for (format, lines) in [
        ("table", RECORDS + 1),
        ("jsonl", RECORDS),
        ("csv", RECORDS + 1),
        ("opa", RECORDS),
    ] {
        let answer = ask(&auditor, &["--all", "-o", format]);
        assert_eq!((answer.code, answer.errors.as_str()), (Some(0), ""), "{format}");
        assert_eq!(answer.out.lines().count(), lines as usize, "{format}: {}", answer.out);
        for number in 0..RECORDS {
            let id = record(number).decision_id.to_string();
            assert!(answer.out.contains(&id), "{format}: {number}");
        }
    }
}

fn a_certificate_is_no_token(bed: &Bed) {
    let admin = std::env::var("KUBECONFIG").expect("it is set");
    let refused = ask(&admin, &[]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""));
    for word in ["but a client certificate", "kubectl create token", "--token-file"] {
        assert!(refused.errors.contains(word), "{}", refused.errors);
    }
    let file = bed.path("token");
    std::fs::write(&file, token("audit", "auditor", None)).expect("written");
    let answer = ask(
        &admin,
        &["--all", "-o", "json", "--token-file", file.to_str().expect("UTF-8")],
    );
    assert_eq!(answer.names(), expected(|_| true));
}

async fn a_replica_that_is_away_is_named(bed: &mut Bed) {
    let (stop, ended) = bed.running.remove(1);
    drop(stop);
    ended.await.expect("it ends");
    let auditor = bed.kubeconfig("audit", "auditor");
    let partial = ask(&auditor, &["--all", "-o", "json"]);
    assert_eq!(partial.code, Some(3), "{}", partial.errors);
    assert_eq!(partial.names(), expected(|number| number % 3 != 1));
    assert!(
        partial
            .errors
            .contains("warning: what replica-1 has decided is missing"),
        "{}",
        partial.errors
    );
    let document = partial.document();
    assert_eq!(
        (&document["partial"], &document["missing"][0]["replica"]),
        (&json!(true), &json!("replica-1"))
    );
    for (stop, ended) in bed.running.drain(..) {
        drop(stop);
        ended.await.expect("it ends");
    }
    assert_eq!(bed.logs.len(), 3, "their stores are there to the end");
    let nobody = ask(&auditor, &["--all"]);
    assert_eq!((nobody.code, nobody.out.as_str()), (Some(2), ""));
    assert!(nobody.errors.contains("no replica answers"), "{}", nobody.errors);
}
