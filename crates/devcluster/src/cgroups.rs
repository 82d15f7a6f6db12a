//! The cgroups of a node: one child in each hierarchy, below the cgroup that the supervisor is in.
//!
//! Only version 1, where every controller has a hierarchy of its own. A kubelet on version 2 would have to be the only
//! one below a cgroup without processes, which was never tried here; it is refused, not guessed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

/// Where the hierarchies are mounted.
const MOUNTS: &str = "/sys/fs/cgroup";

/// Settings without which no process may join a new cgroup of the `cpuset` hierarchy.
const CPUSET_FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Controllers that a kubelet and a container runtime need.
const NEEDED: [&str; 5] = ["cpu", "cpuset", "devices", "memory", "pids"];

/// Why a node has no cgroups.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// The machine has version 2, or lacks a controller.
    #[error(
        "real nodes need cgroups of version 1 with the controllers {}, but this machine lacks: {missing}; take `--simulated-nodes` instead",
        NEEDED.join(", ")
    )]
    Unsupported {
        /// The controllers that are not there.
        missing: String,
    },
    /// A file or folder.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl CgroupError {
    fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// The place of a process in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// `memory`, or `cpu,cpuacct` if they share one; a named one without controllers is `name=systemd`.
    pub(crate) controllers: String,
    /// The path below the hierarchy's root.
    path: String,
}

impl Hierarchy {
    /// The name of the folder where it is mounted.
    pub(crate) fn mount_name(&self) -> &str {
        self.controllers.strip_prefix("name=").unwrap_or(&self.controllers)
    }

    fn folder(&self) -> PathBuf {
        Path::new(MOUNTS)
            .join(self.mount_name())
            .join(self.path.trim_start_matches('/'))
    }
}

/// Reads `/proc/PID/cgroup`: lines such as `4:memory:/a/b`. The line of version 2 (`0::/`) names no controller.
pub(crate) fn parse(text: &str) -> Vec<Hierarchy> {
    let hierarchy = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (controllers, path) = (controllers.to_owned(), path.to_owned());
        (!controllers.is_empty()).then_some(Hierarchy { controllers, path })
    };
    text.lines().filter_map(hierarchy).collect()
}

/// The controllers that are not in `hierarchies` but needed.
fn missing(hierarchies: &[Hierarchy]) -> Vec<&'static str> {
    let has = |needed: &str| {
        hierarchies
            .iter()
            .any(|one| one.controllers.split(',').any(|name| name == needed))
    };
    NEEDED.into_iter().filter(|needed| !has(needed)).collect()
}

/// Where this process is.
pub(crate) fn own() -> Result<Vec<Hierarchy>, CgroupError> {
    let path = Path::new("/proc/self/cgroup");
    let hierarchies = parse(&fs::read_to_string(path).map_err(CgroupError::at(path))?);
    let missing = missing(&hierarchies);
    if missing.is_empty() {
        Ok(hierarchies)
    } else {
        Err(CgroupError::Unsupported {
            missing: missing.join(", "),
        })
    }
}

/// Makes a child named `name` in each hierarchy and returns their folders.
pub(crate) fn create(name: &str) -> Result<Vec<PathBuf>, CgroupError> {
    let mut folders = Vec::new();
    for hierarchy in own()? {
        let parent = hierarchy.folder();
        let child = parent.join(name);
        match fs::create_dir(&child) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(CgroupError::at(&child)(error));
            }
            Ok(()) | Err(_) => {}
        }
        if hierarchy
            .controllers
            .split(',')
            .any(|controller| controller == "cpuset")
        {
            for file in CPUSET_FILES {
                let value = fs::read_to_string(parent.join(file)).map_err(CgroupError::at(&parent.join(file)))?;
                fs::write(child.join(file), value).map_err(CgroupError::at(&child.join(file)))?;
            }
        }
        folders.push(child);
    }
    Ok(folders)
}

/// Moves this process, and what it starts from now on, into the cgroups.
pub(crate) fn join(folders: &[PathBuf]) -> Result<(), CgroupError> {
    for folder in folders {
        let file = folder.join("cgroup.procs");
        fs::write(&file, "0").map_err(CgroupError::at(&file))?; // 0: whoever writes
    }
    Ok(())
}

/// Removes cgroups with all that is below them. Their processes have ended; the kernel needs a moment to see that.
pub(crate) fn remove(folders: &[PathBuf]) -> Result<(), CgroupError> {
    for folder in folders {
        let mut attempts = 0;
        while let Err(error) = remove_tree(folder) {
            attempts += 1;
            if attempts > 100 {
                return Err(CgroupError::at(folder)(error));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// The files in a cgroup cannot be removed, and need not be: only its folders, the deepest first.
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hierarchy_is_found_with_its_mount() {
        let parsed = parse("9:name=systemd:/\n4:memory:/a/b\n3:cpu,cpuacct:/x:y\n0::/\n");
        let shown: Vec<(&str, PathBuf)> = parsed.iter().map(|one| (one.mount_name(), one.folder())).collect();
        assert_eq!(
            shown,
            [
                ("systemd", PathBuf::from("/sys/fs/cgroup/systemd/")),
                ("memory", PathBuf::from("/sys/fs/cgroup/memory/a/b")),
                ("cpu,cpuacct", PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/x:y")),
            ]
        );
    }

    #[test]
    fn a_machine_with_version_2_is_refused_with_what_it_lacks() {
        assert_eq!(missing(&parse("0::/user.slice\n")), NEEDED);
        let complete = "1:cpu,cpuacct:/\n2:cpuset:/\n3:devices:/\n4:memory:/\n5:pids:/\n";
        assert!(missing(&parse(complete)).is_empty());
        assert_eq!(missing(&parse(&complete.replace("pids", "rdma"))), ["pids"]);
    }

    #[test]
    fn a_tree_of_folders_goes_deepest_first_and_its_absence_is_fine() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir_all(tree.join("c")).unwrap();
        remove(&[tree.clone(), tree.clone()]).unwrap();
        assert!(!tree.exists());
    }
}
