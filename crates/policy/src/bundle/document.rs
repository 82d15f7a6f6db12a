//! JSON and YAML documents, read so that they can be hashed exactly as OPA hashes them.
//!
//! OPA hashes a document's content: keys sorted by their bytes, no white space, strings in one spelling, but numbers
//! as they are written, `1.0` apart from `1`. A parser that turns numbers into floats loses that, so this one keeps
//! their text.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

/// How deep a document may nest. Each level of JSON is scanned once more than the one above.
const MAX_DEPTH: usize = 32;
/// How many values a document may have: what takes two bytes of text takes many times as much in memory.
const MAX_VALUES: usize = 250_000;

/// How many parts of YAML aliases may stand for, all together: a few lines of them can mean millions of values.
const MAX_ALIASED: usize = 10_000;

/// Why a text is not a document that all readers read alike.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or with the same key twice in one object.
    #[error("not JSON that can be read in one way only: {why}; mend it there")]
    Json {
        /// The parser's words.
        why: String,
    },
    /// Not YAML, or with the same key twice, or with something that JSON does not have.
    #[error("not YAML that can be read in one way only: {why}; mend it there, or write JSON")]
    Yaml {
        /// The parser's words.
        why: String,
    },
    /// See `MAX_DEPTH`.
    #[error("nested deeper than {MAX_DEPTH} levels; make it flatter")]
    TooDeep,
    /// See `MAX_VALUES`.
    #[error("more than {MAX_VALUES} values; split it into several files, or make it smaller")]
    TooMany,
}

/// A document, with numbers as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Document {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Document>),
    Object(BTreeMap<String, Document>),
}

impl Document {
    pub(super) fn from_json(text: &str) -> Result<Self, DocumentError> {
        let raw: &RawValue = from_json(text)?;
        Builder {
            values_left: MAX_VALUES,
        }
        .build(raw.get(), 0)
    }

    /// YAML that is JSON is read as JSON, as OPA does: its numbers keep their text.
    pub(super) fn from_yaml(text: &str) -> Result<Self, DocumentError> {
        if serde_json::from_str::<&RawValue>(text).is_ok() {
            return Self::from_json(text);
        }
        let options = serde_yaml::options! {
            budget: serde_yaml::budget! { max_depth: MAX_DEPTH, max_nodes: MAX_VALUES },
            alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: MAX_ALIASED },
            // As OPA's parser has it: `yes` and `on` are texts, `012` is ten.
            strict_booleans: true,
            legacy_octal_numbers: true,
        };
        serde_yaml::from_str_with_options(text, options).map_err(|error| {
            // The first line says what and where; the others quote the file, which may be long and hostile.
            let why = error.to_string().lines().next().unwrap_or_default().to_owned();
            DocumentError::Yaml { why }
        })
    }

    /// The same as a value to work with. Numbers beyond 64 bits become floats, as everywhere in Rust.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Number(text) => number(text).map_or(Value::Null, Value::Number),
            Self::Text(text) => Value::String(text.clone()),
            Self::Array(items) => items.iter().map(Self::value).collect(),
            Self::Object(members) => members
                .iter()
                .map(|(key, value)| (key.clone(), value.value()))
                .collect(),
        }
    }

    /// Hands the text that OPA hashes to `sink`, piece by piece.
    pub(super) fn canonical(&self, sink: &mut impl FnMut(&[u8])) {
        match self {
            Self::Null => sink(b"null"),
            Self::Bool(truth) => sink(if *truth { b"true" } else { b"false" }),
            Self::Number(text) => sink(text.as_bytes()),
            Self::Text(text) => sink(quoted(text).as_bytes()),
            Self::Array(items) => {
                sink(b"[");
                for (index, item) in items.iter().enumerate() {
                    sink(if index > 0 { b"," } else { b"" });
                    item.canonical(sink);
                }
                sink(b"]");
            }
            Self::Object(members) => {
                sink(b"{");
                for (index, (key, value)) in members.iter().enumerate() {
                    sink(if index > 0 { b"," } else { b"" });
                    sink(quoted(key).as_bytes());
                    sink(b":");
                    value.canonical(sink);
                }
                sink(b"}");
            }
        }
    }
}

fn number(text: &str) -> Result<Number, serde_json::Error> {
    serde_json::from_str(text)
}

/// A string as Go's encoder writes it with HTML escaping off (since Go 1.22, which OPA 1.x needs anyway).
fn quoted(text: &str) -> String {
    use fmt::Write;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => {
                // Writing to a String never fails.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A float of YAML as Go writes it in JSON: an exponent only for very small and very large numbers.
fn float(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        if size >= 1.0 { text.replace('e', "e+") } else { text }
    } else {
        number.to_string()
    }
}

fn from_json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, DocumentError> {
    serde_json::from_str(text).map_err(|error| DocumentError::Json { why: error.to_string() })
}

/// Builds a document level by level; the bounds end hostile ones early.
struct Builder {
    values_left: usize,
}

impl Builder {
    /// `raw` is one JSON value without white space around it.
    fn build(&mut self, raw: &str, depth: usize) -> Result<Document, DocumentError> {
        if depth > MAX_DEPTH {
            return Err(DocumentError::TooDeep);
        }
        self.values_left = self.values_left.checked_sub(1).ok_or(DocumentError::TooMany)?;
        Ok(match raw.as_bytes().first() {
            Some(b'{') => {
                let mut members = BTreeMap::new();
                for (key, value) in from_json::<Members>(raw)?.0 {
                    let value = self.build(value.get(), depth + 1)?;
                    if members.contains_key(&key) {
                        return Err(DocumentError::Json {
                            why: format!("key {key:?} is twice in one object"),
                        });
                    }
                    members.insert(key, value);
                }
                Document::Object(members)
            }
            Some(b'[') => {
                let items = from_json::<Items>(raw)?.0;
                Document::Array(
                    items
                        .into_iter()
                        .map(|item| self.build(item.get(), depth + 1))
                        .collect::<Result<_, _>>()?,
                )
            }
            Some(b'"') => Document::Text(from_json(raw)?),
            Some(b't' | b'f') => Document::Bool(from_json(raw)?),
            Some(b'n') => Document::Null,
            _ => {
                number(raw).map_err(|error| DocumentError::Json {
                    why: format!("{raw:.40}: {error}"),
                })?;
                Document::Number(raw.to_owned())
            }
        })
    }
}

/// The members of one object in their order, repeated keys included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

/// The items of one array.
struct Items<'a>(Vec<&'a RawValue>);

/// Collects one object, and stops at the bound before memory grows.
struct ObjectLevel;

fn within_bound<E: de::Error>(collected: usize) -> Result<(), E> {
    if collected > MAX_VALUES {
        Err(E::custom(DocumentError::TooMany))
    } else {
        Ok(())
    }
}

impl<'de> Visitor<'de> for ObjectLevel {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
            within_bound(members.len())?;
        }
        Ok(Members(members))
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ObjectLevel)
    }
}

/// Collects one array, and stops at the bound before memory grows.
struct ArrayLevel;

impl<'de> Visitor<'de> for ArrayLevel {
    type Value = Items<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
            within_bound(items.len())?;
        }
        Ok(Items(items))
    }
}

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(ArrayLevel)
    }
}

/// For YAML, where numbers have no text to keep: OPA goes by way of their value too.
impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(FromYaml)
    }
}

struct FromYaml;

impl<'de> Visitor<'de> for FromYaml {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value that JSON has too")
    }
    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document::Null)
    }
    fn visit_none<E>(self) -> Result<Document, E> {
        Ok(Document::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Document, D::Error> {
        Document::deserialize(from)
    }
    fn visit_bool<E>(self, truth: bool) -> Result<Document, E> {
        Ok(Document::Bool(truth))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Document, E> {
        Ok(Document::Number(number.to_string()))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Document, E> {
        Ok(Document::Number(number.to_string()))
    }
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Document, E> {
        if number.is_finite() {
            Ok(Document::Number(float(number)))
        } else {
            Err(E::custom("a number that JSON does not have"))
        }
    }
    fn visit_str<E>(self, text: &str) -> Result<Document, E> {
        Ok(Document::Text(text.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Document, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Document::Array(array))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, _>()? {
            if members.insert(key, value).is_some() {
                return Err(de::Error::custom("the same key twice in one object"));
            }
        }
        Ok(Document::Object(members))
    }
}

#[cfg(test)]
mod tests;
