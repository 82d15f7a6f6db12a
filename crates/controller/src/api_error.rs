//! Why a request failed, by what is to be done about it.

use std::time::Duration;

use api::names::FENCE_POLICY_PREFIX;
use kube::core::Status;
use telemetry::{Action, ErrorType, Metrics, WriteOutcome};

/// Why a request failed. The class says what happens next; the message is the API server's own.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The object does not exist (404).
    #[error("{object}: not found")]
    NotFound {
        /// What was asked for.
        object: String,
    },
    /// An object of this name exists already (409 AlreadyExists).
    #[error("{object}: already exists")]
    AlreadyExists {
        /// What was to be created.
        object: String,
    },
    /// The object has changed or gone since we saw it, or another manager owns a field (409 Conflict).
    #[error("{object}: changed since it was read: {message}")]
    Conflict {
        /// What was written.
        object: String,
        /// The server's words.
        message: String,
    },
    /// The namespace is being deleted, so nothing can be created in it.
    #[error("{object}: its namespace is being deleted")]
    NamespaceTerminating {
        /// What was to be created.
        object: String,
    },
    /// A quota or a missing permission (403).
    #[error("{object}: forbidden: {message}")]
    Forbidden {
        /// What was written.
        object: String,
        /// The server's words.
        message: String,
    },
    /// The server will never accept this (400, 405, 406, 413, 415, 422).
    #[error("{object}: refused: {message}")]
    Invalid {
        /// What was written.
        object: String,
        /// The server's words.
        message: String,
    },
    /// Too many requests (429), or the server asks to come back later.
    #[error("{object}: throttled, again after {} s", after.as_secs())]
    Throttled {
        /// What was asked for.
        object: String,
        /// How long to wait.
        after: Duration,
    },
    /// It was not sent: the bucket went to another replica, or is about to.
    #[error("{object}: not written, since this replica no longer owns its bucket")]
    NotOwner {
        /// What was to be written.
        object: String,
    },
    /// The fence refused it (403): another replica may own the bucket, or the object bears the epoch of another
    /// installation. Never a verdict on the object, so nothing else is tried with it.
    #[error("{object}: refused by the fence: {message}")]
    Fenced {
        /// What was written.
        object: String,
        /// The server's words.
        message: String,
    },
    /// The API server cannot judge yet: the fence's map is missing, or the server has just started.
    #[error("{object}: cannot be judged by the API server now: {message}")]
    Unjudged {
        /// What was written.
        object: String,
        /// The server's words.
        message: String,
    },
    /// Any other status: an outage until proven otherwise.
    #[error("{object}: the API server answered {code}: {message}")]
    Failed {
        /// What was asked for.
        object: String,
        /// HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// No answer, or one that cannot be read: an outage, too.
    #[error("{object}: no answer that can be used")]
    Unknown {
        /// What was asked for.
        object: String,
        /// The cause.
        source: Box<kube::Error>,
    },
}

impl ApiError {
    /// What it counts as.
    pub fn error_type(&self) -> ErrorType {
        match self {
            Self::NotFound { .. } | Self::Unjudged { .. } | Self::Failed { .. } | Self::Unknown { .. } => {
                ErrorType::Transient
            }
            Self::AlreadyExists { .. } | Self::Conflict { .. } => ErrorType::Conflict,
            Self::NamespaceTerminating { .. } | Self::Forbidden { .. } => ErrorType::Quota,
            Self::Invalid { .. } => ErrorType::Permanent,
            Self::Throttled { .. } => ErrorType::Throttled,
            Self::NotOwner { .. } => ErrorType::LostOwnership,
            Self::Fenced { .. } => ErrorType::Fenced,
        }
    }

    /// Whether this replica seems no longer to be the one that writes for the Database.
    pub fn ownership_is_over(&self) -> bool {
        match self {
            Self::NotOwner { .. } | Self::Fenced { .. } => true,
            Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::Conflict { .. }
            | Self::NamespaceTerminating { .. }
            | Self::Forbidden { .. }
            | Self::Invalid { .. }
            | Self::Throttled { .. }
            | Self::Unjudged { .. }
            | Self::Failed { .. }
            | Self::Unknown { .. } => false,
        }
    }

    /// Counts a write by how it was answered. One that was not sent is none.
    pub fn count<T>(metrics: &Metrics, action: Action, answer: &Result<T, Self>) {
        let outcome = match answer {
            Ok(_) => Some(WriteOutcome::Success),
            Err(error) => error.write_outcome(),
        };
        if let Some(outcome) = outcome {
            metrics.writes.record(action, outcome);
        }
    }

    /// How a write that failed so is counted; `None` if it was not sent.
    pub fn write_outcome(&self) -> Option<WriteOutcome> {
        Some(match self {
            Self::AlreadyExists { .. } | Self::Conflict { .. } => WriteOutcome::Conflict,
            Self::NamespaceTerminating { .. } | Self::Forbidden { .. } | Self::Invalid { .. } | Self::Fenced { .. } => {
                WriteOutcome::Refused
            }
            Self::Throttled { .. } => WriteOutcome::Throttled,
            Self::NotFound { .. } | Self::Unjudged { .. } | Self::Failed { .. } | Self::Unknown { .. } => {
                WriteOutcome::Error
            }
            Self::NotOwner { .. } => return None,
        })
    }

    /// The class of an error about this object.
    pub fn of(object: &str, error: kube::Error) -> Self {
        let object = object.to_owned();
        let kube::Error::Api(status) = &error else {
            return Self::Unknown {
                object,
                source: Box::new(error),
            };
        };
        let message = status.message.clone();
        let details = status.details.as_ref();
        let cause =
            |reason: &str| details.is_some_and(|details| details.causes.iter().any(|cause| cause.reason == reason));
        match status.code {
            403 if is_of_the_fence(status) => Self::Fenced { object, message },
            _ if is_of_the_fence(status) || is_starting(status) => Self::Unjudged { object, message },
            404 => Self::NotFound { object },
            409 if status.reason == "AlreadyExists" => Self::AlreadyExists { object },
            409 => Self::Conflict { object, message },
            403 if cause("NamespaceTerminating") => Self::NamespaceTerminating { object },
            403 => Self::Forbidden { object, message },
            400 | 405 | 406 | 413 | 415 | 422 => Self::Invalid { object, message },
            429 => {
                let seconds = details.map_or(1, |details| details.retry_after_seconds.max(1));
                Self::Throttled {
                    object,
                    after: Duration::from_secs(u64::from(seconds)),
                }
            }
            code => Self::Failed { object, code, message },
        }
    }
}

/// Whether one of the fence's policies answered. A verdict of theirs is a 403; everything else (no map, a map that is not
/// read yet, an expression that fails) is the API server's 422 and says nothing about the object.
fn is_of_the_fence(status: &Status) -> bool {
    let names = format!("ValidatingAdmissionPolicy '{FENCE_POLICY_PREFIX}");
    status.message.contains(&names)
}

/// Whether the API server has not read yet what it judges writes by. It says so with a 403, as if it were for good.
fn is_starting(status: &Status) -> bool {
    status.code == 403 && status.message.ends_with("not yet ready to handle request")
}

#[cfg(test)]
mod tests;
