//! A body as it is sent: with the fence, and the label by which the API server finds what the fence is compared with.
//!
//! Both are put in while it is written: to copy a body first costs as much as to make it.

use api::names::{BUCKET_LABEL, FENCE_ANNOTATION};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// A body with this fence and this bucket, whatever it says of them itself.
#[derive(Debug)]
pub(super) struct Fenced<'a> {
    pub body: &'a Value,
    pub fence: &'a str,
    pub bucket: &'a str,
    /// Members of `metadata` that say which object, or which version of it, is meant.
    pub identity: &'a [(&'static str, &'a str)],
}

impl Serialize for Fenced<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in members(self.body).filter(|(name, _)| *name != "metadata") {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("metadata", &Metadata(self))?;
        map.end()
    }
}

struct Metadata<'a>(&'a Fenced<'a>);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Fenced {
            body,
            fence,
            bucket,
            identity,
        } = self.0;
        let metadata = &body["metadata"];
        let is_replaced =
            |name: &str| ["labels", "annotations"].contains(&name) || identity.iter().any(|(other, _)| *other == name);
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in members(metadata).filter(|(name, _)| !is_replaced(name)) {
            map.serialize_entry(name, value)?;
        }
        for (name, text) in *identity {
            map.serialize_entry(name, text)?;
        }
        map.serialize_entry("labels", &With(&metadata["labels"], BUCKET_LABEL, bucket))?;
        map.serialize_entry("annotations", &With(&metadata["annotations"], FENCE_ANNOTATION, fence))?;
        map.end()
    }
}

/// An object with one more member, or another value of it.
struct With<'a>(&'a Value, &'a str, &'a str);

impl Serialize for With<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(object, name, text) = self;
        let mut map = serializer.serialize_map(None)?;
        for (other, value) in members(object).filter(|(other, _)| other != name) {
            map.serialize_entry(other, value)?;
        }
        map.serialize_entry(name, text)?;
        map.end()
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let members = value.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.as_str(), value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(body: &Value, identity: &[(&'static str, &str)]) -> String {
        serde_json::to_string(&Fenced {
            body,
            fence: "7",
            bucket: "12",
            identity,
        })
        .expect("it is JSON")
    }

    fn sent(body: &Value, identity: &[(&'static str, &str)]) -> Value {
        serde_json::from_str(&text(body, identity)).expect("it is JSON")
    }

    #[test]
    fn a_body_is_sent_as_it_is_but_for_the_fence_the_bucket_and_what_is_meant() {
        let body = json!({
            "kind": "Service",
            "metadata": {
                "name": "orders", "uid": "old", "resourceVersion": "3",
                "labels": {"team": "shop", BUCKET_LABEL: "999"},
                "annotations": {"note": "\"quoted\"", FENCE_ANNOTATION: "1"},
            },
            "spec": {"metadata": {"labels": {}}},
        });
        let expected = json!({
            "kind": "Service",
            "metadata": {
                "name": "orders", "uid": "new", "resourceVersion": "3",
                "labels": {"team": "shop", BUCKET_LABEL: "12"},
                "annotations": {"note": "\"quoted\"", FENCE_ANNOTATION: "7"},
            },
            "spec": {"metadata": {"labels": {}}},
        });
        assert_eq!(sent(&body, &[("uid", "new")]), expected);
    }

    #[test]
    fn what_a_body_lacks_is_made() {
        let expected = json!({"metadata": {
            "resourceVersion": "1",
            "labels": {BUCKET_LABEL: "12"}, "annotations": {FENCE_ANNOTATION: "7"},
        }});
        assert_eq!(sent(&json!({}), &[("resourceVersion", "1")]), expected);
        assert_eq!(
            sent(&json!({"metadata": {"labels": {}}}), &[("resourceVersion", "1")]),
            expected
        );
    }

    #[test]
    fn no_member_is_written_twice() {
        let body =
            json!({"metadata": {"uid": "a", "labels": {BUCKET_LABEL: "1"}, "annotations": {FENCE_ANNOTATION: "1"}}});
        let text = text(&body, &[("uid", "b")]);
        for name in [
            "metadata",
            "uid",
            "labels",
            "annotations",
            BUCKET_LABEL,
            FENCE_ANNOTATION,
        ] {
            assert_eq!(text.matches(&format!("\"{name}\":")).count(), 1, "{name} in {text}");
        }
    }
}
