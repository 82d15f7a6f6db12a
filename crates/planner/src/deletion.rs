//! The end of a Database: its children go, its data stays unless the intent says otherwise, and only then does the
//! finalizer let go.

use api::database::DeletionPolicy;
use api::names;
use serde_json::{Value, json};

use crate::action::{Action, Why};
use crate::child::{ChildRef, Children, Kind};
use crate::plan::{Subject, claim_ref, delete, named_members, of_kind};

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
    // The StatefulSet's pods end by themselves, with the grace that the engine needs.
    waits_for.extend(named_members(subject, children).map(|(child, _)| child.clone()));
    if policy == DeletionPolicy::Delete && waits_for.is_empty() {
        for (child, found) in lasting(subject, children) {
            waits_for.push(child.clone());
            if !found.deleting {
                actions.push(delete(child.clone(), found, Why::Deleting));
            }
        }
    }
    if waits_for.is_empty() {
        actions.push(release());
    }
    Deletion { actions, waits_for }
}

/// What keeps data and outlives the Database: the volume, and the Secret that belongs to the same data set. A volume
/// of another lineage is somebody else's data, and is not deleted with this Database.
fn lasting<'a>(
    subject: &Subject,
    children: &'a Children,
) -> impl Iterator<Item = (&'a ChildRef, &'a crate::child::Child)> {
    let admin = ChildRef::new(Kind::Secret, names::secret_admin(&subject.name));
    let lineage = children.get(&admin).and_then(|found| found.marks.lineage.clone());
    let name = subject.name.clone();
    let wanted = [claim_ref(subject, 0), admin];
    children.iter().filter(move |(child, found)| {
        wanted.contains(child)
            && found.marks.managed_by.as_deref() == Some(names::FIELD_MANAGER)
            && found.marks.database.as_deref() == Some(name.as_str())
            && (lineage.is_none() || found.marks.lineage == lineage)
    })
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
