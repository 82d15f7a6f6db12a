//! Every bad manifest of the table is refused offline, with its field named; every sample is accepted.

use std::collections::BTreeSet;
use std::path::Path;

use api::database::{Database, Engine};
use api::fault::schema_faults;
use api::strict;
use api::test_support::{By, Refused, good, refused};

/// What strict reading says about a case, and for an update also what the rules of change say.
fn told(case: &Refused) -> Vec<String> {
    match strict::database(case.manifest.clone()) {
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
        Ok(database) => {
            let old = case
                .existing
                .clone()
                .map(|existing| strict::database(existing).expect(&case.name));
            let faults = schema_faults(&database, old.as_ref().map(|old| &old.spec));
            faults.iter().map(ToString::to_string).collect()
        }
    }
}

#[test]
fn what_the_api_server_refuses_is_refused_offline_and_nothing_else() {
    let mut wrong = Vec::new();
    for case in refused() {
        let told = told(&case);
        let agrees = match case.by {
            By::Strict | By::Schema => {
                told.len() == 1
                    && told[0]
                        .strip_prefix(case.field.as_str())
                        .is_some_and(|rest| rest.starts_with([':', ' ']))
            }
            By::Validate => told.is_empty(),
        };
        if !agrees {
            wrong.push(format!("{} ({}): {told:?}", case.name, case.field));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_table_is_large_enough_and_its_names_are_unique() {
    let cases = refused();
    let by = |wanted: By| cases.iter().filter(|case| case.by == wanted).count();
    assert!(
        by(By::Strict) + by(By::Schema) >= 60,
        "{} + {}",
        by(By::Strict),
        by(By::Schema)
    );
    assert!(by(By::Validate) >= 15, "{}", by(By::Validate));
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
}

#[test]
fn what_is_decoded_leniently_is_judged_alike() {
    // A list from the API server is decoded without strictness; bounds and rules still hold there.
    for case in refused() {
        let Ok(database) = serde_json::from_value::<Database>(case.manifest.clone()) else {
            continue;
        };
        let faults = schema_faults(&database, None);
        let strict = strict::database(case.manifest).err().unwrap_or_default();
        let unknown = strict
            .iter()
            .any(|fault| fault.rule == "is not a field of this resource");
        let fraction = strict.iter().any(|fault| fault.rule.contains("has a fraction"));
        if !unknown && !fraction {
            assert_eq!(faults, strict, "{}", case.name);
        }
    }
}

#[test]
fn good_databases_and_samples_are_accepted() {
    for engine in Engine::ALL {
        assert_eq!(strict::database(good(engine)).map(|_| ()), Ok(()), "{engine}");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/samples");
    let mut count = 0;
    let mut engines = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        // Samples bring along what they refer to.
        let databases: Vec<&str> = text
            .split("\n---\n")
            .filter(|document| document.contains("kind: Database"))
            .collect();
        assert!(!databases.is_empty(), "{}", path.display());
        for document in databases {
            match strict::parse_database(document) {
                Ok(parsed) => engines.extend(parsed.iter().map(|database| database.spec.engine)),
                Err(faults) => panic!("{}: {faults:?}", path.display()),
            }
        }
        count += 1;
    }
    assert!(count >= 6, "{count}");
    assert_eq!(engines.len(), Engine::ALL.len());
}
