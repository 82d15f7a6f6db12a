//! `input.norm`: what a Database says, as numbers and parts that rules can compare.
//!
//! Computed by the types of the crate `api`, so that a rule and the operator never read a value differently. Total: any
//! JSON goes in; what cannot be read is named under `unparsable`.

use api::database::Engine;
use api::quantity::Quantity;
use api::retention::Retention;
use api::schedule::Schedule;
use api::version::Version;
use engines::catalogue::Catalogue;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use self::planned::Planned;
use crate::levels::Place;
use crate::settings::amount;

mod planned;

/// The normal form of `object`, whose children would be `children`, at the moment `now`.
pub fn norm(object: &Value, children: &[Value], place: &Place, catalogue: &Catalogue, now: Timestamp) -> Value {
    let mut unparsable = Vec::new();
    let spec = &object["spec"];
    let resources = &spec["resources"];
    let requests = quantities(&resources["requests"], "spec.resources.requests", &mut unparsable);
    let limits = quantities(&resources["limits"], "spec.resources.limits", &mut unparsable);
    let Planned {
        pods,
        containers,
        images,
    } = Planned::of(children);
    let mut norm = json!({
        "requests": requests,
        "limits": limits,
        "environment": {"name": place.environment, "source": place.found.as_str()},
    });
    for (name, list) in [("pods", pods), ("containers", containers), ("images", images)] {
        norm[name] = Value::Array(list);
    }
    if let Some(version) = version(spec, catalogue, now, &mut unparsable) {
        norm["version"] = version;
    }
    if let Some(backup) = backup(&spec["backupPolicy"]) {
        norm["backup"] = backup;
    }
    norm["unparsable"] = json!(unparsable);
    norm
}

/// What is written as text or number.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn quantities(written: &Value, path: &str, unparsable: &mut Vec<String>) -> Map<String, Value> {
    let mut found = Map::new();
    for name in ["cpu", "memory", "storage"] {
        let value = &written[name];
        if value.is_null() {
            continue;
        }
        match text(value).and_then(|text| text.parse::<Quantity>().ok()) {
            Some(quantity) => drop(found.insert(name.to_owned(), json!(amount(name, &quantity)))),
            None => unparsable.push(format!("{path}.{name}")),
        }
    }
    found
}

fn version(spec: &Value, catalogue: &Catalogue, now: Timestamp, unparsable: &mut Vec<String>) -> Option<Value> {
    let written = Some(&spec["version"]).filter(|version| !version.is_null())?;
    let Some(version) = text(written).and_then(|text| text.parse::<Version>().ok()) else {
        unparsable.push("spec.version".to_owned());
        return None;
    };
    let engine: Engine = spec["engine"].as_str()?.parse().ok()?;
    let Ok(release) = catalogue.resolve(engine, &version) else {
        return Some(json!({"known": false, "major": engines::major(engine, &version)}));
    };
    let mut norm = json!({"known": true, "major": release.major, "release": release.version.to_string()});
    if let Some(end) = &release.end_of_life
        && let Ok(last) = end.parse::<Date>()
    {
        let today = now.to_zoned(TimeZone::UTC).date();
        norm["endOfLife"] = json!(end);
        norm["daysToEndOfLife"] = json!(last.duration_since(today).as_hours() / 24);
    }
    Some(norm)
}

fn backup(policy: &Value) -> Option<Value> {
    policy.as_object()?;
    let schedule = policy["schedule"]
        .as_str()
        .and_then(|text| text.parse::<Schedule>().ok());
    let retention = policy["retention"]
        .as_str()
        .and_then(|text| text.parse::<Retention>().ok());
    let mut norm = json!({"scheduleValid": schedule.is_some(), "retentionValid": retention.is_some()});
    if let Some((shortest, longest)) = schedule.and_then(|schedule| schedule.gaps()) {
        norm["intervalMinutes"] = json!(shortest);
        norm["longestIntervalMinutes"] = json!(longest);
    }
    if let Some(retention) = retention {
        // A bound from below must hold for the shortest month, one from above for the longest.
        norm["retentionDays"] = json!(retention.least_days());
        norm["retentionDaysAtMost"] = json!(retention.most_days());
    }
    Some(norm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::levels::Levels;
    use crate::request::Namespace;

    fn norm_of(object: &Value, children: &[Value]) -> Value {
        let levels = Levels::parse(&json!({})).expect("nothing is wrong with no settings");
        let place = levels.place(&Namespace::default());
        let now = "2026-11-28T12:00:00Z".parse().expect("it is a time");
        norm(object, children, &place, &Catalogue::builtin(), now)
    }

    #[test]
    fn a_whole_database() {
        let object = json!({"spec": {
            "engine": "postgresql", "version": "16",
            "resources": {"requests": {"cpu": "1500m", "memory": "1.5Gi", "storage": 10}, "limits": {"cpu": "2"}},
            "backupPolicy": {"schedule": "0 */6 * * *", "retention": "2w"},
        }});
        let container = json!({"name": "database", "image": "postgres:16"});
        let set = json!({"kind": "StatefulSet", "spec": {"template": {"spec": {"containers": [container]}}}});
        let norm = norm_of(&object, &[set]);
        assert_eq!(
            norm["requests"],
            json!({"cpu": 1500, "memory": 1_610_612_736, "storage": 10})
        );
        assert_eq!(norm["limits"], json!({"cpu": 2000}));
        assert_eq!(
            norm["backup"],
            json!({"scheduleValid": true, "retentionValid": true, "intervalMinutes": 360, "longestIntervalMinutes": 360, "retentionDays": 14, "retentionDaysAtMost": 14})
        );
        assert_eq!(norm["version"]["major"], "16");
        assert_eq!(norm["version"]["known"], true);
        // 2028-11-09, said the built-in catalogue when this was written.
        assert_eq!(norm["version"]["daysToEndOfLife"], 712);
        let image = json!({"container": "database", "kind": "containers", "image": "postgres:16", "tag": "16",
            "registry": "docker.io", "repository": "docker.io/library/postgres"});
        assert_eq!(norm["images"], json!([image]));
        assert_eq!(norm["unparsable"], json!([]));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let object = json!({"spec": {
            "engine": "postgresql", "version": "sixteen",
            "resources": {"requests": {"cpu": "2K", "memory": [], "storage": "10Gi"}},
            "backupPolicy": {"schedule": "daily", "retention": "30"},
        }});
        let norm = norm_of(&object, &[]);
        assert_eq!(
            norm["unparsable"],
            json!([
                "spec.resources.requests.cpu",
                "spec.resources.requests.memory",
                "spec.version"
            ])
        );
        assert_eq!(norm["backup"], json!({"scheduleValid": false, "retentionValid": false}));
        assert_eq!(norm["requests"], json!({"storage": 10_737_418_240_i64}));
    }

    proptest::proptest! {
        #[test]
        fn any_json_has_a_normal_form(shape in 0..6_usize, key in 0..5_usize) {
            let odd = [json!([]), json!("x"), json!(7), json!(true), json!({}), json!([[{"a": 1}]])];
            let mut object = json!({"spec": {"engine": "redis", "version": "7.4", "resources": {"requests": {}}}});
            let target = ["/spec", "/spec/engine", "/spec/version", "/spec/resources", "/spec/resources/requests"][key];
            *object.pointer_mut(target).expect("it is there") = odd[shape].clone();
            let norm = norm_of(&object, &[odd[shape].clone()]);
            proptest::prop_assert!(norm["unparsable"].is_array());
        }
    }
}
