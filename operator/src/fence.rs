//! The server's side of the fence: policies by which the API server refuses what a replica writes with an epoch that is
//! over. Printed by `crds --with-fence`.
//!
//! Every policy selects objects by the label of the bucket first, and only then looks at who writes. The order matters:
//! the API server fetches the map before it evaluates match conditions, so a policy without `objectSelector` would
//! refuse everybody's writes in the whole cluster while there is no map.
//!
//! For the same reason a missing map must refuse as little as possible, since it refuses that to *everybody*:
//! - creating a labelled child of a kind that nobody but a replica creates is refused: it has no older fence to be
//!   compared with, so nothing else would stop a replica that slept;
//! - updates and deletions are then judged by the object alone (an older fence is refused, a deletion needs its
//!   precondition), so that volumes are bound, pods replaced and namespaces emptied as ever.
//!
//! If the map's definition is missing as well, an API server that runs does the same. One that *starts* without having
//! found the definition refuses all updates and deletions of labelled objects to everybody; only pods come and go. It looks for definitions every 30 s. So this also happens, for up to 30 s, at some starts of an
//! API server with everything in place (1 of 5 kills, tried on 1.36.3): a replica must take such a refusal for an outage,
//! not for a verdict. Accepting instead would let a replica that slept write while an API server starts.
//!
//! Not guaranteed:
//! - what a patch changes that carries no fence of its own: the API server shows the object as it will be, with the fence
//!   that stands there;
//! - what a replica writes to an object that has lost its label, unless the write puts it back;
//! - the milliseconds until a new map has reached every API server;
//! - deletions of pods while an API server starts.
//!
//! Preconditions in each request cover these.

use std::collections::BTreeSet;

use api::names::{
    BUCKET_LABEL, FENCE_ANNOTATION, FENCE_POLICY_PREFIX, FIELD_MANAGER, GROUP, KIND, MANAGED_BY_LABEL, PLURAL,
};
use planner::child::Kind;
use serde_json::{Value, json};
use sharding::map::MAX_NUMBER;

use crate::rbac::Subject;

pub(crate) mod layers;

const HEADER: &str = "\
# Printed by `database-operator crds --with-fence`: the map of who owns what, the policies that refuse writes of a replica
# whose ownership is over, and the way by which Leases pass while the API server is busy.
";

/// Begins the YAML of the ShardMap's definition.
const MAP_HEADER: &str = "\
# Generated from crates/sharding/src/crd.rs by `database-operator crds --with-fence`. Do not edit: a test keeps both
# equal, and `UPDATE_EXPECT=1 cargo test -p database-operator` writes it anew.
";

/// The level of priority that the FlowSchema leads to. See [`flow_schema`].
const PRIORITY_LEVEL: &str = "leader-election";

/// What to do if there is no map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WithoutMap {
    /// The policy does not look at the map.
    NotAsked,
    /// Refuse.
    Refuse,
    /// Accept; refuse while an API server that has just started does not find the map's definition, or has not read the
    /// map yet.
    Accept,
    /// Accept, then too. Its expressions must be total: one that fails accepts as well.
    AcceptAlways,
}

/// One policy with its binding.
struct Policy {
    /// What follows [`FENCE_POLICY_PREFIX`], by which a replica knows that the fence refused it.
    name: &'static str,
    without_map: WithoutMap,
    rules: Vec<Value>,
    variables: Vec<(&'static str, String)>,
    validations: Vec<Value>,
}

/// Everything that `crds --with-fence` prints: definitions, policies with their bindings, and the FlowSchema, for the
/// user that all replicas are.
pub(crate) fn manifests(subject: &Subject) -> String {
    let objects: Vec<String> = objects(subject).iter().map(yaml).collect();
    format!("{HEADER}{}---\n{}", definitions(), objects.join("---\n"))
}

/// Everything that `crds` prints without more words: the definitions of Databases and of the map.
pub(crate) fn definitions() -> String {
    format!("{}---\n{}", api::crd_yaml(), map_crd_yaml())
}

/// The definition of the ShardMap as YAML, the same to the byte at every call.
fn map_crd_yaml() -> String {
    format!("{MAP_HEADER}{}", yaml(&sharding::crd::shard_map_crd()))
}

fn yaml(object: &Value) -> String {
    serde_yaml::to_string(object).expect("JSON is YAML")
}

fn policies() -> [Policy; 5] {
    [
        object_policy(),
        create_policy(),
        update_policy(),
        delete_policy(),
        restart_policy(),
    ]
}

/// Of the policies, and of their bindings.
fn names() -> BTreeSet<String> {
    policies().iter().map(Policy::name).collect()
}

fn objects(subject: &Subject) -> Vec<Value> {
    let policies = policies();
    let user = subject.username();
    let mut objects: Vec<Value> = policies.iter().map(|policy| policy.definition(&user)).collect();
    objects.extend(policies.iter().map(Policy::binding));
    objects.push(flow_schema(subject));
    objects
}

impl Policy {
    fn definition(&self, user: &str) -> Value {
        let variables = self.variables.iter();
        let mut spec = json!({
            "failurePolicy": if self.without_map == WithoutMap::AcceptAlways { "Ignore" } else { "Fail" },
            "matchConstraints": {
                "objectSelector": {"matchExpressions": [{"key": BUCKET_LABEL, "operator": "Exists"}]},
                "resourceRules": self.rules,
            },
            "matchConditions": [{
                "name": "by-a-replica",
                "expression": format!("request.userInfo.username == {}", literal(user)),
            }],
            "variables": variables
                .map(|(name, expression)| json!({"name": name, "expression": expression}))
                .collect::<Vec<_>>(),
            "validations": self.validations.iter().map(forbidden).collect::<Vec<_>>(),
        });
        if self.without_map != WithoutMap::NotAsked {
            spec["paramKind"] = json!({"apiVersion": sharding::crd::API_VERSION, "kind": sharding::crd::KIND});
        }
        self.object("ValidatingAdmissionPolicy", &spec)
    }

    fn binding(&self) -> Value {
        let mut spec = json!({"policyName": self.name(), "validationActions": ["Deny"]});
        let action = match self.without_map {
            WithoutMap::NotAsked => None,
            WithoutMap::Refuse => Some("Deny"),
            WithoutMap::Accept | WithoutMap::AcceptAlways => Some("Allow"),
        };
        if let Some(action) = action {
            spec["paramRef"] = json!({"name": sharding::crd::MAP_NAME, "parameterNotFoundAction": action});
        }
        self.object("ValidatingAdmissionPolicyBinding", &spec)
    }

    fn name(&self) -> String {
        format!("{FENCE_POLICY_PREFIX}{}", self.name)
    }

    fn object(&self, kind: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": self.name(), "labels": labels()},
            "spec": spec,
        })
    }
}

/// With 403 as the answer: the default, 422, says that the object is malformed, and whoever believes that tries another
/// way.
fn forbidden(validation: &Value) -> Value {
    let mut validation = validation.clone();
    validation["reason"] = json!("Forbidden");
    validation
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": FIELD_MANAGER, "app.kubernetes.io/part-of": FIELD_MANAGER})
}

/// Whether objects of this kind with our label are made by Kubernetes itself, from the template of a StatefulSet.
fn made_by_others(kind: Kind) -> bool {
    match kind {
        Kind::Pod | Kind::ControllerRevision => true,
        Kind::ServiceAccount
        | Kind::Service
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::PersistentVolumeClaim
        | Kind::StatefulSet => false,
    }
}

/// An object's fence never falls, and what is not ours is not written.
fn object_policy() -> Policy {
    let mut rules = vec![databases()];
    rules.extend(children("UPDATE", |_| true));
    rules.extend(children("DELETE", |_| true));
    Policy {
        name: "object",
        without_map: WithoutMap::NotAsked,
        rules,
        variables: vec![
            status_variable(),
            ("deletes", "request.operation == 'DELETE'".to_owned()),
            ("old", annotation("oldObject", 0)),
            ("oldStatus", status_fence("oldObject", 0)),
            ("new", new_fence()),
            ("ours", ours()),
        ],
        validations: vec![
            json!({
                "expression": "variables.deletes || request.resource.resource == 'databases' || variables.ours",
                "message": "the name is taken: this object is not ours",
            }),
            json!({
                "expression": "variables.deletes || (variables.new >= variables.old && variables.new >= variables.oldStatus)",
                "messageExpression": "'stale owner: ' + (variables.new < 0 ? 'no fence' : 'epoch ' + string(variables.new)) + \
                                      ' is older than the object: ' + string(variables.old) + \
                                      ', status ' + string(variables.oldStatus)",
            }),
            json!({
                "expression": "!variables.deletes || (has(request.options) && has(request.options.preconditions) && \
                               has(request.options.preconditions.resourceVersion))",
                "message": "a deletion needs a resourceVersion precondition",
            }),
        ],
    }
}

/// A child is born with a fence that is not older than the map's.
fn create_policy() -> Policy {
    Policy {
        name: "create",
        without_map: WithoutMap::Refuse,
        rules: children("CREATE", |kind| !made_by_others(kind)),
        variables: map_variables(),
        validations: map_validations(),
    }
}

/// No write is older than the map, also to what the new owner has not touched yet.
fn update_policy() -> Policy {
    let mut rules = vec![databases()];
    rules.extend(children("UPDATE", |_| true));
    // Pods are never created by a replica, and must be replaced by Kubernetes whatever becomes of the map.
    rules.extend(children("CREATE", |kind| made_by_others(kind) && kind != Kind::Pod));
    Policy {
        name: "update",
        without_map: WithoutMap::Accept,
        rules,
        variables: map_variables(),
        validations: map_validations(),
    }
}

/// A deletion carries no object: the replica stamps the object first, and deletes exactly what it stamped.
fn delete_policy() -> Policy {
    deletion("delete", WithoutMap::Accept, |kind| kind != Kind::Pod)
}

/// As [`delete_policy`]; but kubelets delete pods too, and where they cannot, nothing takes the place of a pod that ended.
/// So an API server that has just started, and does not know the map yet, does not judge. The stamp before it was judged.
fn restart_policy() -> Policy {
    deletion("restart", WithoutMap::AcceptAlways, |kind| kind == Kind::Pod)
}

fn deletion(name: &'static str, without_map: WithoutMap, wanted: impl Fn(Kind) -> bool) -> Policy {
    Policy {
        name,
        without_map,
        rules: children("DELETE", wanted),
        variables: vec![
            ("bucket", bucket("oldObject")),
            ("stamped", annotation("oldObject", -1)),
        ],
        validations: vec![
            known_bucket(),
            json!({
                "expression": "variables.bucket < 0 || variables.bucket >= size(params.spec.epochs) || \
                               variables.stamped >= params.spec.epochs[variables.bucket]",
                "message": "stamp the object with the current epoch before deleting it",
            }),
        ],
    }
}

fn databases() -> Value {
    rule(GROUP, "UPDATE", &[PLURAL.to_owned(), format!("{PLURAL}/status")])
}

/// Rules for those of our kinds, one for each group.
fn children(operation: &str, wanted: impl Fn(Kind) -> bool) -> Vec<Value> {
    let mut by_group: Vec<(&str, Vec<String>)> = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| wanted(*kind)) {
        let (group, _, plural) = kind.resource();
        match by_group.iter_mut().find(|(known, _)| *known == group) {
            Some((_, plurals)) => plurals.push(plural.to_owned()),
            None => by_group.push((group, vec![plural.to_owned()])),
        }
    }
    let rules = by_group.iter();
    rules.map(|(group, plurals)| rule(group, operation, plurals)).collect()
}

fn rule(group: &str, operation: &str, resources: &[String]) -> Value {
    json!({"apiGroups": [group], "apiVersions": ["*"], "operations": [operation], "resources": resources})
}

fn map_variables() -> Vec<(&'static str, String)> {
    vec![status_variable(), ("bucket", bucket("object")), ("new", new_fence())]
}

fn map_validations() -> Vec<Value> {
    vec![
        known_bucket(),
        json!({
            "expression": "variables.bucket < 0 || variables.bucket >= size(params.spec.epochs) || \
                           variables.new >= params.spec.epochs[variables.bucket]",
            "messageExpression": "'stale owner: ' + (variables.new < 0 ? 'no fence' : 'epoch ' + string(variables.new)) + \
                                  ' is older than the map: ' + string(params.spec.epochs[variables.bucket])",
        }),
    ]
}

fn known_bucket() -> Value {
    json!({
        "expression": "variables.bucket >= 0 && variables.bucket < size(params.spec.epochs)",
        "message": format!("label {BUCKET_LABEL} is missing or names no bucket; a replica never removes it"),
    })
}

/// Whether the status is written, where the API server ignores metadata.
fn status_variable() -> (&'static str, String) {
    (
        "inStatus",
        "has(request.subResource) && request.subResource == 'status'".to_owned(),
    )
}

fn new_fence() -> String {
    format!(
        "variables.inStatus ? ({}) : ({})",
        status_fence("object", -1),
        annotation("object", -1)
    )
}

/// The fence in an annotation. One that no leader can have given is none: somebody's hand must not shut out the owner.
fn annotation(object: &str, none: i8) -> String {
    let annotations = format!("{object}.metadata.annotations");
    let fence = format!("{annotations}['{FENCE_ANNOTATION}']");
    format!(
        "has({annotations}) && '{FENCE_ANNOTATION}' in {annotations} && {fence}.matches('^[0-9]{{1,16}}$') && \
         int({fence}) <= {MAX_NUMBER} ? int({fence}) : {none}"
    )
}

/// The fence in a Database's status.
fn status_fence(object: &str, none: i8) -> String {
    let fence = format!("{object}.status.fence");
    format!(
        "request.resource.resource == '{PLURAL}' && has({object}.status) && has({fence}) && \
         {fence} <= {MAX_NUMBER} ? {fence} : {none}"
    )
}

/// The bucket that the label names, or -1.
fn bucket(object: &str) -> String {
    let labels = format!("{object}.metadata.labels");
    let bucket = format!("{labels}['{BUCKET_LABEL}']");
    format!("has({labels}) && '{BUCKET_LABEL}' in {labels} && {bucket}.matches('^[0-9]{{1,4}}$') ? int({bucket}) : -1")
}

/// Whether a child is ours though somebody may have taken its label away: by its other label (volumes and the
/// administrator's Secret have no owner), by its owner, or as a pod that a StatefulSet made.
fn ours() -> String {
    let labels = "oldObject.metadata.labels";
    let owners = "oldObject.metadata.ownerReferences";
    format!(
        "(has({labels}) && ('{BUCKET_LABEL}' in {labels} || \
         ('{MANAGED_BY_LABEL}' in {labels} && {labels}['{MANAGED_BY_LABEL}'] == '{FIELD_MANAGER}'))) || \
         (has({owners}) && {owners}.exists(owner, has(owner.controller) && owner.controller && (\
         (owner.kind == '{KIND}' && owner.apiVersion.startsWith('{GROUP}/')) || \
         (request.resource.resource == 'pods' && owner.kind == 'StatefulSet'))))"
    )
}

/// Leases and the map pass by the level that Kubernetes has for elections: it is there in every cluster, reserved, and
/// made for few small requests that must not wait behind bulk work of the same user. A level of our own would take its
/// seats from everybody.
///
/// All namespaces, since only these users' requests are matched, and a Lease elsewhere would be a wrong setting anyway.
fn flow_schema(subject: &Subject) -> Value {
    let verbs = ["get", "list", "watch", "create", "update", "patch", "delete"];
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": "database-operator-coordination", "labels": labels()},
        "spec": {
            "priorityLevelConfiguration": {"name": PRIORITY_LEVEL},
            // Before those of users and service accounts, which begin at 400; after those of Kubernetes' own elections.
            "matchingPrecedence": 250,
            "rules": [{
                "subjects": [subject.flow()],
                "resourceRules": [
                    {
                        "verbs": verbs, "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                        "namespaces": ["*"],
                    },
                    {
                        "verbs": verbs, "apiGroups": [sharding::crd::GROUP], "resources": [sharding::crd::PLURAL],
                        "clusterScope": true,
                    },
                ],
            }],
        },
    })
}

/// A text in CEL. What JSON escapes, CEL escapes in the same way.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
