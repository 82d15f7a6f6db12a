//! The CustomResourceDefinitions, generated from the types.

use std::sync::LazyLock;

use kube::CustomResourceExt;
use serde_json::Value;

use crate::database::Database;
use crate::exception::PolicyException;

/// Begins the YAML of [`crd_yaml`].
const HEADER: &str = "\
# Generated from the types in crates/api by `database-operator crds`. Do not edit: a test keeps both equal, and
# `UPDATE_EXPECT=1 cargo test -p api` writes it anew. Only additions are allowed: other changes break people's files.
";

/// All CustomResourceDefinitions of this crate, as they are applied to a cluster.
///
/// Use these, not `Database::crd()`: there the schema is as it was derived. Here
/// - nothing is `nullable`, so the API server drops an explicit `null`, as it does for its own resources, and a default
///   takes its place (templates often leave a `null`);
/// - paragraphs of descriptions are not broken into lines, because `kubectl explain` breaks them itself.
pub fn crds() -> Vec<Value> {
    [Database::crd(), PolicyException::crd()]
        .into_iter()
        .map(|crd| {
            let mut crd = serde_json::to_value(crd).expect("a CustomResourceDefinition is JSON");
            let versions = crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
            for version in versions.into_iter().flatten() {
                if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                    tidy(schema);
                }
            }
            crd
        })
        .collect()
}

/// The definitions as one YAML text, the same to the byte at every call.
pub fn crd_yaml() -> String {
    let documents: Vec<String> = crds().iter().map(yaml).collect();
    documents.join("---\n")
}

fn yaml(crd: &Value) -> String {
    format!("{HEADER}{}", serde_yaml::to_string(crd).expect("JSON is YAML"))
}

/// The schema of a Database, as the API server has it.
pub(crate) fn database_schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        let crd = crds().remove(0);
        crd.pointer("/spec/versions/0/schema/openAPIV3Schema")
            .expect("the Database has a schema")
            .clone()
    });
    &SCHEMA
}

fn tidy(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("nullable");
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description
            .split("\n\n")
            .map(|paragraph| paragraph.replace('\n', " "))
            .collect::<Vec<_>>()
            .join("\n\n");
    }
    // Only where schemas stand: a property may itself be called `description`.
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    for within in ["items", "additionalProperties"] {
        if let Some(within) = schema.get_mut(within) {
            tidy(within);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Reserved for later, not to be used for anything else.
    const RESERVED: [&str; 12] = [
        "ha",
        "class",
        "placement",
        "tls",
        "access",
        "bootstrap",
        "restore",
        "image",
        "replicas",
        "podTemplate",
        "updateStrategy",
        "maintenanceWindow",
    ];

    /// Calls `see` for each schema below, with its path.
    fn walk(path: &str, schema: &Value, see: &mut impl FnMut(&str, &Value)) {
        see(path, schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), property, see);
        }
        for (within, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
            if let Some(schema) = schema.get(within) {
                walk(&format!("{path}{suffix}"), schema, see);
            }
        }
    }

    #[test]
    fn the_committed_yaml_is_the_generated_one() {
        for crd in crds() {
            let name = crd["metadata"]["name"].as_str().unwrap_or_default();
            let file =
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../charts/database-operator/crds/{name}.yaml"));
            expect_test::expect_file![file].assert_eq(&yaml(&crd));
        }
    }

    fn schemas() -> impl Iterator<Item = Value> {
        crds()
            .into_iter()
            .map(|mut crd| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take())
    }

    #[test]
    fn every_text_list_and_map_of_a_spec_or_status_is_bounded() {
        let mut unbounded = Vec::new();
        let mut judge = |path: &str, schema: &Value| {
            let bounded = match schema["type"].as_str() {
                Some("string") => {
                    schema.get("maxLength").is_some() || schema.get("enum").is_some() || schema["format"] == "date-time"
                }
                Some("array") => schema.get("maxItems").is_some(),
                Some("object") => schema.get("additionalProperties").is_none() || schema.get("maxProperties").is_some(),
                Some("integer" | "boolean") => true,
                Some(other) => panic!("{path}: unexpected type {other}"),
                None => schema["x-kubernetes-int-or-string"] == true && schema.get("maxLength").is_some(),
            };
            if !bounded {
                unbounded.push(path.to_owned());
            }
        };
        schemas().for_each(|schema| walk("", &schema, &mut judge));
        assert_eq!(unbounded, Vec::<String>::new());
    }

    #[test]
    fn every_field_is_described_in_words() {
        let mut bare = Vec::new();
        let mut judge = |path: &str, schema: &Value| {
            let described = schema["description"].as_str().is_some_and(|text| text.len() >= 12);
            if !described && !path.ends_with("[]") && !path.ends_with("{}") && !path.ends_with(".metadata") {
                bare.push(path.to_owned());
            }
        };
        schemas().for_each(|schema| walk("", &schema, &mut judge));
        assert_eq!(bare, Vec::<String>::new());
    }

    #[test]
    fn what_a_user_writes_says_default_or_required() {
        let mut silent = Vec::new();
        walk("spec", &database_schema()["properties"]["spec"], &mut |path, schema| {
            let text = schema["description"].as_str().unwrap_or_default();
            if path.contains('.')
                && !path.ends_with(['}', ']'])
                && !text.contains("Default")
                && !text.contains("Required")
            {
                silent.push(path.to_owned());
            }
        });
        assert_eq!(silent, Vec::<String>::new());
    }

    #[test]
    fn reserved_names_are_not_used() {
        walk("spec", &database_schema()["properties"]["spec"], &mut |path, _| {
            let name = path.rsplit('.').next().unwrap_or_default();
            assert!(!RESERVED.contains(&name), "{path}");
        });
    }

    #[test]
    fn defaults_are_in_the_schema_and_only_where_promised() {
        let mut defaults = Vec::new();
        walk("", database_schema(), &mut |path, schema| {
            defaults.extend(schema.get("default").map(|default| format!("{path} = {default}")));
        });
        assert_eq!(
            defaults,
            [
                ".spec.backupPolicy.timeZone = \"UTC\"",
                ".spec.deletionPolicy = \"Retain\"",
                ".spec.highAvailability = false",
                ".spec.monitoring.enabled = false",
                ".spec.monitoring.prometheusRule = false",
                ".spec.monitoring.serviceMonitor = false",
            ]
        );
    }

    #[test]
    fn names_agree_with_the_definition() {
        use crate::names;
        let crd = &crds()[0];
        assert_eq!(crd["metadata"]["name"], names::CRD_NAME);
        assert_eq!(crd["spec"]["group"], names::GROUP);
        assert_eq!(crd["spec"]["names"]["kind"], names::KIND);
        assert_eq!(crd["spec"]["names"]["plural"], names::PLURAL);
        assert_eq!(crd["spec"]["names"]["shortNames"], serde_json::json!(["db"]));
        assert_eq!(crd["spec"]["names"]["categories"], serde_json::json!(["all"]));
        assert_eq!(format!("{}/{}", names::GROUP, names::VERSION), names::API_VERSION);
    }
}
