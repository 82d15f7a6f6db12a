//! The first steps of a new node, as its process 1: mounts, then nothing but being there.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use thiserror::Error;

use crate::cgroups::{self, CgroupError};
use crate::command::{CommandError, run};

/// Made in the node's folder when it is set up.
pub(crate) const UP: &str = "up";

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// A kubelet writes these values. They are the whole machine's and not a namespace's, so it gets files that look as if
/// it had done so already.
const MACHINE_SETTINGS: [(&str, &str); 4] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
];

/// Why a node could not be set up.
#[derive(Debug, Error)]
pub enum InitError {
    /// A mount.
    #[error("mounting {what} on {place}: {source}")]
    Mount {
        /// What was to be mounted.
        what: String,
        /// Where.
        place: PathBuf,
        /// The kernel's answer.
        source: nix::Error,
    },
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The cgroups are not those of version 1.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The network.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// Sets up the node whose files are in `folder`, in namespaces that were just made, and becomes `pause`.
/// Returns only on failure.
pub fn node_init(folder: &Path, pause: &Path) -> InitError {
    match set_up(folder) {
        Ok(()) => InitError::File {
            path: pause.to_owned(),
            source: Command::new(pause).exec(),
        },
        Err(error) => error,
    }
}

fn set_up(folder: &Path) -> Result<(), InitError> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    attach("proc", Path::new("/proc"), Some("proc"), quiet, None)?;
    set_up_cgroups(&folder.join("cgroup"))?;
    for (name, value) in MACHINE_SETTINGS {
        let file = folder.join(name.replace('/', "."));
        write(&file, value)?;
        bind(&file, &Path::new("/proc/sys").join(name))?;
    }
    // What is in /run is lost with the node; images, volumes and logs are kept in its folder.
    attach(
        "run",
        Path::new("/run"),
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=755"),
    )?;
    bind(&folder.join("lib"), Path::new("/var/lib"))?;
    bind(&folder.join("log"), Path::new("/var/log"))?;
    // What the kubelet mounts has to reach the containers.
    attach("none", Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_SHARED, None)?;
    run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let name = folder.file_name().unwrap_or_default();
    nix::unistd::sethostname(name).map_err(|error| InitError::File {
        path: PathBuf::from("/proc/sys/kernel/hostname"),
        source: error.into(),
    })?;
    write(Path::new("/proc/sys/net/ipv4/ip_forward"), "1")?;
    write(&folder.join(UP), "")
}

/// Mounts the cgroup hierarchies anew. The cgroup namespace was made inside the node's cgroups, so a new mount shows
/// these as the root. The mounts that were inherited have to go: where a hierarchy is mounted twice, programs look into
/// the wrong one.
fn set_up_cgroups(scratch: &Path) -> Result<(), InitError> {
    attach("cgroup", scratch, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    for hierarchy in cgroups::own()? {
        let place = scratch.join(hierarchy.mount_name());
        fs::create_dir(&place).map_err(|source| InitError::File {
            path: place.clone(),
            source,
        })?;
        let named = hierarchy.controllers.starts_with("name=");
        let options = if named {
            format!("none,{}", hierarchy.controllers)
        } else {
            hierarchy.controllers.clone()
        };
        attach("cgroup", &place, Some("cgroup"), MsFlags::empty(), Some(&options))?;
    }
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| InitError::Mount {
            what,
            place: PathBuf::from(CGROUPS),
            source,
        }
    };
    umount2(CGROUPS, MntFlags::MNT_DETACH).map_err(failed("nothing"))?;
    mount(Some(scratch), CGROUPS, None::<&str>, MsFlags::MS_MOVE, None::<&str>).map_err(failed("cgroups"))
}

fn bind(source: &Path, place: &Path) -> Result<(), InitError> {
    let what = source.display().to_string();
    mount(Some(source), place, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|source| InitError::Mount {
        what,
        place: place.to_owned(),
        source,
    })
}

fn attach(
    what: &str,
    place: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<(), InitError> {
    mount(Some(what), place, kind, flags, options).map_err(|source| InitError::Mount {
        what: what.to_owned(),
        place: place.to_owned(),
        source,
    })
}

fn write(path: &Path, value: &str) -> Result<(), InitError> {
    fs::write(path, value).map_err(|source| InitError::File {
        path: path.to_owned(),
        source,
    })
}

/// Moves this process into the cgroups that `file` lists and becomes `program`. Returns only on failure.
pub fn enter(file: &Path, program: &std::ffi::OsStr, arguments: &[std::ffi::OsString]) -> InitError {
    let joined = || {
        let failed = |source| InitError::File {
            path: file.to_owned(),
            source,
        };
        let text = fs::read(file).map_err(failed)?;
        let folders: Vec<PathBuf> = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
        Ok(cgroups::join(&folders)?)
    };
    match joined() {
        Ok(()) => InitError::File {
            path: program.into(),
            source: Command::new(program).args(arguments).exec(),
        },
        Err(error) => error,
    }
}
