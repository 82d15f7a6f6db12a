//! The requests that this operator makes, and nothing more: read one object, create, apply, patch, delete.
//!
//! Every answer is decoded into the few facts that are kept. Bodies are never logged: some hold secrets.
//!
//! Every write carries the fence, so that the API server can refuse what comes too late ([`crate::permit`] keeps most of
//! it from being sent). What has no place for a fence (a deletion), or must not meet a version that was not seen (a JSON
//! patch), is sent for exactly one version, which bears the fence already.

use std::sync::Arc;
use std::time::Duration;

use api::names::{FENCE_ANNOTATION, FIELD_MANAGER};
use kube::Client;
use kube::core::Request;
use kube::core::params::{
    DeleteParams, GetParams, Patch as KubePatch, PatchParams, PostParams, Preconditions, ValidationDirective,
};
use planner::child::{Child, ChildRef, Kind, Version};
use planner::json::Json;
use planner::plan::Subject;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sharding::Epoch;

use self::fenced::Fenced;
pub use crate::api_error::ApiError;
use crate::permit::Permit;
use crate::seen::{SeenDatabase, version};
use crate::store::{Key, Store};

mod fenced;

/// A client that writes on behalf of one Database, for as long as its permit holds.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    namespace: String,
    /// As it stands in a label.
    bucket: String,
    /// The epoch, as it stands in an annotation.
    fence: String,
    permit: Permit,
    /// What is known of the Database with this key, if it is kept.
    known: Option<(Store, Key)>,
}

/// A version that no object has: etcd's counter is 1 while it is empty. An apply that carries it creates what does not
/// exist, since a version is compared with an existing object's only, and conflicts with everything that does.
const NO_VERSION: &str = "1";

/// A request, unless its parts do not make one.
type BuiltRequest = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

type Answer = Result<(ChildRef, Arc<Child>), ApiError>;

impl Writer {
    /// Writes for this Database, each write with the permit's epoch as its fence, and none after the permit's end. Reads
    /// are always made.
    pub fn new(client: Client, subject: &Subject, permit: Permit) -> Self {
        Self {
            client,
            namespace: subject.namespace.clone(),
            bucket: subject.bucket.to_string(),
            fence: permit.epoch().to_string(),
            permit,
            known: None,
        }
    }

    /// The same, with what is known of the Database with this key: an answer is not read when a watch has told that
    /// version already, which it often does sooner.
    #[must_use]
    pub fn knowing(mut self, store: &Store, key: &Key) -> Self {
        self.known = Some((store.clone(), key.clone()));
        self
    }

    fn path(&self, kind: Kind) -> String {
        let (group, version, plural) = kind.resource();
        collection(group, version, plural, &self.namespace)
    }

    /// Every write goes this way. Answers the text of the answer.
    async fn send(&self, object: &str, request: BuiltRequest) -> Result<String, ApiError> {
        if !self.permit.holds() {
            return Err(ApiError::NotOwner {
                object: object.to_owned(),
            });
        }
        text(&self.client, object, request).await
    }

    async fn write<T: DeserializeOwned>(&self, object: &str, request: BuiltRequest) -> Result<T, ApiError> {
        decoded(object, &self.send(object, request).await?)
    }

    async fn write_child(&self, child: &ChildRef, request: BuiltRequest) -> Answer {
        let object = child.to_string();
        let text = self.send(&object, request).await?;
        let known = self
            .known
            .as_ref()
            .and_then(|(store, key)| store.child_at(key, child, version(&text)?));
        if let Some(known) = known {
            return Ok((child.clone(), known));
        }
        observed(child, decoded::<Json>(&object, &text)?)
    }

    /// The body with the fence of this writer, and with the label by which the API server finds what the fence is compared
    /// with: somebody may have taken it off.
    fn fenced<'a>(&'a self, body: &'a Value, identity: &'a [(&'static str, &'a str)]) -> Fenced<'a> {
        Fenced {
            body,
            fence: &self.fence,
            bucket: &self.bucket,
            identity,
        }
    }

    fn merge_request(&self, child: &ChildRef, change: Fenced<'_>) -> BuiltRequest {
        Request::new(self.path(child.kind)).patch(&child.name, &managed(), &KubePatch::Merge(change))
    }

    /// The version that bears the fence and the label of this writer: this one, or the one that a stamp makes of it.
    ///
    /// By a merge patch, which is right whether the object has annotations or not, where a JSON patch needs to know.
    async fn stamped(&self, child: &ChildRef, version: &Version) -> Result<Version, ApiError> {
        if self.bears_the_fence(version) {
            return Ok(version.clone());
        }
        let identity = [("uid", &*version.uid), ("resourceVersion", &*version.resource_version)];
        let request = self.merge_request(child, self.fenced(&Value::Null, &identity));
        let (_, stamped) = self.write_child(child, request).await?;
        Ok(stamped.version())
    }

    fn bears_the_fence(&self, version: &Version) -> bool {
        version.fence == Some(self.epoch()) && version.bucket.as_deref() == Some(&self.bucket)
    }

    /// The fence in a JSON patch of an object that has one.
    fn fence(&self) -> Value {
        let pointer = format!("/metadata/annotations/{}", FENCE_ANNOTATION.replace('/', "~1"));
        json!({"op": "add", "path": pointer, "value": self.fence})
    }

    /// What a JSON patch of exactly this version begins with. A `replace` by what is there, since the server answers a
    /// version that differs with a conflict, and a `test` that fails as if the request were malformed.
    fn exactly(&self, version: &Version) -> Vec<Value> {
        vec![
            json!({"op": "replace", "path": "/metadata/uid", "value": version.uid}),
            json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version.resource_version}),
            self.fence(),
        ]
    }

    /// Reads a child, as it is.
    pub async fn read(&self, child: &ChildRef) -> Result<Value, ApiError> {
        let request = Request::new(self.path(child.kind)).get(&child.name, &GetParams::default());
        exchange(&self.client, &child.to_string(), request).await
    }

    /// Reads the facts of a child.
    pub async fn look(&self, child: &ChildRef) -> Answer {
        observed(child, &self.read(child).await?)
    }

    /// Creates an object that must not exist yet.
    pub async fn create(&self, child: &ChildRef, body: &Value) -> Answer {
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let body = serde_json::to_vec(&self.fenced(body, &[])).map_err(kube::core::request::Error::SerializeBody);
        let create = |body| Request::new(self.path(child.kind)).create(&parameters, body);
        self.write_child(child, body.and_then(create)).await
    }

    /// Applies all fields that we own. With a uid, to that very object, and by force; without, to an object that must
    /// not exist yet. `Conflict` if it has gone, or if one exists, whoever made it: an unforced apply without a version
    /// would merge our fields into it.
    pub async fn apply(&self, child: &ChildRef, body: &Value, known: Option<&str>) -> Answer {
        self.write_child(child, self.apply_request(child, body, known)).await
    }

    async fn apply_object(&self, child: &ChildRef, body: &Value, known: Option<&str>) -> Result<Value, ApiError> {
        let request = self.apply_request(child, body, known);
        self.write(&child.to_string(), request).await
    }

    fn apply_request(&self, child: &ChildRef, body: &Value, known: Option<&str>) -> BuiltRequest {
        let identity = [known.map_or(("resourceVersion", NO_VERSION), |uid| ("uid", uid))];
        let parameters = PatchParams {
            force: known.is_some(),
            field_manager: Some(FIELD_MANAGER.to_owned()),
            // A field that this server does not know would be dropped, and we would apply it again for ever.
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let body = KubePatch::Apply(self.fenced(body, &identity));
        Request::new(self.path(child.kind)).patch(&child.name, &parameters, &body)
    }

    /// Changes a few fields of the object with this uid.
    pub async fn merge(&self, child: &ChildRef, uid: &str, change: &Value) -> Answer {
        let request = self.merge_request(child, self.fenced(change, &[("uid", uid)]));
        self.write_child(child, request).await
    }

    /// Removes what these JSON pointers name from exactly this version of the object.
    pub async fn remove(&self, child: &ChildRef, version: &Version, pointers: &[String]) -> Answer {
        // A stamp touches nothing that a pointer names.
        let mut operations = self.exactly(&self.stamped(child, version).await?);
        operations.extend(pointers.iter().map(|pointer| json!({"op": "remove", "path": pointer})));
        match self.write_child(child, self.json_patch(child, &operations)).await {
            // It has changed, so that a pointer names nothing: what cannot be removed fails before versions are compared.
            Err(ApiError::Invalid { object, message }) => Err(ApiError::Conflict { object, message }),
            answer => answer,
        }
    }

    /// Puts `spec` in place of the one that is there, and with it everything that others set in it: the last resort, when
    /// what they set makes an object with ours in it that the server refuses.
    ///
    /// In three writes beside the stamp, because only an apply leaves the fields owned in such a way that a later apply
    /// can drop them: the replacement, the apply, and the end of the ownership that came from the replacement.
    pub async fn overrule(&self, child: &ChildRef, version: &Version, body: &Value) -> Answer {
        // Of that object, and not of exactly that version: its controller reports a status at the same moment, and whatever
        // else has changed in the specification is to be overruled, too.
        if !self.bears_the_fence(version) {
            self.merge(child, &version.uid, &json!({})).await?;
        }
        let operations = [
            json!({"op": "replace", "path": "/metadata/uid", "value": version.uid}),
            self.fence(),
            json!({"op": "replace", "path": "/spec", "value": body["spec"]}),
        ];
        self.write::<Value>(&child.to_string(), self.json_patch(child, &operations))
            .await?;
        let applied = self.apply_object(child, body, Some(&version.uid)).await?;
        self.disown(child, &applied, FIELD_MANAGER).await
    }

    /// Applies to an object of ours whose managed fields were wiped. The server then takes all that is there for
    /// somebody's (`BEFORE_FIRST_APPLY`), who would keep for ever what we drop one day: that entry is removed.
    pub async fn reclaim(&self, child: &ChildRef, uid: &str, body: &Value) -> Answer {
        let applied = self.apply_object(child, body, Some(uid)).await?;
        self.disown(child, &applied, BEFORE_FIRST_APPLY).await
    }

    /// Ends what a manager owns by other means than an apply, in an object that was just applied and so has the fence. Not
    /// in exactly that version: who only reports a status meanwhile is not in the way.
    async fn disown(&self, child: &ChildRef, object: &Value, manager: &str) -> Answer {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let is_theirs = |entry: &Value| {
            entry["manager"] == manager && entry["operation"] == "Update" && entry.get("subresource").is_none()
        };
        let Some(index) = entries.and_then(|entries| entries.iter().position(is_theirs)) else {
            return observed(child, object);
        };
        let entry = format!("/metadata/managedFields/{index}");
        let operations = [
            json!({"op": "test", "path": format!("{entry}/manager"), "value": manager}),
            json!({"op": "test", "path": format!("{entry}/operation"), "value": "Update"}),
            json!({"op": "remove", "path": entry}),
            self.fence(),
        ];
        match self.write_child(child, self.json_patch(child, &operations)).await {
            // The entries were ordered anew meanwhile. The object is right; only what we drop one day would stay.
            Err(ApiError::Invalid { .. }) => observed(child, object),
            answer => answer,
        }
    }

    fn json_patch(&self, child: &ChildRef, operations: &[Value]) -> BuiltRequest {
        let path = self.path(child.kind);
        http::Request::patch(format!("{path}/{}?fieldManager={FIELD_MANAGER}", child.name))
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::CONTENT_TYPE, "application/json-patch+json")
            .body(json!(operations).to_string().into_bytes())
            .map_err(kube::core::request::Error::BuildRequest)
    }

    /// Deletes exactly this version of the object, stamped first if its kind needs it. Answers what is left of it: a pod
    /// ends when its kubelet says so, and others when their finalizers have gone.
    pub async fn delete(
        &self,
        child: &ChildRef,
        version: &Version,
    ) -> Result<Option<(ChildRef, Arc<Child>)>, ApiError> {
        match self.delete_stamped(child, version).await {
            Ok(left) if left.pointer("/metadata/deletionTimestamp").is_some() => observed(child, &left).map(Some),
            Ok(_) | Err(ApiError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the Database itself.
    pub async fn database(&self, name: &str) -> Result<SeenDatabase, ApiError> {
        let request = Request::new(databases(&self.namespace)).get(name, &GetParams::default());
        exchange(&self.client, &format!("Database {name}"), request).await
    }

    async fn delete_stamped(&self, child: &ChildRef, version: &Version) -> Result<Value, ApiError> {
        let version = self.stamped(child, version).await?;
        let parameters = DeleteParams::background().preconditions(Preconditions {
            uid: Some(version.uid.into()),
            resource_version: Some(version.resource_version.into()),
        });
        let request = Request::new(self.path(child.kind)).delete(&child.name, &parameters);
        self.write(&child.to_string(), request).await
    }

    /// Changes metadata of the Database itself, if it is still at this version.
    pub async fn stamp(&self, name: &str, resource_version: &str, change: &Value) -> Result<SeenDatabase, ApiError> {
        let identity = [("resourceVersion", resource_version)];
        let body = KubePatch::Merge(self.fenced(change, &identity));
        let request = Request::new(databases(&self.namespace)).patch(name, &managed(), &body);
        // Always read: what is left of a Database whose last finalizer went is answered with its old version.
        self.write(&format!("Database {name}"), request).await
    }

    /// Changes the status of the Database, if it is still at this version. Its fence is a field of it, since the API server
    /// takes no annotation in such a write.
    pub async fn status(&self, name: &str, resource_version: &str, change: &Value) -> Result<SeenDatabase, ApiError> {
        let mut body = json!({"metadata": {"resourceVersion": resource_version}, "status": change});
        body["status"]["fence"] = json!(self.epoch().0);
        let request = Request::new(databases(&self.namespace)).patch_subresource(
            "status",
            name,
            &managed(),
            &KubePatch::Merge(body),
        );
        let object = format!("Database {name}, status");
        let text = self.send(&object, request).await?;
        let known = |(store, key): &(Store, Key)| store.database_at(key, version(&text)?);
        match self.known.as_ref().and_then(known) {
            Some(known) => Ok(known),
            None => decoded(&object, &text),
        }
    }

    /// Epoch that this writer writes with.
    pub fn epoch(&self) -> Epoch {
        self.permit.epoch()
    }

    /// Whether it may still write.
    pub fn holds(&self) -> bool {
        self.permit.holds()
    }
}

/// How long an answer may take, with waiting for the API server to have time ([`fleet::throttle::TRIES_FOR`]) and for its
/// first byte ([`fleet::connection::ANSWER_BEGINS`]).
const ANSWER_WITHIN: Duration = Duration::from_mins(1);

/// Whom the API server names as the owner of what was there before the first apply to an object.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// The facts of an object that was answered.
fn observed<'a>(child: &ChildRef, object: impl Into<Json<'a>>) -> Answer {
    Child::observe(child.kind, object).map_err(|error| {
        let source = kube::Error::SerdeError(serde::de::Error::custom(error));
        ApiError::Unknown {
            object: child.to_string(),
            source: Box::new(source),
        }
    })
}

/// Sends a request about this object and decodes the answer. One that never comes is an outage, not a hang.
pub async fn exchange<T: DeserializeOwned>(
    client: &Client,
    object: &str,
    request: BuiltRequest,
) -> Result<T, ApiError> {
    decoded(object, &text(client, object, request).await?)
}

/// Sends a request of which only matters whether it is accepted.
pub(crate) async fn accepted(client: &Client, object: &str, request: BuiltRequest) -> Result<(), ApiError> {
    text(client, object, request).await.map(drop)
}

async fn text(client: &Client, object: &str, request: BuiltRequest) -> Result<String, ApiError> {
    let request = request.map_err(|error| ApiError::of(object, kube::Error::BuildRequest(error)))?;
    let answer = match tokio::time::timeout(ANSWER_WITHIN, client.request_text(request)).await {
        Ok(answer) => answer,
        Err(late) => Err(kube::Error::Service(Box::new(late))),
    };
    answer.map_err(|error| ApiError::of(object, error))
}

/// Not by `kube`, which logs the whole text of an answer that it cannot decode: it may be a Secret.
fn decoded<'a, T: Deserialize<'a>>(object: &str, text: &'a str) -> Result<T, ApiError> {
    serde_json::from_str(text).map_err(|error| ApiError::of(object, kube::Error::SerdeError(error)))
}

fn managed() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn databases(namespace: &str) -> String {
    collection(api::names::GROUP, api::names::VERSION, api::names::PLURAL, namespace)
}

/// Path of the collection of a resource in a namespace.
pub fn collection(group: &str, version: &str, plural: &str, namespace: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}/namespaces/{namespace}/{plural}")
    } else {
        format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}")
    }
}

#[cfg(test)]
mod tests;
