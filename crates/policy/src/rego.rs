//! JSON as the interpreter holds it.

use std::collections::BTreeMap;

use regorus::Value as Rego;
use serde_json::Value;

/// The same value. The interpreter's own way goes through a deserializer and takes twice as long.
pub(crate) fn rego(json: &Value) -> Rego {
    match json {
        Value::Null => Rego::Null,
        Value::Bool(truth) => Rego::from(*truth),
        Value::String(text) => Rego::from(text.as_str()),
        Value::Array(items) => Rego::from(items.iter().map(rego).collect::<Vec<_>>()),
        Value::Object(fields) => {
            let pairs = fields
                .iter()
                .map(|(key, value)| (Rego::from(key.as_str()), rego(value)));
            Rego::from(pairs.collect::<BTreeMap<_, _>>())
        }
        // What is more than 64 bits is binary, there as here.
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(whole), _) => Rego::from(whole),
            (None, Some(whole)) => Rego::from(whole),
            (None, None) => number.as_f64().map_or(Rego::Undefined, Rego::from),
        },
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
            prop_assert_eq!(read, Rego::from_json_str(&json.to_string()).expect("it is JSON"));
        }
    }
}
