//! Before a real API server, with a real `kubectl`.
//!
//! One test. It starts a control plane of its own and runs itself again inside, where the API server reaches it.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::process::{Output, Stdio};
use std::sync::Arc;

use admission::certificates::keeper::{FIELD_MANAGER, Keeper};
use admission::certificates::{Standing, Times, secret};
use admission::registration::{self, FailurePolicy, Registration, SERVICE, manifest};
use admission::server::Server;
use admission::tls::Tls;
use admission::webhook::{Outcome, Webhook};
use devcluster::TestBed;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Config};
use policy::decision::Verdict;
use policy::desk::{Decided, Desk};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::rotation;
use crate::support::{AT_ONCE, NAMESPACE, PATIENCE, Serving, Staging, database, denies, desk, planner, rules};

/// Set for the run inside of the cluster: the audit log of the API server.
const INSIDE: &str = "ADMISSION_TEST_INSIDE";

/// One rule that denies, and one that warns.
const RULES: &str = r#"
violations contains {
	"id": "sizes.cpu", "severity": "high", "action": "deny", "path": "spec.resources.limits.cpu",
	"message": sprintf("\"%v\" is more than \"4\"", [input.object.spec.resources.limits.cpu]),
	"measure": input.norm.limits.cpu,
} if {
	input.object.spec.resources.limits.cpu in {"9", "10"}
}

violations contains {
	"id": "sizes.memory", "severity": "high", "action": "deny", "path": "spec.resources.limits.memory",
	"message": "7Gi is a strange amount",
} if {
	input.object.spec.resources.limits.memory == "7Gi"
}

violations contains {
	"id": "sizes.storage", "severity": "low", "action": "warn", "path": "spec.resources.requests.storage",
	"message": "1Gi is soon full",
} if {
	input.object.spec.resources.requests.storage == "1Gi"
}
"#;

#[test]
fn a_real_api_server_asks() {
    if let Some(audit_log) = std::env::var_os(INSIDE) {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        return runtime.block_on(inside(audit_log.to_str().expect("UTF-8")));
    }
    let Some(bed) = TestBed::up("admission") else { return };
    let this = std::env::current_exe().expect("this program");
    let mut again = bed.command(this).expect("a command");
    again
        .args(["--exact", "cluster::a_real_api_server_asks", "--nocapture"])
        .env(INSIDE, bed.audit_log());
    let status = again.status().expect("it can be run");
    assert!(status.success(), "inside of the cluster: {status}");
}

async fn inside(audit_log: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let bed = Bed::new().await;
    let replicas = replicas_begin_at_once(&bed).await;
    denials_are_readable(&bed, audit_log).await;
    warnings_are_shown(&bed).await;
    updates_are_asked_about_where_they_touch_the_spec(&bed).await;
    dry_runs_are_asked_about(&bed).await;
    deletions_pass_and_nobody_can_claim_one(&bed).await;
    without_the_webhook(&bed, replicas).await;
    rotation::no_request_fails_while_certificates_change(&bed).await;
}

/// The cluster, and what all replicas share.
pub(crate) struct Bed {
    pub(crate) client: Client,
    /// Where the API server reaches this process. It sends nothing to a loopback address.
    address: IpAddr,
    pub(crate) desk: Desk,
    pub(crate) webhook: Webhook,
    decided: Arc<Staging>,
}

impl Bed {
    async fn new() -> Self {
        let config = Config::infer().await.expect("KUBECONFIG leads to the test cluster");
        let decided = Arc::<Staging>::default();
        let desk = desk(4, &planner(), Arc::clone(&decided) as Arc<_>);
        desk.guard().activate(rules("r7", RULES));
        let bed = Self {
            address: own_address(&config),
            client: Client::try_from(config).expect("a client"),
            webhook: Webhook::new(desk.clone()),
            desk,
            decided,
        };
        bed.must(&["apply", "--server-side", "-f", "-"], &api::crd_yaml()).await;
        let crds = [
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd/databases.intent.example.com",
        ];
        bed.must(&crds, "").await;
        for namespace in [NAMESPACE, "shop"] {
            bed.must(&["create", "namespace", namespace], "").await;
        }
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE, "namespace": NAMESPACE},
            "spec": {"ports": [{"name": "https", "port": registration::PORT}]},
        });
        bed.must(&["create", "-f", "-"], &service.to_string()).await;
        bed
    }

    async fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new("kubectl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("kubectl");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).await.expect("it reads");
        drop(stdin);
        child.wait_with_output().await.expect("it ends")
    }

    /// What it says on standard error, if it succeeds.
    async fn passes(&self, arguments: &[&str], input: &str) -> String {
        let Output { status, stderr, .. } = self.kubectl(arguments, input).await;
        let said = String::from_utf8(stderr).expect("UTF-8");
        assert!(status.success(), "kubectl {arguments:?}: {said}");
        said
    }

    /// What it says on standard error, if it fails.
    async fn refused(&self, arguments: &[&str], input: &str) -> String {
        let Output { status, stderr, .. } = self.kubectl(arguments, input).await;
        let said = String::from_utf8(stderr).expect("UTF-8");
        assert!(!status.success(), "kubectl {arguments:?}: {said}");
        said
    }

    async fn must(&self, arguments: &[&str], input: &str) -> String {
        let Output { status, stdout, stderr } = self.kubectl(arguments, input).await;
        assert!(
            status.success(),
            "kubectl {arguments:?}: {}",
            String::from_utf8_lossy(&stderr)
        );
        String::from_utf8(stdout).expect("UTF-8")
    }

    /// The Service leads to these replicas.
    pub(crate) async fn lead_to(&self, replicas: &[Replica]) {
        for (number, replica) in replicas.iter().enumerate() {
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {
                    "name": format!("replica-{number}"), "namespace": NAMESPACE,
                    "labels": {"kubernetes.io/service-name": SERVICE},
                },
                "endpoints": [{"addresses": [replica.serving.address.ip()], "conditions": {"ready": true}}],
                "ports": [{"name": "https", "port": replica.serving.address.port(), "protocol": "TCP"}],
            });
            self.must(&["apply", "--server-side", "-f", "-"], &slice.to_string())
                .await;
        }
    }

    /// Registers the webhook, as an installer would.
    pub(crate) async fn register(&self, failure_policy: FailurePolicy) {
        let manifest = manifest(&Registration {
            namespace: NAMESPACE.to_owned(),
            failure_policy,
            inject_ca_from: None,
        });
        let apply = ["apply", "--server-side", "--field-manager=installer", "-f", "-"];
        let said = self.passes(&apply, &manifest.to_string()).await;
        assert_eq!(said, "");
    }

    pub(crate) fn registrations(&self) -> Api<ValidatingWebhookConfiguration> {
        Api::all(self.client.clone())
    }

    async fn registration(&self) -> ValidatingWebhookConfiguration {
        self.registrations().get(registration::NAME).await.expect("it is there")
    }

    /// What was decided last, and how many decisions there have been.
    async fn last(&self) -> (usize, Option<Decided>) {
        self.desk.settle().await;
        let decided = self.decided.0.lock().expect("nobody panics");
        (decided.len(), decided.last().cloned())
    }
}

/// Where the API server listens, unless that is a loopback address; then another of this machine's.
fn own_address(config: &Config) -> IpAddr {
    let host = config.cluster_url.host().and_then(|host| host.parse::<IpAddr>().ok());
    host.filter(|address| !address.is_loopback()).unwrap_or_else(|| {
        // Sends nothing: it only chooses the address from which something would be sent.
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect("192.0.2.1:9").expect("a network");
        socket.local_addr().expect("an address").ip()
    })
}

/// An operator, as far as this crate goes.
pub(crate) struct Replica {
    pub(crate) serving: Serving,
    pub(crate) tls: Tls,
    pub(crate) standing: watch::Receiver<Standing>,
    stop: oneshot::Sender<()>,
    keeping: JoinHandle<()>,
}

impl Replica {
    pub(crate) async fn start(bed: &Bed, times: Times) -> Self {
        let tls = Tls::new().expect("TLS");
        let serving = Serving::at(
            bed.address,
            Server::new(tls.clone(), bed.webhook.router()).with_limits(AT_ONCE),
        )
        .await;
        let (standing, stands) = watch::channel(Standing::default());
        let keeper = Keeper {
            client: bed.client.clone(),
            namespace: NAMESPACE.to_owned(),
            tls: tls.clone(),
            times,
            now: Timestamp::now,
            standing,
        };
        let (stop, stopped) = oneshot::channel();
        let keeping = tokio::spawn(keeper.run(async {
            drop(stopped.await);
        }));
        Self {
            serving,
            tls,
            standing: stands,
            stop,
            keeping,
        }
    }

    pub(crate) async fn accepted(&mut self) {
        let accepted = |standing: &Standing| standing.accepted && standing.leaf_ends.is_some();
        let told = timeout(PATIENCE, self.standing.wait_for(accepted)).await.is_ok();
        assert!(told, "not accepted: {:?}", self.standing.borrow());
    }

    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.keeping.await.expect("it ends");
        self.serving.stop().await;
    }
}

fn sized(name: &str, cpu: &str, storage: &str) -> String {
    let mut database = database("18");
    database["metadata"]["name"] = json!(name);
    database["spec"]["resources"]["limits"]["cpu"] = json!(cpu);
    database["spec"]["resources"]["requests"]["storage"] = json!(storage);
    database.to_string()
}

const APPLY: [&str; 3] = ["apply", "-f", "-"];

async fn replicas_begin_at_once(bed: &Bed) -> Vec<Replica> {
    let start = || Replica::start(bed, Times::default());
    let (one, two, three) = tokio::join!(start(), start(), start());
    let mut replicas = vec![one, two, three];
    // Not before they have begun, so that the registration finds certificates that are there, and they find it.
    bed.lead_to(&replicas).await;
    bed.register(FailurePolicy::Fail).await;
    let mut shown = BTreeSet::new();
    for replica in &mut replicas {
        replica.accepted().await;
        shown.insert(replica.tls.shown().expect("a certificate").certificate().to_owned());
    }
    assert_eq!(shown.len(), 1, "all show the same certificate");

    let secret: Secret = Api::namespaced(bed.client.clone(), NAMESPACE)
        .get(secret::NAME)
        .await
        .expect("it is there");
    let data = secret.data.expect("data");
    // The registration is seen by some replica first: all agree as soon as it is written.
    let accepted = timeout(PATIENCE, async {
        loop {
            let registration = bed.registration().await;
            let webhooks = registration.webhooks.clone().expect("webhooks");
            if webhooks[0].client_config.ca_bundle.as_ref() == Some(&data[secret::BUNDLE]) {
                return registration;
            }
        }
    });
    let registration = accepted.await.expect("it is written");
    let managers = registration.metadata.managed_fields.expect("managers");
    let ours = managers
        .iter()
        .find(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    let ours = serde_json::to_value(&ours.expect("we wrote").fields_v1).expect("JSON");
    let key = "k:{\"name\":\"databases.intent.example.com\"}";
    assert_eq!(
        ours,
        json!({"f:webhooks": {key: {".": {}, "f:clientConfig": {"f:caBundle": {}}, "f:name": {}}}})
    );
    replicas
}

async fn denials_are_readable(bed: &Bed, audit_log: &str) {
    let mut bad: Value = serde_json::from_str(&sized("bad", "9", "10Gi")).expect("JSON");
    bad["spec"]["resources"]["limits"]["memory"] = json!("7Gi");
    let said = bed.refused(&APPLY, &bad.to_string()).await;
    let (_, last) = bed.last().await;
    let last = last.expect("it is decided");
    assert_eq!(
        said,
        format!(
            "Error from server (Forbidden): error when creating \"STDIN\": admission webhook \
             \"databases.intent.example.com\" denied the request: refused by 2 rules:\n\
             - spec.resources.limits.cpu: \"9\" is more than \"4\" (sizes.cpu)\n\
             - spec.resources.limits.memory: 7Gi is a strange amount (sizes.memory)\n\
             decision {}\n",
            last.id
        )
    );
    let user = last.answer.request.user.as_ref().expect("a user");
    assert_eq!(user.name, "kubernetes-admin");
    assert!(
        user.groups.iter().any(|group| group == "system:authenticated"),
        "{user:?}"
    );
    // The audit log of the API server names our decision.
    let log = tokio::fs::read_to_string(audit_log).await.expect("it is there");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let annotations = lines
        .map(|line| line["annotations"].clone())
        .filter(|annotations| annotations["databases.intent.example.com/decision-id"] == last.id.to_string());
    let annotations: Vec<Value> = annotations.collect();
    assert_eq!(annotations.len(), 1, "{annotations:?}");
    assert_eq!(
        annotations[0]["databases.intent.example.com/bundle-revision"],
        "tested=r7"
    );
    assert_eq!(annotations[0]["databases.intent.example.com/verdict"], "deny");
}

async fn warnings_are_shown(bed: &Bed) {
    let said = bed.passes(&APPLY, &sized("small", "2", "1Gi")).await;
    assert_eq!(
        said,
        "Warning: spec.resources.requests.storage: 1Gi is soon full (sizes.storage)\n"
    );
}

async fn updates_are_asked_about_where_they_touch_the_spec(bed: &Bed) {
    bed.desk.guard().activate(denies("r8", "false"));
    bed.passes(&APPLY, &sized("orders", "9", "10Gi")).await;
    bed.desk.guard().activate(rules("r9", RULES));
    let (before, _) = bed.last().await;
    for metadata in [
        json!({"finalizers": ["intent.example.com/finalizer"]}),
        json!({"labels": {"intent.example.com/bucket": "7"}, "annotations": {"intent.example.com/fence": "1"}}),
    ] {
        let patch = json!({"metadata": metadata}).to_string();
        let said = bed
            .passes(
                &["patch", "-n", "shop", "db", "orders", "--type=merge", "-p", &patch],
                "",
            )
            .await;
        assert_eq!(said, "");
    }
    let (after, _) = bed.last().await;
    assert_eq!(
        (after, bed.webhook.count(Outcome::Passed)),
        (before, 0),
        "the API server does not even ask"
    );
    // Rules may judge labels.
    let label = ["label", "-n", "shop", "db", "orders", "a=b"];
    let said = bed.passes(&label, "").await;
    assert!(said.contains("Warning: sizes.cpu: it was so before"), "{said}");

    // No worse than before.
    let said = bed.passes(&APPLY, &sized("orders", "9", "20Gi")).await;
    assert!(
        said.contains("Warning: sizes.cpu: it was so before this change, which passes\n"),
        "{said}"
    );
    let said = bed.refused(&APPLY, &sized("orders", "10", "20Gi")).await;
    assert!(
        said.contains("\n- spec.resources.limits.cpu: \"10\" is more than \"4\" (sizes.cpu)\n"),
        "{said}"
    );
    let last = bed.last().await.1.expect("it is decided");
    assert_eq!(
        last.answer.request.old.expect("an old one")["spec"]["resources"]["requests"]["storage"],
        "20Gi"
    );
}

async fn dry_runs_are_asked_about(bed: &Bed) {
    let dry = ["apply", "--dry-run=server", "-f", "-"];
    let said = bed.refused(&dry, &sized("tried", "9", "10Gi")).await;
    assert!(
        said.contains("refused by a rule:\n- spec.resources.limits.cpu"),
        "{said}"
    );
    assert!(bed.last().await.1.expect("it is decided").answer.request.dry_run);
    bed.passes(&dry, &sized("tried", "2", "10Gi")).await;
    let last = bed.last().await.1.expect("it is decided").answer;
    assert_eq!((last.request.dry_run, last.decision.verdict), (true, Verdict::Allow));
    let said = bed.refused(&["get", "-n", "shop", "db", "tried"], "").await;
    assert!(said.contains("NotFound"), "{said}");
}

async fn deletions_pass_and_nobody_can_claim_one(bed: &Bed) {
    bed.desk.guard().activate(denies("r10", "input.object"));
    let claim = json!({
        "metadata": {"deletionTimestamp": "2026-11-28T00:00:00Z"}, "spec": {"resources": {"limits": {"cpu": "10"}}},
    });
    let patch = ["patch", "-n", "shop", "db", "orders", "--type=merge", "-p"];
    let said = bed.refused(&[&patch[..], &[&claim.to_string()]].concat(), "").await;
    assert!(
        said.contains("metadata.deletionTimestamp") && said.contains("field is immutable"),
        "{said}"
    );

    bed.passes(&["delete", "-n", "shop", "db", "orders", "--wait=false"], "")
        .await;
    let gone = json!({"metadata": {"finalizers": null}}).to_string();
    bed.passes(&[&patch[..], &[&gone]].concat(), "").await;
    let said = bed.refused(&["get", "-n", "shop", "db", "orders"], "").await;
    assert!(said.contains("NotFound"), "{said}");
}

async fn without_the_webhook(bed: &Bed, replicas: Vec<Replica>) {
    for replica in replicas {
        replica.stop().await;
    }
    let said = bed.refused(&APPLY, &sized("good", "2", "10Gi")).await;
    assert!(
        said.contains("failed calling webhook \"databases.intent.example.com\""),
        "{said}"
    );
    // What rules do not judge, and a deletion with its finalizer, go on.
    let patch = ["patch", "-n", "shop", "db", "small", "--type=merge", "-p"];
    let metadata = json!({"metadata": {"finalizers": ["intent.example.com/finalizer"], "labels": {"intent.example.com/bucket": "7"},
        "annotations": {"intent.example.com/fence": "1"}}});
    bed.passes(&[&patch[..], &[&metadata.to_string()]].concat(), "").await;
    bed.passes(&["delete", "-n", "shop", "db", "small", "--wait=false"], "")
        .await;
    let gone = json!({"metadata": {"finalizers": null}}).to_string();
    bed.passes(&[&patch[..], &[&gone]].concat(), "").await;

    let bundle = |registration: &ValidatingWebhookConfiguration| {
        let webhooks = registration.webhooks.as_ref().expect("webhooks");
        webhooks[0].client_config.ca_bundle.clone().expect("a bundle")
    };
    let before = bundle(&bed.registration().await);
    bed.register(FailurePolicy::Ignore).await;
    assert_eq!(
        bundle(&bed.registration().await),
        before,
        "an installer leaves the bundle alone"
    );
    // API servers learn of the other failure policy a moment later.
    let passed = timeout(PATIENCE, async {
        while !bed.kubectl(&APPLY, &sized("bad", "9", "10Gi")).await.status.success() {}
    });
    passed.await.expect("it is let pass");
}
