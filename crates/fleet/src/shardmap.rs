//! The ShardMap as an object, and as what the core is told of it.

use std::sync::Arc;

use api::names;
use kube::api::DynamicObject;
use kube::core::{ApiResource, ObjectMeta, TypeMeta};
use serde_json::{Value, json};
use sharding::crd::{KIND, MAP_NAME, PLURAL};
use sharding::map::{Expected, MapError, ShardMap, Spec};
use sharding::protocol::{Event, Version};

use crate::lease::{VersionError, version};

/// The resource. Dynamic, so that a map that somebody damaged is a map that is refused, and not a watch that breaks.
#[must_use]
pub fn resource() -> ApiResource {
    ApiResource {
        group: names::GROUP.to_owned(),
        version: names::VERSION.to_owned(),
        api_version: names::API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        plural: PLURAL.to_owned(),
    }
}

/// The object to be written; with `precondition` it replaces exactly that version.
pub fn to_object(precondition: Option<Version>, map: &ShardMap) -> Result<DynamicObject, serde_json::Error> {
    let labels = [
        (names::NAME_LABEL, names::FIELD_MANAGER),
        (names::MANAGED_BY_LABEL, names::FIELD_MANAGER),
    ];
    Ok(DynamicObject {
        types: Some(TypeMeta {
            api_version: names::API_VERSION.to_owned(),
            kind: KIND.to_owned(),
        }),
        metadata: ObjectMeta {
            name: Some(MAP_NAME.to_owned()),
            resource_version: precondition.map(|version| version.0.to_string()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        data: json!({"spec": serde_json::to_value(map.to_spec())?}),
    })
}

/// What an object is to the core.
pub fn to_event(object: &DynamicObject, expected: &Expected) -> Result<Event, VersionError> {
    let version = version(object.metadata.resource_version.as_deref())?;
    Ok(match read(&object.data["spec"], expected) {
        Ok(map) => Event::Map(version, Arc::new(map)),
        Err(error) => Event::MapDamaged(version, error),
    })
}

/// Whose a map is, and how many buckets it has, is told also from one that is otherwise of another shape: a foreign map
/// must never be taken for a damaged one of ours.
fn read(spec: &Value, expected: &Expected) -> Result<ShardMap, MapError> {
    if let Some(found) = spec["installation"].as_str()
        && *found != *expected.installation
    {
        return Err(MapError::Foreign {
            found: found.to_owned(),
            ours: expected.installation.to_string(),
        });
    }
    if let Some(found) = spec["buckets"].as_u64()
        && found != u64::from(expected.buckets)
    {
        return Err(MapError::BucketCount {
            found: usize::try_from(found).unwrap_or(usize::MAX),
            ours: expected.buckets,
        });
    }
    serde_json::from_value::<Spec>(spec.clone())
        // What is not even a map was not written by a leader.
        .map_err(|_| MapError::Edited)?
        .read(expected)
}

#[cfg(test)]
mod tests {
    use sharding::Epoch;
    use sharding::map::{MapMember, Role};

    use super::*;

    fn map() -> ShardMap {
        ShardMap {
            installation: "here".into(),
            leader: "a_1".parse().expect("an incarnation"),
            term: 3,
            sequence: 1_767_323_045,
            members: vec![MapMember {
                incarnation: "a_1".parse().expect("an incarnation"),
                role: Role::Active,
                weight: 1,
            }],
            owners: vec![Some(0); 1024],
            epochs: vec![Epoch(1_767_323_045); 1024],
            round: None,
        }
    }

    fn stored() -> DynamicObject {
        let mut object = to_object(None, &map()).expect("JSON");
        object.metadata.resource_version = Some("9".to_owned());
        object
    }

    fn event(object: &DynamicObject) -> Event {
        to_event(object, &Expected::of("here")).expect("a version")
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(event(&stored()), Event::Map(Version(9), Arc::new(map())));
        let precondition = to_object(Some(Version(8)), &map())
            .expect("JSON")
            .metadata
            .resource_version;
        assert_eq!(precondition.as_deref(), Some("8"));
    }

    #[test]
    fn whatever_is_no_map_of_ours_is_told_apart() {
        let foreign = MapError::Foreign {
            found: "there".to_owned(),
            ours: "here".to_owned(),
        };
        let count = MapError::BucketCount { found: 7, ours: 1024 };
        for (case, spec, expected) in [
            ("nothing", json!(null), MapError::Edited),
            (
                "another shape",
                json!({"installation": "here", "shards": []}),
                MapError::Edited,
            ),
            (
                "foreign, of another shape",
                json!({"installation": "there", "buckets": 7}),
                foreign,
            ),
            (
                "another count, of another shape",
                json!({"installation": "here", "buckets": 7}),
                count,
            ),
        ] {
            let mut object = stored();
            object.data["spec"] = spec;
            assert_eq!(event(&object), Event::MapDamaged(Version(9), expected), "{case}");
        }
        let mut edited = stored();
        edited.data["spec"]["owners"][3] = json!(-1);
        assert_eq!(event(&edited), Event::MapDamaged(Version(9), MapError::Edited));
    }
}
