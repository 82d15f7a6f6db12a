//! What is printed: whom and what it judges.

use std::path::Path;

use super::*;

#[test]
fn the_committed_definition_of_maps_is_the_generated_one() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../charts/database-operator/crds/shardmaps.intent.example.com.yaml");
    expect_test::expect_file![file].assert_eq(&map_crd_yaml());
}

#[test]
fn the_map_is_of_the_group_of_databases() {
    assert_eq!(
        (sharding::crd::GROUP, sharding::crd::API_VERSION),
        (GROUP, api::names::API_VERSION)
    );
}

/// Every policy of what is printed, and its binding.
fn policies() -> Vec<Value> {
    let mut objects = objects(&Subject::default());
    objects.retain(|object| object["kind"] == "ValidatingAdmissionPolicy");
    assert_eq!(objects.len(), 5);
    objects
}

#[test]
fn no_policy_looks_at_what_does_not_bear_our_label_or_is_written_by_somebody_else() {
    for policy in policies() {
        let constraints = &policy["spec"]["matchConstraints"];
        assert_eq!(
            constraints["objectSelector"]["matchExpressions"],
            json!([{"key": "intent.example.com/bucket", "operator": "Exists"}]),
            "{policy}"
        );
        assert_eq!(
            policy["spec"]["matchConditions"][0]["expression"],
            r#"request.userInfo.username == "system:serviceaccount:database-operator:database-operator""#
        );
    }
}

/// `operation group/resource` of all rules.
fn judged(policies: &[Value]) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut all = Vec::new();
    for policy in policies {
        for rule in list(&policy["spec"]["matchConstraints"]["resourceRules"]) {
            for resource in list(&rule["resources"]) {
                let (operation, group) = (&rule["operations"][0], &rule["apiGroups"][0]);
                all.push(format!("{operation} {group}/{resource}").replace('"', ""));
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

#[test]
fn every_write_that_the_permissions_allow_is_judged_or_left_out_on_purpose() {
    let left_out = [
        // Not ours to fence: words, not deeds.
        "CREATE events.k8s.io/events",
        "UPDATE events.k8s.io/events",
        // Asked for by admission; never written.
        "UPDATE intent.example.com/databases/finalizers",
        // What the fence goes by; written by compare-and-swap only.
        "CREATE coordination.k8s.io/leases",
        "UPDATE coordination.k8s.io/leases",
        "DELETE coordination.k8s.io/leases",
        "CREATE intent.example.com/shardmaps",
        "UPDATE intent.example.com/shardmaps",
        // What the leader found out; nobody obeys it.
        "UPDATE intent.example.com/shardmaps/status",
        // The authority of certificates, which is no Database's and which any replica may write.
        "UPDATE admissionregistration.k8s.io/validatingwebhookconfigurations",
        // Questions, which write nothing.
        "CREATE authentication.k8s.io/tokenreviews",
        "CREATE authorization.k8s.io/subjectaccessreviews",
        // Not made yet.
        "CREATE policy/poddisruptionbudgets",
        "UPDATE policy/poddisruptionbudgets",
        "DELETE policy/poddisruptionbudgets",
    ];
    let judged = judged(&policies());
    let mut missing = Vec::new();
    for rule in crate::rbac::RULES {
        for verb in rule.verbs {
            let operation = match *verb {
                "create" => "CREATE",
                "patch" | "update" => "UPDATE",
                "delete" => "DELETE",
                _ => continue,
            };
            let writes = rule.resources.iter();
            let writes = writes.map(|resource| format!("{operation} {}/{resource}", rule.group));
            missing.extend(writes.filter(|write| !judged.contains(write)));
        }
    }
    missing.sort();
    let mut left_out = left_out.map(str::to_owned).to_vec();
    left_out.sort();
    assert_eq!(missing, left_out);
}

#[test]
fn a_strange_name_of_a_user_stays_one_text() {
    let policy = object_policy().definition("a'b\"c\\d\n");
    let expression = &policy["spec"]["matchConditions"][0]["expression"];
    assert_eq!(expression, r#"request.userInfo.username == "a'b\"c\\d\n""#);
}

#[test]
fn only_creation_is_refused_for_want_of_a_map() {
    let actions: Vec<_> = objects(&Subject::default())
        .iter()
        .filter_map(|object| {
            object["spec"]["paramRef"]["parameterNotFoundAction"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(actions, ["Deny", "Allow", "Allow", "Allow"]);
}
