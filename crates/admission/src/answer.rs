//! What the API server is told: a decision as an `AdmissionReview` with a response.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use policy::decision::{Action, BundleRevision, POLICY_ERROR, Verdict, Violation};
use policy::desk::Told;
use policy::guard::Busy;
use serde::Serialize;

use crate::review::{API_VERSION, KIND, Passes};

/// The API server keeps 256 characters of a warning where there are many, and 4,096 of all.
pub const WARNING_BYTES: usize = 250;
/// Warnings of one answer. What is beyond is counted in the last one; the decision has all of them.
pub const WARNINGS: usize = 10;
/// Violations that the message of a refusal lists; `details.causes` lists more.
pub const LINES: usize = 20;
/// Violations that `details.causes` lists.
pub const CAUSES: usize = 100;
/// Text of one violation. It quotes what the user wrote, which may be long.
pub const LINE_BYTES: usize = 1_000;
/// Text of an annotation in the audit log of the API server.
const ANNOTATION_BYTES: usize = 500;

/// Seconds after which somebody who was turned away may come again.
pub const RETRY_AFTER_SECONDS: i32 = 1;

/// An `AdmissionReview` with a response.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

/// What an [`Answer`] says.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    audit_annotations: BTreeMap<&'static str, String>,
}

impl Answer {
    /// Allowed without a question.
    pub fn passed(uid: String, why: Passes) -> Self {
        let why = match why {
            Passes::Deletion => "not asked: a deletion",
            Passes::BeingDeleted => "not asked: it is being deleted",
            Passes::Untouched => "not asked: what is declared is as it was",
        };
        Self::of(uid, None, BTreeMap::from([("verdict", why.to_owned())]))
    }

    /// What policies decided.
    pub fn decided(uid: String, decided: &Told) -> Self {
        let decision = &decided.decision;
        let status = match decision.verdict {
            Verdict::Allow | Verdict::Warn => None,
            Verdict::Deny => Some(denied(decided)),
            Verdict::Error => Some(Status {
                code: Some(500),
                reason: Some(POLICY_ERROR.to_owned()),
                ..denied(decided)
            }),
        };
        let annotations = BTreeMap::from([
            ("decision-id", decided.id.to_string()),
            ("bundle-revision", cut(&revisions(&decision.bundles), ANNOTATION_BYTES)),
            ("verdict", decision.verdict.to_string()),
        ]);
        let mut answer = Self::of(uid, status, annotations);
        answer.response.warnings = warnings(&decision.warnings);
        answer
    }

    /// There is too much to do: whoever asks may come again soon.
    pub fn busy(uid: String, busy: Busy) -> Self {
        Self::refused(uid, 429, "TooManyRequests", &busy.to_string())
    }

    /// There was no decision in time.
    pub fn late(uid: String) -> Self {
        let message = "policies have not answered in time; try again";
        Self::refused(uid, 504, "Timeout", message)
    }

    /// What is asked cannot be understood.
    pub fn odd(uid: String, why: &str) -> Self {
        Self::refused(uid, 400, "BadRequest", why)
    }

    /// As it is sent.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("all keys are strings, so it is JSON")
    }

    /// Whether it may be done.
    pub fn is_allowed(&self) -> bool {
        self.response.allowed
    }

    fn refused(uid: String, code: i32, reason: &str, message: &str) -> Self {
        // Clients come again by themselves where this stands; where one took all its time, that would multiply the wait.
        let again = code == 429;
        let status = Status {
            code: Some(code),
            reason: Some(reason.to_owned()),
            details: again.then(|| StatusDetails {
                retry_after_seconds: Some(RETRY_AFTER_SECONDS),
                ..StatusDetails::default()
            }),
            ..failure(cut(message, LINE_BYTES))
        };
        Self::of(uid, Some(status), BTreeMap::from([("verdict", reason.to_owned())]))
    }

    fn of(uid: String, status: Option<Status>, audit_annotations: BTreeMap<&'static str, String>) -> Self {
        Self {
            api_version: API_VERSION,
            kind: KIND,
            response: Response {
                uid,
                allowed: status.is_none(),
                status,
                warnings: Vec::new(),
                audit_annotations,
            },
        }
    }
}

fn failure(message: String) -> Status {
    Status {
        status: Some("Failure".to_owned()),
        message: Some(message),
        ..Status::default()
    }
}

/// 403 with a line for each violation, and one by which the decision is found again: `kubectl` prints the message as it
/// is, and shows neither the audit log of the API server nor the operator's.
fn denied(decided: &Told) -> Status {
    let decision = &decided.decision;
    let denying: Vec<&Violation> = decision
        .violations
        .iter()
        .filter(|violation| violation.action == Action::Deny)
        .collect();
    let mut message = match (decision.verdict, denying.len()) {
        (Verdict::Error, _) => "refused, because policies could not be asked:".to_owned(),
        (_, 1) => "refused by a rule:".to_owned(),
        (_, count) => format!("refused by {count} rules:"),
    };
    for violation in denying.iter().take(LINES) {
        let _ = write!(message, "\n- {}", cut(&violation.sentence(), LINE_BYTES));
    }
    if let Some(more @ 1..) = denying.len().checked_sub(LINES) {
        let _ = write!(message, "\n- and {more} more");
    }
    let _ = write!(message, "\ndecision {}", decided.id);
    let causes = denying.iter().take(CAUSES).map(|violation| cause(violation)).collect();
    Status {
        code: Some(403),
        reason: Some("Forbidden".to_owned()),
        details: Some(StatusDetails {
            causes: Some(causes),
            ..StatusDetails::default()
        }),
        ..failure(message)
    }
}

fn cause(violation: &Violation) -> StatusCause {
    StatusCause {
        field: Some(cut(&violation.path, LINE_BYTES)).filter(|path| !path.is_empty()),
        message: Some(cut(&violation.message, LINE_BYTES)),
        reason: Some(violation.id.clone()),
    }
}

/// Warnings as the API server passes them on. It drops one with a control character, and adds `Warning:` itself.
fn warnings(said: &[String]) -> Vec<String> {
    let mut warnings: Vec<String> = said.iter().map(|text| cut(text, WARNING_BYTES)).collect();
    warnings.retain(|text| !text.is_empty());
    if warnings.len() > WARNINGS {
        let more = warnings.len() - (WARNINGS - 1);
        warnings.truncate(WARNINGS - 1);
        warnings.push(format!("and {more} more warnings"));
    }
    warnings
}

/// `NAME=REVISION` of each bundle.
fn revisions(bundles: &BTreeMap<String, BundleRevision>) -> String {
    let pairs: Vec<String> = bundles
        .iter()
        .map(|(name, bundle)| format!("{name}={}", bundle.revision))
        .collect();
    pairs.join(",")
}

/// One line of at most `bytes`: it goes to terminals and headers, and quotes what somebody wrote.
fn cut(text: &str, bytes: usize) -> String {
    const ELLIPSIS: char = '…';
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    if line.len() <= bytes {
        return line.to_owned();
    }
    let end = line.floor_char_boundary(bytes - ELLIPSIS.len_utf8());
    format!("{}{ELLIPSIS}", &line[..end])
}

#[cfg(test)]
mod tests;
