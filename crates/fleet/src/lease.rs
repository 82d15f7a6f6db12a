//! A Lease as an object, and as data.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use api::names;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use sharding::protocol::{Incarnation, Kept, Lease, LeaseRecord, Report, Version};
use sharding::timing::Timings;
use sharding::{Bucket, Epoch};

const SEEN: &str = "intent.example.com/seen";
const WARM: &str = "intent.example.com/warm";
const DRAINED: &str = "intent.example.com/drained";
const LEAVING: &str = "intent.example.com/leaving";
const WEIGHT: &str = "intent.example.com/weight";
const RAISE: &str = "intent.example.com/raise";

/// An object whose version cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("resourceVersion {0:?} is not a number, so versions cannot be compared")]
pub struct VersionError(pub String);

/// What a text says of the version of an object or a list.
pub fn version(text: Option<&str>) -> Result<Version, VersionError> {
    let text = text.unwrap_or_default();
    text.parse().map(Version).map_err(|_| VersionError(text.to_owned()))
}

/// The name of a Lease of this member.
#[must_use]
pub fn name_of(kept: Kept, member: &str) -> String {
    match kept {
        Kept::Member => names::member_lease(member),
        Kept::Coordinator => names::COORDINATOR_LEASE.to_owned(),
    }
}

/// Whose member Lease has this name. By name and not by label: a label can be removed, and then a Lease that is held
/// would look as if it had been deleted.
#[must_use]
pub fn member_of(name: &str) -> Option<Arc<str>> {
    name.strip_prefix(&names::member_lease(""))
        .filter(|member| !member.is_empty())
        .map(Arc::from)
}

/// The object to be written; with `precondition` it replaces exactly that version.
#[must_use]
pub fn to_object(
    name: &str,
    precondition: Option<Version>,
    record: &LeaseRecord,
    timings: Timings,
    wall: Timestamp,
) -> Object {
    let member = member_of(name);
    let component = if member.is_some() { "member" } else { "coordinator" };
    let labels = [
        (names::NAME_LABEL, names::FIELD_MANAGER),
        (names::MANAGED_BY_LABEL, names::FIELD_MANAGER),
        (names::COMPONENT_LABEL, component),
    ];
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    Object {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: precondition.map(|version| version.0.to_string()),
            labels: Some(labels.map(owned).into()),
            annotations: member.map(|_| annotations(&record.report)),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: record.holder.as_ref().map(Incarnation::to_string),
            lease_duration_seconds: Some(i32::try_from(timings.lease_ms() / 1000).unwrap_or(i32::MAX).max(1)),
            lease_transitions: Some(i32::try_from(record.transitions).unwrap_or(i32::MAX)),
            // A write that changes nothing gets no new version, and then nobody would see the renewal.
            renew_time: Some(MicroTime(wall)),
            ..LeaseSpec::default()
        }),
    }
}

fn annotations(report: &Report) -> BTreeMap<String, String> {
    let Report {
        seen,
        warm,
        drained,
        leaving,
        drain,
        weight,
        raise,
    } = report;
    let mut raised = String::new();
    for (bucket, epoch) in raise {
        let comma = if raised.is_empty() { "" } else { "," };
        // A String takes whatever is written into it.
        let _ = write!(raised, "{comma}{bucket}={epoch}");
    }
    let mut all = vec![
        (SEEN, seen.0.to_string()),
        (WARM, warm.to_string()),
        (DRAINED, drained.to_string()),
        (LEAVING, leaving.to_string()),
        (WEIGHT, weight.to_string()),
    ];
    if *drain {
        all.push((names::DRAIN_ANNOTATION, names::TRUE.to_owned()));
    }
    if !raised.is_empty() {
        all.push((RAISE, raised));
    }
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What an object says.
pub fn from_object(object: &Object) -> Result<Lease, VersionError> {
    let spec = object.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
    Ok(Lease {
        uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
        version: version(object.metadata.resource_version.as_deref())?,
        record: LeaseRecord {
            holder: holder.map(|holder| holder.parse().unwrap_or_else(|_| stranger(&holder))),
            transitions: u64::try_from(spec.lease_transitions.unwrap_or(0)).unwrap_or(0),
            report: report(object.metadata.annotations.as_ref()),
        },
    })
}

/// A holder that is no process of ours: somebody wrote the Lease by hand. It counts as held until it runs out. No member
/// has a name with `?`, so the leader gives it nothing.
fn stranger(holder: &str) -> Incarnation {
    Incarnation {
        name: format!("?{holder}").into(),
        nonce: 0,
    }
}

/// What cannot be read counts as not said; nothing is ever given or taken on the ground of a default.
fn report(annotations: Option<&BTreeMap<String, String>>) -> Report {
    let text = |key: &str| annotations.and_then(|all| all.get(key)).map(String::as_str);
    Report {
        seen: Version(number(text(SEEN))),
        warm: number(text(WARM)),
        drained: number(text(DRAINED)),
        leaving: text(LEAVING) == Some("true"),
        drain: text(names::DRAIN_ANNOTATION) == Some(names::TRUE),
        weight: number(text(WEIGHT)),
        raise: text(RAISE).unwrap_or_default().split(',').filter_map(raised).collect(),
    }
}

fn number<T: FromStr + Default>(text: Option<&str>) -> T {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn raised(text: &str) -> Option<(Bucket, Epoch)> {
    let (bucket, epoch) = text.split_once('=')?;
    Some((bucket.parse().ok()?, epoch.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wall() -> Timestamp {
        Timestamp::from_second(1_767_323_045).expect("in range")
    }

    fn stored(record: &LeaseRecord) -> Object {
        let mut object = to_object(
            "database-operator-member-a",
            Some(Version(7)),
            record,
            Timings::FAST,
            wall(),
        );
        object.metadata.uid = Some("u1".to_owned());
        object
    }

    fn record() -> LeaseRecord {
        LeaseRecord {
            holder: "a_ff".parse().ok(),
            transitions: 3,
            report: Report {
                seen: Version(41),
                warm: 5,
                drained: 6,
                leaving: true,
                drain: true,
                weight: 100,
                raise: [(Bucket::try_from(7).expect("small"), Epoch(1_900_000_000))].into(),
            },
        }
    }

    #[test]
    fn an_object_says_it_in_the_fields_that_others_know() {
        let object = serde_json::to_value(stored(&record())).expect("JSON");
        let expected = serde_json::json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": "database-operator-member-a",
                "uid": "u1",
                "resourceVersion": "7",
                "labels": {
                    "app.kubernetes.io/name": "database-operator",
                    "app.kubernetes.io/managed-by": "database-operator",
                    "app.kubernetes.io/component": "member",
                },
                "annotations": {
                    "intent.example.com/seen": "41",
                    "intent.example.com/warm": "5",
                    "intent.example.com/drained": "6",
                    "intent.example.com/leaving": "true",
                    "intent.example.com/drain": "true",
                    "intent.example.com/weight": "100",
                    "intent.example.com/raise": "7=1900000000",
                },
            },
            "spec": {
                "holderIdentity": "a_ff",
                "leaseDurationSeconds": 6,
                "leaseTransitions": 3,
                "renewTime": "2026-01-02T03:04:05.000000Z",
            },
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn a_released_lease_has_no_holder() {
        let released = LeaseRecord {
            holder: None,
            ..record()
        };
        assert_eq!(stored(&released).spec.and_then(|spec| spec.holder_identity), None);
        let mut empty = stored(&released);
        empty.spec.get_or_insert_default().holder_identity = Some(String::new());
        assert_eq!(from_object(&empty).expect("readable").record.holder, None);
    }

    #[test]
    fn a_holder_of_another_kind_still_holds() {
        for text in ["somebody", "a", "a_FF", "_1"] {
            let mut object = stored(&record());
            object.spec.get_or_insert_default().holder_identity = Some(text.to_owned());
            let holder = from_object(&object).expect("readable").record.holder.expect("held");
            assert_eq!(*holder.name, *format!("?{text}"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_said() {
        let mut object = stored(&record());
        let wrong = [SEEN, WARM, DRAINED, LEAVING, names::DRAIN_ANNOTATION, WEIGHT, RAISE]
            .map(|key| (key.to_owned(), "-1=x,y".to_owned()));
        object.metadata.annotations = Some(wrong.into());
        assert_eq!(from_object(&object).expect("readable").record.report, Report::default());
        object.metadata.annotations = None;
        assert_eq!(from_object(&object).expect("readable").record.report, Report::default());
    }

    #[test]
    fn a_version_must_be_a_number() {
        for text in [None, Some(""), Some("abc"), Some("-1")] {
            assert_eq!(version(text), Err(VersionError(text.unwrap_or_default().to_owned())));
        }
    }

    #[test]
    fn only_names_of_ours_are_members() {
        assert_eq!(member_of("database-operator-member-a-b").as_deref(), Some("a-b"));
        for name in [
            "database-operator-member-",
            "database-operator-coordinator",
            "kube-scheduler",
        ] {
            assert_eq!(member_of(name), None, "{name}");
        }
        assert_eq!(member_of(&name_of(Kept::Member, "a")).as_deref(), Some("a"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            holder in proptest::option::of(("[a-z][a-z0-9-]{0,20}", any::<u64>())),
            numbers in any::<(u64, u64, u64, bool, bool, u32)>(),
            transitions in 0_u64..=2_147_483_647,
            raise in proptest::collection::btree_map(0_u16..1024, any::<u64>(), 0..5),
        ) {
            let (seen, warm, drained, leaving, drain, weight) = numbers;
            let raise = raise.into_iter().map(|(bucket, epoch)| (Bucket::try_from(bucket).expect("small"), Epoch(epoch)));
            let record = LeaseRecord {
                holder: holder.map(|(name, nonce)| Incarnation { name: name.into(), nonce }),
                transitions,
                report: Report { seen: Version(seen), warm, drained, leaving, drain, weight, raise: raise.collect() },
            };
            let lease = from_object(&stored(&record)).expect("readable");
            prop_assert_eq!(lease, Lease { uid: "u1".into(), version: Version(7), record });
        }
    }
}
