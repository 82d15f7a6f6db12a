//! What the API server refuses, told offline: the schema's bounds, and each CEL rule of [`crate::database`] again in Rust.
//!
//! `tests/refused.yaml` is a table of bad manifests; the tests of this crate and those against a real API server read it,
//! so that the two tellings of a rule cannot drift apart.

use crate::crd;
use crate::database::{Database, DatabaseSpec, Engine, QuantityText};
use crate::fault::Fault;
use crate::names::DATABASE_NAME_MAX;
use crate::quantity::Quantity;
use crate::schema::{self, Finding, Kind};
use crate::version::Version;

/// Longest name of a parameter, in characters.
const PARAMETER_NAME_MAX: usize = 128;

/// Everything that the API server would refuse in this Database; with `old`, also as a change of that spec.
pub fn schema_faults(database: &Database, old: Option<&DatabaseSpec>) -> Vec<Fault> {
    let value = serde_json::to_value(&database.spec).expect("a spec is JSON");
    let findings = schema::check(&crd::database_schema()["properties"]["spec"], &value, "spec");
    with_rules(findings, database, old)
}

/// Adds what breaks a rule to what breaks the schema. A field that does both is named once: by the rule if the schema
/// only has a pattern to show, else by the schema.
pub(crate) fn with_rules(findings: Vec<Finding>, database: &Database, old: Option<&DatabaseSpec>) -> Vec<Fault> {
    let mut broken = name(database.metadata.name.as_deref().unwrap_or_default());
    broken.extend(version(&database.spec));
    broken.extend(quantities(&database.spec));
    broken.extend(parameters(&database.spec));
    if let Some(old) = old {
        broken.extend(changes(&database.spec, old));
    }
    let better_told = |finding: &Finding| {
        finding.kind == Kind::Pattern && broken.iter().any(|rule| rule.field == finding.fault.field)
    };
    let findings = findings.into_iter().filter(|finding| !better_told(finding));
    let mut faults: Vec<Fault> = findings.map(|finding| finding.fault).collect();
    broken.retain(|rule| faults.iter().all(|fault| fault.field != rule.field));
    faults.extend(broken);
    faults
}

/// What is wrong with the name of a Database.
pub(crate) fn name(name: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let bytes = name.as_bytes();
    let allowed = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let good = bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last().is_some_and(|last| *last != b'-')
        && bytes.iter().all(allowed);
    if !good {
        faults.push(Fault::new(
            "metadata.name",
            name,
            "must begin with a lower-case letter, hold only lower-case letters, digits and '-', and end with a letter or \
             digit (its Services bear it)",
            "rename the Database",
        ));
    }
    if name.chars().count() > DATABASE_NAME_MAX {
        faults.push(Fault::new(
            "metadata.name",
            name,
            format!(
                "must have at most {DATABASE_NAME_MAX} characters (the names of its children are longer, and theirs are \
                 bounded)"
            ),
            "shorten the name",
        ));
    }
    faults
}

fn version(spec: &DatabaseSpec) -> Option<Fault> {
    let numbers = spec
        .version
        .parse::<Version>()
        .ok()
        .filter(|version| version.major() > 0)
        .map(|version| version.len());
    let (good, rule, remedy) = match spec.engine {
        Engine::Postgresql => (
            matches!(numbers, Some(1 | 2)),
            "must be MAJOR or MAJOR.MINOR, as PostgreSQL's versions are",
            "write for example \"16\" or \"16.4\"",
        ),
        Engine::Mysql | Engine::Mongodb | Engine::Redis => (
            matches!(numbers, Some(2 | 3)),
            "must be X.Y or X.Y.Z, as this engine's versions are",
            "write for example \"8.4\" or \"8.4.3\"",
        ),
    };
    (!good).then(|| Fault::new("spec.version", &spec.version, rule, remedy))
}

fn quantities(spec: &DatabaseSpec) -> Vec<Fault> {
    let requests = &spec.resources.requests;
    let limits = spec.resources.limits.as_ref();
    let all = [
        ("spec.resources.requests.cpu", requests.cpu.as_ref(), "500m"),
        ("spec.resources.requests.memory", requests.memory.as_ref(), "512Mi"),
        ("spec.resources.requests.storage", Some(&requests.storage), "20Gi"),
        (
            "spec.resources.limits.cpu",
            limits.and_then(|limits| limits.cpu.as_ref()),
            "2",
        ),
        (
            "spec.resources.limits.memory",
            limits.and_then(|limits| limits.memory.as_ref()),
            "4Gi",
        ),
    ];
    let refused = |text: &QuantityText| match text.parse() {
        Ok(quantity) if quantity > Quantity::ZERO => None,
        Ok(_) => Some("must be more than 0".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    all.into_iter()
        .filter_map(|(field, text, example)| {
            let text = text?;
            refused(text).map(|rule| Fault::new(field, text.as_str(), rule, format!("write for example {example}")))
        })
        .collect()
}

fn parameters(spec: &DatabaseSpec) -> Option<Fault> {
    let names = spec
        .configuration
        .iter()
        .flat_map(|configuration| configuration.parameters.keys());
    let long = names
        .into_iter()
        .find(|name| name.chars().count() > PARAMETER_NAME_MAX)?;
    Some(Fault::new(
        "spec.configuration.parameters",
        long,
        format!("must have names of at most {PARAMETER_NAME_MAX} characters"),
        "shorten the name",
    ))
}

pub(crate) fn changes(spec: &DatabaseSpec, old: &DatabaseSpec) -> Vec<Fault> {
    let mut faults = Vec::new();
    if spec.engine != old.engine {
        faults.push(Fault::new(
            "spec.engine",
            spec.engine.as_str(),
            format!(
                "cannot be changed from {} after creation, because one engine cannot read the data of another",
                old.engine
            ),
            "restore the old value, or create a new Database",
        ));
    }
    if spec.storage_class != old.storage_class {
        let was = old
            .storage_class
            .as_ref()
            .map_or("none".to_owned(), |old| format!("{old:?}"));
        faults.push(Fault::new(
            "spec.storageClass",
            spec.storage_class.as_deref().unwrap_or_default(),
            format!("cannot be changed, added or removed after creation, because a volume cannot move; it was {was}"),
            "restore the old value, or create a new Database and copy the data",
        ));
    }
    let (storage, before) = (&spec.resources.requests.storage, &old.resources.requests.storage);
    if let (Ok(new), Ok(was)) = (storage.parse(), before.parse())
        && new < was
    {
        faults.push(Fault::new(
            "spec.resources.requests.storage",
            storage.as_str(),
            format!("cannot shrink from {before}, because a volume cannot"),
            format!("write {before} or more"),
        ));
    }
    faults
}
