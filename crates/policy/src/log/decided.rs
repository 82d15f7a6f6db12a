//! From a decision to its record.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::decision::{Decision, POLICY_ERROR, Verdict};
use crate::guard::Answer;
use crate::log::record::{Metrics, Record, Resource};
use crate::request::Request;

/// The record of a decision, not masked yet. What rules were given beside the question (children, normalised values) can be
/// made again from it, and is not kept.
#[must_use]
pub fn of(id: Uuid, at: Timestamp, request_uid: Option<&str>, answer: &Answer, replica: &str) -> Record {
    let Answer {
        request,
        decision,
        waited,
        evaluated,
        generation: _,
    } = answer;
    let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Record {
        decision_id: id,
        timestamp: at,
        replica: replica.to_owned(),
        source: request.source,
        request_uid: request_uid.map(str::to_owned),
        operation: request.user.is_some().then_some(request.operation),
        dry_run: request.dry_run,
        user: request.user.clone(),
        resource: resource(request),
        verdict: decision.verdict,
        error: (decision.verdict == Verdict::Error).then(|| errors(decision)),
        violations: decision.violations.clone(),
        warnings: decision.warnings.clone(),
        exceptions: decision.exceptions.iter().map(|exception| json!(exception)).collect(),
        bundles: decision.bundles.clone(),
        input_digest: None,
        input: Some(input(request)),
        erased: Vec::new(),
        masked: Vec::new(),
        metrics: Metrics {
            eval_ns: nanoseconds(*evaluated),
            total_ns: nanoseconds(waited.saturating_add(*evaluated)),
        },
        trace_id: None,
        previous: None,
    }
}

fn errors(decision: &Decision) -> String {
    let errors = decision
        .violations
        .iter()
        .filter(|violation| violation.id == POLICY_ERROR);
    errors
        .map(|violation| violation.message.as_str())
        .collect::<Vec<_>>()
        .join(" | ")
}

fn resource(request: &Request) -> Resource {
    let text = |pointer: &str| {
        request
            .object
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let (group, version) = match text("/apiVersion").unwrap_or_default().split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), String::new()),
    };
    Resource {
        group,
        version,
        kind: text("/kind").unwrap_or_default(),
        namespace: Some(request.namespace.name.clone()),
        name: text("/metadata/name").or_else(|| text("/metadata/generateName")),
        uid: text("/metadata/uid"),
        generation: request.object.pointer("/metadata/generation").and_then(Value::as_i64),
    }
}

/// The question, as it was asked.
fn input(request: &Request) -> Value {
    let mut input = json!({
        "operation": request.operation,
        "dryRun": request.dry_run,
        "source": request.source,
        "namespace": request.namespace,
        "object": kept(&request.object),
    });
    if let Some(user) = &request.user {
        input["user"] = json!(user);
    }
    if let Some(old) = &request.old {
        input["old"] = kept(old);
    }
    input
}

/// An object without `managedFields`, which nobody declares and which is often the larger half.
fn kept(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}
