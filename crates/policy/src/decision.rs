//! What was decided, and why.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a rule's finding does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is recorded.
    Audit,
    /// The user is told.
    Warn,
    /// The Database is refused.
    Deny,
}

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Untidy.
    Low,
    /// To be mended some time.
    Medium,
    /// To be mended now.
    High,
    /// Dangerous.
    Critical,
}

/// What a rule found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// The rule, `PACKAGE.NAME`.
    pub id: String,
    /// Where the rule comes from: `global`, `team/payments`, `environment/production`; `api` for what the operator itself
    /// refuses, `engine` for a policy that could not be asked.
    pub level: String,
    /// How bad.
    pub severity: Severity,
    /// What it does.
    pub action: Action,
    /// The field that must be changed, `spec.resources.requests.cpu`.
    pub path: String,
    /// In words, with the user's own text.
    pub message: String,
    /// The larger the worse, where the rule has a measure: an update that does not enlarge it passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<i64>,
}

/// The outcome.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing was found.
    Allow,
    /// Allowed, with words.
    Warn,
    /// Refused by rules.
    Deny,
    /// Refused because a policy could not be asked.
    Error,
}

impl Verdict {
    /// Whether it may be done.
    pub fn is_allowed(self) -> bool {
        matches!(self, Self::Allow | Self::Warn)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Deny => "deny",
            Self::Error => "error",
        })
    }
}

/// An exception that let a finding pass.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Excepted {
    /// Name of the PolicyException.
    pub name: String,
    /// The rule that it let pass.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub approver: String,
    /// Until when.
    pub expires: String,
}

/// Which bundle was asked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct BundleRevision {
    /// As its manifest says.
    pub revision: String,
    /// Of all its files.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

/// The answer to a [`crate::request::Request`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// The outcome.
    pub verdict: Verdict,
    /// All findings, whatever they do, the worst first.
    pub violations: Vec<Violation>,
    /// What the user is told though it is allowed.
    pub warnings: Vec<String>,
    /// Exceptions that were used.
    pub exceptions: Vec<Excepted>,
    /// The bundles that were asked, by name.
    pub bundles: BTreeMap<String, BundleRevision>,
}

/// Level of what the operator itself refuses, whatever policies say.
pub const OPERATOR: &str = "api";

/// Rule under which a policy that could not be asked is reported.
pub const POLICY_ERROR: &str = "PolicyError";

impl Decision {
    /// Puts findings in order and draws the verdict from them.
    pub(crate) fn of(
        mut violations: Vec<Violation>,
        mut warnings: Vec<String>,
        exceptions: Vec<Excepted>,
        bundles: BTreeMap<String, BundleRevision>,
    ) -> Self {
        violations.sort_by(|a, b| {
            let key = |v: &Violation| (std::cmp::Reverse((v.action, v.severity)), v.id.clone(), v.path.clone());
            key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message))
        });
        violations.dedup();
        let told = violations.iter().filter(|violation| violation.action == Action::Warn);
        warnings.extend(told.map(Violation::sentence));
        let verdict = if violations.iter().any(|violation| violation.id == POLICY_ERROR) {
            Verdict::Error
        } else if violations.iter().any(|violation| violation.action == Action::Deny) {
            Verdict::Deny
        } else if warnings.is_empty() {
            Verdict::Allow
        } else {
            Verdict::Warn
        };
        Self {
            verdict,
            violations,
            warnings,
            exceptions,
            bundles,
        }
    }

    /// The refusal when there are no policies that could be asked.
    pub fn failed(message: String) -> Self {
        Self::error(message, BTreeMap::new())
    }

    /// The refusal when a policy could not be asked.
    pub(crate) fn error(message: String, bundles: BTreeMap<String, BundleRevision>) -> Self {
        Self::of(vec![Violation::of_engine(message)], Vec::new(), Vec::new(), bundles)
    }
}

impl Violation {
    /// A policy could not be asked.
    pub(crate) fn of_engine(message: String) -> Self {
        Self {
            id: POLICY_ERROR.to_owned(),
            level: "engine".to_owned(),
            severity: Severity::Critical,
            action: Action::Deny,
            path: String::new(),
            message,
            measure: None,
        }
    }

    /// For people, in a line.
    pub fn sentence(&self) -> String {
        if self.path.is_empty() {
            format!("{} ({})", self.message, self.id)
        } else {
            format!("{}: {} ({})", self.path, self.message, self.id)
        }
    }
}
