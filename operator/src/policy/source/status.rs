//! How it stands with policies, for metrics and for whoever waits for them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use policy::decision::BundleRevision;

/// Why policies were not put in force.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum FailureKind {
    /// A source cannot be read, or holds no bundle.
    Source,
    /// A source changes all the time.
    Changing,
    /// Keys cannot be read.
    Keys,
    /// A signature does not hold.
    Signature,
    /// Files mean nothing.
    Content,
    /// It is not known what was in force before, or cannot be remembered.
    State,
    /// Older, expired, unsigned.
    Refused,
    /// The gate could not be asked.
    Gate,
    /// The gate, or the interpreter, refuses them.
    Policies,
}

impl FailureKind {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 9] = [
        Self::Source,
        Self::Changing,
        Self::Keys,
        Self::Signature,
        Self::Content,
        Self::State,
        Self::Refused,
        Self::Gate,
        Self::Policies,
    ];

    /// As a label of metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Changing => "changing",
            Self::Keys => "keys",
            Self::Signature => "signature",
            Self::Content => "content",
            Self::State => "state",
            Self::Refused => "refused",
            Self::Gate => "gate",
            Self::Policies => "policies",
        }
    }
}

/// How it stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Status {
    /// Whether the first look is over, however it ended.
    pub looked: bool,
    /// Whether policies are in force.
    pub loaded: bool,
    /// Which, by name of the bundle.
    pub revisions: BTreeMap<String, BundleRevision>,
    /// The how manieth; 0 if none ever were.
    pub generation: u64,
    /// How many looks failed, by why. While what sources hold cannot be put in force, each look is one more.
    pub failures: BTreeMap<FailureKind, u64>,
    /// When, the last time, what sources hold was in force.
    pub last_success: Option<Timestamp>,
}
