//! What Kubernetes asks of the metadata of any object, told offline. Sources: its pages "Object Names and IDs", "Labels and
//! Selectors" and "Annotations".

use serde_json::{Map, Value};

use crate::fault::Fault;

/// Longest name of a namespace, name in a key, or value of a label, in bytes.
const NAME_MAX: usize = 63;
/// Longest part of a key before the `/`, in bytes.
const PREFIX_MAX: usize = 253;
/// All annotations of an object together, keys and values, in bytes.
const ANNOTATIONS_MAX: usize = 256 << 10;

/// What is wrong with namespace, labels and annotations of an object. What has not even the right type is not looked at.
pub(crate) fn faults(object: &Value) -> Vec<Fault> {
    let metadata = &object["metadata"];
    let texts = |field: &str| metadata[field].as_object().into_iter().flat_map(Map::iter);
    let mut faults = Vec::new();
    if let Some(namespace) = metadata["namespace"].as_str()
        && !namespace.is_empty()
        && !is_dns_label(namespace)
    {
        faults.push(Fault::new(
            "metadata.namespace",
            namespace,
            "must hold lower-case letters, digits and '-' only, begin and end with a letter or digit, and have at most 63 of \
             them",
            "write the name of a namespace",
        ));
    }
    for field in ["labels", "annotations"] {
        let bad = texts(field).filter(|(key, _)| !is_key(key));
        faults.extend(bad.map(|(key, _)| {
            Fault::new(
                format!("metadata.{field}"),
                key,
                "must have keys of letters, digits, '-', '_' and '.', at most 63, that begin and end with a letter or digit; \
                 before that a domain and '/', if you like",
                "write for example example.com/team",
            )
        }));
    }
    let is_bad = |value: &&str| !value.is_empty() && !is_name(value);
    let bad = texts("labels").filter_map(|(key, value)| Some((key, value.as_str().filter(is_bad)?)));
    faults.extend(bad.map(|(key, value)| {
        Fault::new(
            format!("metadata.labels[{key}]"),
            value,
            "must be empty, or have at most 63 letters, digits, '-', '_' and '.', and begin and end with a letter or digit",
            "write another value, or an annotation instead",
        )
    }));
    let bytes: usize = texts("annotations")
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > ANNOTATIONS_MAX {
        faults.push(Fault::new(
            "metadata.annotations",
            "",
            format!("must have at most {ANNOTATIONS_MAX} bytes in all, and have {bytes}"),
            "keep what is large in a ConfigMap",
        ));
    }
    faults
}

fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => prefix.len() <= PREFIX_MAX && prefix.split('.').all(is_lower_name) && is_name(name),
        None => is_name(key),
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX && is_made_of(text, |byte| byte.is_ascii_alphanumeric(), b"-_.")
}

fn is_dns_label(text: &str) -> bool {
    text.len() <= NAME_MAX && is_lower_name(text)
}

fn is_lower_name(text: &str) -> bool {
    is_made_of(text, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit(), b"-")
}

/// Whether it begins and ends with an outer byte, and has only those and inner ones.
fn is_made_of(text: &str, outer: impl Fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    ends.is_some_and(|(first, last)| outer(*first) && outer(*last))
        && bytes.iter().all(|byte| outer(*byte) || inner.contains(byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(metadata: &Value) -> Vec<String> {
        let found = faults(&json!({"metadata": metadata}));
        found.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn what_kubernetes_takes_is_good() {
        let name = "a".repeat(63);
        let metadata = json!({
            "namespace": name,
            "labels": {"a": "", "A-b_c.D1": "x.Y_z-0", "example.com/team": name, "0": "0", (name): "x"},
            "annotations": {"a": "any text at all\n", "example.com/big": "x".repeat(262_112)},
        });
        assert_eq!(fields(&metadata), <[&str; 0]>::default());
        assert_eq!(fields(&json!({"namespace": "", "labels": 7})), <[&str; 0]>::default());
    }

    #[test]
    fn what_it_refuses_is_told() {
        let long = "a".repeat(64);
        for namespace in ["../x", "Shop", "-a", "a-", "a.b", "a b", &long] {
            assert_eq!(
                fields(&json!({"namespace": namespace})),
                ["metadata.namespace"],
                "{namespace}"
            );
        }
        let prefix = format!("{}/a", "a".repeat(254));
        for key in [
            "", "a b", "-a", "a-", "a/b/c", "/a", "a/", "A.com/a", "a..b/c", "é", &long, &prefix,
        ] {
            assert_eq!(fields(&json!({"labels": {key: "x"}})), ["metadata.labels"], "{key}");
            assert_eq!(
                fields(&json!({"annotations": {key: "x"}})),
                ["metadata.annotations"],
                "{key}"
            );
        }
        for value in ["a b", "-a", "a-", "é", &long] {
            assert_eq!(
                fields(&json!({"labels": {"a": value}})),
                ["metadata.labels[a]"],
                "{value}"
            );
        }
        let big = json!({"a": "x".repeat(262_143), "b": ""});
        assert_eq!(fields(&json!({"annotations": big})), ["metadata.annotations"]);
    }
}
