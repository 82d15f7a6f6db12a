//! `database-operator policy`: policies from files, asked about Databases from files.

mod bench;
mod bundle;
mod diff;
pub(crate) mod read;
pub(crate) mod source;
mod test;

use std::fmt::Write as _;
use std::io;
use std::process::{Command, ExitCode};
use std::time::Duration;

use ::policy::bundle::Bundle;
use jiff::Timestamp;
use policy::decision::{Action, Decision, POLICY_ERROR, Verdict};
use policy::gate::Finding;
use policy::gate::child::{self, GateError, Limits};
use policy::policies::Policies;
use policy::stack;

use crate::command::{EvalArguments, LintArguments, PolicyCommand, PolicyOutput};
use crate::{Done, ERROR, REFUSED, print};

/// Does what is asked.
pub(crate) fn run(command: PolicyCommand) -> Done {
    match command {
        PolicyCommand::Eval(arguments) => eval(&arguments),
        PolicyCommand::Test(arguments) => test::run(&arguments),
        PolicyCommand::Lint(arguments) => lint(&arguments),
        PolicyCommand::Diff(arguments) => diff::run(&arguments),
        PolicyCommand::Bench(arguments) => bench::run(&arguments),
        PolicyCommand::Build(arguments) => bundle::build(&arguments),
        PolicyCommand::Sign(arguments) => bundle::sign(&arguments),
        PolicyCommand::Verify(arguments) => bundle::verify(&arguments),
        PolicyCommand::Inspect(arguments) => bundle::inspect(&arguments),
        PolicyCommand::Gate => {
            child::answer(io::stdin().lock(), io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Longest that a decision may take here, where no API server waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why it is not known what speaks against policies.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateFailure {
    /// This program is not where it was started from.
    #[error("the program that checks policies, which is this one, cannot be found")]
    Program(#[source] io::Error),
    /// The child failed.
    #[error(transparent)]
    Child(#[from] GateError),
}

/// What speaks against these bundles, found by this program in a process of its own.
pub(crate) fn gate(bundles: &[Bundle]) -> Result<Vec<Finding>, GateFailure> {
    let mut command = Command::new(std::env::current_exe().map_err(GateFailure::Program)?);
    command.args(["policy", "gate"]);
    Ok(child::check(command, bundles, Limits::default())?)
}

/// Bundles that nothing speaks against.
fn admitted(paths: &[std::path::PathBuf]) -> Result<Vec<Bundle>, Box<dyn std::error::Error>> {
    let bundles = read::bundles(paths)?;
    let findings = gate(&bundles)?;
    if findings.is_empty() {
        Ok(bundles)
    } else {
        Err(Refused(findings).into())
    }
}

/// Policies that are not loaded.
#[derive(Debug, thiserror::Error)]
#[error("the policies are refused:\n{}", lines(.0))]
struct Refused(Vec<Finding>);

fn lines(findings: &[Finding]) -> String {
    findings.iter().fold(String::new(), |mut text, finding| {
        let _ = writeln!(text, "{finding}");
        text
    })
}

fn eval(arguments: &EvalArguments) -> Done {
    if arguments.show_input {
        return show_input(arguments);
    }
    let decision = decide(arguments).unwrap_or_else(|error| Decision::failed(telemetry::chain(error.as_ref())));
    let code = match decision.verdict {
        Verdict::Allow | Verdict::Warn => ExitCode::SUCCESS,
        Verdict::Deny => ExitCode::from(REFUSED),
        Verdict::Error => ExitCode::from(ERROR),
    };
    print(&match arguments.output {
        PolicyOutput::Json => format!("{}\n", serde_json::to_string_pretty(&decision)?),
        PolicyOutput::Text => for_people(&decision),
    })?;
    Ok(code)
}

fn show_input(arguments: &EvalArguments) -> Done {
    let question = read::Question::read(&arguments.question)?;
    let bundles = admitted(&arguments.question.policies)?;
    let input = stack::large(|| -> Result<serde_json::Value, policy::policies::LoadError> {
        let policies = Policies::load(&bundles, question.catalogue.clone())?;
        Ok(policies.input(&question.request, &question.planner(), Timestamp::now()))
    })??;
    print(&format!("{}\n", serde_json::to_string_pretty(&input)?))
}

fn decide(arguments: &EvalArguments) -> Result<Decision, Box<dyn std::error::Error>> {
    let question = read::Question::read(&arguments.question)?;
    let bundles = admitted(&arguments.question.policies)?;
    let decision = stack::large(|| -> Result<Decision, policy::policies::LoadError> {
        let policies = Policies::load(&bundles, question.catalogue.clone())?.with_time_limit(PATIENCE);
        let planner = question.planner();
        Ok(policies.evaluate(&question.request, &planner, &question.exceptions, Timestamp::now()))
    })?;
    Ok(decision?)
}

fn for_people(decision: &Decision) -> String {
    let mut text = format!("{}\n", decision.verdict);
    for violation in &decision.violations {
        let what = match violation.action {
            Action::Deny if violation.id == POLICY_ERROR => "error",
            Action::Deny => "denied",
            Action::Warn => "warning",
            Action::Audit => "noted",
        };
        let _ = writeln!(text, "  {what}: {} [{}]", violation.sentence(), violation.level);
    }
    let told: Vec<String> = decision
        .violations
        .iter()
        .map(policy::decision::Violation::sentence)
        .collect();
    for warning in decision.warnings.iter().filter(|warning| !told.contains(warning)) {
        let _ = writeln!(text, "  warning: {warning}");
    }
    for exception in &decision.exceptions {
        let _ = writeln!(
            text,
            "  excepted: {} by {} until {} ({}, approved by {})",
            exception.rule, exception.name, exception.expires, exception.reason, exception.approver
        );
    }
    for (name, bundle) in &decision.bundles {
        let _ = writeln!(text, "  asked: {name} {} {}", bundle.revision, bundle.digest);
    }
    text
}

fn lint(arguments: &LintArguments) -> Done {
    let findings = gate(&read::bundles(&arguments.policies)?)?;
    print(&match arguments.output {
        PolicyOutput::Json => format!("{}\n", serde_json::to_string_pretty(&findings)?),
        PolicyOutput::Text if findings.is_empty() => "nothing speaks against these policies\n".to_owned(),
        PolicyOutput::Text => lines(&findings),
    })?;
    Ok(if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    })
}
