//! A cluster, seen by whoever uses it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use thiserror::Error;

use crate::certificates::{Authority, CertificateError, Identity};
use crate::command::{CommandError, last_lines, run, run_with};
use crate::component::{ComponentStatus, PROXY_VARIABLES};
use crate::control_plane::Mode;
use crate::kubeconfig::kubeconfig;
use crate::name::{Folder, FolderError, Name};
use crate::node::{NodeError, enter, remove_cgroups, search_paths};
use crate::parts::{PartError, Parts};
use crate::progress::SILENT;
use crate::state::{Phase, State};
use crate::supervisor::Shape;

/// How often the supervisor's state is read while it starts or ends.
const LOOK: Duration = Duration::from_millis(20);

/// A supervisor that has not taken its lock by then will not come.
const COMES_WITHIN: Duration = Duration::from_secs(10);

/// A supervisor that has not ended by then is killed; the kernel then ends what it owned.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

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

/// What `devcluster status` shows.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The cluster's name.
    pub name: String,
    /// Where the control plane runs.
    pub mode: Mode,
    /// `starting`, `running`, `degraded` (a component has ended), `failed` or `dead` (the supervisor was killed).
    pub phase: &'static str,
    /// What it waits for, or why it failed.
    pub reason: Option<String>,
    /// The API server's URL.
    pub api_server: String,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// Where every request of a user is written down.
    pub audit_log: PathBuf,
    /// The logs of the components.
    pub logs: PathBuf,
    /// The process that owns all others.
    pub supervisor: u32,
    /// The nodes, real and simulated; `None` if the API server did not say.
    pub nodes: Option<Vec<NodeStatus>>,
    /// The processes.
    pub components: Vec<ComponentStatus>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Whether pods can run there.
    pub ready: bool,
}

impl Cluster {
    /// Makes a cluster and waits until it is usable. One that runs already is returned as it is.
    pub fn up(options: &Options) -> Result<Self, ClusterError> {
        let folder = Folder::of(&options.name)?;
        let lock = folder.lock()?;
        if folder.is_supervised()? {
            let cluster = Self {
                state: wait_until_running(&folder, None)?,
                folder,
                was_running: true,
            };
            cluster.check_shape(options)?;
            return Ok(cluster);
        }
        let shape = Shape {
            mode: Mode::of_this_user(),
            nodes: options.nodes.unwrap_or(0),
            simulated_nodes: options.simulated_nodes.unwrap_or(0),
        };
        if shape.nodes > 0 && shape.mode == Mode::Loopback {
            return Err(ClusterError::NeedsRoot);
        }
        Parts::prepare(shape.wanted())?; // here, where somebody sees the progress
        remove_rest(&folder)?;
        make_folders(&folder)?;
        start_supervisor(&folder, shape)?;
        let state = wait_until_running(&folder, Some(Instant::now()))?;
        drop(lock);
        Ok(Self {
            folder,
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
    pub fn down(self) -> Result<(), ClusterError> {
        down(self.folder.name()).map(drop)
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

/// The names of all clusters of this user: those that run, and those of which something is left.
pub fn all() -> Result<Vec<Name>, ClusterError> {
    Ok(Folder::all()?.iter().map(|folder| folder.name().clone()).collect())
}

/// Ends a cluster and removes all that belongs to it, also of one that has crashed. Whether there was anything.
pub fn down(name: &Name) -> Result<bool, ClusterError> {
    let folder = Folder::of(name)?;
    let lock = folder.lock()?;
    let was_there = folder.path().exists();
    end_supervisor(&folder)?;
    remove_rest(&folder)?;
    lock.remove()?;
    Ok(was_there)
}

/// What there is to know of a cluster; nothing if there is none.
pub fn status(name: &Name) -> Result<Option<Status>, ClusterError> {
    let folder = Folder::of(name)?;
    let Some(state) = State::read(&folder)? else {
        return Ok(None);
    };
    let supervised = folder.is_supervised()?;
    let all_run = state.components.iter().all(ComponentStatus::is_running);
    let (phase, reason) = match state.phase.clone() {
        Phase::Failed(reason) => ("failed", Some(reason)),
        Phase::Starting(_) | Phase::Running if !supervised => (
            "dead",
            Some(format!(
                "the supervisor is gone; see {}",
                folder.supervisor_log().display()
            )),
        ),
        Phase::Starting(what) => ("starting", Some(what)),
        Phase::Running if all_run => ("running", None),
        Phase::Running => ("degraded", Some("a component has ended".to_owned())),
    };
    let nodes = if supervised && state.phase == Phase::Running {
        nodes(&Cluster {
            folder: folder.clone(),
            state: state.clone(),
            was_running: true,
        })
        .ok()
    } else {
        None
    };
    Ok(Some(Status {
        name: name.to_string(),
        mode: state.mode,
        phase,
        reason,
        api_server: state.api_server,
        kubeconfig: folder.admin_kubeconfig(),
        audit_log: folder.audit_log(),
        logs: folder.logs(),
        supervisor: state.supervisor,
        nodes,
        components: state.components,
    }))
}

/// The names of the components that have a log; `supervisor` is the process that owns them.
pub fn components(name: &Name) -> Result<Vec<String>, ClusterError> {
    let state = State::read(&Folder::of(name)?)?.ok_or_else(|| ClusterError::NotRunning(name.clone()))?;
    let components = state.components.into_iter().map(|component| component.name);
    Ok(std::iter::once("supervisor".to_owned()).chain(components).collect())
}

/// The file with all that a component has written.
pub fn log(name: &Name, component: &str) -> Result<PathBuf, ClusterError> {
    let known = components(name)?;
    if known.iter().any(|known| known == component) {
        return Ok(Folder::of(name)?.log(component));
    }
    Err(ClusterError::NoComponent {
        component: component.to_owned(),
        known: known.join(", "),
    })
}

/// Asks as the cluster's own user, so that a look does not show in the audit log.
fn nodes(cluster: &Cluster) -> Result<Vec<NodeStatus>, ClusterError> {
    const READY: &str =
        r#"{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
    let mut kubectl = cluster.command("kubectl")?;
    kubectl.arg(format!(
        "--kubeconfig={}",
        cluster.folder.kubeconfigs().join("devcluster").display()
    ));
    kubectl.args([
        "--request-timeout=5s",
        "get",
        "nodes",
        "-o",
        &format!("jsonpath={READY}"),
    ]);
    let text = run(&mut kubectl)?;
    let line = |line: &str| {
        let (name, ready) = line.split_once(' ').unwrap_or((line, ""));
        NodeStatus {
            name: name.to_owned(),
            ready: ready == "True",
        }
    };
    Ok(text.lines().map(line).collect())
}

fn make_folders(folder: &Folder) -> Result<(), FolderError> {
    for path in [
        folder.path().to_owned(),
        folder.logs(),
        folder.pki(),
        folder.kubeconfigs(),
    ] {
        // Keys are inside: nobody else may look.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(FolderError::at(&path))?;
    }
    Ok(())
}

/// Starts this program again as a process of its own session, which outlives us and our terminal.
fn start_supervisor(folder: &Folder, shape: Shape) -> Result<(), ClusterError> {
    let path = folder.supervisor_log();
    let log = File::create(&path).map_err(FolderError::at(&path))?;
    let copy = log.try_clone().map_err(FolderError::at(&path))?;
    let mut command = Command::new("setsid");
    command.arg("--fork").arg(program()?).arg("supervise");
    command.args(["--name", &folder.name().to_string()]);
    command.args([
        "--nodes",
        &shape.nodes.to_string(),
        "--simulated-nodes",
        &shape.simulated_nodes.to_string(),
    ]);
    command.current_dir("/").stdin(Stdio::null()).stdout(copy).stderr(log);
    let failed = |source| ClusterError::System {
        what: "starting the supervisor".to_owned(),
        source,
    };
    let status = command.status().map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(std::io::Error::other(status.to_string())))
    }
}

/// The executable of this crate: this very process, or, for tests of other crates, the one that was built beside them.
fn program() -> Result<PathBuf, ClusterError> {
    const NAME: &str = "devcluster";
    if let Some(named) = std::env::var_os("DEVCLUSTER") {
        return Ok(PathBuf::from(named));
    }
    let this = std::env::current_exe().map_err(|source| ClusterError::System {
        what: "finding this program".to_owned(),
        source,
    })?;
    if this.file_name() == Some(OsStr::new(NAME)) {
        return Ok(this);
    }
    // Tests lie in target/debug/deps, examples in target/debug/examples, programs in target/debug.
    let beside = this.ancestors().skip(1).take(2).map(|folder| folder.join(NAME));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(NAME));
    beside
        .chain(on_path)
        .find(|candidate| candidate.is_file())
        .ok_or(ClusterError::NoProgram)
}

/// Waits for the supervisor's word. `started` is when it was started, if it was just now.
fn wait_until_running(folder: &Folder, started: Option<Instant>) -> Result<State, ClusterError> {
    let began = Instant::now();
    let mut said = String::new();
    loop {
        let not_started = |reason: String| ClusterError::NotStarted {
            name: folder.name().clone(),
            reason,
            logs: folder.logs(),
        };
        // Before its state is read: one that ends after this line has written its last word before.
        let supervised = folder.is_supervised()?;
        let state = State::read(folder)?;
        match state.as_ref().map(|state| state.phase.clone()) {
            Some(Phase::Running) => return Ok(state.unwrap_or_else(|| unreachable!("its phase was just read"))),
            Some(Phase::Failed(reason)) => return Err(not_started(reason)),
            Some(Phase::Starting(what)) if began.elapsed() > SILENT && what != said => {
                eprintln!("devcluster: {what}");
                said = what;
            }
            Some(Phase::Starting(_)) | None => {}
        }
        let may_still_come = state.is_none() && started.is_some_and(|at| at.elapsed() < COMES_WITHIN);
        if !supervised && !may_still_come {
            let log = fs::read(folder.supervisor_log()).unwrap_or_default();
            let lines = last_lines(&String::from_utf8_lossy(&log), 10);
            return Err(not_started(format!("its supervisor has ended:\n{lines}")));
        }
        std::thread::sleep(LOOK);
    }
}

fn end_supervisor(folder: &Folder) -> Result<(), ClusterError> {
    let began = Instant::now();
    let mut sent = None;
    while folder.is_supervised()? {
        let signal = if began.elapsed() > ENDS_WITHIN {
            Signal::SIGKILL
        } else {
            Signal::SIGTERM
        };
        // Its process id is right as long as it holds its lock; a state that is not there yet comes in a moment.
        if let Some(state) = State::read(folder)?
            && sent != Some(signal)
            && let Ok(pid) = i32::try_from(state.supervisor)
        {
            kill(Pid::from_raw(pid), signal).map_err(|error| ClusterError::System {
                what: format!("ending the supervisor, process {pid}"),
                source: error.into(),
            })?;
            sent = Some(signal);
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Removes what a cluster without a supervisor has left.
fn remove_rest(folder: &Folder) -> Result<(), ClusterError> {
    remove_cgroups(folder)?;
    match fs::remove_dir_all(folder.path()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(FolderError::at(folder.path())(error).into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A file name that tells users apart whatever is in their names.
fn file_name(user: &str) -> String {
    let mut name = String::new();
    for character in user.chars() {
        if character.is_ascii_alphanumeric() || character == '-' {
            name.push(character);
        } else {
            name.push_str(&format!("_{:x}_", u32::from(character)));
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
