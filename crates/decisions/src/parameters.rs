//! The parameters of a question: from the query part of a URL to a [`Filter`], and back. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use policy::log::{Cursor, Filter, MAX_LIMIT};
use serde::Deserialize;
use serde::Serialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as WordError, StrDeserializer};

/// Longest value that is taken.
pub const VALUE_CHARS: usize = 512;

/// Longest part of a wrong value that is quoted.
const QUOTED_CHARS: usize = 80;

/// What can be asked for, and what each may be.
pub const ALL: [(&str, &str); 13] = [
    ("user", "the name of a user, as the API server knows it"),
    (
        "namespace",
        "the name of a namespace: 1 to 63 small letters, digits and '-'",
    ),
    ("name", "the name of a Database"),
    ("verdict", "allow, warn, deny or error"),
    ("rule", "the id of a rule, PACKAGE.NAME"),
    ("operation", "CREATE, UPDATE or DELETE"),
    ("source", "admission, reconcile, audit or cli"),
    ("bundle", "the revision of a bundle"),
    ("from", "a time as in 2026-11-28T12:00:00Z; nothing older is given"),
    ("to", "a time as in 2026-11-28T12:00:00Z; only what is older is given"),
    ("id", "the id of a decision, a UUID"),
    ("limit", "a number from 1 to 1000"),
    ("cursor", "the `next` of the page before, unchanged"),
];

/// A question that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// There is no such parameter.
    #[error("unknown parameter `{0}`; there are {names}", names = names())]
    Unknown(String),
    /// A parameter has two values.
    #[error("parameter `{0}` is there twice; ask once for each value")]
    Twice(&'static str),
    /// A value is none.
    #[error("parameter `{name}`: `{value}` is none; it may be {expected}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// Its value, or the beginning of it.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
}

fn names() -> String {
    ALL.map(|(name, _)| name).join(", ")
}

/// Reads the query part of a URL.
pub fn read(query: &str) -> Result<Filter, ParameterError> {
    let mut filter = Filter::default();
    let mut seen = BTreeSet::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some(&(name, expected)) = ALL.iter().find(|(known, _)| *known == name) else {
            return Err(ParameterError::Unknown(beginning(&name)));
        };
        if !seen.insert(name) {
            return Err(ParameterError::Twice(name));
        }
        set(&mut filter, name, &value).ok_or_else(|| ParameterError::Value {
            name,
            value: beginning(&value),
            expected,
        })?;
    }
    Ok(filter)
}

fn set(filter: &mut Filter, name: &str, value: &str) -> Option<()> {
    match name {
        "user" => filter.user = Some(text(value)?),
        // Never empty: the API server takes an empty namespace for all of them.
        "namespace" => filter.namespace = Some(value.to_owned()).filter(|name| is_namespace(name)).map(Some)?,
        "name" => filter.name = Some(text(value)?),
        "verdict" => filter.verdict = Some(word(value)?),
        "rule" => filter.rule = Some(text(value)?),
        "operation" => filter.operation = Some(word(value)?),
        "source" => filter.source = Some(word(value)?),
        "bundle" => filter.bundle = Some(text(value)?),
        "from" => filter.from = Some(value.parse().ok()?),
        "to" => filter.to = Some(value.parse().ok()?),
        "id" => filter.decision_id = Some(value.parse().ok()?),
        "limit" => filter.limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit))?,
        "cursor" => filter.cursor = Some(value.parse().ok()?),
        _ => return None,
    }
    Some(())
}

/// Writes the query part of a URL.
pub fn write(filter: &Filter) -> String {
    // No `..` here: a new filter does not compile until it is sent.
    let Filter {
        decision_id,
        user,
        namespace,
        // Who may see what is the server's to say.
        allowed: _,
        name,
        verdict,
        rule,
        operation,
        source,
        bundle,
        from,
        to,
        limit,
        cursor,
    } = filter;
    let values = [
        ("user", user.clone()),
        ("namespace", namespace.clone()),
        ("name", name.clone()),
        ("verdict", verdict.as_ref().map(spelled)),
        ("rule", rule.clone()),
        ("operation", operation.as_ref().map(spelled)),
        ("source", source.as_ref().map(spelled)),
        ("bundle", bundle.clone()),
        ("from", from.as_ref().map(Timestamp::to_string)),
        ("to", to.as_ref().map(Timestamp::to_string)),
        ("id", decision_id.as_ref().map(ToString::to_string)),
        ("limit", (*limit > 0).then(|| limit.to_string())),
        ("cursor", cursor.as_ref().map(Cursor::to_string)),
    ];
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in values {
        if let Some(value) = value {
            query.append_pair(name, &value);
        }
    }
    query.finish()
}

/// A value of an enum by its name in JSON.
pub fn word<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    let words: StrDeserializer<'a, WordError> = text.into_deserializer();
    T::deserialize(words).ok()
}

/// The name in JSON of a value of an enum.
fn spelled(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        // Nothing that is filtered by is written otherwise; the server would refuse this.
        _ => String::new(),
    }
}

fn text(value: &str) -> Option<String> {
    let is_one = !value.is_empty() && value.chars().nth(VALUE_CHARS).is_none() && !value.contains(char::is_control);
    is_one.then(|| value.to_owned())
}

fn beginning(text: &str) -> String {
    text.chars().take(QUOTED_CHARS).collect()
}

/// Whether a namespace may have this name (RFC 1123 label).
pub fn is_namespace(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests;
