//! JSON from outside, in which an object is an object.
//!
//! What `serde` derives for a struct also takes a list, whose elements are then the fields in their order: `[true]` for
//! `{"allowed": true}`. Nobody who means well sends that, and what an answer says must not hang on the order of fields in
//! our code. So here each struct is asked for as a map, however deep it lies.
//!
//! Not covered: structs inside of an enum's variant, or of an untagged enum. What is read here has neither.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

/// Reads one value.
pub(crate) fn from_slice<'de, T: Deserialize<'de>>(json: &'de [u8]) -> serde_json::Result<T> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let value = T::deserialize(Objects(&mut json))?;
    json.end()?;
    Ok(value)
}

/// Stands around each part of what is read, and goes along with it into the next.
struct Objects<T>(T);

macro_rules! hand_on {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(Objects(visitor))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Objects<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Objects(visitor))
    }

    hand_on! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_option
        deserialize_unit deserialize_seq deserialize_map deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, Objects(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, Objects(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(len, Objects(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple_struct(name, len, Objects(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, Objects(visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident: $value:ty)*) => {
        $(fn $method<E: Error>(self, value: $value) -> Result<V::Value, E> {
            self.0.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Objects<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    visit! {
        visit_bool: bool visit_i64: i64 visit_i128: i128 visit_u64: u64 visit_u128: u128 visit_f64: f64
        visit_str: &str visit_borrowed_str: &'de str visit_string: String
        visit_bytes: &[u8] visit_borrowed_bytes: &'de [u8] visit_byte_buf: Vec<u8>
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Objects(value))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Objects(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Objects(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Objects(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(variant)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Objects<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Objects(value))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Objects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Objects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use policy::log::Entry;
    use serde_json::{Value, json};

    use super::*;
    use crate::test_support::record;

    fn read(entry: &Value) -> serde_json::Result<Entry> {
        from_slice(entry.to_string().as_bytes())
    }

    /// A record with something in all that may have fields, and where those places are.
    fn entry() -> (Value, [&'static str; 7]) {
        let mut record = serde_json::to_value(record(1, Some("shop"))).unwrap();
        record["violations"] = json!([{
            "id": "a.b", "level": "global", "severity": "high", "action": "deny", "path": "spec", "message": "no",
        }]);
        record["bundles"] = json!({"base": {"revision": "v1", "digest": "d"}});
        record["user"] = json!({"name": "eve", "uid": "u", "groups": ["staff"]});
        let places = [
            "",
            "/record",
            "/record/resource",
            "/record/user",
            "/record/metrics",
            "/record/violations/0",
            "/record/bundles/base",
        ];
        (json!({"position": 1, "record": record}), places)
    }

    #[test]
    fn what_is_written_is_read_as_anybody_else_reads_it() {
        let (entry, _) = entry();
        assert_eq!(read(&entry).unwrap(), serde_json::from_value(entry).unwrap());
        assert_eq!(
            from_slice::<Value>(b"[1, {\"a\": [null, 1.5, \"x\"]}]").unwrap(),
            json!([1, {"a": [null, 1.5, "x"]}])
        );
        assert_eq!(
            from_slice::<Option<(u8, String)>>(b"[1, \"x\"]").unwrap(),
            Some((1, "x".to_owned()))
        );
    }

    #[test]
    fn a_list_is_no_object_wherever_it_stands() {
        let (entry, places) = entry();
        for place in places {
            let mut odd = entry.clone();
            let object = odd.pointer_mut(place).unwrap_or_else(|| panic!("nothing at {place}"));
            let fields: Vec<Value> = object.as_object().unwrap().values().cloned().collect();
            for list in [json!([]), fields.into()] {
                *odd.pointer_mut(place).unwrap() = list;
                let error = read(&odd).expect_err(place).to_string();
                assert!(error.contains("invalid type: sequence"), "{place}: {error}");
            }
        }
        // Nothing else would keep it out.
        assert!(serde_json::from_value::<Entry>(json!([1, entry["record"]])).is_ok());
    }

    #[test]
    fn what_follows_is_an_error() {
        from_slice::<Vec<u8>>(b"[1] [2]").unwrap_err();
    }
}
