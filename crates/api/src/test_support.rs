//! Manifests for tests, here and in other crates: good ones, and bad ones with what must be said about them.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::database::{Database, Engine};

/// Who refuses a bad manifest first. Each refuses what those before it refuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// An API server that is asked to be strict, and `plan -f`.
    Strict,
    /// Every API server, and `plan -f`.
    Schema,
    /// The operator; the API server accepts it.
    Validate,
}

/// A manifest that is refused.
#[derive(Clone, PartialEq, Debug)]
pub struct Refused {
    /// What is wrong with it.
    pub name: String,
    /// The field that the refusal must name.
    pub field: String,
    /// Who refuses it first.
    pub by: By,
    /// What is there already, if the case is an update.
    pub existing: Option<Value>,
    /// The manifest.
    pub manifest: Value,
}

/// Every bad manifest of `tests/refused.yaml`, which says how it is written.
pub fn refused() -> Vec<Refused> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        name: String,
        field: String,
        by: By,
        #[serde(default)]
        from: Option<Engine>,
        existing: Option<Value>,
        change: Value,
    }
    let table = include_str!("../tests/refused.yaml");
    let lines: Vec<Line> = serde_yaml::from_str(table).expect("tests/refused.yaml is well formed");
    lines
        .into_iter()
        .map(|line| {
            let good = good(line.from.unwrap_or(Engine::Postgresql));
            let existing = line.existing.map(|existing| merged(good.clone(), &existing));
            let manifest = merged(existing.clone().unwrap_or(good), &line.change);
            Refused {
                name: line.name,
                field: line.field,
                by: line.by,
                existing,
                manifest,
            }
        })
        .collect()
}

/// A Database of this engine that is accepted (by the schema; whether the engine is available is another matter).
pub fn good(engine: Engine) -> Value {
    let version = match engine {
        Engine::Postgresql => "15",
        Engine::Mysql => "8.4",
        Engine::Mongodb => "8.0",
        Engine::Redis => "7.2",
    };
    json!({
        "apiVersion": "intent.example.com/v1",
        "kind": "Database",
        "metadata": {"name": "shop"},
        "spec": {
            "engine": engine,
            "version": version,
            "resources": {
                "requests": {"cpu": "500m", "memory": "512Mi", "storage": "10Gi"},
                "limits": {"cpu": "1", "memory": "512Mi"},
            },
        },
    })
}

/// The same as a [`Database`].
pub fn good_database(engine: Engine) -> Database {
    serde_json::from_value(good(engine)).expect("a good Database can be decoded")
}

/// A JSON merge patch (RFC 7386), but for how a field is taken away: by the word `remove`, since `null` is a value here.
fn merged(mut target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    if !target.is_object() {
        target = Value::Object(Map::new());
    }
    if let Some(fields) = target.as_object_mut() {
        for (name, change) in patch {
            if change == "remove" {
                fields.remove(name);
            } else {
                let before = fields.remove(name).unwrap_or(Value::Null);
                fields.insert(name.clone(), merged(before, change));
            }
        }
    }
    target
}
