//! The long-running programs of a cluster: each has a name, a log and an owner that notices its death.

use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::command::last_lines;
use crate::folder::Folder;

/// How many last lines of a dead component's log are reported.
const LINES_SHOWN: usize = 12;

/// These would send requests to cluster addresses to a proxy that does not know them.
pub(crate) const PROXY_VARIABLES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// A component that could not be started.
#[derive(Debug, Error)]
#[error("{component} cannot be started: {source}")]
pub struct StartError {
    /// The component's name.
    pub component: String,
    /// What the operating system said.
    pub source: std::io::Error,
}

/// A component that ended although nobody wanted it to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{component} ended with {ending}; the last lines of {log}:\n{last_lines}", log = log.display())]
pub struct Death {
    /// The component's name.
    pub component: String,
    /// `exit status 1`, `signal 9`.
    pub ending: String,
    /// Where its output is.
    pub log: PathBuf,
    /// The end of that.
    pub last_lines: String,
}

/// What is known of a component from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// `etcd`, `kube-apiserver`, `n1/kubelet`.
    pub name: String,
    /// Its process, or the one that it had.
    pub pid: u32,
    /// `running`, or how it ended.
    pub state: String,
}

impl ComponentStatus {
    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.state == RUNNING
    }
}

const RUNNING: &str = "running";

struct Component {
    name: String,
    process: Child,
    log: PathBuf,
    /// Killed instead of the process, which ends once this one and all that it holds have.
    first: Option<Pid>,
    ended: Option<String>,
}

/// All components of a cluster.
///
/// They must be started on one thread that lives as long as they should: the kernel ends each when the *thread* that
/// started it ends, so that none is left behind however the supervisor dies.
#[derive(Default)]
pub(crate) struct Components(Vec<Component>);

impl Components {
    /// Starts `command` as the component `name`, its output appended to its log.
    pub(crate) fn start(&mut self, folder: &Folder, name: &str, command: &Command) -> Result<u32, StartError> {
        let failed = |source| StartError {
            component: name.to_owned(),
            source,
        };
        let log = folder.log(name);
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(failed)?;
        let mut bound = Command::new("setpriv");
        bound
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => bound.env(variable, value),
                None => bound.env_remove(variable),
            };
        }
        for variable in PROXY_VARIABLES {
            bound.env_remove(variable);
        }
        bound
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output);
        let process = bound.spawn().map_err(failed)?;
        let pid = process.id();
        self.0.retain(|component| component.name != name);
        self.0.push(Component {
            name: name.to_owned(),
            process,
            log,
            first: None,
            ended: None,
        });
        Ok(pid)
    }

    /// Says that the component `name` is a PID namespace with this process 1: to end it is to end that process, and its
    /// own process ends when the namespace is empty.
    pub(crate) fn set_first(&mut self, name: &str, first: u32) {
        for component in self.0.iter_mut().filter(|component| component.name == name) {
            component.first = i32::try_from(first).ok().map(Pid::from_raw);
        }
    }

    /// The components that have died since the last call.
    pub(crate) fn deaths(&mut self) -> Vec<Death> {
        let mut deaths = Vec::new();
        for component in &mut self.0 {
            if component.ended.is_some() {
                continue;
            }
            let ending = match component.process.try_wait() {
                Ok(None) => continue,
                Ok(Some(status)) => describe(status),
                Err(error) => format!("an unknown status ({error})"),
            };
            component.ended = Some(ending.clone());
            let log = fs::read(&component.log).unwrap_or_else(|error| format!("(unreadable: {error})").into_bytes());
            deaths.push(Death {
                component: component.name.clone(),
                ending,
                log: component.log.clone(),
                last_lines: last_lines(&String::from_utf8_lossy(&log), LINES_SHOWN),
            });
        }
        deaths
    }

    /// Ends all, and waits until they are gone. Without mercy: nothing of theirs is kept.
    ///
    /// What runs in a node (`n1/kubelet`) is not killed but ends with the node. Our child is only the `nsenter` that
    /// waits for it; if that were killed, the program would be left to the machine's process 1, and the node's
    /// namespace would not end before that one takes notice.
    pub(crate) fn end(&mut self) {
        for component in self.0.iter_mut().filter(|component| component.ended.is_none()) {
            // An error means that it has ended already, which the wait below learns as well.
            let _already_gone = match component.first {
                Some(first) => kill(first, Signal::SIGKILL).map_err(std::io::Error::from),
                None if component.name.contains('/') => Ok(()),
                None => component.process.kill(),
            };
        }
        for component in self.0.iter_mut().filter(|component| component.ended.is_none()) {
            component.ended = Some(match component.process.wait() {
                Ok(status) => describe(status),
                Err(error) => format!("an unknown status ({error})"),
            });
        }
    }

    pub(crate) fn status(&self) -> Vec<ComponentStatus> {
        let mut all = Vec::with_capacity(self.0.len());
        for Component {
            name,
            process,
            log: _,
            first: _,
            ended,
        } in &self.0
        {
            let state = ended
                .as_ref()
                .map_or_else(|| RUNNING.to_owned(), |ending| format!("ended with {ending}"));
            all.push(ComponentStatus {
                name: name.clone(),
                pid: process.id(),
                state,
            });
        }
        all
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn scratch() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::in_place(&"unit".parse().unwrap(), place.path().to_owned());
        fs::create_dir_all(folder.logs()).unwrap();
        (place, folder)
    }

    #[test]
    fn a_death_is_reported_once_with_status_and_last_lines() {
        let (_place, folder) = scratch();
        let mut components = Components::default();
        let mut command = Command::new("sh");
        command.args(["-c", "echo it is broken; exit 7"]);
        components.start(&folder, "n1/kubelet", &command).unwrap();
        let began = Instant::now();
        let deaths = loop {
            let deaths = components.deaths();
            if !deaths.is_empty() || began.elapsed() > Duration::from_secs(10) {
                break deaths;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(deaths.len(), 1, "{deaths:?}");
        let message = deaths[0].to_string();
        assert!(message.starts_with("n1/kubelet ended with exit status 7"), "{message}");
        assert!(message.ends_with("    it is broken"), "{message}");
        assert_eq!(components.deaths(), []);
        assert_eq!(components.status()[0].state, "ended with exit status 7");
    }

    #[test]
    fn the_wanted_end_is_no_death() {
        let (_place, folder) = scratch();
        let mut components = Components::default();
        let mut command = Command::new("sleep");
        command.arg("600");
        components.start(&folder, "etcd", &command).unwrap();
        assert!(components.status()[0].is_running());
        components.end();
        assert_eq!(components.deaths(), []);
        assert_eq!(components.status()[0].state, "ended with signal 9");
    }
}
