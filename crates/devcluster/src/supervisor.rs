//! The one long-lived process of a cluster: it owns every other process and notices the death of each.
//!
//! It lives inside the control plane's network namespace, so what it starts is there, and others join by its process id.
//! Everything is started on its first thread, because the kernel ends children with the thread that made them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use nix::sched::CloneFlags;
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{ApiError, ApiServer};
use crate::command::{CommandError, run};
use crate::component::{Components, Death, StartError};
use crate::control_plane::{self, Endpoints, Mode, SERVICE_RANGE};
use crate::folder::{Folder, FolderError, Name};
use crate::identities::{self, IdentityError};
use crate::node::{self, Node, NodeError};
use crate::node_init;
use crate::parts::{PartError, Parts, Wanted};
use crate::provisioner;
use crate::simulated;
use crate::state::{Phase, State};

/// How often a condition is looked at while the cluster starts.
const LOOK: Duration = Duration::from_millis(20);

/// How often the components are looked at afterwards.
const WATCH: Duration = Duration::from_millis(250);

/// A step of the start that takes longer has failed. Generous: a busy machine is not a broken one.
const LIMIT: Duration = Duration::from_mins(2);

/// Why a cluster did not start.
#[derive(Debug, Error)]
pub enum SupervisorError {
    /// A part is missing.
    #[error(transparent)]
    Part(#[from] PartError),
    /// A file of the cluster.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A component did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A component ended.
    #[error("{0}")]
    Died(Death),
    /// The network could not be set up.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The API server refused something.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The kernel refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("{0}: not reached within {limit} s; see the logs with `devcluster logs`", limit = LIMIT.as_secs())]
    TooLong(String),
    /// Process 1 of a node is not there.
    #[error("node {0} has no process 1")]
    NoFirstProcess(String),
    /// A node could not be made.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// `devcluster down` came before the start was over.
    #[error("stopped while starting")]
    Stopped,
}

impl SupervisorError {
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// What a supervisor is to start.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Where the control plane runs.
    pub mode: Mode,
    /// How many real nodes.
    pub nodes: u8,
    /// How many simulated nodes.
    pub simulated_nodes: u32,
}

impl Shape {
    pub(crate) fn wanted(self) -> Wanted {
        Wanted {
            nodes: self.nodes > 0,
            simulated_nodes: self.simulated_nodes > 0,
        }
    }

    fn nodes(self) -> impl Iterator<Item = Node> {
        (1..=self.nodes).map(Node)
    }
}

struct Supervisor {
    /// This executable, by a path that holds even if the file is replaced meanwhile.
    this: PathBuf,
    folder: Folder,
    parts: Parts,
    endpoints: Endpoints,
    shape: Shape,
    components: Components,
    state: State,
    stop: Receiver<()>,
}

/// Starts a cluster, stays until it is told to end, and ends it. The folder is there and holds nothing but logs.
///
/// Must be called before the process has other threads: it moves itself into a new network namespace first.
pub fn supervise(name: &Name, shape: Shape) -> Result<(), SupervisorError> {
    let folder = &Folder::of(name)?;
    let lock_path = folder.supervisor_lock();
    let lock = File::create(&lock_path).map_err(FolderError::at(&lock_path))?;
    lock.lock().map_err(FolderError::at(&lock_path))?;

    let endpoints = match shape.mode {
        Mode::Namespace => {
            enter_new_network().map_err(SupervisorError::system("making a network namespace (are you root?)"))?;
            let endpoints = Endpoints::in_namespace();
            set_up_network(&endpoints)?;
            endpoints
        }
        Mode::Loopback => Endpoints::on_loopback().map_err(SupervisorError::system("finding free ports"))?,
    };
    // Threads come after this line: they inherit the namespace.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(SupervisorError::system("starting threads"))?;
    let mut supervisor = Supervisor {
        parts: Parts::prepare(shape.wanted())?,
        state: State {
            phase: Phase::Starting("making certificates".to_owned()),
            mode: shape.mode,
            supervisor: std::process::id(),
            api_server: endpoints.api_server(),
            nodes: shape.nodes,
            simulated_nodes: shape.simulated_nodes,
            first_processes: BTreeMap::new(),
            components: Vec::new(),
        },
        this: PathBuf::from(format!("/proc/{}/exe", std::process::id())),
        folder: folder.clone(),
        endpoints,
        shape,
        components: Components::default(),
        stop: stop_signals(&runtime)?,
    };
    let outcome = supervisor.run(&runtime);
    let outcome = outcome.and(supervisor.end());
    if let Err(error) = &outcome {
        supervisor.tell(Phase::Failed(error.to_string()))?;
    }
    outcome
}

impl Supervisor {
    fn run(&mut self, runtime: &Runtime) -> Result<(), SupervisorError> {
        self.tell(self.state.phase.clone())?;
        let api = self.start(runtime)?;
        runtime.spawn(provisioner::serve(api.client(), self.folder.clone()));
        self.tell(Phase::Running)?;
        self.watch()
    }

    /// In an order in which nothing waits that need not: while the API server starts, nodes are made.
    fn start<'r>(&mut self, runtime: &'r Runtime) -> Result<ApiServer<'r>, SupervisorError> {
        let etcd = control_plane::etcd(&self.endpoints, &self.folder);
        self.launch("etcd", &self.parts.etcd.clone(), &etcd)?;
        let names: Vec<String> = self.shape.nodes().map(Node::name).collect();
        identities::write(&self.folder, &self.endpoints, &names, SystemTime::now())?;
        write(
            &control_plane::audit_policy_file(&self.folder),
            &control_plane::audit_policy(),
        )?;
        let arguments = control_plane::api_server(&self.endpoints, &self.folder);
        self.launch_kubernetes("kube-apiserver", &arguments)?;
        for node in self.shape.nodes() {
            self.make_node(node)?;
        }

        let api = ApiServer::new(runtime, &self.folder.kubeconfigs().join("devcluster"))?;
        self.wait("waiting for the API server", |_| Ok(api.is_ready()))?;

        let arguments = control_plane::controller_manager(&self.endpoints, &self.folder);
        self.launch_kubernetes("kube-controller-manager", &arguments)?;
        write(
            &control_plane::scheduler_file(&self.folder),
            &control_plane::scheduler_settings(&self.folder),
        )?;
        self.launch_kubernetes(
            "kube-scheduler",
            &control_plane::scheduler(&self.endpoints, &self.folder),
        )?;
        for node in self.shape.nodes() {
            self.start_kubelet(node)?;
        }
        self.start_services(&api)?;
        self.start_simulation(&api)?;
        api.apply(&[provisioner::storage_class()])?;
        self.wait("waiting for the controllers", |_| Ok(api.has_default_account()?))?;
        let nodes = usize::from(self.shape.nodes) + usize::try_from(self.shape.simulated_nodes).unwrap_or(usize::MAX);
        if nodes > 0 {
            self.wait("waiting for the nodes", |_| {
                Ok(api.nodes()?.values().filter(|&&ready| ready).count() >= nodes)
            })?;
        }
        Ok(api)
    }

    /// Namespaces, network and container runtime of a node; the kubelet follows when the API server answers.
    fn make_node(&mut self, node: Node) -> Result<(), SupervisorError> {
        let Some(parts) = self.parts.node.clone() else {
            return Ok(());
        };
        node::make_files(&self.folder, node, &parts, &self.endpoints)?;
        let name = node.name();
        let init = node::init(&self.this, &self.folder, node, &parts.pause);
        let outer = self.components.start(&self.folder, &name, &init)?;
        let up = self.folder.node(&name).join(node_init::UP);
        self.wait(&format!("waiting for the namespaces of node {name}"), |_| {
            Ok(up.exists())
        })?;
        let path = format!("/proc/{outer}/task/{outer}/children");
        let children = fs::read_to_string(&path).map_err(SupervisorError::system(path))?;
        let first = children.split_whitespace().next().and_then(|child| child.parse().ok());
        let first = first.ok_or_else(|| SupervisorError::NoFirstProcess(name.clone()))?;
        self.components.set_first(&name, first);
        self.state.first_processes.insert(name.clone(), first);
        node::connect(node, first)?;
        let runtime = parts.runtime.join("usr/bin/containerd");
        let settings = self.folder.node(&name).join("containerd.toml");
        self.launch_in_node(node, &runtime, &[format!("--config={}", settings.display())])
    }

    fn start_kubelet(&mut self, node: Node) -> Result<(), SupervisorError> {
        let name = node.name();
        let Some(first) = self.state.first_processes.get(&name) else {
            return Ok(());
        };
        let socket = PathBuf::from(format!("/proc/{first}/root{}", node::RUNTIME_SOCKET));
        self.wait(&format!("waiting for the container runtime of node {name}"), |_| {
            Ok(socket.exists())
        })?;
        let kubelet = self.parts.kubernetes.join("kubelet");
        self.launch_in_node(node, &kubelet, &node::kubelet_arguments(&self.folder, node))?;
        let settings = self.folder.node(&name).join("kube-proxy.json");
        let proxy = self.parts.kubernetes.join("kube-proxy");
        self.launch_in_node(node, &proxy, &[format!("--config={}", settings.display())])
    }

    /// Names and addresses of Services, also for what runs beside the control plane, such as an operator under test.
    fn start_services(&mut self, api: &ApiServer<'_>) -> Result<(), SupervisorError> {
        let (Some(coredns), Some(node)) = (self.parts.coredns.clone(), self.shape.nodes().next()) else {
            return Ok(());
        };
        api.apply(&node::name_service_role())?;
        let file = self.folder.path().join("Corefile");
        fs::write(&file, node::name_service(&self.folder, &self.endpoints)).map_err(FolderError::at(&file))?;
        self.launch("coredns", &coredns, &["-conf".to_owned(), file.display().to_string()])?;
        let file = self.folder.path().join("kube-proxy.json");
        write(&file, &node::kube_proxy(&self.folder, node))?;
        self.launch_kubernetes("kube-proxy", &[format!("--config={}", file.display())])
    }

    fn start_simulation(&mut self, api: &ApiServer<'_>) -> Result<(), SupervisorError> {
        let Some(kwok) = &self.parts.kwok else { return Ok(()) };
        let (program, arguments) = simulated::kwok(kwok, &self.folder);
        let nodes = simulated::nodes(self.shape.simulated_nodes, self.shape.nodes > 0).map_err(ApiError::from)?;
        api.create_nodes(nodes)?;
        self.launch("kwok", &program, &arguments)
    }

    /// Stays until somebody wants the cluster to end. A component that dies is reported, and the rest goes on: what a
    /// cluster does without it may be just what is tested.
    fn watch(&mut self) -> Result<(), SupervisorError> {
        loop {
            match self.stop.recv_timeout(WATCH) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let deaths = self.components.deaths();
            for death in &deaths {
                eprintln!("supervisor: {death}");
            }
            if !deaths.is_empty() {
                self.tell(Phase::Running)?;
            }
        }
    }

    /// Ends everything: what is left is files.
    fn end(&mut self) -> Result<(), SupervisorError> {
        self.components.end();
        Ok(node::remove_cgroups(&self.folder)?)
    }

    fn launch_kubernetes(&mut self, program: &str, arguments: &[String]) -> Result<(), SupervisorError> {
        let path = self.parts.kubernetes.join(program);
        self.launch(program, &path, arguments)
    }

    fn launch(&mut self, name: &str, program: &Path, arguments: &[String]) -> Result<(), SupervisorError> {
        self.launch_command(name, Command::new(program), arguments)
    }

    /// `program` as the component of a node that is called by its file's name.
    fn launch_in_node(&mut self, node: Node, program: &Path, arguments: &[String]) -> Result<(), SupervisorError> {
        let name = node.name();
        let first = self.state.first_processes.get(&name).copied();
        let first = first.ok_or_else(|| SupervisorError::NoFirstProcess(name.clone()))?;
        let command = node::enter(&self.this, &self.folder, &name, first, program);
        let component = node.component(&program.file_name().unwrap_or_default().to_string_lossy());
        self.launch_command(&component, command, arguments)
    }

    fn launch_command(
        &mut self,
        name: &str,
        mut command: Command,
        arguments: &[String],
    ) -> Result<(), SupervisorError> {
        command.args(arguments);
        if let Some(parts) = &self.parts.node {
            let (path, libraries) = node::search_paths(&parts.runtime);
            command.env("PATH", path).env("LD_LIBRARY_PATH", libraries);
        }
        self.components.start(&self.folder, name, &command)?;
        Ok(())
    }

    /// Looks until `reached`; fails if a component dies, time runs out, or the cluster is to end.
    fn wait(
        &mut self,
        what: &str,
        mut reached: impl FnMut(&Self) -> Result<bool, SupervisorError>,
    ) -> Result<(), SupervisorError> {
        self.tell(Phase::Starting(what.to_owned()))?;
        let began = Instant::now();
        while !reached(self)? {
            if let Some(death) = self.components.deaths().into_iter().next() {
                return Err(SupervisorError::Died(death));
            }
            match self.stop.try_recv() {
                Ok(()) | Err(TryRecvError::Disconnected) => return Err(SupervisorError::Stopped),
                Err(TryRecvError::Empty) => {}
            }
            if began.elapsed() > LIMIT {
                return Err(SupervisorError::TooLong(what.to_owned()));
            }
            std::thread::sleep(LOOK);
        }
        eprintln!("supervisor: {what}: {:.2} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    fn tell(&mut self, phase: Phase) -> Result<(), SupervisorError> {
        self.state.phase = phase;
        self.state.components = self.components.status();
        Ok(self.state.write(&self.folder)?)
    }
}

fn write(path: &Path, settings: &serde_json::Value) -> Result<(), SupervisorError> {
    Ok(control_plane::write_settings(path, settings).map_err(FolderError::at(path))?)
}

fn enter_new_network() -> std::io::Result<()> {
    Ok(nix::sched::unshare(CloneFlags::CLONE_NEWNET)?)
}

/// The control plane's address is on `lo`; this namespace also routes between the nodes.
fn set_up_network(endpoints: &Endpoints) -> Result<(), SupervisorError> {
    let address = endpoints.address.to_string();
    for arguments in [
        "link set lo up".to_owned(),
        format!("address add {address}/32 dev lo"),
        // The kernel looks for a route before kube-proxy's rules rewrite a Service's address, so there has to be one.
        format!("route add {SERVICE_RANGE} dev lo src {address}"),
    ] {
        run(Command::new("ip").args(arguments.split(' ')))?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(SupervisorError::system("turning on routing"))
}

/// A message for each request to end.
fn stop_signals(runtime: &Runtime) -> Result<Receiver<()>, SupervisorError> {
    let (sender, receiver) = mpsc::channel();
    let _threads = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).map_err(SupervisorError::system("listening for signals"))?;
        let sender = sender.clone();
        runtime.spawn(async move {
            // Ends when the supervisor does, which drops the receiver.
            while signals.recv().await.is_some() && sender.send(()).is_ok() {}
        });
    }
    Ok(receiver)
}
