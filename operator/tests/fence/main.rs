//! A real API server holds the fence: what the binary prints is applied to it, and then a replica whose time is over
//! tries everything that it could do.
//!
//! One test, so that one control plane (of its own, without nodes) serves all of it; the functions build on each other.
//! It runs itself again inside, where the API server is reachable.
//! The replica has the permissions that `database-operator rbac` prints, and one for `kubectl`, which reads a status
//! before it patches it.

mod deletion;
mod map;
mod missing;
mod rules;
mod support;
mod writer;

use devcluster::TestBed;
use planner::child::Kind;

use support::{NAMESPACE, NO_MAP, Server, child, printed, refused, until};

/// Set for the run inside of the cluster.
const INSIDE: &str = "FENCE_TEST_INSIDE";
const REPLICA: &str = "--serviceaccount=ops:database-operator";
const ACCOUNT: [&str; 2] = ["--service-account", "ops:database-operator"];

#[test]
fn the_api_server_fences() {
    if std::env::var_os(INSIDE).is_none() {
        let Some(bed) = TestBed::up("fence") else { return };
        let this = std::env::current_exe().expect("this program");
        let mut again = bed.command(this).expect("a command");
        again
            .args(["--exact", "the_api_server_fences", "--nocapture"])
            .env(INSIDE, "1");
        let status = again.status().expect("it can be run");
        assert!(status.success(), "inside of the cluster: {status}");
        return;
    }
    let server = Server::of_this_run();
    install(&server);
    elections_pass_by_their_own_level(&server);

    map::put(&server, 5);
    map::a_map_comes_back_as_it_was(&server);
    map::a_malformed_map_is_refused(&server);
    map::a_map_is_shown(&server);

    rules::a_child_is_born_with_a_fence(&server);
    rules::the_fence_of_an_object_never_falls(&server);
    rules::a_fence_spoilt_by_hand_does_not_shut_out_the_owner(&server);
    rules::the_label_of_a_bucket_is_not_removed(&server);
    rules::a_name_that_is_taken_is_left_alone(&server);
    rules::ours_without_its_label_is_repaired(&server);

    map::put(&server, 10);
    rules::the_map_counts_for_what_the_new_owner_has_not_touched(&server);
    rules::a_patch_without_a_fence_passes_by_the_one_that_stands_there(&server);
    rules::a_status_is_fenced_by_its_own_field(&server);
    deletion::a_deletion_needs_its_stamp_and_its_precondition(&server);
    rules::nobody_else_is_judged(&server);
    writer::what_the_operator_writes_is_fenced(&server);

    missing::without_a_map(&server);
    writer::without_a_map_it_is_an_outage();
    missing::without_the_definition_of_maps(&server);
    writer::without_a_map_it_is_an_outage();
    missing::a_new_map_resumes(&server, install_definitions);
}

fn install_definitions(server: &Server) {
    let text = printed(&[&["crds", "--with-fence"][..], &ACCOUNT].concat());
    server.must(&["apply", "--server-side", "-f", "-"], &text);
    for resource in ["shardmaps", "databases"] {
        // Established is said a little before the resource is served.
        until("the resource is served", || {
            server.admin(&["get", resource], "").is_ok()
        });
    }
}

fn install(server: &Server) {
    install_definitions(server);
    server.must(&["create", "namespace", "ops"], "");
    let permissions = printed(&[&["rbac"][..], &ACCOUNT].concat());
    server.must(&["apply", "-f", "-"], &permissions);
    let reads = [
        "create",
        "clusterrole",
        "reads-status",
        "--verb=get",
        "--resource=databases/status",
    ];
    server.must(&reads, "");
    let binds = [
        "create",
        "clusterrolebinding",
        "reads-status",
        "--clusterrole=reads-status",
        REPLICA,
    ];
    server.must(&binds, "");
    server.must(&["create", "namespace", NAMESPACE], "");
    // Before the first map: a labelled child would have nothing to be compared with.
    let canary = child(Kind::ConfigMap, "canary", Some("1"));
    let replica = server.replica();
    until("the policies are in force", || replica.try_create(&canary).is_err());
    refused(&replica.try_create(&canary), NO_MAP);
}

/// The API server says by which schema it let a request in.
fn elections_pass_by_their_own_level(server: &Server) {
    let uid = server.must(
        &[
            "get",
            "flowschema",
            "database-operator-coordination",
            "-o",
            "jsonpath={.metadata.uid}",
        ],
        "",
    );
    let level = server.must(
        &[
            "get",
            "flowschema",
            "database-operator-coordination",
            "-o",
            "jsonpath={.status.conditions[0].status}",
        ],
        "",
    );
    // `Dangling` is false: the level exists.
    assert_eq!(level, "False");
    let replica = server.replica();
    let passes = |resource: &str| {
        let answer = replica.kubectl(&["get", resource, "-v=8"], "");
        let (Ok(said) | Err(said)) = answer;
        said.contains(&uid)
    };
    until("the schema is in force", || passes("leases"));
    assert!(passes("shardmaps"));
    assert!(!passes("databases"), "only what elections need");
    let other = server.somebody().kubectl(&["get", "leases", "-v=8"], "");
    assert!(!format!("{other:?}").contains(&uid), "only for the replicas");
}
