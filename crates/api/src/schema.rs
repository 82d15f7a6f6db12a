//! A structural schema, applied without a server.
//!
//! It understands what the generated schema of a Database uses, and fails loudly at anything else, so that a keyword
//! that is added to the types cannot be forgotten here. Three steps, in the order of the API server: [`prune_nulls`],
//! [`fill_defaults`], [`check`].

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Map, Number, Value};

use crate::fault::{Fault, HIDDEN};

/// Drops every `null`: the schema has nothing nullable, so it is the same as absence.
pub fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // Going through a map to take things out costs several times as much as looking whether there are any.
            if fields.values().any(Value::is_null) {
                fields.retain(|_, field| !field.is_null());
            }
            fields.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Puts the schema's defaults where nothing stands.
pub(crate) fn fill_defaults(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, property) in properties(schema) {
                if let (false, Some(default)) = (fields.contains_key(name), property.get("default")) {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(field) = fields.get_mut(name) {
                    fill_defaults(property, field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill_defaults(&schema["items"], item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Something that the schema refuses.
#[derive(Debug)]
pub(crate) struct Finding {
    /// How it is told.
    pub(crate) fault: Fault,
    /// What follows from it.
    pub(crate) kind: Kind,
}

/// What follows from a finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The value cannot be decoded into its type.
    Undecodable,
    /// The text has not the form of a pattern; a rule may tell that in better words.
    Pattern,
    /// It can be decoded, but is refused.
    Refused,
}

/// Everything in `value` that the schema refuses, with the path of each.
pub(crate) fn check(schema: &Value, value: &Value, path: &str) -> Vec<Finding> {
    let mut check = Check { findings: Vec::new() };
    check.value(schema, value, Path::Root(path), schema);
    check.findings
}

struct Check {
    findings: Vec<Finding>,
}

/// Where a value stands. Written out only if there is something wrong with it.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root(&'a str),
    Field(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn write(self) -> String {
        match self {
            Self::Root(path) => path.to_owned(),
            Self::Field(parent, name) => join(&parent.write(), name),
            Self::Index(parent, index) => format!("{}[{index}]", parent.write()),
        }
    }
}

/// What to do about a value of which `described` has an example.
fn write(described: &Value) -> String {
    example(described).map_or_else(String::new, |example| format!("write for example {example}"))
}

impl Check {
    fn find(&mut self, kind: Kind, path: Path<'_>, value: &str, rule: impl Into<String>, remedy: impl Into<String>) {
        let path = &path.write();
        // A URL with an `@` probably holds credentials; they must not be told, least of all where they are refused.
        let secret = value.contains("://") && value.contains('@') || may_be_secret(path);
        let shown = if secret && !value.is_empty() { HIDDEN } else { value };
        let fault = Fault::new(path, shown, rule, remedy);
        self.findings.push(Finding { fault, kind });
    }

    /// `described` is what has an example: the schema of this value, or of the list or map that it is in.
    fn value(&mut self, schema: &Value, value: &Value, path: Path<'_>, described: &Value) {
        match (schema["type"].as_str(), value) {
            (Some("object"), Value::Object(fields)) => self.object(schema, fields, path),
            (Some("array"), Value::Array(items)) => self.array(schema, items, path, described),
            (Some("string"), Value::String(text)) => self.text(schema, text, path, described),
            (Some("boolean"), Value::Bool(_)) => {}
            (Some("integer"), Value::Number(number)) if is_whole(number) => {}
            (Some("string"), Value::Bool(_) | Value::Number(_)) => {
                let remedy = format!("put it in quotes, or YAML takes it for {}", name_of(value));
                self.wrong_type(path, value, "text", remedy);
            }
            (Some("boolean"), _) => self.wrong_type(path, value, "true or false", "write true or false".to_owned()),
            (Some(wanted), _) => self.wrong_type(path, value, name_of_type(wanted), write(described)),
            (None, _) => self.int_or_string(schema, value, path, described),
        }
    }

    fn wrong_type(&mut self, path: Path<'_>, value: &Value, wanted: &str, remedy: String) {
        let rule = format!("must be of type {wanted}, but is {}", name_of(value));
        self.find(Kind::Undecodable, path, &shown(value), rule, remedy);
    }

    fn int_or_string(&mut self, schema: &Value, value: &Value, path: Path<'_>, described: &Value) {
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            return;
        }
        let understood = schema["x-kubernetes-int-or-string"] == true;
        assert!(
            understood,
            "{}: the schema says nothing that is understood here",
            path.write()
        );
        match value {
            Value::String(text) => self.text(schema, text, path, described),
            Value::Number(number) if is_whole(number) => {}
            Value::Number(_) => {
                let rule = "must be of type text or whole number, but has a fraction";
                self.find(Kind::Refused, path, &shown(value), rule, "put it in quotes");
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                self.wrong_type(path, value, "text or whole number", write(described));
            }
        }
    }

    fn object(&mut self, schema: &Value, fields: &Map<String, Value>, path: Path<'_>) {
        let required = schema["required"].as_array().into_iter().flatten();
        for name in required
            .filter_map(Value::as_str)
            .filter(|name| !fields.contains_key(*name))
        {
            let example = example(&schema["properties"][name]);
            let remedy = example.map_or("write it".to_owned(), |example| {
                format!("write it, for example {example}")
            });
            self.find(Kind::Undecodable, Path::Field(&path, name), "", "is required", remedy);
        }
        self.count(schema, "maxProperties", fields.len(), path);
        for (name, value) in fields {
            let path = Path::Field(&path, name);
            if let Some(property) = schema["properties"].get(name) {
                self.value(property, value, path, property);
            } else if let Some(within) = schema.get("additionalProperties") {
                self.value(within, value, path, schema);
            } else {
                let known: Vec<&str> = properties(schema).map(|(name, _)| name.as_str()).collect();
                let remedy = match nearest(name, &known) {
                    Some(near) => format!("write {near}, or remove it"),
                    None => format!("remove it; known here: {}", known.join(", ")),
                };
                // Its value is not told: nobody knows what it was meant to be, and it is not needed to mend this.
                self.find(Kind::Refused, path, "", "is not a field of this resource", remedy);
            }
        }
    }

    fn array(&mut self, schema: &Value, items: &[Value], path: Path<'_>, described: &Value) {
        self.count(schema, "maxItems", items.len(), path);
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let path = Path::Index(&path, index);
            self.value(&schema["items"], item, path, described);
            if schema["x-kubernetes-list-type"] == "set" && !seen.insert(item.to_string()) {
                self.find(
                    Kind::Refused,
                    path,
                    &shown(item),
                    "must be there once only",
                    "remove the second",
                );
            }
        }
    }

    fn count(&mut self, schema: &Value, keyword: &str, count: usize, path: Path<'_>) {
        if let Some(max) = bound(schema, keyword).filter(|max| count > *max) {
            let rule = format!("must have at most {max} entries, but has {count}");
            self.find(Kind::Refused, path, "", rule, "remove some");
        }
    }

    fn text(&mut self, schema: &Value, text: &str, path: Path<'_>, described: &Value) {
        let length = text.chars().count();
        if let Some(min) = bound(schema, "minLength").filter(|min| length < *min) {
            let rule = format!(
                "must have at least {min} {}",
                if min == 1 { "character" } else { "characters" }
            );
            self.find(Kind::Refused, path, text, rule, write(described));
        } else if let Some(max) = bound(schema, "maxLength").filter(|max| length > *max) {
            let rule = format!("must have at most {max} characters, but has {length}");
            self.find(Kind::Refused, path, text, rule, write(described));
        } else if let Some(choices) = schema["enum"].as_array() {
            let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
            if !choices.contains(&text) {
                let near = nearest(text, &choices);
                let remedy = near.map_or("write one of them".to_owned(), |near| format!("write {near}"));
                let rule = format!("must be one of {}", choices.join(", "));
                self.find(Kind::Undecodable, path, text, rule, remedy);
            }
        } else if let Some(pattern) = schema["pattern"]
            .as_str()
            .filter(|it| !regex(it).is_match(text.as_bytes()))
        {
            self.find(
                Kind::Pattern,
                path,
                text,
                format!("must match {pattern}"),
                write(described),
            );
        }
    }
}

/// Whether a secret may stand there. Of parameters and annotations nobody can tell by their names alone.
fn may_be_secret(path: &str) -> bool {
    let below = |field: &str| {
        path.strip_prefix(field)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    below("spec.configuration") && !path.ends_with("Ref.name") || below("metadata.annotations")
}

fn is_whole(number: &Number) -> bool {
    number.is_i64() || number.is_u64()
}

/// The pattern, read as the API server reads it (Go: `\s` and its kin are ASCII). Compiled once: that takes ten times as
/// long as to check a Database.
fn regex(pattern: &str) -> Arc<Regex> {
    static COMPILED: LazyLock<RwLock<HashMap<String, Arc<Regex>>>> = LazyLock::new(RwLock::default);
    let compiled = COMPILED
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(pattern)
        .cloned();
    compiled.unwrap_or_else(|| {
        let regex = RegexBuilder::new(pattern)
            .unicode(false)
            .build()
            .expect("the patterns are ours, and a test compiles them all");
        let mut all = COMPILED.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(pattern.to_owned()).or_insert_with(|| Arc::new(regex)))
    })
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn bound(schema: &Value, keyword: &str) -> Option<usize> {
    schema[keyword].as_u64().and_then(|bound| usize::try_from(bound).ok())
}

/// The example in a description: what stands between backticks after `for example`.
fn example(schema: &Value) -> Option<&str> {
    let (_, rest) = schema["description"].as_str()?.split_once("for example `")?;
    rest.split_once('`').map(|(example, _)| example)
}

/// The path of a field. A name that would be misread (a parameter's, with a dot) stands in brackets.
fn join(path: &str, name: &str) -> String {
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        && !name.is_empty();
    match (path.is_empty(), plain) {
        (true, _) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
        (false, false) => format!("{path}[{name:?}]"),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) => String::new(),
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn name_of_type(wanted: &str) -> &'static str {
    match wanted {
        "object" => "map",
        "array" => "list",
        "string" => "text",
        "integer" => "whole number",
        _ => panic!("the schema has the type {wanted}, which is not understood here"),
    }
}

/// The candidate that `name` was probably meant to be: at most two edits away, or the same but for case and `_`.
fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
    let same = candidates.iter().find(|candidate| plain(candidate) == plain(name));
    let near = || {
        let distances = candidates.iter().map(|candidate| (edits(name, candidate), candidate));
        distances
            .min()
            .filter(|(distance, candidate)| *distance <= 2 && candidate.len() > 3)
            .map(|(_, near)| near)
    };
    same.or_else(near).copied()
}

/// How many letters must be put in, taken out or exchanged (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to) in b.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = (above + 1)
                .min(row[column] + 1)
                .min(diagonal + usize::from(from != *to));
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keywords that [`Check`] applies, or that need no check of a single object without its past.
    const UNDERSTOOD: [&str; 19] = [
        "title",
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "maxItems",
        "maxProperties",
        "description",
        "default",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-type",
        // Rules in CEL are told again in `rules`.
        "x-kubernetes-validations",
        // In a status only, which is not checked.
        "format",
        "x-kubernetes-list-map-keys",
    ];

    #[test]
    fn every_keyword_of_the_schema_is_understood_and_every_pattern_compiles() {
        fn walk(schema: &Value, patterns: &mut usize) {
            for (keyword, value) in schema.as_object().unwrap() {
                assert!(UNDERSTOOD.contains(&keyword.as_str()), "{keyword}");
                match keyword.as_str() {
                    "properties" => value
                        .as_object()
                        .unwrap()
                        .values()
                        .for_each(|property| walk(property, patterns)),
                    "items" | "additionalProperties" => walk(value, patterns),
                    "pattern" => {
                        regex(value.as_str().unwrap());
                        *patterns += 1;
                    }
                    _ => {}
                }
            }
        }
        let mut patterns = 0;
        walk(crate::crd::database_schema(), &mut patterns);
        assert!(patterns > 8, "{patterns}");
    }

    #[test]
    fn the_nearest_name_is_found() {
        let known = ["engine", "storageClass", "highAvailability", "version"];
        assert_eq!(nearest("storageclass", &known), Some("storageClass"));
        assert_eq!(nearest("storage_class", &known), Some("storageClass"));
        assert_eq!(nearest("enigne", &known), Some("engine"));
        assert_eq!(nearest("replicas", &known), None);
    }
}
