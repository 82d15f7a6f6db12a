//! A real API server agrees: it takes the definition, the samples and the defaults, and refuses the table of bad
//! manifests with the field named.
//!
//! One test, so that one control plane (of its own, without nodes) serves all of it. It works as the administrator,
//! because it installs the definition.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use api::database::{
    Condition, ConditionStatus, ConditionType, ConnectionInfo, Database, DatabaseStatus, Engine, LocalRef,
    MemberStatus, Phase, ReplicaStatus,
};
use api::test_support::{By, Refused, good, refused};
use api::{crd_yaml, names, strict};
use devcluster::TestBed;
use serde_json::{Value, json};

/// Path of the Databases in the API.
const DATABASES: &str = "/apis/intent.example.com/v1/namespaces/default/databases";

/// A control plane, as the administrator uses it.
struct Server(TestBed);

impl Server {
    fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.0.command("kubectl").unwrap();
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What it prints if it succeeds, or what it says if not.
    fn answer(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let Output { status, stdout, stderr } = self.kubectl(arguments, input);
        let (out, err) = (
            String::from_utf8_lossy(&stdout).into_owned(),
            String::from_utf8_lossy(&stderr).into_owned(),
        );
        if status.success() { Ok(out) } else { Err(err) }
    }

    fn must(&self, arguments: &[&str], input: &str) -> String {
        self.answer(arguments, input)
            .unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// Sends the manifest exactly as it is. `kubectl` has no way to send an update like that, so there it is a patch that
    /// replaces the spec.
    fn send(&self, case: &Refused) -> Result<String, String> {
        let strictly = if case.by == By::Strict { "Strict" } else { "Ignore" };
        let query = format!("{DATABASES}?dryRun=All&fieldValidation={strictly}");
        let Some(existing) = &case.existing else {
            return self.answer(&["create", "--raw", &query, "-f", "-"], &case.manifest.to_string());
        };
        self.must(&["create", "--raw", DATABASES, "-f", "-"], &existing.to_string());
        let patch = json!([{"op": "replace", "path": "/spec", "value": case.manifest["spec"]}]).to_string();
        let answer = self.answer(
            &[
                "patch",
                "db",
                "shop",
                "--type",
                "json",
                "--dry-run=server",
                "-p",
                &patch,
            ],
            "",
        );
        self.must(&["delete", "db", "shop"], "");
        answer
    }
}

#[test]
fn the_api_server_agrees() {
    let Some(server) = TestBed::up("api").map(Server) else {
        return;
    };
    installs_the_definition(&server);
    refuses_the_table(&server);
    accepts_samples(&server);
    fills_in_the_same_defaults(&server);
    takes_a_whole_status(&server);
    explains_and_prints(&server);
}

fn installs_the_definition(server: &Server) {
    // Server-side, so that warnings about the schema would be errors of the test.
    let Output { status, stderr, .. } = server.kubectl(&["apply", "--server-side", "-f", "-"], &crd_yaml());
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success() && said.is_empty(), "{said}");
    server.must(
        &[
            "wait",
            "--for=condition=Established",
            &format!("crd/{}", names::CRD_NAME),
            "--timeout=30s",
        ],
        "",
    );
    let conditions = server.must(
        &[
            "get",
            "crd",
            names::CRD_NAME,
            "-o",
            "jsonpath={.status.conditions[*].type}",
        ],
        "",
    );
    assert!(!conditions.contains("NonStructuralSchema"), "{conditions}");
    // Established is said a little before the resource is served.
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.answer(&["get", "db"], "").is_err() {
        assert!(Instant::now() < deadline, "the resource is not served");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn refuses_the_table(server: &Server) {
    let mut wrong = Vec::new();
    for case in refused() {
        let answer = server.send(&case);
        let agrees = match (case.by, &answer) {
            (By::Strict | By::Schema, Err(said)) => said.contains(&case.field),
            (By::Validate, Ok(_)) => true,
            (By::Strict | By::Schema, Ok(_)) | (By::Validate, Err(_)) => false,
        };
        if !agrees {
            wrong.push(format!("{} ({}): {answer:?}", case.name, case.field));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn accepts_samples(server: &Server) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/samples");
    let folder = folder.to_str().unwrap();
    server.must(&["apply", "--dry-run=server", "--validate=strict", "-f", folder], "");
    for engine in Engine::ALL {
        server.must(
            &["apply", "--dry-run=server", "--validate=strict", "-f", "-"],
            &good(engine).to_string(),
        );
    }
}

/// Strict reading and the API server come to the same spec, from a manifest with gaps, `null`s and every optional object.
fn fills_in_the_same_defaults(server: &Server) {
    let mut manifest = good(Engine::Postgresql);
    manifest["spec"]["monitoring"] = json!({"enabled": null});
    manifest["spec"]["backupPolicy"] = json!({"schedule": "@daily", "retention": "30d"});
    manifest["spec"]["configuration"] = json!({"parameters": {"work_mem": "8MB", "dropped": null}});
    manifest["spec"]["storageClass"] = Value::Null;
    manifest["spec"]["highAvailability"] = Value::Null;
    manifest["spec"]["resources"]["requests"]["storage"] = json!(10_737_418_240_i64);
    let stored = server.must(&["create", "--raw", DATABASES, "-f", "-"], &manifest.to_string());
    let stored: Database = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored.spec, strict::database(manifest).unwrap().spec);
    server.must(&["delete", "db", "shop"], "");
}

/// Everything that a status can hold is stored as it was written, and read as it was stored.
fn takes_a_whole_status(server: &Server) {
    let now = "2026-01-02T03:04:05Z"
        .parse()
        .map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time)
        .unwrap();
    let member = MemberStatus {
        name: "shop-g1-0".to_owned(),
        role: Some("primary".to_owned()),
        ready: Some(true),
        version: Some("15.18".to_owned()),
        pending_restart: Some(false),
    };
    let status = DatabaseStatus {
        observed_generation: Some(1),
        accepted_generation: Some(1),
        phase: Some(Phase::Ready),
        message: Some("Answers queries".to_owned()),
        fence: Some(1_767_323_045),
        last_reconcile_time: Some(now.clone()),
        conditions: ConditionType::ALL
            .map(|of| Condition {
                type_: of.to_string(),
                status: ConditionStatus::True,
                observed_generation: Some(1),
                last_transition_time: Some(now.clone()),
                reason: "AsDeclared".to_owned(),
                message: String::new(),
            })
            .to_vec(),
        connection_info: Some(ConnectionInfo {
            host: Some(names::service_host(&names::service_rw("shop"), "default")),
            port: Some(5432),
            database_name: Some("app".to_owned()),
            secret_ref: Some(LocalRef {
                name: names::secret_app("shop"),
            }),
            ..ConnectionInfo::default()
        }),
        replica_status: Some(ReplicaStatus {
            desired: Some(1),
            ready: Some(1),
            summary: Some("1/1".to_owned()),
            primary: Some("shop-g1-0".to_owned()),
            secondaries: vec![],
            members: vec![member],
        }),
        ..DatabaseStatus::default()
    };
    server.must(
        &["create", "--raw", DATABASES, "-f", "-"],
        &good(Engine::Postgresql).to_string(),
    );
    let patch = json!({"status": status}).to_string();
    server.must(
        &[
            "patch",
            "db",
            "shop",
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ],
        "",
    );
    let stored = server.must(&["get", "--raw", &format!("{DATABASES}/shop")], "");
    assert_eq!(serde_json::from_str::<Database>(&stored).unwrap().status, Some(status));
}

fn explains_and_prints(server: &Server) {
    let explained = server.must(&["explain", "database.spec.resources.requests.storage"], "");
    for words in ["in bytes", "20Gi", "Required", "never", "shrinks"] {
        assert!(explained.contains(words), "{words}: {explained}");
    }
    let printed = server.must(&["get", "db"], "");
    for words in [
        "NAME",
        "ENGINE",
        "VERSION",
        "PHASE",
        "READY",
        "MESSAGE",
        "AGE",
        "postgresql",
        "1/1",
        "Answers queries",
    ] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    let all = server.must(&["get", "all", "-o", "name"], "");
    assert!(all.contains("database.intent.example.com/shop"), "{all}");
}
