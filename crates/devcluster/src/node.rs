//! A real node: namespaces and cgroups of its own on this machine, a container runtime, a kubelet and a kube-proxy.
//!
//! Nodes form a star around the control plane, which routes between them: each has one link (`10.9.N.0/24`) and one
//! default route, and only the control plane knows which pods (`10.244.N.0/24`) are where. All traffic between nodes
//! passes one place, where it can be cut.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use thiserror::Error;

use crate::cgroups::{self, CgroupError};
use crate::command::{CommandError, run};
use crate::control_plane::{Endpoints, write_settings};
use crate::folder::{Folder, FolderError};

/// All pods of all nodes. What comes to a Service from elsewhere is masqueraded, so that the answer finds its way back.
const POD_RANGE: &str = "10.244.0.0/16";

/// The image of pod sandboxes.
pub(crate) const SANDBOX_IMAGE: &str = "localhost/pause:1";

/// Where the container runtime listens, inside the node.
pub(crate) const RUNTIME_SOCKET: &str = "/run/containerd/containerd.sock";

/// Inside a node these are its own, so files of the host below them are hidden there.
const HIDDEN: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// Why a node could not be made.
#[derive(Debug, Error)]
pub enum NodeError {
    /// Its cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Its files.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its links and routes, or a copy.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A folder is where a node cannot see it, or where containers cannot be stored.
    #[error("{path}: {reason}; set {variable} to another folder")]
    Place {
        /// The folder.
        path: PathBuf,
        /// Why it is not usable.
        reason: String,
        /// What says where it is.
        variable: &'static str,
    },
}

/// A node by its number, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node(pub(crate) u8);

impl Node {
    /// `n1`, `n2`, ...
    pub(crate) fn name(self) -> String {
        format!("n{}", self.0)
    }

    /// The name of one of its components.
    pub(crate) fn component(self, program: &str) -> String {
        format!("{}/{program}", self.name())
    }

    fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, self.0, 2)
    }

    /// The control plane's end of the link.
    fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, self.0, 1)
    }

    fn pods(self) -> String {
        format!("10.244.{}.0/24", self.0)
    }
}

/// The distribution's programs and the executable that joins namespaces.
#[derive(Debug, Clone)]
pub(crate) struct NodeParts {
    /// The unpacked container runtime.
    pub(crate) runtime: PathBuf,
    /// A container runtime's storage that has the images already.
    pub(crate) images: PathBuf,
    /// Process 1.
    pub(crate) pause: PathBuf,
}

/// The folders that a program from the unpacked packages needs: for `PATH` and for `LD_LIBRARY_PATH`.
pub(crate) fn search_paths(runtime: &Path) -> (String, String) {
    let folder = |path: &str| runtime.join(path).display().to_string();
    let path = format!(
        "{}:{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        folder("usr/bin"),
        folder("usr/sbin")
    );
    (path, folder(&format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH)))
}

/// Fails where a node could not work: containers are stored as overlays, and a node hides parts of the host's files.
pub(crate) fn check_place(path: &Path, variable: &'static str) -> Result<(), NodeError> {
    let refused = |reason: String| NodeError::Place {
        path: path.to_owned(),
        reason,
        variable,
    };
    if let Some(hidden) = HIDDEN.iter().find(|hidden| path.starts_with(hidden)) {
        return Err(refused(format!(
            "nodes have their own {hidden} and do not see this one"
        )));
    }
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
    let kind = nix::sys::statfs::statfs(existing)
        .map_err(|error| refused(error.to_string()))?
        .filesystem_type();
    if kind == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC {
        return Err(refused(
            "it is on an overlay file system, on which no other can be mounted".to_owned(),
        ));
    }
    Ok(())
}

/// Makes the files of a node: settings, and its storage of images.
pub(crate) fn make_files(
    folder: &Folder,
    node: Node,
    parts: &NodeParts,
    endpoints: &Endpoints,
) -> Result<(), NodeError> {
    let place = folder.node(&node.name());
    check_place(&place, "XDG_STATE_HOME")?;
    for part in ["lib", "log", "cni", "cgroup"] {
        let path = place.join(part);
        fs::create_dir_all(&path).map_err(FolderError::at(&path))?;
    }
    let text = |file: &str, text: &str| {
        let path = place.join(file);
        fs::write(&path, text).map_err(FolderError::at(&path))
    };
    let settings = |file: &str, settings: &Value| {
        let path = place.join(file);
        write_settings(&path, settings).map_err(FolderError::at(&path))
    };
    text("resolv.conf", &format!("nameserver {}\n", endpoints.address))?;
    text("containerd.toml", &containerd(&place, &parts.runtime))?;
    settings("cni/pods.conflist", &pod_network(node))?;
    settings("kubelet.json", &kubelet(folder, &place, endpoints))?;
    settings("kube-proxy.json", &kube_proxy(folder, node))?;
    copy_images(&parts.images, &place.join("lib/containerd"))?;
    let cgroups = cgroups::create(&format!("devcluster-{}-{}", folder.id(), node.name()))?;
    settings("cgroups.json", &json!(cgroups))?;
    Ok(())
}

/// Image layers are never written to, so links to them do. The runtime's databases are written in place: they are copied.
fn copy_images(images: &Path, place: &Path) -> Result<(), NodeError> {
    let copied = run(Command::new("cp").args(["--archive", "--link"]).arg(images).arg(place));
    if copied.is_err() {
        // Another file system, where links cannot lead.
        fs::remove_dir_all(place)
            .or_else(ignore_missing)
            .map_err(FolderError::at(place))?;
        run(Command::new("cp").arg("--archive").arg(images).arg(place))?;
        return Ok(());
    }
    let list = run(Command::new("find")
        .arg(images)
        .args(["-name", "*.db", "-printf", "%P\\n"]))?;
    for database in list.lines() {
        let mut copy = Command::new("cp");
        copy.arg("--remove-destination")
            .arg(images.join(database))
            .arg(place.join(database));
        run(&mut copy)?;
    }
    Ok(())
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

/// The cgroups that [`make_files`] made.
pub(crate) fn cgroups_of(folder: &Folder, node: &str) -> Result<Vec<PathBuf>, FolderError> {
    let path = folder.node(node).join("cgroups.json");
    match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        text => serde_json::from_slice(&text.map_err(FolderError::at(&path))?)
            .map_err(|error| FolderError::at(&path)(error.into())),
    }
}

/// Removes the cgroups of all nodes. Their processes have ended.
pub(crate) fn remove_cgroups(folder: &Folder) -> Result<(), NodeError> {
    let nodes = folder.path().join("nodes");
    let entries = match fs::read_dir(&nodes) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(FolderError::at(&nodes))?,
    };
    for entry in entries {
        let name = entry.map_err(FolderError::at(&nodes))?.file_name();
        cgroups::remove(&cgroups_of(folder, &name.to_string_lossy())?)?;
    }
    Ok(())
}

/// The process that becomes the node: in its cgroups first, then in new namespaces, then [`mod@crate::node_init`].
pub(crate) fn init(this: &Path, folder: &Folder, node: Node, pause: &Path) -> Command {
    let place = folder.node(&node.name());
    let mut command = Command::new(this);
    command
        .arg("enter")
        .arg(place.join("cgroups.json"))
        .arg("--")
        .arg("unshare");
    command.args([
        "--mount",
        "--net",
        "--cgroup",
        "--pid",
        "--uts",
        "--ipc",
        "--propagation",
        "private",
    ]);
    // Whoever kills `unshare` kills process 1, and with it the node.
    command.args(["--fork", "--kill-child", "--"]);
    command.arg(this).arg("node-init").arg(&place).arg(pause);
    command
}

/// Runs `program` in a node whose process 1 is `first`.
pub(crate) fn enter(this: &Path, folder: &Folder, node: &str, first: u32, program: &Path) -> Command {
    let mut command = Command::new(this);
    command
        .arg("enter")
        .arg(folder.node(node).join("cgroups.json"))
        .arg("--");
    command.args(["nsenter", "--target", &first.to_string()]);
    command
        .args(["--mount", "--net", "--uts", "--ipc", "--cgroup", "--pid", "--"])
        .arg(program);
    command
}

/// Links a node to the control plane. Called in the control plane's network.
pub(crate) fn connect(node: Node, first: u32) -> Result<(), CommandError> {
    let (name, address, gateway, pods) = (node.name(), node.address(), node.gateway(), node.pods());
    let ip = |line: String| run(Command::new("ip").args(line.split(' '))).map(drop);
    ip(format!("link add {name} type veth peer name eth0 netns {first}"))?;
    ip(format!("address add {gateway}/24 dev {name}"))?;
    ip(format!("link set {name} up"))?;
    let inside = |line: String| {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &first.to_string(), "--net", "--", "ip"])
            .args(line.split(' '));
        run(&mut command).map(drop)
    };
    inside(format!("address add {address}/24 dev eth0"))?;
    inside("link set eth0 up".to_owned())?;
    inside(format!("route add default via {gateway}"))?;
    ip(format!("route add {pods} via {address}"))
}

/// Settings of the container runtime (version 1.6).
fn containerd(place: &Path, runtime: &Path) -> String {
    let quoted = |path: PathBuf| Value::from(path.display().to_string()).to_string();
    let (runc, plugins, networks) = (
        quoted(runtime.join("usr/sbin/runc")),
        quoted(runtime.join("usr/lib/cni")),
        quoted(place.join("cni")),
    );
    format!(
        r#"version = 2
# It would make /opt/containerd on the host.
disabled_plugins = ["io.containerd.internal.v1.opt"]

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{SANDBOX_IMAGE}"
  # Without CAP_SYS_RESOURCE nobody may lower an oom_score_adj, root included.
  restrict_oom_score_adj = true
  disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  BinaryName = {runc}
  SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = {plugins}
  conf_dir = {networks}
"#
    )
}

/// A bridge for the node's pods. Nothing is masqueraded: pods of all nodes reach each other under their own addresses.
fn pod_network(node: Node) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            // A pod may reach itself through a Service.
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/pod-addresses",
                "ranges": [[{ "subnet": node.pods() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
}

fn kubelet(folder: &Folder, place: &Path, endpoints: &Endpoints) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": folder.pki().join("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "containerRuntimeEndpoint": format!("unix://{RUNTIME_SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "clusterDomain": "cluster.local",
        "clusterDNS": [endpoints.address],
        "resolvConf": place.join("resolv.conf"),
        "volumePluginDir": "/var/lib/kubelet-plugins",
        "nodeStatusUpdateFrequency": "4s",
        "serializeImagePulls": false,
        "failSwapOn": false,
        // Without CAP_SYS_RESOURCE it may not be lowered.
        "oomScoreAdj": 0,
        // There is no iptables: kube-proxy works with nftables.
        "makeIPTablesUtilChains": false,
        // The images that are there cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
    })
}

/// Arguments of the kubelet, apart from its settings.
pub(crate) fn kubelet_arguments(folder: &Folder, node: Node) -> Vec<String> {
    let name = node.name();
    vec![
        format!("--config={}", folder.node(&name).join("kubelet.json").display()),
        format!("--kubeconfig={}", folder.kubeconfigs().join(&name).display()),
        format!("--hostname-override={name}"),
        format!("--node-ip={}", node.address()),
    ]
}

/// Settings of kube-proxy on `node`, or in the control plane in that node's name: it makes no rule before it has seen
/// the Node object that it is called by.
pub(crate) fn kube_proxy(folder: &Folder, node: Node) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": node.name(),
        "clientConnection": { "kubeconfig": folder.kubeconfigs().join("kube-proxy") },
        // The table of connections is the whole machine's.
        "conntrack": { "maxPerCore": 0 },
    })
}

/// Settings of `CoreDNS`: a process of the control plane and not a pod, so it is there before any pod and survives the
/// loss of any node.
pub(crate) fn name_service(folder: &Folder, endpoints: &Endpoints) -> String {
    format!(
        ".:53 {{
    bind {}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {}
        pods verified
        ttl 1
    }}
}}
",
        endpoints.address,
        folder.kubeconfigs().join("coredns").display()
    )
}

/// What the name service may read.
pub(crate) fn name_service_role() -> [Value; 2] {
    let name = "system:coredns";
    let rule = |group: &str, resources: &[&str]| json!({ "apiGroups": [group], "resources": resources, "verbs": ["list", "watch"] });
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": { "name": name },
            "rules": [
                rule("", &["endpoints", "services", "pods", "namespaces"]),
                rule("discovery.k8s.io", &["endpointslices"]),
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name }],
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_do_not_share_addresses() {
        let (one, two) = (Node(1), Node(2));
        assert_eq!(
            (one.name().as_str(), one.address().to_string().as_str()),
            ("n1", "10.9.1.2")
        );
        assert_ne!(one.pods(), two.pods());
        assert_ne!(pod_network(one), pod_network(two));
    }

    #[test]
    fn paths_are_quoted_in_the_runtimes_settings() {
        let text = containerd(Path::new("/state/n1"), Path::new("/a \"quoted\" folder"));
        assert!(
            text.contains(r#"BinaryName = "/a \"quoted\" folder/usr/sbin/runc""#),
            "{text}"
        );
    }

    #[test]
    fn places_that_a_node_cannot_see_are_refused() {
        let refused = check_place(Path::new("/run/user/0/x"), "XDG_STATE_HOME")
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("/run") && refused.contains("XDG_STATE_HOME"),
            "{refused}"
        );
        assert!(check_place(Path::new("/"), "XDG_STATE_HOME").is_ok());
    }

    #[test]
    fn databases_are_copied_and_layers_are_linked() {
        use std::os::unix::fs::MetadataExt;
        let place = tempfile::tempdir().unwrap();
        let images = place.path().join("images");
        fs::create_dir_all(images.join("sub")).unwrap();
        fs::write(images.join("sub/layer"), "layer").unwrap();
        fs::write(images.join("sub/meta.db"), "database").unwrap();
        let copy = place.path().join("copy");
        copy_images(&images, &copy).unwrap();
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(images.join("sub/layer")), inode(copy.join("sub/layer")));
        assert_ne!(inode(images.join("sub/meta.db")), inode(copy.join("sub/meta.db")));
        assert_eq!(fs::read_to_string(copy.join("sub/meta.db")).unwrap(), "database");
    }
}
