//! `database-operator policy diff`: what other policies would say of what exists.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{PolicyOutput, namespace};

pub(super) const EXAMPLES: &str = "\
Asks both sets of policies about each Database as if it were declared anew, without a user, and says
where they differ in what they deny; warnings are not compared. What exists goes on whatever new
policies say, and may be changed where that makes nothing worse: for each Database that is denied it
is said whether a change of something else would pass.

Reads the cluster with your own permissions, page by page, and writes nothing. It takes the verbs
list for databases and policyexceptions of intent.example.com (the latter may be undefined), and get
for namespaces, whose labels choose the policies. Files are what `kubectl get` prints, with the
Namespaces and PolicyExceptions; a namespace that is in none has no labels.

Examples:
  database-operator policy diff policies new-policies.tar.gz --against-cluster
      What a new bundle would newly deny or allow, before it is shipped
  database-operator policy diff shipped,ours shipped,new --against-cluster --namespace shop payments
      Several bundles together, in two namespaces
  kubectl get databases,namespaces,policyexceptions -A -o yaml > all.yaml
  database-operator policy diff policies new-policies --databases all.yaml -o json
      Without a cluster, for a pipeline

Exit codes: 0 nothing is newly denied, 1 something is, 2 error.";

/// Arguments of `policy diff`.
#[derive(Debug, Args)]
#[command(
    override_usage = "database-operator policy diff [OPTIONS] <OLD> <NEW> <--against-cluster|--databases <FILE>...>"
)]
#[command(group = ArgGroup::new("where").required(true).args(["against_cluster", "databases"]))]
pub(crate) struct DiffArguments {
    /// Folders or bundles that are in force, separated by commas
    #[arg(value_name = "OLD", value_parser = paths)]
    pub old: Paths,

    /// Those that are to take their place
    #[arg(value_name = "NEW", value_parser = paths)]
    pub new: Paths,

    /// Ask about all Databases of the cluster
    #[arg(long)]
    pub against_cluster: bool,

    /// Only those of these namespaces
    #[arg(short, long, value_name = "NAME", num_args = 1.., value_parser = namespace, conflicts_with = "databases")]
    pub namespace: Vec<String>,

    /// Ask about the Databases of these files (YAML or JSON); - for standard input
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub databases: Vec<PathBuf>,

    /// How it is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: PolicyOutput,

    /// Catalogue that replaces engines of the built-in one
    #[arg(long, env = "DATABASE_OPERATOR_CATALOGUE", value_name = "FILE")]
    pub catalogue: Option<PathBuf>,

    /// Kubeconfig of the cluster
    #[arg(long, value_name = "FILE", conflicts_with = "databases")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", conflicts_with = "databases")]
    pub context: Option<String>,
}

/// Paths that were given with commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths(pub Vec<PathBuf>);

fn paths(text: &str) -> Result<Paths, String> {
    if text.split(',').any(str::is_empty) {
        return Err("write PATH, or PATH,PATH".to_owned());
    }
    Ok(Paths(text.split(',').map(PathBuf::from).collect()))
}
