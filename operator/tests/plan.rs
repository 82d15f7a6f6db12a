//! `plan -f` of the real binary: what is refused, what is accepted, and how that is told.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use api::database::Engine;
use api::test_support::{By, Refused, good, refused};
use serde_json::{Value, json};

/// Exit code for what a rule refuses.
const REFUSED: i32 = 1;

fn plan(arguments: &[&str], manifest: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_database-operator"))
        .arg("plan")
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(manifest.as_bytes()).expect("sent");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// What came of a manifest on standard input, as JSON; `None` if it was refused before anything could be planned.
fn planned(manifest: &str) -> (Option<i32>, Option<Vec<Value>>, String) {
    let Output { status, stdout, stderr } = plan(&["-f", "-", "-o", "json"], manifest);
    let said = String::from_utf8(stderr).expect("UTF-8");
    (status.code(), serde_json::from_slice(&stdout).ok(), said)
}

/// Whether the case is refused with exit code 1 and its field named; else what happened.
fn told(case: &Refused) -> Result<(), String> {
    let (code, plans, said) = planned(&case.manifest.to_string());
    if code != Some(REFUSED) {
        return Err(format!("exit code {code:?}: {said}"));
    }
    let names_it = match (case.by, &plans) {
        (By::Strict | By::Schema, _) => said.lines().any(|line| {
            let rest = line
                .strip_prefix("refused: ")
                .and_then(|line| line.strip_prefix(case.field.as_str()));
            rest.is_some_and(|rest| rest.starts_with([':', ' ']))
        }),
        (By::Validate, Some(plans)) => {
            let faults = plans[0]["faults"].as_array().into_iter().flatten();
            let complete = |fault: &&Value| {
                ["rule", "remedy"]
                    .iter()
                    .all(|part| fault[*part].as_str().is_some_and(|text| !text.is_empty()))
            };
            plans[0]["verdict"] == "refused" && faults.filter(complete).any(|fault| fault["field"] == case.field)
        }
        (By::Validate, None) => false,
    };
    if names_it {
        Ok(())
    } else {
        Err(format!("{plans:?} {said}"))
    }
}

#[test]
fn every_bad_manifest_is_refused_with_its_field_named() {
    // An update cannot be told from a new Database without a cluster; those are tried against one, by the controller's
    // tests.
    let cases: Vec<Refused> = refused().into_iter().filter(|case| case.existing.is_none()).collect();
    assert!(cases.len() >= 60, "{}", cases.len());
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            told(case)
                .err()
                .map(|why| format!("{} ({}): {why}", case.name, case.field))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_fault_of_a_manifest_is_told_at_once() {
    let mut manifest = good(Engine::Postgresql);
    manifest["spec"]["highAvailability"] = json!(true);
    manifest["spec"]["version"] = json!("9");
    manifest["spec"]["backupPolicy"] = json!({"schedule": "0 25 * * *", "retention": "30d"});
    let (code, plans, said) = planned(&manifest.to_string());
    assert_eq!(code, Some(REFUSED), "{said}");
    let plans = plans.expect("a verdict");
    let fields: BTreeSet<&str> = plans[0]["faults"]
        .as_array()
        .expect("faults")
        .iter()
        .filter_map(|fault| fault["field"].as_str())
        .collect();
    assert_eq!(
        fields,
        BTreeSet::from(["spec.backupPolicy.schedule", "spec.highAvailability", "spec.version"])
    );
    assert!(
        plans[0].get("actions").is_none(),
        "nothing is planned of what is refused: {plans:?}"
    );

    manifest["spec"]["replicas"] = json!(3);
    manifest["spec"]["engine"] = json!("oracle");
    let (code, plans, said) = planned(&manifest.to_string());
    assert_eq!((code, plans), (Some(REFUSED), None));
    assert!(
        said.contains("refused: spec.replicas") && said.contains("refused: spec.engine"),
        "{said}"
    );
}

#[test]
fn samples_are_planned_but_for_engines_that_are_not_yet_available() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/samples");
    let mut samples: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("a file").path())
        .collect();
    samples.sort();
    assert!(samples.len() >= 6, "{samples:?}");
    for sample in samples {
        let path = sample.to_str().expect("UTF-8");
        let Output { status, stdout, stderr } = plan(&["-f", path, "-o", "json"], "");
        let plans: Vec<Value> =
            serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{path}: {}", String::from_utf8_lossy(&stderr)));
        let not_yet = path.contains("mysql") || path.contains("mongodb");
        assert_eq!(
            status.code(),
            Some(if not_yet { REFUSED } else { 0 }),
            "{path}: {plans:?}"
        );
        for plan in plans {
            if not_yet {
                assert_eq!(plan["faults"][0]["field"], "spec.engine", "{path}");
            } else {
                let count = plan["actions"].as_array().map_or(0, Vec::len);
                assert!(count >= 10, "{path}: {count} actions: {plan}");
            }
        }
    }
}

#[test]
fn a_value_of_a_secret_is_not_printed_not_even_to_say_what_is_wrong_with_it() {
    let secret = |key: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden"}, "stringData": {key: "planted-value"}});
    let mut database = good(Engine::Postgresql);
    database["spec"]["configuration"] = json!({"secretRef": {"name": "hidden"}, "parameters": {"work_mem": "8MB"}});
    for (key, code) in [("shop.api_key", 0), ("port", REFUSED)] {
        for format in ["yaml", "json"] {
            let manifest = format!("{}\n---\n{database}\n", secret(key));
            let Output { status, stdout, stderr } = plan(&["-f", "-", "-o", format], &manifest);
            let said = format!(
                "{}{}",
                String::from_utf8_lossy(&stdout),
                String::from_utf8_lossy(&stderr)
            );
            assert_eq!(status.code(), Some(code), "{key}: {said}");
            assert!(
                !said.contains("planted") && !said.contains("cGxhbnRlZC12YWx1Z"),
                "{key}: {said}"
            );
            // What is not secret is printed, so the search is able to find something.
            assert!(said.contains("8MB") || said.contains(key), "{key}: {said}");
        }
    }
}
