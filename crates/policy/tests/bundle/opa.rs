//! OPA and we accept what the other built and signed. `fixtures/README.md` says how the fixtures were made.

use std::path::Path;
use std::process::Command;

use crate::common::{KEY_ID, SCOPE, claims, fixture, now, private, public, trust, with};
use policy::bundle::{Algorithm, Bundle, Tests, Trust, VerifyError, archive, build, folder, signature};
use serde_json::json;

fn from_opa(name: &str) -> policy::bundle::Files {
    archive::read(&std::fs::read(fixture(&format!("opa/{name}.tar.gz"))).unwrap()).unwrap()
}

#[test]
fn bundles_that_opa_built_and_signed_are_verified() {
    for (name, key, algorithm) in [
        ("built-es256", "p256", Algorithm::Es256),
        ("built-es384", "p384", Algorithm::Es384),
        ("built-rs256", "rsa", Algorithm::Rs256),
        ("built-ps512", "rsa", Algorithm::Ps512),
        ("built-eddsa", "ed25519", Algorithm::EdDsa),
        ("signed-folder", "p256", Algorithm::Es256),
    ] {
        let bundle = Bundle::open("fixture", from_opa(name), &trust(key), now()).unwrap_or_else(|error| {
            panic!(
                "{name}: {error}: {:?}",
                std::error::Error::source(&error).map(ToString::to_string)
            )
        });
        assert_eq!(
            (bundle.signed_by(), bundle.signed().unwrap().algorithm()),
            (Some(KEY_ID), algorithm),
            "{name}"
        );
        assert_eq!(bundle.manifest().revision, "fixture-7");
        assert_eq!(bundle.manifest().metadata.sequence, Some(7));
        assert_eq!(bundle.modules().count(), 2);
    }
}

#[test]
fn the_key_id_that_opa_gives_without_claims_is_read_from_its_header() {
    let files = from_opa("built-no-claims");
    let named = Trust {
        keys: [("default".to_owned(), public("p256"))].into(),
        ..Trust::default()
    };
    assert_eq!(signature::verify(&files, &named, now()).unwrap().key_id(), "default");
    let other = Trust {
        scope: String::new(),
        ..trust("p256")
    };
    assert!(matches!(
        signature::verify(&files, &other, now()),
        Err(VerifyError::UnknownKey { .. })
    ));
}

#[test]
fn another_key_or_any_change_is_refused_in_bundles_of_opa_too() {
    let files = from_opa("signed-folder");
    assert!(matches!(
        signature::verify(&files, &trust("other-p256"), now()),
        Err(VerifyError::Forged { .. })
    ));
    for name in ["database/security.rego", "database/data.json", ".manifest"] {
        let old = files.get(name).unwrap();
        let changed = with(
            &files,
            name,
            &old.replacen('8', "9", 1)
                .replacen("true", "false", 1)
                .replacen("-7", "-8", 1),
        );
        let refused = signature::verify(&changed, &trust("p256"), now());
        assert_eq!(refused, Err(VerifyError::Changed { name: name.to_owned() }));
    }
    let yaml = "database/environment/production/data.yaml";
    let changed = with(&files, yaml, &files.get(yaml).unwrap().replace("1.50", "1.51"));
    assert_eq!(
        signature::verify(&changed, &trust("p256"), now()),
        Err(VerifyError::Changed { name: yaml.to_owned() })
    );
    let reformatted = with(
        &files,
        yaml,
        &files.get(yaml).unwrap().replace("# Limits of production.", "\n"),
    );
    assert!(signature::verify(&reformatted, &trust("p256"), now()).is_ok());
}

#[test]
fn data_is_what_opa_makes_of_the_same_files() {
    let ours = Bundle::open_unverified("ours", folder::read(&fixture("policies")).unwrap()).unwrap();
    let theirs = Bundle::open_unverified("theirs", from_opa("built-unsigned")).unwrap();
    // OPA writes floats of YAML that are whole as integers, which are equal in Rego.
    let mut expected = ours.data().clone();
    assert_eq!(
        expected["database"]["environment"]["production"]["settings"]["max"]["whole"],
        json!(2)
    );
    assert_eq!(
        expected["database"]["environment"]["production"]["settings"]["max"]
            .as_object()
            .unwrap()
            .len(),
        6
    );
    assert_eq!(expected.take(), *theirs.data());
}

#[test]
fn scalars_of_yaml_mean_what_they_mean_in_opa() {
    // Verified, so every scalar hashes as in OPA; and equal to what OPA evaluates them to.
    let bundle = Bundle::open("yaml", from_opa("yaml-scalars"), &trust("p256"), now()).unwrap();
    let theirs: serde_json::Value = serde_json::from_str(&crate::common::text("opa/yaml-scalars.json")).unwrap();
    assert_eq!(bundle.data()["words"], theirs["words"]);
    assert_eq!(bundle.data()["merged"], theirs["merged"]);
    assert_eq!(bundle.data()["strings"], theirs["strings"]);
    assert_eq!(bundle.data()["octal"], theirs["octal"]);
}

/// OPA's program, for the other direction.
struct Opa(std::path::PathBuf);

impl Opa {
    fn found() -> Option<Self> {
        match devcluster::opa() {
            Ok(opa) => Some(Self(opa.program)),
            Err(why) => {
                devcluster::skip("opa", &why.to_string());
                None
            }
        }
    }

    fn verify(&self, archive: &Path, key: &str, algorithm: &str, scope: &str) -> Result<String, String> {
        let output = Command::new(&self.0)
            .args(["build", "--bundle"])
            .arg(archive)
            .arg("--verification-key")
            .arg(fixture(&format!("keys/throw-away-{key}.pub.pem")))
            .args([
                "--verification-key-id",
                KEY_ID,
                "--scope",
                scope,
                "--signing-alg",
                algorithm,
            ])
            // OPA signs what it builds from a signed bundle.
            .arg("--signing-key")
            .arg(fixture(&format!("keys/throw-away-{key}.pem")))
            .arg("-o")
            .arg(archive.with_extension("out"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    fn inspect(&self, archive: &Path) -> serde_json::Value {
        let output = Command::new(&self.0)
            .args(["inspect", "-f", "json"])
            .arg(archive)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn bundles_that_we_built_and_signed_are_accepted_by_opa() {
    let Some(opa) = Opa::found() else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = folder::read(&fixture("policies")).unwrap();
    for (key, algorithm) in [
        ("p256", Algorithm::Es256),
        ("p384", Algorithm::Es384),
        ("rsa", Algorithm::Rs256),
        ("rsa", Algorithm::Rs384),
        ("rsa", Algorithm::Rs512),
        ("rsa", Algorithm::Ps256),
        ("rsa", Algorithm::Ps384),
        ("rsa", Algorithm::Ps512),
        ("ed25519", Algorithm::EdDsa),
    ] {
        for files in [files.clone(), files.without_tests()] {
            let signed = signature::sign(&files, &private(key, Some(algorithm)), &claims(), now()).unwrap();
            let bundle = Bundle::open("ours", signed, &trust(key), now()).unwrap();
            let path = folder.path().join("bundle.tar.gz");
            std::fs::write(&path, build(&bundle, Tests::Include)).unwrap();
            assert_eq!(
                opa.verify(&path, key, algorithm.name(), SCOPE),
                Ok(String::new()),
                "{algorithm}"
            );
            assert!(
                opa.verify(&path, key, algorithm.name(), "staging")
                    .unwrap_err()
                    .contains("scope mismatch")
            );
            assert_eq!(opa.inspect(&path)["manifest"]["revision"], "fixture-7");

            let changed = with(bundle.files(), "database/data.json", r#"{"settings":{}}"#);
            std::fs::write(&path, archive::write(&changed)).unwrap();
            assert!(
                opa.verify(&path, key, algorithm.name(), SCOPE)
                    .unwrap_err()
                    .contains("digest mismatch")
            );
        }
    }
}

#[test]
fn opa_finds_all_modules_and_runs_the_tests_of_what_we_built() {
    let Some(opa) = Opa::found() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bundle = Bundle::open_unverified("ours", folder::read(&fixture("policies")).unwrap()).unwrap();
    let path = folder.path().join("bundle.tar.gz");
    std::fs::write(&path, build(&bundle, Tests::LeaveOut)).unwrap();
    let shown = opa.inspect(&path);
    assert_eq!(
        shown["namespaces"]["data.database.security"].as_array().unwrap().len(),
        1,
        "{shown}"
    );
    assert!(shown["namespaces"]["data.database.security_test"].is_null(), "{shown}");
    std::fs::write(&path, build(&bundle, Tests::Include)).unwrap();
    let output = Command::new(&opa.0).args(["test", "-b"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("PASS: 1/1"), "{said}");
}
