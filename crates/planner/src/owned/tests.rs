use super::{intruders as intruders_of, *};
use serde_json::json;

fn intruders(kind: Kind, object: &Value) -> Vec<String> {
    intruders_of(kind, &object.into())
}

fn live(spec: &Value, fields: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "orders-rw", "namespace": "shop", "uid": "u", "resourceVersion": "7",
            "labels": {"ours": "1", "theirs": "2"},
            "annotations": {FENCE_ANNOTATION: "12", "theirs": "x"},
            "managedFields": [
                {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": {"f:theirs": {}}}}},
                {"manager": FIELD_MANAGER, "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {}}},
                {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields},
            ],
        },
        "spec": spec,
    })
}

fn fields() -> Value {
    json!({
        "f:metadata": {"f:labels": {"f:ours": {}}, "f:annotations": {"f:intent.example.com/fence": {}}},
        "f:spec": {
            "f:selector": {},
            "f:ports": {"k:{\"port\":5432,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:protocol": {}, "f:name": {}}},
        },
    })
}

fn spec() -> Value {
    json!({
        "clusterIP": "10.96.0.7",
        "selector": {"role": "primary"},
        "ports": [{"name": "postgresql", "port": 5432, "protocol": "TCP", "targetPort": 5432}],
    })
}

fn body() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "orders-rw", "namespace": "shop", "labels": {"ours": "1"}, "annotations": {FENCE_ANNOTATION: "99"}},
        "spec": {
            "ports": [{"protocol": "TCP", "name": "postgresql", "port": 5432}],
            "selector": {"role": "primary"},
        },
    })
}

#[test]
fn what_the_server_defaults_and_others_add_is_not_drift() {
    assert_eq!(digest_of_live(&live(&spec(), &fields())), Some(digest_of_body(&body())));
}

#[test]
fn drift_is_seen() {
    let ours = Some(digest_of_body(&body()));
    let mut edited = spec();
    edited["ports"][0]["name"] = json!("other");
    let mut selector = spec();
    selector["selector"] = json!({"role": "primary", "more": "x"});
    let mut removed = spec();
    removed["ports"] = json!([]);
    for (case, spec) in [
        ("a value", edited),
        ("an atomic map", selector),
        ("a removed item", removed),
    ] {
        assert_ne!(digest_of_live(&live(&spec, &fields())), ours, "{case}");
    }
    let mut taken = fields();
    taken["f:spec"].as_object_mut().unwrap().remove("f:selector");
    assert_ne!(
        digest_of_live(&live(&spec(), &taken)),
        ours,
        "a field whose ownership another manager took"
    );
}

#[test]
fn an_object_that_we_never_applied_has_no_digest() {
    let mut object = live(&spec(), &fields());
    object["metadata"]["managedFields"].as_array_mut().unwrap().truncate(2);
    assert_eq!(digest_of_live(&object), None);
    assert_eq!(intruders(Kind::Service, &object), Vec::<String>::new());
}

#[test]
fn lists_of_scalars_keep_their_order_and_lists_of_objects_do_not() {
    let of = |value: Value| digest_of_value(&value);
    assert_ne!(of(json!({"command": ["a", "b"]})), of(json!({"command": ["b", "a"]})));
    assert_eq!(of(json!([{"a": 1}, {"b": 2}])), of(json!([{"b": 2}, {"a": 1}])));
    assert_ne!(
        of(json!([{"a": 1}])),
        of(json!([{"a": 1}, {"a": 1}])),
        "a repeated item counts"
    );
    assert_ne!(of(json!(["ab", "c"])), of(json!(["a", "bc"])), "strings are delimited");
}

#[test]
fn a_port_that_somebody_added_is_an_intruder() {
    let mut more = spec();
    more["ports"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "x", "port": 1, "protocol": "TCP"}));
    more["ports"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"name": "y", "port": 2, "protocol": "TCP"}));
    assert_eq!(
        intruders(Kind::Service, &live(&more, &fields())),
        ["/spec/ports/2", "/spec/ports/0"]
    );
    assert_eq!(
        intruders(Kind::Service, &live(&spec(), &fields())),
        Vec::<String>::new()
    );
}

#[test]
fn variables_added_to_our_container_are_intruders_and_a_sidecar_is_not() {
    let object = json!({
        "kind": "StatefulSet",
        "metadata": {"managedFields": [{"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {
            "f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"database\"}": {
                ".": {}, "f:name": {}, "f:env": {"k:{\"name\":\"INPUTS\"}": {".": {}, "f:name": {}, "f:value": {}}},
            }}}}},
        }}]},
        "spec": {"template": {"spec": {"containers": [
            {"name": "sidecar", "env": [{"name": "THEIRS", "value": "1"}]},
            {"name": "database", "env": [{"name": "INPUTS", "value": "1"}, {"name": "LD_PRELOAD", "value": "x"}],
             "envFrom": [{"configMapRef": {"name": "x"}}]},
        ]}}},
    });
    assert_eq!(
        intruders(Kind::StatefulSet, &object),
        [
            "/spec/template/spec/containers/1/env/1",
            "/spec/template/spec/containers/1/envFrom/0"
        ]
    );
}

#[test]
fn what_others_put_into_an_empty_map_of_ours_is_theirs() {
    let object = |size_limit: bool| {
        let mut object = json!({
            "metadata": {"managedFields": [
                {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:emptyDir": {}, "f:selector": {}}}},
                {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:selector": {}}}},
            ]},
            "spec": {"emptyDir": {}, "selector": {"a": "b"}},
        });
        if size_limit {
            object["spec"]["emptyDir"]["sizeLimit"] = json!("1Gi");
            object["metadata"]["managedFields"][1]["fieldsV1"]["f:spec"]["f:emptyDir"] = json!({"f:sizeLimit": {}});
        }
        object
    };
    let ours = Some(digest_of_body(
        &json!({"spec": {"emptyDir": {}, "selector": {"a": "b"}}}),
    ));
    assert_eq!(digest_of_live(&object(false)), ours);
    assert_eq!(digest_of_live(&object(true)), ours);
}

#[test]
fn only_the_fence_of_the_object_itself_is_left_out() {
    let of = |annotations: Value| digest_of_body(&json!({"metadata": {"name": "x", "annotations": annotations}}));
    let fence = |epoch: &str| json!({FENCE_ANNOTATION: epoch});
    let with_another = |epoch: &str| json!({FENCE_ANNOTATION: epoch, "a": "1"});
    assert_eq!(of(fence("1")), of(fence("2")));
    assert_eq!(of(with_another("1")), of(with_another("2")));
    assert_eq!(of(with_another("1")), of(json!({"a": "1"})));
    assert_ne!(of(with_another("1")), of(fence("1")));
    let bare = digest_of_body(&json!({"metadata": {}}));
    assert_eq!(of(fence("1")), bare, "nothing is left of the annotations");
    assert_eq!(of(json!({})), bare);
    let of_template = |epoch| digest_of_body(&json!({"spec": {"metadata": {"annotations": fence(epoch)}}}));
    assert_ne!(of_template("1"), of_template("2"));
}

#[test]
fn values_that_differ_have_digests_that_differ() {
    let all = [
        json!(null),
        json!(false),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(1.5),
        json!(""),
        json!("1"),
        json!("true"),
        json!([]),
        json!([[]]),
        json!([null]),
        json!(["a", "b"]),
        json!([["a"], "b"]),
        json!([["a", "b"]]),
        json!(["ab"]),
        json!({}),
        json!([{}]),
        json!([{}, {}]),
        json!([{}, "a"]),
        json!(["a", {}]),
        json!({"a": {}}),
        json!({"a": []}),
        json!({"a": null}),
        json!({"a": "1", "b": "2"}),
        json!({"a": "2", "b": "1"}),
        json!({"a": "b"}),
        json!({"b": "a"}),
        json!({"a": {"b": "c"}}),
        json!({"a": {"b": "c"}, "b": "c"}),
        json!([{"a": "1"}, {"b": "2"}]),
        json!([{"a": "1", "b": "2"}]),
        json!([{"a": "2"}, {"b": "1"}]),
    ];
    for (index, one) in all.iter().enumerate() {
        for other in &all[..index] {
            assert_ne!(digest_of_value(one), digest_of_value(other), "{one} and {other}");
        }
    }
}
