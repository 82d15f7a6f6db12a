//! What is to be done about certificates, and when. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::{Times, after};
use crate::tls::Pair;

/// All that replicas share.
#[derive(Clone, PartialEq, Debug)]
pub struct State {
    /// Signs.
    pub authority: Pair,
    /// Is shown by replicas.
    pub leaf: Pair,
    /// What is under way.
    pub change: Change,
}

/// A change of the authority.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// None.
    Settled,
    /// Another is accepted beside it, and will take its place.
    Announced {
        /// The next authority.
        next: Pair,
        /// Since when both have been accepted, as far as is known.
        accepted: Option<Timestamp>,
    },
    /// It has taken the place of one that is still accepted.
    Switched {
        /// The certificate of the former authority.
        former: String,
        /// Since when.
        since: Timestamp,
    },
}

/// What is next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Now.
    Do(Step),
    /// Nothing, before then. Before [`Change::Announced`] is accepted, also when the registration changes.
    Wait(Timestamp),
}

/// What is done to the state, in one write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// All is made anew: there is nothing, or nothing that anybody would accept.
    Begin,
    /// Another certificate of the same authority.
    RenewLeaf,
    /// Another authority, to be accepted beside this one.
    Announce,
    /// Both are accepted from now on.
    NoteAccepted,
    /// The other authority signs the certificate that is shown.
    Switch,
    /// The former authority is accepted no more.
    Forget,
}

impl State {
    /// Certificates of all authorities that are to be accepted.
    pub fn bundle(&self) -> String {
        let authority = self.authority.certificate();
        match &self.change {
            Change::Settled => authority.to_owned(),
            Change::Announced { next, .. } => format!("{authority}{}", next.certificate()),
            Change::Switched { former, .. } => format!("{former}{authority}"),
        }
    }
}

/// What is next, if the API server accepts [`State::bundle`] (`accepted`), or does not ask at all.
pub fn next(state: Option<&State>, accepted: bool, now: Timestamp, times: &Times) -> Next {
    let Some(state) = state else {
        return Next::Do(Step::Begin);
    };
    let State {
        authority,
        leaf,
        change,
    } = state;
    if authority.ends() <= now {
        return Next::Do(Step::Begin);
    }
    let leaf_due = due(leaf, times.leaf);
    // One that would end no later, with its authority, is not worth a write.
    if leaf_due <= now && after(now, times.leaf).min(authority.ends()) > leaf.ends() {
        return Next::Do(Step::RenewLeaf);
    }
    let (step, at) = match change {
        Change::Settled => (Step::Announce, due(authority, times.authority)),
        Change::Announced { next, .. } if next.ends() <= now => (Step::Announce, now),
        Change::Announced { accepted: None, .. } if accepted => (Step::NoteAccepted, now),
        Change::Announced {
            accepted: Some(since), ..
        } if accepted => (Step::Switch, after(*since, times.settle)),
        // The registration will be mended, which is the next that happens.
        Change::Announced { next, .. } => (Step::Announce, next.ends()),
        Change::Switched { since, .. } => (Step::Forget, after(*since, times.settle)),
    };
    if at <= now {
        Next::Do(step)
    } else if leaf_due > now {
        Next::Wait(at.min(leaf_due))
    } else {
        Next::Wait(at.min(leaf.ends()))
    }
}

/// When a third of its life is left.
fn due(pair: &Pair, life: Duration) -> Timestamp {
    pair.ends().checked_sub(life / 3).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
