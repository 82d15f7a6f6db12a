//! What others may do to a child: the table of damages, made for the children that a Database really has.
//!
//! Values with `intruder` in them must be gone after the repair; values with `theirs` must stay.

use api::names;
use planner::child::Kind;
use planner::marks;
use planner::status::{FOREIGN_VOLUME, NAME_TAKEN};
use serde_json::{Value, json};

/// What is done.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Deleted.
    Delete,
    /// Deleted while a finalizer holds it, which goes a moment later.
    DeleteSlowly,
    /// JSON merge patch, as `kubectl edit` and `kubectl annotate` send it.
    Merge(Value),
    /// Server-side apply by force of these fields, as a GitOps tool sends it.
    Apply(Value),
    /// JSON patch.
    Json(Value),
    /// The whole object is replaced (PUT) by what these changes make of it.
    Replace(fn(&mut Value)),
}

/// What must follow.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// All that is ours is again as it was.
    Repaired,
    /// Nothing: it is theirs, and no request is sent.
    Left,
    /// It counts as somebody else's: a condition has this reason, and nothing is written until the deed is undone.
    Disputed(&'static str),
}

/// One damage.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    /// What it is, for people.
    pub what: String,
    /// To which child.
    pub child: (Kind, String),
    /// What is done.
    pub deed: Deed,
    /// What must follow.
    pub then: Then,
    /// What takes it back afterwards, so that it does not disturb the damages that follow.
    pub undo: Option<Deed>,
}

/// Labels that every applied child carries.
const LABELS: [&str; 7] = [
    names::NAME_LABEL,
    names::INSTANCE_LABEL,
    names::COMPONENT_LABEL,
    names::MANAGED_BY_LABEL,
    names::PART_OF_LABEL,
    names::DATABASE_LABEL,
    names::BUCKET_LABEL,
];

/// Whether a child is applied, and so repaired in every field, or created once and only kept findable.
pub(crate) fn is_applied(kind: Kind, name: &str) -> bool {
    match kind {
        Kind::ServiceAccount | Kind::Service | Kind::ConfigMap | Kind::StatefulSet => true,
        Kind::Secret => name.ends_with("-config-secret"),
        Kind::PersistentVolumeClaim | Kind::ControllerRevision | Kind::Pod => false,
    }
}

/// Collects the damages to one child.
struct Table<'a> {
    child: (Kind, String),
    object: &'a Value,
    all: Vec<Damage>,
}

impl Table<'_> {
    fn add(&mut self, what: &str, deed: Deed, then: Then, undo: Option<Deed>) {
        let what = format!("{} {}: {what}", self.child.0.name(), self.child.1);
        self.all.push(Damage {
            what,
            child: self.child.clone(),
            deed,
            then,
            undo,
        });
    }

    fn repaired(&mut self, what: &str, deed: Deed) {
        self.add(what, deed, Then::Repaired, None);
    }

    fn left(&mut self, what: &str, deed: Deed) {
        self.add(what, deed, Then::Left, None);
    }

    /// Something that changes what stands in the way of later damages, so it is taken back.
    fn left_for_now(&mut self, what: &str, deed: Deed, undo: Value) {
        self.add(what, deed, Then::Left, Some(Deed::Merge(undo)));
    }
}

/// Every damage to this child.
pub(crate) fn damages(kind: Kind, name: &str, object: &Value) -> Vec<Damage> {
    let mut table = Table {
        child: (kind, name.to_owned()),
        object,
        all: Vec::new(),
    };
    adorned(&mut table);
    if is_applied(kind, name) {
        applied(&mut table);
    }
    match kind {
        Kind::ServiceAccount => service_account(&mut table),
        Kind::Service => service(&mut table),
        Kind::ConfigMap => data(&mut table),
        Kind::Secret if is_applied(kind, name) => data(&mut table),
        Kind::Secret => created_secret(&mut table),
        Kind::PersistentVolumeClaim => claim(&mut table),
        Kind::ControllerRevision => revision(&mut table),
        Kind::StatefulSet => {
            super::workload::set(object, &mut |what, deed, then, undo| table.add(what, deed, then, undo));
        }
        Kind::Pod => {}
    }
    table.all
}

fn label(name: &str, value: impl Into<Value>) -> Value {
    json!({"metadata": {"labels": {name: value.into()}}})
}

/// What changes nothing of ours, on any child.
fn adorned(table: &mut Table) {
    table.left(
        "a label more, by hand",
        Deed::Merge(label("theirs.example.org/team", "theirs")),
    );
    table.left(
        "a label more, by apply",
        Deed::Apply(label("theirs.example.org/gitops", "theirs")),
    );
    table.left(
        "an annotation more, by hand",
        Deed::Merge(json!({"metadata": {"annotations": {"theirs.example.org/note": "theirs"}}})),
    );
    table.left(
        "an annotation more, by apply",
        Deed::Apply(json!({"metadata": {"annotations": {"theirs.example.org/sync": "theirs"}}})),
    );
    table.left_for_now(
        "a finalizer",
        Deed::Merge(json!({"metadata": {"finalizers": ["example.org/theirs"]}})),
        json!({"metadata": {"finalizers": null}}),
    );
    table.left("replaced by itself", Deed::Replace(|_| {}));
}

/// What is repaired on every child that is applied.
fn applied(table: &mut Table) {
    for name in LABELS {
        table.repaired(
            &format!("without the label {name}"),
            Deed::Merge(label(name, Value::Null)),
        );
        table.repaired(
            &format!("another {name}, by apply"),
            Deed::Apply(label(name, "intruder")),
        );
        let same = table.object["metadata"]["labels"][name].clone();
        table.left(&format!("the same {name}, by apply"), Deed::Apply(label(name, same)));
    }
    table.repaired(
        "without any label",
        Deed::Json(json!([{"op": "remove", "path": "/metadata/labels"}])),
    );
    table.repaired(
        "replaced, without labels",
        Deed::Replace(|object| object["metadata"]["labels"] = json!({"theirs.example.org/new": "theirs"})),
    );
    table.repaired(
        "managed fields wiped",
        Deed::Merge(json!({"metadata": {"managedFields": [{}]}})),
    );
    table.left(
        "without the fence",
        Deed::Merge(json!({"metadata": {"annotations": {names::FENCE_ANNOTATION: null}}})),
    );
    let owners = table.object["metadata"]["ownerReferences"].clone();
    let put_back = Some(Deed::Merge(json!({"metadata": {"ownerReferences": owners}})));
    table.add(
        "without owner",
        Deed::Merge(json!({"metadata": {"ownerReferences": null}})),
        Then::Disputed(NAME_TAKEN),
        put_back.clone(),
    );
    let mut not_controlled = owners;
    not_controlled[0]["controller"] = json!(false);
    table.add(
        "owned, but not controlled",
        Deed::Merge(json!({"metadata": {"ownerReferences": not_controlled}})),
        Then::Disputed(NAME_TAKEN),
        put_back,
    );
    table.repaired("deleted", Deed::Delete);
    table.repaired("deleted slowly", Deed::DeleteSlowly);
}

fn service_account(table: &mut Table) {
    let automount = |value: Value| json!({"automountServiceAccountToken": value});
    table.repaired("a token mounted, by hand", Deed::Merge(automount(json!(true))));
    table.repaired("a token mounted, by apply", Deed::Apply(automount(json!(true))));
    table.repaired("no word on tokens", Deed::Merge(automount(Value::Null)));
    table.left(
        "the same word on tokens, by apply",
        Deed::Apply(automount(json!(false))),
    );
    table.repaired(
        "replaced, with a token",
        Deed::Replace(|object| object["automountServiceAccountToken"] = json!(true)),
    );
    table.left(
        "a pull secret",
        Deed::Apply(json!({"imagePullSecrets": [{"name": "theirs"}]})),
    );
    table.left("a secret", Deed::Merge(json!({"secrets": [{"name": "theirs"}]})));
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn service(table: &mut Table) {
    let spec = &table.object["spec"];
    let headless = spec["clusterIP"] == "None";
    let port = spec["ports"][0].clone();
    let number = port["port"].clone();
    let changed = |field: &str, value: Value| {
        let mut port = port.clone();
        port[field] = value;
        json!({"spec": {"ports": [port]}})
    };
    if headless {
        table.repaired(
            "only ready addresses",
            Deed::Merge(json!({"spec": {"publishNotReadyAddresses": false}})),
        );
        table.repaired(
            "no word on addresses",
            Deed::Merge(json!({"spec": {"publishNotReadyAddresses": null}})),
        );
    } else {
        table.repaired("of type NodePort", Deed::Merge(json!({"spec": {"type": "NodePort"}})));
        table.repaired(
            "of type LoadBalancer, by apply",
            Deed::Apply(json!({"spec": {"type": "LoadBalancer"}})),
        );
        table.left_for_now(
            "traffic stays on the node",
            Deed::Merge(json!({"spec": {"internalTrafficPolicy": "Local"}})),
            json!({"spec": {"internalTrafficPolicy": "Cluster"}}),
        );
        table.left_for_now(
            "an external address",
            Deed::Merge(json!({"spec": {"externalIPs": ["192.0.2.7"]}})),
            json!({"spec": {"externalIPs": null}}),
        );
    }
    table.left_for_now(
        "clients stick to a member",
        Deed::Merge(json!({"spec": {"sessionAffinity": "ClientIP"}})),
        json!({"spec": {"sessionAffinity": "None", "sessionAffinityConfig": null}}),
    );
    let selector = |value: Value| json!({"spec": {"selector": value}});
    table.repaired(
        "another database selected",
        Deed::Merge(selector(json!({names::DATABASE_LABEL: "intruder"}))),
    );
    table.repaired(
        "a selector key less",
        Deed::Merge(selector(json!({names::DATABASE_LABEL: null}))),
    );
    table.repaired(
        "a selector key more",
        Deed::Merge(selector(json!({"intruder": "intruder"}))),
    );
    table.repaired(
        "another selector, by apply",
        Deed::Apply(selector(json!({"app": "intruder"}))),
    );
    table.repaired("no selector", Deed::Merge(selector(Value::Null)));
    let more = json!({"name": "intruder", "port": 9999, "protocol": "TCP", "targetPort": 9999});
    table.repaired(
        "a port more, by hand",
        Deed::Json(json!([{"op": "add", "path": "/spec/ports/-", "value": more}])),
    );
    table.repaired(
        "a port more, in front",
        Deed::Json(json!([{"op": "add", "path": "/spec/ports/0", "value": more}])),
    );
    table.repaired("a port more, by apply", Deed::Apply(json!({"spec": {"ports": [more]}})));
    table.repaired("another target port", Deed::Merge(changed("targetPort", json!(1))));
    table.repaired(
        "another target port, by apply",
        Deed::Apply(changed("targetPort", json!(1))),
    );
    table.repaired(
        "a named target port",
        Deed::Merge(changed("targetPort", json!("intruder"))),
    );
    table.repaired("a port renamed", Deed::Merge(changed("name", json!("intruder"))));
    table.repaired(
        "a port with another number and the same name",
        Deed::Merge(changed("port", json!(9999))),
    );
    table.repaired(
        "a port with another protocol",
        Deed::Merge(changed("protocol", json!("UDP"))),
    );
    table.repaired(
        "another port in its place",
        Deed::Merge(json!({"spec": {"ports": [more]}})),
    );
    table.left(
        "the same port, by apply",
        Deed::Apply(json!({"spec": {"ports": [{"name": port["name"], "port": number, "protocol": "TCP"}]}})),
    );
    table.repaired(
        "replaced, with another selector and port",
        Deed::Replace(|object| {
            object["spec"]["selector"] = json!({"app": "intruder"});
            object["spec"]["ports"] = json!([{"name": "intruder", "port": 9998}]);
        }),
    );
}

/// A ConfigMap or Secret whose data is ours.
fn data(table: &mut Table) {
    // "intruder" in base64, where that is how values are written.
    let (other, theirs) = if table.child.0 == Kind::Secret {
        ("aW50cnVkZXI=", "dGhlaXJz")
    } else {
        ("intruder", "theirs")
    };
    let keys: Vec<String> = table.object["data"]
        .as_object()
        .expect("data")
        .keys()
        .cloned()
        .collect();
    for key in keys {
        table.repaired(
            &format!("{key} changed by hand"),
            Deed::Merge(json!({"data": {&key: other}})),
        );
        table.repaired(
            &format!("{key} changed by apply"),
            Deed::Apply(json!({"data": {&key: other}})),
        );
        table.repaired(&format!("{key} removed"), Deed::Merge(json!({"data": {&key: null}})));
        let same = table.object["data"][&key].clone();
        table.left(
            &format!("{key} the same, by apply"),
            Deed::Apply(json!({"data": {&key: same}})),
        );
    }
    table.repaired("without data", Deed::Json(json!([{"op": "remove", "path": "/data"}])));
    table.left(
        "a key more, by hand",
        Deed::Merge(json!({"data": {"theirs.conf": theirs}})),
    );
    table.left(
        "a key more, by apply",
        Deed::Apply(json!({"data": {"theirs.gitops": theirs}})),
    );
    if table.child.0 == Kind::ConfigMap {
        table.left(
            "a binary key",
            Deed::Merge(json!({"binaryData": {"theirs.bin": "dGhlaXJz"}})),
        );
    }
    table.repaired(
        "replaced, with other data",
        Deed::Replace(|object| object["data"] = json!({"theirs.new": "dGhlaXJz"})),
    );
}

/// A Secret that is created once: its labels are kept, its data is nobody's to repair.
fn created_secret(table: &mut Table) {
    if table.child.1.ends_with("-app") {
        for name in [names::BUCKET_LABEL, names::DATABASE_LABEL, names::MANAGED_BY_LABEL] {
            table.repaired(
                &format!("without the label {name}"),
                Deed::Merge(label(name, Value::Null)),
            );
            table.repaired(
                &format!("another {name}, by apply"),
                Deed::Apply(label(name, "intruder")),
            );
        }
        table.repaired("deleted", Deed::Delete);
        table.repaired("deleted slowly", Deed::DeleteSlowly);
    } else {
        let name = names::BUCKET_LABEL;
        table.repaired(
            &format!("without the label {name}"),
            Deed::Merge(label(name, Value::Null)),
        );
        table.repaired(
            &format!("another {name}, by apply"),
            Deed::Apply(label(name, "intruder")),
        );
        // By these alone it is known as ours, since it has no owner.
        for name in [
            names::MANAGED_BY_LABEL,
            names::DATABASE_LABEL,
            marks::ENGINE_LABEL,
            marks::LINEAGE_LABEL,
        ] {
            let undo = label(name, table.object["metadata"]["labels"][name].clone());
            table.add(
                &format!("without the label {name}"),
                Deed::Merge(label(name, Value::Null)),
                Then::Disputed(NAME_TAKEN),
                Some(Deed::Merge(undo)),
            );
        }
    }
}

fn claim(table: &mut Table) {
    for name in [
        names::BUCKET_LABEL,
        names::DATABASE_LABEL,
        names::MANAGED_BY_LABEL,
        marks::GENERATION_LABEL,
    ] {
        table.repaired(
            &format!("without the label {name}"),
            Deed::Merge(label(name, Value::Null)),
        );
        table.repaired(
            &format!("another {name}, by apply"),
            Deed::Apply(label(name, "intruder")),
        );
    }
    for name in [marks::ENGINE_LABEL, marks::MAJOR_LABEL, marks::LINEAGE_LABEL] {
        let undo = label(name, table.object["metadata"]["labels"][name].clone());
        table.add(
            &format!("another {name}"),
            Deed::Merge(label(name, "theirs")),
            Then::Disputed(FOREIGN_VOLUME),
            Some(Deed::Merge(undo)),
        );
    }
    table.repaired("deleted, empty as it is", Deed::Delete);
}

fn revision(table: &mut Table) {
    let name = names::BUCKET_LABEL;
    table.repaired(
        &format!("without the label {name}"),
        Deed::Merge(label(name, Value::Null)),
    );
    table.repaired(
        &format!("another {name}, by apply"),
        Deed::Apply(label(name, "intruder")),
    );
    table.repaired("deleted", Deed::Delete);
    table.repaired("deleted slowly", Deed::DeleteSlowly);
}
