//! What new policies would newly deny or allow of what exists.
//!
//! Read in this order: [`read`] (the Databases), this (asking), [`report`] (what is said).
//!
//! Only Databases whose denials differ are kept, so that a large fleet takes no more memory than a page of it.

mod read;
mod report;

use std::collections::BTreeSet;
use std::error::Error;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread;

use ::policy::bundle::Bundle;
use engines::catalogue::Catalogue;
use jiff::Timestamp;
use kube::Client;
use policy::decision::{Action, Decision, Verdict};
use policy::exception::PolicyException;
use policy::policies::{LoadError, Policies};
use policy::request::{Operation, Planner, Request, Source};
use policy::stack;
use serde_json::{Value, json};

use self::read::{AtCluster, Existing};
use self::report::{Change, Denial, Difference, Progress, Report};
use super::{PATIENCE, admitted, print};
use crate::command::{DiffArguments, PolicyOutput};
use crate::{Done, REFUSED, catalogue, connect};

/// Asks and prints.
pub(super) fn run(arguments: &DiffArguments) -> Done {
    let catalogue = catalogue::load(arguments.catalogue.as_deref())?;
    let (old, new) = (admitted(&arguments.old.0)?, admitted(&arguments.new.0)?);
    let asking = Asking::new(&old, &new, catalogue)?;
    let mut report = Report::new(&old, &new);
    let mut progress = Progress::begin();
    if arguments.against_cluster {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (kubeconfig, context) = (arguments.kubeconfig.as_deref(), arguments.context.as_deref());
            let client = connect::connect(kubeconfig, context, &connect::user_agent("policy-diff")).await?;
            at_cluster(client, &arguments.namespace, &asking, (&mut report, &mut progress)).await
        })?;
    } else {
        let read::Files { databases, exceptions } = read::files(&arguments.databases)?;
        for page in databases.chunks(read::PAGE) {
            report.add(asking.differences(page, &exceptions)?, page.len());
            progress.at(report.databases());
        }
    }
    progress.end();
    print(&match arguments.output {
        PolicyOutput::Json => format!("{}\n", serde_json::to_string_pretty(&report)?),
        PolicyOutput::Text => report.to_string(),
    })?;
    Ok(if report.newly_denied() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    })
}

async fn at_cluster(
    client: Client,
    namespaces: &[String],
    asking: &Asking,
    (report, progress): (&mut Report, &mut Progress),
) -> Result<(), Box<dyn Error>> {
    let exceptions = read::exceptions(&client).await?;
    let mut pages = AtCluster::new(client, namespaces);
    while let Some(page) = pages.next().await? {
        report.add(asking.differences(&page, &exceptions)?, page.len());
        progress.at(report.databases());
    }
    Ok(())
}

/// Two sets of policies, and what a question about a Database needs.
struct Asking {
    old: Policies,
    new: Policies,
    catalogue: Catalogue,
    threads: NonZeroUsize,
    now: Timestamp,
}

impl Asking {
    fn new(old: &[Bundle], new: &[Bundle], catalogue: Catalogue) -> Result<Self, Box<dyn Error>> {
        let load = |bundles| Ok(Policies::load(bundles, catalogue.clone())?.with_time_limit(PATIENCE));
        let (old, new) = stack::large(|| Ok::<_, LoadError>((load(old)?, load(new)?)))??;
        Ok(Self {
            old,
            new,
            catalogue,
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            now: Timestamp::now(),
        })
    }

    /// Differences among these, in their order, found by all cores.
    fn differences(
        &self,
        page: &[Existing],
        exceptions: &[PolicyException],
    ) -> Result<Vec<Difference>, std::io::Error> {
        let each = page.len().div_ceil(self.threads.get()).max(1);
        thread::scope(|scope| {
            let mut parts = Vec::new();
            for part in page.chunks(each) {
                let planner = super::read::planner(&self.catalogue);
                let ask = move || -> Vec<Difference> {
                    let differs = |existing| self.difference(existing, &planner, exceptions);
                    part.iter().filter_map(differs).collect()
                };
                let thread = thread::Builder::new().stack_size(stack::SIZE);
                parts.push(thread.spawn_scoped(scope, ask)?);
            }
            let mut differences = Vec::new();
            for part in parts {
                let part = part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                differences.extend(part);
            }
            Ok(differences)
        })
    }

    fn difference(
        &self,
        existing: &Existing,
        planner: &dyn Planner,
        exceptions: &[PolicyException],
    ) -> Option<Difference> {
        let ask = |policies: &Policies, old: Option<Value>| {
            let request = request(existing, old);
            policies.evaluate(&request, planner, exceptions, self.now)
        };
        let (before, after) = (ask(&self.old, None), ask(&self.new, None));
        let (old, new) = (denials(&before), denials(&after));
        let change = match (before.verdict.is_allowed(), after.verdict.is_allowed()) {
            (true, false) => Change::NewlyDenied,
            (false, true) => Change::NewlyAllowed,
            (false, false) if old != new => Change::OtherRules,
            (true, true) | (false, false) => return None,
        };
        let later_passes = change == Change::NewlyAllowed || {
            // What is denied whatever else was changed stands in the way of every change.
            let [first, second] = neighbours(&existing.object).map(|old| ask(&self.new, Some(old)));
            denials(&first).is_disjoint(&denials(&second))
        };
        let keep = |denials: BTreeSet<Denial>, others: &BTreeSet<Denial>| match change {
            Change::OtherRules => denials.difference(others).cloned().collect(),
            Change::NewlyDenied | Change::NewlyAllowed => denials,
        };
        Some(Difference {
            namespace: existing.namespace.name.clone(),
            name: existing.name().to_owned(),
            change,
            not_any_more: keep(old.clone(), &new),
            newly: keep(new, &old),
            error: after.verdict == Verdict::Error,
            unrelated_change_passes: later_passes,
        })
    }
}

fn request(existing: &Existing, old: Option<Value>) -> Request {
    Request {
        operation: if old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        },
        dry_run: false,
        source: Source::Audit,
        user: None,
        namespace: existing.namespace.clone(),
        object: existing.object.clone(),
        old,
    }
}

/// The same Database, but for one field, twice: as it may have been before a change that nobody minds.
fn neighbours(object: &Value) -> [Value; 2] {
    let with = |change: fn(&mut Value)| {
        let mut object = object.clone();
        if object["spec"].is_object() {
            change(&mut object["spec"]);
        }
        object
    };
    let policy = |spec: &mut Value| {
        let deletes = spec["deletionPolicy"] == "Delete";
        spec["deletionPolicy"] = json!(if deletes { "Retain" } else { "Delete" });
    };
    let monitoring = |spec: &mut Value| {
        let enabled = spec["monitoring"]["enabled"] == true;
        spec["monitoring"] = json!({"enabled": !enabled});
    };
    [with(policy), with(monitoring)]
}

fn denials(decision: &Decision) -> BTreeSet<Denial> {
    let denied = decision.violations.iter().filter(|found| found.action == Action::Deny);
    denied
        .map(|found| Denial {
            id: found.id.clone(),
            path: found.path.clone(),
        })
        .collect()
}
