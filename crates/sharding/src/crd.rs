//! The ShardMap as a custom resource: the definition that lets the API server keep a [`Spec`](crate::map::Spec), and
//! refuse what no leader writes.
//!
//! Promise: every map that [`Spec::read`](crate::map::Spec::read) takes is accepted, and a field that is wrong is named.
//!
//! Not guaranteed: that an accepted map is one to obey (the seal tells), or that it follows from the one before it. A
//! rule that compares old and new is left out on purpose: a leader that heals a map with absurd numbers must lower them.

use serde_json::{Value, json};

use crate::bucket::BUCKETS;
use crate::map::MAX_NUMBER;

/// API group of the map.
pub const GROUP: &str = "intent.example.com";
/// `apiVersion` of the map.
pub const API_VERSION: &str = "intent.example.com/v1";
/// `kind` of the map.
pub const KIND: &str = "ShardMap";
/// Plural name, as in request paths.
pub const PLURAL: &str = "shardmaps";
/// Name of the definition.
pub const CRD_NAME: &str = "shardmaps.intent.example.com";
/// Name of the only map.
pub const MAP_NAME: &str = "fleet";

/// Type of the condition that says whether the API server refuses writes of a replica whose ownership is over.
pub const FENCED_CONDITION: &str = "Fenced";

/// The largest number of members: one more would have no bucket to own.
pub const MAX_MEMBERS: u16 = BUCKETS;

/// The CustomResourceDefinition of the ShardMap.
#[must_use]
pub fn shard_map_crd() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME},
        "spec": {
            "group": GROUP,
            // One in the cluster, so that a second installation meets it and refuses to start.
            "scope": "Cluster",
            "names": {"kind": KIND, "listKind": "ShardMapList", "plural": PLURAL, "singular": "shardmap"},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                // So that what the leader says of the fence and what it decides never overwrite each other.
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns(),
                "schema": {"openAPIV3Schema": schema()},
            }],
        },
    })
}

/// JSONPath cannot count: the members are shown as they are, and only if asked for more (`-o wide`).
fn columns() -> Value {
    json!([
        {"name": "Leader", "type": "string", "jsonPath": ".spec.leader", "description": "Who wrote the map."},
        {"name": "Term", "type": "integer", "jsonPath": ".spec.term", "description": "Which leadership wrote it."},
        {"name": "Sequence", "type": "integer", "jsonPath": ".spec.sequence", "description": "Grows with every write."},
        {
            "name": "Round", "type": "string", "jsonPath": ".spec.round.phase",
            "description": "How far the planned moves are; empty while nothing moves.",
        },
        {
            "name": "Fenced", "type": "string",
            "jsonPath": format!(".status.conditions[?(@.type=='{FENCED_CONDITION}')].status"),
            "description": "Whether the API server refuses writes of a replica whose ownership is over.",
        },
        {"name": "Members", "type": "string", "jsonPath": ".spec.members", "priority": 1, "description": "All members."},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ])
}

fn schema() -> Value {
    json!({
        "type": "object",
        "description": "Which replica of the operator looks after which Databases. Written by the leader of the replicas \
                        alone; a change by hand is noticed and undone. If it is deleted, the leader makes a new one.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec(),
            "status": status(),
        },
        "x-kubernetes-validations": [{
            "rule": format!("self.metadata.name == '{MAP_NAME}'"),
            "message": format!("there is one map in a cluster, and its name is {MAP_NAME}"),
            "reason": "FieldValueForbidden",
        }],
    })
}

fn status() -> Value {
    let text = |most: u16, description: &str| json!({"type": "string", "maxLength": most, "description": description});
    json!({
        "type": "object",
        "description": "What the leader has found out. No replica obeys it.",
        "properties": {
            "conditions": {
                "type": "array", "maxItems": 8, "description": "What holds of the fleet.",
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "description": "One of the conditions.",
                    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
                    "properties": {
                        "type": text(63, "Fenced: the API server refuses writes of a replica whose ownership is over."),
                        "status": {
                            "type": "string", "enum": ["True", "False", "Unknown"],
                            "description": "Whether it holds.",
                        },
                        "reason": text(63, "Why, for programs."),
                        "message": text(32768, "Why, for people."),
                        "lastTransitionTime": {
                            "type": "string", "format": "date-time", "maxLength": 64,
                            "description": "When the status changed last.",
                        },
                    },
                },
            },
        },
    })
}

fn spec() -> Value {
    json!({
        "type": "object",
        "description": "Who owns what.",
        "required": [
            "installation", "buckets", "leader", "term", "sequence", "members", "owners", "epochs", "seal",
        ],
        "properties": {
            "installation": {
                "type": "string", "minLength": 1, "maxLength": 512,
                "description": "The installation that this map belongs to. Another one refuses to start.",
            },
            "buckets": {
                "type": "integer", "format": "int32", "enum": [BUCKETS],
                "description": "How many buckets there are. Fixed for ever.",
            },
            "leader": incarnation("The member that wrote the map."),
            "term": number(0, MAX_NUMBER, "Which leadership wrote the map."),
            "sequence": number(1, MAX_NUMBER, "Grows with every write of the map."),
            "members": {
                "type": "array", "maxItems": MAX_MEMBERS, "x-kubernetes-list-type": "atomic",
                "description": "The members, in the order in which they joined. `owners` and `round` name them by their \
                                place here, from 0.",
                "items": member(),
            },
            "owners": {
                "type": "array", "minItems": BUCKETS, "maxItems": BUCKETS, "x-kubernetes-list-type": "atomic",
                "description": "By bucket: the place of its owner in `members`, or -1 if it has none.",
                "items": {"type": "integer", "format": "int32", "minimum": -1, "maximum": MAX_MEMBERS - 1},
            },
            "epochs": {
                "type": "array", "minItems": BUCKETS, "maxItems": BUCKETS, "x-kubernetes-list-type": "atomic",
                "description": "By bucket: the `sequence` of the write that gave it to its owner, or took it from the \
                                last one. The API server refuses writes of replicas whose epoch is older.",
                "items": {"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_NUMBER},
            },
            "round": round(),
            "seal": {
                "type": "string", "maxLength": 16, "pattern": "^[0-9a-f]{16}$",
                "description": "A digest of all of the above, by which a change by hand is noticed.",
            },
        },
        "x-kubernetes-validations": agreements(),
    })
}

/// What fields must agree on, as far as a rule of bounded cost can say it.
fn agreements() -> Value {
    json!([
        {
            "rule": "self.owners.all(owner, owner < size(self.members))",
            "message": "an owner is no member", "fieldPath": ".owners",
        },
        {
            "rule": "self.epochs.all(epoch, epoch <= self.sequence)",
            "message": "an epoch is newer than the map's sequence", "fieldPath": ".epochs",
        },
        {
            "rule": "!has(self.round) || self.round.moves.all(move, move.to < size(self.members))",
            "message": "a bucket goes to somebody who is no member", "fieldPath": ".round.moves",
        },
        {
            "rule": "!has(self.round) || self.round.number <= self.sequence",
            "message": "the round is newer than the map's sequence", "fieldPath": ".round.number",
        },
    ])
}

fn member() -> Value {
    json!({
        "type": "object",
        "required": ["incarnation", "role", "weight"],
        "properties": {
            "incarnation": incarnation("Which process: the member's name, `_`, and a number that it drew at its start."),
            "role": {
                "type": "string", "enum": ["Active", "Standby", "Leaving", "Draining", "Gone"],
                "description": "Active: it owns buckets or is about to. Standby: it is warm and waits for a place. \
                                Leaving: it exits as soon as it owns nothing. Draining: somebody asked that it own \
                                nothing. Gone: it is dead, and nobody can take its buckets yet.",
            },
            "weight": number(0, u64::from(u32::MAX), "Its share, relative to the others."),
        },
    })
}

fn round() -> Value {
    let last = BUCKETS - 1;
    json!({
        "type": "object",
        "description": "The planned moves that are under way.",
        "required": ["number", "phase", "moves"],
        "properties": {
            "number": number(1, MAX_NUMBER, "The `sequence` of the write that began it."),
            "phase": {
                "type": "string", "enum": ["Preparing", "Draining"],
                "description": "Preparing: the gainers open their watches, the losers serve on. Draining: the losers end \
                                what runs, and acknowledge.",
            },
            "moves": {
                "type": "array", "minItems": 1, "maxItems": BUCKETS, "x-kubernetes-list-type": "atomic",
                "description": "What moves, sorted by bucket.",
                "items": {
                    "type": "object",
                    "required": ["bucket", "to"],
                    "properties": {
                        "bucket": number(0, last.into(), "Which bucket."),
                        "to": number(0, (MAX_MEMBERS - 1).into(), "The place of the gainer in `members`."),
                    },
                },
            },
        },
    })
}

fn number(minimum: u64, maximum: u64, description: &str) -> Value {
    json!({
        "type": "integer", "format": "int64", "minimum": minimum, "maximum": maximum, "description": description,
    })
}

/// As [`Incarnation`](crate::protocol::lease::Incarnation) is written: a name without `_`, and a number in its one form.
fn incarnation(description: &str) -> Value {
    json!({
        "type": "string",
        "maxLength": 270,
        "pattern": "^[^_]+_(0|[1-9a-f][0-9a-f]{0,15})$",
        "description": description,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::*;
    use crate::bucket::Bucket;
    use crate::epoch::Epoch;
    use crate::map::{MapMember, Phase, Role, Round, ShardMap};
    use crate::protocol::lease::Incarnation;

    fn spec_of_a_map() -> Value {
        let incarnation = Incarnation {
            name: Arc::from("database-operator-0"),
            nonce: u64::MAX,
        };
        let member = MapMember {
            incarnation: incarnation.clone(),
            role: Role::Gone,
            weight: 100,
        };
        let map = ShardMap {
            installation: Arc::from("ops/database-operator"),
            leader: incarnation,
            term: 1,
            sequence: 9,
            members: vec![member],
            owners: vec![None; usize::from(BUCKETS)],
            epochs: vec![Epoch(9); usize::from(BUCKETS)],
            round: Some(Round {
                number: 9,
                phase: Phase::Draining,
                moves: BTreeMap::from([(Bucket::try_from(7).expect("a bucket"), 0)]),
            }),
        };
        serde_json::to_value(map.to_spec()).expect("a map is JSON")
    }

    fn spec_schema() -> Value {
        shard_map_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].take()
    }

    /// Paths of all fields of a value, `[]` for the items of an array.
    fn fields(path: &str, value: &Value, all: &mut BTreeSet<String>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            fields(&path, value, all);
            all.insert(path);
        }
        for value in value.as_array().into_iter().flatten() {
            fields(&format!("{path}[]"), value, all);
        }
    }

    /// Calls `see` for each schema below, with its path.
    fn walk(path: &str, schema: &Value, see: &mut impl FnMut(&str, &Value)) {
        see(path, schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), property, see);
        }
        if let Some(items) = schema.get("items") {
            walk(&format!("{path}[]"), items, see);
        }
    }

    #[test]
    fn the_schema_has_the_fields_of_the_type_and_no_others() {
        let mut written = BTreeSet::new();
        fields("", &spec_of_a_map(), &mut written);
        let mut declared = BTreeSet::new();
        walk("", &spec_schema(), &mut |path, _| {
            if !path.is_empty() && !path.ends_with("[]") {
                declared.insert(path.to_owned());
            }
        });
        assert_eq!(written, declared);
    }

    #[test]
    fn every_field_is_described_and_bounded() {
        let mut wanting = Vec::new();
        let mut look = |path: &str, schema: &Value| {
            let bounded = match schema["type"].as_str() {
                Some("string") => schema.get("maxLength").is_some() || schema.get("enum").is_some(),
                Some("array") => schema.get("maxItems").is_some(),
                Some("integer") => schema.get("maximum").is_some() || schema.get("enum").is_some(),
                Some("object") => schema.get("properties").is_some(),
                _ => false,
            };
            let described = path.ends_with("[]") || schema["description"].as_str().is_some_and(|text| text.len() >= 12);
            if !bounded || !described {
                wanting.push(path.to_owned());
            }
        };
        walk("spec", &spec_schema(), &mut look);
        walk("status", &status(), &mut look);
        assert_eq!(wanting, Vec::<String>::new());
    }

    #[test]
    fn the_roles_and_phases_are_those_of_the_types() {
        let schema = spec_schema();
        let roles = [Role::Active, Role::Standby, Role::Leaving, Role::Draining, Role::Gone].map(|role| json!(role));
        let phases = [Phase::Preparing, Phase::Draining].map(|phase| json!(phase));
        assert_eq!(
            schema["properties"]["members"]["items"]["properties"]["role"]["enum"],
            json!(roles)
        );
        assert_eq!(
            schema["properties"]["round"]["properties"]["phase"]["enum"],
            json!(phases)
        );
    }
}
