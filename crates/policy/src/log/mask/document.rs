//! Walks a document and masks it in place.

use serde_json::{Map, Value};

use super::MASK;
use super::copies::{Copies, remember};
use super::names::{self, Meaning};
use super::text::scrub;

/// Deeper than this nothing is looked at, but masked as a whole: input may be nested without bounds.
const MAX_DEPTH: usize = 160;

/// JSON in a string in JSON: so often at most.
const MAX_NESTING: usize = 4;

/// Where the parameters of a Database lie.
const PARAMETERS: &str = "/spec/configuration/parameters";

/// What the surroundings say about a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Plain,
    /// Names are labels.
    Labels,
    /// The value says where a secret is.
    Reference,
    /// The items of a list of Secrets, which need not say what they are.
    SecretItems,
    /// A Database's parameters: any of them may be a secret, whatever its name.
    Parameters,
}

/// Masks one record; gathers where, and what.
#[derive(Default)]
pub(super) struct Walker {
    pub(super) erased: Vec<String>,
    pub(super) masked: Vec<String>,
    /// What was masked, to be found again in messages.
    secrets: Vec<String>,
    copies: Copies,
    pointer: String,
    depth: usize,
    nesting: usize,
}

impl Walker {
    /// Masks a document that lies at this pointer.
    pub(super) fn document(&mut self, pointer: &str, value: &mut Value) {
        pointer.clone_into(&mut self.pointer);
        self.value(value, Context::Plain);
    }

    /// Masks a text that lies at this pointer.
    pub(super) fn text(&mut self, pointer: &str, text: &mut String) {
        pointer.clone_into(&mut self.pointer);
        self.string(text);
    }

    /// As [`Self::text`], and what was masked before goes from it too.
    pub(super) fn message(&mut self, pointer: &str, text: &mut String) {
        // First: scrubbing may cut a copy in two, and what is left of it would no longer be found.
        self.copies.learn(&self.secrets);
        let changed = self.copies.mask(text);
        let before = self.masked.len();
        self.text(pointer, text);
        if changed && self.masked.len() == before {
            self.masked.push(pointer.to_owned());
        }
    }

    fn value(&mut self, value: &mut Value, context: Context) {
        if self.depth >= MAX_DEPTH {
            self.hide(value);
            return;
        }
        self.depth += 1;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => self.string(text),
            Value::Array(items) => self.items(items, context),
            Value::Object(members) => self.members(members, context),
        }
        self.depth -= 1;
    }

    fn items(&mut self, items: &mut [Value], context: Context) {
        let mut announced = false;
        for (index, item) in items.iter_mut().enumerate() {
            let is_flag = item.as_str().is_some_and(|text| text.starts_with('-'));
            let hidden = (announced && !is_flag) || (context == Context::Reference && !is_container(item));
            // `["--password", "x"]`: the flag announces the item after it.
            announced = is_flag
                && item
                    .as_str()
                    .is_some_and(|text| !text.contains(['=', ' ']) && names::is_secret(text));
            self.within(&index.to_string(), |walker| {
                if hidden {
                    walker.hide(item);
                } else {
                    walker.value(item, context);
                }
            });
        }
    }

    fn members(&mut self, members: &mut Map<String, Value>, context: Context) {
        if context == Context::Parameters {
            return self.parameters(members);
        }
        self.secret_object(members, context);
        let kind_is_list = members.get("kind").and_then(Value::as_str) == Some("SecretList");
        let announced = announces_value(members);
        let selects = is_selector(members);
        let mut renamed = Vec::new();
        let mut dropped = Vec::new();
        for (name, value) in members.iter_mut() {
            if let Some(clean) = scrub(name, &mut self.secrets) {
                renamed.push((name.clone(), clean));
            }
            let shown = renamed
                .last()
                .filter(|(old, _)| old == name)
                .map_or(name.as_str(), |(_, new)| new.as_str());
            let shown = shown.to_owned();
            self.within(&shown, |walker| match meaning_of(name, context, announced, selects) {
                Meaning::LastApplied => dropped.push((name.clone(), walker.pointer.clone())),
                Meaning::Secret => walker.hide(value),
                Meaning::SecretUnlessObject if !holds_objects(value) => walker.hide(value),
                Meaning::SecretUnlessObject | Meaning::Reference => walker.value(value, Context::Reference),
                Meaning::Labels => walker.value(value, Context::Labels),
                Meaning::Plain if kind_is_list && name == "items" => walker.value(value, Context::SecretItems),
                // Names of labels bind only the labels themselves; what refers, refers all the way down.
                Meaning::Plain if name == "parameters" && walker.pointer.ends_with(PARAMETERS) => {
                    if value.is_object() {
                        walker.value(value, Context::Parameters);
                    } else {
                        walker.hide(value);
                    }
                }
                Meaning::Plain if context == Context::Reference => walker.value(value, Context::Reference),
                Meaning::Plain => walker.value(value, Context::Plain),
            });
        }
        for (name, pointer) in dropped {
            members.remove(&name);
            self.erased.push(pointer);
        }
        self.rename(members, renamed);
    }

    /// The values of parameters go, their names stay. One pointer for all: a hundred of them would outweigh the record.
    fn parameters(&mut self, members: &mut Map<String, Value>) {
        let before = self.masked.len();
        let mut changed = false;
        let mut renamed = Vec::new();
        for (name, value) in members.iter_mut() {
            if let Some(clean) = scrub(name, &mut self.secrets) {
                renamed.push((name.clone(), clean));
            }
            // Settings of a harmless name are quoted by policies, and must stay readable in messages.
            if names::is_secret(name) || !value.as_str().is_some_and(is_setting) {
                self.remember_all(value);
            }
            if !matches!(value, Value::Bool(_) | Value::Null) && value.as_str() != Some("") {
                *value = Value::String(MASK.to_owned());
                changed = true;
            }
        }
        if changed || !renamed.is_empty() {
            self.rename(members, renamed);
            self.masked.truncate(before);
            self.masked.push(self.pointer.clone());
        }
    }

    /// The values of a Secret are removed: there is nothing in them to be known.
    fn secret_object(&mut self, members: &mut Map<String, Value>, context: Context) {
        let kind = members.get("kind").and_then(Value::as_str);
        let is_secret = kind.is_some_and(|kind| kind.eq_ignore_ascii_case("Secret"));
        if !is_secret && context != Context::SecretItems {
            return;
        }
        for name in ["data", "stringData"] {
            // A reference to a Secret has a kind, too, but no data.
            if let Some(value) = members.remove(name) {
                self.remember_all(&value);
                let pointer = format!("{}/{name}", self.pointer);
                self.erased.push(pointer);
            }
        }
    }

    /// Names that held a secret themselves get a clean one.
    fn rename(&mut self, members: &mut Map<String, Value>, renamed: Vec<(String, String)>) {
        for (name, clean) in renamed {
            let Some(value) = members.remove(&name) else { continue };
            let mut free = clean.clone();
            let mut number = 2;
            while members.contains_key(&free) {
                free = format!("{clean} {number}");
                number += 1;
            }
            self.masked.push(format!("{}/{}", self.pointer, escape(&free)));
            members.insert(free, value);
        }
    }

    fn string(&mut self, text: &mut String) {
        if let Some(clean) = self.embedded(text).or_else(|| scrub(text, &mut self.secrets)) {
            *text = clean;
            self.masked.push(self.pointer.clone());
        }
    }

    /// A string that is a JSON document, masked as one. `None` if it is none, or seems to hold no secret: it is then
    /// looked at as a text, since of a member that stands there twice only the last is seen here.
    fn embedded(&mut self, text: &str) -> Option<String> {
        if self.nesting >= MAX_NESTING || !text.trim_start().starts_with(['{', '[']) {
            return None;
        }
        let mut value: Value = serde_json::from_str(text).ok()?;
        // The places inside have no pointer of their own: the string has one.
        let mut inside = Self {
            nesting: self.nesting + 1,
            depth: self.depth,
            ..Self::default()
        };
        inside.value(&mut value, Context::Plain);
        self.secrets.append(&mut inside.secrets);
        (!inside.masked.is_empty() || !inside.erased.is_empty()).then(|| value.to_string())
    }

    /// Replaces a secret. Booleans and nulls are no secrets.
    fn hide(&mut self, value: &mut Value) {
        if matches!(value, Value::Bool(_) | Value::Null) || value.as_str() == Some("") {
            return;
        }
        self.remember_all(value);
        *value = Value::String(MASK.to_owned());
        self.masked.push(self.pointer.clone());
    }

    fn remember_all(&mut self, value: &Value) {
        match value {
            Value::String(text) => remember(&mut self.secrets, text),
            Value::Number(number) => remember(&mut self.secrets, &number.to_string()),
            Value::Array(items) => items.iter().for_each(|item| self.remember_all(item)),
            Value::Object(members) => members.values().for_each(|member| self.remember_all(member)),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn within(&mut self, member: &str, work: impl FnOnce(&mut Self)) {
        let before = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(&escape(member));
        work(self);
        self.pointer.truncate(before);
    }
}

/// A keyword (`replica`), or a number with a unit (`256MB`): no secret, unless its name says so.
fn is_setting(value: &str) -> bool {
    const LONGEST: usize = 12;
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    value.len() <= LONGEST
        && unit.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && (unit.len() == value.len() || unit.len() <= 3)
}

fn meaning_of(name: &str, context: Context, announced: bool, selects: bool) -> Meaning {
    let meaning = names::meaning(name);
    match context {
        _ if meaning == Meaning::LastApplied => meaning,
        // A label may say who holds a token, but nothing is called a password that is none.
        Context::Labels if name.to_ascii_lowercase().contains("passw") => Meaning::Secret,
        Context::Labels => Meaning::Plain,
        Context::Reference if names::names_the_place(name) => Meaning::Plain,
        // Whatever else lies there is more likely the secret than its name.
        Context::Reference => Meaning::Secret,
        _ if announced && matches!(name, "value" | "values") => Meaning::Secret,
        _ if selects && name == "key" => Meaning::Plain,
        _ => meaning,
    }
}

/// `{"name": "DB_PASSWORD", "value": ...}`: the name announces the value.
fn announces_value(members: &Map<String, Value>) -> bool {
    (members.contains_key("value") || members.contains_key("values"))
        && ["name", "key"].iter().any(|name| {
            members.get(*name).and_then(Value::as_str).is_some_and(|text| {
                // Also names that look like references: the value stands right there.
                names::is_secret(text) || names::meaning(text) == Meaning::Reference
            })
        })
        // An operation of a JSON patch.
        || members.get("path").and_then(Value::as_str).is_some_and(|path| {
            let name = path.rsplit('/').next().unwrap_or_default();
            members.contains_key("value") && (names::is_secret(name) || path.contains(PARAMETERS))
        })
}

/// Tolerations, label expressions and projected items: there, `key` is the name of something.
fn is_selector(members: &Map<String, Value>) -> bool {
    ["operator", "effect", "path"]
        .iter()
        .any(|name| members.contains_key(*name))
}

fn is_container(value: &Value) -> bool {
    matches!(value, Value::Array(_) | Value::Object(_))
}

fn holds_objects(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(items) => items.iter().all(Value::is_object),
        _ => false,
    }
}

/// A member as a part of an RFC 6901 pointer.
fn escape(member: &str) -> String {
    member.replace('~', "~0").replace('/', "~1")
}
