//! Tests of policies.

use std::process::ExitCode;

use jiff::Timestamp;
use policy::bundle::Bundle;
use policy::policies::Policies;
use policy::stack;
use policy::testing::{self, Coverage, Options, Tested, cases, report};

use super::read::{bundles, planner};
use super::{Refused, gate, print};
use crate::command::{TestArguments, TestOutput};
use crate::{Done, REFUSED, catalogue};

/// How often each test is run to be measured.
const TIMES: usize = 100;

/// Runs and prints.
pub(super) fn run(arguments: &TestArguments) -> Done {
    let bundles = bundles(&arguments.policies)?;
    // Tests that do not pass are told below, with the others.
    let mut findings = gate(&bundles)?;
    findings.retain(|finding| !finding.problem.starts_with(policy::gate::TEST));
    if !findings.is_empty() {
        return Err(Refused(findings).into());
    }
    let (mut tests, coverage) = stack::large(|| all(arguments, &bundles))?.map_err(plain)?;
    if arguments.bench {
        for _ in 1..TIMES {
            let (again, _) = stack::large(|| all(arguments, &bundles))?.map_err(plain)?;
            for (test, again) in tests.iter_mut().zip(again) {
                test.nanoseconds = test.nanoseconds.min(again.nanoseconds);
            }
        }
    }
    let coverage = arguments.coverage_min.map(|least| (least, coverage));
    print(&match arguments.output {
        TestOutput::Text => report::text(&tests, coverage.as_ref().map(|(_, coverage)| coverage), arguments.bench),
        TestOutput::Json => format!("{}\n", serde_json::to_string_pretty(&report::opa(&tests))?),
        TestOutput::Junit => report::junit(&tests),
    })?;
    if tests.is_empty() {
        eprintln!("refused: there is no test");
        return Ok(ExitCode::from(REFUSED));
    }
    if let Some((least, coverage)) = &coverage
        && coverage.percent() < *least
    {
        eprintln!("refused: {}, less than {least} %", report::of_coverage(coverage));
        return Ok(ExitCode::from(REFUSED));
    }
    Ok(if tests.iter().any(|test| test.outcome.is_bad()) {
        ExitCode::from(REFUSED)
    } else {
        ExitCode::SUCCESS
    })
}

type Sent = Box<dyn std::error::Error + Send + Sync>;

fn plain(error: Sent) -> Box<dyn std::error::Error> {
    error
}

/// Tests in Rego and cases in YAML.
fn all(arguments: &TestArguments, bundles: &[Bundle]) -> Result<(Vec<Tested>, Coverage), Sent> {
    let options = Options {
        run: arguments.run.clone(),
    };
    let (mut tests, coverage) = testing::run_covered(bundles, &options, arguments.coverage_min.is_some());
    let catalogue = catalogue::load(arguments.catalogue.as_deref())?;
    let policies = Policies::load(bundles, catalogue.clone())?.with_time_limit(super::PATIENCE);
    let wanted = |name: &str| arguments.run.as_ref().is_none_or(|run| run.is_match(name));
    for path in &arguments.policies {
        for file in cases::read(path)? {
            tests.extend(file.run(&policies, &planner(&catalogue), wanted, Timestamp::now()));
        }
    }
    Ok((tests, coverage))
}
