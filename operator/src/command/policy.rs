//! `database-operator policy`: what can be asked about policies.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use policy::request::Operation;

use super::bundle::{self, BuildArguments, InspectArguments, SignArguments, VerifyArguments};
use super::diff::{self, DiffArguments};
use super::namespace;

pub(super) const EXAMPLES: &str = "\
Policies are folders or OPA bundles of Rego v1, with their data. Everything is checked before it is
loaded, in a process of its own: what would stop or end this one is refused.

Examples:
  database-operator policy eval --policies policies --database orders.yaml
      Whether this Database may be declared, and if not, why
  database-operator policy test policies --coverage-min 95
      Runs the tests of policies
  database-operator policy lint policies
      What speaks against loading policies
  database-operator policy bench --policies policies --database orders.yaml
      How long a decision takes
  database-operator policy build policies --to policies.tar.gz --revision v42 --sequence 42
      A bundle, to be signed and shipped
  database-operator policy diff policies policies.tar.gz --against-cluster
      What it would newly deny of what exists

Exit codes: 0 done or allowed, 1 refused by a rule, 2 error.";

const EVAL_EXAMPLES: &str = "\
The same evaluation as the operator's. Environment, team and business unit come from the labels
intent.example.com/environment, /team and /business-unit of the namespace. With --old it is an
update: what was so before and gets no worse passes with a warning.

Examples:
  database-operator policy eval --policies policies --database orders.yaml
      Without labels of the namespace the strictest environment holds
  database-operator policy eval --policies policies --database orders.yaml \\
      --namespace-labels intent.example.com/environment=staging,intent.example.com/team=payments
      In a staging namespace of a team
  database-operator policy eval --policies policies --database new.yaml --old old.yaml -o json
      A change, with the answer for a program
  database-operator policy eval --policies policies --database orders.yaml --show-input
      What rules see, to write tests with

Exit codes: 0 allowed, perhaps with warnings, 1 denied, 2 error.";

const TEST_EXAMPLES: &str = "\
Tests are rules whose names begin with test_ in modules of any package; one passes if it is true.
todo_test_ is skipped. Cases in cases/*.yaml go through the same way as a Database does: each has
name, object, and what is expected: {verdict, violations: [ids]}; and may have namespace
{name, labels}, old, operation and user.

Examples:
  database-operator policy test policies
      Runs all
  database-operator policy test policies --run 'security_test\\.' --bench
      Some of them, many times, and how long each takes
  database-operator policy test policies --coverage-min 95 -o junit > report.xml
      For a pipeline

Exit codes: 0 all pass, 1 some do not or too few lines are reached, 2 error.";

const LINT_EXAMPLES: &str = "\
Also what OPA's compiler would find: names that stand for nothing, functions that there are not or
that get the wrong number of arguments, rules that ask themselves. And what could stop the operator,
rules that cannot answer for an odd Database, and tests that do not pass.

Examples:
  database-operator policy lint policies
      With file and line
  database-operator policy lint policies -o json
      For a program

Exit codes: 0 nothing, 1 something, 2 error.";

const BENCH_EXAMPLES: &str = "\
One thread decides the same again and again: normal form, planned children, rules, answer; then
it only asks the rules, from the text of their input to the text of their answer, as other engines
are measured. To compare, pin it to a core (taskset -c 0).

Examples:
  database-operator policy bench --policies policies --database orders.yaml
      Quantiles and throughput
  database-operator policy bench --policies policies --database orders.yaml --iterations 10000 -o json
      More of it, for a program

Exit codes: 0 done, 2 error.";

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Decide about one Database
    #[command(after_help = EVAL_EXAMPLES)]
    Eval(Box<EvalArguments>),
    /// Run the tests of policies
    #[command(after_help = TEST_EXAMPLES)]
    Test(TestArguments),
    /// Check policies as they are checked before they are loaded
    #[command(after_help = LINT_EXAMPLES)]
    Lint(LintArguments),
    /// Compare what two sets of policies deny of existing Databases
    #[command(after_help = diff::EXAMPLES)]
    Diff(Box<DiffArguments>),
    /// Measure how long a decision takes
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(Box<BenchArguments>),
    /// Build a bundle of a folder
    #[command(after_help = bundle::BUILD_EXAMPLES)]
    Build(Box<BuildArguments>),
    /// Sign a bundle
    #[command(after_help = bundle::SIGN_EXAMPLES)]
    Sign(Box<SignArguments>),
    /// Verify the signature of a bundle
    #[command(after_help = bundle::VERIFY_EXAMPLES)]
    Verify(VerifyArguments),
    /// Show what a bundle holds
    #[command(after_help = bundle::INSPECT_EXAMPLES)]
    Inspect(InspectArguments),
    /// Check what stands on standard input, under limits: what the other commands call
    #[command(
        hide = true,
        after_help = "database-operator policy gate is called by the other commands."
    )]
    Gate,
}

/// Arguments of `policy eval`.
#[derive(Debug, Args)]
pub(crate) struct EvalArguments {
    /// Which policies
    #[command(flatten)]
    pub question: Question,

    /// Print what rules see as `input` instead of deciding
    #[arg(long)]
    pub show_input: bool,

    /// How the decision is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: PolicyOutput,
}

/// What is decided about, by which policies.
#[derive(Debug, Args)]
pub(crate) struct Question {
    /// Folders or bundles with policies
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    pub policies: Vec<PathBuf>,

    /// The Database (YAML or JSON); - for standard input
    #[arg(long, value_name = "FILE")]
    pub database: PathBuf,

    /// The Database before the change
    #[arg(long, value_name = "FILE")]
    pub old: Option<PathBuf>,

    /// Namespace of a Database that names none
    #[arg(short, long, value_name = "NAME", default_value = "default", value_parser = namespace)]
    pub namespace: String,

    /// Labels of the namespace
    #[arg(long, value_name = "KEY=VALUE,...", value_delimiter = ',', value_parser = label)]
    pub namespace_labels: Vec<(String, String)>,

    /// Who wants it. Default: nobody, as in a reconcile, and rules about users are not asked
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// Group of that user; may be repeated
    #[arg(long, value_name = "NAME", requires = "user")]
    pub group: Vec<String>,

    /// What is done. Default: UPDATE with --old, else CREATE
    #[arg(long, value_name = "OPERATION", value_parser = operation)]
    pub operation: Option<Operation>,

    /// PolicyExceptions (YAML or JSON)
    #[arg(long, value_name = "FILE")]
    pub exceptions: Option<PathBuf>,

    /// Catalogue that replaces engines of the built-in one
    #[arg(long, env = "DATABASE_OPERATOR_CATALOGUE", value_name = "FILE")]
    pub catalogue: Option<PathBuf>,
}

/// Arguments of `policy test`.
#[derive(Debug, Args)]
pub(crate) struct TestArguments {
    /// Folder or bundle with policies
    #[arg(value_name = "PATH", required = true)]
    pub policies: Vec<PathBuf>,

    /// Least share of lines that tests reach, in percent
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub coverage_min: Option<f64>,

    /// Only tests whose full name matches this regular expression
    #[arg(long, value_name = "PATTERN")]
    pub run: Option<regex::Regex>,

    /// Run each test many times, and tell how long it takes
    #[arg(long)]
    pub bench: bool,

    /// How results are printed
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: TestOutput,

    /// Catalogue that replaces engines of the built-in one
    #[arg(long, env = "DATABASE_OPERATOR_CATALOGUE", value_name = "FILE")]
    pub catalogue: Option<PathBuf>,
}

/// Arguments of `policy lint`.
#[derive(Debug, Args)]
pub(crate) struct LintArguments {
    /// Folders or bundles with policies
    #[arg(value_name = "PATH", required = true)]
    pub policies: Vec<PathBuf>,

    /// How findings are printed
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: PolicyOutput,
}

/// Arguments of `policy bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// Which policies
    #[command(flatten)]
    pub question: Question,

    /// How many decisions, after a tenth as many that do not count
    #[arg(long, value_name = "N", default_value = "2000", value_parser = clap::value_parser!(u32).range(1..))]
    pub iterations: u32,

    /// How figures are printed
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: PolicyOutput,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyOutput {
    /// For people
    Text,
    /// For machines
    Json,
}

/// How results of tests are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TestOutput {
    /// For people
    Text,
    /// As `opa test --format json`
    Json,
    /// For pipelines
    Junit,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

fn operation(text: &str) -> Result<Operation, String> {
    match text.to_ascii_uppercase().as_str() {
        "CREATE" => Ok(Operation::Create),
        "UPDATE" => Ok(Operation::Update),
        _ => Err("write CREATE or UPDATE".to_owned()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("write a number from 0 to 100".to_owned()),
    }
}
