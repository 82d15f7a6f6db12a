//! The real binary, as people and scripts call it.

use std::fs;
use std::process::{Command, Output, Stdio};

use expect_test::expect_file;

/// The binary with nothing from the environment of whoever runs the tests.
fn database_operator(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_database-operator"));
    command.args(arguments).env_clear();
    command
}

fn output(arguments: &[&str]) -> Output {
    database_operator(arguments).output().expect("it starts")
}

#[track_caller]
fn printed(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert_eq!(errors, "");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// What it says on standard error, with exit code 2 and nothing printed.
#[track_caller]
fn refused(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    errors
}

/// `path` is relative to this folder.
fn golden(path: &str, text: &str) {
    expect_file![format!("{}/tests/{path}", env!("CARGO_MANIFEST_DIR"))].assert_eq(text);
}

#[test]
fn version_for_people_and_machines() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        printed(&output(&["version"])),
        format!("database-operator {version} (Kubernetes 1.33 or newer)\n")
    );
    let json: serde_json::Value = serde_json::from_str(&printed(&output(&["version", "-o", "json"]))).expect("JSON");
    assert_eq!(
        json,
        serde_json::json!({ "version": version, "minimumKubernetes": "1.33" })
    );
    assert_eq!(
        printed(&output(&["--version"])),
        format!("database-operator {version}\n")
    );
}

#[test]
fn help_of_every_command() {
    for (file, arguments) in [
        ("help/database-operator.txt", &["--help"][..]),
        ("help/run.txt", &["run", "--help"]),
        ("help/crds.txt", &["crds", "--help"]),
        ("help/decisions.txt", &["decisions", "--help"]),
        ("help/decisions_query.txt", &["decisions", "query", "--help"]),
        ("help/fleet.txt", &["fleet", "--help"]),
        ("help/fleet_status.txt", &["fleet", "status", "--help"]),
        ("help/fleet_explain.txt", &["fleet", "explain", "--help"]),
        ("help/fleet_drain.txt", &["fleet", "drain", "--help"]),
        ("help/fleet_simulate.txt", &["fleet", "simulate", "--help"]),
        ("help/policy.txt", &["policy", "--help"]),
        ("help/policy_bench.txt", &["policy", "bench", "--help"]),
        ("help/policy_build.txt", &["policy", "build", "--help"]),
        ("help/policy_diff.txt", &["policy", "diff", "--help"]),
        ("help/policy_eval.txt", &["policy", "eval", "--help"]),
        ("help/policy_inspect.txt", &["policy", "inspect", "--help"]),
        ("help/policy_lint.txt", &["policy", "lint", "--help"]),
        ("help/policy_sign.txt", &["policy", "sign", "--help"]),
        ("help/policy_test.txt", &["policy", "test", "--help"]),
        ("help/webhook.txt", &["webhook", "--help"]),
        ("help/policy_verify.txt", &["policy", "verify", "--help"]),
        ("help/rbac.txt", &["rbac", "--help"]),
        ("help/version.txt", &["version", "--help"]),
    ] {
        golden(file, &printed(&output(arguments)));
    }
}

#[test]
fn no_command_shows_the_help_as_an_error() {
    assert!(refused(&output(&[])).contains("Usage: database-operator <COMMAND>"));
}

#[test]
fn what_is_unknown_is_refused() {
    for (arguments, word) in [
        (&["fly"][..], "fly"),
        (&["run", "--worker", "3"], "--workers"),
        (&["run", "--workers", "many"], "many"),
        (&["run", "--health-address", "localhost:80"], "localhost:80"),
        (&["version", "-o", "xml"], "json"),
        (&["rbac", "--namespaces", "Shop"], "small letters"),
        (&["rbac", "--service-account", "shop"], "NAMESPACE:NAME"),
        (&["rbac", "--user", ""], "a user has a name"),
        (&["crds", "--user", "developer"], "--with-fence"),
        (&["fleet", "explain", "orders"], "expected NAMESPACE/NAME"),
        (
            &["decisions", "query", "--verdict", "denied"],
            "allow, warn, deny or error",
        ),
        (&["decisions", "query", "--namespace", "Shop"], "small letters"),
        (&["decisions", "query", "--from", "yesterday"], "24h or 7d"),
        (&["decisions", "query", "--cursor", "1"], "no cursor"),
        (&["decisions", "query", "--limit", "0"], "--limit"),
        (&["decisions", "query", "--all", "--limit", "5"], "cannot be used with"),
        (&["fleet", "drain"], "<MEMBER>"),
        (&["fleet", "drain", "a", "--undo", "--wait"], "cannot be used with"),
        (&["fleet", "drain", "a", "--timeout", "5"], "--wait"),
        (&["fleet", "status", "--operator-namespace", "Ops"], "small letters"),
        (&["crds", "--with-fence", "--service-account", "shop"], "NAMESPACE:NAME"),
        (
            &["crds", "--with-fence", "--service-account", "a:b", "--user", "c"],
            "cannot be used with",
        ),
    ] {
        let errors = refused(&output(arguments));
        assert!(errors.contains(word), "{arguments:?}: {word:?} is missing in: {errors}");
    }
}

#[test]
fn the_definitions_are_the_generated_ones() {
    let text = printed(&output(&["crds"]));
    assert!(text.starts_with(&api::crd_yaml()));
    let documents: Vec<serde_json::Value> = serde_yaml::from_multiple(&text).expect("YAML");
    let names: Vec<_> = documents
        .iter()
        .map(|document| document["metadata"]["name"].as_str())
        .collect();
    let expected = [
        "databases.intent.example.com",
        "policyexceptions.intent.example.com",
        "shardmaps.intent.example.com",
    ];
    assert_eq!(names, expected.map(Some));
}

#[test]
fn the_fence_is_for_one_user() {
    let arguments = ["crds", "--with-fence", "--user", "system: \"x\" #1"];
    golden(
        "fence/for_a_user.yaml",
        &without_definitions(&printed(&output(&arguments))),
    );
    let account = printed(&output(&["crds", "--with-fence", "--service-account", "ops:runner"]));
    assert!(account.contains("system:serviceaccount:ops:runner"), "{account}");
    // What is applied without the fence is applied with it.
    assert!(account.contains(&api::crd_yaml()));
    assert_eq!(
        printed(&output(&["crds", "--with-fence"])),
        printed(&output(&[
            "crds",
            "--with-fence",
            "--service-account",
            "database-operator:database-operator"
        ]))
    );
}

/// Policies, bindings and the FlowSchema of what `crds` prints; the definitions have files of their own.
fn without_definitions(text: &str) -> String {
    let documents = text
        .split("---\n")
        .filter(|document| !document.contains("kind: CustomResourceDefinition"));
    documents.collect::<Vec<_>>().join("---\n")
}

/// `database-operator crds | head -1` must not end in a panic.
#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = database_operator(&["crds"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
        (Some(0), "")
    );
}

#[test]
fn permissions_in_all_namespaces() {
    golden("rbac/all_namespaces.yaml", &printed(&output(&["rbac"])));
}

#[test]
fn permissions_in_two_namespaces_for_an_account_and_a_user() {
    let arguments = [
        "rbac",
        "--namespaces",
        "shop,payments",
        "--service-account",
        "ops:runner",
        "--user",
        "system: \"x\" #1",
    ];
    golden("rbac/two_namespaces.yaml", &printed(&output(&arguments)));
}

/// What the printed manifests grant, read as YAML, is the same for both ways of confining the operator, but for where.
#[test]
fn permissions_are_yaml_and_both_ways_grant_the_same() {
    let rules = |arguments: &[&str]| -> Vec<(String, Vec<serde_json::Value>)> {
        let text = printed(&output(arguments));
        let documents: Vec<serde_json::Value> = serde_yaml::from_multiple(&text).expect("YAML");
        let roles = documents.into_iter().filter(|document| document["rules"].is_array());
        roles
            .map(|role| {
                let kind = role["kind"].as_str().expect("a kind").to_owned();
                (kind, role["rules"].as_array().expect("rules").clone())
            })
            .collect()
    };
    let all = rules(&["rbac"]);
    let some = rules(&["rbac", "--namespaces", "shop"]);
    let kinds = |roles: &[(String, Vec<_>)]| roles.iter().map(|(kind, _)| kind.clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&all), ["ClusterRole", "Role"]);
    assert_eq!(kinds(&some), ["ClusterRole", "Role", "Role"]);
    // Only that a confined one may look at no namespaces but its own.
    let key = |rule: &serde_json::Value| {
        let mut rule = rule.clone();
        if rule["resourceNames"] == serde_json::json!(["shop"]) {
            assert_eq!(rule["resources"], serde_json::json!(["namespaces"]));
            rule.as_object_mut().expect("an object").remove("resourceNames");
        }
        rule.to_string()
    };
    let mut all: Vec<_> = all.iter().flat_map(|(_, rules)| rules.iter().map(key)).collect();
    let mut some: Vec<_> = some.iter().flat_map(|(_, rules)| rules.iter().map(key)).collect();
    all.sort();
    some.sort();
    assert_eq!(all, some);
    assert_eq!(all.len(), 24);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("operator.yaml");
    fs::write(
        &file,
        "workers: 1\nmaxRestartingDatabases: 1\nlogFilter: error\nmember: from-file\n",
    )
    .expect("written");
    let file = file.to_str().expect("UTF-8");
    let output = database_operator(&["run", "--print-config", "--config", file, "--workers", "3"])
        .env("DATABASE_OPERATOR_WORKERS", "2")
        .env("DATABASE_OPERATOR_MAX_RESTARTING_DATABASES", "2")
        .env("DATABASE_OPERATOR_NAMESPACES", "shop,payments")
        .env("POD_NAME", "from-pod")
        .env("POD_NAMESPACE", "databases")
        .output()
        .expect("it starts");
    let config: serde_json::Value = serde_yaml::from_str(&printed(&output)).expect("YAML");
    let expected = serde_json::json!({
        "workers": 3,
        "retriesPerSecond": 100,
        "reconcileSeconds": 120,
        "queueCapacity": 1_000_000,
        "maxRestartingDatabases": 2,
        "logFilter": "error",
        "member": "from-file",
        "namespaces": ["shop", "payments"],
        "operatorNamespace": "databases",
        "healthAddress": "0.0.0.0:8080",
        "logFormat": "json",
        "shards": 3,
        "weight": 1,
        "leaseSeconds": 15,
        "renewDeadlineSeconds": 10,
        "retryPeriodSeconds": 2,
        "stopSeconds": 25,
        "policies": [],
        "policyKeys": [],
        "policyThreads": 2,
        "decisionLogDays": 7,
        "decisionLogMebibytes": 1024,
        "statefulsetReplicas": 1,
    });
    assert_eq!(config, expected);
}

#[test]
fn the_file_can_be_named_by_the_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("operator.yaml");
    fs::write(&file, "member: from-file\n").expect("written");
    let output = database_operator(&["run", "--print-config"])
        .env("DATABASE_OPERATOR_CONFIG", file)
        .output()
        .expect("it starts");
    assert!(printed(&output).contains("member: from-file\n"));
}

#[test]
fn a_bad_file_is_refused_with_its_name_and_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("operator.yaml");
    fs::write(&file, "member: a\nworkerz: 3\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    let errors = refused(&output(&["run", "--config", file]));
    assert!(
        !errors.contains("error: error:") && !errors.contains(": error: "),
        "{errors}"
    );
    for word in [file, "workerz", "line 2"] {
        assert!(errors.contains(word), "{word:?} is missing in: {errors}");
    }
    let errors = refused(&output(&["run", "--config", "/does/not/exist.yaml"]));
    assert!(
        errors.starts_with("error: configuration file /does/not/exist.yaml: cannot be read: "),
        "{errors}"
    );
}

#[test]
fn all_faults_of_a_configuration_are_told_at_once() {
    let errors = refused(&output(&[
        "run",
        "--member",
        "Not A Name",
        "--workers",
        "0",
        "--namespaces",
        "a,a",
        "--retries-per-second",
        "0",
        "--reconcile-seconds",
        "9",
        "--queue-capacity",
        "10000001",
        "--max-restarting-databases",
        "0",
        "--log-filter",
        "info,x=loud",
    ]));
    for setting in [
        "namespaces:",
        "workers: 0 is out of range; choose 1 to 1024",
        "retriesPerSecond: 0 is out of range; choose 1 to 10000",
        "reconcileSeconds: 9 is out of range; choose 10 to 300",
        "queueCapacity: 10000001 is out of range; choose 1000 to 10000000",
        "member:",
        "logFilter:",
        "maxRestartingDatabases:",
    ] {
        assert!(
            errors.contains(&format!("\n  {setting}")),
            "{setting} is missing in: {errors}"
        );
    }
}
