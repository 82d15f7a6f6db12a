//! The version of an object, found in its text without reading more of it than has to be.
//!
//! Most texts are of versions that are known. The API server writes the metadata before the specification and the
//! status, and of most kinds the version among the first of the metadata.

use std::fmt;

use planner::json::Json;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Where an object has its version.
const PATH: &[&str] = &["metadata", "resourceVersion"];

/// The version of an object, if its text has one. What follows it is not looked at.
pub fn version(text: &str) -> Option<u64> {
    let mut found = None;
    let seed = Find {
        path: PATH,
        found: &mut found,
    };
    // Reading ends in the middle of the text, which is an error to the deserializer.
    let _ends_early = seed.deserialize(&mut serde_json::Deserializer::from_str(text));
    found
}

/// Finds the version at the end of a path of names of members.
struct Find<'a> {
    path: &'static [&'static str],
    found: &'a mut Option<u64>,
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path {
            [] => deserializer.deserialize_str(self),
            _ => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with a version")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        *self.found = text.parse().ok();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((name, path)) = self.path.split_first() else {
            return Ok(());
        };
        while let Some(here) = map.next_key_seed(Is(name))? {
            if here {
                let found = self.found;
                return map.next_value_seed(Find { path, found });
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Whether a name is this one.
struct Is(&'static str);

impl<'de> DeserializeSeed<'de> for Is {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// An object, or what was known of it.
pub(super) enum Decoded<'de, T> {
    /// What was known of this version. The rest of the object was passed over.
    Known(T),
    /// All of it.
    Read(Json<'de>),
}

/// Decodes an object, unless `known` knows its version.
///
/// One pass in either case. The names of members are read in place, which takes that they have no escapes on the way to
/// the version; in objects of an API server they have none.
pub(super) fn decode_unless<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    known: impl Fn(u64) -> Option<T>,
) -> Result<Decoded<'de, T>, D::Error> {
    let known = |version: &str| known(version.parse().ok()?);
    Unless {
        path: PATH,
        known: &known,
    }
    .deserialize(deserializer)
}

/// Decodes what is at a path of names of members, unless the text at its end is known.
struct Unless<'a, F> {
    path: &'static [&'static str],
    known: &'a F,
}

impl<'de, T, F: Fn(&str) -> Option<T>> DeserializeSeed<'de> for Unless<'_, F> {
    type Value = Decoded<'de, T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if !self.path.is_empty() {
            return deserializer.deserialize_map(self);
        }
        let value = Json::deserialize(deserializer)?;
        Ok(value
            .as_str()
            .and_then(self.known)
            .map_or(Decoded::Read(value), Decoded::Known))
    }
}

impl<'de, T, F: Fn(&str) -> Option<T>> Visitor<'de> for Unless<'_, F> {
    type Value = Decoded<'de, T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (name, path) = self.path.split_first().unwrap_or((&"", &[]));
        let mut members = Vec::with_capacity(16);
        while let Some(member) = map.next_key::<&str>()? {
            let value = if member == *name {
                let known = self.known;
                match map.next_value_seed(Unless { path, known })? {
                    Decoded::Read(value) => value,
                    known @ Decoded::Known(_) => {
                        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                        return Ok(known);
                    }
                }
            } else {
                map.next_value()?
            };
            members.push((member, value));
        }
        Ok(Decoded::Read(Json::Object(members.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_where_it_is_and_nowhere_else() {
        for (text, expected) in [
            (r#"{"metadata":{"resourceVersion":"7"}}"#, Some(7)),
            (
                r#" { "metadata" : { "name" : "x" , "resourceVersion" : "7" } , "spec" : {} } "#,
                Some(7),
            ),
            // As custom resources have it: in the order of the alphabet.
            (
                r#"{"apiVersion":"v1","metadata":{"annotations":{"resourceVersion":"1","a":"\"resourceVersion\":\"2\""},"labels":{},
                "managedFields":[{"fieldsV1":{"f:metadata":{"resourceVersion":"3"}}}],"resourceVersion":"7"}}"#,
                Some(7),
            ),
            (
                r#"{"resourceVersion":"1","spec":{"metadata":{"resourceVersion":"2"}},"metadata":{"resourceVersion":"7"}}"#,
                Some(7),
            ),
            (
                r#"{"spec":"\"metadata\":{\"resourceVersion\":\"1\"}","metadata":{}}"#,
                None,
            ),
            (
                r#"{"metadata":{"name":"x"},"spec":{"resourceVersion":"1"},"resourceVersion":"2"}"#,
                None,
            ),
            (r#"{"metadata":{"r\u0065sourceVersion":"\u0037"}}"#, Some(7)),
            (r#"{"metadata":{"resourceVersion":"7""#, Some(7)),
            (r#"{"metadata":{"resourceVersion":"7"#, None),
            (r#"{"metadata":{"resourceVersion":7}}"#, None),
            (r#"{"metadata":{"resourceVersion":"7x"}}"#, None),
            (r#"{"metadata":{"resourceVersion":null}}"#, None),
            (r#"{"metadata":null}"#, None),
            (r#"{"metadata":[{"resourceVersion":"1"}]}"#, None),
            (r#"[{"metadata":{"resourceVersion":"1"}}]"#, None),
            (r#"{"spec":{]},"metadata":{"resourceVersion":"1"}}"#, None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    fn decoded(text: &str, known: u64) -> Result<Decoded<'_, u64>, serde_json::Error> {
        decode_unless(&mut serde_json::Deserializer::from_str(text), |version| {
            (version == known).then_some(version)
        })
    }

    #[test]
    fn what_is_not_known_is_read_as_if_nothing_were_known() {
        for text in [
            r#"{"kind":"Pod","metadata":{"name":"x","resourceVersion":"7","labels":{"a":"b"}},"spec":{"c":[1,null]}}"#,
            r#"{"metadata":{"resourceVersion":7},"resourceVersion":"8","spec":{"metadata":{"resourceVersion":"8"}}}"#,
            r#"{"metadata":{}}"#,
            "{}",
        ] {
            let Ok(Decoded::Read(object)) = decoded(text, 8) else {
                panic!("{text}: it is not known");
            };
            assert_eq!(object, serde_json::from_str(text).expect("JSON"), "{text}");
        }
    }

    #[test]
    fn what_follows_a_known_version_is_passed_over_as_a_whole() {
        let mut events = serde_json::Deserializer::from_str(
            r#"{"kind":"Pod","metadata":{"resourceVersion":"7","labels":{"a":"}"}},"spec":{"c":[1]}} "next""#,
        );
        let known = decode_unless(&mut events, Some);
        assert!(matches!(known, Ok(Decoded::Known(7))));
        assert_eq!(<&str>::deserialize(&mut events).expect("it comes next"), "next");
        assert!(decoded(r#"{"metadata":{"resourceVersion":"7"},"spec":{]}}"#, 7).is_err());
    }
}
