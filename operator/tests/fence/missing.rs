//! What remains while there is no map, or not even its definition: databases run on, and nobody is in the way of what is
//! not ours.

use planner::child::Kind;
use serde_json::json;

use crate::map;
use crate::support::{NAMESPACE, NO_MAP, Server, accepted, child, named, refused, until};

/// The map is deleted.
pub(crate) fn without_a_map(server: &Server) {
    let replica = server.replica();
    let new = child(Kind::ConfigMap, "canary", Some("10"));
    server.must(&["delete", "shardmap", sharding::crd::MAP_NAME], "");
    until("the fence misses the map", || replica.try_create(&new).is_err());

    for kind in [
        Kind::Secret,
        Kind::PersistentVolumeClaim,
        Kind::StatefulSet,
        Kind::Service,
    ] {
        refused(&replica.try_create(&child(kind, "late", Some("10"))), NO_MAP);
    }
    // What exists is still judged by its own fence, and by its version.
    let object = named(Kind::Secret, "born");
    refused(
        &replica.stamp(&object, Some("9")),
        "epoch 9 is older than the object: 10",
    );
    refused(
        &replica.delete(Kind::Secret, "born", &json!({})),
        "needs a resourceVersion precondition",
    );

    others_go_on(server, "no-map");
    // Volumes are bound, drivers and people write.
    let somebody = server.somebody();
    accepted(&somebody.merge(
        "persistentvolumeclaims/born",
        &json!({"metadata": {"labels": {"bound": "true"}}}),
    ));
    let database = server.must(&["get", "-n", NAMESPACE, "databases", "-o", "name"], "");
    accepted(&somebody.merge(database.trim(), &json!({"metadata": {"labels": {"edited": "true"}}})));
    // The one thing of others that is refused: to create what bears our label.
    refused(&somebody.try_create(&child(Kind::Secret, "late", None)), NO_MAP);
}

/// The definition is deleted as well: an API server that runs goes on as without a map.
pub(crate) fn without_the_definition_of_maps(server: &Server) {
    server.must(&["delete", "crd", sharding::crd::CRD_NAME], "");
    let late = server.replica().try_create(&child(Kind::Secret, "late", Some("10")));
    assert!(late.is_err(), "{late:?}");
    others_go_on(server, "no-definition");
}

/// What must go on whatever becomes of the map.
fn others_go_on(server: &Server, namespace: &str) {
    let somebody = server.somebody();
    // What does not bear our label: anybody's, and ours.
    let plain = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": NAMESPACE, "name": name}});
    accepted(&somebody.create(&plain(namespace)));
    accepted(&somebody.merge(&named(Kind::ConfigMap, namespace), &json!({"data": {"a": "b"}})));
    accepted(&server.replica().try_create(&plain("plain")));
    server.must(&["create", "namespace", namespace], "");
    until("Kubernetes makes its ConfigMap in a new namespace", || {
        server
            .admin(&["get", "-n", namespace, "configmap/kube-root-ca.crt"], "")
            .is_ok()
    });
    // A pod that bears our label ends, and Kubernetes makes a new one.
    let uid = || {
        server.admin(
            &["get", "-n", NAMESPACE, "pod/set-0", "-o", "jsonpath={.metadata.uid}"],
            "",
        )
    };
    let before = uid().expect("it was made");
    accepted(&somebody.delete(Kind::Pod, "set-0", &json!({"uid": before})));
    until("the pod is replaced", || uid().is_ok_and(|now| now != before));
    // What bears our label can be got rid of.
    for kind in [
        Kind::Secret,
        Kind::PersistentVolumeClaim,
        Kind::StatefulSet,
        Kind::Service,
    ] {
        let kept = named(kind, "born");
        accepted(&somebody.kubectl(&["delete", "-n", NAMESPACE, "--dry-run=server", &kept], ""));
    }
}

/// Everything is there again, with the epochs of a new map.
pub(crate) fn a_new_map_resumes(server: &Server, install: impl Fn(&Server)) {
    install(server);
    map::put(server, 1_700_000_000);
    let replica = server.replica();
    accepted(&replica.create(&child(Kind::Secret, "resumed", Some("1700000000"))));
    accepted(&replica.stamp(&named(Kind::Secret, "born"), Some("1700000000")));
    refused(
        &replica.stamp(&named(Kind::Service, "born"), Some("12")),
        "epoch 12 is older than the map: 1700000000",
    );
}
