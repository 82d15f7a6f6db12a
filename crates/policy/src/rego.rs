//! JSON as the interpreter holds it.

use std::collections::BTreeMap;

use regorus::Value as Rego;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The same value. The interpreter's own way goes through a deserializer and takes twice as long.
pub(crate) fn rego(json: &Value) -> Rego {
    match json {
        Value::Null => Rego::Null,
        Value::Bool(truth) => Rego::from(*truth),
        Value::String(text) => Rego::from(text.as_str()),
        Value::Array(items) => Rego::from(items.iter().map(rego).collect::<Vec<_>>()),
        Value::Object(fields) => Rego::from(pairs(fields).collect::<BTreeMap<_, _>>()),
        // What is more than 64 bits is binary, there as here.
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(whole), _) => Rego::from(whole),
            (None, Some(whole)) => Rego::from(whole),
            (None, None) => number.as_f64().map_or(Rego::Undefined, Rego::from),
        },
    }
}

/// An object with one field more.
pub(crate) fn with(object: &Value, field: &str, value: Rego) -> Rego {
    let fields = object.as_object().into_iter().flat_map(pairs);
    let more = (Rego::from(field), value);
    Rego::from(fields.chain([more]).collect::<BTreeMap<_, _>>())
}

fn pairs(fields: &Map<String, Value>) -> impl Iterator<Item = (Rego, Rego)> {
    fields
        .iter()
        .map(|(key, value)| (Rego::from(key.as_str()), rego(value)))
}

/// Reads a JSON object, of its fields those that are wanted.
///
/// Not by `Value::from_json_str`, which looks for equal keys and takes a third longer for a document of 19 KB.
pub(crate) fn parse(json: &str, wanted: impl Fn(&str) -> bool) -> Result<Rego, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let object = reader.deserialize_map(Fields(wanted))?;
    reader.end()?;
    Ok(object)
}

/// Takes the fields that are wanted.
struct Fields<F>(F);

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for Fields<F> {
    type Value = Rego;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rego, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some(field) = map.next_key::<String>()? {
            if (self.0)(&field) {
                fields.insert(Rego::from(field), map.next_value::<Rego>()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Rego::from(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z\"/]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z$]{0,4}", inner, 0..4).prop_map(|fields| json!(fields)),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_the_interpreter_would_make_of_it(json in any_json()) {
            prop_assert_eq!(rego(&json), Rego::from(json.clone()));
            let read: Rego = serde_json::from_str(&json.to_string()).expect("it is JSON");
            prop_assert_eq!(&read, &Rego::from_json_str(&json.to_string()).expect("it is JSON"));
            let object = json!({"a": json, "b": json}).to_string();
            let parsed = parse(&object, |field| field == "a").expect("it is an object");
            prop_assert_eq!(parsed, Rego::from(BTreeMap::from([(Rego::from("a"), read)])));
        }
    }
}
