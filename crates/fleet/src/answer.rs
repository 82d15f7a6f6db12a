//! What an error of a request means to the core.

use std::time::Duration;

use sharding::protocol::Answer;

use crate::lease::VersionError;

/// One request that was not carried out, or of which that is not known.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {what}")]
pub struct RequestError {
    /// The verb, as RBAC has it.
    pub verb: &'static str,
    /// The resource and the name.
    pub what: String,
    /// Why.
    #[source]
    pub cause: Cause,
}

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// No answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// 409: its precondition did not hold.
    #[error("changed since it was read, or there already")]
    Conflict,
    /// 404: the object, or its kind, or its namespace.
    #[error("not found: {0}")]
    NotFound(String),
    /// 403: a permission is missing.
    #[error("forbidden; is the permission missing? {0}")]
    Forbidden(String),
    /// 429: later.
    #[error("throttled: {0}")]
    Throttled(String),
    /// The API server, or what stands before it, says something else.
    #[error("answered with {code}: {message}")]
    Refused {
        /// The code.
        code: u16,
        /// The words.
        message: String,
    },
    /// No connection, or it broke.
    #[error("no answer")]
    Connection(#[source] Box<kube::Error>),
    /// The answer cannot be used.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// What was to be sent cannot be written.
    #[error("cannot be written as JSON")]
    Unwritable(#[source] serde_json::Error),
}

impl From<kube::Error> for Cause {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::Connection(Box::new(error));
        };
        let message = status.message.clone();
        match status.code {
            409 => Self::Conflict,
            404 => Self::NotFound(message),
            403 => Self::Forbidden(message),
            429 => Self::Throttled(message),
            code => Self::Refused { code, message },
        }
    }
}

impl Cause {
    /// What the core is told of a write. `replaces`: it was to replace an object, and not to create one.
    ///
    /// A conflict makes the core read at once, and anything else makes it wait for a retry period. So only a precondition
    /// that did not hold is a conflict: a refusal for another reason would only be met again.
    #[must_use]
    pub fn answer(&self, replaces: bool) -> Answer {
        match self {
            Self::Conflict => Answer::Conflict,
            Self::NotFound(_) if replaces => Answer::Conflict,
            Self::NotFound(_)
            | Self::Late(_)
            | Self::Forbidden(_)
            | Self::Throttled(_)
            | Self::Refused { .. }
            | Self::Connection(_)
            | Self::Version(_)
            | Self::Unwritable(_) => Answer::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn said(code: u16) -> Cause {
        let status = Status {
            code,
            message: "words".to_owned(),
            ..Status::default()
        };
        kube::Error::Api(Box::new(status)).into()
    }

    #[test]
    fn an_error_is_a_conflict_only_if_nothing_was_or_will_be_written() {
        use Answer::{Conflict, Unknown};
        let broken = || kube::Error::Service("connection reset".into()).into();
        for (case, cause, replacing, creating) in [
            ("409", said(409), Conflict, Conflict),
            ("404: it is gone, or its kind is", said(404), Conflict, Unknown),
            ("410", said(410), Unknown, Unknown),
            ("429", said(429), Unknown, Unknown),
            ("403", said(403), Unknown, Unknown),
            ("422", said(422), Unknown, Unknown),
            ("500", said(500), Unknown, Unknown),
            ("503", said(503), Unknown, Unknown),
            ("504", said(504), Unknown, Unknown),
            ("a connection that broke", broken(), Unknown, Unknown),
            (
                "no answer in time",
                Cause::Late(Duration::from_secs(2)),
                Unknown,
                Unknown,
            ),
        ] {
            assert_eq!(cause.answer(true), replacing, "{case}");
            assert_eq!(cause.answer(false), creating, "{case}");
        }
    }

    #[test]
    fn an_error_names_what_was_asked_for() {
        let error = RequestError {
            verb: "update",
            what: "leases/database-operator-coordinator".to_owned(),
            cause: said(403),
        };
        assert_eq!(
            telemetry::chain(&error),
            "update leases/database-operator-coordinator: forbidden; is the permission missing? words"
        );
    }
}
