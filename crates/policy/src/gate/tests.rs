use std::path::Path;

use super::*;
use crate::bundle::{Files, folder};
use crate::stack;

#[test]
fn the_shipped_policies_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let files = folder::read(&folder).expect("they can be read");
    let bundle = Bundle::open_unverified("policies", files).expect("they are a bundle");
    let findings = stack::large(|| inspect(&[bundle])).expect("there is a thread");
    assert_eq!(findings, []);
}

#[test]
fn samples_ask_the_rules_of_every_level() {
    for package in [
        "x",
        "team.a.x",
        "business_unit.b.x",
        "environment.qa.x",
        "environment.production.x",
    ] {
        let mut files = Files::new();
        // An error where the engine is not a text.
        let rule = "violations contains v if { e := input.object.spec.engine; startswith(e, \"x\"); v := {} }";
        let quiet = "violations contains 1 if false".to_owned();
        for (name, rule) in [(package, rule.to_owned()), ("quiet", quiet)] {
            let text = format!("package database.{name}\nimport rego.v1\n{rule}\n");
            files
                .add(&format!("{name}.rego"), text.into_bytes())
                .expect("it is a file");
        }
        let bundle = Bundle::open_unverified("tested", files).expect("it is a bundle");
        let findings = stack::large(|| inspect(&[bundle])).expect("there is a thread");
        let found = findings
            .iter()
            .any(|finding| finding.problem.contains("cannot be asked"));
        assert!(found, "{package}: {findings:?}");
    }
}
