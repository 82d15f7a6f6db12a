//! The children's manifests: for each, exactly the fields that we own, with everything spelled out that the API server
//! would otherwise default inside them (see [`crate::owned`] for why).
//!
//! One function a child, in the order in which they are written. Names and rules: `docs/api-rules.md`.

use std::collections::BTreeMap;

use api::names;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engines::profile;
use serde_json::{Map, Value, json};

use crate::child::{ChildRef, Kind, Text};
use crate::intent::Intent;
use crate::marks;
use crate::plan::Subject;

/// Generation of a Database's volumes. Blue-green changes will make the next; until then there is one.
pub const GENERATION: u32 = 1;

/// What a member's children need to know beyond the intent.
#[derive(Clone, Debug, PartialEq)]
pub struct Context<'a> {
    /// Whose children.
    pub subject: &'a Subject,
    /// What is wanted.
    pub intent: &'a Intent,
    /// The data set that volumes and credentials belong to.
    pub lineage: Text,
    /// How often the credentials were made anew, from 1.
    pub credentials: u32,
    /// Hash of the user's inputs.
    pub inputs: Text,
    /// Storage request of the claim template: that of the StatefulSet that exists, since it is immutable.
    pub template_storage: Text,
    /// Number of pods. 1, unless a test asks for none.
    pub replicas: u32,
}

impl Context<'_> {
    fn name(&self) -> &str {
        &self.subject.name
    }

    pub(crate) fn labels(&self) -> Map<String, Value> {
        let pairs = [
            (names::NAME_LABEL, self.intent.engine.to_string()),
            (names::INSTANCE_LABEL, self.subject.name.clone()),
            (names::COMPONENT_LABEL, "database".to_owned()),
            (names::MANAGED_BY_LABEL, names::FIELD_MANAGER.to_owned()),
            (names::PART_OF_LABEL, "database".to_owned()),
            (names::DATABASE_LABEL, self.subject.name.clone()),
            (names::BUCKET_LABEL, self.subject.bucket.to_string()),
        ];
        pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect()
    }

    /// Labels of a member: by these its StatefulSet and the Services find it.
    fn member_labels(&self) -> Map<String, Value> {
        let mut labels = self.labels();
        labels.insert(marks::GENERATION_LABEL.to_owned(), json!(GENERATION.to_string()));
        labels
    }

    /// Labels by which a volume or the administrator's Secret is known again after its Database has gone.
    pub(crate) fn lasting_labels(&self) -> Map<String, Value> {
        let mut labels = self.labels();
        labels.insert(marks::ENGINE_LABEL.to_owned(), json!(self.intent.engine.to_string()));
        labels.insert(marks::LINEAGE_LABEL.to_owned(), json!(self.lineage));
        labels.insert(marks::OWNER_LABEL.to_owned(), json!(self.subject.uid));
        labels
    }

    /// A manifest that the Database controls: it goes when the Database goes.
    fn controlled(&self, child: &ChildRef, labels: Map<String, Value>, rest: Value) -> Value {
        let mut body = self.lasting(child, labels, rest);
        body["metadata"]["ownerReferences"] = json!([self.subject.owner_reference()]);
        body
    }

    /// A manifest without owner: what keeps data is deleted by us when the intent says so, never by the garbage
    /// collector, whatever happens to the Database or to its CRD.
    fn lasting(&self, child: &ChildRef, labels: impl Into<Value>, rest: Value) -> Value {
        let mut body = json!({
            "apiVersion": child.kind.api_version(),
            "kind": child.kind.name(),
            "metadata": {"name": child.name, "namespace": self.subject.namespace},
        });
        body["metadata"]["labels"] = labels.into();
        if let (Some(body), Value::Object(rest)) = (body.as_object_mut(), rest) {
            body.extend(rest);
        }
        body
    }

    fn annotations(&self) -> Value {
        json!({names::INPUTS_ANNOTATION: self.inputs, marks::CREDENTIALS_ANNOTATION: self.credentials.to_string()})
    }
}

/// Reference to the accepted spec number `number`.
pub fn revision_ref(subject: &Subject, number: i64) -> ChildRef {
    ChildRef::new(Kind::ControllerRevision, names::revision(&subject.name, number))
}

/// Labels of an accepted spec.
pub(crate) fn revision_labels(subject: &Subject) -> Map<String, Value> {
    let pairs = [
        (names::DATABASE_LABEL, subject.name.clone()),
        (names::MANAGED_BY_LABEL, names::FIELD_MANAGER.to_owned()),
        (names::BUCKET_LABEL, subject.bucket.to_string()),
    ];
    pairs
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .into_iter()
        .collect()
}

/// An accepted spec.
pub fn revision(subject: &Subject, number: i64, spec: &Value) -> Value {
    json!({
        "apiVersion": Kind::ControllerRevision.api_version(),
        "kind": Kind::ControllerRevision.name(),
        "metadata": {
            "name": names::revision(&subject.name, number),
            "namespace": subject.namespace,
            "labels": revision_labels(subject),
            "ownerReferences": [subject.owner_reference()],
        },
        "revision": number,
        "data": {"spec": spec},
    })
}

/// A child that is applied: all of its fields that we own are known from the [`Context`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Who the pods are.
    Account,
    /// Where clients connect to.
    Rw,
    /// The members' own names.
    Pods,
    /// The engine's configuration.
    Config,
    /// Configuration whose values come from a Secret.
    ConfigSecret,
    /// What runs the members.
    Set,
}

impl Part {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 6] = [
        Self::Account,
        Self::Rw,
        Self::Pods,
        Self::Config,
        Self::ConfigSecret,
        Self::Set,
    ];

    /// Kind and name.
    pub fn child(self, subject: &Subject) -> ChildRef {
        let name = &subject.name;
        match self {
            Self::Account => ChildRef::new(Kind::ServiceAccount, names::service_account(name)),
            Self::Rw => ChildRef::new(Kind::Service, names::service_rw(name)),
            Self::Pods => ChildRef::new(Kind::Service, names::service_pods(name)),
            Self::Config => ChildRef::new(Kind::ConfigMap, names::config(name)),
            Self::ConfigSecret => ChildRef::new(Kind::Secret, names::config_secret(name)),
            Self::Set => ChildRef::new(Kind::StatefulSet, names::stateful_set(name, GENERATION)),
        }
    }

    /// The manifest.
    pub fn body(self, cx: &Context) -> Value {
        let child = self.child(cx.subject);
        let rest = match self {
            // They get no token.
            Self::Account => json!({"automountServiceAccountToken": false}),
            Self::Rw => service_rw(cx),
            Self::Pods => service_pods(cx),
            Self::Config => config(cx),
            Self::ConfigSecret => config_secret(cx),
            Self::Set => stateful_set(cx),
        };
        cx.controlled(&child, cx.labels(), rest)
    }
}

/// Where clients connect to: the primary.
fn service_rw(cx: &Context) -> Value {
    json!({"spec": {
        "type": "ClusterIP",
        "selector": {names::DATABASE_LABEL: cx.name(), names::ROLE_LABEL: "primary"},
        "ports": [port(cx)],
    }})
}

/// The members' own names, also before they are ready.
fn service_pods(cx: &Context) -> Value {
    json!({"spec": {
        "type": "ClusterIP",
        "clusterIP": "None",
        "publishNotReadyAddresses": true,
        "selector": {names::DATABASE_LABEL: cx.name(), marks::GENERATION_LABEL: GENERATION.to_string()},
        "ports": [port(cx)],
    }})
}

fn port(cx: &Context) -> Value {
    let profile = profile(cx.intent.engine);
    json!({"name": profile.port_name, "port": profile.port, "protocol": "TCP", "targetPort": profile.port})
}

/// The administrator's credentials, but for the passwords.
pub fn secret_admin(cx: &Context) -> Value {
    let child = ChildRef::new(Kind::Secret, names::secret_admin(cx.name()));
    let profile = profile(cx.intent.engine);
    let data = encoded([
        ("username", profile.admin_user),
        ("app-username", profile.app_user),
        ("app-database", profile.default_database),
        ("lineage", &cx.lineage),
    ]);
    let mut body = cx.lasting(&child, cx.lasting_labels(), json!({"type": "Opaque", "data": data}));
    body["metadata"]["annotations"] = json!({marks::CREDENTIALS_ANNOTATION: cx.credentials.to_string()});
    body
}

/// The application's credentials, in the form of a service binding, but for what comes from the administrator's Secret.
pub fn secret_app(cx: &Context) -> Value {
    let child = ChildRef::new(Kind::Secret, names::secret_app(cx.name()));
    let profile = profile(cx.intent.engine);
    let data = encoded([
        ("type", profile.binding_type),
        ("host", &cx.subject.host()),
        ("port", &profile.port.to_string()),
    ]);
    let rest = json!({"type": format!("servicebinding.io/{}", profile.binding_type), "data": data});
    cx.controlled(&child, cx.labels(), rest)
}

fn encoded<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), json!(BASE64.encode(value))))
        .collect::<Map<_, _>>()
        .into()
}

/// The engine's configuration.
fn config(cx: &Context) -> Value {
    let mut data = engines::render::configuration(
        cx.intent.engine,
        &cx.intent.release,
        cx.intent.compute.memory_limit.as_ref(),
        &cx.intent.parameters,
    );
    data.insert("inputs".to_owned(), cx.inputs.to_string());
    json!({"data": data})
}

/// Configuration whose values come from a Secret.
fn config_secret(cx: &Context) -> Value {
    let mut files: BTreeMap<String, String> =
        engines::render::secret_configuration(cx.intent.engine, &cx.intent.secret_parameters);
    files.insert("inputs".to_owned(), cx.inputs.to_string());
    let data = encoded(files.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    json!({"type": "Opaque", "data": data})
}

/// Labels that a volume must carry.
pub(crate) fn claim_labels(cx: &Context) -> Map<String, Value> {
    let mut labels = cx.lasting_labels();
    labels.insert(marks::MAJOR_LABEL.to_owned(), json!(cx.intent.release.major));
    labels.insert(marks::GENERATION_LABEL.to_owned(), json!(GENERATION.to_string()));
    labels
}

/// The volume of a member.
pub fn claim(cx: &Context, child: &ChildRef) -> Value {
    let spec = claim_spec(cx, &cx.intent.storage.to_string());
    cx.lasting(child, claim_labels(cx), json!({"spec": spec}))
}

fn claim_spec(cx: &Context, storage: &str) -> Value {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage}},
        "volumeMode": "Filesystem",
    });
    if let Some(class) = &cx.intent.storage_class {
        spec["storageClassName"] = json!(class);
    }
    spec
}

/// What runs the members.
fn stateful_set(cx: &Context) -> Value {
    // An atomic list that the API server fills in: everything that it adds stands here too.
    let mut claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "status": {"phase": "Pending"},
    });
    // Moved in, here and below: `json!` copies every value that stands in it, at each level once more.
    claim["metadata"]["labels"] = cx.labels().into();
    claim["spec"] = claim_spec(cx, &cx.template_storage);
    let mut body = json!({"spec": {
        "serviceName": names::service_pods(cx.name()),
        "replicas": cx.replicas,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "OnDelete"},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": {
            names::DATABASE_LABEL: cx.name(),
            marks::GENERATION_LABEL: GENERATION.to_string(),
        }},
    }});
    let mut template = json!({"metadata": {}});
    template["metadata"]["labels"] = cx.member_labels().into();
    template["metadata"]["annotations"] = cx.annotations();
    template["spec"] = pod_spec(cx);
    body["spec"]["template"] = template;
    body["spec"]["volumeClaimTemplates"] = Value::Array(vec![claim]);
    body
}

fn pod_spec(cx: &Context) -> Value {
    let parts = engines::pod::containers(cx.intent.engine, &cx.intent.release);
    let secured = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
    });
    let resources = cx.intent.compute.to_resources();
    let container = |name: &str, mut container: Value| {
        container["name"] = json!(name);
        container["image"] = json!(cx.intent.release.image);
        container["imagePullPolicy"] = json!("IfNotPresent");
        container["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
        container["securityContext"] = secured.clone();
        if resources != json!({}) {
            container["resources"] = resources.clone();
        }
        container["volumeMounts"] = mounts(cx);
        container["env"] = json!([{
            "name": "INPUTS",
            "valueFrom": {"fieldRef": {
                "apiVersion": "v1",
                "fieldPath": format!("metadata.annotations['{}']", names::INPUTS_ANNOTATION),
            }},
        }]);
        container
    };
    let mut spec = json!({
        "serviceAccountName": names::service_account(cx.name()),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": profile(cx.intent.engine).termination_grace_seconds,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": cx.intent.release.uid,
            "runAsGroup": cx.intent.release.uid,
            "fsGroup": cx.intent.release.uid,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    spec["initContainers"] = Value::Array(vec![container("initialise", parts.initialise)]);
    spec["containers"] = Value::Array(vec![container("database", parts.database)]);
    spec["volumes"] = volumes(cx);
    spec
}

fn mounts(cx: &Context) -> Value {
    let mut mounts = vec![
        json!({"name": "data", "mountPath": "/var/lib/database"}),
        json!({"name": "config", "mountPath": "/etc/database/config", "readOnly": true}),
        json!({"name": "admin", "mountPath": "/etc/database/admin", "readOnly": true}),
        json!({"name": "run", "mountPath": "/run/database"}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    if !cx.intent.secret_parameters.is_empty() {
        mounts.push(json!({"name": "config-secret", "mountPath": "/etc/database/config-secret", "readOnly": true}));
    }
    Value::Array(mounts)
}

fn volumes(cx: &Context) -> Value {
    // Readable by the group only: the pod's fsGroup is the engine's.
    let mode = 0o440;
    let mut volumes = vec![
        json!({"name": "config", "configMap": {"name": names::config(cx.name()), "defaultMode": mode}}),
        json!({"name": "admin", "secret": {"secretName": names::secret_admin(cx.name()), "defaultMode": mode}}),
        json!({"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}),
        json!({"name": "tmp", "emptyDir": {}}),
    ];
    if !cx.intent.secret_parameters.is_empty() {
        let name = names::config_secret(cx.name());
        volumes.push(json!({"name": "config-secret", "secret": {"secretName": name, "defaultMode": mode}}));
    }
    Value::Array(volumes)
}
