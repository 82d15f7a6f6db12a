//! The definition of the ShardMap: what a leader writes is kept as it is, what none writes is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sharding::map::{Expected, MapMember, Phase, Role, Round, ShardMap, Spec};
use sharding::protocol::lease::Incarnation;
use sharding::{BUCKETS, Bucket, Epoch};

use crate::support::{By, NAMESPACE, Server, child, until};
use planner::child::Kind;

const INSTALLATION: &str = "ops/database-operator";

fn incarnation(number: u16) -> Incarnation {
    Incarnation {
        // As long as names of pods get.
        name: Arc::from(format!("database-operator-{}-{number}", "x".repeat(230))),
        nonce: u64::MAX - u64::from(number),
    }
}

/// A map as large as it gets with 100 members, in the middle of a round, with this epoch for all buckets.
fn large_map(epoch: u64) -> ShardMap {
    let owner = |bucket: u16| (bucket % 101 != 100).then_some(bucket % 101);
    let role = |number| match number % 4 {
        0 | 1 => Role::Active,
        2 => Role::Standby,
        _ => Role::Leaving,
    };
    ShardMap {
        installation: Arc::from(INSTALLATION),
        leader: incarnation(0),
        term: 3,
        sequence: epoch,
        members: (0..100)
            .map(|number| MapMember {
                incarnation: incarnation(number),
                role: role(number),
                weight: if number == 99 { u32::MAX } else { 100 },
            })
            .collect(),
        owners: (0..BUCKETS).map(owner).collect(),
        epochs: vec![Epoch(epoch); usize::from(BUCKETS)],
        round: Some(Round {
            number: epoch,
            phase: Phase::Draining,
            moves: Bucket::all()
                .filter_map(|bucket| Some((bucket, (owner(bucket.index())? + 1) % 100)))
                .collect::<BTreeMap<_, _>>(),
        }),
    }
}

fn manifest(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": sharding::crd::API_VERSION, "kind": sharding::crd::KIND, "metadata": {"name": name}, "spec": spec,
    })
}

fn spec(epoch: u64) -> Value {
    serde_json::to_value(large_map(epoch).to_spec()).expect("a map is JSON")
}

/// Puts the map there, with this epoch for all buckets, and waits until the fence goes by it.
pub(crate) fn put(server: &Server, epoch: u64) {
    let manifest = manifest(sharding::crd::MAP_NAME, &spec(epoch)).to_string();
    if server.admin(&["replace", "-f", "-"], &manifest).is_err() {
        server.must(&["create", "-f", "-"], &manifest);
    }
    let replica: By<'_> = server.replica();
    let old = child(Kind::ConfigMap, "canary", Some(&(epoch - 1).to_string()));
    let new = child(Kind::ConfigMap, "canary", Some(&epoch.to_string()));
    until(&format!("the fence knows epoch {epoch} in {NAMESPACE}"), || {
        replica.try_create(&old).is_err() && replica.try_create(&new).is_ok()
    });
}

/// A real map goes in and comes out as the same.
pub(crate) fn a_map_comes_back_as_it_was(server: &Server) {
    let stored = server.must(&["get", "shardmap", sharding::crd::MAP_NAME, "-o", "json"], "");
    let stored: Value = serde_json::from_str(&stored).expect("JSON");
    let read: Spec = serde_json::from_value(stored["spec"].clone()).expect("a spec");
    let sequence = read.sequence;
    assert_eq!(read.read(&Expected::of(INSTALLATION)), Ok(large_map(sequence)));
    assert_eq!(stored["spec"], spec(sequence));

    // With a `null` in place of what is absent, as some writers leave it.
    let mut settled = spec(sequence);
    settled["round"] = Value::Null;
    let fresh = manifest(sharding::crd::MAP_NAME, &settled).to_string();
    server.must(&["replace", "--dry-run=server", "-f", "-"], &fresh);
}

/// Every fault is refused with its field named.
pub(crate) fn a_malformed_map_is_refused(server: &Server) {
    let short = json!(vec![1; 1023]);
    let long = json!(vec![1; 1025]);
    let foreign = json!(vec![100; 1024]);
    let cases: [(&str, Value, &str); 18] = [
        ("/buckets", json!(1023), "spec.buckets"),
        ("/installation", json!(""), "spec.installation"),
        ("/leader", json!("no-number"), "spec.leader"),
        ("/leader", json!("zeros_00a"), "spec.leader"),
        ("/term", json!(-1), "spec.term"),
        ("/sequence", json!(1_u64 << 53), "spec.sequence"),
        ("/members/7/role", json!("Boss"), "spec.members[7].role"),
        ("/members/7/weight", json!(-1), "spec.members[7].weight"),
        ("/members/7/incarnation", json!("_1"), "spec.members[7].incarnation"),
        ("/owners", short, "spec.owners"),
        ("/owners/3", json!(-2), "spec.owners[3]"),
        ("/owners", foreign, "spec.owners: Invalid value: an owner is no member"),
        ("/epochs", long, "spec.epochs"),
        ("/epochs/1023", json!(0), "spec.epochs[1023]"),
        (
            "/epochs/1023",
            json!(1_u64 << 52),
            "an epoch is newer than the map's sequence",
        ),
        ("/round/phase", json!("Active"), "spec.round.phase"),
        ("/round/moves/0/to", json!(100), "spec.round.moves"),
        ("/seal", json!("ABC"), "spec.seal"),
    ];
    let mut wrong = Vec::new();
    for (pointer, value, field) in cases {
        let mut spec = spec(5);
        *spec.pointer_mut(pointer).expect("a field") = value;
        let text = manifest(sharding::crd::MAP_NAME, &spec).to_string();
        match server.admin(&["replace", "--dry-run=server", "-f", "-"], &text) {
            Err(said) if said.contains(field) => {}
            answer => wrong.push(format!("{pointer}, {field}: {answer:?}")),
        }
    }
    for (name, map) in [("a field is missing", json!({})), ("null", Value::Null)] {
        let text = manifest(sharding::crd::MAP_NAME, &map).to_string();
        match server.admin(&["replace", "--dry-run=server", "-f", "-"], &text) {
            Err(said) if said.contains("spec") => {}
            answer => wrong.push(format!("{name}: {answer:?}")),
        }
    }
    let second = server.admin(&["create", "-f", "-"], &manifest("second", &spec(5)).to_string());
    match second {
        Err(said) if said.contains("its name is fleet") => {}
        answer => wrong.push(format!("a second map: {answer:?}")),
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What `kubectl get` shows of it.
pub(crate) fn a_map_is_shown(server: &Server) {
    let narrow = server.must(&["get", "shardmaps"], "");
    for words in [
        "LEADER",
        "TERM",
        "SEQUENCE",
        "ROUND",
        "AGE",
        "fleet",
        "Draining",
        "database-operator-",
    ] {
        assert!(narrow.contains(words), "{words}: {narrow}");
    }
    assert!(!narrow.contains("MEMBERS"), "{narrow}");
    let wide = server.must(&["get", "shardmaps", "-o", "wide"], "");
    assert!(wide.contains("MEMBERS") && wide.contains("Standby"), "{wide}");
    let explained = server.must(&["explain", "shardmap.spec.epochs"], "");
    assert!(explained.contains("By bucket"), "{explained}");
}
