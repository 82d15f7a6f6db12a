//! The [`State`] as a Secret.

use std::collections::BTreeMap;

use api::names::{FIELD_MANAGER, MANAGED_BY_LABEL, PART_OF_LABEL};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::rotation::{Change, State};
use crate::tls::{Pair, TlsError};

/// Name of the Secret, in the operator's namespace.
pub const NAME: &str = "database-operator-webhook-tls";

/// The certificate that is shown, and its key, as in any Secret of this type.
const LEAF: (&str, &str) = ("tls.crt", "tls.key");
/// What signs.
const AUTHORITY: (&str, &str) = ("authority.crt", "authority.key");
/// What will sign.
const NEXT: (&str, &str) = ("next-authority.crt", "next-authority.key");
/// What has signed.
const FORMER: &str = "former-authority.crt";
/// All authorities to be accepted, for clients.
pub const BUNDLE: &str = "ca.crt";

/// Since when both authorities have been accepted.
const ACCEPTED_AT: &str = "next-authority-accepted-at";
/// Since when the next authority has been the authority.
const SWITCHED_AT: &str = "authority-switched-at";

/// Why a Secret cannot be used. Says nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Somebody else's.
    #[error(
        "Secret {NAME} is not this operator's (it has no label {MANAGED_BY_LABEL}={FIELD_MANAGER}), so it is left as it \
         is; delete or rename it, or read certificates from files"
    )]
    NotOurs,
    /// A part is not there, or is no time where it must be one.
    #[error("Secret {NAME} has no {0} that can be read")]
    Missing(&'static str),
    /// A part cannot be read.
    #[error("Secret {NAME}: {part}")]
    Part {
        /// Which.
        part: &'static str,
        /// Why.
        source: TlsError,
    },
}

/// A Secret with this state: a new one, or `old` in its next version.
pub(super) fn write(state: &State, namespace: &str, old: Option<&Secret>) -> Secret {
    let State {
        authority,
        leaf,
        change,
    } = state;
    let mut data = BTreeMap::new();
    let mut put = |part: &str, text: &str| data.insert(part.to_owned(), ByteString(text.into()));
    let pair = |(certificate, key), pair: &Pair| {
        [
            (certificate, pair.certificate().to_owned()),
            (key, pair.key().to_owned()),
        ]
    };
    let change = match change {
        Change::Settled => Vec::new(),
        Change::Announced { next, accepted } => {
            let accepted = accepted.map(|at| (ACCEPTED_AT, at.to_string()));
            pair(NEXT, next).into_iter().chain(accepted).collect()
        }
        Change::Switched { former, since } => vec![(FORMER, former.clone()), (SWITCHED_AT, since.to_string())],
    };
    let usual = [pair(LEAF, leaf), pair(AUTHORITY, authority)];
    for (part, text) in usual.into_iter().flatten().chain(change) {
        put(part, &text);
    }
    put(BUNDLE, &state.bundle());
    let mut metadata = old.map(|old| old.metadata.clone()).unwrap_or_default();
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(MANAGED_BY_LABEL.to_owned(), FIELD_MANAGER.to_owned());
    labels.insert(PART_OF_LABEL.to_owned(), FIELD_MANAGER.to_owned());
    Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            managed_fields: None,
            ..metadata
        },
        data: Some(data),
        // It never changes.
        type_: old
            .and_then(|old| old.type_.clone())
            .or_else(|| Some("kubernetes.io/tls".to_owned())),
        ..Secret::default()
    }
}

/// The state in a Secret.
pub(super) fn read(secret: &Secret) -> Result<State, SecretError> {
    let labels = secret.metadata.labels.as_ref();
    if labels
        .and_then(|labels| labels.get(MANAGED_BY_LABEL))
        .map(String::as_str)
        != Some(FIELD_MANAGER)
    {
        return Err(SecretError::NotOurs);
    }
    let data = secret.data.as_ref();
    let text = |part: &'static str| {
        let bytes = data.and_then(|data| data.get(part)).ok_or(SecretError::Missing(part))?;
        Ok(String::from_utf8_lossy(&bytes.0).into_owned())
    };
    let pair = |(certificate, key): (&'static str, &'static str)| {
        Pair::new(text(certificate)?, text(key)?).map_err(|source| SecretError::Part {
            part: certificate,
            source,
        })
    };
    let time = |part: &'static str| text(part)?.parse::<Timestamp>().map_err(|_| SecretError::Missing(part));
    let has = |part: &str| data.is_some_and(|data| data.contains_key(part));
    let change = if has(NEXT.0) {
        Change::Announced {
            next: pair(NEXT)?,
            accepted: has(ACCEPTED_AT).then(|| time(ACCEPTED_AT)).transpose()?,
        }
    } else if has(FORMER) {
        Change::Switched {
            former: text(FORMER)?,
            since: time(SWITCHED_AT)?,
        }
    } else {
        Change::Settled
    };
    Ok(State {
        authority: pair(AUTHORITY)?,
        leaf: pair(LEAF)?,
        change,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Times;
    use super::super::issue::carry_out;
    use super::super::rotation::Step;
    use super::*;

    const SERVER: &str = "database-operator.here.svc";

    fn states() -> Vec<State> {
        let now = "2026-11-28T00:00:00Z".parse().expect("it is a time");
        let steps = [
            Step::Begin,
            Step::Announce,
            Step::NoteAccepted,
            Step::Switch,
            Step::Forget,
        ];
        let mut states: Vec<State> = Vec::new();
        for step in steps {
            let last = states.last().cloned();
            states.push(carry_out(step, last, SERVER, now, &Times::default()).expect("it is made"));
        }
        states
    }

    #[test]
    fn every_state_is_read_as_it_was_written_over_any_other() {
        let states = states();
        for old in &states {
            let mut old = write(old, "here", None);
            old.metadata.resource_version = Some("7".to_owned());
            for state in &states {
                let secret = write(state, "here", Some(&old));
                assert_eq!(read(&secret).expect("it can be read"), *state);
                assert_eq!(secret.metadata.resource_version.as_deref(), Some("7"));
            }
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_keys_are_not_told() {
        let secret = write(&states()[1], "here", None);
        let refused = |change: fn(&mut Secret)| {
            let mut secret = secret.clone();
            change(&mut secret);
            let error = read(&secret).expect_err("it cannot be used");
            format!("{error} {error:?}")
        };
        let parts = |secret: &mut Secret| secret.data.take().expect("data");
        assert!(refused(|secret| secret.metadata.labels = None).contains("is not this operator's"));
        assert!(refused(|secret| secret.data = None).contains("has no "));
        let mixed = |secret: &mut Secret| {
            let mut data = secret.data.take().expect("data");
            let other = data["authority.key"].clone();
            data.insert("tls.key".to_owned(), other);
            secret.data = Some(data);
        };
        assert!(refused(mixed).contains("cannot be used together") || refused(mixed).contains("tls.crt"));
        let mut broken = secret.clone();
        let mut data = parts(&mut broken);
        data.insert("tls.key".to_owned(), ByteString(b"-----BEGIN hunter2".to_vec()));
        broken.data = Some(data);
        let error = read(&broken).expect_err("it cannot be used");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn no_key_is_in_a_debug_output() {
        let state = &states()[1];
        let shown = format!("{state:?}");
        assert!(shown.contains("Announced"), "{shown}");
        for key in [state.authority.key(), state.leaf.key()] {
            let line = key.lines().nth(1).expect("PEM");
            assert!(!shown.contains(line) && !shown.contains("PRIVATE"), "{shown}");
        }
    }
}
