//! The cluster, namespaces, operators, waiting, and the audit log.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use controller::Settings;
use engines::catalogue::Catalogue;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use planner::child::Kind;
use serde_json::{Value, json};
use sharding::map::ShardMap;
use sharding::{Bucket, Epoch};
use telemetry::{Health, Metrics, Telemetry};
use tokio::sync::{OnceCell, watch};

/// How long anything may take before a test gives up. Generous: the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_mins(2);

/// The engines' images that the test cluster has.
static CATALOGUE: LazyLock<String> = LazyLock::new(|| match std::env::var("TEST_CATALOGUE") {
    Ok(path) => std::fs::read_to_string(path).expect("TEST_CATALOGUE can be read"),
    // Without a real node no image is pulled, and any release will do.
    Err(_) => include_str!("../../../../demo/catalogue.yaml").to_owned(),
});

/// The releases that the test cluster has.
pub(crate) fn catalogue() -> &'static str {
    &CATALOGUE
}

/// The cluster that this process runs in. Clients are made by each test for itself: their connections end with the
/// runtime that opened them, and each test has its own.
pub(crate) struct Cluster {
    admin: Config,
    operator: Config,
    audit: PathBuf,
    /// Whether it has a real node.
    has_node: bool,
}

static CLUSTER: OnceCell<Option<Cluster>> = OnceCell::const_new();
static NAMESPACES: AtomicUsize = AtomicUsize::new(0);

/// The cluster, prepared once: CRD, permissions, and a user for operators. `None`, with a loud word, without one.
async fn cluster() -> Option<&'static Cluster> {
    let cluster = CLUSTER.get_or_init(|| async {
        let variable = |name: &str| std::env::var(name).ok();
        let (Some(audit), Some(operator)) = (variable("TEST_AUDIT_LOG"), variable("TEST_OPERATOR_KUBECONFIG")) else {
            assert!(
                variable("CI").as_deref() != Some("true"),
                "no test cluster, and CI=true: run `make test`"
            );
            eprintln!(
                "SKIPPED: no test cluster (TEST_AUDIT_LOG and TEST_OPERATOR_KUBECONFIG are not set); run `make test`"
            );
            return None;
        };
        let admin = Config::infer().await.expect("KUBECONFIG leads to the test cluster");
        let kubeconfig = Kubeconfig::read_from(&operator).expect("the operator's kubeconfig can be read");
        let mut operator = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("the operator's kubeconfig is complete");
        // The test runs its own requests at once with the operator's.
        operator.read_timeout = Some(Duration::from_mins(5));
        let client = Client::try_from(admin.clone()).expect("a client for the administrator");
        if real_fleet() {
            retract_map(&client).await;
        } else {
            publish_map(&client).await;
        }
        let nodes: Api<DynamicObject> = Api::all_with(client, &resource("", "v1", "Node", "nodes"));
        let has_node = !nodes
            .list(&ListParams::default())
            .await
            .expect("nodes can be listed")
            .items
            .is_empty();
        Some(Cluster {
            admin,
            operator,
            audit: audit.into(),
            has_node,
        })
    });
    cluster.await.as_ref()
}

/// The epoch under which every operator of these tests works.
const EPOCH: Epoch = Epoch(1);

/// The map that the API server's fence compares each write with. No leader keeps it here: each test has operators of its
/// own, which look at its namespace only, and each of them takes itself for the owner of all buckets.
async fn publish_map(client: &Client) {
    let buckets = Bucket::all().len();
    let map = ShardMap {
        installation: "tests".into(),
        leader: "tests_1".parse().expect("an incarnation"),
        term: 1,
        sequence: EPOCH.0,
        members: Vec::new(),
        owners: vec![None; buckets],
        epochs: vec![EPOCH; buckets],
        round: None,
    };
    let maps: Api<DynamicObject> = Api::all_with(client.clone(), &fleet::shardmap::resource());
    let object = fleet::shardmap::to_object(None, &map).expect("JSON");
    match maps.create(&PostParams::default(), &object).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
        Err(error) => panic!("the map cannot be published: {error}"),
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// A test's own namespace.
pub(crate) struct Bed {
    cluster: &'static Cluster,
    admin: Client,
    /// Name of the namespace.
    pub namespace: String,
    audit: Mutex<Audit>,
}

/// What the audit log says of the operator's requests in one namespace, read on from where it was read to.
#[derive(Default)]
struct Audit {
    /// Where to go on. Begins at the length that the log had before the namespace was made.
    read_to: u64,
    /// Resource, and one line of text.
    requests: Vec<(String, String)>,
}

impl Audit {
    fn read_on(&mut self, log: &Path, namespace: &str) {
        let mut file = std::fs::File::open(log).expect("the audit log can be read");
        file.seek(SeekFrom::Start(self.read_to))
            .expect("the audit log only grows");
        let mut more = Vec::new();
        file.read_to_end(&mut more).expect("the audit log can be read");
        // The last line may still be in the middle of being written.
        let whole = more.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read_to += whole as u64;
        for line in String::from_utf8_lossy(&more[..whole])
            .lines()
            .filter(|line| line.contains(namespace))
        {
            let Ok(entry) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let ours = entry["user"]["username"] == "database-operator"
                && entry["stage"] == "ResponseComplete"
                && entry["objectRef"]["namespace"] == namespace;
            let Some(resource) = entry["objectRef"]["resource"].as_str().filter(|_| ours) else {
                continue;
            };
            let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let part = entry["objectRef"]["subresource"]
                .as_str()
                .map(|part| format!("/{part}"))
                .unwrap_or_default();
            let (verb, name, code) = (text("/verb"), text("/objectRef/name"), &entry["responseStatus"]["code"]);
            self.requests
                .push((resource.to_owned(), format!("{verb} {resource}{part} {name} {code}")));
        }
    }
}

/// A namespace of its own for the test of this name, or `None` if there is no cluster.
pub(crate) async fn bed(test: &str) -> Option<Bed> {
    let cluster = cluster().await?;
    let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
    let namespace = format!("{test}-{}-{number}", std::process::id());
    let admin = Client::try_from(cluster.admin.clone()).expect("a client for the administrator");
    let audit_from = std::fs::metadata(&cluster.audit).expect("there is an audit log").len();
    let namespaces: Api<DynamicObject> = Api::all_with(admin.clone(), &resource("", "v1", "Namespace", "namespaces"));
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let object = serde_json::from_value(object).expect("a namespace");
    namespaces
        .create(&PostParams::default(), &object)
        .await
        .expect("the namespace is made");
    Some(Bed {
        cluster,
        admin,
        namespace,
        audit: Mutex::new(Audit {
            read_to: audit_from,
            ..Audit::default()
        }),
    })
}

/// Like [`bed`], for the real program, which keeps the map by itself: see `test/run`. Such tests run one at a time.
pub(crate) async fn real_bed(test: &str) -> Option<Bed> {
    if !real_fleet() {
        eprintln!("SKIPPED: the real program does not share a map with other tests; run `make test`");
        return None;
    }
    bed(test).await
}

/// Both.
pub(crate) async fn real_bed_with_node(test: &str) -> Option<Bed> {
    let bed = real_bed(test).await?;
    bed.cluster.has_node.then_some(bed)
}

/// Whether the real program runs in these tests, and keeps the map.
fn real_fleet() -> bool {
    std::env::var("TEST_FLEET").as_deref() == Ok("real")
}

/// Takes back what [`publish_map`] made.
async fn retract_map(client: &Client) {
    let maps: Api<DynamicObject> = Api::all_with(client.clone(), &fleet::shardmap::resource());
    match maps.delete(sharding::crd::MAP_NAME, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.reason == "NotFound" => {}
        Err(error) => panic!("the map cannot be deleted: {error}"),
    }
}

/// Like [`bed`], if the cluster has a real node.
pub(crate) async fn bed_with_node(test: &str) -> Option<Bed> {
    let cluster = cluster().await?;
    if !cluster.has_node {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "the test cluster has no node, and CI=true"
        );
        eprintln!("SKIPPED: the test cluster has no real node (it needs root); run `make test` as root");
        return None;
    }
    bed(test).await
}

/// A running operator. Dropping it is its sudden death: no request is finished, nothing is released.
pub(crate) struct Operator {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    /// Its metrics.
    pub metrics: Metrics,
    health: Health,
}

impl Operator {
    /// What keeps it from being alive.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.health.faults()
    }

    /// Stops it as SIGTERM does: requests in flight are finished.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        (&mut self.task).await.expect("the operator ends without a panic");
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bed {
    /// An operator for this namespace, with as many pods for each StatefulSet.
    pub(crate) fn operator(&self, replicas: u32) -> Operator {
        self.operator_with(replicas, catalogue(), None)
    }

    /// An operator with another catalogue, as a newer version of it would have.
    pub(crate) fn operator_with_catalogue(&self, replicas: u32, catalogue: &str) -> Operator {
        self.operator_with(replicas, catalogue, None)
    }

    /// An operator that dies after its n-th write has been answered.
    pub(crate) fn mortal_operator(&self, replicas: u32, writes: usize) -> (Operator, Arc<tokio::sync::Notify>) {
        let died = Arc::new(tokio::sync::Notify::new());
        (
            self.operator_with(replicas, catalogue(), Some((writes, died.clone()))),
            died,
        )
    }

    fn operator_with(
        &self,
        replicas: u32,
        catalogue: &str,
        mortal: Option<(usize, Arc<tokio::sync::Notify>)>,
    ) -> Operator {
        let client = match mortal {
            None => Client::try_from(self.operator_config()).expect("a client for the operator"),
            Some((writes, died)) => crate::crash::mortal_client(self.operator_config(), writes, died),
        };
        self.operator_as(client, |settings| {
            settings.replicas = replicas;
            settings.catalogue = Arc::new(Catalogue::from_yaml(catalogue).expect("a catalogue"));
        })
    }

    /// What clients for operators are made from.
    pub(crate) fn operator_config(&self) -> Config {
        self.cluster.operator.clone()
    }

    /// An operator for this namespace that has no pods, with changes to its settings.
    pub(crate) fn operator_as(&self, client: Client, change: impl FnOnce(&mut Settings)) -> Operator {
        let telemetry = Telemetry::new("test", Duration::from_mins(1)).expect("series can be registered");
        let (metrics, health) = (telemetry.metrics.clone(), telemetry.health.clone());
        let (stop, stopped) = watch::channel(false);
        let mut settings = Settings {
            namespaces: vec![self.namespace.clone()],
            workers: 16,
            member: "test".to_owned(),
            catalogue: Arc::new(Catalogue::from_yaml(catalogue()).expect("a catalogue")),
            max_restarting: 10,
            replicas: 0,
            queue: workqueue::Limits::default(),
            deadline: Duration::from_mins(1),
            desk: None,
            patience: Duration::from_secs(30),
        };
        change(&mut settings);
        let fleet = fleet::alone(EPOCH);
        let task = tokio::spawn(controller::run(client, settings, fleet, telemetry, stopped));
        Operator {
            stop,
            task,
            metrics,
            health,
        }
    }

    /// The administrator's client.
    pub(crate) fn admin(&self) -> Client {
        self.admin.clone()
    }

    /// Objects of a kind of child in this namespace, as the administrator sees them.
    pub(crate) fn children(&self, kind: Kind) -> Api<DynamicObject> {
        let (group, version, plural) = kind.resource();
        self.api(group, version, kind.name(), plural)
    }

    /// Databases in this namespace.
    pub(crate) fn databases(&self) -> Api<DynamicObject> {
        self.api(
            api::names::GROUP,
            api::names::VERSION,
            api::names::KIND,
            api::names::PLURAL,
        )
    }

    /// Objects of any kind in this namespace.
    pub(crate) fn api(&self, group: &str, version: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.admin(), &self.namespace, &resource(group, version, kind, plural))
    }

    /// Creates an object as the administrator.
    pub(crate) async fn create(&self, api: &Api<DynamicObject>, object: Value) -> Value {
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let made = api
            .create(&PostParams::default(), &object)
            .await
            .expect("the object is created");
        serde_json::to_value(made).expect("objects are JSON")
    }

    /// Declares a Database.
    pub(crate) async fn declare(&self, name: &str, spec: Value) -> Value {
        self.create(&self.databases(), database(name, spec)).await
    }

    /// Changes a Database by merge patch, as a user does.
    pub(crate) async fn edit(&self, name: &str, change: Value) -> Value {
        let patched = self
            .databases()
            .patch(name, &user(), &Patch::Merge(change))
            .await
            .expect("the edit is taken");
        serde_json::to_value(patched).expect("objects are JSON")
    }

    /// Reads a Database.
    pub(crate) async fn database(&self, name: &str) -> Option<Value> {
        let found = self.databases().get_opt(name).await.expect("databases can be read")?;
        Some(serde_json::to_value(found).expect("objects are JSON"))
    }

    /// Reads a child.
    pub(crate) async fn child(&self, kind: Kind, name: &str) -> Option<Value> {
        let found = self.children(kind).get_opt(name).await.expect("children can be read")?;
        Some(serde_json::to_value(found).expect("objects are JSON"))
    }

    /// Deletes a child by hand.
    pub(crate) async fn delete(&self, kind: Kind, name: &str) {
        self.children(kind)
            .delete(name, &DeleteParams::default())
            .await
            .expect("the child is deleted");
    }

    /// Reads a volume.
    pub(crate) async fn volume(&self, name: &str) -> Option<Value> {
        let volumes: Api<DynamicObject> = Api::all_with(
            self.admin(),
            &resource("", "v1", "PersistentVolume", "persistentvolumes"),
        );
        let found = volumes.get_opt(name).await.expect("volumes can be read")?;
        Some(serde_json::to_value(found).expect("objects are JSON"))
    }

    /// Runs a shell script in the container of a member, and returns its output, or its errors if it failed.
    pub(crate) async fn exec(&self, pod: &str, script: &str) -> Result<String, String> {
        let output = tokio::process::Command::new("kubectl")
            .args([
                "exec",
                "-n",
                &self.namespace,
                pod,
                "-c",
                "database",
                "--",
                "sh",
                "-ec",
                script,
            ])
            .output()
            .await
            .expect("kubectl is on the PATH");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Waits until the Database satisfies the predicate, and returns it.
    pub(crate) async fn database_when(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || {
            let database = self.database(name).await.unwrap_or_default();
            if holds(&database) {
                Ok(database)
            } else {
                Err(summary(&database))
            }
        })
        .await
    }

    /// Waits until a condition of the Database has this status for its current generation.
    pub(crate) async fn condition(&self, name: &str, condition: &str, status: &str) -> Value {
        self.database_when(name, &format!("{name}: {condition}={status}"), |database| {
            let of = self::condition(database, condition);
            of["status"] == status && of["observedGeneration"] == database["metadata"]["generation"]
        })
        .await
    }

    /// Waits until a Database is gone.
    pub(crate) async fn gone(&self, name: &str) {
        eventually(&format!("{name} is gone"), async || match self.database(name).await {
            None => Ok(()),
            Some(database) => Err(summary(&database)),
        })
        .await;
    }

    /// What the operator wrote in this namespace, from the audit log, Events and Leases apart: one line a request.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.requests()
            .into_iter()
            .filter(|line| !line.starts_with("get ") && !line.starts_with("list ") && !line.starts_with("watch "))
            .collect()
    }

    /// What the operator asked for in this namespace, from the audit log, Events and Leases apart.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests_about(|resource| !matches!(resource, "events" | "leases"))
    }

    /// The Events that the operator wrote in this namespace, from the audit log: one line a request.
    pub(crate) fn events(&self) -> Vec<String> {
        self.requests_about(|resource| resource == "events")
    }

    fn requests_about(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        audit.read_on(&self.cluster.audit, &self.namespace);
        audit
            .requests
            .iter()
            .filter(|(resource, _)| wanted(resource))
            .map(|(_, line)| line.clone())
            .collect()
    }

    /// Waits until the operator has written nothing for `quiet`, and returns the number of its writes.
    pub(crate) async fn settled(&self, quiet: Duration) -> usize {
        let mut last = (self.writes().len(), tokio::time::Instant::now());
        let give_up = tokio::time::Instant::now() + DEADLINE;
        loop {
            tokio::time::sleep(POLL).await;
            let now = self.writes().len();
            if now != last.0 {
                last = (now, tokio::time::Instant::now());
            } else if last.1.elapsed() >= quiet {
                return now;
            }
            assert!(
                tokio::time::Instant::now() < give_up,
                "the operator never stops writing: {:#?}",
                self.writes()
            );
        }
    }

    /// All children of a Database, by kind and name.
    pub(crate) async fn all_children(&self) -> BTreeMap<(Kind, String), Value> {
        let mut all = BTreeMap::new();
        for kind in Kind::ALL {
            for object in self
                .children(kind)
                .list(&ListParams::default())
                .await
                .expect("children can be listed")
            {
                let object = serde_json::to_value(object).expect("objects are JSON");
                if planner::child::database_of(kind, &(&object).into()).is_some() {
                    let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
                    all.insert((kind, name), object);
                }
            }
        }
        all
    }
}

/// How often a condition is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(100);

/// Waits until `look` says yes, and fails with its last no.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let give_up = tokio::time::Instant::now() + DEADLINE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(last) => assert!(
                tokio::time::Instant::now() < give_up,
                "never: {what}. Last seen: {last}"
            ),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A patch as a user sends it.
pub(crate) fn user() -> PatchParams {
    PatchParams {
        field_manager: Some("somebody".to_owned()),
        ..PatchParams::default()
    }
}

/// A Database's manifest.
pub(crate) fn database(name: &str, spec: impl Into<Value>) -> Value {
    json!({"apiVersion": api::names::API_VERSION, "kind": api::names::KIND, "metadata": {"name": name}, "spec": spec.into()})
}

/// A small PostgreSQL.
pub(crate) fn postgresql() -> Value {
    json!({"engine": "postgresql", "version": "15", "resources": {"requests": {"storage": "1Gi"}}})
}

/// A small Redis.
pub(crate) fn redis() -> Value {
    json!({"engine": "redis", "version": "7.0", "resources": {"requests": {"storage": "1Gi"}}})
}

/// A condition of a Database; null if it is not there.
pub(crate) fn condition<'a>(database: &'a Value, name: &str) -> &'a Value {
    let conditions = database.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == name)
        .unwrap_or(&Value::Null)
}

/// What is worth reading of a Database when a test fails.
fn summary(database: &Value) -> String {
    json!({"generation": database["metadata"]["generation"], "deletion": database["metadata"]["deletionTimestamp"], "status": database["status"]}).to_string()
}
