//! Real clusters, made and removed by the executable of this crate.
//!
//! Each test has a state folder of its own, so no other cluster of this user is touched. The cache is the user's: the
//! first run builds Kubernetes (minutes), later runs take seconds.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use devcluster::skip;
use serde_json::Value;

/// Why no network namespace can be made, if so.
fn no_namespaces() -> Option<&'static str> {
    let tried = Command::new("unshare")
        .args(["--net", "true"])
        .stderr(Stdio::null())
        .status();
    (!tried.is_ok_and(|status| status.success())).then_some("network namespaces need root")
}

/// Why no real node can be made, if so.
fn no_nodes() -> Option<&'static str> {
    let version_1 = fs::read_to_string("/proc/self/cgroup").is_ok_and(|text| text.contains(":memory:"));
    no_namespaces().or((!version_1).then_some("real nodes need cgroups of version 1"))
}

/// The executable with a state folder of its own; its clusters are ended with it.
struct Bench {
    state: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        // Beside the executable: a real file system, whatever /tmp is.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        Self {
            state: tempfile::tempdir_in(folder).unwrap(),
        }
    }

    fn command(&self, line: &str) -> Command {
        // Words are split at spaces; a tab stands for a space within one.
        let words = line.split(' ').map(|word| word.replace('\t', " "));
        let mut command = Command::new(env!("CARGO_BIN_EXE_devcluster"));
        command.args(words).env("XDG_STATE_HOME", self.state.path());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// The output of a command that must succeed.
    fn text(&self, line: &str) -> String {
        let output = self.run(line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "`{line}` ended with {}:\n{errors}",
            output.status
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The output of a command that succeeds once every kube-proxy has heard what the API server already tells: until
    /// then a Service refuses connections.
    fn text_at_last(&self, line: &str) -> String {
        let deadline = Instant::now() + Duration::from_mins(1);
        while Instant::now() < deadline {
            let output = self.run(line);
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap();
            }
            thread::sleep(Duration::from_millis(200));
        }
        self.text(line)
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.text(&format!("{line} -o json"))).unwrap()
    }

    /// Lets the cluster read `manifest`.
    fn apply(&self, manifest: &str) {
        let mut apply = self
            .command("exec -- kubectl apply -f -")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        apply.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
        assert!(apply.wait().unwrap().success());
    }

    fn clusters(&self) -> PathBuf {
        self.state.path().join("database-operator/devcluster")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let ended = self.run("down --all");
        if !ended.status.success() {
            eprintln!("down: {}", String::from_utf8_lossy(&ended.stderr));
        }
    }
}

fn network_of(process: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/net")).ok()
}

fn processes() -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.parse::<u32>().is_ok())
        .collect()
}

/// What a cluster occupies while it runs, to be looked for when it is gone.
struct Traces {
    network: PathBuf,
    cgroups: Vec<PathBuf>,
}

impl Traces {
    fn of(bench: &Bench, status: &Value) -> Self {
        let network = network_of(&status["supervisor"].to_string()).unwrap();
        let nodes = bench.clusters().join(status["name"].as_str().unwrap()).join("nodes");
        let lists = fs::read_dir(nodes)
            .into_iter()
            .flatten()
            .map(|node| node.unwrap().path().join("cgroups.json"));
        let cgroups = lists.flat_map(|list| serde_json::from_slice::<Vec<PathBuf>>(&fs::read(list).unwrap()).unwrap());
        let cgroups: Vec<PathBuf> = cgroups.collect();
        assert!(cgroups.iter().all(|path| path.is_dir()), "{cgroups:?}");
        let here = processes()
            .iter()
            .filter(|process| network_of(process).as_ref() == Some(&network))
            .count();
        assert!(
            here >= 5,
            "only {here} processes in the cluster's network: looking for them would prove nothing"
        );
        Self { network, cgroups }
    }

    fn assert_gone(&self, bench: &Bench) {
        let left: Vec<String> = processes()
            .into_iter()
            .filter(|process| network_of(process).as_ref() == Some(&self.network))
            .collect();
        assert_eq!(left, Vec::<String>::new(), "processes");
        let left: Vec<&PathBuf> = self.cgroups.iter().filter(|path| path.exists()).collect();
        assert_eq!(left, Vec::<&PathBuf>::new(), "cgroups");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(bench.state.path().to_str().unwrap()),
            "mounts:\n{mounts}"
        );
        let files: Vec<PathBuf> = fs::read_dir(bench.clusters())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(files, Vec::<PathBuf>::new(), "files");
    }
}

#[test]
fn a_control_plane_comes_up_twice_and_leaves_nothing_behind() {
    if let Some(reason) = no_namespaces() {
        return skip("a_control_plane_comes_up_twice_and_leaves_nothing_behind", reason);
    }
    let bench = Bench::new();
    for round in 1..=2 {
        let status = bench.json("up --name twice");
        assert_eq!(
            (status["phase"].as_str(), status["mode"].as_str()),
            (Some("running"), Some("namespace"))
        );
        assert_eq!(status["nodes"], Value::Array(Vec::new()));
        let traces = Traces::of(&bench, &status);

        let again = bench.run("up --name twice");
        assert!(
            String::from_utf8_lossy(&again.stderr).contains("runs already"),
            "round {round}: {again:?}"
        );
        assert_eq!(
            bench.json("status --name twice")["supervisor"],
            status["supervisor"],
            "the same one"
        );
        let other = bench.run("up --name twice --simulated-nodes 3");
        assert!(!other.status.success() && String::from_utf8_lossy(&other.stderr).contains("take it down first"));

        // Whatever the command ends with is what `exec` ends with.
        assert_eq!(
            bench
                .run("exec --name twice -- kubectl get configmap none-of-this-name")
                .status
                .code(),
            Some(1)
        );
        assert_eq!(bench.run("exec --name twice -- sh -c exit\t42").status.code(), Some(42));
        assert!(
            bench
                .text("exec --name twice -- kubectl version")
                .contains("Server Version: v1.36.3")
        );

        let ended = bench.json("down --name twice");
        assert_eq!(ended["ended"][0], "twice", "{ended}");
        traces.assert_gone(&bench);
        assert!(!bench.run("status --name twice").status.success());
    }
}

#[test]
fn every_request_of_a_user_is_one_line_of_the_audit_log_and_rbac_decides() {
    if let Some(reason) = no_namespaces() {
        return skip(
            "every_request_of_a_user_is_one_line_of_the_audit_log_and_rbac_decides",
            reason,
        );
    }
    let bench = Bench::new();
    bench.text("up");
    let audit = PathBuf::from(bench.text("audit").trim());
    let user = bench.text("kubeconfig --user alice --group testers --group people");
    let as_alice = format!("exec -- kubectl --kubeconfig={}", user.trim());

    assert!(
        bench
            .text(&format!("{as_alice} auth whoami"))
            .contains("[testers people system:authenticated]")
    );
    let refused = bench.run(&format!("{as_alice} create configmap a"));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("\"alice\" cannot create resource \"configmaps\""));
    bench.text("exec -- kubectl create clusterrole maker --verb=create --resource=configmaps");
    bench.text("exec -- kubectl create clusterrolebinding makers --clusterrole=maker --group=testers");
    bench.text(&format!("{as_alice} create configmap b"));

    let text = fs::read_to_string(audit).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let made: Vec<(&str, i64)> = events
        .iter()
        .filter(|event| event["verb"] == "create" && event["objectRef"]["resource"] == "configmaps")
        .map(|event| {
            (
                event["user"]["username"].as_str().unwrap(),
                event["responseStatus"]["code"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(made, [("alice", 403), ("alice", 201)]);
    for event in &events {
        let user = event["user"]["username"].as_str().unwrap();
        assert!(
            user == "alice" || user == "kubernetes-admin",
            "{user} is not a user: {event}"
        );
    }
}

#[test]
fn a_component_that_dies_is_reported_with_its_last_lines() {
    if let Some(reason) = no_namespaces() {
        return skip("a_component_that_dies_is_reported_with_its_last_lines", reason);
    }
    let bench = Bench::new();
    let status = bench.json("up");
    let components = status["components"].as_array().unwrap();
    let scheduler = components
        .iter()
        .find(|component| component["name"] == "kube-scheduler")
        .unwrap();
    assert!(
        Command::new("kill")
            .arg(scheduler["pid"].to_string())
            .status()
            .unwrap()
            .success()
    );
    let began = Instant::now();
    let degraded = loop {
        let output = bench.run("status -o json");
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        if status["phase"] == "degraded" {
            assert!(!output.status.success(), "a script must be able to ask");
            break status;
        }
        assert!(began.elapsed().as_secs() < 60, "not noticed: {status}");
    };
    let ended = |component: &&Value| component["state"].as_str().unwrap().starts_with("ended with");
    let ended: Vec<&Value> = degraded["components"]
        .as_array()
        .unwrap()
        .iter()
        .filter(ended)
        .collect();
    assert_eq!(ended.len(), 1, "{degraded}");
    assert_eq!(ended[0]["name"], "kube-scheduler");
    let log = bench.text("logs supervisor");
    assert!(
        log.contains("kube-scheduler ended with") && log.contains("the last lines of"),
        "{log}"
    );
}

#[test]
fn a_real_node_runs_an_engine_on_a_volume_and_leaves_nothing_behind() {
    if let Some(reason) = no_nodes() {
        return skip(
            "a_real_node_runs_an_engine_on_a_volume_and_leaves_nothing_behind",
            reason,
        );
    }
    let bench = Bench::new();
    let status = bench.json("up --nodes 1");
    let traces = Traces::of(&bench, &status);
    assert!(traces.cgroups.len() >= 5, "{:?}", traces.cgroups);

    bench.apply(include_str!("clusters/engine.yaml"));
    bench.text("exec -- kubectl wait --for=condition=Ready pod/engine --timeout=120s");
    assert_eq!(
        bench
            .text("exec -- kubectl exec engine -- redis-cli set key value")
            .trim(),
        "OK"
    );
    // By the Service's address and by the pod's own, from where an operator under test would run.
    let address = bench.text("exec -- kubectl get service engine -o jsonpath={.spec.clusterIP}");
    bench.text_at_last(&format!("exec -- bash -c exec\t3<>/dev/tcp/{}/6379", address.trim()));
    // By name, from inside the pod: there it is the node's kube-proxy whose rules count.
    let by_name =
        bench.text_at_last("exec -- kubectl exec engine -- redis-cli -h engine.default.svc.cluster.local get key");
    assert_eq!(by_name.trim(), "value");
    let claim = bench.text("exec -- kubectl get pvc data -o jsonpath={.status.phase}");
    assert_eq!(claim, "Bound");

    bench.text("down");
    traces.assert_gone(&bench);
}
