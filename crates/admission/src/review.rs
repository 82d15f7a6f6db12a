//! What the API server asks: an `AdmissionReview` of `admission.k8s.io/v1`, read.

use api::names::{GROUP, PLURAL};
use policy::desk::Asked;
use policy::request::{Operation, Source, User};
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::Value;
use serde_json::value::RawValue;

/// `apiVersion` of a review.
pub(crate) const API_VERSION: &str = "admission.k8s.io/v1";
/// `kind` of a review.
pub(crate) const KIND: &str = "AdmissionReview";

/// A request that can be answered.
#[derive(Debug)]
pub struct Review {
    /// What names it; the answer carries it too.
    pub uid: String,
    /// What is to be done with it.
    pub question: Question,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Question {
    /// It is allowed, and policies are not asked.
    Passes(Passes),
    /// Policies are asked.
    Asks(Box<Asked>),
    /// It is refused: what is asked cannot be understood. In words.
    Odd(String),
}

/// Why policies are not asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passes {
    /// Who could not delete what rules deny could never mend it.
    Deletion,
    /// An update of a Database that is being deleted: its finalizers must be able to let go. Only the API server sets
    /// the time of a deletion; a request that tries to is refused by it (`tests/cluster`).
    BeingDeleted,
    /// An update that leaves all that rules may judge as it is: the operator that stamps a finalizer, a new version of an
    /// annotation of `kubectl`. Asking could bring out warnings only, which nobody has a use for.
    Untouched,
}

/// A request that has no uid, so that no answer could name it: it gets an HTTP error.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON, or not the form of a review.
    #[error("this is no AdmissionReview with a request: {0}")]
    Form(#[source] serde_json::Error),
    /// Of another kind or version.
    #[error("this is {kind} of {api_version}; only {KIND} of {API_VERSION} is answered here")]
    Kind {
        /// Its `kind`.
        kind: String,
        /// Its `apiVersion`.
        api_version: String,
    },
}

/// Objects stay text until it is known that they matter.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    #[serde(borrow)]
    request: &'a RawValue,
}

#[derive(Deserialize)]
struct Named {
    uid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: String,
    operation: String,
    #[serde(borrow)]
    resource: &'a RawValue,
    #[serde(default)]
    namespace: String,
    #[serde(borrow)]
    user_info: &'a RawValue,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(default, borrow)]
    object: Option<&'a RawValue>,
    #[serde(default, borrow)]
    old_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Resource {
    group: String,
    resource: String,
}

#[derive(Deserialize)]
struct UserInfo {
    username: String,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    groups: Option<Vec<String>>,
}

/// Reads an object. Without this a list would do, whose elements are taken for the fields in their order.
fn from_object<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<T> {
    if text.trim_start().starts_with('[') {
        return Err(serde_json::Error::custom("a list where an object is expected"));
    }
    serde_json::from_str(text)
}

/// Reads the body of a request. What has a uid is always a [`Review`], so that it can be refused in the API server's own
/// form.
pub fn read(body: &[u8]) -> Result<Review, Unreadable> {
    let Envelope {
        api_version,
        kind,
        request,
    } = std::str::from_utf8(body)
        .map_err(serde_json::Error::custom)
        .and_then(from_object)
        .map_err(Unreadable::Form)?;
    if api_version != API_VERSION || kind != KIND {
        return Err(Unreadable::Kind { kind, api_version });
    }
    let (uid, question) = match from_object::<Request<'_>>(request.get()) {
        Ok(request) => (request.uid.clone(), question(request)),
        Err(error) => {
            let Named { uid } = from_object(request.get()).map_err(Unreadable::Form)?;
            (uid, Err(format!("the request cannot be read: {error}")))
        }
    };
    let question = question.unwrap_or_else(Question::Odd);
    Ok(Review { uid, question })
}

fn question(request: Request<'_>) -> Result<Question, String> {
    let Resource { group, resource } =
        from_object(request.resource.get()).map_err(|error| format!("resource cannot be read: {error}"))?;
    if group != GROUP || resource != PLURAL {
        return Err(format!(
            "only {PLURAL}.{GROUP} are judged here, not {resource}.{group}; mend the rules of the webhook configuration"
        ));
    }
    let operation = match request.operation.as_str() {
        "CREATE" => Operation::Create,
        "UPDATE" => Operation::Update,
        "DELETE" => return Ok(Question::Passes(Passes::Deletion)),
        other => {
            return Err(format!(
                "the operation {other} is not judged here; mend the rules of the webhook configuration"
            ));
        }
    };
    let object = object("object", request.object)?;
    let old = match operation {
        Operation::Update => Some(self::object("oldObject", request.old_object)?),
        Operation::Create | Operation::Delete => None,
    };
    if let Some(passes) = old.as_ref().and_then(|old| passes(&object, old)) {
        return Ok(Question::Passes(passes));
    }
    if request.namespace.is_empty() {
        return Err("the request names no namespace, whose labels choose the policies".to_owned());
    }
    let UserInfo {
        username,
        uid: id,
        groups,
    } = from_object(request.user_info.get()).map_err(|error| format!("userInfo cannot be read: {error}"))?;
    Ok(Question::Asks(Box::new(Asked {
        operation,
        dry_run: request.dry_run.unwrap_or(false),
        source: Source::Admission,
        user: Some(User {
            name: username,
            uid: id,
            groups: groups.unwrap_or_default(),
        }),
        namespace: request.namespace,
        object,
        old,
        request_uid: Some(request.uid),
    })))
}

/// Why an update passes unasked, if it does.
fn passes(object: &Value, old: &Value) -> Option<Passes> {
    if object["metadata"]["deletionTimestamp"].is_string() {
        Some(Passes::BeingDeleted)
    } else if object["spec"].is_object() && policy::policies::are_same(object, old) {
        Some(Passes::Untouched)
    } else {
        None
    }
}

fn object(field: &str, text: Option<&RawValue>) -> Result<Value, String> {
    let text = text.ok_or_else(|| format!("the request has no {field}"))?;
    let value: Value = serde_json::from_str(text.get()).map_err(|error| format!("{field} cannot be read: {error}"))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(format!("{field} is no object"))
    }
}

#[cfg(test)]
mod tests;
