//! A cluster, seen by whoever uses it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

use nix::sched::CloneFlags;
use thiserror::Error;

use crate::certificates::{Authority, CertificateError, Identity};
use crate::command::{CommandError, run_with};
use crate::component::PROXY_VARIABLES;
use crate::control_plane::Mode;
use crate::folder::{Folder, FolderError, Name};
use crate::kubeconfig::kubeconfig;
use crate::lifecycle::{Ended, down, make_folders, program, remove_rest, start_supervisor, wait_until_running};
use crate::node::{NodeError, enter, search_paths};
use crate::parts::{PartError, Parts};
use crate::state::{Phase, State};
use crate::supervisor::Shape;

/// Why a cluster cannot be made, found or used.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// A part is missing.
    #[error(transparent)]
    Part(#[from] PartError),
    /// A file of the cluster.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A program that was called.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Real nodes without root.
    #[error("real nodes need root (namespaces, mounts, cgroups); as another user take `--simulated-nodes` instead")]
    NeedsRoot,
    /// It is there, but otherwise than wanted.
    #[error("cluster {name} runs with {has}, not {wanted}; take it down first (`devcluster down --name {name}`)")]
    OtherShape {
        /// The cluster.
        name: Name,
        /// What it has.
        has: String,
        /// What was asked for.
        wanted: String,
    },
    /// Images are for real nodes.
    #[error("cluster {0} has no real node, so no image can be used there")]
    NoNodes(Name),
    /// It is not there.
    #[error("cluster {0} does not run; start it with `devcluster up --name {0}`")]
    NotRunning(Name),
    /// It did not start.
    #[error("cluster {name} did not start: {reason}\nThe logs stay in {logs} until `devcluster down --name {name}`", logs = logs.display())]
    NotStarted {
        /// The cluster.
        name: Name,
        /// Why.
        reason: String,
        /// Where the logs are.
        logs: PathBuf,
    },
    /// What a node has left.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// There is no such component.
    #[error("no component {component}; there are: {known}")]
    NoComponent {
        /// What was asked for.
        component: String,
        /// What there is.
        known: String,
    },
    /// The executable that would supervise was not found.
    #[error(
        "the program `devcluster` is neither beside this program nor on PATH; build it (`cargo build -p devcluster`) or name it in DEVCLUSTER"
    )]
    NoProgram,
    /// The kernel refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// What a new cluster is to be like; `None` means the default, or whatever a running one has.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name.
    pub name: Name,
    /// Real nodes; 0 if not said.
    pub nodes: Option<u8>,
    /// Simulated nodes; 0 if not said.
    pub simulated_nodes: Option<u32>,
}

/// A running cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    folder: Folder,
    state: State,
    was_running: bool,
}

impl Cluster {
    /// Makes a cluster and waits until it is usable. One that runs already is returned as it is.
    pub fn up(options: &Options) -> Result<Self, ClusterError> {
        let mode = Mode::of_this_user();
        let shape = Shape {
            mode,
            nodes: options.nodes.unwrap_or(0),
            simulated_nodes: options.simulated_nodes.unwrap_or(0),
        };
        if shape.nodes > 0 && mode == Mode::Loopback {
            return Err(ClusterError::NeedsRoot);
        }
        let folder = Folder::of(&options.name)?;
        let lock = folder.lock()?;
        let cluster = Self::attach_or_make(&folder, shape, options);
        if !folder.path().exists() {
            lock.remove()?; // it failed before there was anything
        }
        cluster
    }

    fn attach_or_make(folder: &Folder, shape: Shape, options: &Options) -> Result<Self, ClusterError> {
        if folder.is_supervised()? {
            let state = wait_until_running(folder, None)?;
            let cluster = Self {
                folder: folder.clone(),
                state,
                was_running: true,
            };
            cluster.check_shape(options)?;
            return Ok(cluster);
        }
        Parts::prepare(shape.wanted())?; // here, where somebody sees the progress
        remove_rest(folder)?;
        make_folders(folder)?;
        start_supervisor(folder, shape)?;
        let state = wait_until_running(folder, Some(Instant::now()))?;
        Ok(Self {
            folder: folder.clone(),
            state,
            was_running: false,
        })
    }

    /// The cluster of this name, which must run.
    pub fn attach(name: &Name) -> Result<Self, ClusterError> {
        let folder = Folder::of(name)?;
        match State::read(&folder)? {
            Some(state) if state.phase == Phase::Running && folder.is_supervised()? => Ok(Self {
                folder,
                state,
                was_running: true,
            }),
            Some(_) | None => Err(ClusterError::NotRunning(name.clone())),
        }
    }

    /// Ends this cluster and removes all that belongs to it.
    pub fn down(self) -> Result<Ended, ClusterError> {
        down(self.folder.name())
    }

    /// Puts the images of an archive (as `docker save` writes it) on every real node; returns what was imported where.
    pub fn load_image(&self, archive: &Path) -> Result<Vec<String>, ClusterError> {
        let parts = Parts::prepare(self.shape().wanted())?;
        let (false, Some(parts)) = (self.state.first_processes.is_empty(), parts.node) else {
            return Err(ClusterError::NoNodes(self.folder.name().clone()));
        };
        let (path, libraries) = search_paths(&parts.runtime);
        let mut imported = Vec::new();
        for (node, first) in &self.state.first_processes {
            let mut ctr = enter(
                &program()?,
                &self.folder,
                node,
                *first,
                &parts.runtime.join("usr/bin/ctr"),
            );
            ctr.env("PATH", &path).env("LD_LIBRARY_PATH", &libraries);
            // By its standard input, as the node does not see all of the host's files.
            ctr.args(["--namespace", "k8s.io", "images", "import", "-"]);
            let file = File::open(archive).map_err(FolderError::at(archive))?;
            let text = run_with(&mut ctr, file.into())?;
            imported.extend(text.lines().map(|line| format!("{node}: {line}")));
        }
        Ok(imported)
    }

    /// Whether [`Cluster::up`] found it running.
    pub fn was_running(&self) -> bool {
        self.was_running
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        self.folder.name()
    }

    /// Where its control plane runs.
    pub fn mode(&self) -> Mode {
        self.state.mode
    }

    /// The URL of its API server; in [`Mode::Namespace`] it is reachable from within only, see [`Cluster::command`].
    pub fn api_server(&self) -> &str {
        &self.state.api_server
    }

    /// The kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.admin_kubeconfig()
    }

    /// The file to which the API server writes a line (JSON, `audit.k8s.io/v1`) for each request of every user who is
    /// not part of the cluster itself, before the request is answered.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.audit_log()
    }

    /// A kubeconfig for any user, who is known to the API server from now on. What the user may do is up to RBAC.
    pub fn kubeconfig_for(&self, identity: &Identity) -> Result<PathBuf, ClusterError> {
        let now = SystemTime::now();
        let authority = Authority::load(&self.folder.pki(), now)?;
        let credentials = authority.client(identity, now)?;
        let name = self.folder.name().to_string();
        let text = kubeconfig(
            self.api_server(),
            authority.certificate(),
            &name,
            &identity.user,
            &credentials,
        );
        let users = self.folder.kubeconfigs().join("users");
        fs::create_dir_all(&users).map_err(FolderError::at(&users))?;
        let path = users.join(file_name(&identity.user));
        fs::write(&path, text).map_err(FolderError::at(&path))?;
        Ok(path)
    }

    /// `program`, to be run where it reaches the API server and the pods, as the administrator unless its arguments
    /// say otherwise: `KUBECONFIG` is set and `kubectl` is on `PATH`. Files, user and working directory are the caller's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command, ClusterError> {
        let mut command = match self.state.mode {
            Mode::Loopback => Command::new(program),
            Mode::Namespace => {
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--net={}", self.network().display()))
                    .arg("--")
                    .arg(program);
                command
            }
        };
        self.set_environment(&mut command)?;
        Ok(command)
    }

    /// Becomes `program`, as [`Cluster::command`] would run it: same process, so its signals, standard streams and exit
    /// status are the caller's. Returns only if that fails.
    pub fn become_program(&self, program: &OsStr, arguments: &[OsString]) -> ClusterError {
        let become_it = || {
            if self.state.mode == Mode::Namespace {
                let path = self.network();
                let namespace = File::open(&path).map_err(FolderError::at(&path))?;
                nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| ClusterError::System {
                    what: "joining the control plane's network (are you root?)".to_owned(),
                    source: error.into(),
                })?;
            }
            let mut command = Command::new(program);
            command.args(arguments);
            self.set_environment(&mut command)?;
            Err(ClusterError::System {
                what: program.to_string_lossy().into_owned(),
                source: command.exec(),
            })
        };
        match become_it() {
            Ok(never) => never,
            Err(error) => error,
        }
    }

    /// The cluster of a state that was just read.
    pub(crate) fn of(folder: Folder, state: State) -> Self {
        Self {
            folder,
            state,
            was_running: true,
        }
    }

    /// The kubeconfig of this program, whose requests the audit log leaves out.
    pub(crate) fn own_kubeconfig(&self) -> PathBuf {
        self.folder.kubeconfigs().join("devcluster")
    }

    fn network(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.state.supervisor))
    }

    fn set_environment(&self, command: &mut Command) -> Result<(), ClusterError> {
        let parts = Parts::prepare(self.shape().wanted())?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(parts.kubernetes).chain(std::env::split_paths(&path));
        let path = std::env::join_paths(folders).map_err(|error| ClusterError::System {
            what: "PATH".to_owned(),
            source: std::io::Error::other(error),
        })?;
        command.env("PATH", path).env("KUBECONFIG", self.kubeconfig());
        command.env("KUBECACHEDIR", self.folder.kubectl_cache());
        command.env("DEVCLUSTER_NAME", self.folder.name().to_string());
        if self.state.mode == Mode::Namespace {
            for variable in PROXY_VARIABLES {
                command.env_remove(variable);
            }
        }
        Ok(())
    }

    fn shape(&self) -> Shape {
        let State {
            mode,
            nodes,
            simulated_nodes,
            ..
        } = self.state;
        Shape {
            mode,
            nodes,
            simulated_nodes,
        }
    }

    fn check_shape(&self, options: &Options) -> Result<(), ClusterError> {
        let describe = |nodes: u8, simulated: u32| format!("{nodes} nodes and {simulated} simulated nodes");
        let State {
            nodes, simulated_nodes, ..
        } = self.state;
        let wanted = (
            options.nodes.unwrap_or(nodes),
            options.simulated_nodes.unwrap_or(simulated_nodes),
        );
        if wanted == (nodes, simulated_nodes) {
            return Ok(());
        }
        Err(ClusterError::OtherShape {
            name: self.folder.name().clone(),
            has: describe(nodes, simulated_nodes),
            wanted: describe(wanted.0, wanted.1),
        })
    }
}

/// A file name that tells users apart whatever is in their names.
fn file_name(user: &str) -> String {
    let mut name = String::new();
    for character in user.chars() {
        if character.is_ascii_alphanumeric() || character == '-' {
            name.push(character);
        } else {
            name.extend(["_", &format!("{:x}", u32::from(character)), "_"]);
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_do_not_share_files() {
        let names: std::collections::BTreeSet<String> = ["a:b", "a/b", "a_b", "a-b", "..", "system:serviceaccount:x:y"]
            .into_iter()
            .map(file_name)
            .collect();
        assert_eq!(names.len(), 6, "{names:?}");
        assert!(
            names
                .iter()
                .all(|name| Path::new(name).components().count() == 1 && name != ".."),
            "{names:?}"
        );
    }
}
