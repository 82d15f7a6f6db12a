//! The members of a Database: which pods they are, what role each has, and when one must be restarted.

use api::names;
use serde_json::json;

use super::{Planner, Subject, of_kind, set_ref};
use crate::action::{Action, Why};
use crate::child::{Child, ChildRef, Children, Facts, Kind};

impl Planner<'_> {
    /// Roles of pods, and restarts of those that run with other inputs than declared. A restart waits until all that
    /// the new pod will read is in place: made too early, it would come back as it was.
    pub(super) fn pods(&mut self) {
        let set = set_ref(&self.desired.subject);
        let pending = self.plan.actions.iter().any(|action| {
            action
                .child()
                .is_some_and(|child| matches!(child.kind, Kind::ConfigMap | Kind::Secret | Kind::StatefulSet))
        });
        let current = self.children.get(&set).is_some_and(|found| match found.facts {
            Facts::StatefulSet {
                generation,
                observed_generation,
                ..
            } => observed_generation >= generation,
            _ => false,
        });
        for (child, pod) in members(&self.desired.subject, self.children).filter(|(_, pod)| !pod.deleting) {
            if let Some(why) = self.outdated(pod)
                && current
                && !pending
                // A pod that is stopped while something is wrong with its data or credentials may not come back.
                && self.startable
            {
                self.plan.actions.push(Action::RestartPod {
                    child: child.clone(),
                    version: pod.version(),
                    why,
                });
            } else if pod.marks.role.as_deref() != Some(PRIMARY) {
                let role = json!({"metadata": {"labels": {names::ROLE_LABEL: PRIMARY}}});
                self.merge(child, pod, role, Why::Role);
            }
        }
    }

    /// Why a pod must be restarted, if it must.
    pub(super) fn outdated(&self, pod: &Child) -> Option<Why> {
        if pod.marks.inputs.as_deref() != Some(self.plan.inputs.as_str()) {
            Some(Why::InputsChanged)
        } else if engines::profile(self.desired.intent.engine).credentials_follow_secret
            && pod.marks.credentials != Some(self.plan.credentials)
        {
            Some(Why::CredentialsChanged)
        } else {
            None
        }
    }
}

/// Value of the role label of the only member that there is, until members replicate.
const PRIMARY: &str = "primary";

/// The pods that our StatefulSet controls. A pod that only carries our labels is somebody else's.
pub(crate) fn members<'a>(
    subject: &Subject,
    children: &'a Children,
) -> impl Iterator<Item = (&'a ChildRef, &'a Child)> {
    let set = children
        .get(&set_ref(subject))
        .filter(|set| set.is_controlled_by(&subject.uid))
        .map(|set| &set.uid);
    of_kind(children, Kind::Pod).filter(move |(_, pod)| set.is_some() && pod.controller.as_ref() == set)
}

/// The pods that bear the names of members, also after their StatefulSet has gone.
pub(crate) fn named_members<'a>(
    subject: &Subject,
    children: &'a Children,
) -> impl Iterator<Item = (&'a ChildRef, &'a Child)> {
    let prefix = format!("{}-", set_ref(subject).name);
    of_kind(children, Kind::Pod).filter(move |(child, pod)| {
        let ordinal = child.name.strip_prefix(&prefix);
        pod.controller.is_some() && ordinal.is_some_and(|ordinal| ordinal.parse::<u32>().is_ok())
    })
}
