//! Nodes that are only played, by KWOK: they are Ready, and pods that are bound to them run in name only.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::folder::Folder;

/// By this annotation KWOK knows its own nodes and leaves real ones alone.
const ANNOTATION: (&str, &str) = ("kwok.x-k8s.io/node", "fake");

/// Addresses of pods that are played. Nothing answers there.
const POD_RANGE: &str = "10.245.0.0/16";

/// A node is NotReady after 12 s without a sign of life; KWOK gives one after a quarter of this.
const LEASE_S: u32 = 16;

/// The rules by which nodes and pods change, as KWOK publishes them, in its folder.
const STAGES: [&str; 4] = [
    "stage/node/fast/node-initialize.yaml",
    "stage/pod/fast/pod-ready.yaml",
    "stage/pod/fast/pod-complete.yaml",
    "stage/pod/fast/pod-delete.yaml",
];

/// The name of one: `simulated-1`, ...
fn name(number: u32) -> String {
    format!("simulated-{number}")
}

/// The nodes to create. Beside real nodes they are tainted, so that only pods that tolerate it are played.
pub(crate) fn nodes(count: u32, beside_real_ones: bool) -> Result<Vec<Node>, serde_json::Error> {
    let taints: Value = if beside_real_ones {
        json!([{ "key": ANNOTATION.0, "value": ANNOTATION.1, "effect": "NoSchedule" }])
    } else {
        json!([])
    };
    let node = |number| {
        let name = name(number);
        serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": { ANNOTATION.0: ANNOTATION.1 },
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "type": "kwok",
                },
            },
            "spec": { "taints": taints },
        }))
    };
    (1..=count).map(node).collect()
}

/// KWOK's program and arguments.
pub(crate) fn kwok(kwok: &Path, folder: &Folder) -> (PathBuf, Vec<String>) {
    let mut arguments = vec![
        format!("--kubeconfig={}", folder.kubeconfigs().join("kwok").display()),
        format!(
            "--manage-nodes-with-annotation-selector={}={}",
            ANNOTATION.0, ANNOTATION.1
        ),
        format!("--node-lease-duration-seconds={LEASE_S}"),
        format!("--cidr={POD_RANGE}"),
    ];
    arguments.extend(STAGES.map(|stage| format!("--config={}", kwok.join(stage).display())));
    (kwok.join("kwok"), arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_nodes_keep_pods_off_only_beside_real_ones() {
        let taints = |beside| {
            let nodes = nodes(2, beside).unwrap();
            assert_eq!(
                nodes.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>(),
                ["simulated-1", "simulated-2"]
            );
            nodes[0].spec.as_ref().unwrap().taints.clone().unwrap_or_default().len()
        };
        assert_eq!((taints(false), taints(true)), (0, 1));
    }
}
