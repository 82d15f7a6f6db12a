//! A simulated cluster around the simulated API server: the StatefulSet controller, the kubelet, the garbage
//! collector and the volumes, each as far as a Database depends on it.

use std::collections::{BTreeMap, BTreeSet};

use api::names;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use planner::child::{ChildRef, Kind};
use planner::plan::Subject;
use planner::rendered::Rendered;
use serde_json::{Value, json};

use super::server::Server;

/// uids that begin so belong to objects outside of the simulation, which never go.
pub(crate) const OUTSIDE: &str = "outside-";
/// A finalizer of somebody else. It goes after [`Cluster::PATIENCE`] steps.
pub(crate) const SLOW: &str = "example.com/slow";
const IN_USE: &str = "kubernetes.io/pvc-protection";
const CONTROLLER: &str = "kube-controller-manager";

/// What an engine wrote into a volume when it was initialised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Data {
    pub(crate) engine: String,
    pub(crate) major: String,
    pub(crate) lineage: String,
    pub(crate) password: String,
}

/// The Database itself, as far as the operator writes to it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct DatabaseObject {
    pub(crate) uid: String,
    pub(crate) finalizers: Vec<String>,
    pub(crate) bucket: Option<String>,
    pub(crate) deleting: bool,
}

/// A simulated cluster with one Database in one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) server: Server,
    pub(crate) subject: Subject,
    /// `None` once it has gone.
    pub(crate) database: Option<DatabaseObject>,
    /// What is in the volumes, by uid of the claim.
    pub(crate) data: BTreeMap<String, Data>,
    /// uids of pods that have begun to serve. They do so until they end, whatever happens to their files.
    serving: BTreeSet<String>,
    /// uids of Databases and of the claims whose data their pods served.
    pub(crate) served: BTreeSet<(String, String)>,
    /// Number of pods that were ever made.
    pub(crate) pods_made: usize,
    slowness: BTreeMap<ChildRef, usize>,
    /// What the operator keeps from one plan to the next, however it was killed meanwhile: it may never matter.
    pub(crate) rendered: Rendered,
}

impl Cluster {
    /// Steps for which a finalizer of somebody else stays.
    pub(crate) const PATIENCE: usize = 2;

    pub(crate) fn new() -> Self {
        let subject = Subject {
            namespace: "shop".to_owned(),
            name: "orders".to_owned(),
            uid: "database-1".to_owned(),
            bucket: sharding::bucket_of("shop", "orders"),
        };
        let mut cluster = Self {
            server: Server::default(),
            subject,
            database: None,
            data: BTreeMap::new(),
            serving: BTreeSet::new(),
            served: BTreeSet::new(),
            pods_made: 0,
            slowness: BTreeMap::new(),
            rendered: Rendered::default(),
        };
        cluster.declare("database-1");
        cluster
    }

    /// A user makes the Database.
    pub(crate) fn declare(&mut self, uid: &str) {
        uid.clone_into(&mut self.subject.uid);
        self.database = Some(DatabaseObject {
            uid: uid.to_owned(),
            finalizers: Vec::new(),
            bucket: None,
            deleting: false,
        });
    }

    /// Whether a volume or Secret carries the lineage of the Database's own data set.
    pub(crate) fn is_of_our_data(&self, object: &Value) -> bool {
        let lineage = |object: &Value| object["metadata"]["labels"][planner::marks::LINEAGE_LABEL].clone();
        let admin = self
            .server
            .get(&ChildRef::new(Kind::Secret, names::secret_admin(&self.subject.name)));
        let ours = admin
            .map(lineage)
            .filter(Value::is_string)
            .unwrap_or_else(|| json!(self.subject.uid));
        lineage(object) == ours
    }

    /// Whether only the volume is left of all this, and the pod of a StatefulSet that is not ours uses it.
    pub(crate) fn is_used_by_others(&self, left: &[ChildRef]) -> bool {
        let [only] = left else { return false };
        let set = ChildRef::new(Kind::StatefulSet, names::stateful_set(&self.subject.name, 1));
        let owners = self
            .server
            .get(&set)
            .and_then(|set| set["metadata"]["ownerReferences"].as_array());
        let ours = owners
            .into_iter()
            .flatten()
            .any(|owner| owner["uid"] == self.subject.uid);
        only.kind == Kind::PersistentVolumeClaim
            && !ours
            && self.server.list().any(|(_, object)| uses(object, &only.name))
    }

    /// Lets everything but the operator do its part. Returns whether anything changed.
    pub(crate) fn step(&mut self) -> bool {
        let before = (self.server.clock(), self.slowness.clone());
        self.finalizers();
        self.collect_garbage();
        for set in self.server.of_kind(Kind::StatefulSet) {
            self.stateful_set(&set);
        }
        for claim in self.server.of_kind(Kind::PersistentVolumeClaim) {
            self.claim(&claim);
        }
        for pod in self.server.of_kind(Kind::Pod) {
            self.kubelet(&pod);
        }
        before != (self.server.clock(), self.slowness.clone())
    }

    fn finalizers(&mut self) {
        let slow: Vec<ChildRef> = self
            .server
            .list()
            .filter(|(_, object)| has_finalizer(object, SLOW) && is_deleting(object))
            .map(|(child, _)| child.clone())
            .collect();
        for child in slow {
            let waited = self.slowness.entry(child.clone()).or_default();
            *waited += 1;
            if *waited > Self::PATIENCE {
                self.slowness.remove(&child);
                self.drop_finalizer(&child, SLOW);
            }
        }
    }

    fn drop_finalizer(&mut self, child: &ChildRef, finalizer: &str) {
        self.server.system(child, |object| {
            let list = object["metadata"]["finalizers"].as_array_mut().expect("it has one");
            list.retain(|other| other != finalizer);
            if list.is_empty() {
                object["metadata"]
                    .as_object_mut()
                    .expect("an object has metadata")
                    .remove("finalizers");
            }
        });
        let object = self.server.get(child);
        if object.is_some_and(|object| is_deleting(object) && object["metadata"]["finalizers"].is_null()) {
            self.server.gone(child);
        }
    }

    /// What has owners, none of which exists, goes.
    fn collect_garbage(&mut self) {
        let mut exists: BTreeSet<&str> = self
            .server
            .list()
            .filter_map(|(_, object)| object["metadata"]["uid"].as_str())
            .collect();
        exists.extend(self.database.as_ref().map(|database| database.uid.as_str()));
        let garbage: Vec<ChildRef> = self
            .server
            .list()
            .filter(|(_, object)| {
                let owners = object["metadata"]["ownerReferences"]
                    .as_array()
                    .map_or(&[][..], Vec::as_slice);
                let gone = |owner: &Value| {
                    owner["uid"]
                        .as_str()
                        .is_some_and(|uid| !exists.contains(uid) && !uid.starts_with(OUTSIDE))
                };
                !owners.is_empty() && owners.iter().all(gone)
            })
            .map(|(child, _)| child.clone())
            .collect();
        for child in garbage {
            self.server
                .delete(&child, None, None)
                .expect("it exists, and there is no precondition");
        }
    }

    fn stateful_set(&mut self, child: &ChildRef) {
        let set = self.server.get(child).expect("it was listed");
        let generation = set["metadata"]["generation"].clone();
        let replicas = set["spec"]["replicas"].as_u64().unwrap_or(1);
        let missing = |ordinal: &u64| {
            let pod = ChildRef::new(Kind::Pod, format!("{}-{ordinal}", child.name));
            self.server.get(&pod).is_none()
        };
        let missing: Vec<u64> = (0..replicas).filter(missing).filter(|_| !is_deleting(set)).collect();
        self.server.report(child, json!({"observedGeneration": generation}));
        for ordinal in missing {
            let set = self.server.get(child).expect("it was listed").clone();
            self.member(&set, ordinal);
        }
    }

    fn member(&mut self, set: &Value, ordinal: u64) {
        let set_name = set["metadata"]["name"].as_str().expect("an object has a name");
        let pod = ChildRef::new(Kind::Pod, format!("{set_name}-{ordinal}"));
        let template = &set["spec"]["template"];
        let account = template["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        if account != "default" && self.server.get(&ChildRef::new(Kind::ServiceAccount, account)).is_none() {
            return;
        }
        let claim = ChildRef::new(Kind::PersistentVolumeClaim, format!("data-{set_name}-{ordinal}"));
        match self.server.get(&claim) {
            Some(claim) if is_deleting(claim) => return,
            Some(_) => {}
            None => {
                let mut body = set["spec"]["volumeClaimTemplates"][0].clone();
                body.as_object_mut().expect("it is an object").remove("status");
                body["metadata"]["namespace"] = set["metadata"]["namespace"].clone();
                for (label, value) in set["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten() {
                    body["metadata"]["labels"][label] = value.clone();
                }
                self.server.create(&claim, &body, CONTROLLER).expect("there is none");
            }
        }
        let mut spec = template["spec"].clone();
        if let Some(volumes) = spec["volumes"].as_array_mut() {
            volumes.push(json!({"name": "data", "persistentVolumeClaim": {"claimName": claim.name}}));
        }
        let body = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": set["metadata"]["namespace"],
                "labels": template["metadata"]["labels"],
                "annotations": template["metadata"]["annotations"],
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "StatefulSet", "name": set_name, "uid": set["metadata"]["uid"],
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": spec,
            "status": {"phase": "Pending"},
        });
        self.server.create(&pod, &body, CONTROLLER).expect("there is none");
        self.pods_made += 1;
    }

    fn claim(&mut self, child: &ChildRef) {
        let claim = self.server.get(child).expect("it was listed");
        if is_deleting(claim) {
            let used = self.server.list().any(|(_, object)| uses(object, &child.name));
            if !used && has_finalizer(claim, IN_USE) {
                self.drop_finalizer(child, IN_USE);
            }
            return;
        }
        let requested = claim["spec"]["resources"]["requests"]["storage"].clone();
        if !has_finalizer(claim, IN_USE) {
            let mut finalizers = claim["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
            finalizers.push(json!(IN_USE));
            self.server
                .system(child, |object| object["metadata"]["finalizers"] = json!(finalizers));
        }
        self.server
            .report(child, json!({"phase": "Bound", "capacity": {"storage": requested}}));
    }

    fn kubelet(&mut self, child: &ChildRef) {
        let pod = self.server.get(child).expect("it was listed");
        let uid = pod["metadata"]["uid"].as_str().expect("an object has a uid").to_owned();
        if is_deleting(pod) {
            self.serving.remove(&uid);
            if pod["metadata"]["finalizers"].is_null() {
                self.server.gone(child);
            }
            return;
        }
        if !self.serving.contains(&uid) {
            let pod = pod.clone();
            if self.starts(&pod) {
                self.serving.insert(uid.clone());
            }
        }
        let ready = self.serving.contains(&uid);
        let status = json!({
            "phase": if ready { "Running" } else { "Pending" },
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            "containerStatuses": [{"name": "database", "imageID": "simulated"}],
        });
        self.server.report(child, status);
    }

    /// Whether the pod's containers come up: all that it mounts is there, and the scripts of the engine agree.
    fn starts(&mut self, pod: &Value) -> bool {
        let mounted = |kind: Kind, field: &str, key: &str| -> Option<Vec<ChildRef>> {
            pod["spec"]["volumes"]
                .as_array()?
                .iter()
                .filter_map(|volume| volume[field][key].as_str())
                .map(|name| ChildRef::new(kind, name))
                .map(|child| self.server.get(&child).map(|_| child))
                .collect()
        };
        let Some(configs) = mounted(Kind::ConfigMap, "configMap", "name") else {
            return false;
        };
        let Some(secrets) = mounted(Kind::Secret, "secret", "secretName") else {
            return false;
        };
        let Some(claims) = mounted(Kind::PersistentVolumeClaim, "persistentVolumeClaim", "claimName") else {
            return false;
        };
        let Some(claim) = claims.first().and_then(|claim| self.server.get(claim)) else {
            return false;
        };
        if claim["status"]["phase"] != "Bound" {
            return false;
        }
        // The scripts wait until the files are those that the pod was made for.
        let inputs = pod["metadata"]["annotations"][names::INPUTS_ANNOTATION]
            .as_str()
            .unwrap_or_default();
        let current = |child: &ChildRef| {
            let object = self.server.get(child).expect("it was found");
            let text = object["data"]["inputs"].as_str().unwrap_or_default();
            if child.kind == Kind::Secret {
                decoded(text) == inputs
            } else {
                text == inputs
            }
        };
        let admin = ChildRef::new(Kind::Secret, names::secret_admin(&self.subject.name));
        if !configs.iter().all(current) || !secrets.iter().filter(|secret| **secret != admin).all(current) {
            return false;
        }
        let Some(secret) = self.server.get(&admin).filter(|_| secrets.contains(&admin)) else {
            return false;
        };
        let value = |key: &str| decoded(secret["data"][key].as_str().unwrap_or_default());
        let args = &pod["spec"]["initContainers"][0]["args"];
        let wanted = Data {
            engine: args[1].as_str().unwrap_or_default().to_owned(),
            major: args[2].as_str().unwrap_or_default().to_owned(),
            lineage: value("lineage"),
            password: value("password"),
        };
        let follows = wanted.engine == "redis";
        let uid = claim["metadata"]["uid"]
            .as_str()
            .expect("an object has a uid")
            .to_owned();
        let serves = match self.data.get_mut(&uid) {
            Some(data) if follows && (&data.lineage, &data.engine) == (&wanted.lineage, &wanted.engine) => {
                *data = wanted;
                true
            }
            Some(data) => *data == wanted,
            None => {
                self.data.insert(uid.clone(), wanted);
                true
            }
        };
        if serves {
            self.served.insert((self.subject.uid.clone(), uid));
        }
        serves
    }
}

fn uses(object: &Value, claim: &str) -> bool {
    let volumes = object["spec"]["volumes"].as_array();
    volumes
        .into_iter()
        .flatten()
        .any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim)
}

pub(crate) fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|list| list.iter().any(|other| other == finalizer))
}

pub(crate) fn decoded(text: &str) -> String {
    BASE64
        .decode(text)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_default()
}
