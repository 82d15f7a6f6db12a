//! What policies say of a declared spec, as it is reported. Who asks them, and how, is not known here.

use api::database::status::{Condition, ConditionStatus, ConditionType, DatabaseStatus};

use crate::status::{POLICY_DENIED, shortened};

/// What policies say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// In a word.
    pub finding: Finding,
    /// In words.
    pub message: String,
}

/// What policies say, in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// Nothing speaks against it, or warnings only.
    Allowed,
    /// The change is refused. What was accepted before it goes on.
    Denied,
    /// They could not be asked about the change: it is not accepted before they are.
    ErrorOnChange,
    /// It was accepted, and breaks rules of now. It goes on.
    AcceptedBefore,
    /// They could not be asked about what is accepted already. It goes on.
    Unjudged,
}

impl Finding {
    const ALL: [Self; 5] = [
        Self::Allowed,
        Self::Denied,
        Self::ErrorOnChange,
        Self::AcceptedBefore,
        Self::Unjudged,
    ];

    /// The reason of the condition `PolicyAllowed`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Allowed => "Allowed",
            Self::Denied => POLICY_DENIED,
            Self::ErrorOnChange => "PolicyError",
            Self::AcceptedBefore => "AcceptedBefore",
            Self::Unjudged => "NotJudged",
        }
    }

    pub(crate) fn status(self) -> ConditionStatus {
        match self {
            Self::Allowed => ConditionStatus::True,
            Self::Denied | Self::ErrorOnChange | Self::AcceptedBefore => ConditionStatus::False,
            Self::Unjudged => ConditionStatus::Unknown,
        }
    }
}

impl Ruling {
    /// A ruling with as much of its message as a condition has room for.
    pub fn new(finding: Finding, message: &str) -> Self {
        Self {
            finding,
            message: shortened(message),
        }
    }

    /// Whether the change is not accepted.
    pub fn refuses(&self) -> bool {
        matches!(self.finding, Finding::Denied | Finding::ErrorOnChange)
    }

    /// What the status tells of this generation, if it was judged.
    pub fn recorded(status: &DatabaseStatus, generation: i64) -> Option<Self> {
        let Condition {
            observed_generation,
            reason,
            message,
            ..
        } = status.condition(ConditionType::PolicyAllowed)?;
        let finding = Finding::ALL.into_iter().find(|finding| finding.reason() == reason)?;
        (*observed_generation == Some(generation)).then(|| Self {
            finding,
            message: message.clone(),
        })
    }
}
