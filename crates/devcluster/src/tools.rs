//! The programs that are built from Go modules, each by its own pins, without a C compiler.
//!
//! The pins lie in `tools/` and are part of this executable, so that it needs no checkout.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::cache::{Cache, CacheError, Key};
use crate::command::{CommandError, run};

/// Why a program could not be built.
#[derive(Debug, Error)]
pub enum ToolError {
    /// The cache folder cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The Go compiler is missing or refused.
    #[error("building {tool} failed: {source}")]
    Build {
        /// The tool's name.
        tool: &'static str,
        /// What the compiler said.
        source: CommandError,
    },
    /// A source file could not be written, or the result not be put in place.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// The version of Kubernetes that a cluster runs.
pub const KUBERNETES_VERSION: &str = "1.36.3";

/// The programs in the Kubernetes executable; each is a link to it.
const KUBERNETES_PROGRAMS: [&str; 6] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];

/// The program in OPA's executable that judges other engines.
pub(crate) const OPA_JUDGE: &str = "opa-judge";

/// A program that is built from pinned Go modules.
#[derive(Debug)]
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
    /// How long a first build took on two cores.
    duration: &'static str,
    /// The module whose version is `version`; `go.mod` has to agree.
    module: &'static str,
    /// What to build: a package of a required module, or `.` for the `main.go` beside the pins.
    package: &'static str,
    go_mod: &'static str,
    go_sum: &'static str,
    main_go: Option<&'static str>,
    /// Further files beside `main.go`, by name.
    more_go: &'static [(&'static str, &'static str)],
    /// Other names of the program: it acts as the one under which it is started.
    links: &'static [&'static str],
    /// Folders of the module that are kept beside the program, because they are data that it needs.
    data: &'static [&'static str],
}

/// The API server, its controllers and the programs of a node, as one executable.
pub(crate) const KUBERNETES: Tool = Tool {
    name: "kubernetes",
    version: KUBERNETES_VERSION,
    duration: "5 minutes",
    module: "k8s.io/kubernetes",
    package: ".",
    go_mod: include_str!("../tools/kubernetes/go.mod"),
    go_sum: include_str!("../tools/kubernetes/go.sum"),
    main_go: Some(include_str!("../tools/kubernetes/main.go")),
    more_go: &[],
    links: &KUBERNETES_PROGRAMS,
    data: &[],
};

/// The store of the API server. Not 3.4, which distributions have: streaming lists need `RequestWatchProgress`.
pub(crate) const ETCD: Tool = Tool {
    name: "etcd",
    version: "3.6.16",
    duration: "half a minute",
    module: "go.etcd.io/etcd/server/v3",
    package: "go.etcd.io/etcd/server/v3",
    go_mod: include_str!("../tools/etcd/go.mod"),
    go_sum: include_str!("../tools/etcd/go.sum"),
    main_go: None,
    more_go: &[],
    links: &[],
    data: &[],
};

/// The names of services and pods, for clusters with real nodes.
pub(crate) const COREDNS: Tool = Tool {
    name: "coredns",
    version: "1.15.0",
    duration: "2 minutes",
    module: "github.com/coredns/coredns",
    package: "github.com/coredns/coredns",
    go_mod: include_str!("../tools/coredns/go.mod"),
    go_sum: include_str!("../tools/coredns/go.sum"),
    main_go: None,
    more_go: &[],
    links: &[],
    data: &[],
};

/// Plays nodes and the life of pods on them.
pub(crate) const KWOK: Tool = Tool {
    name: "kwok",
    version: "0.8.0",
    duration: "1 minute",
    module: "sigs.k8s.io/kwok",
    package: "sigs.k8s.io/kwok/cmd/kwok",
    go_mod: include_str!("../tools/kwok/go.mod"),
    go_sum: include_str!("../tools/kwok/go.sum"),
    main_go: None,
    more_go: &[],
    links: &[],
    data: &["kustomize/stage"],
};

/// Process 1 of nodes and of pod sandboxes.
pub(crate) const PAUSE: Tool = Tool {
    name: "pause",
    version: "1",
    duration: "10 seconds",
    module: "devcluster/pause",
    package: ".",
    go_mod: include_str!("../tools/pause/go.mod"),
    go_sum: "",
    main_go: Some(include_str!("../tools/pause/main.go")),
    more_go: &[],
    links: &[],
    data: &[],
};

/// Policies in Rego: OPA's own command line, and the judge of other engines. No cluster needs it.
pub(crate) const OPA: Tool = Tool {
    name: "opa",
    version: "1.22.4",
    duration: "3 minutes",
    module: "github.com/open-policy-agent/opa",
    package: ".",
    go_mod: include_str!("../tools/opa/go.mod"),
    go_sum: include_str!("../tools/opa/go.sum"),
    main_go: Some(include_str!("../tools/opa/main.go")),
    more_go: &[
        ("bench.go", include_str!("../tools/opa/bench.go")),
        ("canonical.go", include_str!("../tools/opa/canonical.go")),
        ("eval.go", include_str!("../tools/opa/eval.go")),
    ],
    links: &[OPA_JUDGE],
    data: &[],
};

impl Tool {
    /// The folder that holds the program; builds it if the cache does not have it.
    pub(crate) fn folder(&self, cache: &Cache) -> Result<PathBuf, ToolError> {
        let flags = self.linker_flags();
        let mut inputs = vec![
            self.go_mod,
            self.go_sum,
            self.main_go.unwrap_or(""),
            &flags,
            self.package,
            std::env::consts::ARCH,
        ];
        // At the end: a tool without them keeps its key, and so what was built.
        inputs.extend(self.more_go.iter().flat_map(|(name, content)| [*name, *content]));
        let key = Key::new(self.name, self.version, &inputs);
        let what = format!(
            "building {} {} (about {}, once)",
            self.name, self.version, self.duration
        );
        cache.get(&key, &what, |folder| self.build(folder, &flags))
    }

    /// The path of the program with the tool's own name.
    pub(crate) fn program(&self, cache: &Cache) -> Result<PathBuf, ToolError> {
        Ok(self.folder(cache)?.join(self.name))
    }

    fn build(&self, folder: &Path, flags: &str) -> Result<(), ToolError> {
        let source = folder.join("source");
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| ToolError::File { path, source }
        };
        fs::create_dir(&source).map_err(at(&source))?;
        let files = [
            ("go.mod", Some(self.go_mod)),
            ("go.sum", Some(self.go_sum)),
            ("main.go", self.main_go),
        ];
        let more = self.more_go.iter().map(|(name, content)| (*name, Some(*content)));
        for (name, content) in files.into_iter().chain(more) {
            if let Some(content) = content {
                let path = source.join(name);
                fs::write(&path, content).map_err(at(&path))?;
            }
        }
        let output = folder.join(self.name);
        let mut build = go(&source);
        build
            .args(["build", "-trimpath", "-ldflags", flags, "-o"])
            .arg(&output)
            .arg(self.package);
        run(&mut build).map_err(|source| ToolError::Build {
            tool: self.name,
            source,
        })?;
        for data in self.data {
            let mut list = go(&source);
            list.args(["list", "-m", "-f", "{{.Dir}}", self.module]);
            let module = run(&mut list).map_err(|source| ToolError::Build {
                tool: self.name,
                source,
            })?;
            // Module folders are read-only; what is copied has to be removable.
            let mut copy = Command::new("cp");
            copy.args(["-r", "--no-preserve=mode"])
                .arg(Path::new(module.trim()).join(data))
                .arg(folder);
            run(&mut copy).map_err(|source| ToolError::Build {
                tool: self.name,
                source,
            })?;
        }
        for program in self.links {
            let link = folder.join(program);
            symlink(self.name, &link).map_err(at(&link))?;
        }
        fs::remove_dir_all(&source).map_err(at(&source))
    }

    /// Kubernetes does not know its own version unless the linker writes it in; clients would see a nonsense one.
    fn linker_flags(&self) -> String {
        let mut flags = "-s -w".to_owned();
        if self.name == KUBERNETES.name {
            let minor = self.version.split('.').nth(1).unwrap_or_default();
            for (name, value) in [
                ("gitVersion", format!("v{}", self.version)),
                ("gitMajor", "1".to_owned()),
                ("gitMinor", minor.to_owned()),
                ("gitTreeState", "clean".to_owned()),
            ] {
                flags.push_str(" -X k8s.io/component-base/version.");
                flags.push_str(name);
                flags.push('=');
                flags.push_str(&value);
            }
        }
        flags
    }
}

/// A Go command that sees only the pins in `source`: no workspace, no C compiler.
fn go(source: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(source)
        .envs([("CGO_ENABLED", "0"), ("GOWORK", "off"), ("GO111MODULE", "on")]);
    go
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_named_here_is_the_version_pinned() {
        for tool in [KUBERNETES, ETCD, COREDNS, KWOK, OPA] {
            let pin = format!("{} v{}", tool.module, tool.version);
            assert!(
                tool.go_mod
                    .lines()
                    .any(|line| line.trim().trim_start_matches("require ").starts_with(&pin)),
                "{}: no `{pin}`",
                tool.name
            );
            assert!(
                tool.go_sum.contains(&format!("{pin} h1:")),
                "{}: `{pin}` has no checksum",
                tool.name
            );
        }
    }

    #[test]
    fn the_executable_knows_every_program_that_is_linked_to_it() {
        let source = KUBERNETES.main_go.unwrap();
        for program in KUBERNETES_PROGRAMS {
            assert!(source.contains(&format!("\"{program}\":")), "{program}");
        }
    }

    #[test]
    fn every_source_file_beside_the_pins_is_built() {
        for tool in [KUBERNETES, ETCD, COREDNS, KWOK, PAUSE, OPA] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(tool.name);
            let mut there: Vec<String> = fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| Path::new(name).extension().is_some_and(|end| end == "go"))
                .collect();
            there.sort();
            let mut known: Vec<&str> = tool.more_go.iter().map(|(name, _)| *name).collect();
            known.extend(tool.main_go.map(|_| "main.go"));
            known.sort_unstable();
            assert_eq!(there, known, "{}", tool.name);
        }
    }

    #[test]
    fn the_judge_is_known_by_its_name() {
        assert!(OPA.main_go.unwrap().contains(&format!("== \"{OPA_JUDGE}\"")));
    }

    #[test]
    fn kubernetes_is_told_its_version() {
        let flags = KUBERNETES.linker_flags();
        assert!(flags.contains("version.gitVersion=v1.36.3 "), "{flags}");
        assert!(flags.contains("version.gitMinor=36 "), "{flags}");
        assert_eq!(ETCD.linker_flags(), "-s -w");
    }
}
