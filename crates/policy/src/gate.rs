//! What has to hold before policies are loaded.
//!
//! `regorus` finds many mistakes only when a rule is reached, and some policies would end or stop the whole process:
//! functions that call themselves, brackets in brackets, ranges without end. So everything is looked at first, in a child
//! process with limits ([`child`]): the text (`lexical`), the syntax tree (`rules`), where data and rules meet, what
//! rules say to odd inputs, and the policies' own tests.

pub mod child;
mod data;
mod lexical;
mod rules;
pub mod samples;

use std::fmt;
use std::time::Duration;

use engines::catalogue::Catalogue;
use regorus::Engine;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bundle::{Bundle, Tests};
use crate::policies::{self, Policies};
use crate::testing;
use crate::tree;

/// Why policies are not let in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// File, in its bundle.
    pub file: String,
    /// Line, from 1; 0 if the whole file is meant.
    pub line: u32,
    /// What is wrong, and how to mend it.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.problem),
            line => write!(f, "{}:{line}: {}", self.file, self.problem),
        }
    }
}

/// Begins the problem of a test that does not pass.
pub const TEST: &str = "the test";

/// Everything that speaks against loading these bundles. To be called in a child process only.
pub fn inspect(bundles: &[Bundle]) -> Vec<Finding> {
    let modules = || bundles.iter().flat_map(Bundle::modules);
    let findings: Vec<Finding> = modules()
        .filter_map(|(file, text)| lexical::check(file, text))
        .collect();
    if !findings.is_empty() {
        return findings;
    }
    let whole = |problem: String| {
        vec![Finding {
            file: bundles.iter().map(Bundle::name).collect::<Vec<_>>().join(", "),
            line: 0,
            problem,
        }]
    };
    let mut engine = match policies::engine_of(bundles, Tests::Include) {
        Ok(engine) => engine,
        Err(error) => return whole(error.to_string()),
    };
    let mut findings = of_rules(&mut engine);
    if findings.is_empty() {
        findings.extend(rules::reach::check(engine.get_modules()));
        let packages: Vec<Vec<String>> = engine
            .get_modules()
            .iter()
            .map(|module| tree::package(module))
            .collect();
        findings.extend(data::check(bundles, &packages));
    }
    if !findings.is_empty() {
        return findings;
    }
    let policies = match Policies::load(bundles, Catalogue::builtin()) {
        // The process has its own limit.
        Ok(policies) => policies.with_time_limit(Duration::from_secs(1)),
        Err(error) => return whole(chain(&error)),
    };
    findings.extend(samples::check(&policies).into_iter().flat_map(whole));
    if findings.is_empty() {
        let failed = testing::run(bundles, &testing::Options::default());
        findings.extend(
            failed
                .iter()
                .filter(|result| result.outcome.is_bad())
                .map(|result| Finding {
                    file: result.file.clone(),
                    line: result.line,
                    problem: format!("{TEST} {} does not pass: {}", result.name, result.outcome),
                }),
        );
    }
    findings
}

/// What speaks against rules that are parsed, and against data that meets them.
fn of_rules(engine: &mut Engine) -> Vec<Finding> {
    let data = serde_json::to_value(engine.get_data()).unwrap_or_default();
    let mut findings = rules::check(engine.get_modules(), &data);
    findings.sort();
    findings.dedup();
    findings
}

/// What speaks against the text of a module beside this data, by itself: without what other modules would bring, and
/// without asking it anything.
pub fn inspect_module(file: &str, text: &str, data: Value) -> Vec<Finding> {
    if let Some(finding) = lexical::check(file, text) {
        return vec![finding];
    }
    let mut engine = Engine::new();
    let loaded = engine
        .add_policy(file.to_owned(), text.to_owned())
        .and_then(|_| engine.add_data(data.into()));
    match loaded {
        Ok(()) => of_rules(&mut engine),
        Err(error) => vec![Finding {
            file: file.to_owned(),
            line: 0,
            problem: error.to_string(),
        }],
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
