//! `policy` of the real binary: decisions about files of any kind, tests of policies, and policies that would harm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

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

/// Files that are no Database: words and an exit code other than 0, and never a crash.
#[test]
fn any_file_gets_an_answer() {
    let nested = "[".repeat(300);
    let no_databases = [
        "",
        "---\n",
        "null",
        "7",
        "[]",
        "text",
        "{}",
        "{\"spec\": 1}",
        "spec: {engine: [postgresql]}",
        "a: b: c",
        "\u{0}",
        "{\"kind\": \"Pod\"}",
        "a: &a [*a]",
        "--- 1\n--- 2\n",
        nested.as_str(),
        "metadata: {name: 1}",
        "spec: {resources: {requests: {cpu: .nan}}}",
        "spec: {version: 99999999999999999999999999}",
    ];
    for text in no_databases {
        let (code, decision) = eval_text(text, &policies(), &STAGING);
        assert!(matches!(code, Some(1 | 2)), "{text:?}: {code:?} {decision}");
        let verdict = decision["verdict"].as_str().expect("a verdict");
        assert_eq!(
            verdict,
            if code == Some(1) { "deny" } else { "error" },
            "{text:?}: {decision}"
        );
        let words = decision["violations"][0]["message"].as_str().expect("words");
        assert!(!words.is_empty(), "{text:?}");
    }
    let missing = policy(&[
        "eval",
        "--policies",
        &policies(),
        "--database",
        "not/there.yaml",
        "-o",
        "json",
    ]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stdout).contains("not/there.yaml: cannot be read"));
    let (code, decision) = eval_text(&good().to_string(), "not/there", &[]);
    assert_eq!((code, &decision["verdict"]), (Some(2), &json!("error")));
}

#[test]
fn spoilt_databases_are_never_allowed() {
    for (pointer, value) in [
        ("/spec/engine", json!(null)),
        ("/spec/engine", json!("cassandra")),
        ("/spec/version", json!("9")),
        ("/spec/version", json!(18.4)),
        ("/spec/resources", json!([])),
        ("/spec/resources/limits", json!(null)),
        ("/spec/resources/limits", json!("2")),
        ("/spec/resources/requests/cpu", json!("two")),
        ("/spec/resources/requests/storage", json!("1e99")),
        (
            "/spec/backupPolicy",
            json!({"schedule": "0 25 * * *", "retention": "30d"}),
        ),
        ("/spec/backupPolicy", json!("daily")),
    ] {
        let (code, decision) = eval(&with(pointer, value.clone()), &STAGING);
        assert_eq!(
            (code, &decision["verdict"]),
            (Some(1), &json!("deny")),
            "{pointer} {value}: {decision}"
        );
    }
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

/// Rules that ask each other in a row.
fn row(length: usize) -> String {
    let rule = |number: usize| format!("r{number} := r{}\n", number - 1);
    format!("r0 := 1\n{}", (1..length).map(rule).collect::<String>())
}

/// A text that doubles forty times, behind a condition.
fn doubling(guard: &str) -> String {
    let line = |number: usize| format!("s{number} := concat(\"\", [s{0}, s{0}])\n", number - 1);
    format!(
        "{VIOLATION}{guard}\n s0 := \"0123456789abcdef\"\n{} s40 != \"\" }}",
        (1..=40).map(line).collect::<String>()
    )
}

/// Policies that would end, stop or fill a process, or that would allow by mistake: none is loaded, and soon.
#[test]
fn harmful_policies_are_refused() {
    for (name, rules, words) in [
        (
            "recursion of a function",
            "f(x) := f(x)\nviolations contains f(1)".to_owned(),
            "asks itself",
        ),
        (
            "recursion of rules",
            "violations contains x if some x in violations".to_owned(),
            "asks itself",
        ),
        (
            "brackets",
            format!("x := {}{}", "[".repeat(40), "]".repeat(40)),
            "nested deeper",
        ),
        (
            "a row of 600 rules",
            format!("{}violations contains r599", row(600)),
            "begins a row",
        ),
        (
            "a range",
            format!("{VIOLATION}; count(numbers.range(1, 1000000000)) > 1 }}"),
            "calls numbers.range",
        ),
        ("doubling", doubling(""), "what concat gives here may become"),
        // No odd input has that label.
        (
            "doubling that nothing reaches",
            doubling("; input.object.metadata.labels.special == \"x\""),
            "what concat gives here may become",
        ),
        (
            "many long texts",
            format!(
                "a := [\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\"]\n{VIOLATION}\n t := `{}`\n count([1 | some s in \
                 [concat(\"\", [t, h, i, j, k, l]) | some h in a; some i in a; some j in a; some k in a; some l in a]; s != \"\"]) > 0 }}",
                format!("{}\n", "x".repeat(999)).repeat(100)
            ),
            "takes more than",
        ),
        (
            "a loop",
            format!(
                "a := [1 | some _ in [1,2,3,4,5,6,7,8]]\n{VIOLATION}; {} }}",
                (0..12)
                    .map(|number| format!("some i{number} in a"))
                    .collect::<Vec<_>>()
                    .join("; ")
            ),
            "takes more than",
        ),
        ("no rule", "allow := true".to_owned(), "nothing that is asked uses"),
        ("no Rego", "violations contains".to_owned(), "odd.rego"),
        (
            "a function that there is not",
            format!("{VIOLATION}; is_bad(input.object) }}"),
            "calls is_bad, which there is not",
        ),
        (
            "a name that stands for nothing",
            format!("{VIOLATION}; inptu.object }}"),
            "inptu stands for nothing",
        ),
        (
            "the network",
            format!("{VIOLATION}; http.send({{}}) }}"),
            "calls http.send",
        ),
        (
            "what is no violation",
            "violations contains \"no\"".to_owned(),
            "says what is no violation",
        ),
        (
            "a type error",
            format!("{VIOLATION}; count(input.object.spec.engine) > 100; input.object.spec.x + 1 == 2 }}"),
            "cannot be asked",
        ),
    ] {
        let folder = bundle(&rules);
        let begun = Instant::now();
        let (code, decision) = eval_text(&good().to_string(), folder.path().to_str().expect("UTF-8"), &STAGING);
        let took = begun.elapsed();
        assert_eq!(
            (code, &decision["verdict"]),
            (Some(2), &json!("error")),
            "{name}: {decision}"
        );
        assert!(decision.to_string().contains(words), "{name}: {decision}");
        // Two seconds on a quiet machine; the limit of CPU is one.
        assert!(took < Duration::from_secs(12), "{name} took {took:?}");
    }
}

#[test]
fn data_over_a_rule_is_refused() {
    let folder = bundle(&format!("{VIOLATION} }}"));
    written(folder.path(), "database/data.json", "{\"odd\": {\"violations\": []}}");
    let (code, decision) = eval_text(&good().to_string(), folder.path().to_str().expect("UTF-8"), &STAGING);
    assert_eq!(code, Some(2), "data over a rule: {decision}");
    assert!(
        decision.to_string().contains("data stands at the place of the rule"),
        "{decision}"
    );
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

/// A throw-away key of the tests of bundles.
fn key(name: &str) -> String {
    format!(
        "{}/../crates/policy/tests/bundle/fixtures/keys/throw-away-{name}.pem",
        env!("CARGO_MANIFEST_DIR")
    )
}

#[test]
fn a_bundle_is_built_signed_verified_and_asked() {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (built, signed) = (path("policies.tar.gz"), path("signed.tar.gz"));
    let done = |arguments: &[&str]| {
        let output = policy(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    done(&[
        "build",
        &policies(),
        "--to",
        &built,
        "--revision",
        "v42",
        "--sequence",
        "42",
    ]);
    let again = path("again.tar.gz");
    done(&[
        "build",
        &policies(),
        "--to",
        &again,
        "--revision",
        "v42",
        "--sequence",
        "42",
    ]);
    assert_eq!(
        fs::read(&built).expect("built"),
        fs::read(&again).expect("built"),
        "the same bytes"
    );
    let key_id = ["--key-id", "release-1", "--scope", "production"];
    done(&[&["sign", &built, "--to", &signed, "--key", &key("p256")], &key_id[..]].concat());
    let public = key("p256").replace(".pem", ".pub.pem");
    let verify = |bundle: &str, key: &str, more: &[&str]| {
        let output = policy(&[&["verify", bundle, "--key", key], more].concat());
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(verify(&signed, &public, &key_id), (Some(0), String::new()));
    let shown: Value = serde_json::from_str(&done(&["inspect", &signed, "-o", "json"])).expect("JSON");
    assert_eq!((&shown["revision"], &shown["sequence"]), (&json!("v42"), &json!(42)));
    assert_eq!(shown["hasSignature"], true);

    let other = key("other-p256").replace(".pem", ".pub.pem");
    for (bundle, key, more, words) in [
        (&built, &public, &key_id[..], "not there"),
        (&signed, &other, &key_id[..], "release-1"),
        (
            &signed,
            &public,
            &["--key-id", "release-2", "--scope", "production"][..],
            "release-1",
        ),
        (
            &signed,
            &public,
            &["--key-id", "release-1", "--scope", "staging"][..],
            "scope",
        ),
        (
            &signed,
            &public,
            &[&key_id[..], &["--above", "42"]].concat()[..],
            "sequence 42 is not above 42",
        ),
    ] {
        let (code, said) = verify(bundle, key, more);
        assert_eq!(code, Some(1), "{more:?}: {said}");
        assert!(
            said.starts_with("refused: ") && said.contains(words),
            "{more:?}: {said}"
        );
    }

    let (code, decision) = eval_text(&good().to_string(), &signed, &STAGING);
    assert_eq!((code, &decision["verdict"]), (Some(0), &json!("allow")), "{decision}");
    assert_eq!(decision["bundles"]["signed"]["revision"], "v42");
}
