//! Settings of policies, by level, and how those of several levels become one.
//!
//! Going down from global to environment, a level can only tighten: `max` takes the smallest, `min` the largest, `allow`
//! what all allow, `require` what anyone requires. Only an entry that the upper level marks `overridable` is replaced; what a
//! level above that one fixed goes on to bound everything.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use serde_json::{Map, Value, json};

/// What one level sets.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Settings {
    bounds: BTreeMap<(Side, String), Said<i64>>,
    allow: BTreeMap<String, Said<Vec<String>>>,
    require: BTreeMap<String, Said<bool>>,
}

/// What levels say of one setting.
#[derive(Clone, PartialEq, Debug)]
struct Said<T> {
    /// The tightest of what no lower level may replace.
    fixed: Option<Entry<T>>,
    /// What the next lower level that says anything replaces. It never takes anything away from `fixed`.
    overridable: Option<Entry<T>>,
}

impl<T: Clone> Said<T> {
    fn new(entry: Entry<T>, overridable: bool) -> Self {
        let (fixed, overridable) = if overridable {
            (None, Some(entry))
        } else {
            (Some(entry), None)
        };
        Self { fixed, overridable }
    }

    fn over(&self, lower: &Self, tighter: impl Fn(&Entry<T>, &Entry<T>) -> Entry<T>) -> Self {
        Self {
            fixed: both(self.fixed.as_ref(), lower.fixed.as_ref(), tighter),
            overridable: lower.overridable.clone(),
        }
    }

    fn holds(&self, tighter: impl Fn(&Entry<T>, &Entry<T>) -> Entry<T>) -> Option<Entry<T>> {
        both(self.fixed.as_ref(), self.overridable.as_ref(), tighter)
    }
}

fn both<T: Clone>(
    upper: Option<&Entry<T>>,
    lower: Option<&Entry<T>>,
    tighter: impl Fn(&Entry<T>, &Entry<T>) -> Entry<T>,
) -> Option<Entry<T>> {
    match (upper, lower) {
        (Some(upper), Some(lower)) => Some(tighter(upper, lower)),
        (upper, lower) => upper.or(lower).cloned(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Side {
    Max,
    Min,
}

impl Side {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
struct Entry<T> {
    value: T,
    /// As it is written.
    text: String,
    /// Which level says so.
    level: String,
}

/// Why settings cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path} {problem}")]
pub struct SettingsError {
    /// Where, from `data`.
    pub path: String,
    /// What is wrong, and how to mend it.
    pub problem: String,
}

impl Settings {
    /// Reads the settings of a level, found at `path`.
    pub fn parse(level: &str, path: &str, value: &Value) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        for (group, entries) in object(path, value)? {
            let path = format!("{path}.{group}");
            for (name, entry) in object(&path, entries)? {
                let path = format!("{path}.{name}");
                let (written, overridable) = unwrap(&path, entry)?;
                let side = match group.as_str() {
                    "max" => Side::Max,
                    "min" => Side::Min,
                    "allow" => {
                        let entry = entry_of(list(&path, written)?, written, level);
                        settings.allow.insert(name.clone(), Said::new(entry, overridable));
                        continue;
                    }
                    "require" => {
                        let value = written.as_bool().ok_or_else(|| error(&path, "must be true or false"))?;
                        let entry = entry_of(value, written, level);
                        settings.require.insert(name.clone(), Said::new(entry, overridable));
                        continue;
                    }
                    _ => return Err(error(&path, "is in no group that there is: max, min, allow, require")),
                };
                let entry = entry_of(bound(&path, name, written)?, written, level);
                settings
                    .bounds
                    .insert((side, name.clone()), Said::new(entry, overridable));
            }
        }
        Ok(settings)
    }

    /// These settings, with those of the next lower level under them.
    #[must_use]
    pub fn over(mut self, lower: &Self) -> Self {
        for ((side, name), said) in &lower.bounds {
            merge(&mut self.bounds, (*side, name.clone()), said, |upper, lower| {
                side.tighter(upper, lower)
            });
        }
        for (name, said) in &lower.require {
            merge(&mut self.require, name.clone(), said, required);
        }
        for (name, said) in &lower.allow {
            merge(&mut self.allow, name.clone(), said, allowed);
        }
        self
    }

    /// As policies see them.
    pub fn to_value(&self) -> Value {
        let mut groups = json!({"max": {}, "min": {}, "allow": {}, "require": {}});
        for ((side, name), said) in &self.bounds {
            if let Some(entry) = said.holds(|upper, lower| side.tighter(upper, lower)) {
                groups[side.as_str()][name] = json!({"value": entry.value, "text": entry.text, "level": entry.level});
            }
        }
        for (name, said) in &self.allow {
            if let Some(entry) = said.holds(allowed) {
                groups["allow"][name] = json!({"value": entry.value, "text": entry.text, "level": entry.level});
            }
        }
        for (name, said) in &self.require {
            if let Some(entry) = said.holds(required) {
                groups["require"][name] = json!({"value": entry.value, "level": entry.level});
            }
        }
        groups
    }
}

impl Side {
    fn tighter(self, upper: &Entry<i64>, lower: &Entry<i64>) -> Entry<i64> {
        let lower_is = match self {
            Self::Max => lower.value < upper.value,
            Self::Min => lower.value > upper.value,
        };
        if lower_is { lower.clone() } else { upper.clone() }
    }
}

fn required(upper: &Entry<bool>, lower: &Entry<bool>) -> Entry<bool> {
    if lower.value && !upper.value {
        lower.clone()
    } else {
        upper.clone()
    }
}

fn allowed(upper: &Entry<Vec<String>>, lower: &Entry<Vec<String>>) -> Entry<Vec<String>> {
    let both = intersection(&upper.value, &lower.value);
    let level = if both == upper.value {
        &upper.level
    } else {
        &lower.level
    };
    Entry {
        text: both.join(", "),
        value: both,
        level: level.clone(),
    }
}

/// What a lower level says, under what upper ones say.
fn merge<K: Ord, T: Clone>(
    into: &mut BTreeMap<K, Said<T>>,
    key: K,
    lower: &Said<T>,
    tighter: impl Fn(&Entry<T>, &Entry<T>) -> Entry<T>,
) {
    let next = match into.get(&key) {
        Some(upper) => upper.over(lower, tighter),
        None => lower.clone(),
    };
    into.insert(key, next);
}

/// What both lists allow. An element that is a path allows all below it.
fn intersection(upper: &[String], lower: &[String]) -> Vec<String> {
    let below =
        |path: &str, other: &str| path == other || path.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
    let within = |these: &[String], those: &[String]| -> Vec<String> {
        let allowed = |this: &&String| those.iter().any(|that| below(this, that));
        these.iter().filter(allowed).cloned().collect()
    };
    let mut both = within(upper, lower);
    both.extend(within(lower, upper));
    both.sort();
    both.dedup();
    both
}

fn entry_of<T>(value: T, written: &Value, level: &str) -> Entry<T> {
    let text = match written {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            items.join(", ")
        }
        other => other.to_string(),
    };
    Entry {
        value,
        text,
        level: level.to_owned(),
    }
}

fn error(path: &str, problem: impl Into<String>) -> SettingsError {
    SettingsError {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

fn object<'a>(path: &str, value: &'a Value) -> Result<&'a Map<String, Value>, SettingsError> {
    value.as_object().ok_or_else(|| error(path, "must be an object"))
}

/// An entry is a value, or `{"value": ..., "overridable": true}`.
fn unwrap<'a>(path: &str, entry: &'a Value) -> Result<(&'a Value, bool), SettingsError> {
    let Some(fields) = entry.as_object() else {
        return Ok((entry, false));
    };
    if let Some(unknown) = fields
        .keys()
        .find(|key| !matches!(key.as_str(), "value" | "overridable"))
    {
        return Err(error(
            path,
            format!("has the unknown key {unknown}; write value and overridable"),
        ));
    }
    let value = fields.get("value").ok_or_else(|| error(path, "has no value"))?;
    match fields.get("overridable") {
        None => Ok((value, false)),
        Some(Value::Bool(overridable)) => Ok((value, *overridable)),
        Some(_) => Err(error(path, "must have true or false under overridable")),
    }
}

/// CPU in millicores, other quantities in whole units, plain numbers as they are.
fn bound(path: &str, name: &str, written: &Value) -> Result<i64, SettingsError> {
    match written {
        Value::String(text) => {
            let quantity: Quantity = text.parse().map_err(|why| error(path, format!("{why}: {text:?}")))?;
            Ok(amount(name, &quantity))
        }
        Value::Number(number) => number
            .as_i64()
            .ok_or_else(|| error(path, format!("must be a whole number, but is {number}"))),
        _ => Err(error(
            path,
            "must be a quantity such as \"8\" or \"32Gi\", or a whole number",
        )),
    }
}

/// A quantity as policies compare it: `cpu` in millicores, anything else in whole units, rounded up.
pub fn amount(name: &str, quantity: &Quantity) -> i64 {
    if name == "cpu" {
        i64::try_from(quantity.milli_ceil()).unwrap_or(i64::MAX)
    } else {
        quantity.bytes_ceil()
    }
}

fn list(path: &str, written: &Value) -> Result<Vec<String>, SettingsError> {
    let items = written
        .as_array()
        .ok_or_else(|| error(path, "must be a list of texts"))?;
    let text = |item: &Value| item.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    items
        .iter()
        .map(|item| text(item).ok_or_else(|| error(path, "must be a list of texts, none of them empty")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(name: &str, value: &Value) -> Settings {
        Settings::parse(name, "data", value).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_lower_level_tightens() {
        let global = level(
            "global",
            &json!({"max": {"cpu": "8", "memory": "32Gi"}, "min": {"retention_days": 7}, "require": {"backup": false},
                "allow": {"engines": ["redis", "mysql"], "registries": ["docker.io", "quay.io/a"]}}),
        );
        let lower = level(
            "team/a",
            &json!({"max": {"cpu": "4000m", "memory": "64Gi", "storage": "1Ti"}, "min": {"retention_days": 3},
                "require": {"backup": true},
                "allow": {"engines": ["redis", "mongodb"], "registries": ["docker.io/library", "quay.io"]}}),
        );
        let merged = global.over(&lower).to_value();
        assert_eq!(
            merged["max"]["cpu"],
            json!({"value": 4000, "text": "4000m", "level": "team/a"})
        );
        assert_eq!(merged["max"]["memory"]["level"], "global");
        assert_eq!(merged["max"]["storage"]["value"], 1_i64 << 40);
        assert_eq!(
            merged["min"]["retention_days"],
            json!({"value": 7, "text": "7", "level": "global"})
        );
        assert_eq!(merged["require"]["backup"], json!({"value": true, "level": "team/a"}));
        assert_eq!(merged["allow"]["engines"]["value"], json!(["redis"]));
        assert_eq!(
            merged["allow"]["registries"]["value"],
            json!(["docker.io/library", "quay.io/a"])
        );
    }

    #[test]
    fn only_what_is_overridable_is_loosened() {
        let global = level(
            "global",
            &json!({"max": {"cpu": {"value": "8", "overridable": true}}, "require": {"backup": {"value": true, "overridable": true}},
                "allow": {"engines": {"value": ["redis"], "overridable": true}}}),
        );
        let team = level(
            "team/a",
            &json!({"max": {"cpu": "16"}, "require": {"backup": false}, "allow": {"engines": ["mysql"]}}),
        );
        let environment = level(
            "environment/x",
            &json!({"max": {"cpu": "32"}, "require": {"backup": false}, "allow": {"engines": ["mysql", "redis"]}}),
        );
        let merged = global.over(&team).over(&environment).to_value();
        assert_eq!(
            merged["max"]["cpu"],
            json!({"value": 16_000, "text": "16", "level": "team/a"})
        );
        assert_eq!(merged["require"]["backup"]["value"], false);
        assert_eq!(merged["allow"]["engines"]["value"], json!(["mysql"]));
    }

    #[test]
    fn what_a_level_in_the_middle_lets_be_replaced_takes_nothing_from_what_is_fixed_above_it() {
        let global = level(
            "global",
            &json!({"max": {"cpu": "8"}, "min": {"retention_days": 7}, "require": {"backup": true},
                "allow": {"engines": ["redis", "postgresql"]}}),
        );
        let team = level(
            "team/a",
            &json!({"max": {"cpu": {"value": "4", "overridable": true}},
                "min": {"retention_days": {"value": 30, "overridable": true}},
                "require": {"backup": {"value": false, "overridable": true}},
                "allow": {"engines": {"value": ["redis"], "overridable": true}}}),
        );
        let environment = level(
            "environment/x",
            &json!({"max": {"cpu": "64"}, "min": {"retention_days": 1}, "require": {"backup": false},
                "allow": {"engines": ["mysql", "postgresql"]}}),
        );
        let of_team = global.clone().over(&team).to_value();
        assert_eq!(
            (
                &of_team["max"]["cpu"]["value"],
                &of_team["min"]["retention_days"]["value"]
            ),
            (&json!(4000), &json!(30))
        );
        assert_eq!(of_team["allow"]["engines"]["value"], json!(["redis"]));
        let merged = global.over(&team).over(&environment).to_value();
        assert_eq!(
            merged["max"]["cpu"],
            json!({"value": 8000, "text": "8", "level": "global"})
        );
        assert_eq!(merged["min"]["retention_days"]["value"], 7);
        assert_eq!(merged["require"]["backup"]["value"], true);
        assert_eq!(merged["allow"]["engines"]["value"], json!(["postgresql"]));
    }

    #[test]
    fn faults_say_where() {
        for (value, words) in [
            (json!([]), "data must be an object"),
            (
                json!({"maximum": {"cpu": "1"}}),
                "data.maximum.cpu is in no group that there is: max, min, allow, require",
            ),
            (
                json!({"max": {"cpu": "1 Gi"}}),
                "data.max.cpu must be a number with an optional suffix",
            ),
            (
                json!({"max": {"cpu": 1.5}}),
                "data.max.cpu must be a whole number, but is 1.5",
            ),
            (
                json!({"max": {"cpu": {"valu": 1}}}),
                "data.max.cpu has the unknown key valu",
            ),
            (
                json!({"max": {"cpu": {"overridable": true}}}),
                "data.max.cpu has no value",
            ),
            (
                json!({"allow": {"engines": "redis"}}),
                "data.allow.engines must be a list of texts",
            ),
            (
                json!({"require": {"backup": "yes"}}),
                "data.require.backup must be true or false",
            ),
        ] {
            let error = Settings::parse("global", "data", &value).expect_err("it is a fault");
            assert!(error.to_string().starts_with(words), "{error}");
        }
    }
}
