//! What the tests of bundles share: fixtures, keys, and a bundle to start from.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;
use policy::bundle::{Algorithm, Claims, Files, PublicKey, SigningKey, Trust, signature};

pub(crate) const KEY_ID: &str = "release-2026";
pub(crate) const SCOPE: &str = "production";

pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/bundle/fixtures")
        .join(name)
}

pub(crate) fn text(name: &str) -> String {
    fs::read_to_string(fixture(name)).unwrap()
}

pub(crate) fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

pub(crate) fn public(key: &str) -> PublicKey {
    PublicKey::from_pem(&text(&format!("keys/throw-away-{key}.pub.pem"))).unwrap()
}

pub(crate) fn private(key: &str, algorithm: Option<Algorithm>) -> SigningKey {
    SigningKey::from_pem(&text(&format!("keys/throw-away-{key}.pem")), algorithm).unwrap()
}

/// Trusts one key, under the usual id, for the usual scope, and requires signatures.
pub(crate) fn trust(key: &str) -> Trust {
    Trust {
        keys: BTreeMap::from([(KEY_ID.to_owned(), public(key))]),
        scope: SCOPE.to_owned(),
        require_signature: true,
    }
}

pub(crate) fn claims() -> Claims {
    Claims {
        key_id: KEY_ID.to_owned(),
        scope: SCOPE.to_owned(),
    }
}

pub(crate) fn files(entries: &[(&str, &str)]) -> Files {
    let mut files = Files::new();
    for (name, content) in entries {
        files.add(name, content.as_bytes().to_vec()).unwrap();
    }
    files
}

/// A small bundle with the given metadata.
pub(crate) fn small(metadata: &str) -> Files {
    files(&[
        (
            ".manifest",
            &format!(r#"{{"revision":"r","roots":["database"],"metadata":{metadata}}}"#),
        ),
        (
            "database/a.rego",
            "package database.a\n\nimport rego.v1\n\nallowed if input.x == data.database.settings.x\n",
        ),
        ("database/data.json", r#"{"settings":{"x":1}}"#),
    ])
}

pub(crate) fn signed(files: &Files) -> Files {
    signature::sign(files, &private("p256", None), &claims(), now()).unwrap()
}

/// The same files with one in place of what was there, which an attacker could do as well.
pub(crate) fn with(files: &Files, name: &str, content: &str) -> Files {
    let mut changed = without(files, name);
    changed.add(name, content.as_bytes().to_vec()).unwrap();
    changed
}

pub(crate) fn without(files: &Files, name: &str) -> Files {
    let mut kept = Files::new();
    for (other, content) in files.iter().filter(|(other, _)| *other != name) {
        kept.add(other, content.as_bytes().to_vec()).unwrap();
    }
    kept
}
