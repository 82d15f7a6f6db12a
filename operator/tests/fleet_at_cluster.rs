//! `database-operator fleet`, asking a real API server about a fleet whose Leases and map are made by hand.
//!
//! One test, so that one control plane (of its own, without nodes) serves all of it; the functions build on each other.

use std::io::Write as _;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use devcluster::{Identity, TestBed};
use fleet::lease::{name_of, to_object};
use fleet::shardmap;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};
use sharding::map::{MapMember, Role, ShardMap};
use sharding::protocol::{Kept, LeaseRecord, Report, Version};
use sharding::timing::Timings;
use sharding::{BUCKETS, Epoch, bucket_of};

const NAMESPACE: &str = "ops";
const OK: i32 = 0;
const REFUSED: i32 = 1;
const ERROR: i32 = 2;

struct Server(TestBed);

impl Server {
    /// As the administrator.
    #[track_caller]
    fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_kubectl(arguments, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn try_kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.0.command("kubectl").expect("kubectl");
        command.args(arguments).stdin(Stdio::piped());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        // One that was refused early has not read it all.
        let _ = pipe.write_all(input.as_bytes());
        drop(pipe);
        child.wait_with_output().expect("it ends")
    }

    /// Exit code, and what was printed and said.
    fn fleet(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let binary = env!("CARGO_BIN_EXE_database-operator");
        let mut command = self.0.command(binary).expect("the binary");
        command.arg("fleet").args(arguments);
        let output = command.output().expect("it starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn status(&self) -> (Option<i32>, Value) {
        let (code, printed, said) = self.fleet(&["status", "--operator-namespace", NAMESPACE, "-o", "json"]);
        assert_eq!(said, "");
        (code, serde_json::from_str(&printed).expect("JSON"))
    }

    /// An error that says all of this.
    #[track_caller]
    fn says(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let (got, printed, said) = self.fleet(arguments);
        assert_eq!((got, printed.as_str()), (Some(code), ""), "{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is missing in: {said}");
        }
    }

    fn put(&self, object: &Value) {
        self.kubectl(
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            &object.to_string(),
        );
    }

    fn put_lease(&self, lease: &Lease) {
        let mut object = serde_json::to_value(lease).expect("JSON");
        object["metadata"]["namespace"] = json!(NAMESPACE);
        self.put(&object);
    }

    fn put_map(&self, owners: [u16; 2]) -> u64 {
        let object = shardmap::to_object(None, &map(owners)).expect("JSON");
        self.put(&serde_json::to_value(&object).expect("JSON"));
        let version = ["get", "shardmap", "fleet", "-o", "jsonpath={.metadata.resourceVersion}"];
        self.kubectl(&version, "").parse().expect("a version")
    }
}

/// The buckets go round the owners.
fn map(owners: [u16; 2]) -> ShardMap {
    let member = |text: &str| MapMember {
        incarnation: text.parse().expect("an incarnation"),
        role: Role::Active,
        weight: 1,
    };
    let sequence = 1_767_323_045;
    ShardMap {
        installation: "ops/database-operator".into(),
        leader: "a_1".parse().expect("an incarnation"),
        term: 3,
        sequence,
        members: ["a_1", "b_2"].map(member).into(),
        owners: (0..usize::from(BUCKETS))
            .map(|bucket| Some(owners[bucket % 2]))
            .collect(),
        epochs: vec![Epoch(sequence); usize::from(BUCKETS)],
        round: None,
    }
}

/// A Lease as its holder writes it. An empty holder: it was released.
fn lease(kept: Kept, holder: &str, seconds_ago: i64, seen: u64) -> Lease {
    let name = name_of(kept, holder.split('_').next().unwrap_or_default());
    let record = LeaseRecord {
        holder: holder.parse().ok(),
        transitions: 1,
        report: Report {
            seen: Version(seen),
            weight: 1,
            ..Report::default()
        },
    };
    // Hours, so that the test may take its time.
    let timings = Timings::new(3_600_000, 1_000_000, 2_000).expect("times of a Lease");
    let renewed = Timestamp::now() - SignedDuration::from_secs(seconds_ago);
    to_object(&name, None, &record, timings, renewed)
}

#[test]
fn the_command_asks_a_real_api_server() {
    let Some(server) = TestBed::up("fleetcli").map(Server) else {
        return;
    };
    server.kubectl(&["create", "namespace", NAMESPACE], "");
    what_is_missing_is_named(&server);
    let version = a_fleet_at_rest(&server);
    whoever_may_not_ask_is_told(&server);
    orphans_are_an_exit_code(&server, version);
    a_lease_that_looks_expired_is_watched(&server, version);
    one_database_is_explained(&server);
    a_member_is_drained(&server, version);
    a_map_that_was_edited_is_not_shown(&server);
}

fn what_is_missing_is_named(server: &Server) {
    let status = ["status", "--operator-namespace", NAMESPACE];
    server.says(
        &status,
        ERROR,
        &["shardmaps", "not defined", "crds --with-fence | kubectl"],
    );
    let definitions = std::process::Command::new(env!("CARGO_BIN_EXE_database-operator"))
        .args(["crds", "--with-fence"])
        .env_clear()
        .output()
        .expect("it starts");
    let definitions = String::from_utf8(definitions.stdout).expect("UTF-8");
    server.kubectl(&["apply", "--server-side", "-f", "-"], &definitions);
    let deadline = Instant::now() + Duration::from_mins(1);
    // Established is said a little before the resource is served.
    for resource in ["shardmaps", "databases"] {
        while !server.try_kubectl(&["get", resource], "").status.success() {
            assert!(Instant::now() < deadline, "{resource} are not served");
            thread::sleep(Duration::from_millis(50));
        }
    }
    server.says(&status, ERROR, &["there is no ShardMap", "no replica has run"]);
}

/// Returns the version of the map.
fn a_fleet_at_rest(server: &Server) -> u64 {
    let version = server.put_map([0, 1]);
    server.says(
        &["status", "--operator-namespace", NAMESPACE],
        ERROR,
        &["no Lease of the fleet is in namespace ops", "--operator-namespace"],
    );
    server.put_lease(&lease(Kept::Coordinator, "a_1", 1, 0));
    server.put_lease(&lease(Kept::Member, "a_1", 1, version));
    server.put_lease(&lease(Kept::Member, "b_2", 1, version - 1));
    server.put_lease(&lease(Kept::Member, "c_3", 1, 0));
    for name in ["orders", "cart", "users"] {
        database(server, name, Some(&bucket_of("default", name).to_string()));
    }
    let (code, status) = server.status();
    assert_eq!(code, Some(OK), "{status}");
    let members = status["members"].as_array().expect("members");
    let of = |key: &str| members.iter().map(|member| member[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("member"), ["a_1", "b_2", "c_3"]);
    assert_eq!(of("buckets"), [512, 512, 0]);
    assert_eq!(of("role"), [json!("Active"), json!("Active"), json!(null)]);
    assert_eq!(of("map"), ["current", "behind", "unknown"]);
    assert_eq!(of("lease"), ["held", "held", "held"]);
    let objects: u64 = of("objects").iter().filter_map(Value::as_u64).sum();
    assert_eq!((objects, &status["databases"]), (3, &json!(3)));
    assert_eq!(
        (&status["term"], &status["leader"]["member"]),
        (&json!(3), &json!("a_1"))
    );
    let (code, table, _) = server.fleet(&["status", "--operator-namespace", NAMESPACE]);
    assert_eq!(code, Some(OK));
    assert!(table.contains("Every bucket has a live owner"), "{table}");
    version
}

fn database(server: &Server, name: &str, label: Option<&str>) {
    let mut object = json!({
        "apiVersion": "intent.example.com/v1", "kind": "Database",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"engine": "redis", "version": "7.0", "resources": {"requests": {"storage": "1Gi"}}},
    });
    if let Some(label) = label {
        object["metadata"]["labels"] = json!({"intent.example.com/bucket": label});
    }
    server.put(&object);
}

fn whoever_may_not_ask_is_told(server: &Server) {
    let path = server
        .0
        .kubeconfig_for(&Identity::new("nobody-special", &[]))
        .expect("a kubeconfig");
    let nobody = [
        "status",
        "--kubeconfig",
        path.to_str().expect("UTF-8"),
        "--operator-namespace",
        NAMESPACE,
    ];
    let allow = |name: &str, resource: &str| {
        server.kubectl(
            &[
                "create",
                "clusterrole",
                name,
                "--verb=list",
                &format!("--resource={resource}"),
            ],
            "",
        );
        let role = format!("--clusterrole={name}");
        server.kubectl(
            &["create", "clusterrolebinding", name, &role, "--user=nobody-special"],
            "",
        );
    };
    server.says(
        &nobody,
        ERROR,
        &["list shardmaps.intent.example.com in the whole cluster: forbidden"],
    );
    allow("maps", "shardmaps.intent.example.com");
    refused_for(
        server,
        &nobody,
        "list databases.intent.example.com in the whole cluster: forbidden",
    );
    allow("databases", "databases.intent.example.com");
    refused_for(server, &nobody, "list leases in namespace ops: forbidden");
    allow("leases", "leases.coordination.k8s.io");
    let deadline = Instant::now() + Duration::from_mins(1);
    while server.fleet(&nobody).0 != Some(OK) {
        assert!(Instant::now() < deadline, "{:?}", server.fleet(&nobody));
    }
}

/// The API server learns of permissions a little later.
#[track_caller]
fn refused_for(server: &Server, arguments: &[&str], word: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let (code, _, said) = server.fleet(arguments);
        if code == Some(ERROR) && said.contains(word) {
            return;
        }
        assert!(Instant::now() < deadline, "{word:?} is missing in: {said}");
    }
}

fn orphans_are_an_exit_code(server: &Server, version: u64) {
    let wrong = (bucket_of("default", "orders").index() + 1) % BUCKETS;
    database(server, "orders", Some(&wrong.to_string()));
    let (code, status) = server.status();
    assert_eq!(code, Some(REFUSED));
    let first = json!({
        "database": "default/orders", "label": wrong.to_string(), "bucket": bucket_of("default", "orders").index(),
    });
    assert_eq!(status["orphans"]["databases"], json!({"count": 1, "first": [first]}));
    database(server, "orders", Some(&bucket_of("default", "orders").to_string()));
    assert_eq!(server.status().0, Some(OK));

    let mut released = lease(Kept::Member, "b_2", 1, version);
    released.spec.as_mut().expect("a spec").holder_identity = None;
    server.put_lease(&released);
    let (code, status) = server.status();
    assert_eq!(code, Some(REFUSED));
    let orphaned = &status["orphans"]["buckets"][0];
    assert_eq!(
        (&orphaned["owner"], &orphaned["lease"]),
        (&json!("b_2"), &json!("released"))
    );
    assert_eq!(orphaned["buckets"].as_array().map(Vec::len), Some(512));
    server.put_lease(&lease(Kept::Member, "b_2", 1, version));
    assert_eq!(server.status().0, Some(OK));
}

fn a_lease_that_looks_expired_is_watched(server: &Server, version: u64) {
    let mut late = lease(Kept::Member, "b_2", 7200, version);
    late.spec.as_mut().expect("a spec").lease_duration_seconds = Some(6);
    server.put_lease(&late);
    let (code, status) = server.status();
    assert_eq!(
        (code, &status["members"][1]["lease"]),
        (Some(REFUSED), &json!("looksExpired"))
    );
    // A holder whose clock is two hours behind.
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut beat = 0;
            while !done.load(Ordering::Relaxed) {
                beat += 1;
                let beat = format!("beat={beat}");
                let name = "lease/database-operator-member-b";
                server.kubectl(&["annotate", "-n", NAMESPACE, name, "--overwrite", &beat], "");
            }
        });
        let answer = server.status();
        done.store(true, Ordering::Relaxed);
        let (code, status) = answer;
        assert_eq!((code, &status["members"][1]["lease"]), (Some(OK), &json!("held")));
    });
    server.put_lease(&lease(Kept::Member, "b_2", 1, version));
}

fn one_database_is_explained(server: &Server) {
    let explained = |database: &str| -> Value {
        let arguments = ["explain", database, "--operator-namespace", NAMESPACE, "-o", "json"];
        let (code, printed, said) = server.fleet(&arguments);
        assert_eq!((code, said.as_str()), (Some(OK), ""));
        serde_json::from_str(&printed).expect("JSON")
    };
    let bucket = bucket_of("default", "orders").index();
    let orders = explained("default/orders");
    let owner = ["a_1", "b_2"][usize::from(bucket % 2)];
    assert_eq!((&orders["exists"], &orders["bucket"]), (&json!(true), &json!(bucket)));
    assert_eq!(
        (&orders["owner"], &orders["epoch"]),
        (&json!(owner), &json!(1_767_323_045))
    );
    let label = json!({"value": bucket.to_string(), "verdict": "agrees"});
    assert_eq!(
        (&orders["label"], &orders["fence"]["verdict"]),
        (&label, &json!("absent"))
    );
    assert_eq!(explained("default/nothing")["exists"], json!(false));
}

/// There is no member behind these Leases, and no leader: the map is made by hand.
fn a_member_is_drained(server: &Server, version: u64) {
    let namespace = ["--operator-namespace", NAMESPACE];
    let drain = |arguments: &[&str]| server.fleet(&[&["drain"], arguments, &namespace].concat());
    let says = |arguments: &[&str], code: i32, words: &[&str]| {
        let (got, printed, said) = drain(arguments);
        let all = printed + &said;
        assert_eq!(got, Some(code), "{all}");
        for word in words {
            assert!(all.contains(word), "{word:?} is missing in: {all}");
        }
    };
    let wish = || {
        let path = r"jsonpath={.metadata.annotations.intent\.example\.com/drain}";
        server.kubectl(
            &[
                "get",
                "lease",
                "-n",
                NAMESPACE,
                "database-operator-member-b",
                "-o",
                path,
            ],
            "",
        )
    };
    says(&["nobody"], ERROR, &["there is no member nobody; there are a, b, c"]);
    server.kubectl(&["delete", "lease", "-n", NAMESPACE, "database-operator-member-c"], "");
    says(&["b"], OK, &["b_2: is to own nothing"]);
    assert_eq!(wish(), "true");
    says(&["b_2"], OK, &["b_2: is to own nothing"]);
    says(&["a"], REFUSED, &["refused: a_1 is the last one"]);
    let late = ["b", "--wait", "--timeout", "1"];
    says(
        &late,
        ERROR,
        &[
            "b_2: 512 buckets left",
            "b_2 still owns 512 buckets after 1 s",
            "--undo",
        ],
    );
    says(&["b", "--undo"], OK, &["b_2: may own buckets again"]);
    assert_eq!(wish(), "");
    thread::scope(|scope| {
        let waits = scope.spawn(|| says(&["b", "--wait"], OK, &["0 buckets left", "b_2: owns nothing"]));
        let deadline = Instant::now() + Duration::from_mins(1);
        while wish() != "true" {
            assert!(Instant::now() < deadline, "nobody asked");
        }
        // It was asked for, and now somebody else gets all.
        server.put_map([0, 0]);
        waits.join().expect("no panic");
    });
    server.put_lease(&lease(Kept::Member, "b_2", 1, version));
    server.put_map([0, 1]);
}

fn a_map_that_was_edited_is_not_shown(server: &Server) {
    let edit = r#"[{"op": "replace", "path": "/spec/owners/3", "value": 0}]"#;
    server.kubectl(&["patch", "shardmap", "fleet", "--type=json", "-p", edit], "");
    server.says(
        &["status", "--operator-namespace", NAMESPACE],
        ERROR,
        &["the ShardMap cannot be used", "edited by hand"],
    );
}
