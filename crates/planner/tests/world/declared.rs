//! Valid specs: both engines that run, every optional field.

use std::collections::BTreeMap;

use api::database::{DatabaseSpec, DeletionPolicy, Engine};
use planner::validate::{Reference, References};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::operator::Declared;

/// What of a declaration may change during the life of a Database, and what it is made with.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) cpu: Option<&'static str>,
    pub(crate) memory: Option<&'static str>,
    pub(crate) storage: &'static str,
    pub(crate) policy: DeletionPolicy,
    pub(crate) extras: (bool, bool),
    /// How many of the engine's [`PARAMETERS`] come from `parameters`, the ConfigMap, the Secret: overlapping.
    pub(crate) parameters: (usize, usize, usize),
    pub(crate) newer: bool,
}

/// Parameters that anybody may set, by engine.
fn parameters(engine: Engine) -> [(&'static str, &'static str); 3] {
    match engine {
        Engine::Redis => [("maxclients", "500"), ("timeout", "30"), ("lua-time-limit", "4000")],
        _ => [
            ("max_connections", "120"),
            ("work_mem", "8MB"),
            ("application_name", "it's"),
        ],
    }
}

pub(crate) fn wish() -> impl Strategy<Value = Wish> {
    (
        prop::sample::select(&[None, Some("500m"), Some("1.5")][..]),
        prop::sample::select(&[None, Some("512Mi"), Some("1024Mi"), Some("1G")][..]),
        prop::sample::select(&["10Gi", "10240Mi", "1e10", "20Gi"][..]),
        prop::sample::select(&[DeletionPolicy::Retain, DeletionPolicy::Delete][..]),
        any::<(bool, bool)>(),
        (0..=3_usize, 0..=3_usize, 0..=3_usize),
        any::<bool>(),
    )
        .prop_map(|(cpu, memory, storage, policy, extras, parameters, newer)| Wish {
            cpu,
            memory,
            storage,
            policy,
            extras,
            parameters,
            newer,
        })
}

/// A Database as first declared, and as edited later: storage never shrinks, the major never changes.
pub(crate) fn life(engine: Engine) -> impl Strategy<Value = (Declared, Declared)> {
    let class = prop::sample::select(&[None, Some("fast")][..]);
    (class, wish(), wish()).prop_map(move |(class, first, mut second)| {
        second.storage = if first.storage == "20Gi" {
            "20Gi"
        } else {
            second.storage
        };
        second.storage = if first.storage == "1e10" || second.storage != "1e10" {
            second.storage
        } else {
            first.storage
        };
        second.newer |= first.newer;
        (declared(engine, class, &first), declared(engine, class, &second))
    })
}

fn declared(engine: Engine, class: Option<&str>, wish: &Wish) -> Declared {
    let version = match (engine, wish.newer) {
        (Engine::Redis, false) => "7.2",
        (Engine::Redis, true) => "7.4.11",
        (_, false) => "15.18",
        (_, true) => "15",
    };
    let all = parameters(engine);
    let some = |count: usize, from: &str| -> BTreeMap<String, String> {
        // The inline ones are few and the referred ones from the other end, so that they overlap in part.
        let chosen: Vec<_> = if from == "inline" {
            all[..count].to_vec()
        } else {
            all[3 - count..].to_vec()
        };
        chosen
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let (inline, map, secret) = wish.parameters;
    let mut spec: Value = json!({
        "engine": engine, "version": version, "deletionPolicy": wish.policy,
        "resources": {"requests": {"storage": wish.storage}},
        "configuration": {"parameters": some(inline, "inline")},
    });
    for (name, value) in [("cpu", wish.cpu), ("memory", wish.memory)] {
        if let Some(value) = value {
            spec["resources"]["requests"][name] = json!(value);
            spec["resources"]["limits"][name] = json!(value);
        }
    }
    if let Some(class) = class {
        spec["storageClass"] = json!(class);
    }
    if wish.extras.0 {
        spec["backupPolicy"] = json!({"schedule": "@daily", "retention": "30d"});
    }
    if wish.extras.1 {
        spec["monitoring"] = json!({"enabled": true});
    }
    let mut references = References::default();
    if map > 0 {
        spec["configuration"]["configMapRef"] = json!({"name": "settings"});
        references.config_map = Reference::Found(some(map, "map"));
    }
    if secret > 0 {
        spec["configuration"]["secretRef"] = json!({"name": "secret-settings"});
        references.secret = Reference::Found(some(secret, "secret"));
    }
    let spec: DatabaseSpec = serde_json::from_value(spec).expect("it is a spec");
    let recorded = json!(spec);
    Declared {
        spec,
        references,
        recorded,
    }
}

/// As it stands in a Secret.
pub(crate) fn encoded(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
