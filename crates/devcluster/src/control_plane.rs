//! How the programs of the control plane are told to run. Pure: settings in, arguments and files out.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::folder::Folder;

/// Every cluster has network namespaces of its own, so the same address serves all of them.
const NAMESPACE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// Addresses of Services.
pub(crate) const SERVICE_RANGE: &str = "10.96.0.0/16";

/// The first of [`SERVICE_RANGE`]: the Service `kubernetes`, by which pods reach the API server.
const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// Where the control plane runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In a network namespace of its own, under well-known ports. Needs root.
    Namespace,
    /// On the machine's loopback interface, under ports that were free. Without root; real nodes are not possible.
    Loopback,
}

impl Mode {
    /// What the user who runs this process may have.
    pub fn of_this_user() -> Self {
        if nix::unistd::geteuid().is_root() {
            Self::Namespace
        } else {
            Self::Loopback
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Namespace => "own network namespace",
            Self::Loopback => "loopback of this machine (not root: no real nodes)",
        })
    }
}

/// Address and ports of the control plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoints {
    pub(crate) mode: Mode,
    pub(crate) address: Ipv4Addr,
    api: u16,
    etcd: u16,
    etcd_peer: u16,
    controllers: u16,
    scheduler: u16,
}

impl Endpoints {
    /// The well-known ports, as nobody else is in the namespace.
    pub(crate) fn in_namespace() -> Self {
        Self {
            mode: Mode::Namespace,
            address: NAMESPACE_ADDRESS,
            api: 6443,
            etcd: 2379,
            etcd_peer: 2380,
            controllers: 10257,
            scheduler: 10259,
        }
    }

    /// Ports of the loopback interface that are free now. One could be taken before its program binds it; that program
    /// then ends, and `up` fails with its message.
    pub(crate) fn on_loopback() -> std::io::Result<Self> {
        // All are held until the last is known, so that they differ.
        let mut held = Vec::new();
        let mut free = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = listener.local_addr()?.port();
            held.push(listener);
            Ok::<u16, std::io::Error>(port)
        };
        Ok(Self {
            mode: Mode::Loopback,
            address: Ipv4Addr::LOCALHOST,
            api: free()?,
            etcd: free()?,
            etcd_peer: free()?,
            controllers: free()?,
            scheduler: free()?,
        })
    }

    /// The URL of the API server.
    pub(crate) fn api_server(&self) -> String {
        format!("https://{}:{}", self.address, self.api)
    }

    /// The addresses and names under which clients may call the API server.
    pub(crate) fn server_names(&self) -> (Vec<Ipv4Addr>, [&'static str; 5]) {
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        (vec![self.address, Ipv4Addr::LOCALHOST, API_SERVICE], names)
    }

    fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd)
    }
}

/// Arguments of etcd.
pub(crate) fn etcd(endpoints: &Endpoints, folder: &Folder) -> Vec<String> {
    let client = endpoints.etcd_url();
    let peer = format!("http://127.0.0.1:{}", endpoints.etcd_peer);
    vec![
        format!("--data-dir={}", folder.path().join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // The data is thrown away with the cluster, so nothing has to survive a power loss.
        "--unsafe-no-fsync".to_owned(),
        // The only member elects itself after 0.1 s instead of 1 s.
        "--heartbeat-interval=10".to_owned(),
        "--election-timeout=100".to_owned(),
        "--quota-backend-bytes=8589934592".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

/// Arguments of the API server. Nothing is turned off in admission.
pub(crate) fn api_server(endpoints: &Endpoints, folder: &Folder) -> Vec<String> {
    let pki = |file: &str| folder.pki().join(file).display().to_string();
    let mut arguments = vec![
        format!("--etcd-servers={}", endpoints.etcd_url()),
        format!("--secure-port={}", endpoints.api),
        format!("--advertise-address={}", endpoints.address),
        format!("--tls-cert-file={}", pki("server.crt")),
        format!("--tls-private-key-file={}", pki("server.key")),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--kubelet-client-certificate={}", pki("devcluster.crt")),
        format!("--kubelet-client-key={}", pki("devcluster.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", pki("tokens.pub")),
        format!("--service-account-signing-key-file={}", pki("tokens.key")),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        // A webhook that is given as a Service is called at its endpoint, also where no kube-proxy runs.
        "--enable-aggregator-routing=true".to_owned(),
        // Pods leave a lost node after 10 s instead of 5 minutes.
        "--default-not-ready-toleration-seconds=10".to_owned(),
        "--default-unreachable-toleration-seconds=10".to_owned(),
        format!("--audit-policy-file={}", audit_policy_file(folder).display()),
        format!("--audit-log-path={}", folder.audit_log().display()),
        // A request is answered after its line is written, so that whoever counts lines misses none.
        "--audit-log-mode=blocking".to_owned(),
        "--audit-log-format=json".to_owned(),
        // In MiB: never rotated, as a reader would miss what is in the older file.
        "--audit-log-maxsize=1048576".to_owned(),
    ];
    match endpoints.mode {
        Mode::Namespace => arguments.push("--bind-address=0.0.0.0".to_owned()),
        Mode::Loopback => {
            arguments.push("--bind-address=127.0.0.1".to_owned());
            // A loopback address is refused as an endpoint of the Service `kubernetes`.
            arguments.push("--endpoint-reconciler-type=none".to_owned());
        }
    }
    arguments
}

/// Arguments of the controller manager.
pub(crate) fn controller_manager(endpoints: &Endpoints, folder: &Folder) -> Vec<String> {
    let kubeconfig = folder.kubeconfigs().join("controller-manager").display().to_string();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", endpoints.controllers),
        "--leader-elect=false".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        format!(
            "--service-account-private-key-file={}",
            folder.pki().join("tokens.key").display()
        ),
        format!("--root-ca-file={}", folder.pki().join("ca.crt").display()),
        // The defaults of 20 and 30 a second would limit how fast pods are made.
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
        // A lost node is NotReady after 12 s.
        "--node-monitor-grace-period=12s".to_owned(),
        "--node-monitor-period=2s".to_owned(),
    ]
}

/// Arguments of the scheduler.
pub(crate) fn scheduler(endpoints: &Endpoints, folder: &Folder) -> Vec<String> {
    let kubeconfig = folder.kubeconfigs().join("scheduler").display().to_string();
    vec![
        format!("--config={}", scheduler_file(folder).display()),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", endpoints.scheduler),
    ]
}

/// The scheduler's settings. JSON, as all settings here: YAML that begins with a brace would be refused.
pub(crate) fn scheduler_settings(folder: &Folder) -> Value {
    json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": { "leaderElect": false },
        "clientConnection": { "kubeconfig": folder.kubeconfigs().join("scheduler"), "qps": 1000, "burst": 2000 },
    })
}

/// Where [`scheduler_settings`] is kept.
pub(crate) fn scheduler_file(folder: &Folder) -> PathBuf {
    folder.path().join("scheduler.json")
}

/// What members of this group write is in the audit log with what they sent and what was answered, but for Secrets:
/// who judges writes needs to see them. All others' lines say only that there was a request.
pub const BODIES_GROUP: &str = "devcluster:bodies";

/// Which requests the audit log holds: all of every user who is not part of the cluster itself, one line when the
/// answer begins (for a watch) and one when it is complete. Service accounts count as users, but for those of the
/// control plane (in `kube-system`).
pub(crate) fn audit_policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": true,
        "rules": [
            { "level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"] },
            { "level": "None", "users": [
                "system:anonymous",
                "system:apiserver",
                "system:kube-controller-manager",
                "system:kube-scheduler",
                "system:kube-proxy",
                "system:coredns",
                "system:kwok",
                "system:devcluster",
            ] },
            { "level": "Metadata", "userGroups": [BODIES_GROUP], "resources": [
                { "group": "", "resources": ["secrets", "events", "serviceaccounts/token"] },
                { "group": "events.k8s.io" },
            ] },
            {
                "level": "RequestResponse",
                "userGroups": [BODIES_GROUP],
                "verbs": ["create", "update", "patch", "delete"],
            },
            { "level": "Metadata" },
        ],
    })
}

/// Where [`audit_policy`] is kept.
pub(crate) fn audit_policy_file(folder: &Folder) -> PathBuf {
    folder.path().join("audit-policy.json")
}

/// Writes `settings` to `path`.
pub(crate) fn write_settings(path: &Path, settings: &Value) -> std::io::Result<()> {
    std::fs::write(path, format!("{settings:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> Folder {
        Folder::of(&"unit".parse().unwrap()).unwrap()
    }

    #[test]
    fn loopback_ports_differ() {
        let Endpoints {
            mode,
            address,
            api,
            etcd,
            etcd_peer,
            controllers,
            scheduler,
        } = Endpoints::on_loopback().unwrap();
        assert_eq!((mode, address), (Mode::Loopback, Ipv4Addr::LOCALHOST));
        let ports = std::collections::BTreeSet::from([api, etcd, etcd_peer, controllers, scheduler]);
        assert_eq!(ports.len(), 5, "{ports:?}");
    }

    #[test]
    fn on_loopback_nothing_listens_elsewhere_and_no_endpoint_is_published() {
        let endpoints = Endpoints::on_loopback().unwrap();
        let arguments = api_server(&endpoints, &folder());
        assert!(arguments.contains(&"--bind-address=127.0.0.1".to_owned()));
        assert!(arguments.contains(&"--endpoint-reconciler-type=none".to_owned()));
        let arguments = api_server(&Endpoints::in_namespace(), &folder());
        assert!(arguments.contains(&"--advertise-address=10.9.0.1".to_owned()));
        assert!(!arguments.iter().any(|argument| argument.contains("reconciler")));
    }

    #[test]
    fn bodies_are_logged_for_one_group_and_never_of_secrets() {
        let policy = audit_policy();
        let rules = policy["rules"].as_array().unwrap();
        let first = |matches: &dyn Fn(&Value) -> bool| rules.iter().position(matches).unwrap();
        let secrets = first(&|rule| rule["resources"][0]["resources"][0] == "secrets");
        let bodies = first(&|rule| rule["level"] == "RequestResponse");
        assert!(secrets < bodies, "the first rule that matches counts");
        assert_eq!(rules[secrets]["level"], "Metadata");
        assert_eq!(rules[secrets]["userGroups"], rules[bodies]["userGroups"]);
        assert_eq!(rules[bodies]["userGroups"], json!([BODIES_GROUP]));
    }

    #[test]
    fn no_admission_plugin_is_touched() {
        let arguments = api_server(&Endpoints::in_namespace(), &folder());
        assert!(
            !arguments.iter().any(|argument| argument.contains("admission")),
            "{arguments:?}"
        );
    }
}
