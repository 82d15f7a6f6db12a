//! What others may do to the children of a Database, by hand or with controllers of their own.

use api::names;
use planner::bodies::GENERATION;
use planner::child::{ChildRef, Kind};
use planner::marks;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::cluster::{Cluster, OUTSIDE, SLOW};
use super::fields::{SEPARATOR, flatten};

/// One thing that somebody else did. `usize` chooses among what there is.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    /// Deletes an object; with `slowly` it has a finalizer that goes later.
    Delete { which: usize, slowly: bool },
    /// Changes a value, by a manager that updates or one that applies by force.
    Edit { which: usize, field: usize, applies: bool },
    /// Takes a field over without changing its value.
    Share { which: usize, field: usize },
    /// Removes a field.
    Remove { which: usize, field: usize },
    /// Adds to a list in which an item more changes the meaning of ours.
    Intrude { list: usize, applies: bool },
    /// Adds what changes nothing of ours.
    Adorn { which: usize, how: usize, applies: bool },
    /// Removes labels: only the bucket's, or all.
    Unlabel { which: usize, all: bool },
    /// Writes another value into a label of ours.
    Relabel { which: usize, label: usize },
    /// Makes an object another controller's, or nobody's.
    Disown { which: usize, nobody: bool },
    /// Puts an object of somebody else in the place of ours.
    Replace { which: usize, labelled: bool },
    /// An object that nobody needs, which looks like ours.
    Extra { how: usize },
    /// Accepted specs, more than are kept.
    Revisions { count: usize },
    /// A pod with older inputs, without role, or with older credentials.
    Pod { how: usize },
}

const KINDS: [Kind; 7] = [
    Kind::ServiceAccount,
    Kind::Service,
    Kind::Secret,
    Kind::ConfigMap,
    Kind::PersistentVolumeClaim,
    Kind::StatefulSet,
    Kind::ControllerRevision,
];

pub(crate) fn damages() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec(damage(), 0..=3)
}

fn damage() -> impl Strategy<Value = Damage> {
    let n = || 0..1000_usize;
    prop_oneof![
        3 => (n(), any::<bool>()).prop_map(|(which, slowly)| Damage::Delete { which, slowly }),
        4 => (n(), n(), any::<bool>()).prop_map(|(which, field, applies)| Damage::Edit { which, field, applies }),
        2 => (n(), n()).prop_map(|(which, field)| Damage::Share { which, field }),
        3 => (n(), n()).prop_map(|(which, field)| Damage::Remove { which, field }),
        3 => (n(), any::<bool>()).prop_map(|(list, applies)| Damage::Intrude { list, applies }),
        2 => (n(), n(), any::<bool>()).prop_map(|(which, how, applies)| Damage::Adorn { which, how, applies }),
        2 => (n(), any::<bool>()).prop_map(|(which, all)| Damage::Unlabel { which, all }),
        2 => (n(), n()).prop_map(|(which, label)| Damage::Relabel { which, label }),
        1 => (n(), any::<bool>()).prop_map(|(which, nobody)| Damage::Disown { which, nobody }),
        1 => (n(), any::<bool>()).prop_map(|(which, labelled)| Damage::Replace { which, labelled }),
        1 => n().prop_map(|how| Damage::Extra { how }),
        1 => (0..15_usize).prop_map(|count| Damage::Revisions { count }),
        2 => n().prop_map(|how| Damage::Pod { how }),
    ]
}

/// What somebody leaves behind before the Database is declared.
#[derive(Clone, Debug)]
pub(crate) struct Leftover {
    pub(crate) volume: bool,
    pub(crate) secret: bool,
    pub(crate) engine: &'static str,
    pub(crate) major: &'static str,
    pub(crate) volume_lineage: &'static str,
    pub(crate) secret_lineage: &'static str,
}

pub(crate) fn leftover() -> impl Strategy<Value = Leftover> {
    (
        any::<(bool, bool)>(),
        prop::sample::select(&["postgresql", "redis"][..]),
        prop::sample::select(&["15", "7", "14"][..]),
        prop::sample::select(&["database-0", "database-9"][..]),
        prop::sample::select(&["database-0", "database-9"][..]),
    )
        .prop_map(
            |((volume, secret), engine, major, volume_lineage, secret_lineage)| Leftover {
                volume,
                secret,
                engine,
                major,
                volume_lineage,
                secret_lineage,
            },
        )
}

const KUBECTL: &str = "kubectl-edit";
const GITOPS: &str = "gitops";

impl Cluster {
    /// Puts a leftover in its place.
    pub(crate) fn leave_behind(&mut self, leftover: &Leftover) {
        let name = self.subject.name.clone();
        let labels = |lineage: &str| {
            json!({
                names::MANAGED_BY_LABEL: names::FIELD_MANAGER, names::DATABASE_LABEL: name,
                names::BUCKET_LABEL: self.subject.bucket.to_string(), marks::ENGINE_LABEL: leftover.engine,
                marks::MAJOR_LABEL: leftover.major, marks::LINEAGE_LABEL: lineage,
                marks::GENERATION_LABEL: "1",
            })
        };
        let claim = ChildRef::new(Kind::PersistentVolumeClaim, names::claim(&name, GENERATION, 0));
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"labels": labels(leftover.volume_lineage)},
            "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
                "resources": {"requests": {"storage": "5Gi"}}},
        });
        let admin = ChildRef::new(Kind::Secret, names::secret_admin(&name));
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"labels": labels(leftover.secret_lineage), "annotations": {marks::CREDENTIALS_ANNOTATION: "1"}},
            "data": {"password": "b2xk", "salt": "b2xk", "lineage": super::declared::encoded(leftover.secret_lineage)},
        });
        if leftover.volume {
            self.server
                .create(&claim, &volume, names::FIELD_MANAGER)
                .expect("nothing is there yet");
            let uid = self.server.get(&claim).expect("it was made")["metadata"]["uid"]
                .as_str()
                .expect("it has one");
            let data = super::cluster::Data {
                engine: leftover.engine.to_owned(),
                major: leftover.major.to_owned(),
                lineage: leftover.volume_lineage.to_owned(),
                password: "old".to_owned(),
            };
            self.data.insert(uid.to_owned(), data);
        }
        if leftover.secret {
            self.server
                .create(&admin, &secret, names::FIELD_MANAGER)
                .expect("nothing is there yet");
        }
    }

    /// All objects that are not the Database's, as they are now.
    pub(crate) fn others(&self) -> Vec<(ChildRef, Value)> {
        let theirs = |child: &ChildRef, object: &Value| {
            let owners = object["metadata"]["ownerReferences"]
                .as_array()
                .map_or(&[][..], Vec::as_slice);
            let controller = owners.iter().find(|owner| owner["controller"] == true);
            let label = |name: &str| object["metadata"]["labels"][name].as_str();
            let lasting = [
                ChildRef::new(Kind::Secret, names::secret_admin(&self.subject.name)),
                ChildRef::new(
                    Kind::PersistentVolumeClaim,
                    names::claim(&self.subject.name, GENERATION, 0),
                ),
            ];
            match controller {
                Some(owner) => owner["uid"] != self.subject.uid && child.kind != Kind::Pod,
                None if lasting.contains(child) => {
                    !self.is_of_our_data(object)
                        && (label(names::MANAGED_BY_LABEL) != Some(names::FIELD_MANAGER)
                            || label(names::DATABASE_LABEL) != Some(self.subject.name.as_str()))
                }
                None => true,
            }
        };
        self.server
            .list()
            .filter(|(child, object)| theirs(child, object) && !super::cluster::is_deleting(object))
            .map(|(child, object)| (child.clone(), object.clone()))
            .collect()
    }

    /// They are as they were, but for what their own controllers write.
    pub(crate) fn assert_untouched(&self, others: &[(ChildRef, Value)]) {
        let own = |object: &Value| {
            let mut object = object.clone();
            object.as_object_mut().expect("it is one").remove("status");
            let metadata = object["metadata"].as_object_mut().expect("an object has metadata");
            for field in ["resourceVersion", "finalizers"] {
                metadata.remove(field);
            }
            object
        };
        for (child, before) in others {
            assert_eq!(
                self.server.get(child).map(own),
                Some(own(before)),
                "{child} is not ours"
            );
        }
    }

    fn pick(&self, which: usize) -> Option<ChildRef> {
        let all: Vec<&ChildRef> = self
            .server
            .list()
            .map(|(child, _)| child)
            .filter(|child| KINDS.contains(&child.kind))
            .collect();
        (!all.is_empty()).then(|| all[which % all.len()].clone())
    }

    /// Does it, as far as the API server lets it happen.
    pub(crate) fn suffer(&mut self, damage: &Damage) {
        match *damage {
            Damage::Delete { which, slowly } => {
                let Some(child) = self.pick(which) else { return };
                if slowly {
                    self.edit(&child, |object| {
                        let mut list = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
                        list.push(json!(SLOW));
                        object["metadata"]["finalizers"] = json!(list);
                    });
                }
                self.server.delete(&child, None, None).expect("it exists");
            }
            Damage::Edit { which, field, applies } => self.edit_field(which, field, applies),
            Damage::Share { which, field } => {
                let Some((child, path, value)) = self.pick_field(which, field) else {
                    return;
                };
                self.apply_field(&child, &path, value, false);
            }
            Damage::Remove { which, field } => {
                let Some((child, path, _)) = self.pick_field(which, field) else {
                    return;
                };
                self.edit(&child, |object| super::fields::remove(object, &path));
            }
            Damage::Intrude { list, applies } => self.intrude(list, applies),
            Damage::Adorn { which, how, applies } => self.adorn(which, how, applies),
            Damage::Unlabel { which, all } => {
                let Some(child) = self.pick(which) else { return };
                self.edit(&child, |object| {
                    if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
                        labels.retain(|name, _| !all && name != names::BUCKET_LABEL);
                    }
                });
            }
            Damage::Relabel { which, label } => {
                let Some(child) = self.pick(which) else { return };
                self.edit(&child, |object| {
                    if let Some(labels) = object["metadata"]["labels"]
                        .as_object_mut()
                        .filter(|labels| !labels.is_empty())
                    {
                        let count = labels.len();
                        *labels.values_mut().nth(label % count).expect("it is within") = json!("theirs");
                    }
                });
            }
            Damage::Disown { which, nobody } => {
                let Some(child) = self.pick(which) else { return };
                let owner = json!({"apiVersion": "v1", "kind": "Other", "name": "other",
                    "uid": format!("{OUTSIDE}1"), "controller": true});
                self.edit(&child, |object| {
                    object["metadata"]["ownerReferences"] = if nobody { json!([]) } else { json!([owner]) }
                });
            }
            Damage::Replace { which, labelled } => self.replace(which, labelled),
            Damage::Extra { how } => self.extra(how),
            Damage::Revisions { count } => self.revisions(count),
            Damage::Pod { how } => {
                let Some(pod) = self.server.of_kind(Kind::Pod).first().cloned() else {
                    return;
                };
                match how % 5 {
                    0 => self.edit(&pod, |pod| {
                        pod["metadata"]["annotations"][names::INPUTS_ANNOTATION] = json!("older");
                    }),
                    1 => self.edit(&pod, |pod| {
                        pod["metadata"]["annotations"][marks::CREDENTIALS_ANNOTATION] = json!("0");
                    }),
                    2 => self.edit(&pod, |pod| {
                        if let Some(labels) = pod["metadata"]["labels"].as_object_mut() {
                            labels.remove(names::ROLE_LABEL);
                        }
                    }),
                    3 => self.edit(&pod, |pod| pod["metadata"]["annotations"] = json!({})),
                    _ => self.server.delete(&pod, None, None).expect("it exists"),
                }
            }
        }
    }

    /// A write that the API server may refuse.
    fn edit(&mut self, child: &ChildRef, change: impl FnOnce(&mut Value)) {
        drop(self.server.update(child, KUBECTL, change));
    }

    /// A field that has a value, of any object.
    fn pick_field(&self, which: usize, field: usize) -> Option<(ChildRef, String, Value)> {
        let child = self.pick(which)?;
        let object = self.server.get(&child)?;
        let flat: Vec<(String, &Value)> = flatten(child.kind, object)
            .into_iter()
            .filter_map(|(path, value)| Some((path, value?)))
            .filter(|(path, _)| !path.contains("finalizers"))
            .collect();
        let (path, value) = flat.get(field % flat.len().max(1))?;
        Some((child, path.clone(), (*value).clone()))
    }

    fn edit_field(&mut self, which: usize, field: usize, applies: bool) {
        let Some((child, path, value)) = self.pick_field(which, field) else {
            return;
        };
        let other = match value {
            Value::String(text) => json!(format!("{text}-theirs")),
            Value::Bool(flag) => json!(!flag),
            Value::Number(number) => json!(number.as_i64().unwrap_or(0) + 1),
            Value::Object(mut members) => {
                members.insert("theirs".to_owned(), json!("x"));
                Value::Object(members)
            }
            Value::Array(mut items) => {
                items.push(json!("theirs"));
                Value::Array(items)
            }
            Value::Null => return,
        };
        if applies {
            self.apply_field(&child, &path, other, true);
        } else {
            self.edit(&child, |object| set(object, &path, other));
        }
    }

    /// Another manager applies a manifest with this one field.
    fn apply_field(&mut self, child: &ChildRef, path: &str, value: Value, force: bool) {
        let mut manifest = json!({"metadata": {}});
        build(&mut manifest, path, value);
        drop(self.server.apply(child, &manifest, GITOPS, force));
    }

    fn intrude(&mut self, list: usize, applies: bool) {
        let name = self.subject.name.clone();
        let set = ChildRef::new(Kind::StatefulSet, names::stateful_set(&name, GENERATION));
        let container = |part: Value| {
            let mut container = json!({"name": "database"});
            container
                .as_object_mut()
                .expect("it is one")
                .extend(part.as_object().expect("it is one").clone());
            json!({"metadata": {}, "spec": {"template": {"spec": {"containers": [container]}}}})
        };
        let (child, addition) = match list % 6 {
            0 | 1 => {
                let service = if list.is_multiple_of(6) {
                    names::service_rw(&name)
                } else {
                    names::service_pods(&name)
                };
                let ports = json!([{"name": "theirs", "port": 1, "protocol": "TCP", "targetPort": 1}]);
                (
                    ChildRef::new(Kind::Service, service),
                    json!({"metadata": {}, "spec": {"ports": ports}}),
                )
            }
            2 => (set, container(json!({"env": [{"name": "LD_PRELOAD", "value": "x"}]}))),
            3 => (
                set,
                container(json!({"envFrom": [{"configMapRef": {"name": "theirs"}}]})),
            ),
            4 => (
                set,
                container(json!({"volumeMounts": [{"name": "tmp", "mountPath": "/theirs"}]})),
            ),
            _ => (
                set,
                container(json!({"ports": [{"containerPort": 1, "protocol": "TCP"}]})),
            ),
        };
        if applies {
            drop(self.server.apply(&child, &addition, GITOPS, false));
        } else {
            let kind = child.kind;
            self.edit(&child, |object| super::fields::merge(kind, object, &addition));
        }
    }

    fn adorn(&mut self, which: usize, how: usize, applies: bool) {
        let Some(child) = self.pick(which) else { return };
        let sidecar = json!({"containers": [{"name": "sidecar", "image": "theirs"}], "volumes": [{"name": "theirs", "emptyDir": {}}]});
        let addition = match (how % 5, child.kind) {
            (0, _) => json!({"metadata": {"labels": {"theirs": "x"}}}),
            (1, _) => json!({"metadata": {"annotations": {"theirs": "x"}}}),
            (2, _) => json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Other", "name": "other",
                "uid": format!("{OUTSIDE}1")}]}}),
            (3, Kind::StatefulSet) => json!({"metadata": {}, "spec": {"template": {"spec": sidecar}}}),
            (4, Kind::StatefulSet) => json!({"metadata": {}, "spec": {"template": {"spec": {
                "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]}}}}),
            (_, Kind::ConfigMap | Kind::Secret) => json!({"metadata": {}, "data": {"theirs": "eA=="}}),
            _ => json!({"metadata": {"annotations": {"theirs": "y"}}}),
        };
        if applies {
            drop(self.server.apply(&child, &addition, GITOPS, false));
        } else {
            let kind = child.kind;
            self.edit(&child, |object| super::fields::merge(kind, object, &addition));
        }
    }

    fn replace(&mut self, which: usize, labelled: bool) {
        let Some(child) = self.pick(which) else { return };
        let mut theirs = self.server.get(&child).expect("it was picked").clone();
        if child.kind == Kind::PersistentVolumeClaim {
            // It stays as long as it is used.
            return;
        }
        theirs["metadata"] = json!({});
        if labelled {
            theirs["metadata"]["labels"] = json!({
                names::DATABASE_LABEL: self.subject.name, names::BUCKET_LABEL: self.subject.bucket.to_string(),
            });
        }
        self.server.gone(&child);
        self.server.create(&child, &theirs, KUBECTL).expect("it has just gone");
    }

    fn extra(&mut self, how: usize) {
        let name = self.subject.name.clone();
        let labels = json!({
            names::DATABASE_LABEL: name, names::MANAGED_BY_LABEL: names::FIELD_MANAGER,
            names::BUCKET_LABEL: self.subject.bucket.to_string(),
        });
        let (child, mut body) = match how % 5 {
            0 => (
                ChildRef::new(Kind::ConfigMap, "a-settings"),
                json!({"data": {"x": "y"}}),
            ),
            1 => (
                ChildRef::new(Kind::StatefulSet, "a-set"),
                json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "a", "image": "a"}]},
                }, "volumeClaimTemplates": [{"spec": {"resources": {"requests": {"storage": "3Gi"}}}}]}}),
            ),
            2 => (
                ChildRef::new(Kind::Pod, "a-pod"),
                json!({"spec": {"containers": [{"name": "database", "image": "a"}]}}),
            ),
            3 => (
                ChildRef::new(Kind::Secret, names::config_secret(&name)),
                json!({"data": {"x": "eA=="}}),
            ),
            _ => (
                ChildRef::new(Kind::ControllerRevision, names::revision(&name, 90)),
                json!({"revision": 3, "data": {}}),
            ),
        };
        body["metadata"] = json!({"labels": labels});
        drop(self.server.create(&child, &body, KUBECTL));
    }

    fn revisions(&mut self, count: usize) {
        let mine: Vec<Value> = self
            .server
            .list()
            .filter(|(child, object)| child.kind == Kind::ControllerRevision && object["data"]["spec"].is_object())
            .map(|(_, object)| object.clone())
            .collect();
        let Some(last) = mine.last() else { return };
        for number in 0..count {
            let mut more = last.clone();
            let number = 20 + i64::try_from(number).expect("it is small");
            more["revision"] = json!(number);
            more["data"]["spec"]["configuration"]["parameters"] = json!({"more": number.to_string()});
            let child = ChildRef::new(Kind::ControllerRevision, names::revision(&self.subject.name, number));
            drop(self.server.create(&child, &more, names::FIELD_MANAGER));
        }
    }
}

/// Writes a field that exists.
fn set(object: &mut Value, path: &str, value: Value) {
    super::fields::remove(object, path);
    let mut manifest = json!({});
    build(&mut manifest, path, value);
    // Every list on the way is found by its key, whatever the kind: it is as it was flattened.
    graft(object, &manifest);
}

/// Puts the one branch of `branch` into `object`.
fn graft(object: &mut Value, branch: &Value) {
    match (object, branch) {
        (Value::Object(have), Value::Object(branch)) => {
            for (field, below) in branch {
                match have.get_mut(field) {
                    Some(there) if below.is_object() || below.is_array() => graft(there, below),
                    _ => drop(have.insert(field.clone(), below.clone())),
                }
            }
        }
        (Value::Array(have), Value::Array(branch)) => {
            let [item] = branch.as_slice() else { return };
            let keys: Vec<(&String, &Value)> = item
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, v)| !v.is_object() && !v.is_array())
                .collect();
            let same = |other: &&mut Value| keys.iter().any(|(name, value)| other[name.as_str()] == **value);
            match have.iter_mut().find(same) {
                Some(other) => graft(other, item),
                None => have.push(item.clone()),
            }
        }
        _ => {}
    }
}

/// A manifest with only this field.
fn build(manifest: &mut Value, path: &str, value: Value) {
    let mut node = manifest;
    for element in path.split(SEPARATOR) {
        if let Some(field) = element.strip_prefix("f:") {
            node = &mut node[field];
        } else if let Some(keys) = element.strip_prefix("k:") {
            let keys: Value = serde_json::from_str(keys).expect("it was written by `flatten`");
            *node = json!([keys]);
            node = &mut node[0];
        }
    }
    *node = value;
}
