//! Where the certificate comes from by which the API server knows the webhook.
//!
//! Either the operator is its own authority: [`rotation`] says what is to be done and when (pure), [`issue`] makes
//! certificates, [`secret`] is how they are kept, [`keeper`] does it all against the API server, in every replica at
//! once. Or somebody else issues them, as cert-manager does, into files: [`files`].
//!
//! A new authority is first published beside the old one, then used, and only then is the old one forgotten, so at each
//! moment the API server accepts what any replica shows:
//!
//! | | accepted by the API server | shown by replicas |
//! | --- | --- | --- |
//! | settled | A | A |
//! | announced | A, B | A |
//! | switched | A, B | A, until they have read the Secret; B |
//! | settled | B | B |
//!
//! Promises: of several replicas that begin at once, one makes the authority and all use it; every write names the
//! version of the Secret that it is based on. Between two steps lies [`Times::settle`], counted from the moment at which
//! both authorities were seen in the registration.
//! Not guaranteed: anything, if clocks of replicas differ by more than [`Times::settle`], or if a replica or an API server
//! hears nothing for longer than that.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

pub mod files;
pub mod issue;
pub mod keeper;
pub mod rotation;
pub mod secret;

/// How long things last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// Life of an authority. A new one is made when a third of it is left.
    pub authority: Duration,
    /// Life of a certificate. A new one is made when a third of it is left.
    pub leaf: Duration,
    /// What replicas and API servers get to learn of a change.
    pub settle: Duration,
    /// Certificates hold from this long ago, for clocks that are late.
    pub backdated: Duration,
}

const DAY: Duration = Duration::from_hours(24);

impl Default for Times {
    fn default() -> Self {
        Self {
            authority: DAY * 365,
            leaf: DAY * 90,
            settle: Duration::from_hours(1),
            backdated: Duration::from_hours(1),
        }
    }
}

fn after(moment: Timestamp, time: Duration) -> Timestamp {
    moment.checked_add(time).unwrap_or(Timestamp::MAX)
}

/// How certificates stand, for readiness and metrics.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// When the certificate that is shown ends; `None` while there is none, and no handshake succeeds.
    pub leaf_ends: Option<Timestamp>,
    /// When the authority ends, if it is ours.
    pub authority_ends: Option<Timestamp>,
    /// Whether the registration accepts what is shown, as far as is known. True too if there is no registration, and if
    /// somebody else sees to it.
    pub accepted: bool,
    /// What is wrong, in words. It is tried again.
    pub trouble: Option<String>,
}

impl Standing {
    fn of_files(pair: &crate::tls::Pair) -> Self {
        Self {
            leaf_ends: Some(pair.ends()),
            authority_ends: None,
            accepted: true,
            trouble: None,
        }
    }
}

fn stand(standing: &watch::Sender<Standing>, next: Standing) {
    standing.send_if_modified(|standing| {
        let changed = *standing != next;
        *standing = next;
        changed
    });
}

/// An error with its causes.
fn in_words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
