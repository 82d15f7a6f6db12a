//! Bundles, from a folder to a decision.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{STAGING, eval_text, good, policies, policy, written};

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

#[test]
fn what_would_not_be_loaded_is_not_built() {
    let folder = TempDir::new().expect("a folder");
    let to = folder.path().join("bundle.tar.gz");
    let build = |from: &str, more: &[&str]| {
        let output = policy(&[&["build", from, "--to", to.to_str().expect("UTF-8")], more].concat());
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let rules = super::bundle(&format!("{} }}", super::VIOLATION));
    let from = rules.path().to_str().expect("UTF-8");
    assert_eq!(build(from, &[]), (Some(0), String::new()));

    let (code, said) = build(from, &["--sequence", "42", "--rollback-from", "41"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("--rollback-from") && said.contains("42"), "{said}");
    let (code, said) = build(from, &["--revision", "v1\u{1b}[2J"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("revision") && !said.contains('\u{1b}'), "{said}");

    fs::remove_file(&to).expect("it was built");
    written(
        rules.path(),
        "database/odd_test.rego",
        "package database.odd_test\nimport rego.v1\ntest_it if data.database.odd.violations == 7\n",
    );
    let (code, said) = build(from, &[]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("odd_test.rego:3") && said.contains("does not pass"),
        "{said}"
    );
    assert!(!to.exists(), "nothing is written");
}
