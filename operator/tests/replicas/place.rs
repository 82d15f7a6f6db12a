//! Where it happens: the API server, the replicas, the load, and what was done to them when.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use sharding::Bucket;
use sharding::crd::{FENCED_CONDITION, MAP_NAME};
use sharding::map::{Role, Spec};

use crate::audit::{Log, Micros, Write, now};
use crate::judge::{Death, owner};
use crate::load::Load;
use crate::replica::Replica;
pub(crate) use crate::replica::Shape;
use crate::setting::Setting;

/// As whom all replicas act.
pub(crate) const USER: &str = "database-operator";
/// Of all Databases.
pub(crate) const NAMESPACE: &str = "chaos";
/// Generous: the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_mins(3);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Until one of many has its children: an API server on two cores does some twenty a second.
const A_DATABASE: Duration = Duration::from_millis(300);
/// The API server may be stopped.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Not `eprintln!`, which is swallowed when a test passes.
pub(crate) fn say(text: &str) {
    std::io::stderr()
        .write_all(format!("{text}\n").as_bytes())
        .expect("standard error is open");
}

/// What the binary prints.
fn printed(arguments: &[&str]) -> String {
    let mut command = Command::new(crate::replica::binary());
    let output = command.args(arguments).env_clear().output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What `kubectl` prints, or why it failed.
fn kubectl(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut command = Command::new("kubectl");
    command.args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    // One that was refused early has not read it all.
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

#[track_caller]
fn must(arguments: &[&str], input: &str) -> String {
    kubectl(arguments, input).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
}

/// What was done, for the judge.
#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) deaths: Vec<Death>,
    /// When anything but planned handovers was under way.
    pub(crate) faults: Vec<(Micros, Micros)>,
    /// How long after an outage of the API server a replica wrote again.
    pub(crate) resumed: Vec<Micros>,
    /// How often each kind of fault was there.
    pub(crate) done: BTreeMap<&'static str, usize>,
}

pub(crate) struct Place {
    pub(crate) client: Client,
    pub(crate) log: Log,
    pub(crate) api_server: i32,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) load: Option<Load>,
    pub(crate) databases: Vec<(String, Bucket)>,
    pub(crate) random: StdRng,
    pub(crate) journal: Journal,
    began: Instant,
    server: SocketAddr,
    kubeconfig: PathBuf,
    folder: PathBuf,
    quiet_kubeconfig: PathBuf,
    /// With which the replicas' wall clocks can be set.
    pub(crate) faketime: Option<PathBuf>,
    pub(crate) shape: Shape,
    /// Whether the audit log is of no interest.
    quiet: bool,
}

impl Place {
    /// Installs the operator without its fence.
    pub(crate) async fn new(setting: Setting, shape: Shape, seed: u64) -> Self {
        let mut config = kube::Config::infer()
            .await
            .expect("KUBECONFIG leads to the test cluster");
        config.default_retry = false;
        let server = config.cluster_url.authority().expect("an address").to_string();
        must(&["apply", "--server-side", "-f", "-"], &printed(&["crds"]));
        for name in [NAMESPACE, "database-operator"] {
            must(&["create", "namespace", name], "");
        }
        must(&["apply", "-f", "-"], &printed(&["rbac", "--user", USER]));
        let wait = ["wait", "--for=condition=Established", "--timeout=60s"];
        let definitions = ["crd/databases.intent.example.com", "crd/shardmaps.intent.example.com"];
        must(&[&wait[..], &definitions].concat(), "");
        Self {
            client: Client::try_from(config).expect("a client"),
            log: Log::new(&setting.audit_log),
            api_server: setting.api_server,
            replicas: Vec::new(),
            load: None,
            databases: Vec::new(),
            random: StdRng::seed_from_u64(seed),
            journal: Journal::default(),
            began: Instant::now(),
            server: server.parse().expect("an address and a port"),
            kubeconfig: setting.kubeconfig,
            folder: setting.folder,
            quiet_kubeconfig: setting.quiet_kubeconfig,
            faketime: None,
            shape,
            quiet: false,
        }
    }

    /// Three replicas under the fence, with so many Databases that have their children.
    pub(crate) async fn of_three(setting: Setting, shape: Shape, databases: usize) -> Self {
        let mut place = Self::new(setting, shape, 1).await;
        for name in ["r0", "r1", "r2"] {
            place.add_replica(name);
        }
        place.declare(databases).await;
        place.settled().await;
        place.fence().await;
        place.all_done().await;
        place
    }

    /// Installs the fence, and waits until it is in force, which it is once there is a map.
    pub(crate) async fn fence(&mut self) {
        let manifests = printed(&["crds", "--with-fence", "--user", USER]);
        must(&["apply", "--server-side", "-f", "-"], &manifests);
        let canary = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "canary", "namespace": NAMESPACE,
                "labels": {api::names::BUCKET_LABEL: "7"},
                "annotations": {api::names::FENCE_ANNOTATION: "1"},
            },
        });
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig.display());
        let create = [&kubeconfig, "create", "--dry-run=server", "-f", "-"];
        let deadline = Instant::now() + DEADLINE;
        loop {
            match kubectl(&create, &canary.to_string()) {
                Err(said) if said.contains("stale owner") => return,
                answer => assert!(Instant::now() < deadline, "the fence is not in force: {answer:?}"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) fn tell(&self, text: &str) {
        say(&format!("    [{:5.1} s] {text}", self.began.elapsed().as_secs_f64()));
    }

    pub(crate) fn add_replica(&mut self, name: &str) {
        let text = std::fs::read_to_string(if self.quiet {
            &self.quiet_kubeconfig
        } else {
            &self.kubeconfig
        });
        let text = text.expect("a kubeconfig");
        let kubeconfig: Value = serde_json::from_str(&text).expect("JSON");
        let mut replica = Replica::new(name, self.shape.clone(), &kubeconfig, self.server, &self.folder);
        if let Some(faketime) = &self.faketime {
            replica.has_clock(faketime);
        }
        replica.start();
        self.replicas.push(replica);
    }

    /// Declares so many Databases, those that are there included.
    pub(crate) async fn declare(&mut self, count: usize) {
        let load = Load::create(&self.client, count).await;
        self.databases = load.names();
        self.load = Some(load);
    }

    pub(crate) fn load(&self) -> &Load {
        self.load.as_ref().expect("it was created")
    }

    /// The map as it is; nothing, while the API server does not answer.
    pub(crate) async fn map(&self) -> Option<Spec> {
        let maps: Api<DynamicObject> = Api::all_with(self.client.clone(), &fleet::shardmap::resource());
        let map = tokio::time::timeout(ANSWER_WITHIN, maps.get(MAP_NAME)).await;
        serde_json::from_value(map.ok()?.ok()?.data["spec"].clone()).ok()
    }

    /// What the leader says of the fence: `True`, `False` or `Unknown`.
    pub(crate) async fn fenced(&self) -> Option<String> {
        let maps: Api<DynamicObject> = Api::all_with(self.client.clone(), &fleet::shardmap::resource());
        let map = maps.get(MAP_NAME).await.ok()?;
        let conditions = map.data["status"]["conditions"].as_array()?;
        let fenced = conditions.iter().find(|one| one["type"] == FENCED_CONDITION)?;
        Some(fenced["status"].as_str()?.to_owned())
    }

    /// By how many seconds a replica's wall clock is ahead of this one, as its Lease says.
    pub(crate) async fn wall_clock_of(&self, member: &str) -> i64 {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "database-operator");
        let all = leases.list(&ListParams::default()).await.expect("a list").items;
        let specs = all.into_iter().filter_map(|lease| lease.spec);
        let holds = |spec: &LeaseSpec| {
            let holder = spec.holder_identity.as_deref();
            holder
                .and_then(|holder| holder.split_once('_'))
                .is_some_and(|(name, _)| name == member)
        };
        let renewed = specs
            .filter(holds)
            .filter_map(|spec| spec.renew_time)
            .map(|time| time.0)
            .max();
        renewed.expect("it has a Lease").as_second() - now() / 1_000_000
    }

    /// Who leads, if it is one of those that run; else any.
    pub(crate) async fn leader(&self) -> usize {
        let map = self.map().await;
        let leader = map.map(|map| map.leader.name.to_string()).unwrap_or_default();
        self.replicas
            .iter()
            .position(|replica| replica.name == leader)
            .unwrap_or(0)
    }

    /// A pause in which nothing is expected to end.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.look().await;
            tokio::time::sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// What is looked at all the time: no replica ends by itself, and how much each has done.
    async fn look(&mut self) {
        for replica in &mut self.replicas {
            replica.must_run();
            replica.count().await;
        }
        if !self.quiet {
            self.log.follow().expect("the audit log");
        }
    }

    /// Waits until it is so.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl Fn(&Self, Option<&Spec>) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.look().await;
            let map = self.map().await;
            if is_so(self, map.as_ref()) {
                return;
            }
            if Instant::now() >= deadline {
                let logs: Vec<String> = self.replicas.iter().map(Replica::last_lines).collect();
                panic!(
                    "not within {DEADLINE:?}: {what}; {}\n{}",
                    shares(map.as_ref()),
                    logs.join("\n\n")
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the replicas that run, and no others, share all buckets, and nothing moves.
    pub(crate) async fn settled(&mut self) {
        self.until("the replicas share the buckets", |place, map| {
            map.is_some_and(|map| is_settled(place, map))
        })
        .await;
    }

    /// Waits until all that was declared is done.
    pub(crate) async fn all_done(&mut self) {
        let count = u32::try_from(self.databases.len()).expect("few");
        let deadline = Instant::now() + DEADLINE + A_DATABASE * count;
        loop {
            self.pass(LOOK * 5).await;
            // Listing many takes the time of the API server that has the work to do.
            let waiting: u64 = self.replicas.iter().map(|replica| replica.waiting).sum();
            let late = Instant::now() >= deadline;
            if waiting > 0 && !late {
                continue;
            }
            match self.load().settled().await {
                Ok(()) => return,
                Err(missing) => assert!(!late, "not done: {missing}"),
            }
        }
    }

    /// Waits until a replica that was asked to stop has ended as it should.
    pub(crate) async fn stops(&mut self, replica: usize) {
        let deadline = Instant::now() + DEADLINE;
        let replica = &mut self.replicas[replica];
        let status = loop {
            if let Some(status) = replica.ended() {
                break status;
            }
            let name = &replica.name;
            assert!(
                Instant::now() < deadline,
                "{name} does not stop: {}",
                replica.last_lines()
            );
            replica.count().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(status.success(), "{}: {status}: {}", replica.name, replica.last_lines());
    }

    /// All replicas die, and others are started; without a trace in the audit log, if it is `quiet`.
    pub(crate) async fn begin_anew(&mut self, shape: Shape, names: &[&str], quiet: bool) {
        self.replicas.clear();
        self.shape = shape;
        self.quiet = quiet;
        self.log.skip().expect("the audit log");
        for name in names {
            self.add_replica(name);
        }
        self.settled().await;
    }

    /// Waits until this member owns nothing any more.
    pub(crate) async fn taken(&mut self, member: &str) {
        let what = format!("others take the buckets of {member}");
        self.until(&what, |_, map| {
            let owns = |map: &Spec| {
                let mut owners = Bucket::all().filter_map(|bucket| owner(map, bucket));
                owners.any(|(owner, _)| owner == member)
            };
            map.is_some_and(|map| !owns(map))
        })
        .await;
    }

    /// The Databases that a member owns now.
    pub(crate) async fn databases_of(&self, member: &str) -> Vec<String> {
        let Some(map) = self.map().await else { return Vec::new() };
        let theirs = |bucket| owner(&map, bucket).is_some_and(|(owner, _)| owner == member);
        let databases = self.databases.iter().filter(|(_, bucket)| theirs(*bucket));
        databases.map(|(name, _)| name.clone()).collect()
    }

    /// Changes these Databases, and waits until others than this member have written for each of them.
    pub(crate) async fn written_by_others(&mut self, databases: &[String], member: &str, since: Micros) {
        self.load().urge(databases);
        self.load().calm(true);
        let from = self.log.writes.len();
        let by_others = |write: &Write| write.accepted() && write.member != member && write.done > since;
        self.until("others write for the Databases", |place, _| {
            let recent = &place.log.writes[from.saturating_sub(2000)..];
            databases.iter().all(|database| {
                let mut writes = recent.iter().filter(|write| write.database == *database);
                writes.any(&by_others)
            })
        })
        .await;
        self.load().calm(false);
    }

    pub(crate) fn since(&self, from: Micros) -> Vec<&Write> {
        let writes = self.log.writes.iter();
        writes.filter(|write| write.done > from).collect()
    }

    /// Notes that a fault was there, from then to now.
    pub(crate) fn healed(&mut self, from: Micros) {
        self.journal.faults.push((from, now()));
    }
}

fn is_settled(place: &Place, map: &Spec) -> bool {
    let up: Vec<&str> = place
        .replicas
        .iter()
        .filter(|replica| replica.is_up())
        .map(|replica| replica.name.as_str())
        .collect();
    let in_role = |role| map.members.iter().filter(move |member| member.role == role);
    let known = in_role(Role::Active).chain(in_role(Role::Standby));
    let all_known = known.clone().count() == up.len() && map.members.len() == up.len();
    let active = in_role(Role::Active).count() == up.len().min(place.shape.shards);
    let owned = Bucket::all().all(|bucket| owner(map, bucket).is_some_and(|(owner, _)| up.contains(&owner)));
    all_known && active && owned && map.round.is_none()
}

/// For messages.
fn shares(map: Option<&Spec>) -> String {
    let Some(map) = map else {
        return "no map can be read".to_owned();
    };
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    for (owner, _) in Bucket::all().filter_map(|bucket| owner(map, bucket)) {
        *shares.entry(owner).or_default() += 1;
    }
    let members: Vec<String> = map
        .members
        .iter()
        .map(|member| format!("{} {:?}", member.incarnation, member.role))
        .collect();
    let round = map
        .round
        .as_ref()
        .map(|round| (round.number, round.phase, round.moves.len()));
    format!("members {members:?}, shares {shares:?}, round {round:?}")
}
