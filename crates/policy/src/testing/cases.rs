//! Cases in YAML: a Database, where it is, and what must be said of it. They go the way that a Database goes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{Outcome, Tested};
use crate::decision::{Decision, Verdict};
use crate::policies::Policies;
use crate::request::{Namespace, Operation, Planner, Request, Source, User};

/// Folder of a bundle with such files.
const FOLDER: &str = "cases";

/// A file of cases.
pub struct File {
    /// `cases/security.yaml`
    name: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    name: String,
    object: Value,
    old: Option<Value>,
    #[serde(default)]
    namespace: Namespace,
    operation: Option<Operation>,
    user: Option<User>,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expected {
    verdict: Verdict,
    /// Ids of all violations, in any order; not looked at if absent.
    violations: Option<BTreeSet<String>>,
}

/// Why cases cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// Not readable.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not cases.
    #[error("{}: holds no cases: {why}", path.display())]
    Form {
        /// What.
        path: PathBuf,
        /// Where and why.
        why: String,
    },
}

/// The cases of a bundle's folder; none of anything else.
pub fn read(bundle: &Path) -> Result<Vec<File>, CasesError> {
    let folder = bundle.join(FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |path: &Path, source| CasesError::Read {
        path: path.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|error| failed(&folder, error))? {
        let path = entry.map_err(|error| failed(&folder, error))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
        {
            let text = fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
            let cases = serde_yaml::from_str(&text).map_err(|error| CasesError::Form {
                path: path.clone(),
                why: error.to_string(),
            })?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files.push(File {
                name: format!("{FOLDER}/{name}"),
                cases,
            });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

impl File {
    /// Runs the cases whose full name, `FILE: NAME`, is wanted.
    pub fn run(
        &self,
        policies: &Policies,
        planner: &dyn Planner,
        wanted: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> Vec<Tested> {
        let run = |case: &Case| {
            let name = format!("{}: {}", self.name, case.name);
            wanted(&name).then(|| {
                let begun = Instant::now();
                let decision = policies.evaluate(&case.request(), planner, &[], now);
                Tested {
                    name,
                    file: self.name.clone(),
                    line: 0,
                    nanoseconds: u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX),
                    outcome: case.expect.judge(&decision),
                }
            })
        };
        self.cases.iter().filter_map(run).collect()
    }
}

impl Case {
    fn request(&self) -> Request {
        let mut namespace = self.namespace.clone();
        if namespace.name.is_empty() {
            let named = self.object["metadata"]["namespace"].as_str();
            named.unwrap_or("default").clone_into(&mut namespace.name);
        }
        let implied = if self.old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        };
        Request {
            operation: self.operation.unwrap_or(implied),
            dry_run: false,
            source: Source::Cli,
            user: self.user.clone(),
            namespace,
            object: self.object.clone(),
            old: self.old.clone(),
        }
    }
}

impl Expected {
    fn judge(&self, decision: &Decision) -> Outcome {
        let found: BTreeSet<String> = decision
            .violations
            .iter()
            .map(|violation| violation.id.clone())
            .collect();
        let ids_fit = self.violations.as_ref().is_none_or(|expected| *expected == found);
        if decision.verdict == self.verdict && ids_fit {
            return Outcome::Pass;
        }
        let list = |ids: &BTreeSet<String>| ids.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let expected = self.violations.as_ref().map_or("anything".to_owned(), list);
        Outcome::Fail(format!(
            "expected {} with [{expected}], but it is {} with [{}]: {}",
            self.verdict,
            decision.verdict,
            list(&found),
            decision
                .violations
                .iter()
                .map(crate::decision::Violation::sentence)
                .collect::<Vec<_>>()
                .join("; ")
        ))
    }
}
