//! How a cluster's supervisor is started, waited for and ended, by other processes.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use crate::cluster::ClusterError;
use crate::command::last_lines;
use crate::control_plane::Mode;
use crate::folder::{Folder, FolderError, Name};
use crate::node::remove_cgroups;
use crate::progress::SILENT;
use crate::state::{Phase, State};
use crate::supervisor::Shape;

/// How often the supervisor's state is read while it starts or ends.
const LOOK: Duration = Duration::from_millis(20);

/// A supervisor that has not taken its lock by then will not come.
const COMES_WITHIN: Duration = Duration::from_secs(10);

/// A supervisor that has not ended by then is killed; the kernel then ends what it owned.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// What [`down`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Whether there was anything to end.
    pub was_there: bool,
    /// Processes that users started in the cluster's network (`devcluster exec`) and that still run. They are not this
    /// program's to end, but they keep the network namespace.
    pub still_inside: Vec<u32>,
}

/// Ends a cluster and removes all that belongs to it, also of one that has crashed.
pub fn down(name: &Name) -> Result<Ended, ClusterError> {
    let folder = Folder::of(name)?;
    let lock = folder.lock()?;
    let was_there = folder.path().exists();
    let network = match State::read(&folder)? {
        Some(state) if state.mode == Mode::Namespace && folder.is_supervised()? => network_of(state.supervisor),
        Some(_) | None => None,
    };
    end_supervisor(&folder)?;
    remove_rest(&folder)?;
    lock.remove()?;
    Ok(Ended {
        was_there,
        still_inside: network.map_or_else(Vec::new, |network| processes_in(&network)),
    })
}

/// The identity of a process's network namespace.
fn network_of(process: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/net")).ok()
}

/// The processes in a network namespace; one that ends meanwhile, or is another user's, is not among them.
fn processes_in(network: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|process| network_of(*process).is_some_and(|other| other == network))
        .collect()
}

pub(crate) fn make_folders(folder: &Folder) -> Result<(), FolderError> {
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
pub(crate) fn start_supervisor(folder: &Folder, shape: Shape) -> Result<(), ClusterError> {
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
pub(crate) fn program() -> Result<PathBuf, ClusterError> {
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
pub(crate) fn wait_until_running(folder: &Folder, started: Option<Instant>) -> Result<State, ClusterError> {
    let mut step = (String::new(), Instant::now());
    let mut said = false;
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
            Some(Phase::Starting(what)) if what != step.0 => {
                step = (what, Instant::now());
                said = false;
            }
            Some(Phase::Starting(what)) if !said && step.1.elapsed() > SILENT => {
                eprintln!("devcluster: {what}");
                said = true;
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
pub(crate) fn remove_rest(folder: &Folder) -> Result<(), ClusterError> {
    remove_cgroups(folder)?;
    match fs::remove_dir_all(folder.path()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(FolderError::at(folder.path())(error).into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
