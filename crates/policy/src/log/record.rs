//! One decision, as it is kept and shown.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::{Builder, Uuid};

pub use crate::decision::{Action, BundleRevision, Severity, Verdict, Violation};
pub use crate::request::{Operation, Source, User};

/// One decision. The names are OPA's where its decision log has the field, else camelCase.
///
/// A record goes through [`mask`](crate::log::mask()) before anything else sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// UUIDv7, see [`decision_id`].
    #[serde(rename = "decision_id")]
    pub decision_id: Uuid,
    /// When the decision was made.
    pub timestamp: Timestamp,
    /// The replica that decided.
    pub replica: String,
    /// Who asked for the decision.
    pub source: Source,
    /// The uid of the admission request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_uid: Option<String>,
    /// What was to be done with the object. Absent in a reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// The request asked for no effect.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// The requesting user. Absent in a reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The object that was judged.
    pub resource: Resource,
    /// The outcome.
    pub verdict: Verdict,
    /// Why the verdict is [`Verdict::Error`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The rules that the object breaks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
    /// What the user was told besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The exceptions that were applied, as the policy engine describes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Value>,
    /// The bundles that decided, by name.
    #[serde(default)]
    pub bundles: BTreeMap<String, BundleRevision>,
    /// SHA-256 of the masked input, in hex. The unmasked one would let a short secret be guessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_digest: Option<String>,
    /// What the policies were given, masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// RFC 6901 pointers into this record: members that were removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub erased: Vec<String>,
    /// RFC 6901 pointers into this record: values that were replaced, wholly or in part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<String>,
    /// How long it took.
    #[serde(default)]
    pub metrics: Metrics,
    /// The trace that the decision belongs to.
    #[serde(default, rename = "trace_id", skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// SHA-256, in hex, of the record before this one in the same store. The store sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

/// The object that was judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Namespace. Absent for what has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name. May be absent while it is being generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Uid. Absent before creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The generation that was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
}

/// How long a decision took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Making the input and evaluating the policies.
    pub eval_ns: u64,
    /// Everything, queueing included.
    pub total_ns: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A UUIDv7 from the time of the decision and ten random bytes.
///
/// The time must be the record's `timestamp`: a search for an id looks there.
#[must_use]
pub fn decision_id(now: Timestamp, random: [u8; 10]) -> Uuid {
    let milliseconds = u64::try_from(now.as_millisecond()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
}

impl Record {
    /// The record in the form of OPA's decision log, for tools that read that.
    #[must_use]
    pub fn opa(&self) -> Value {
        let revisions: BTreeMap<_, _> = self
            .bundles
            .iter()
            .map(|(name, bundle)| (name, json!({"revision": bundle.revision})))
            .collect();
        let mut event = json!({
            "labels": {"id": self.replica},
            "decision_id": self.decision_id,
            "bundles": revisions,
            "path": "database/decision",
            "result": {"verdict": self.verdict, "violations": self.violations, "warnings": self.warnings},
            "timestamp": self.timestamp,
            "metrics": {
                "timer_rego_query_eval_ns": self.metrics.eval_ns,
                "timer_server_handler_ns": self.metrics.total_ns,
            },
        });
        let optional = [
            ("input", self.input.clone()),
            ("requested_by", self.user.as_ref().map(|user| json!(user.name))),
            ("error", self.error.as_ref().map(|error| json!({"message": error}))),
            ("trace_id", self.trace_id.as_ref().map(|id| json!(id))),
            ("erased", (!self.erased.is_empty()).then(|| json!(self.erased))),
            ("masked", (!self.masked.is_empty()).then(|| json!(self.masked))),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                event[name] = value;
            }
        }
        event
    }

    /// The rules that were broken, each once, in order.
    pub(crate) fn rules(&self) -> Vec<&str> {
        let mut rules: Vec<&str> = self.violations.iter().map(|violation| violation.id.as_str()).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}
