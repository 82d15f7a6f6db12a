//! What is asked for.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::log::cursor::Cursor;
use crate::log::record::{Operation, Record, Source, Verdict};

/// The most that one page holds.
pub const MAX_LIMIT: usize = 1000;

const DEFAULT_LIMIT: usize = 100;

/// Which records to give. Everything that is set must hold; nothing set means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Filter {
    /// One decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<Uuid>,
    /// The requesting user's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The object's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The namespaces that the caller may read; `None` is everything. With a set, objects without a namespace are left
    /// out. Never read from a request: the server sets it after it has asked who the caller is.
    #[serde(skip)]
    pub allowed: Option<BTreeSet<String>>,
    /// The object's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The id of a rule that was broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What was to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Who asked for the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The revision of a bundle that took part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// Not older than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Older than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// How many at most, up to [`MAX_LIMIT`]; 0 stands for 100.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: usize,
    /// Older than this place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

impl Filter {
    /// The limit that applies.
    #[must_use]
    pub fn effective_limit(&self) -> usize {
        match self.limit {
            0 => DEFAULT_LIMIT,
            limit => limit.min(MAX_LIMIT),
        }
    }

    /// Whether a record is asked for, place and number aside. The indexes of the store only find candidates; this
    /// decides.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        // No `..` here: a new filter does not compile until it is checked.
        let Self {
            decision_id,
            user,
            namespace,
            allowed,
            name,
            verdict,
            rule,
            operation,
            source,
            bundle,
            from,
            to,
            limit: _,
            cursor: _,
        } = self;
        let there = record.resource.namespace.as_deref();
        decision_id.is_none_or(|id| id == record.decision_id)
            && equal(user.as_deref(), record.user.as_ref().map(|user| user.name.as_str()))
            && equal(namespace.as_deref(), there)
            && allowed
                .as_ref()
                .is_none_or(|allowed| there.is_some_and(|there| allowed.contains(there)))
            && equal(name.as_deref(), record.resource.name.as_deref())
            && verdict.is_none_or(|verdict| verdict == record.verdict)
            && rule
                .as_ref()
                .is_none_or(|rule| record.violations.iter().any(|violation| &violation.id == rule))
            && operation.is_none_or(|operation| Some(operation) == record.operation)
            && source.is_none_or(|source| source == record.source)
            && bundle
                .as_ref()
                .is_none_or(|wanted| record.bundles.values().any(|bundle| &bundle.revision == wanted))
            && from.is_none_or(|from| record.timestamp >= from)
            && to.is_none_or(|to| record.timestamp < to)
    }
}

/// Nothing wanted, or just that.
fn equal(wanted: Option<&str>, there: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| there == Some(wanted))
}
