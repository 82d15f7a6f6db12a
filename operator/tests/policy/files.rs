//! `policy eval`: files of any kind.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{STAGING, eval, eval_text, good, policies, policy, with, written};

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

/// Exit code and decision about a change.
fn change(new: &Value, old: &Value) -> (Option<i32>, Value) {
    let folder = TempDir::new().expect("a folder");
    let old = written(folder.path(), "old.json", &old.to_string());
    eval(new, &["--old", old.to_str().expect("UTF-8"), STAGING[0], STAGING[1]])
}

/// What is no Database, or not the same one, is not better for having been there before.
#[test]
fn nothing_is_allowed_for_what_was_there_before() {
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-11-28T00:00:00Z"}});
    let odd = [
        json!({"kind": "ConfigMap"}),
        json!([1]),
        json!("x"),
        json!({}),
        leaving,
        with("/spec/engine", json!("oracle")),
        with("/spec/resources/requests/cpu", json!("-1")),
        with("/spec/version", json!("99")),
        with("/spec/sise", json!(1)),
    ];
    for odd in odd {
        let (code, decision) = change(&odd, &odd);
        assert_eq!(
            (code, &decision["verdict"]),
            (Some(1), &json!("deny")),
            "{odd}: {decision}"
        );
    }
    for field in ["name", "namespace"] {
        let (code, decision) = change(&good(), &with(&format!("/metadata/{field}"), json!("other")));
        assert_eq!((code, &decision["verdict"]), (Some(2), &json!("error")), "{decision}");
        let words = decision["violations"][0]["message"].as_str().expect("words");
        assert!(words.contains(&format!("metadata.{field} is \"other\"")), "{words}");
    }
}

#[test]
fn a_change_that_no_api_server_takes_is_denied() {
    let mut redis = with("/spec/engine", json!("redis"));
    redis["spec"]["version"] = json!("7.0");
    for (new, path) in [
        (redis, "spec.engine"),
        (
            with("/spec/resources/requests/storage", json!("5Gi")),
            "spec.resources.requests.storage",
        ),
        (with("/spec/storageClass", json!("fast")), "spec.storageClass"),
    ] {
        let (code, decision) = change(&new, &good());
        assert_eq!(
            (code, &decision["verdict"]),
            (Some(1), &json!("deny")),
            "{path}: {decision}"
        );
        let violations = decision["violations"].as_array().expect("violations");
        let found = violations
            .iter()
            .any(|violation| violation["path"] == path && violation["id"] == "api.invalid");
        assert!(found, "{path}: {decision}");
    }
    let (code, decision) = change(&with("/spec/resources/requests/storage", json!("20Gi")), &good());
    assert_eq!(code, Some(0), "{decision}");
}

#[test]
fn metadata_are_checked_as_an_api_server_does() {
    for (field, value) in [
        ("foo", json!("bar")),
        ("lables", json!({"a": "b"})),
        ("uid", json!(7)),
        ("ownerReferences", json!("x")),
        ("creationTimestamp", json!("nope")),
        ("finalizers", json!("x")),
        ("namespace", json!("../x")),
        ("labels", json!({"a b/c/d": "x"})),
        ("labels", json!({"a": "x y"})),
        ("annotations", json!({"a b": "x"})),
        ("annotations", json!({"a": "x".repeat(256 << 10)})),
    ] {
        let (code, decision) = eval(&with(&format!("/metadata/{field}"), value), &STAGING);
        assert_eq!(
            (code, &decision["verdict"]),
            (Some(1), &json!("deny")),
            "{field}: {decision}"
        );
        let violations = decision["violations"].as_array().expect("violations");
        let found = violations.iter().any(|violation| violation["id"] == "api.invalid");
        assert!(found, "{field}: {decision}");
    }
    let labelled = json!({"app.kubernetes.io/name": "orders", "team": "", "a-b_c.D": "1.0_x-Y"});
    let (code, decision) = eval(&with("/metadata/labels", labelled), &STAGING);
    assert_eq!(code, Some(0), "{decision}");
}

/// As `kubectl apply` takes them.
#[test]
fn lists_are_taken_apart() {
    let bad = with("/spec/engine", json!("oracle"));
    let list = |items: &[&Value]| json!({"apiVersion": "v1", "kind": "List", "items": items});
    let (code, decision) = eval(&list(&[&bad]), &STAGING);
    assert_eq!((code, &decision["verdict"]), (Some(1), &json!("deny")), "{decision}");
    let (code, decision) = eval(&list(&[&good()]), &STAGING);
    assert_eq!(code, Some(0), "{decision}");
    let both = format!("{}\n---\n{}\n", good(), list(&[&bad]));
    let (code, decision) = eval_text(&both, &policies(), &STAGING);
    assert_eq!((code, &decision["verdict"]), (Some(2), &json!("error")), "{decision}");
}

#[test]
fn what_is_no_exception_excepts_nothing() {
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48);
    let exception = json!({
        "apiVersion": "intent.example.com/v1", "kind": "PolicyException", "metadata": {"name": "x"},
        "spec": {"rules": ["governance.max-cpu"], "selector": {"namespaces": ["shop"]},
            "reason": "a reason", "approver": "head of platform", "expires": soon.to_string()},
    });
    let folder = TempDir::new().expect("a folder");
    let asked = |exception: &Value| {
        let file = written(folder.path(), "exceptions.json", &exception.to_string());
        let file = file.to_str().expect("UTF-8");
        eval(
            &with("/spec/resources/limits/cpu", json!("9")),
            &["--exceptions", file, STAGING[0], STAGING[1]],
        )
    };
    assert_eq!(asked(&exception).0, Some(0));
    for (pointer, value) in [
        ("/kind", json!("ConfigMap")),
        ("/apiVersion", json!("v1")),
        ("/metadata", json!({})),
    ] {
        let mut other = exception.clone();
        *other.pointer_mut(pointer).expect("it is there") = value;
        let (code, decision) = asked(&other);
        assert_eq!((code, &decision["verdict"]), (Some(2), &json!("error")), "{decision}");
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [exception]});
    assert_eq!(asked(&list).0, Some(0));
}
