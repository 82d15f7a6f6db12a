//! The command line: what can be asked for. Parsing does nothing; `main` maps each command to its function.

mod bundle;
mod decisions;
mod diff;
mod fleet;
mod policy;
mod webhook;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use bundle::{BuildArguments, InspectArguments, SignArguments, VerifyArguments};
pub(crate) use decisions::{DecisionsCommand, DecisionsOutput, QueryArguments};
pub(crate) use diff::DiffArguments;
pub(crate) use fleet::{
    Cluster, DrainArguments, ExplainArguments, FleetCommand, FleetOutput, SimulateArguments, StatusArguments,
};
pub(crate) use policy::{
    BenchArguments, EvalArguments, LintArguments, PolicyCommand, PolicyOutput, Question, TestArguments, TestOutput,
};
pub(crate) use webhook::WebhookArguments;

use crate::config::Options;
use crate::rbac::Subject;

/// Makes databases from intents: applies what `Database` resources declare, and keeps it so.
#[derive(Debug, Parser)]
#[command(name = "database-operator", version, max_term_width = 100, after_help = EXIT_CODES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct CommandLine {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done or allowed, 1 refused by a rule, 2 error.";

const RUN_EXAMPLES: &str = "\
Each setting is taken from its flag, else its environment variable, else the file, else its default.
SIGTERM or SIGINT: nothing new starts, requests in flight are finished; a second one ends at once.

Examples:
  database-operator run
      In a pod: looks after all namespaces with the pod's service account
  database-operator run --kubeconfig ~/.kube/config --namespaces shop,payments --log-format pretty
      On a workstation, for two namespaces, with logs for people
  database-operator run --config operator.yaml --print-config
      Shows the complete configuration and does not run; what is printed can be used as a file

The file, with all of its keys optional and unknown keys refused:
  workers: 16
  namespaces: [shop, payments]
  healthAddress: 0.0.0.0:8080
  logFilter: info,controller=debug

Exit codes: 0 done, 2 error.";

const PLAN_EXAMPLES: &str = "\
The plan is computed by the same code that the operator runs. Values of Secrets are never printed. ConfigMaps and
Secrets in the file serve as what its Databases refer to.

Examples:
  database-operator plan -f orders.yaml
      What would be made of it, without a cluster; every fault of the file at once
  database-operator plan -f orders.yaml --against-cluster
      What would be done about it now, why, and what that does to the running database
  kubectl get database orders -o yaml | database-operator plan -f - --against-cluster -o json
      What the operator still has to do about it

Exit codes: 0 accepted, 1 refused by a rule, 2 error.";

const CRDS_EXAMPLES: &str = "\
Examples:
  database-operator crds | kubectl apply --server-side -f -
      Installs or updates the definition of Databases
  database-operator crds --with-fence | kubectl apply --server-side -f -
      Also what several replicas need: the map of who owns what, and policies by which the API
      server refuses writes of a replica whose ownership is over. They judge the service account
      database-operator in the namespace of that name, where the operator's label is, and nobody else
  database-operator crds --with-fence --service-account ops:database-operator
      For another service account
  database-operator crds --with-fence --user developer
      For a user, to run the operator on a workstation";

const RBAC_EXAMPLES: &str = "\
Examples:
  database-operator rbac | kubectl apply -f -
      For the service account database-operator in the namespace of that name, in all namespaces
  database-operator rbac --namespaces shop,payments --service-account ops:database-operator
      Roles in two namespaces only
  database-operator rbac --user developer
      For a user, to run the operator on a workstation";

const VERSION_EXAMPLES: &str = "\
Examples:
  database-operator version
  database-operator version -o json";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the operator
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArguments>),
    /// Show what would be made of a manifest, or done about it
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(PlanArguments),
    /// Ask how replicas share the Databases
    #[command(subcommand, after_help = fleet::EXAMPLES)]
    Fleet(FleetCommand),
    /// Ask policies what may be declared, and test them
    #[command(subcommand, after_help = policy::EXAMPLES)]
    Policy(PolicyCommand),
    /// Ask what policies decided
    #[command(subcommand, after_help = decisions::EXAMPLES)]
    Decisions(DecisionsCommand),
    /// Print the definitions of Databases and of the ShardMap, and what fences replicas, as manifests
    #[command(after_help = CRDS_EXAMPLES)]
    Crds(CrdsArguments),
    /// Print what tells the API server of the webhook, as manifests
    #[command(after_help = webhook::EXAMPLES)]
    Webhook(WebhookArguments),
    /// Print the permissions that the operator needs, as manifests
    #[command(after_help = RBAC_EXAMPLES)]
    Rbac(RbacArguments),
    /// Print the version
    #[command(after_help = VERSION_EXAMPLES)]
    Version(VersionArguments),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Configuration file (YAML)
    #[arg(long, env = "DATABASE_OPERATOR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print the complete configuration and do not run
    #[arg(long)]
    pub print_config: bool,

    /// The settings
    #[command(flatten)]
    pub options: Options,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// Manifest with one or more Databases (YAML or JSON); - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,

    /// Compare with what the cluster has; reads only
    #[arg(long)]
    pub against_cluster: bool,

    /// Namespace of Databases that name none
    #[arg(short, long, value_name = "NAME", default_value = "default", value_parser = namespace)]
    pub namespace: String,

    /// How it is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
    pub output: PlanOutput,

    /// Catalogue that replaces engines of the built-in one
    #[arg(long, env = "DATABASE_OPERATOR_CATALOGUE", value_name = "FILE")]
    pub catalogue: Option<PathBuf>,

    /// Kubeconfig of the cluster
    #[arg(long, value_name = "FILE", requires = "against_cluster")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", requires = "against_cluster")]
    pub context: Option<String>,
}

/// How a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanOutput {
    /// For people
    Yaml,
    /// For machines
    Json,
}

/// Arguments of `crds`.
#[derive(Debug, Args)]
pub(crate) struct CrdsArguments {
    /// Also print the policies by which the API server refuses what a replica writes after its time, and a FlowSchema for
    /// Leases
    #[arg(long)]
    pub with_fence: bool,

    /// Service account of the replicas. Default: database-operator:database-operator
    #[arg(long, value_name = "NAMESPACE:NAME", value_parser = Subject::service_account, requires = "with_fence")]
    pub service_account: Option<Subject>,

    /// User of the replicas, if they have no service account
    #[arg(
        long,
        value_name = "NAME",
        value_parser = user,
        requires = "with_fence",
        conflicts_with = "service_account"
    )]
    pub user: Option<Subject>,
}

/// Arguments of `rbac`.
#[derive(Debug, Args)]
pub(crate) struct RbacArguments {
    /// Namespaces whose Databases are looked after, separated by commas. Default: all
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = namespace)]
    pub namespaces: Vec<String>,

    /// Service account that gets the permissions; may be repeated. Default: database-operator:database-operator
    #[arg(long, value_name = "NAMESPACE:NAME", value_parser = Subject::service_account)]
    pub service_account: Vec<Subject>,

    /// User that gets the permissions; may be repeated
    #[arg(long, value_name = "NAME", value_parser = user)]
    pub user: Vec<Subject>,

    /// Namespace of the operator itself, where its Leases are; it must exist. Default: that of the first service account,
    /// else database-operator
    #[arg(long, value_name = "NAME", value_parser = namespace)]
    pub operator_namespace: Option<String>,
}

/// Arguments of `version`.
#[derive(Debug, Args)]
pub(crate) struct VersionArguments {
    /// How it is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: VersionOutput,
}

/// How the version is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VersionOutput {
    /// For people
    Text,
    /// For machines
    Json,
}

impl CrdsArguments {
    /// Whose writes are fenced, if they are to be.
    pub(crate) fn fenced(self) -> Option<Subject> {
        let subject = self.service_account.or(self.user).unwrap_or_default();
        self.with_fence.then_some(subject)
    }
}

impl RbacArguments {
    /// The operator's namespace.
    pub(crate) fn own(&self) -> String {
        let of_account = self.service_account.first().and_then(|subject| match subject {
            Subject::ServiceAccount { namespace, .. } => Some(namespace.clone()),
            Subject::User(_) => None,
        });
        let named = self.operator_namespace.clone().or(of_account);
        named.unwrap_or_else(|| "database-operator".to_owned())
    }

    /// Who gets the permissions.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        let mut subjects = [self.service_account.as_slice(), self.user.as_slice()].concat();
        if subjects.is_empty() {
            subjects.push(Subject::default());
        }
        subjects
    }
}

fn namespace(text: &str) -> Result<String, String> {
    if crate::names::is_label(text) {
        Ok(text.to_owned())
    } else {
        Err(crate::names::LABEL_RULE.to_owned())
    }
}

fn user(text: &str) -> Result<Subject, String> {
    if text.is_empty() {
        Err("a user has a name".to_owned())
    } else {
        Ok(Subject::User(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        fn check(parent: &str, command: &clap::Command) {
            for command in command.get_subcommands() {
                let example = format!("{parent} {}", command.get_name());
                let help = command
                    .get_after_help()
                    .unwrap_or_else(|| panic!("{example}: no examples"));
                assert!(help.to_string().contains(&example), "{example}");
                check(&example, command);
            }
        }
        check("database-operator", &CommandLine::command());
    }

    #[test]
    fn every_setting_has_its_environment_variable_named_after_its_flag() {
        let command = CommandLine::command();
        let run = command.find_subcommand("run").expect("run");
        for argument in run
            .get_arguments()
            .filter(|argument| !["help", "print_config"].contains(&argument.get_id().as_str()))
        {
            let flag = argument.get_long().expect("a long flag");
            let expected = format!("DATABASE_OPERATOR_{}", flag.replace('-', "_").to_uppercase());
            assert_eq!(
                argument.get_env().and_then(|name| name.to_str()),
                Some(expected.as_str()),
                "--{flag}"
            );
        }
    }
}
