//! The `PolicyException`: rules of policy that some Databases may break for a while, because somebody said so.
//!
//! Whether one holds at a moment is for `policy` to say; here is what it is made of. Nothing in it may be added by whoever
//! declares a Database: it is of the whole cluster, and who may write it is for the cluster's RBAC.

#![allow(clippy::duplicated_attributes, reason = "columns are of the same type")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which rules some Databases may break, why, who approved it, and until when.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "intent.example.com",
    version = "v1",
    kind = "PolicyException",
    plural = "policyexceptions",
    singular = "policyexception",
    derive = "PartialEq",
    doc = "Lets some Databases break some rules of policy for at most 90 days. Its use is shown in every decision.",
    printcolumn(
        name = "Rules",
        type_ = "string",
        json_path = ".spec.rules",
        description = "Rules that may be broken."
    ),
    printcolumn(
        name = "Namespaces",
        type_ = "string",
        json_path = ".spec.selector.namespaces",
        description = "Where."
    ),
    printcolumn(
        name = "Approver",
        type_ = "string",
        json_path = ".spec.approver",
        description = "Who answers for it."
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".spec.expires",
        description = "Until when."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Age."
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyExceptionSpec {
    /// Ids of the rules that may be broken, for example `governance.cpu-limit`. Required.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub rules: Vec<String>,
    /// Which Databases it is for: all conditions must hold. Required.
    pub selector: Selector,
    /// Why. Required.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"\S"))]
    pub reason: String,
    /// Who answers for it. Required.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"\S"))]
    pub approver: String,
    /// Until when: at most 90 days after it was made, or it never holds. Required.
    pub expires: Time,
}

/// Which Databases an exception is for: all conditions must hold.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Names of namespaces: at least one, so that nothing is excepted everywhere. Required.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// Names of Databases. Default: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub databases: Vec<String>,
    /// Labels of Databases. Default: any. Whoever may change a Database may set its labels: select by `databases` where that
    /// matters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), schema_with = "labels_schema")]
    pub match_labels: BTreeMap<String, String>,
}

fn labels_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}})
}
