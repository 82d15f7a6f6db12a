//! Tests of policies, with the names and meaning of `opa test`.

pub mod cases;
pub mod report;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use regex::Regex;
use regorus::Value as Rego;
use regorus::utils::limits::ExecutionTimerConfig;
use serde::Serialize;

use crate::bundle::{Bundle, Tests};
use crate::policies::{TEST, engine_of};
use crate::tree;

/// Longest that a test may take.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// What is run, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only tests whose full name matches.
    pub run: Option<Regex>,
}

/// How a test ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome", content = "why")]
pub enum Outcome {
    /// It is true.
    Pass,
    /// It is not.
    Fail(String),
    /// It could not be asked.
    Error(String),
    /// It is called `todo_test_`.
    Skip,
}

impl Outcome {
    /// Whether somebody must do something about it.
    pub fn is_bad(&self) -> bool {
        matches!(self, Self::Fail(_) | Self::Error(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("PASS"),
            Self::Skip => f.write_str("SKIPPED"),
            Self::Fail(why) if why.is_empty() => f.write_str("FAIL"),
            Self::Fail(why) => write!(f, "FAIL: {why}"),
            Self::Error(why) => write!(f, "ERROR: {why}"),
        }
    }
}

/// A test that was run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Tested {
    /// `data.database.security_test.test_root_is_denied`
    pub name: String,
    /// File, in its bundle.
    pub file: String,
    /// Line of its rule.
    pub line: u32,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took.
    pub nanoseconds: u64,
}

/// Lines of policies, tests aside, that tests reached.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Coverage {
    /// Lines reached.
    pub covered: usize,
    /// Lines that there are to reach.
    pub lines: usize,
    /// Those not reached, by file.
    #[serde(rename = "notCovered")]
    pub not_covered: BTreeMap<String, Vec<u32>>,
}

impl Coverage {
    /// In percent; 100 of nothing.
    #[expect(clippy::cast_precision_loss, reason = "lines are few")]
    pub fn percent(&self) -> f64 {
        if self.lines == 0 {
            100.0
        } else {
            100.0 * self.covered as f64 / self.lines as f64
        }
    }
}

/// Runs all tests of these bundles, in the order of their names.
pub fn run(bundles: &[Bundle], options: &Options) -> Vec<Tested> {
    run_covered(bundles, options, false).0
}

/// The same, and which lines they reached if `cover`. To be called on a thread with a large stack.
pub fn run_covered(bundles: &[Bundle], options: &Options, cover: bool) -> (Vec<Tested>, Coverage) {
    let mut engine = match engine_of(bundles, Tests::Include) {
        Ok(engine) => engine,
        Err(error) => return (vec![not_loaded(&error.to_string())], Coverage::default()),
    };
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: TIME_LIMIT,
        check_interval: NonZeroU32::MIN,
    });
    engine.set_enable_coverage(cover);
    let mut tests: Vec<Tested> = engine
        .get_modules()
        .iter()
        .flat_map(|module| tests_of(module))
        .collect();
    tests.sort_by(|a, b| (&a.name, &a.file, a.line).cmp(&(&b.name, &b.file, b.line)));
    tests.dedup_by(|second, first| {
        let same = first.name == second.name;
        if same {
            first.outcome = Outcome::Error(format!(
                "there is another one of this name ({}:{}), and one that is true would hide one that is not; give each its \
                 own name",
                second.file, second.line
            ));
        }
        same
    });
    tests.retain(|test| options.run.as_ref().is_none_or(|run| run.is_match(&test.name)));
    for test in tests.iter_mut().filter(|test| test.outcome == Outcome::Pass) {
        let begun = Instant::now();
        let value = engine.eval_rule(test.name.clone());
        test.nanoseconds = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        test.outcome = value.map_or_else(|error| Outcome::Error(error.to_string()), |value| judge(&value));
    }
    let coverage = if cover {
        coverage(&engine, bundles)
    } else {
        Coverage::default()
    };
    (tests, coverage)
}

fn not_loaded(why: &str) -> Tested {
    Tested {
        name: "load".to_owned(),
        file: String::new(),
        line: 0,
        outcome: Outcome::Error(why.to_owned()),
        nanoseconds: 0,
    }
}

fn tests_of(module: &regorus::unstable::Module) -> Vec<Tested> {
    let mut path = vec!["data".to_owned()];
    path.extend(tree::package(module));
    let test = |rule: &regorus::unstable::Rule| {
        let (head, is_all) = tree::static_path(tree::head_reference(rule));
        let is_one = is_all && head.len() == 1 && !tree::is_set(rule);
        let name = head.into_iter().next()?;
        let outcome = if name.starts_with("test_") && !is_one {
            // OPA says which cases are undefined. Here an undefined case is no case.
            Outcome::Error("a test of several cases is not supported; write a test for each".to_owned())
        } else if name.starts_with("test_") {
            Outcome::Pass
        } else if name.starts_with("todo_test_") {
            Outcome::Skip
        } else {
            return None;
        };
        let mut path = path.clone();
        path.push(name);
        Some(Tested {
            name: tree::rule_path(&path),
            file: module.package.span.source.get_path().clone(),
            line: rule.span().line,
            outcome,
            nanoseconds: 0,
        })
    };
    module.policy.iter().filter_map(|rule| test(rule)).collect()
}

/// True passes.
fn judge(value: &Rego) -> Outcome {
    match value {
        Rego::Bool(true) => Outcome::Pass,
        Rego::Undefined => Outcome::Fail(String::new()),
        other => Outcome::Fail(format!("is {other}, not true")),
    }
}

/// Of a file that no test has come near, the engine says nothing: all of its lines count as not reached.
fn coverage(engine: &regorus::Engine, bundles: &[Bundle]) -> Coverage {
    let Ok(report) = engine.get_coverage_report() else {
        return Coverage::default();
    };
    let mut coverage = Coverage::default();
    for file in report.files.iter().filter(|file| !file.path.ends_with(TEST)) {
        coverage.covered += file.covered.len();
        coverage.lines += file.covered.len() + file.not_covered.len();
        if !file.not_covered.is_empty() {
            let lines = file.not_covered.iter().copied().collect();
            coverage.not_covered.insert(file.path.clone(), lines);
        }
    }
    let told = |name: &str| report.files.iter().any(|file| file.path == name);
    let modules = bundles.iter().flat_map(Bundle::modules);
    for (name, text) in modules.filter(|(name, _)| !name.ends_with(TEST) && !told(name)) {
        let lines: Vec<u32> = (1..)
            .zip(text.lines())
            .filter(|(_, line)| is_rule(line))
            .map(|(number, _)| number)
            .collect();
        if !lines.is_empty() {
            coverage.lines += lines.len();
            coverage.not_covered.insert(name.to_owned(), lines);
        }
    }
    coverage
}

/// Whether a line may be of a rule.
fn is_rule(line: &str) -> bool {
    let line = line.trim();
    let others = ["#", "package ", "import "];
    !line.is_empty() && others.iter().all(|other| !line.starts_with(other))
}
