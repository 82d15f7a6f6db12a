//! The file by which a client finds the API server and proves who it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::certificates::Credentials;

/// A complete kubeconfig, credentials included, so that it can be moved. JSON is YAML, and `kubectl` reads both.
pub(crate) fn kubeconfig(
    server: &str,
    authority: &str,
    cluster: &str,
    user: &str,
    credentials: &Credentials,
) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": cluster,
        "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": user } }],
        "clusters": [{
            "name": cluster,
            "cluster": { "server": server, "certificate-authority-data": STANDARD.encode(authority) },
        }],
        "users": [{
            "name": user,
            "user": {
                "client-certificate-data": STANDARD.encode(&credentials.certificate),
                "client-key-data": STANDARD.encode(&credentials.key),
            },
        }],
    });
    format!("{config:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_library_reads_it() {
        let credentials = Credentials {
            certificate: "CERTIFICATE".to_owned(),
            key: "KEY".to_owned(),
        };
        let text = kubeconfig("https://10.9.0.1:6443", "AUTHORITY", "dev", "alice", &credentials);
        let config = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("dev"));
        assert_eq!(
            config.clusters[0].cluster.as_ref().unwrap().server.as_deref(),
            Some("https://10.9.0.1:6443")
        );
        assert_eq!(config.auth_infos[0].name, "alice");
    }
}
