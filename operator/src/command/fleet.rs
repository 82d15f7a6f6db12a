//! `database-operator fleet`: what can be asked about replicas.

use std::path::PathBuf;

use clap::builder::RangedI64ValueParser;
use clap::{Args, Subcommand, ValueEnum};
use sharding::assignment::{MAX_MEMBERS, MAX_WEIGHT};

use super::namespace;
use crate::config::Surroundings;
use crate::names::is_label;

pub(super) const EXAMPLES: &str = "\
Examples:
  database-operator fleet status
      Who leads, who owns how much, what moves, and what nobody looks after
  database-operator fleet explain shop/orders
      Who looks after one Database, and why
  database-operator fleet drain database-operator-0 --wait
      Gives all that a replica owns to others, while it runs on
  database-operator fleet simulate --members 3 --join 1
      How many buckets a fourth replica would take over, and from how many

Exit codes: 0 done, 1 something is wrong with the fleet, 2 error.";

const STATUS_EXAMPLES: &str = "\
Reads the ShardMap, the Leases of the operator's namespace, and names and labels of all Databases;
writes nothing. Whether a Lease has run out is decided by the replicas, each by its own monotonic
clock. Here this machine's wall clock is compared with the time that the holder wrote, and a Lease
that looks as if it had run out is watched for a third of its time before that is said.

Examples:
  database-operator fleet status
      In a pod of the operator, or where its namespace is database-operator
  database-operator fleet status --context production --operator-namespace ops
      On a workstation
  database-operator fleet status -o json | jq .orphans
      Buckets without a live owner, and Databases whose label disagrees with their name

Exit codes: 0 all is looked after, 1 there are orphans, 2 error.";

const SIMULATE_EXAMPLES: &str = "\
A simulation, by the code that decides in a cluster. No cluster is asked, nothing is changed.
New members named member-0, member-1 and so on share the 1024 buckets; then those that join and
those that leave do so at once. The ideal number of moves is the exact share of the joining, or
the buckets of the leaving, whichever is more; 2 % of tolerance can save some.

Examples:
  database-operator fleet simulate --members 5
      How evenly five replicas share the fleet
  database-operator fleet simulate --members 3 --join 1 -o json
      What a fourth one would take over
  database-operator fleet simulate --members 4 --weights 1,2,1,4 --leave 1
      What is left of unequal ones when the last of them leaves

Exit codes: 0 done, 2 error.";

const EXPLAIN_EXAMPLES: &str = "\
Reads the ShardMap, the Leases and the Database; writes nothing. The bucket of a Database follows
from its namespace and name, so one that does not exist can be explained as well.

Examples:
  database-operator fleet explain shop/orders
      Its bucket, the owner, since about when, and whether label and fences agree with that
  database-operator fleet explain shop/orders -o json | jq -r .owner
      The replica in whose log to look

Exit codes: 0 done, 2 error.";

const DRAIN_EXAMPLES: &str = "\
Writes an annotation into the Lease of the replica. The leader then gives its buckets to others, as
soon as they are ready for them, and nothing new to it. The replica runs on, may go on leading, and
owns its share again after --undo, or when no other replica is left that could own anything. The
wish is for one process: another one that starts under the same name owns its share.

Examples:
  database-operator fleet drain database-operator-0
      Asks for it
  database-operator fleet drain database-operator-0 --wait --timeout 60
      And waits until it owns nothing; how much is left is told on standard error
  database-operator fleet drain database-operator-0 --undo
      Takes it back

Exit codes: 0 done, 1 refused, since nobody else could own anything, 2 error.";

/// What to ask of the fleet.
#[derive(Debug, Subcommand)]
pub(crate) enum FleetCommand {
    /// Show the members, what each owns, what moves, and what nobody looks after
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArguments),
    /// Show who looks after one Database, and why
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArguments),
    /// Give all that a member owns to others, while it runs on
    #[command(after_help = DRAIN_EXAMPLES)]
    Drain(DrainArguments),
    /// Simulate how members would share the buckets; asks no cluster
    #[command(after_help = SIMULATE_EXAMPLES)]
    Simulate(SimulateArguments),
}

/// Which fleet is asked.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// Kubeconfig of the cluster
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// Namespace of the operator, where its Leases are. Default: $POD_NAMESPACE, else database-operator
    #[arg(long, env = "DATABASE_OPERATOR_OPERATOR_NAMESPACE", value_name = "NAME", value_parser = namespace)]
    pub operator_namespace: Option<String>,
}

impl Cluster {
    /// The operator's namespace, as `run` has it.
    pub(crate) fn namespace(&self) -> String {
        let of_the_pod = || Surroundings::of_this_process().pod_namespace;
        let named = self.operator_namespace.clone().or_else(of_the_pod);
        named.unwrap_or_else(|| "database-operator".to_owned())
    }
}

/// Arguments of `fleet status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// Which fleet
    #[command(flatten)]
    pub cluster: Cluster,

    /// How it is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: FleetOutput,
}

/// Arguments of `fleet explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// Which Database
    #[arg(value_name = "NAMESPACE/NAME", value_parser = database)]
    pub database: (String, String),

    /// Which fleet
    #[command(flatten)]
    pub cluster: Cluster,

    /// How it is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: FleetOutput,
}

/// Arguments of `fleet drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArguments {
    /// Which member: its name, or NAME_NUMBER for one process and no other
    pub member: String,

    /// Take the wish back
    #[arg(long)]
    pub undo: bool,

    /// Wait until it owns nothing
    #[arg(long, conflicts_with = "undo")]
    pub wait: bool,

    /// For how long
    #[arg(long, value_name = "SECONDS", default_value = "300", requires = "wait")]
    pub timeout: u64,

    /// Which fleet
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Arguments of `fleet simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArguments {
    /// How many members there are at first, all of them active
    #[arg(long, value_name = "N", value_parser = count(1))]
    pub members: u32,

    /// Their weights, separated by commas, and those of the joining behind them. Default: 1 each; 0 owns nothing
    #[arg(long, value_name = "W", value_delimiter = ',', value_parser = weight())]
    pub weights: Vec<u32>,

    /// How many then join
    #[arg(long, value_name = "K", default_value = "0", value_parser = count(0))]
    pub join: u32,

    /// How many of the first ones then leave, the last of them first
    #[arg(long, value_name = "K", default_value = "0", value_parser = count(0))]
    pub leave: u32,

    /// How it is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: FleetOutput,
}

/// How an answer about the fleet is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FleetOutput {
    /// For people
    Table,
    /// For machines
    Json,
}

fn database(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if is_label(namespace) && is_label(name) => Ok((namespace.to_owned(), name.to_owned())),
        _ => Err("expected NAMESPACE/NAME, for example shop/orders".to_owned()),
    }
}

fn count(least: i64) -> RangedI64ValueParser<u32> {
    let most = i64::try_from(MAX_MEMBERS).expect("a small number");
    RangedI64ValueParser::new().range(least..=most)
}

fn weight() -> RangedI64ValueParser<u32> {
    RangedI64ValueParser::new().range(0..=i64::from(MAX_WEIGHT))
}
