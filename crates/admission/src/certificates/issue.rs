//! Makes certificates. Random: keys are.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use super::rotation::{Change, State, Step};
use super::{Times, after};
use crate::tls::{Pair, TlsError};

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The library refuses.
    #[error("no certificate can be made for {name}")]
    Make {
        /// For whom.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// What was made cannot be read, or what stands in the Secret cannot.
    #[error(transparent)]
    Read(#[from] TlsError),
}

/// Does `step`, of which [`super::rotation::next`] says that it is next. A step that does not fit the state, which
/// therefore was not said, leaves it as it is.
pub fn carry_out(
    step: Step,
    state: Option<State>,
    server: &str,
    now: Timestamp,
    times: &Times,
) -> Result<State, IssueError> {
    let Some(state) = state.filter(|_| step != Step::Begin) else {
        let authority = authority(server, now, times)?;
        let leaf = leaf(&authority, server, now, times)?;
        return Ok(State {
            authority,
            leaf,
            change: Change::Settled,
        });
    };
    Ok(match (step, state.change.clone()) {
        (Step::RenewLeaf, _) => State {
            leaf: leaf(&state.authority, server, now, times)?,
            ..state
        },
        (Step::Announce, Change::Settled | Change::Announced { .. }) => State {
            change: Change::Announced {
                next: authority(server, now, times)?,
                accepted: None,
            },
            ..state
        },
        (Step::NoteAccepted, Change::Announced { next, accepted: None }) => State {
            change: Change::Announced {
                next,
                accepted: Some(now),
            },
            ..state
        },
        (Step::Switch, Change::Announced { next, .. }) => State {
            leaf: leaf(&next, server, now, times)?,
            change: Change::Switched {
                former: state.authority.certificate().to_owned(),
                since: now,
            },
            authority: next,
        },
        (Step::Forget, Change::Switched { .. }) => State {
            change: Change::Settled,
            ..state
        },
        (Step::Begin | Step::Announce | Step::NoteAccepted | Step::Switch | Step::Forget, _) => state,
    })
}

/// An authority of its own name: two of one name are hard to tell apart for whoever checks a certificate.
fn authority(server: &str, now: Timestamp, times: &Times) -> Result<Pair, IssueError> {
    let name = format!("{server} authority of {now}");
    let made = || {
        let key = KeyPair::generate()?;
        let mut parameters = parameters(&name, (now, times.backdated), after(now, times.authority));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok((parameters.self_signed(&key)?.pem(), key.serialize_pem()))
    };
    pair(&name, made())
}

/// A certificate for `server`, which ends no later than its authority.
fn leaf(authority: &Pair, server: &str, now: Timestamp, times: &Times) -> Result<Pair, IssueError> {
    let ends = after(now, times.leaf).min(authority.ends());
    let made = || {
        let issuer = Issuer::from_ca_cert_pem(authority.certificate(), KeyPair::from_pem(authority.key())?)?;
        let key = KeyPair::generate()?;
        let mut parameters = parameters(server, (now, times.backdated), ends);
        parameters.subject_alt_names = vec![SanType::DnsName(server.try_into()?)];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        Ok((parameters.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    };
    pair(server, made())
}

fn pair(name: &str, made: Result<(String, String), rcgen::Error>) -> Result<Pair, IssueError> {
    let (certificate, key) = made.map_err(|source| IssueError::Make {
        name: name.to_owned(),
        source,
    })?;
    Ok(Pair::new(certificate, key)?)
}

fn parameters(name: &str, (now, backdated): (Timestamp, Duration), ends: Timestamp) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, cut(name));
    let moment = |at: Timestamp| {
        let since_1970 = u64::try_from(at.as_second()).unwrap_or_default();
        date_time_ymd(1970, 1, 1) + Duration::from_secs(since_1970)
    };
    parameters.not_before = moment(now.checked_sub(backdated).unwrap_or(now));
    parameters.not_after = moment(ends);
    parameters
}

/// A common name has at most 64 characters. Nobody reads it; names are in the extension.
fn cut(name: &str) -> &str {
    &name[name.len().saturating_sub(64)..]
}
