//! Which replicas there are, and by which authority they are known: read from the API server.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

use super::Replica;

/// Label on an EndpointSlice: its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Name of the port.
const PORT: &str = "https";

/// Why it is not known whom to ask.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// The API server does not say.
    #[error("{verb} {resource}: failed; {remedy}")]
    Failed {
        /// The verb, as RBAC has it.
        verb: &'static str,
        /// The resource.
        resource: String,
        /// What to do.
        remedy: &'static str,
        /// What happened.
        #[source]
        source: Box<kube::Error>,
    },
    /// There are none.
    #[error(
        "Service {service} in namespace {namespace} leads to no replica: name the operator's namespace with \
         --operator-namespace, or replicas with --server; the operator serves decisions only with --https-address"
    )]
    Nobody {
        /// The Service.
        service: String,
        /// Its namespace.
        namespace: String,
    },
    /// The API server itself is not told of an authority.
    #[error("ValidatingWebhookConfiguration {0} has no caBundle; name a file with --ca-file")]
    NoAuthority(String),
}

/// Replicas behind a Service, also those that are not ready: they have decisions too.
pub async fn replicas(client: &Client, namespace: &str, service: &str) -> Result<Vec<Replica>, DiscoverError> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let of_service = ListParams::default().labels(&format!("{SERVICE_LABEL}={service}"));
    let slices = slices.list(&of_service).await.map_err(|error| DiscoverError::Failed {
        verb: "list",
        resource: format!("endpointslices in namespace {namespace}"),
        remedy: "get that permission, or name replicas with --server",
        source: Box::new(error),
    })?;
    let replicas = behind(&slices.items);
    if replicas.is_empty() {
        return Err(DiscoverError::Nobody {
            service: service.to_owned(),
            namespace: namespace.to_owned(),
        });
    }
    Ok(replicas)
}

/// Each address once. A replica of two families of addresses is asked at one of them.
fn behind(slices: &[EndpointSlice]) -> Vec<Replica> {
    let mut replicas = Vec::new();
    let mut seen = BTreeSet::new();
    for slice in slices {
        let ports = slice.ports.iter().flatten();
        let port = ports
            .filter(|port| port.name.as_deref() == Some(PORT))
            .find_map(|port| port.port);
        let Some(port) = port else { continue };
        for Endpoint {
            addresses, target_ref, ..
        } in slice.endpoints.iter().flatten()
        {
            // All of an endpoint's addresses lead to the same.
            let Some(address) = addresses.first() else { continue };
            let host = if address.contains(':') {
                format!("[{address}]:{port}")
            } else {
                format!("{address}:{port}")
            };
            let target = target_ref.as_ref().and_then(|target| target.name.clone());
            let name = target.unwrap_or_else(|| host.clone());
            if seen.insert(name.clone()) {
                replicas.push(Replica {
                    name,
                    url: format!("https://{host}"),
                });
            }
        }
    }
    replicas.sort();
    replicas
}

/// The authorities by which the API server knows the webhook of this configuration (PEM).
pub async fn authorities(client: &Client, configuration: &str) -> Result<Vec<u8>, DiscoverError> {
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let found = configurations.get(configuration).await;
    let found = found.map_err(|error| DiscoverError::Failed {
        verb: "get",
        resource: format!("validatingwebhookconfigurations {configuration}"),
        remedy: "get that permission, or name a file with --ca-file",
        source: Box::new(error),
    })?;
    let name = found.name_any();
    let webhooks = found.webhooks.into_iter().flatten();
    let bundles = webhooks.filter_map(|webhook| webhook.client_config.ca_bundle);
    let bundle = bundles.map(|bundle| bundle.0).find(|bundle| !bundle.is_empty());
    bundle.ok_or(DiscoverError::NoAuthority(name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(ports: &Value, endpoints: &Value) -> EndpointSlice {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s"},
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
        });
        serde_json::from_value(slice).unwrap()
    }

    #[test]
    fn replicas_are_named_after_their_pods_each_once() {
        let https = json!([{"name": "metrics", "port": 8080}, {"name": "https", "port": 8443}]);
        let pod = |name: &str, address: &str| json!({"addresses": [address, "10.9.9.9"], "targetRef": {"kind": "Pod", "name": name}});
        let not_ready = json!({"addresses": ["10.0.0.3"], "conditions": {"ready": false}});
        let metrics = json!([{"name": "metrics", "port": 8080}]);
        let slices = [
            slice(&https, &json!([pod("b", "10.0.0.2"), pod("a", "10.0.0.1"), not_ready])),
            slice(&https, &json!([pod("a", "fd00::1"), {"addresses": ["fd00::7"]}])),
            slice(&metrics, &json!([pod("c", "10.0.0.4")])),
            slice(&https, &json!([])),
        ];
        let found: Vec<String> = behind(&slices)
            .into_iter()
            .map(|Replica { name, url }| format!("{name} {url}"))
            .collect();
        let expected = [
            "10.0.0.3:8443 https://10.0.0.3:8443",
            "[fd00::7]:8443 https://[fd00::7]:8443",
            "a https://10.0.0.1:8443",
            "b https://10.0.0.2:8443",
        ];
        assert_eq!(found, expected);
    }
}
