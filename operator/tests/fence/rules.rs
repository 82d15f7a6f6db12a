//! What a replica may write, and who else is asked about (nobody).

use planner::child::Kind;
use serde_json::{Value, json};

use crate::support::{BUCKET, NAMESPACE, Server, accepted, child, named, refused, until};

const BUCKET_LABEL: &str = "intent.example.com/bucket";
const FENCE: &str = "intent.example.com/fence";

/// What a replica creates itself; the map says 5.
pub(crate) fn a_child_is_born_with_a_fence(server: &Server) {
    let replica = server.replica();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Pod) {
        refused(
            &replica.try_create(&child(kind, "born", Some("4"))),
            "epoch 4 is older than the map: 5",
        );
        refused(
            &replica.try_create(&child(kind, "born", None)),
            "no fence is older than the map: 5",
        );
        accepted(&replica.create(&child(kind, "born", Some("5"))));
        accepted(&replica.try_create(&child(kind, "newer", Some("6"))));
    }
    // By an apply as well.
    refused(
        &replica.apply(&child(Kind::Service, "applied", Some("4")), false),
        "epoch 4 is older than the map: 5",
    );
    accepted(&replica.apply(&child(Kind::Service, "applied", Some("5")), false));
    for strange in ["-1", "1.5", "five", "9007199254740992", "99999999999999999999"] {
        refused(
            &replica.try_create(&child(Kind::Service, "strange", Some(strange))),
            "no fence",
        );
    }
}

/// The map says 5, the objects 7.
pub(crate) fn the_fence_of_an_object_never_falls(server: &Server) {
    let replica = server.replica();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Pod) {
        let object = named(kind, "born");
        accepted(&replica.stamp(&object, Some("7")));
        refused(
            &replica.stamp(&object, Some("6")),
            "epoch 6 is older than the object: 7",
        );
        refused(&replica.stamp(&object, None), "no fence is older than the");
        refused(&replica.stamp(&object, Some("7th")), "no fence is older than the");
        accepted(&replica.merge(
            &object,
            &json!({"metadata": {"annotations": {FENCE: "7"}, "labels": {"changed": "true"}}}),
        ));
        accepted(&replica.stamp(&object, Some("8")));
    }
    refused(
        &replica.apply(&child(Kind::Service, "born", Some("7")), true),
        "epoch 7 is older than the object: 8",
    );
}

/// Whoever may edit an object must not be able to stop its repair for ever.
pub(crate) fn a_fence_spoilt_by_hand_does_not_shut_out_the_owner(server: &Server) {
    let object = named(Kind::ConfigMap, "born");
    for spoilt in ["", "abc", "-3", "9007199254740992", "99999999999999999999"] {
        accepted(&server.somebody().stamp(&object, Some(spoilt)));
        refused(
            &server.replica().stamp(&object, Some("4")),
            "epoch 4 is older than the map: 5",
        );
        accepted(&server.replica().stamp(&object, Some("8")));
    }
    // A number that a leader may have given counts, whoever wrote it; the leader then raises the bucket.
    accepted(&server.somebody().stamp(&object, Some("9007199254740991")));
    refused(
        &server.replica().stamp(&object, Some("8")),
        "older than the object: 9007199254740991",
    );
    accepted(&server.somebody().stamp(&object, Some("8")));
}

/// Neither to get around the fence nor by mistake.
pub(crate) fn the_label_of_a_bucket_is_not_removed(server: &Server) {
    let replica = server.replica();
    let object = named(Kind::Secret, "born");
    let relabelled = |label: Value, fence: &str| json!({"metadata": {"labels": {BUCKET_LABEL: label}, "annotations": {FENCE: fence}}});
    refused(&replica.merge(&object, &relabelled(Value::Null, "4")), "fence-");
    for label in [Value::Null, json!("1024"), json!("seven"), json!("")] {
        refused(&replica.merge(&object, &relabelled(label, "8")), "names no bucket");
    }
    // A wrong label is put right.
    accepted(
        &server
            .somebody()
            .merge(&object, &json!({"metadata": {"labels": {BUCKET_LABEL: "8"}}})),
    );
    accepted(&replica.merge(&object, &relabelled(json!(BUCKET), "8")));
}

/// An apply would merge into somebody else's object and make us its owner.
pub(crate) fn a_name_that_is_taken_is_left_alone(server: &Server) {
    let theirs = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": NAMESPACE, "name": "theirs"},
        "data": {"theirs": "1"},
    });
    accepted(&server.somebody().create(&theirs));
    let mut ours = child(Kind::ConfigMap, "theirs", Some("5"));
    ours["data"] = json!({"ours": "1"});
    refused(
        &server.replica().apply(&ours, false),
        "the name is taken: this object is not ours",
    );
    let left = server.must(
        &["get", "-n", NAMESPACE, "configmap/theirs", "-o", "jsonpath={.data}"],
        "",
    );
    assert_eq!(left, r#"{"theirs":"1"}"#);
}

/// Somebody took the label away; owner, other labels, or the StatefulSet tell that it is ours.
pub(crate) fn ours_without_its_label_is_repaired(server: &Server) {
    let replica = server.replica();
    let database = include_str!("../../../docs/samples/redis.yaml");
    server.must(&["create", "-n", NAMESPACE, "-f", "-"], database);
    let found = server.must(&["get", "-n", NAMESPACE, "databases", "-o", "json"], "");
    let found: Value = serde_json::from_str(&found).expect("JSON");
    let owner = json!({
        "apiVersion": "intent.example.com/v1", "kind": "Database", "controller": true,
        "name": found["items"][0]["metadata"]["name"], "uid": found["items"][0]["metadata"]["uid"],
    });

    let mut service = child(Kind::Service, "owned", Some("5"));
    service["metadata"]["ownerReferences"] = json!([owner]);
    accepted(&replica.create(&service));
    let mut managed = child(Kind::PersistentVolumeClaim, "managed", Some("5"));
    managed["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("database-operator");
    accepted(&replica.create(&managed));
    let mut set = child(Kind::StatefulSet, "set", Some("5"));
    set["spec"]["replicas"] = json!(1);
    accepted(&replica.create(&set));
    let pod = named(Kind::Pod, "set-0");
    until("Kubernetes made the pod, which bears our label", || {
        server.admin(&["get", "-n", NAMESPACE, &pod], "").is_ok()
    });

    let unlabelled = json!({"metadata": {"labels": {BUCKET_LABEL: null}}});
    let repaired = json!({"metadata": {"labels": {BUCKET_LABEL: BUCKET}, "annotations": {FENCE: "5"}}});
    for object in [
        named(Kind::Service, "owned"),
        named(Kind::PersistentVolumeClaim, "managed"),
        pod,
    ] {
        accepted(&server.somebody().merge(&object, &unlabelled));
        accepted(&replica.merge(&object, &repaired));
        refused(
            &replica.merge(&object, &json!({"metadata": {"annotations": {FENCE: "4"}}})),
            "epoch 4 is older than the",
        );
    }
    // A stale one does not slip through by way of an object that lost its label.
    let object = named(Kind::Service, "owned");
    accepted(&server.somebody().merge(&object, &unlabelled));
    let stale = json!({"metadata": {"labels": {BUCKET_LABEL: BUCKET}, "annotations": {FENCE: "4"}}});
    refused(&replica.merge(&object, &stale), "epoch 4 is older than the");
    accepted(&replica.merge(&object, &repaired));
}

/// Why every request must carry its fence: the API server judges the object as it will be.
pub(crate) fn a_patch_without_a_fence_passes_by_the_one_that_stands_there(server: &Server) {
    let change = json!({"metadata": {"labels": {"changed": "without"}}});
    accepted(&server.replica().merge(&named(Kind::Service, "born"), &change));
}

/// The map has moved on to 10, the objects are still as the last owner left them.
pub(crate) fn the_map_counts_for_what_the_new_owner_has_not_touched(server: &Server) {
    let replica = server.replica();
    for kind in Kind::ALL {
        let object = named(kind, if kind == Kind::Pod { "set-0" } else { "born" });
        refused(&replica.stamp(&object, Some("9")), "epoch 9 is older than the map: 10");
        accepted(&replica.stamp(&object, Some("10")));
    }
    // A Database is judged from its first stamp on.
    let database = the_database(server);
    let first = |fence: &str| {
        json!({"metadata": {
            "labels": {BUCKET_LABEL: BUCKET}, "annotations": {FENCE: fence},
            "finalizers": ["intent.example.com/finalizer"],
        }})
    };
    refused(
        &replica.merge(&database, &first("9")),
        "epoch 9 is older than the map: 10",
    );
    accepted(&replica.merge(&database, &first("10")));
    refused(&replica.stamp(&database, Some("9")), "epoch 9 is older than the");
}

fn the_database(server: &Server) -> String {
    let name = server.must(
        &[
            "get",
            "-n",
            NAMESPACE,
            "databases",
            "-o",
            "jsonpath={.items[0].metadata.name}",
        ],
        "",
    );
    format!("databases/{name}")
}

/// In a status write the API server ignores the annotation.
pub(crate) fn a_status_is_fenced_by_its_own_field(server: &Server) {
    let replica = server.replica();
    let database = the_database(server);
    let name = database.trim_start_matches("databases/");
    refused(&replica.status(name, &json!({"message": "x"})), "no fence");
    refused(
        &replica.status(name, &json!({"message": "x", "fence": 9})),
        "epoch 9 is older",
    );
    accepted(&replica.status(name, &json!({"message": "x", "fence": 10})));
    accepted(&replica.status(name, &json!({"message": "x", "fence": 12})));
    refused(
        &replica.status(name, &json!({"message": "y", "fence": 11})),
        "epoch 11 is older than the object: 10, status 12",
    );
    refused(
        &replica.status(name, &json!({"message": "y", "fence": null})),
        "no fence",
    );
    // Nor the object, with an epoch that the status has seen the end of.
    refused(
        &replica.stamp(&database, Some("11")),
        "epoch 11 is older than the object: 10, status 12",
    );
    accepted(&replica.stamp(&database, Some("12")));
    accepted(&replica.status(name, &json!({"message": "y", "fence": 12})));
}

/// Everything that a replica is refused, another user does.
pub(crate) fn nobody_else_is_judged(server: &Server) {
    let somebody = server.somebody();
    for kind in Kind::ALL {
        accepted(&somebody.create(&child(kind, "of-somebody", None)));
        let object = named(kind, "of-somebody");
        accepted(&somebody.stamp(&object, Some("9")));
        accepted(&somebody.stamp(&object, Some("1")));
        accepted(&somebody.stamp(&object, None));
        accepted(&somebody.merge(&object, &json!({"metadata": {"labels": {BUCKET_LABEL: "none"}}})));
        accepted(&somebody.merge(&object, &json!({"metadata": {"labels": {BUCKET_LABEL: null}}})));
        accepted(&somebody.merge(&object, &json!({"metadata": {"labels": {BUCKET_LABEL: BUCKET}}})));
        accepted(&somebody.delete(kind, "of-somebody", &json!({})));
    }
    let database = the_database(server);
    let name = database.trim_start_matches("databases/");
    accepted(&somebody.stamp(&database, Some("3")));
    accepted(&somebody.status(name, &json!({"fence": 3})));
    accepted(&somebody.stamp(&database, Some("12")));
    accepted(&somebody.status(name, &json!({"fence": 12})));
    // And a replica, where our label is not: it may do what its permissions say.
    let plain = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": NAMESPACE, "name": "plain"},
    });
    accepted(&server.replica().try_create(&plain));
}
