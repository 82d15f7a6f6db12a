//! A DELETE carries no object: it is judged by the stamp that the object bears, and by its preconditions.

use planner::child::Kind;
use serde_json::{Value, json};

use crate::support::{NAMESPACE, Server, accepted, child, named, refused};

/// The map says 10.
pub(crate) fn a_deletion_needs_its_stamp_and_its_precondition(server: &Server) {
    for kind in Kind::ALL {
        // As the last owner left it.
        accepted(&server.somebody().create(&child(kind, "condemned", Some("5"))));
        deletes_as_it_should(server, kind);
    }
}

fn deletes_as_it_should(server: &Server, kind: Kind) {
    let replica = server.replica();
    let object = named(kind, "condemned");
    let now = || version(server, &object);
    let delete = |preconditions: &Value| replica.delete(kind, "condemned", preconditions);

    refused(&delete(&now()), "stamp the object with the current epoch");
    accepted(&server.somebody().stamp(&object, None));
    refused(&delete(&now()), "stamp the object with the current epoch");
    // With the epoch of an owner whose time is over no stamp is to be had.
    refused(&replica.stamp(&object, Some("9")), "epoch 9 is older than the map: 10");

    accepted(&replica.stamp(&object, Some("10")));
    let stamped = now();
    refused(&delete(&json!({})), "needs a resourceVersion precondition");
    refused(
        &delete(&json!({"uid": stamped["uid"]})),
        "needs a resourceVersion precondition",
    );
    // Between the stamp and the deletion somebody wrote.
    accepted(
        &server
            .somebody()
            .merge(&object, &json!({"metadata": {"labels": {"changed": "true"}}})),
    );
    let late = delete(&stamped);
    assert!(
        late.as_ref().is_err_and(|said| said.contains("precondition")),
        "{late:?}"
    );
    accepted(&delete(&now()));
}

/// The preconditions of a deletion of exactly what is there now.
fn version(server: &Server, object: &str) -> Value {
    let found = server.must(&["get", "-n", NAMESPACE, object, "-o", "json"], "");
    let found: Value = serde_json::from_str(&found).expect("JSON");
    json!({"uid": found["metadata"]["uid"], "resourceVersion": found["metadata"]["resourceVersion"]})
}
