//! What there is to know of clusters from outside.

use std::path::PathBuf;

use serde::Serialize;

use crate::cluster::{Cluster, ClusterError};
use crate::command::run;
use crate::component::ComponentStatus;
use crate::control_plane::Mode;
use crate::folder::{Folder, Name};
use crate::state::{Phase, State};

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

/// The names of all clusters of this user: those that run, and those of which something is left.
pub fn all() -> Result<Vec<Name>, ClusterError> {
    Ok(Folder::all()?.iter().map(|folder| folder.name().clone()).collect())
}

/// What there is to know of a cluster; nothing if there is none.
pub fn status(name: &Name) -> Result<Option<Status>, ClusterError> {
    let folder = Folder::of(name)?;
    let Some(state) = State::read(&folder)? else {
        return Ok(None);
    };
    let supervised = folder.is_supervised()?;
    let mut components = state.components.clone();
    if !supervised {
        // The kernel has ended them with it.
        for component in components.iter_mut().filter(|component| component.is_running()) {
            "gone with the supervisor".clone_into(&mut component.state);
        }
    }
    let all_run = components.iter().all(ComponentStatus::is_running);
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
        nodes(&Cluster::of(folder.clone(), state.clone())).ok()
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
        components,
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
    kubectl.arg(format!("--kubeconfig={}", cluster.own_kubeconfig().display()));
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
