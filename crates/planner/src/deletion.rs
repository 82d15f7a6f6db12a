//! The end of a Database: its children go, its data stays unless the intent says otherwise, and only then does the
//! finalizer let go.

use api::database::DeletionPolicy;
use api::names;
use serde_json::{Value, json};

use crate::action::{Action, Why};
use crate::child::{Child, ChildRef, Children, Kind};
use crate::plan::{Subject, claim_ref, delete, named_members, of_kind, set_ref};

/// Why a Database is let go at once, with nothing destroyed by us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LetGo {
    /// Its namespace is being deleted, and everything in it.
    NamespaceTerminating,
    /// The resource itself is being removed from the cluster, which says nothing about the data.
    CrdTerminating,
}

/// What is left to be done for a Database that is being deleted.
#[derive(Clone, PartialEq, Debug)]
pub struct Deletion {
    /// Writes, in order.
    pub actions: Vec<Action>,
    /// What has to go before the finalizer lets go.
    pub waits_for: Vec<ChildRef>,
}

impl Deletion {
    /// Whether something is destroyed, so that [`LetGo`] has to be asked for first.
    pub fn destroys(&self) -> bool {
        self.actions
            .iter()
            .any(|action| matches!(action, Action::Delete { .. }))
    }

    /// What must be looked at itself before this is carried out, for the plan to be made again: before pods are waited
    /// for, before data goes, and before the finalizer does. Without its label no watch shows a child, and a StatefulSet
    /// would be left to run, or a promise to delete data would depend on a label.
    pub fn to_look_at(&self, subject: &Subject, policy: DeletionPolicy) -> Vec<ChildRef> {
        let data = [claim_ref(subject, 0), admin_ref(subject)];
        let goes_first = |child: &ChildRef| child.kind != Kind::Pod && !data.contains(child);
        if self.waits_for.iter().any(goes_first) {
            return Vec::new();
        }
        let mut all = vec![set_ref(subject)];
        if policy == DeletionPolicy::Delete {
            all.extend(data);
        }
        all
    }
}

/// Plans the next writes of a deletion.
///
/// ControllerRevisions are left to the garbage collector: they are owned, and nothing depends on them.
pub fn plan_deletion(
    subject: &Subject,
    policy: DeletionPolicy,
    let_go: Option<LetGo>,
    finalizers: &[String],
    children: &Children,
) -> Deletion {
    let release = || Action::Release(without_ours(finalizers));
    if let_go.is_some() {
        return Deletion {
            actions: vec![release()],
            waits_for: Vec::new(),
        };
    }
    let mut actions = Vec::new();
    let mut waits_for = Vec::new();
    // The StatefulSet first, or it would make its pods again.
    for kind in [
        Kind::StatefulSet,
        Kind::Service,
        Kind::Secret,
        Kind::ConfigMap,
        Kind::ServiceAccount,
    ] {
        for (child, found) in of_kind(children, kind).filter(|(_, found)| found.is_controlled_by(&subject.uid)) {
            waits_for.push(child.clone());
            if !found.deleting {
                actions.push(delete(child.clone(), found, Why::Deleting));
            }
        }
    }
    // The StatefulSet's pods end by themselves, with the grace that the engine needs. Those of somebody else's
    // StatefulSet of that name do not.
    let theirs = children
        .get(&set_ref(subject))
        .filter(|set| !set.is_controlled_by(&subject.uid));
    let ours = named_members(subject, children)
        .filter(|(_, pod)| theirs.is_none_or(|set| pod.controller.as_ref() != Some(&set.uid)));
    waits_for.extend(ours.map(|(child, _)| child.clone()));
    // Then the data: the volume first, since a password without data harms nobody, and data without password does.
    let volume = children.get(&claim_ref(subject, 0));
    for keeps_data in [claim_ref(subject, 0), admin_ref(subject)] {
        let opens_what_stays = |found: &Child| {
            volume.is_some_and(|volume| !is_of(subject, volume) && volume.marks.lineage == found.marks.lineage)
        };
        let found = children
            .get(&keeps_data)
            .filter(|found| is_of(subject, found) && !opens_what_stays(found));
        let Some(found) = found.filter(|_| policy == DeletionPolicy::Delete && waits_for.is_empty()) else {
            continue;
        };
        if !found.deleting {
            actions.push(delete(keeps_data.clone(), found, Why::Deleting));
        }
        waits_for.push(keeps_data);
    }
    if waits_for.is_empty() {
        actions.push(release());
    }
    Deletion { actions, waits_for }
}

/// Whether a volume or administrator's Secret is this Database's: it made it, or took it over from the one before. What
/// it found and refused to start upon (another engine, major or lineage) is somebody else's data and is not deleted
/// with it.
fn is_of(subject: &Subject, found: &Child) -> bool {
    found.controller.is_none()
        && found.marks.managed_by.as_deref() == Some(names::FIELD_MANAGER)
        && found.marks.database.as_deref() == Some(subject.name.as_str())
        && found.marks.owner.as_deref() == Some(subject.uid.as_str())
}

fn admin_ref(subject: &Subject) -> ChildRef {
    ChildRef::new(Kind::Secret, names::secret_admin(&subject.name))
}

fn without_ours(finalizers: &[String]) -> Value {
    let rest: Vec<&String> = finalizers
        .iter()
        .filter(|finalizer| *finalizer != names::FINALIZER)
        .collect();
    json!({"metadata": {"finalizers": rest}})
}

/// Merge patch that stamps a Database with our finalizer and its bucket, if it lacks one of them.
pub fn stamp(subject: &Subject, finalizers: &[String], bucket_label: Option<&str>) -> Option<Value> {
    let bucket = subject.bucket.to_string();
    let has_finalizer = finalizers.iter().any(|finalizer| finalizer == names::FINALIZER);
    if has_finalizer && bucket_label == Some(bucket.as_str()) {
        return None;
    }
    let mut patch = json!({"metadata": {"labels": {names::BUCKET_LABEL: bucket}}});
    if !has_finalizer {
        let all: Vec<&str> = finalizers
            .iter()
            .map(String::as_str)
            .chain([names::FINALIZER])
            .collect();
        patch["metadata"]["finalizers"] = json!(all);
    }
    Some(patch)
}

#[cfg(test)]
mod tests;
