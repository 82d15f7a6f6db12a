//! Damages to what runs the pods.

use api::names;
use planner::marks;
use serde_json::{Value, json};

use super::damages::{Deed, Then};

/// Takes one damage: what it is, what is done, what must follow, and how it is taken back.
pub(crate) type Add<'a> = &'a mut dyn FnMut(&str, Deed, Then, Option<Deed>);

/// Where the two containers stand.
const CONTAINERS: [(&str, &str); 2] = [
    ("the database", "/spec/template/spec/containers/0"),
    ("the initialisation", "/spec/template/spec/initContainers/0"),
];

fn spec(value: impl Into<Value>) -> Value {
    let value = value.into();
    json!({"spec": value})
}

fn pod(value: impl Into<Value>) -> Value {
    let value = value.into();
    json!({"spec": {"template": {"spec": value}}})
}

fn template(value: impl Into<Value>) -> Value {
    let value = value.into();
    json!({"spec": {"template": {"metadata": value}}})
}

/// Every damage that is particular to a StatefulSet.
pub(crate) fn set(object: &Value, add: Add) {
    of_the_set(add);
    of_the_pod(object, add);
    for (what, pointer) in CONTAINERS {
        let container = object.pointer(pointer).expect("the container");
        of_a_container(what, pointer, container, add);
    }
    beside_ours(add);
}

fn of_the_set(add: Add) {
    let mut repaired = |what: &str, deed| add(what, deed, Then::Repaired, None);
    repaired(
        "pods are rolled by its controller",
        Deed::Merge(spec(json!({"updateStrategy": {"type": "RollingUpdate"}}))),
    );
    repaired(
        "pods are rolled from a number on, by apply",
        Deed::Apply(spec(
            json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}),
        )),
    );
    repaired(
        "volumes go with it",
        Deed::Merge(spec(
            json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}),
        )),
    );
    repaired(
        "volumes go when it shrinks, by apply",
        Deed::Apply(spec(
            json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}),
        )),
    );
    repaired("more history", Deed::Merge(spec(json!({"revisionHistoryLimit": 9}))));
    repaired(
        "no word on history",
        Deed::Merge(spec(json!({"revisionHistoryLimit": null}))),
    );
    repaired(
        "replaced, with pods that are rolled",
        Deed::Replace(|object| {
            object["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"});
            object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(1);
        }),
    );
    let back = Some(Deed::Merge(spec(json!({"minReadySeconds": null}))));
    add(
        "a wait between pods",
        Deed::Merge(spec(json!({"minReadySeconds": 7}))),
        Then::Left,
        back,
    );
}

fn of_the_pod(object: &Value, add: Add) {
    let mut repaired = |what: &str, deed| add(what, deed, Then::Repaired, None);
    for name in [names::INPUTS_ANNOTATION, marks::CREDENTIALS_ANNOTATION] {
        repaired(
            &format!("the pods' {name} changed"),
            Deed::Merge(template(json!({"annotations": {name: "9"}}))),
        );
        repaired(
            &format!("the pods' {name} removed"),
            Deed::Merge(template(json!({"annotations": {name: null}}))),
        );
    }
    for name in [names::BUCKET_LABEL, names::INSTANCE_LABEL] {
        repaired(
            &format!("the pods' {name} changed"),
            Deed::Merge(template(json!({"labels": {name: "intruder"}}))),
        );
        repaired(
            &format!("the pods' {name} removed"),
            Deed::Merge(template(json!({"labels": {name: null}}))),
        );
    }
    repaired(
        "another account",
        Deed::Merge(pod(json!({"serviceAccountName": "intruder"}))),
    );
    repaired(
        "another account, by apply",
        Deed::Apply(pod(json!({"serviceAccountName": "intruder"}))),
    );
    repaired(
        "a token mounted",
        Deed::Merge(pod(json!({"automountServiceAccountToken": true}))),
    );
    repaired(
        "links to Services",
        Deed::Merge(pod(json!({"enableServiceLinks": true}))),
    );
    repaired(
        "less time to stop",
        Deed::Merge(pod(json!({"terminationGracePeriodSeconds": 1}))),
    );
    repaired(
        "as root",
        Deed::Merge(pod(json!({"securityContext": {"runAsUser": 0, "runAsNonRoot": false}}))),
    );
    repaired(
        "another group, by apply",
        Deed::Apply(pod(json!({"securityContext": {"fsGroup": 7}}))),
    );
    repaired(
        "no security context",
        Deed::Merge(pod(json!({"securityContext": null}))),
    );
    let volumes = object
        .pointer("/spec/template/spec/volumes")
        .and_then(Value::as_array)
        .expect("volumes");
    for (index, volume) in volumes.iter().enumerate() {
        let name = volume["name"].as_str().expect("a name");
        let path = |rest: &str| format!("/spec/template/spec/volumes/{index}{rest}");
        let change = match name {
            "config" => json!([{"op": "replace", "path": path("/configMap/name"), "value": "intruder"}]),
            "admin" | "config-secret" => {
                json!([{"op": "replace", "path": path("/secret/secretName"), "value": "intruder"}])
            }
            "run" => json!([{"op": "replace", "path": path("/emptyDir/sizeLimit"), "value": "1Ki"}]),
            _ => json!([]),
        };
        // A medium that is added to an empty `emptyDir` is beside ours.
        if name != "tmp" {
            repaired(&format!("another volume {name}"), Deed::Json(change));
            let source = if name == "run" {
                json!({"hostPath": {"path": "/intruder"}})
            } else {
                json!({"emptyDir": {}})
            };
            let mut other = json!({"name": name});
            other
                .as_object_mut()
                .expect("an object")
                .extend(source.as_object().expect("a source").clone());
            let other = json!([{"op": "replace", "path": path(""), "value": other}]);
            repaired(&format!("another kind of volume {name}"), Deed::Json(other));
        }
    }
}

fn of_a_container(what: &str, pointer: &str, container: &Value, add: Add) {
    let mut repaired = |how: &str, deed| add(&format!("{what}: {how}"), deed, Then::Repaired, None);
    let replace = |field: &str, value: Value| {
        Deed::Json(json!([{"op": "add", "path": format!("{pointer}/{field}"), "value": value}]))
    };
    let remove = |field: &str| Deed::Json(json!([{"op": "remove", "path": format!("{pointer}/{field}")}]));
    let list = if pointer.contains("init") {
        "initContainers"
    } else {
        "containers"
    };
    let name = container["name"].clone();
    let apply = |fields: Value| {
        let mut fields = fields;
        fields["name"] = name.clone();
        // Required of whoever applies a container.
        Deed::Apply(pod(json!({list: [fields]})))
    };
    repaired("another image", replace("image", json!("intruder")));
    repaired("another image, by apply", apply(json!({"image": "intruder"})));
    repaired("another pull policy", replace("imagePullPolicy", json!("Always")));
    repaired("another command", replace("command", json!(["intruder"])));
    repaired(
        "another termination message",
        replace("terminationMessagePolicy", json!("File")),
    );
    repaired(
        "privileges",
        replace("securityContext/allowPrivilegeEscalation", json!(true)),
    );
    repaired(
        "a writable root",
        replace("securityContext/readOnlyRootFilesystem", json!(false)),
    );
    repaired("capabilities", replace("securityContext/capabilities/drop", json!([])));
    repaired("no security context", remove("securityContext"));
    let variable = json!({"name": "INTRUDER", "value": "intruder"});
    repaired("a variable more", replace("env/-", variable.clone()));
    repaired("a variable more, in front", replace("env/0", variable.clone()));
    repaired("a variable more, by apply", apply(json!({"env": [variable]})));
    repaired(
        "a variable from elsewhere",
        Deed::Json(json!([
            {"op": "replace", "path": format!("{pointer}/env/0"), "value": {"name": "INPUTS", "value": "intruder"}},
        ])),
    );
    repaired(
        "another value of a variable",
        replace("env/0", json!({"name": "INPUTS", "value": "intruder"})),
    );
    repaired("no variables", remove("env"));
    repaired(
        "variables from elsewhere",
        replace("envFrom", json!([{"configMapRef": {"name": "intruder"}}])),
    );
    let mount = json!({"name": "tmp", "mountPath": "/intruder"});
    repaired("a mount more", replace("volumeMounts/-", mount.clone()));
    repaired("a mount more, by apply", apply(json!({"volumeMounts": [mount]})));
    repaired(
        "a mount elsewhere",
        replace("volumeMounts/1/mountPath", json!("/intruder")),
    );
    repaired("a mount less", remove("volumeMounts/4"));
    repaired(
        "a mount that can be written",
        replace("volumeMounts/1/readOnly", json!(false)),
    );
    if list == "containers" {
        repaired(
            "a port more",
            replace(
                "ports/-",
                json!({"name": "intruder", "containerPort": 9, "protocol": "TCP"}),
            ),
        );
        repaired("another port", replace("ports/0/containerPort", json!(9)));
        repaired("no ports", remove("ports"));
        repaired("no readiness probe", remove("readinessProbe"));
        let asks = json!({"httpGet": {"path": "/intruder", "port": 9}});
        repaired("another readiness probe", replace("readinessProbe", asks.clone()));
        repaired(
            "another readiness probe, by hand",
            Deed::Replace(|object| {
                object["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] =
                    json!({"tcpSocket": {"port": 9}});
            }),
        );
        repaired(
            "an impatient readiness probe",
            replace("readinessProbe/timeoutSeconds", json!(77)),
        );
        if container.get("livenessProbe").is_some() {
            repaired("no liveness probe", remove("livenessProbe"));
        }
    }
    let same = container["image"].clone();
    add(
        &format!("{what}: the same image, by apply"),
        apply(json!({"image": same})),
        Then::Left,
        None,
    );
}

/// What others may add, and what stays.
fn beside_ours(add: Add) {
    let mut left = |what: &str, deed| add(what, deed, Then::Left, None);
    let sidecar =
        json!({"name": "theirs-mesh", "image": "theirs/mesh:1", "env": [{"name": "THEIRS", "value": "theirs"}]});
    left(
        "a sidecar, by apply",
        Deed::Apply(pod(json!({"containers": [sidecar]}))),
    );
    let second = json!({"name": "theirs-logs", "image": "theirs/logs:1"});
    left(
        "a sidecar, by hand",
        Deed::Json(json!([{"op": "add", "path": "/spec/template/spec/containers/-", "value": second}])),
    );
    let init = json!({"name": "theirs-init", "image": "theirs/init:1"});
    left(
        "an initialisation, by apply",
        Deed::Apply(pod(json!({"initContainers": [init]}))),
    );
    left(
        "a volume, by apply",
        Deed::Apply(pod(json!({"volumes": [{"name": "theirs", "emptyDir": {}}]}))),
    );
    left(
        "a node selector",
        Deed::Merge(pod(json!({"nodeSelector": {"theirs": "theirs"}}))),
    );
    left(
        "a toleration",
        Deed::Merge(pod(json!({"tolerations": [{"key": "theirs", "operator": "Exists"}]}))),
    );
    left(
        "a host alias",
        Deed::Apply(pod(
            json!({"hostAliases": [{"ip": "192.0.2.9", "hostnames": ["theirs"]}]}),
        )),
    );
    left(
        "a pull secret",
        Deed::Apply(pod(json!({"imagePullSecrets": [{"name": "theirs"}]}))),
    );
    left(
        "an annotation of the pods",
        Deed::Merge(template(json!({"annotations": {"theirs.example.org/a": "theirs"}}))),
    );
    left(
        "a label of the pods",
        Deed::Apply(template(json!({"labels": {"theirs.example.org/b": "theirs"}}))),
    );
    left(
        "an empty volume in memory",
        Deed::Apply(pod(
            json!({"volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}]}),
        )),
    );
}
