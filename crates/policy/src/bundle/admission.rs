//! Whether a bundle may become the active one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::signature::Trust;
use super::snapshot::Bundle;

/// What must be remembered of the bundle that is active, also over restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activated {
    /// Its revision, which decisions name.
    pub revision: String,
    /// Its digest.
    pub digest: String,
    /// Its sequence.
    pub sequence: Option<u64>,
    /// The highest sequence that was ever active: after a rollback, what was taken back stays taken back.
    pub highest: Option<u64>,
}

impl Activated {
    /// What to remember once `bundle` has taken the place of `current`.
    pub fn after(current: Option<&Self>, bundle: &Bundle) -> Self {
        let sequence = bundle.manifest().metadata.sequence;
        Self {
            revision: bundle.manifest().revision.clone(),
            digest: bundle.digest().to_owned(),
            sequence,
            highest: sequence.max(current.and_then(|current| current.highest.max(current.sequence))),
        }
    }
}

/// Why a bundle may not become the active one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Unsigned, where signatures are required.
    #[error(
        "bundle {bundle}, revision {revision:?}: unsigned, but signatures are required; sign it with `policy sign`"
    )]
    Unsigned {
        /// The bundle.
        bundle: String,
        /// Its revision.
        revision: String,
    },
    /// The key was trusted when the bundle was opened, but is no longer.
    #[error(
        "bundle {bundle}, revision {revision:?}: signed by key {key_id:?}, which is not trusted any more; sign it with a trusted key"
    )]
    KeyNotTrusted {
        /// The bundle.
        bundle: String,
        /// Its revision.
        revision: String,
        /// The key.
        key_id: String,
    },
    /// Past the time that its manifest names.
    #[error(
        "bundle {bundle}, revision {revision:?}: expired at {expires}, and it is {now}; build one with a later metadata.expires"
    )]
    Expired {
        /// The bundle.
        bundle: String,
        /// Its revision.
        revision: String,
        /// When.
        expires: Timestamp,
        /// When it was looked at.
        now: Timestamp,
    },
    /// Without a sequence an old bundle cannot be told from a new one.
    #[error(
        "bundle {bundle}, revision {revision:?}: no metadata.sequence in .manifest; give it one of at least {next}"
    )]
    NoSequence {
        /// The bundle.
        bundle: String,
        /// Its revision.
        revision: String,
        /// The first one that would do.
        next: u64,
    },
    /// An older bundle, or another one of the same sequence.
    #[error(
        "bundle {bundle}, revision {revision:?}: sequence {sequence} is not above {highest}, the highest so far; give it at \
         least {next}, or, to go back, sign it with metadata.rollback_from {highest}"
    )]
    NotNewer {
        /// The bundle.
        bundle: String,
        /// Its revision.
        revision: String,
        /// Its sequence.
        sequence: u64,
        /// The highest sequence that was ever active.
        highest: u64,
        /// The first one that would do.
        next: u64,
    },
    /// A rollback of something else than the highest sequence so far: perhaps an old one, played again.
    #[error(
        "bundle {bundle}, revision {revision:?}: takes back sequence {rollback_from}, but the highest so far is {highest}; sign it with metadata.rollback_from {highest}"
    )]
    RollbackOfOther {
        /// The bundle.
        bundle: String,
        /// Its revision.
        revision: String,
        /// What it takes back.
        rollback_from: u64,
        /// The highest sequence that was ever active.
        highest: u64,
    },
    /// A rollback that does not go back: perhaps an earlier one, played again after a later one.
    #[error(
        "bundle {bundle}, revision {revision:?}: takes back sequence {highest}, but its own, {sequence}, is not below {active}, the active one; give it at least {next} without metadata.rollback_from"
    )]
    NotBack {
        /// The bundle.
        bundle: String,
        /// Its revision.
        revision: String,
        /// Its sequence.
        sequence: u64,
        /// The active sequence.
        active: u64,
        /// The highest sequence that was ever active.
        highest: u64,
        /// The first one that would do.
        next: u64,
    },
    /// Anyone could go back to a weaker policy.
    #[error(
        "bundle {bundle}, revision {revision:?}: takes back sequence {rollback_from}, but is unsigned; sign it with `policy sign`"
    )]
    UnsignedRollback {
        /// The bundle.
        bundle: String,
        /// Its revision.
        revision: String,
        /// What it takes back.
        rollback_from: u64,
    },
}

/// Whether `candidate` may take the place of `current`.
///
/// The same content as the active one passes whatever its sequence: after a restart it comes again.
/// Not guaranteed: that an active bundle is still in time later. Expiry stops activation, not enforcement, since an
/// expired policy is better than none.
pub fn admit(current: Option<&Activated>, candidate: &Bundle, policy: &Trust, now: Timestamp) -> Result<(), Refusal> {
    let (bundle, revision) = (candidate.name().to_owned(), candidate.manifest().revision.clone());
    match candidate.signed_by() {
        None if policy.require_signature => return Err(Refusal::Unsigned { bundle, revision }),
        Some(key_id) if !policy.keys.contains_key(key_id) => {
            return Err(Refusal::KeyNotTrusted {
                bundle,
                revision,
                key_id: key_id.to_owned(),
            });
        }
        None | Some(_) => {}
    }
    if let Some(expires) = candidate.manifest().metadata.expires
        && now >= expires
    {
        return Err(Refusal::Expired {
            bundle,
            revision,
            expires,
            now,
        });
    }
    if current.is_some_and(|current| current.digest == candidate.digest()) {
        return Ok(());
    }
    admit_sequence(current, candidate, policy)
}

/// No rollback can be played again: it names the highest sequence so far, and goes below the active one. So long as no
/// higher sequence comes, the active one only falls; and once one has come, all earlier rollbacks name the wrong one.
fn admit_sequence(current: Option<&Activated>, candidate: &Bundle, policy: &Trust) -> Result<(), Refusal> {
    let (bundle, revision) = (candidate.name().to_owned(), candidate.manifest().revision.clone());
    let metadata = &candidate.manifest().metadata;
    let active = current.and_then(|current| current.sequence);
    let highest = current.and_then(|current| current.highest).max(active);
    let next = highest.map_or(1, |highest| highest.saturating_add(1));
    let (sequence, highest) = match (metadata.sequence, highest) {
        (None, None) if !policy.require_signature => return Ok(()),
        (None, _) => return Err(Refusal::NoSequence { bundle, revision, next }),
        (Some(_), None) => return Ok(()),
        (Some(sequence), Some(highest)) if sequence > highest => return Ok(()),
        (Some(sequence), Some(highest)) => (sequence, highest),
    };
    let active = active.unwrap_or(highest);
    match metadata.rollback_from {
        None => Err(Refusal::NotNewer {
            bundle,
            revision,
            sequence,
            highest,
            next,
        }),
        Some(rollback_from) if candidate.signed_by().is_none() => Err(Refusal::UnsignedRollback {
            bundle,
            revision,
            rollback_from,
        }),
        Some(rollback_from) if rollback_from != highest => Err(Refusal::RollbackOfOther {
            bundle,
            revision,
            rollback_from,
            highest,
        }),
        Some(_) if sequence >= active => Err(Refusal::NotBack {
            bundle,
            revision,
            sequence,
            active,
            highest,
            next,
        }),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
