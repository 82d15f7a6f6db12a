//! Reading manifests without a server, more strictly than a server does.
//!
//! The API server drops fields that it does not know (a client may ask it not to), and stops at the first kind of fault.
//! Here every fault of a file is told at once, unknown fields among them, and what comes out has the defaults that the
//! API server would fill in.

use std::sync::LazyLock;

use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::database::Database;
use crate::fault::Fault;
use crate::names::{API_VERSION, KIND};
use crate::schema::{self, Kind};

pub use crate::schema::prune_nulls;
use crate::{crd, metadata, rules};

/// The Databases in a file of one or more YAML documents (or JSON, which is YAML), or everything that is wrong with it.
///
/// Empty documents are passed over. A `status` is dropped, since only the operator writes it. With more than one
/// document, the field of a fault begins with the document's number: `document 2: spec.engine`.
pub fn parse_database(yaml: &str) -> Result<Vec<Database>, Vec<Fault>> {
    let documents: Vec<Value> = serde_yaml::from_multiple(yaml).map_err(|error| {
        let text = error.to_string();
        let reason = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned();
        vec![Fault::new(
            "manifest",
            "",
            format!("cannot be read as YAML: {reason}"),
            "mend the text at that place",
        )]
    })?;
    let documents: Vec<Value> = documents.into_iter().filter(|document| !document.is_null()).collect();
    if documents.is_empty() {
        return Err(vec![Fault::new(
            "manifest",
            "",
            "holds no document",
            "write a Database",
        )]);
    }
    let many = documents.len() > 1;
    let (mut databases, mut faults) = (Vec::new(), Vec::new());
    for (index, document) in documents.into_iter().enumerate() {
        match database(document) {
            Ok(database) => databases.push(database),
            Err(found) if many => faults.extend(found.into_iter().map(|fault| Fault {
                field: format!("document {}: {}", index + 1, fault.field),
                ..fault
            })),
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() { Ok(databases) } else { Err(faults) }
}

/// The Database that this object is, or everything that is wrong with it.
pub fn database(mut object: Value) -> Result<Database, Vec<Fault>> {
    fill_in(&mut object);
    let metadata = metadata::faults(&object);
    match filled(&object) {
        Ok(database) if metadata.is_empty() => Ok(database),
        Ok(_) => Err(metadata),
        Err(faults) => Err(faults.into_iter().chain(metadata).collect()),
    }
}

/// The Database that this object is, which [`fill_in`] has filled in, or everything that is wrong with it but for what any
/// API server has looked at in its metadata.
pub fn filled(object: &Value) -> Result<Database, Vec<Fault>> {
    if !object.is_object() {
        let rule = "must be a Database, but is not a map of fields";
        return Err(vec![Fault::new("manifest", "", rule, "write a Database")]);
    }
    let findings = schema::check(&MANIFEST, object, "");
    if findings.iter().any(|finding| finding.kind == Kind::Undecodable) {
        let mut faults: Vec<Fault> = findings.into_iter().map(|finding| finding.fault).collect();
        faults.extend(object["metadata"]["name"].as_str().into_iter().flat_map(rules::name));
        return Err(faults);
    }
    match Database::deserialize(object) {
        Ok(database) => {
            let faults = rules::with_rules(findings, &database, None);
            if faults.is_empty() { Ok(database) } else { Err(faults) }
        }
        // What the schema lets through can be decoded, but for metadata that is looser here (times, owners).
        Err(error) => {
            let mut faults: Vec<Fault> = findings.into_iter().map(|finding| finding.fault).collect();
            let rule = format!("cannot be decoded: {error}");
            faults.push(Fault::new(
                "metadata",
                "",
                rule,
                "mend the value, or remove what a server has written there",
            ));
            Err(faults)
        }
    }
}

/// Everything that is wrong with this object; with what was there before, if that is a Database, also as a change of it.
pub fn faults(object: &Value, old: Option<&Value>) -> Vec<Fault> {
    let new = match database(object.clone()) {
        Ok(new) => new,
        Err(faults) => return faults,
    };
    let old = old.and_then(|old| database(old.clone()).ok());
    old.map_or_else(Vec::new, |old| rules::changes(&new.spec, &old.spec))
}

/// Drops the status and explicit nulls and fills in defaults, as the API server does; whatever else there is stays.
pub fn fill_in(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    schema::prune_nulls(object);
    schema::fill_defaults(&MANIFEST, object);
}

/// The schema of a whole manifest: the Database's, with what the API server adds for every resource.
static MANIFEST: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = crd::database_schema().clone();
    schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove("status");
        let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
        let any = json!({"x-kubernetes-preserve-unknown-fields": true});
        let whole = json!({"type": "integer"});
        let text = json!({"type": "string"});
        properties.insert(
            "apiVersion".to_owned(),
            json!({"type": "string", "enum": [API_VERSION]}),
        );
        properties.insert("kind".to_owned(), json!({"type": "string", "enum": [KIND]}));
        let metadata = json!({
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "description": "Its name, for example `shop`."},
                "namespace": text,
                "labels": texts,
                "annotations": texts,
                "finalizers": {"type": "array", "items": text},
                "ownerReferences": any,
                "managedFields": any,
                "generateName": text,
                "creationTimestamp": text,
                "deletionTimestamp": text,
                "deletionGracePeriodSeconds": whole,
                "generation": whole,
                "resourceVersion": text,
                "selfLink": text,
                "uid": text,
            },
        });
        properties.insert("metadata".to_owned(), metadata);
    }
    schema
});

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
apiVersion: intent.example.com/v1
kind: Database
metadata:
  name: shop
spec:
  engine: postgresql
  version: \"16\"
  resources:
    requests:
      storage: 10Gi
";

    fn faults(yaml: &str) -> Vec<String> {
        parse_database(yaml)
            .expect_err(yaml)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn defaults_are_filled_in_as_the_api_server_does() {
        let yaml = format!("{GOOD}  monitoring: {{}}\n  backupPolicy: {{schedule: \"@daily\", retention: 30d}}\n");
        let database = parse_database(&yaml).unwrap().remove(0);
        let spec = serde_json::to_value(&database.spec).unwrap();
        assert_eq!(
            spec,
            json!({
                "engine": "postgresql",
                "version": "16",
                "resources": {"requests": {"storage": "10Gi"}},
                "highAvailability": false,
                "deletionPolicy": "Retain",
                "monitoring": {"enabled": false, "serviceMonitor": false, "prometheusRule": false},
                "backupPolicy": {"schedule": "@daily", "retention": "30d", "timeZone": "UTC"},
            })
        );
    }

    #[test]
    fn a_null_is_the_same_as_absence() {
        let yaml =
            format!("{GOOD}  storageClass: null\n  highAvailability:\n  configuration: {{parameters: {{a: null}}}}\n");
        let database = parse_database(&yaml).unwrap().remove(0);
        assert_eq!(database.spec.storage_class, None);
        assert_eq!(
            database.spec.configuration,
            Some(crate::database::Configuration::default())
        );
    }

    #[test]
    fn all_faults_are_told_at_once_with_their_paths() {
        let yaml = "
apiVersion: intent.example.com/v2
kind: Database
metadata: {name: Shop, lables: {}}
spec:
  engine: postgres
  version: 16
  storageclass: fast
  replicas: 3
  highAvailability: maybe
  resources:
    requests: {cpu: 0.5, memory: 1K}
  configuration: {parameters: {work.mem: 64, ssl: on}}
";
        assert_eq!(
            faults(yaml),
            [
                "apiVersion (\"intent.example.com/v2\"): must be one of intent.example.com/v1; write intent.example.com/v1",
                "metadata.lables: is not a field of this resource; write labels, or remove it",
                "spec.configuration.parameters.ssl (\"(hidden)\"): must be of type text, but is true or false; put it in quotes, or YAML takes it for true or false",
                "spec.configuration.parameters[\"work.mem\"] (\"(hidden)\"): must be of type text, but is a number; put it in quotes, or YAML takes it for a number",
                "spec.engine (\"postgres\"): must be one of postgresql, mysql, mongodb, redis; write postgresql",
                "spec.highAvailability (\"maybe\"): must be of type true or false, but is text; write true or false",
                "spec.replicas: is not a field of this resource; remove it; known here: backupPolicy, configuration, deletionPolicy, engine, highAvailability, monitoring, resources, storageClass, version",
                "spec.resources.requests.storage: is required; write it, for example 20Gi",
                "spec.resources.requests.cpu (\"0.5\"): must be of type text or whole number, but has a fraction; put it in quotes",
                "spec.resources.requests.memory (\"1K\"): must match ^([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,2})?$; write for example 512Mi",
                "spec.storageclass: is not a field of this resource; write storageClass, or remove it",
                "spec.version (\"16\"): must be of type text, but is a number; put it in quotes, or YAML takes it for a number",
                "metadata.name (\"Shop\"): must begin with a lower-case letter, hold only lower-case letters, digits and '-', and end with a letter or digit (its Services bear it); rename the Database",
            ]
        );
    }

    #[test]
    fn a_field_that_breaks_schema_and_rule_is_named_once() {
        let yaml = GOOD.replace("\"16\"", "sixteen").replace("10Gi", "0");
        let faults = faults(&yaml);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("must be MAJOR or MAJOR.MINOR"), "{faults:?}");
        assert!(faults[0].starts_with("spec.version (\"sixteen\")"), "{faults:?}");
        assert!(
            faults[1].starts_with("spec.resources.requests.storage (\"0\"): must be more than 0"),
            "{faults:?}"
        );
    }

    #[test]
    fn documents_are_told_apart() {
        let two = format!("---{GOOD}---\n# nothing\n---{}", GOOD.replace("postgresql", "oracle"));
        assert_eq!(
            faults(&two),
            [
                "document 2: spec.engine (\"oracle\"): must be one of postgresql, mysql, mongodb, redis; write one of them"
            ]
        );
        assert_eq!(
            parse_database(&format!("{GOOD}---{}", GOOD.replace("shop", "till")))
                .unwrap()
                .len(),
            2
        );
        let json = serde_json::to_string(&parse_database(GOOD).unwrap()[0]).unwrap();
        assert_eq!(parse_database(&json).unwrap(), parse_database(GOOD).unwrap());
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        assert_eq!(faults(""), ["manifest: holds no document; write a Database"]);
        assert_eq!(
            faults("- 1"),
            ["manifest: must be a Database, but is not a map of fields; write a Database"]
        );
        for broken in ["a: [", "a: 1\na: 2", "a:\n\t- b"] {
            let faults = faults(broken);
            assert!(
                faults[0].starts_with("manifest: cannot be read as YAML: "),
                "{faults:?}"
            );
            assert!(faults[0].contains("line"), "{faults:?}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_not_repeated() {
        let place = "storageLocation: \"s3://key:hunter2@bucket/\"";
        let yaml = format!("{GOOD}  backupPolicy: {{schedule: \"@daily\", retention: 30d, {place}}}\n");
        let faults = faults(&yaml);
        assert!(
            faults[0].starts_with("spec.backupPolicy.storageLocation (\"(hidden)\")"),
            "{faults:?}"
        );
        assert!(!faults.concat().contains("hunter2"), "{faults:?}");
    }

    #[test]
    fn values_that_may_be_secrets_are_not_repeated() {
        for wrong in [
            "  configuration: {parameters: {requirepass: 424242}}",
            "  configuration: {parameters: {requirepass: \"424242\\n\"}}",
            "  configuration: {parameters: requirepass 424242}",
            "  configuration: {parameters: {user: [424242]}}",
            "  configuration: requirepass 424242",
            "  configuration: {secretRef: 424242}",
            "  configuration: {requirepass: 424242}",
            "  requirepass: 424242",
            "requirepass: 424242",
        ] {
            let faults = faults(&format!("{GOOD}{wrong}\n")).concat();
            assert!(!faults.contains("424242"), "{faults}");
        }
        let faults = faults(&GOOD.replace("  name: shop\n", "  name: shop\n  annotations: {pin: 424242}\n")).concat();
        assert!(!faults.contains("424242"), "{faults}");
    }

    #[test]
    fn metadata_that_cannot_be_decoded_is_named() {
        let faults = faults(&GOOD.replace("  name: shop\n", "  name: shop\n  creationTimestamp: yesterday\n"));
        assert!(faults[0].starts_with("metadata: cannot be decoded: "), "{faults:?}");
    }

    #[test]
    fn what_kubectl_prints_can_be_read_again() {
        let yaml = GOOD.replace("  name: shop\n", "  name: shop\n  generation: 1\n  uid: 4c6a\n  creationTimestamp: \"2026-01-01T00:00:00Z\"\n  managedFields: [{manager: kubectl}]\n")
            + "status: {phase: Ready}\n";
        let database = parse_database(&yaml).unwrap().remove(0);
        assert_eq!(database.metadata.generation, Some(1));
        assert_eq!(database.status, None);
    }
}
