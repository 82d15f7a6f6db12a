//! Who takes part in a cluster from its start, and the files by which each proves it.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use crate::certificates::{Authority, CertificateError, Identity, TokenKeys};
use crate::control_plane::Endpoints;
use crate::folder::{Folder, FolderError};
use crate::kubeconfig::kubeconfig;

/// Each program's kubeconfig file, and as whom it acts.
pub(crate) fn of_the_control_plane() -> Vec<(&'static str, Identity)> {
    vec![
        ("admin", Identity::administrator()),
        ("devcluster", Identity::devcluster()),
        (
            "controller-manager",
            Identity::new("system:kube-controller-manager", &[]),
        ),
        ("scheduler", Identity::new("system:kube-scheduler", &[])),
        ("kube-proxy", Identity::new("system:kube-proxy", &[])),
        ("coredns", Identity::new("system:coredns", &[])),
        ("kwok", Identity::new("system:kwok", &["system:masters"])),
    ]
}

/// Why the identities of a new cluster could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A file.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Makes an authority and everybody's files; `nodes` are the names of the real nodes.
pub(crate) fn write(
    folder: &Folder,
    endpoints: &Endpoints,
    nodes: &[String],
    now: SystemTime,
) -> Result<(), IdentityError> {
    let put = |path: &Path, content: &str| fs::write(path, content).map_err(FolderError::at(path));
    let authority = Authority::new(now)?;
    authority.save(&folder.pki())?;
    let tokens = TokenKeys::new()?;
    put(&folder.pki().join("tokens.key"), &tokens.private)?;
    put(&folder.pki().join("tokens.pub"), &tokens.public)?;
    let (addresses, names) = endpoints.server_names();
    let server = authority.server(&addresses, &names, now)?;
    put(&folder.pki().join("server.crt"), &server.certificate)?;
    put(&folder.pki().join("server.key"), &server.key)?;

    let of_nodes = nodes.iter().map(|name| (name.as_str(), Identity::node(name)));
    for (file, identity) in of_the_control_plane().into_iter().chain(of_nodes) {
        let credentials = authority.client(&identity, now)?;
        if identity == Identity::devcluster() {
            // The API server also calls kubelets under this name.
            put(&folder.pki().join("devcluster.crt"), &credentials.certificate)?;
            put(&folder.pki().join("devcluster.key"), &credentials.key)?;
        }
        let cluster = folder.name().to_string();
        let text = kubeconfig(
            &endpoints.api_server(),
            authority.certificate(),
            &cluster,
            &identity.user,
            &credentials,
        );
        put(&folder.kubeconfigs().join(file), &text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::audit_policy;

    #[test]
    fn the_audit_log_shows_the_administrator_and_none_of_the_clusters_own_programs() {
        let policy = audit_policy();
        let silent = policy["rules"][1]["users"].as_array().unwrap();
        for (file, identity) in of_the_control_plane() {
            assert_eq!(
                silent.iter().any(|user| *user == identity.user),
                file != "admin",
                "{file}"
            );
        }
    }
}
