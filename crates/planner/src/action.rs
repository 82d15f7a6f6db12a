//! What a plan may ask for, as data.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::child::{ChildRef, Text, Version};

/// One write.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Puts the finalizer and the bucket label on the Database itself, before the first child is made.
    Stamp(Value),
    /// POST. Never repeated over something that exists: `AlreadyExists` means read it and plan again.
    CreateOnce {
        /// What is created.
        child: ChildRef,
        /// Its manifest, but for what `generate` adds.
        body: Value,
        /// What the shell adds.
        generate: Generate,
        /// Why.
        why: Why,
    },
    /// Server-side apply as our one field manager.
    Apply {
        /// What is applied.
        child: ChildRef,
        /// All fields that we own, and no others.
        body: Value,
        /// uid of the object that we know, which is ours: the apply is forced, and refused (409) if that object has
        /// gone. `None`: never seen, so unforced, and only after a look that nobody else's object has the name.
        known: Option<Text>,
        /// Why.
        why: Why,
        /// What it does to a running database.
        effect: Effect,
    },
    /// A change of a few fields of an object that we know.
    Patch {
        /// What is changed.
        child: ChildRef,
        /// uid that it must still have.
        uid: Text,
        /// The change.
        patch: Patch,
        /// Why.
        why: Why,
        /// What it does to a running database.
        effect: Effect,
    },
    /// DELETE with preconditions.
    Delete {
        /// What is deleted.
        child: ChildRef,
        /// Which it must still be.
        version: Version,
        /// Why.
        why: Why,
    },
    /// Deletes a pod, so that its StatefulSet makes it again from the current template.
    RestartPod {
        /// The pod.
        child: ChildRef,
        /// Which it must still be.
        version: Version,
        /// Why.
        why: Why,
    },
    /// Takes our finalizer off the Database: the last write of its life.
    Release(Value),
}

/// A partial change.
#[derive(Clone, PartialEq, Debug)]
pub enum Patch {
    /// JSON merge patch.
    Merge(Value),
    /// JSON patch that removes these pointers, in this order, from exactly this version of the object.
    Remove {
        /// The version of the object for which the pointers hold.
        version: Version,
        /// JSON pointers, last first.
        pointers: Vec<String>,
    },
}

/// What the shell adds to a created object, because it is random or secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Generate {
    /// Nothing.
    Nothing,
    /// New passwords and a salt: keys `password`, `app-password`, `salt`.
    ///
    /// Only after a look that the Database's volume is not there unseen (its label may have gone): data that knows
    /// another password must be planned with. If it is, nothing is created, and the plan is made again.
    AdminCredentials,
    /// The keys of a service binding, from the administrator's Secret.
    AppCredentials,
}

/// What an action does to a running database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// Nothing that its clients notice.
    None,
    /// The engine reads its configuration again.
    Reload,
    /// A member restarts.
    Restart,
    /// Another member becomes primary.
    Switchover,
    /// Data is copied.
    DataMovement,
}

/// Why an action is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// It does not exist.
    Missing,
    /// It exists and differs from what is declared, because the declaration changed or somebody edited it.
    Differs,
    /// Others put something where it changes our meaning.
    Intruders,
    /// More storage is declared.
    Grow,
    /// A pod runs with other inputs than declared.
    InputsChanged,
    /// The credentials were made anew.
    CredentialsChanged,
    /// A spec passed every check.
    Accepted,
    /// More accepted specs are kept than needed.
    Surplus,
    /// It is wanted no more.
    Unwanted,
    /// The Database is being deleted.
    Deleting,
    /// Which member is the primary became known.
    Role,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "does not exist",
            Self::Differs => "differs from what is declared",
            Self::Intruders => "others added what changes its meaning",
            Self::Grow => "more storage is declared",
            Self::InputsChanged => "runs with other inputs than declared",
            Self::CredentialsChanged => "the credentials were made anew",
            Self::Accepted => "the spec passed every check",
            Self::Surplus => "more accepted specs are kept than needed",
            Self::Unwanted => "is wanted no more",
            Self::Deleting => "the Database is being deleted",
            Self::Role => "its role became known",
        })
    }
}

impl Action {
    /// The object that it writes; `None` for the Database itself.
    pub fn child(&self) -> Option<&ChildRef> {
        match self {
            Self::Stamp(_) | Self::Release(_) => None,
            Self::CreateOnce { child, .. }
            | Self::Apply { child, .. }
            | Self::Patch { child, .. }
            | Self::Delete { child, .. }
            | Self::RestartPod { child, .. } => Some(child),
        }
    }

    /// What it does to a running database.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Stamp(_) | Self::Release(_) | Self::CreateOnce { .. } | Self::Delete { .. } => Effect::None,
            Self::Apply { effect, .. } | Self::Patch { effect, .. } => *effect,
            Self::RestartPod { .. } => Effect::Restart,
        }
    }
}
