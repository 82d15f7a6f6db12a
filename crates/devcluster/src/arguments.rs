//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use devcluster::{DEFAULT_NAME, Name};

/// A real Kubernetes on this machine, made in seconds and removed without a trace.
#[derive(Debug, Parser)]
#[command(
    name = "devcluster",
    version,
    after_help = "\
Examples:
  devcluster up --nodes 1                       a control plane and one real node
  devcluster exec -- kubectl get nodes          a command where the cluster is reachable
  devcluster exec -- target/debug/database-operator run
  devcluster down                               nothing is left but the cache

The first `up` builds Kubernetes from source (about 5 minutes, once); `devcluster prepare` does only that."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Start a cluster and wait until it is usable; one that runs already is left alone
    #[command(after_help = "\
Examples:
  devcluster up                                 a control plane without nodes: for tests without pods
  devcluster up --nodes 1                       with a real node: containers run (needs root)
  devcluster up --simulated-nodes 100           with nodes and pods that are only played (no containers)
  devcluster up --name other --nodes 3          a second cluster beside the first")]
    Up {
        #[command(flatten)]
        cluster: ClusterArgument,
        /// Real nodes: each has its own kernel namespaces, container runtime, kubelet (0 if not given)
        #[arg(long, value_parser = clap::value_parser!(u8).range(0..=9))]
        nodes: Option<u8>,
        /// Simulated nodes: they are Ready, and pods on them run in name only (0 if not given)
        #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1000))]
        simulated_nodes: Option<u32>,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// End a cluster and remove all that belongs to it; the cache of programs and images stays
    #[command(after_help = "\
Examples:
  devcluster down
  devcluster down --name other
  devcluster down --all                         every cluster of this user")]
    Down {
        #[command(flatten)]
        cluster: ClusterArgument,
        /// All clusters of this user
        #[arg(long, conflicts_with = "name")]
        all: bool,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Show a cluster: its nodes, its processes and where its files are; fails if it does not run well
    #[command(after_help = "\
Examples:
  devcluster status
  devcluster status --all -o json")]
    Status {
        #[command(flatten)]
        cluster: ClusterArgument,
        /// All clusters of this user
        #[arg(long, conflicts_with = "name")]
        all: bool,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Run a command where it reaches the API server, pods and Services, with KUBECONFIG set and kubectl on PATH
    ///
    /// The command replaces this process: its input, output, signals and exit status are its own.
    #[command(after_help = "\
Examples:
  devcluster exec -- kubectl get pods -A
  devcluster exec --name other -- env KUBECONFIG=\"$(devcluster kubeconfig --name other --user me)\" kubectl auth whoami")]
    Exec {
        #[command(flatten)]
        cluster: ClusterArgument,
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Print the log of a component; without one, list the components
    #[command(after_help = "\
Examples:
  devcluster logs
  devcluster logs kube-apiserver
  devcluster logs n1/kubelet --follow")]
    Logs {
        #[command(flatten)]
        cluster: ClusterArgument,
        /// `etcd`, `kube-apiserver`, `n1/kubelet`, ...; `supervisor` for the process that owns them
        component: Option<String>,
        /// Go on printing what is added
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Print the path of the audit log: a line of JSON for each request of every user
    #[command(after_help = "\
Examples:
  devcluster audit
  grep -c '\"verb\":\"patch\"' \"$(devcluster audit)\"")]
    Audit {
        #[command(flatten)]
        cluster: ClusterArgument,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Make a kubeconfig for a user of any name and print its path; what the user may do is up to RBAC
    #[command(after_help = "\
Examples:
  devcluster kubeconfig --user alice
  devcluster kubeconfig --user system:serviceaccount:db:operator --group system:serviceaccounts --group system:serviceaccounts:db")]
    Kubeconfig {
        #[command(flatten)]
        cluster: ClusterArgument,
        /// The user name
        #[arg(long)]
        user: String,
        /// A group of the user; may be given twice
        #[arg(long = "group")]
        groups: Vec<String>,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Put a container image on every real node
    #[command(after_help = "\
Examples:
  devcluster load-image my-image.tar            an archive as `docker save` or `buildah push` write it

Use `imagePullPolicy: IfNotPresent` or `Never`, and a tag other than `latest`: nodes cannot pull.")]
    LoadImage {
        #[command(flatten)]
        cluster: ClusterArgument,
        /// A docker or OCI archive
        archive: PathBuf,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// List the images of engines that real nodes have, each with the release of the engine in it
    #[command(after_help = "\
Examples:
  devcluster images                             localhost/postgres:15 15.18, and so on
  devcluster images -o json")]
    Images {
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Build and download everything into the cache, without starting a cluster
    #[command(after_help = "\
Examples:
  devcluster prepare                            all that any cluster needs
  devcluster prepare --only control-plane
  devcluster prepare --only opa                 OPA, which no cluster needs")]
    Prepare {
        /// Only what these need; may be given more than once
        #[arg(long, value_enum)]
        only: Vec<Part>,
        #[command(flatten)]
        output: OutputArgument,
    },
    /// Be the process that owns a cluster
    #[command(hide = true)]
    Supervise {
        #[command(flatten)]
        cluster: ClusterArgument,
        #[arg(long)]
        nodes: u8,
        #[arg(long)]
        simulated_nodes: u32,
    },
    /// Become process 1 of a node
    #[command(hide = true)]
    NodeInit { folder: PathBuf, pause: PathBuf },
    /// Join the cgroups that a file lists and become a program
    #[command(hide = true)]
    Enter {
        cgroups: PathBuf,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// What `prepare` can be limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Kubernetes and etcd
    ControlPlane,
    /// Also the container runtime, the name service and the images
    Nodes,
    /// Also KWOK
    SimulatedNodes,
    /// OPA and `opa-judge`, and nothing of a cluster
    Opa,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterArgument {
    /// The cluster's name
    #[arg(long, default_value = DEFAULT_NAME)]
    pub(crate) name: Name,
}

#[derive(Debug, Args)]
pub(crate) struct OutputArgument {
    /// How to print
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Action, clap::Error> {
        Arguments::try_parse_from(line.split(' ')).map(|arguments| arguments.command)
    }

    #[test]
    fn the_definitions_are_consistent_and_every_command_has_examples() {
        Arguments::command().debug_assert();
        for command in Arguments::command()
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
        {
            assert!(
                command
                    .get_after_help()
                    .is_some_and(|help| help.to_string().contains("Examples:")),
                "{command}"
            );
        }
    }

    #[test]
    fn what_follows_the_dashes_is_not_ours() {
        let Ok(Action::Exec { cluster, command }) =
            parse("devcluster exec --name other -- kubectl get --name x -o json")
        else {
            panic!("must parse")
        };
        assert_eq!(cluster.name.to_string(), "other");
        assert_eq!(command, ["kubectl", "get", "--name", "x", "-o", "json"]);
    }

    #[test]
    fn opa_is_a_part_of_its_own() {
        let Ok(Action::Prepare { only, .. }) = parse("devcluster prepare --only opa") else {
            panic!("must parse")
        };
        assert_eq!(only, [Part::Opa]);
    }

    #[test]
    fn faults_are_found_before_anything_is_done() {
        for line in [
            "devcluster up --nodes 10",
            "devcluster up --name Bad_Name",
            "devcluster exec",
            "devcluster down --all --name dev",
            "devcluster status -o yaml",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
