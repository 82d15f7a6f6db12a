//! StorageClass `local`: a volume is a folder on the node that the scheduler chose.
//!
//! What is done for a claim, from what it looks like:
//!
//! - it is pending and the scheduler has chosen a node for its pod: a folder there and a volume bound to both;
//! - it is bound and asks for more than it has: the volume's capacity, then the claim's status, are raised.
//!
//! And for a volume: once it is released and its policy is `Delete`, folder and volume are removed.
//!
//! As with a real provisioner, a claim whose pod never runs stays pending. Not guaranteed: sizes. Nothing enforces them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use thiserror::Error;

use crate::folder::Folder;

/// The name of the storage class.
pub(crate) const STORAGE_CLASS: &str = "local";

/// By this name the volume controller knows that volumes of the class are ours to make and to delete.
const PROVISIONER: &str = "devcluster/local";

/// Written by the scheduler, for a class that waits for the first consumer.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Says who made a volume; without it the volume controller tries to delete the volume itself, and cannot.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// The label by which a volume names its node.
const HOST_NAME: &str = "kubernetes.io/hostname";

/// The folder of volumes, as the node sees it.
const VOLUMES: &str = "/var/lib/volumes";

/// A step that failed is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// The storage class, as the API server gets it.
pub(crate) fn storage_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": { "storageclass.kubernetes.io/is-default-class": "true" },
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
    })
}

/// One thing to do for one claim or volume.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// Make the folder, then the volume.
    Provision {
        node: String,
        volume: String,
        object: Value,
    },
    /// Raise the volume's capacity, then what the claim says that it has.
    Expand {
        namespace: String,
        claim: String,
        volume: String,
        storage: String,
    },
    /// Remove the folder, then the volume.
    Remove { node: String, volume: String },
}

/// Why a step failed.
#[derive(Debug, Error)]
enum StepError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("{path}: {source}")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("an object is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// What a claim needs now. Pure.
fn for_claim(claim: &PersistentVolumeClaim) -> Option<Step> {
    let spec = claim.spec.as_ref()?;
    let status = claim.status.as_ref();
    if spec.storage_class_name.as_deref() != Some(STORAGE_CLASS) {
        return None;
    }
    let wanted = spec.resources.as_ref()?.requests.as_ref()?.get("storage")?;
    let namespace = claim.namespace()?;
    match status.and_then(|status| status.phase.as_deref()) {
        Some("Bound") => {
            let has = status
                .and_then(|status| status.capacity.as_ref())
                .and_then(|capacity| capacity.get("storage"));
            let volume = spec.volume_name.clone()?;
            (has != Some(wanted)).then(|| Step::Expand {
                namespace,
                claim: claim.name_any(),
                volume,
                storage: wanted.0.clone(),
            })
        }
        Some("Pending") | None if spec.volume_name.is_none() && claim.metadata.deletion_timestamp.is_none() => {
            let node = claim.annotations().get(SELECTED_NODE)?.clone();
            let uid = claim.uid()?;
            let volume = format!("pvc-{uid}");
            let object = json!({
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": { "name": volume, "annotations": { PROVISIONED_BY: PROVISIONER } },
                "spec": {
                    "capacity": { "storage": wanted },
                    "accessModes": spec.access_modes,
                    "volumeMode": spec.volume_mode,
                    "storageClassName": STORAGE_CLASS,
                    "persistentVolumeReclaimPolicy": "Delete",
                    "claimRef": {
                        "apiVersion": "v1",
                        "kind": "PersistentVolumeClaim",
                        "namespace": namespace,
                        "name": claim.name_any(),
                        "uid": uid,
                    },
                    "local": { "path": format!("{VOLUMES}/{volume}") },
                    "nodeAffinity": { "required": { "nodeSelectorTerms": [
                        { "matchExpressions": [{ "key": HOST_NAME, "operator": "In", "values": [node] }] },
                    ] } },
                },
            });
            Some(Step::Provision { node, volume, object })
        }
        Some(_) | None => None,
    }
}

/// What a volume needs now. Pure.
fn for_volume(volume: &PersistentVolume) -> Option<Step> {
    let spec = volume.spec.as_ref()?;
    let ours = volume
        .annotations()
        .get(PROVISIONED_BY)
        .is_some_and(|by| by == PROVISIONER);
    let released = volume.status.as_ref()?.phase.as_deref() == Some("Released");
    if !ours || !released || spec.persistent_volume_reclaim_policy.as_deref() != Some("Delete") {
        return None;
    }
    let terms = &spec.node_affinity.as_ref()?.required.as_ref()?.node_selector_terms;
    let expression = terms.first()?.match_expressions.as_ref()?.first()?;
    let node = expression.values.as_ref()?.first()?.clone();
    Some(Step::Remove {
        node,
        volume: volume.name_any(),
    })
}

/// The folder of a volume, as this process sees it; none on a simulated node, where nothing is ever written.
fn volume_folder(folder: &Folder, node: &str, volume: &str) -> Option<PathBuf> {
    let node = folder.node(node);
    node.is_dir().then(|| node.join("lib/volumes").join(volume))
}

async fn take(step: &Step, client: &Client, folder: &Folder) -> Result<(), StepError> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    match step {
        Step::Provision { node, volume, object } => {
            if let Some(path) = volume_folder(folder, node, volume) {
                fs::create_dir_all(&path).map_err(|source| StepError::Folder { path, source })?;
            }
            let object: PersistentVolume = serde_json::from_value(object.clone())?;
            match volumes.create(&PostParams::default(), &object).await {
                // The claim was seen again before it was bound.
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                made => Ok(made.map(drop)?),
            }
        }
        Step::Expand {
            namespace,
            claim,
            volume,
            storage,
        } => {
            let capacity = json!({ "capacity": { "storage": storage } });
            let parameters = PatchParams::default();
            volumes
                .patch(volume, &parameters, &Patch::Merge(json!({ "spec": capacity })))
                .await?;
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
            claims
                .patch_status(claim, &parameters, &Patch::Merge(json!({ "status": capacity })))
                .await?;
            Ok(())
        }
        Step::Remove { node, volume } => {
            if let Some(path) = volume_folder(folder, node, volume) {
                match fs::remove_dir_all(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    removed => removed.map_err(|source| StepError::Folder { path, source })?,
                }
            }
            match volumes.delete(volume, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                deleted => Ok(deleted.map(drop)?),
            }
        }
    }
}

/// What to do for one object, or that there is nothing (left) to do for it.
type Seen = (String, Option<Step>);

fn claim_seen(event: watcher::Event<PersistentVolumeClaim>) -> Option<Seen> {
    let key =
        |claim: &PersistentVolumeClaim| format!("claim {}/{}", claim.namespace().unwrap_or_default(), claim.name_any());
    match event {
        watcher::Event::Apply(claim) | watcher::Event::InitApply(claim) => Some((key(&claim), for_claim(&claim))),
        watcher::Event::Delete(claim) => Some((key(&claim), None)),
        watcher::Event::Init | watcher::Event::InitDone => None,
    }
}

fn volume_seen(event: watcher::Event<PersistentVolume>) -> Option<Seen> {
    let key = |volume: &PersistentVolume| format!("volume {}", volume.name_any());
    match event {
        watcher::Event::Apply(volume) | watcher::Event::InitApply(volume) => Some((key(&volume), for_volume(&volume))),
        watcher::Event::Delete(volume) => Some((key(&volume), None)),
        watcher::Event::Init | watcher::Event::InitDone => None,
    }
}

/// Serves claims until the task is dropped. Watches list again by themselves when they break; a failed step is tried
/// again each second until the object changes so that it needs another.
pub(crate) async fn serve(client: Client, folder: Folder) {
    let claims = watcher(
        Api::<PersistentVolumeClaim>::all(client.clone()),
        watcher::Config::default(),
    )
    .default_backoff()
    .map(|event| event.map(claim_seen));
    let volumes = watcher(Api::<PersistentVolume>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .map(|event| event.map(volume_seen));
    let mut events = stream::select(claims.boxed(), volumes.boxed());
    let mut failed: BTreeMap<String, Step> = BTreeMap::new();
    let mut retry = tokio::time::interval(RETRY);
    loop {
        let due: Vec<(String, Step)> = tokio::select! {
            event = events.next() => match event {
                Some(Ok(Some((key, step)))) => {
                    failed.remove(&key);
                    step.map(|step| (key, step)).into_iter().collect()
                }
                Some(Ok(None)) => continue,
                Some(Err(error)) => {
                    eprintln!("provisioner: a watch broke and is made again: {error}");
                    continue;
                }
                None => return,
            },
            _ = retry.tick(), if !failed.is_empty() => std::mem::take(&mut failed).into_iter().collect(),
        };
        for (key, step) in due {
            if let Err(error) = take(&step, &client, &folder).await {
                eprintln!("provisioner: {key}: {error}");
                failed.insert(key, step);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(spec: &Value, status: &Value, node: Option<&str>) -> PersistentVolumeClaim {
        let mut annotations = serde_json::Map::new();
        if let Some(node) = node {
            annotations.insert(SELECTED_NODE.to_owned(), node.into());
        }
        let mut whole = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "2Gi" } } });
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        serde_json::from_value(json!({
            "metadata": { "name": "data", "namespace": "shop", "uid": "u1", "annotations": annotations },
            "spec": whole,
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_claim_is_served_only_when_its_pod_has_a_node() {
        let ours = json!({ "storageClassName": "local" });
        let pending = json!({ "phase": "Pending" });
        assert_eq!(for_claim(&claim(&ours, &pending, None)), None, "no pod yet");
        assert_eq!(
            for_claim(&claim(&json!({ "storageClassName": "other" }), &pending, Some("n1"))),
            None,
            "not ours"
        );
        let Some(Step::Provision { node, volume, object }) = for_claim(&claim(&ours, &pending, Some("n1"))) else {
            panic!("a chosen node is the signal to make the volume")
        };
        assert_eq!((node.as_str(), volume.as_str()), ("n1", "pvc-u1"));
        assert_eq!(object["spec"]["claimRef"]["uid"], "u1");
        assert_eq!(object["spec"]["capacity"]["storage"], "2Gi");
        assert_eq!(object["spec"]["local"]["path"], "/var/lib/volumes/pvc-u1");
        serde_json::from_value::<PersistentVolume>(object).unwrap();
    }

    #[test]
    fn a_bound_claim_grows_to_what_it_asks_for_and_then_rests() {
        let bound = json!({ "storageClassName": "local", "volumeName": "pvc-u1" });
        let grown = for_claim(&claim(
            &bound,
            &json!({ "phase": "Bound", "capacity": { "storage": "1Gi" } }),
            Some("n1"),
        ));
        assert_eq!(
            grown,
            Some(Step::Expand {
                namespace: "shop".to_owned(),
                claim: "data".to_owned(),
                volume: "pvc-u1".to_owned(),
                storage: "2Gi".to_owned()
            })
        );
        let settled = claim(
            &bound,
            &json!({ "phase": "Bound", "capacity": { "storage": "2Gi" } }),
            Some("n1"),
        );
        assert_eq!(for_claim(&settled), None);
    }

    #[test]
    fn only_our_released_volumes_are_removed() {
        let volume = |by: &str, phase: &str, policy: &str| -> PersistentVolume {
            serde_json::from_value(json!({
                "metadata": { "name": "pvc-u1", "annotations": { PROVISIONED_BY: by } },
                "spec": {
                    "persistentVolumeReclaimPolicy": policy,
                    "nodeAffinity": { "required": { "nodeSelectorTerms": [
                        { "matchExpressions": [{ "key": HOST_NAME, "operator": "In", "values": ["n1"] }] },
                    ] } },
                },
                "status": { "phase": phase },
            }))
            .unwrap()
        };
        let removed = Some(Step::Remove {
            node: "n1".to_owned(),
            volume: "pvc-u1".to_owned(),
        });
        for (case, by, phase, policy, expected) in [
            ("released", PROVISIONER, "Released", "Delete", removed),
            ("still used", PROVISIONER, "Bound", "Delete", None),
            ("to be kept", PROVISIONER, "Released", "Retain", None),
            ("someone else's", "other", "Released", "Delete", None),
        ] {
            assert_eq!(for_volume(&volume(by, phase, policy)), expected, "{case}");
        }
    }
}
