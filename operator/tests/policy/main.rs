//! `policy` of the real binary: decisions about files of any kind, tests of policies, and policies that would harm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

mod bundles;
mod files;
mod harm;

fn policies() -> String {
    format!("{}/../policies", env!("CARGO_MANIFEST_DIR"))
}

fn policy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_database-operator"))
        .arg("policy")
        .args(arguments)
        .env_clear()
        .output()
        .expect("it starts")
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("it has a folder")).expect("a folder is made");
    fs::write(&path, text).expect("it is written");
    path
}

/// Exit code and decision about a Database in a namespace of this environment.
fn eval(database: &Value, more: &[&str]) -> (Option<i32>, Value) {
    eval_text(&database.to_string(), &policies(), more)
}

fn eval_text(text: &str, policies: &str, more: &[&str]) -> (Option<i32>, Value) {
    let folder = TempDir::new().expect("a folder");
    let file = written(folder.path(), "database.yaml", text);
    let file = file.to_str().expect("UTF-8");
    let arguments = [
        &["eval", "--policies", policies, "--database", file, "-o", "json"],
        more,
    ]
    .concat();
    let Output { status, stdout, stderr } = policy(&arguments);
    let decision =
        serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&stderr)));
    (status.code(), decision)
}

const STAGING: [&str; 2] = ["--namespace-labels", "intent.example.com/environment=staging"];
const PRODUCTION: [&str; 2] = ["--namespace-labels", "intent.example.com/environment=production"];

fn good() -> Value {
    json!({
        "apiVersion": "intent.example.com/v1", "kind": "Database", "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {
            "engine": "postgresql", "version": "18",
            "resources": {
                "requests": {"cpu": "1", "memory": "2Gi", "storage": "10Gi"}, "limits": {"cpu": "2", "memory": "2Gi"},
            },
        },
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut database = good();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    database.pointer_mut(parent).expect("its parent is there")[field] = value;
    database
}

fn ids(decision: &Value) -> Vec<&str> {
    let violations = decision["violations"].as_array().expect("violations");
    violations
        .iter()
        .filter_map(|violation| violation["id"].as_str())
        .collect()
}

#[test]
fn a_decision_has_the_form_that_pipelines_read() {
    let (code, decision) = eval(&good(), &STAGING);
    assert_eq!((code, &decision["verdict"]), (Some(0), &json!("allow")), "{decision}");
    assert_eq!(
        (&decision["violations"], &decision["warnings"]),
        (&json!([]), &json!([]))
    );
    let bundle = &decision["bundles"]["policies"];
    assert!(
        bundle["revision"].as_str().is_some_and(|revision| !revision.is_empty()),
        "{decision}"
    );
    assert!(
        bundle["digest"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:")),
        "{decision}"
    );

    let (code, decision) = eval(&with("/spec/resources/limits/cpu", json!("9")), &STAGING);
    assert_eq!((code, &decision["verdict"]), (Some(1), &json!("deny")));
    let violation = &decision["violations"][0];
    assert_eq!(violation["id"], "governance.max-cpu");
    assert_eq!(violation["level"], "global");
    assert_eq!(
        (&violation["action"], &violation["severity"]),
        (&json!("deny"), &json!("medium"))
    );
    assert_eq!(violation["path"], "spec.resources.limits.cpu");
    let message = violation["message"].as_str().expect("a message");
    assert!(
        message.contains("\"9\"") && message.contains("environment/staging"),
        "{message}"
    );
}

#[test]
fn the_environment_comes_from_the_label_and_else_is_the_strictest() {
    let (code, decision) = eval(&good(), &PRODUCTION);
    assert_eq!(code, Some(1));
    assert_eq!(ids(&decision), ["governance.backup", "governance.monitoring"]);
    let (code, unlabelled) = eval(&good(), &[]);
    assert_eq!(code, Some(1));
    assert!(ids(&unlabelled).contains(&"governance.backup"), "{unlabelled}");
    let warnings = unlabelled["warnings"].to_string();
    assert!(warnings.contains("intent.example.com/environment"), "{warnings}");
    // Not by a part of a word.
    let (_, product) = eval(&good(), &["--namespace", "product-catalog"]);
    assert!(product["warnings"].to_string().contains("is not known"), "{product}");
}

#[test]
fn an_update_passes_that_makes_nothing_worse() {
    let folder = TempDir::new().expect("a folder");
    let old = with("/spec/resources/limits/cpu", json!("9"));
    let old = written(folder.path(), "old.json", &old.to_string());
    let old = ["--old", old.to_str().expect("UTF-8"), STAGING[0], STAGING[1]];
    for (cpu, code, verdict) in [("9", 0, "warn"), ("8", 0, "warn"), ("10", 1, "deny"), ("4", 0, "allow")] {
        let (found, decision) = eval(&with("/spec/resources/limits/cpu", json!(cpu)), &old);
        assert_eq!(
            (found, &decision["verdict"]),
            (Some(code), &json!(verdict)),
            "{cpu}: {decision}"
        );
    }
    // What is new is denied, whatever was so before.
    let mut worse = with("/spec/resources/limits/cpu", json!("9"));
    worse["spec"]["resources"]["limits"]["memory"] = json!("64Gi");
    let (code, decision) = eval(&worse, &old);
    assert_eq!(code, Some(1));
    let (first, second) = (&decision["violations"][0], &decision["violations"][1]);
    assert_eq!(
        (&first["id"], &first["action"]),
        (&json!("governance.max-memory"), &json!("deny"))
    );
    assert_eq!(
        (&second["id"], &second["action"]),
        (&json!("governance.max-cpu"), &json!("warn"))
    );
}

#[test]
fn an_exception_lets_one_rule_pass_and_is_shown() {
    let folder = TempDir::new().expect("a folder");
    let soon = jiff::Timestamp::now()
        .checked_add(jiff::SignedDuration::from_hours(48))
        .expect("soon");
    let exception = json!({
        "apiVersion": "intent.example.com/v1", "kind": "PolicyException", "metadata": {"name": "no-metrics-yet"},
        "spec": {"rules": ["governance.monitoring"], "selector": {"namespaces": ["shop"]},
            "reason": "monitoring is not there yet", "approver": "head of platform", "expires": soon.to_string()},
    });
    let file = written(folder.path(), "exceptions.yaml", &exception.to_string());
    let more = [
        PRODUCTION[0],
        PRODUCTION[1],
        "--exceptions",
        file.to_str().expect("UTF-8"),
    ];
    let (code, decision) = eval(&good(), &more);
    assert_eq!(code, Some(1));
    assert_eq!(decision["exceptions"][0]["name"], "no-metrics-yet");
    assert_eq!(decision["exceptions"][0]["rule"], "governance.monitoring");
    let denied: Vec<&Value> = decision["violations"]
        .as_array()
        .expect("violations")
        .iter()
        .filter(|violation| violation["action"] == "deny")
        .map(|violation| &violation["id"])
        .collect();
    assert_eq!(denied, ["governance.backup"]);
}

#[test]
fn the_shipped_policies_pass_their_tests() {
    let tested = policy(&["test", &policies(), "--coverage-min", "95", "-o", "json"]);
    let said = String::from_utf8_lossy(&tested.stderr);
    let text = policy(&["test", &policies()]);
    assert_eq!(
        tested.status.code(),
        Some(0),
        "{said}{}",
        String::from_utf8_lossy(&text.stdout)
    );
    let results: Vec<Value> = serde_json::from_slice(&tested.stdout).expect("JSON");
    assert!(results.len() > 100, "{} tests", results.len());
    let lint = policy(&["lint", &policies()]);
    assert_eq!(lint.status.code(), Some(0), "{}", String::from_utf8_lossy(&lint.stdout));
}

/// A bundle of one module.
fn bundle(rules: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let module = format!("package database.odd\nimport rego.v1\n{rules}\n");
    written(folder.path(), "database/odd.rego", &module);
    folder
}

const VIOLATION: &str = "violations contains v if { \
    v := {\"id\": \"odd.x\", \"severity\": \"low\", \"action\": \"deny\", \"path\": \"spec\", \"message\": \"no\"}";

#[test]
fn tests_that_fail_are_told_with_their_place() {
    let folder = bundle(&format!("{VIOLATION} }}"));
    written(
        folder.path(),
        "database/odd_test.rego",
        "package database.odd_test\nimport rego.v1\ntest_good if count(data.database.odd.violations) == 1\n\
         test_bad if count(data.database.odd.violations) == 2\ntodo_test_later if false\n",
    );
    let path = folder.path().to_str().expect("UTF-8");
    let tested = policy(&["test", path]);
    assert_eq!(tested.status.code(), Some(1));
    let said = String::from_utf8_lossy(&tested.stdout);
    assert!(
        said.contains("database/odd_test.rego:4: data.database.odd_test.test_bad: FAIL"),
        "{said}"
    );
    assert!(said.contains("1 passed, 1 failed, 0 errors, 1 skipped"), "{said}");
    assert_eq!(policy(&["test", path, "--run", "test_good"]).status.code(), Some(0));
    assert_eq!(policy(&["test", path, "--run", "nothing"]).status.code(), Some(1));
    let (code, decision) = eval_text(&good().to_string(), path, &STAGING);
    assert_eq!((code, &decision["verdict"]), (Some(2), &json!("error")));
    assert!(decision.to_string().contains("test_bad does not pass"), "{decision}");
}

#[test]
fn measuring_gives_figures() {
    let folder = TempDir::new().expect("a folder");
    let file = written(folder.path(), "database.yaml", &good().to_string());
    let file = file.to_str().expect("UTF-8");
    let measured = policy(&[
        "bench",
        "--policies",
        &policies(),
        "--database",
        file,
        "--iterations",
        "5",
        "-o",
        "json",
    ]);
    assert_eq!(
        measured.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&measured.stderr)
    );
    let figures: Value = serde_json::from_slice(&measured.stdout).expect("JSON");
    assert_eq!(figures["decision"]["iterations"], 5);
    assert!(
        figures["evaluation"]["p50_ns"]
            .as_u64()
            .is_some_and(|nanoseconds| nanoseconds > 0)
    );
}

/// As `opa test` fails them.
#[test]
fn a_test_that_could_hide_another_is_an_error() {
    let bundle = bundle(&format!("{VIOLATION} }}"));
    let tests = "package database.odd_test\nimport rego.v1\n\
        test_twice if 1 == 2\n\
        test_twice if 1 == 1\n\
        test_cases[note] if { some note, n in {\"a\": 1, \"b\": 2}; n == 1 }\n\
        test_set contains 1\n\
        test_good if data.database.odd.violations\n";
    written(bundle.path(), "database/odd_test.rego", tests);
    let tested = policy(&["test", bundle.path().to_str().expect("UTF-8")]);
    let told = String::from_utf8_lossy(&tested.stdout);
    assert_eq!(tested.status.code(), Some(1), "{told}");
    for words in [
        "test_twice: ERROR: there is another one of this name (database/odd_test.rego:4)",
        "test_cases: ERROR: a test of several cases",
        "test_set: ERROR: a test of several cases",
        "1 passed, 0 failed, 3 errors",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn a_file_without_tests_is_not_covered() {
    let bundle = bundle(&format!("{VIOLATION} }}"));
    let test = "package database.odd_test\nimport rego.v1\ntest_it if data.database.odd.violations\n";
    written(bundle.path(), "database/odd_test.rego", test);
    let other = "# Nobody tests it.\npackage database.other\n\nimport rego.v1\n\nviolations contains x if {\n\tx := input.x\n}\n";
    let tested = |least: &str| {
        let path = bundle.path().to_str().expect("UTF-8");
        let tested = policy(&["test", path, "--coverage-min", least]);
        (
            tested.status.code(),
            String::from_utf8_lossy(&tested.stdout).into_owned(),
        )
    };
    let (code, told) = tested("100");
    assert_eq!(code, Some(0), "{told}");
    written(bundle.path(), "database/other.rego", other);
    let (code, told) = tested("80");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("database/other.rego"), "{told}");
}

/// OPA would load them.
#[test]
fn rules_that_would_be_overlooked_are_refused() {
    for name in ["database/.deny.rego", "cases/deny.rego", "cases/more/data.json"] {
        let bundle = bundle(&format!("{VIOLATION} }}"));
        let file = written(bundle.path(), name, "{}");
        let (code, decision) = eval_text(&good().to_string(), bundle.path().to_str().expect("UTF-8"), &STAGING);
        assert_eq!((code, &decision["verdict"]), (Some(2), &json!("error")), "{decision}");
        let words = decision["violations"][0]["message"].as_str().expect("words");
        assert!(words.contains(file.to_str().expect("UTF-8")), "{words}");
    }
}
