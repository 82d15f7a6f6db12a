//! Programs from the distribution's packages, unpacked into folders of ours: nothing is installed and nothing is
//! started, no maintainer script runs, and the machine's own package lists are read but never changed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thiserror::Error;

use crate::command::{CommandError, run};

/// Why packages could not be had.
#[derive(Debug, Error)]
pub enum PackageError {
    /// `apt-get`, `dpkg-deb` or `tar` is missing or failed.
    #[error("packages {packages}: {source}")]
    Command {
        /// The packages that were wanted.
        packages: String,
        /// What the program said.
        source: CommandError,
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

impl PackageError {
    pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// A package in the version that was chosen, as `name=version`.
pub(crate) type Chosen = String;

/// What no container and no test needs.
const NEVER_UNPACKED: [&str; 6] = [
    "./usr/share/doc/*",
    "./usr/share/man/*",
    "./usr/share/locale/*",
    "./usr/share/i18n/*",
    "./usr/share/info/*",
    "./usr/lib/systemd/*",
];

/// The distribution's packages.
pub(crate) struct Packages {
    /// For lists of our own and what belongs to them.
    scratch: PathBuf,
    own_lists: bool,
}

impl Packages {
    /// `scratch` is an empty folder that may be removed when the work is over.
    pub(crate) fn new(scratch: PathBuf) -> Self {
        Self {
            scratch,
            own_lists: false,
        }
    }

    /// All packages that `wanted` need on a machine that has none, in the order of their names.
    pub(crate) fn closure(&mut self, wanted: &[&str]) -> Result<Vec<Chosen>, PackageError> {
        let simulation = self.attempt(wanted, |packages| {
            let mut simulate = packages.apt_get(["--simulate", "install"]);
            run(simulate.args(wanted))
        })?;
        Ok(installations(&simulation))
    }

    /// Downloads `packages` and unpacks them into `root`, leaving out what `excluded` (patterns of `tar`) names.
    ///
    /// The folders `bin`, `sbin` and `lib` of `root` may be links into `usr`; they stay links.
    pub(crate) fn unpack<P: AsRef<str>>(
        &mut self,
        packages: &[P],
        root: &Path,
        excluded: &[&str],
    ) -> Result<(), PackageError> {
        let names: Vec<&str> = packages.iter().map(AsRef::as_ref).collect();
        let folder = self.scratch.join("packages");
        fs::create_dir_all(&folder).map_err(PackageError::at(&folder))?;
        self.attempt(&names, |packages| {
            let mut download = packages.apt_get(["download"]);
            run(download.args(&names).current_dir(&folder)).map(drop)
        })?;
        let entries = fs::read_dir(&folder).map_err(PackageError::at(&folder))?;
        for entry in entries {
            let path = entry.map_err(PackageError::at(&folder))?.path();
            if path.extension() == Some(OsStr::new("deb")) {
                unpack_one(&path, root, excluded)?;
            }
        }
        fs::remove_dir_all(&folder).map_err(PackageError::at(&folder))
    }

    /// Tries with the machine's lists. They may be absent (a new machine) or old (the packages they name are gone):
    /// then with lists of our own that are fetched now.
    fn attempt<T>(
        &mut self,
        wanted: &[&str],
        work: impl Fn(&Self) -> Result<T, CommandError>,
    ) -> Result<T, PackageError> {
        let failed = |source| PackageError::Command {
            packages: wanted.join(" "),
            source,
        };
        match work(self) {
            Ok(done) => return Ok(done),
            Err(error) if self.own_lists => return Err(failed(error)),
            Err(_) => self.own_lists = true,
        }
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = self.scratch.join(folder);
            fs::create_dir_all(&folder).map_err(PackageError::at(&folder))?;
        }
        // One source of several may be unreachable; what counts is whether the packages can be had afterwards.
        let updated = run(&mut self.apt_get(["update"]));
        work(self).map_err(|error| failed(updated.err().unwrap_or(error)))
    }

    fn apt_get<const N: usize>(&self, action: [&str; N]) -> Command {
        let mut command = Command::new("apt-get");
        command.env("LC_ALL", "C").arg("--quiet=2");
        let mut set = |option: &str, value: &OsStr| {
            let mut text = std::ffi::OsString::from(option);
            text.push("=");
            text.push(value);
            command.arg("-o").arg(text);
        };
        // As if nothing were installed: the whole closure is wanted, whatever this machine has.
        set("Dir::State::status", OsStr::new("/dev/null"));
        set("APT::Install-Recommends", OsStr::new("false"));
        set("Debug::NoLocking", OsStr::new("true"));
        if nix::unistd::geteuid().is_root() {
            // Its download user may not write into our folder.
            set("APT::Sandbox::User", OsStr::new("root"));
        }
        if self.own_lists {
            set("Dir::State::Lists", self.scratch.join("lists").as_os_str());
            set("Dir::Cache", self.scratch.join("cache").as_os_str());
        }
        command.args(action);
        command
    }
}

/// The packages that a simulated installation would install: lines such as `Inst libpq5 (15.1-1 Debian:12 [amd64])`.
fn installations(simulation: &str) -> Vec<Chosen> {
    let package = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        Some(format!("{name}={}", rest.split(' ').next()?))
    };
    let mut chosen: Vec<Chosen> = simulation.lines().filter_map(package).collect();
    chosen.sort();
    chosen
}

/// `dpkg-deb --extract` would replace the links of a merged `/usr` by folders; `tar` can be told not to.
fn unpack_one(package: &Path, root: &Path, excluded: &[&str]) -> Result<(), PackageError> {
    let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |source| PackageError::Command {
        packages: name.clone(),
        source,
    };
    let start = |program: &str, source| {
        failed(CommandError::Start {
            program: program.to_owned(),
            source,
        })
    };
    let mut reader = Command::new("dpkg-deb");
    reader.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
    let mut reader = reader.spawn().map_err(|source| start("dpkg-deb", source))?;
    let archive = reader.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let mut writer = Command::new("tar");
    writer
        .args(["--extract", "--keep-directory-symlink", "--directory"])
        .arg(root);
    writer.args(
        NEVER_UNPACKED
            .iter()
            .chain(excluded)
            .map(|pattern| format!("--exclude={pattern}")),
    );
    let written = writer.stdin(archive).output().map_err(|source| start("tar", source))?;
    let read = reader.wait().map_err(|source| start("dpkg-deb", source))?;
    for (program, status) in [("tar", written.status), ("dpkg-deb", read)] {
        if !status.success() {
            let last_lines = String::from_utf8_lossy(&written.stderr).into_owned();
            return Err(failed(CommandError::Failed {
                line: program.to_owned(),
                status,
                last_lines,
            }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_names_packages_and_versions() {
        let simulation = "NOTE: This is only a simulation!\n\
            Inst libpq5 (15.1-1 Debian:12.1/stable [amd64]) []\n\
            Inst base-files (12.4+deb12u11 Debian:12.11/oldstable [amd64])\n\
            Conf libpq5 (15.1-1 Debian:12.1/stable [amd64])\n";
        assert_eq!(installations(simulation), ["base-files=12.4+deb12u11", "libpq5=15.1-1"]);
    }
}
