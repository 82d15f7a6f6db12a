//! The ValidatingWebhookConfiguration, by which the API server knows of the webhook.

use std::collections::BTreeSet;

use api::names::{BUCKET_LABEL, FENCE_ANNOTATION, FIELD_MANAGER, GROUP, NAME_LABEL, PART_OF_LABEL, PLURAL, VERSION};
use serde_json::{Value, json};

use crate::webhook;

/// Name of the configuration.
pub const NAME: &str = "database-operator";
/// Name of the one webhook in it.
pub const WEBHOOK: &str = "databases.intent.example.com";
/// Name of the Service, in the operator's namespace, that leads to the webhook.
pub const SERVICE: &str = "database-operator";
/// Port of that Service.
pub const PORT: u16 = 443;
/// How long the API server waits.
pub const TIMEOUT_SECONDS: u64 = 5;

/// What an API server does that gets no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FailurePolicy {
    /// It refuses. Databases that run go on; nothing new is declared until the webhook is back.
    #[default]
    Fail,
    /// It lets pass. The reconciler, which asks the same policies, refuses what breaks them.
    Ignore,
}

/// What differs between installations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The operator's namespace.
    pub namespace: String,
    /// What happens without an answer.
    pub failure_policy: FailurePolicy,
    /// cert-manager's Certificate, `NAMESPACE/NAME`, if that issues the certificates: it then writes the `caBundle`.
    pub inject_ca_from: Option<String>,
}

/// Name in the certificate: the one that API servers ask for.
pub fn server_name(namespace: &str) -> String {
    api::names::service_host(SERVICE, namespace)
}

/// The manifest. Without `caBundle`, which has another owner.
///
/// - Deletions are not sent: they always pass, and must while the webhook is down.
/// - Neither are updates that leave spec, labels and annotations alone or are of a Database that is being deleted, for the
///   same reason; such a request would pass anyway ([`crate::review::Passes`]).
/// - `sideEffects` is `None`: a decision is recorded, also of a request that fails later or is only tried, and its record
///   says so; nothing has to be undone.
pub fn manifest(registration: &Registration) -> Value {
    let Registration {
        namespace,
        failure_policy,
        inject_ca_from,
    } = registration;
    let excluded = BTreeSet::from(["kube-system", "kube-node-lease", namespace.as_str()]);
    let mut metadata = json!({"name": NAME, "labels": {NAME_LABEL: FIELD_MANAGER, PART_OF_LABEL: FIELD_MANAGER}});
    if let Some(certificate) = inject_ca_from {
        metadata["annotations"] = json!({INJECT: certificate});
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": metadata,
        "webhooks": [{
            "name": WEBHOOK,
            "admissionReviewVersions": ["v1"],
            "clientConfig": {
                "service": {"namespace": namespace, "name": SERVICE, "port": PORT, "path": webhook::PATH},
            },
            "rules": [{
                "apiGroups": [GROUP], "apiVersions": [VERSION], "resources": [PLURAL], "scope": "Namespaced",
                "operations": ["CREATE", "UPDATE"],
            }],
            "namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": excluded},
            ]},
            "matchConditions": [
                {
                    "name": "declaration-is-touched",
                    "expression": format!(
                        "request.operation != 'UPDATE' || !has(object.spec) || !has(oldObject.spec) \
                         || object.spec != oldObject.spec || !({}) || !({})",
                        same("labels"), same("annotations"),
                    ),
                },
                {
                    "name": "is-not-being-deleted",
                    "expression": "request.operation != 'UPDATE' || !has(object.metadata.deletionTimestamp)",
                },
            ],
            "matchPolicy": "Equivalent",
            "failurePolicy": match failure_policy {
                FailurePolicy::Fail => "Fail",
                FailurePolicy::Ignore => "Ignore",
            },
            "sideEffects": "None",
            "timeoutSeconds": TIMEOUT_SECONDS,
        }],
    })
}

/// That two objects have the same of these, the operator's own and the last declaration, which `kubectl` keeps, apart.
fn same(texts: &str) -> String {
    let apart = [BUCKET_LABEL, FENCE_ANNOTATION, LAST_APPLIED].map(|name| format!("'{name}'"));
    let within = |one: &str, other: &str| {
        format!(
            "(!has({one}.metadata.{texts}) || {one}.metadata.{texts}.all(k, k in [{}] || (has({other}.metadata.{texts}) \
             && k in {other}.metadata.{texts} && {other}.metadata.{texts}[k] == {one}.metadata.{texts}[k])))",
            apart.join(", ")
        )
    };
    format!("{} && {}", within("object", "oldObject"), within("oldObject", "object"))
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Annotation by which cert-manager is asked for the `caBundle`.
pub(crate) const INJECT: &str = "cert-manager.io/inject-ca-from";

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(namespace: &str) -> Registration {
        Registration {
            namespace: namespace.to_owned(),
            failure_policy: FailurePolicy::default(),
            inject_ca_from: None,
        }
    }

    #[test]
    fn system_namespaces_and_the_operators_own_are_left_out_once_each() {
        for (namespace, values) in [
            ("operators", json!(["kube-node-lease", "kube-system", "operators"])),
            ("kube-system", json!(["kube-node-lease", "kube-system"])),
        ] {
            let manifest = manifest(&registration(namespace));
            let selector = &manifest["webhooks"][0]["namespaceSelector"]["matchExpressions"][0];
            assert_eq!(selector["values"], values);
        }
    }

    #[test]
    fn it_fails_closed_unless_told_otherwise_and_leaves_the_bundle_to_its_owner() {
        let manifest = manifest(&registration("operators"));
        assert_eq!(manifest["webhooks"][0]["failurePolicy"], "Fail");
        assert!(manifest.pointer("/webhooks/0/clientConfig/caBundle").is_none());
        let ignoring = super::manifest(&Registration {
            failure_policy: FailurePolicy::Ignore,
            inject_ca_from: Some("operators/webhook".to_owned()),
            ..registration("operators")
        });
        assert_eq!(ignoring["webhooks"][0]["failurePolicy"], "Ignore");
        assert_eq!(ignoring["metadata"]["annotations"][INJECT], "operators/webhook");
    }
}
