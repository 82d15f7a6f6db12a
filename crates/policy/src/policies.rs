//! Rego, asked: the one place that talks to the interpreter.
//!
//! `regorus` 0.14 has an interpreter and a bytecode machine. The latter gives wrong verdicts that allow what must be
//! denied, so it is not even compiled in. What a policy could do to the process is kept out by [`crate::gate`] before
//! anything gets here; here the time is bounded, and whatever goes wrong is a refusal.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::fault::Fault;
use engines::catalogue::Catalogue;
use jiff::Timestamp;
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value as Rego};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bundle::{Bundle, Tests};
use crate::decision::{Action, BundleRevision, Decision, OPERATOR, Severity, Violation};
use crate::exception::{self, PolicyException};
use crate::levels::{Kind, Level, Levels, Place};
use crate::norm::norm;
use crate::reads::Reads;
use crate::rego::{self, rego, with};
use crate::request::{Operation, Planner, Request, Source};

mod interpreters;
mod load;

/// The field of the input that is most of it.
const CHILDREN: &str = "children";
/// The field of the input that is the same for many Databases.
const SETTINGS: &str = "settings";
/// Settings that are kept. Whoever may label namespaces can make any number of levels.
const SETTINGS_KEPT: usize = 1_024;

use interpreters::Interpreters;
pub use load::LoadError;
pub(crate) use load::{ALWAYS, ASKED, TEST, WITH_USER, engine_of, level_of};
use load::{Entry, entries};

/// Longest that the rules of one decision may take, where an API server waits for it.
pub const TIME_LIMIT: Duration = Duration::from_millis(50);
/// Units of work between two looks at the clock: more often costs 12 %, as seldom as this nothing that can be measured.
const LOOK_EVERY: NonZeroU32 = NonZeroU32::MIN.saturating_add(15);

/// Policies that are loaded and can be asked, from any thread.
pub struct Policies {
    interpreters: Interpreters,
    levels: Levels,
    /// What holds where these levels do, as the interpreter holds it.
    settings: Mutex<HashMap<Vec<Level>, Rego>>,
    entries: Vec<Entry>,
    reads: Reads,
    revisions: BTreeMap<String, BundleRevision>,
    catalogue: Catalogue,
    time_limit: Duration,
}

/// What a rule says; its level is not for it to say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    id: String,
    severity: Severity,
    action: Action,
    path: String,
    message: String,
    measure: Option<i64>,
}

impl Policies {
    /// Loads bundles that [`crate::gate`] has let through.
    pub fn load(bundles: &[Bundle], catalogue: Catalogue) -> Result<Self, LoadError> {
        let mut engine = engine_of(bundles, Tests::LeaveOut)?;
        let data = serde_json::to_value(engine.get_data()).unwrap_or_default();
        let levels = Levels::parse(&data["database"]).map_err(LoadError::Settings)?;
        let names = || bundles.iter().map(Bundle::name).collect::<Vec<_>>().join(", ");
        let entries = entries(&mut engine).map_err(|error| LoadError::Rego {
            bundle: names(),
            message: error,
        })?;
        if entries.is_empty() {
            return Err(LoadError::NoRules { bundles: names() });
        }
        let levels = levels.with_rules(entries.iter().map(|entry| entry.level.clone()).collect());
        let revision = |bundle: &Bundle| BundleRevision {
            revision: bundle.manifest().revision.clone(),
            digest: bundle.digest().to_owned(),
        };
        Ok(Self {
            reads: Reads::of(&mut engine),
            interpreters: Interpreters::new(engine),
            levels,
            settings: Mutex::default(),
            entries,
            revisions: bundles
                .iter()
                .map(|bundle| (bundle.name().to_owned(), revision(bundle)))
                .collect(),
            catalogue,
            time_limit: TIME_LIMIT,
        })
    }

    /// The same, with another limit than [`TIME_LIMIT`]: where nobody waits, a busy machine must not make an error.
    #[must_use]
    pub fn with_time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    /// Decides. Total: what cannot be asked denies.
    ///
    /// To be called on a thread with a large stack ([`crate::stack`]).
    pub fn evaluate(
        &self,
        request: &Request,
        planner: &dyn Planner,
        exceptions: &[PolicyException],
        now: Timestamp,
    ) -> Decision {
        self.evaluate_at(self.levels.place(&request.namespace), request, planner, exceptions, now)
    }

    /// Decides as if the rules of all levels held at once, which is how the gate asks each of them; `None` where the
    /// levels of this namespace are all that have rules.
    pub(crate) fn evaluate_everywhere(
        &self,
        request: &Request,
        planner: &dyn Planner,
        now: Timestamp,
    ) -> Option<Decision> {
        let mut place = self.levels.place(&request.namespace);
        let here = place.levels.len();
        let others: BTreeSet<&Level> = self.entries.iter().map(|entry| &entry.level).collect();
        let others = others.into_iter().filter(|level| !place.levels.contains(level));
        place.levels.extend(others.cloned().collect::<Vec<_>>());
        (place.levels.len() > here).then(|| self.evaluate_at(place, request, planner, &[], now))
    }

    fn evaluate_at(
        &self,
        place: Place,
        request: &Request,
        planner: &dyn Planner,
        exceptions: &[PolicyException],
        now: Timestamp,
    ) -> Decision {
        // Whoever could not delete what rules now deny could never mend it. What leaves is said by an API server, not by a file.
        let leaves = request.source != Source::Cli && is_leaving(request);
        if request.operation == Operation::Delete || leaves {
            return Decision::of(Vec::new(), Vec::new(), Vec::new(), self.revisions.clone());
        }
        let question = Question {
            policies: self,
            request,
            planner,
            place,
            now,
            begun: Instant::now(),
        };
        // `regorus` panics at some arguments of functions that the gate does not let in; there may be more.
        let asked = panic::catch_unwind(AssertUnwindSafe(|| question.decided(exceptions)));
        let decided = asked.unwrap_or_else(|_| Err("a policy made the interpreter panic".to_owned()));
        decided.unwrap_or_else(|message| Decision::error(message, self.revisions.clone()))
    }

    /// The document that rules see as `input`.
    pub fn input(&self, request: &Request, planner: &dyn Planner, now: Timestamp) -> Value {
        let question = Question {
            policies: self,
            request,
            planner,
            place: self.levels.place(&request.namespace),
            now,
            begun: Instant::now(),
        };
        let (mut input, _) = question.input(&request.object, &Reads::All);
        input[SETTINGS] = self.levels.settings(&question.place).to_value();
        input
    }

    /// The settings that hold at a place. Places differ by their names mostly, and seldom by their levels.
    fn settings(&self, place: &Place) -> Rego {
        let mut known = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(settings) = known.get(&place.levels) {
            return settings.clone();
        }
        if known.len() == SETTINGS_KEPT {
            known.clear();
        }
        let settings = rego(&self.levels.settings(place).to_value());
        known.insert(place.levels.clone(), settings.clone());
        settings
    }

    /// What all rules of the global level say to an input, both as JSON: evaluation alone, to compare it with other engines.
    pub fn answer(&self, input: &str) -> Result<String, String> {
        let input = rego::parse(input, |field| self.reads.has(field)).map_err(|error| error.to_string())?;
        let is_asked = |entry: &&Entry| entry.level.kind == Kind::Global && !entry.needs_user;
        let entry = self.entries.iter().find(is_asked);
        let entry = entry.ok_or_else(|| "there is no rule of the global level".to_owned())?;
        let said = self.interpreters.ask(input, |engine| {
            limit_time(engine, self.time_limit);
            engine.eval_rule(entry.path.clone()).map_err(|error| error.to_string())
        })?;
        said.to_json_str().map_err(|error| error.to_string())
    }

    /// Paths of the rules that are asked, `data.database.security.violations`.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().flat_map(|entry| &entry.rules).map(String::as_str)
    }
}

/// A request that is being decided.
struct Question<'a> {
    policies: &'a Policies,
    request: &'a Request,
    planner: &'a dyn Planner,
    place: Place,
    now: Timestamp,
    /// From when on the time counts: also an update that is judged twice has it once.
    begun: Instant,
}

impl Question<'_> {
    /// What rules see if the Database were `object`, as far as they can read it, but for the settings; and what the operator
    /// itself would refuse of it.
    fn input(&self, object: &Value, reads: &Reads) -> (Value, Vec<Fault>) {
        let request = self.request;
        let object = normal(object);
        let name = &request.namespace.name;
        let planned = if reads.has(CHILDREN) {
            self.planner.children(&object, name)
        } else {
            self.planner.sets(&object, name)
        };
        let (children, faults) = match planned {
            Ok(children) => (children, Vec::new()),
            Err(faults) => (Vec::new(), faults),
        };
        let level = |level: &Level| json!({"kind": level.kind.as_str(), "name": level.name});
        let norm = norm(&object, &children, &self.place, &self.policies.catalogue, self.now);
        // Not by `json!` as a whole, which copies the values in it.
        let mut input = json!({
            "operation": request.operation,
            "dryRun": request.dry_run,
            "source": request.source,
            "namespace": request.namespace,
        });
        input["norm"] = norm;
        input["levels"] = self.place.levels.iter().map(level).collect();
        if reads.has(CHILDREN) {
            input[CHILDREN] = Value::Array(children);
        }
        if let Some(user) = &request.user {
            input["user"] = json!(user);
        }
        api::strict::prune_nulls(&mut input);
        // They have none.
        input["object"] = object;
        if let Some(old) = request.old.as_ref().filter(|_| reads.has("old")) {
            input["old"] = normal(old);
        }
        (input, faults)
    }

    /// The decision; an error if a rule cannot be asked.
    fn decided(&self, exceptions: &[PolicyException]) -> Result<Decision, String> {
        let mut violations = self.violations(&self.request.object)?;
        let mut warnings: Vec<String> = self.place.warnings.clone();
        let here = exception::Subject {
            namespace: &self.request.namespace.name,
            object: &self.request.object,
        };
        let (excepted, said) = exception::apply(exceptions, &mut violations, here, self.now);
        warnings.extend(said);
        self.ratchet(&mut violations, &mut warnings);
        Ok(Decision::of(
            violations,
            warnings,
            excepted,
            self.policies.revisions.clone(),
        ))
    }

    /// What all rules that hold here say of `object`; an error if one of them cannot be asked.
    fn violations(&self, object: &Value) -> Result<Vec<Violation>, String> {
        let (input, faults) = self.input(object, &self.policies.reads);
        let mut violations: Vec<Violation> = faults.iter().map(of_operator).collect();
        let holds = |entry: &&Entry| {
            self.place.levels.contains(&entry.level) && (!entry.needs_user || self.request.user.is_some())
        };
        let settings = self.policies.settings(&self.place);
        self.policies
            .interpreters
            .ask(with(&input, SETTINGS, settings), |engine| {
                for entry in self.policies.entries.iter().filter(holds) {
                    limit_time(engine, self.policies.time_limit.saturating_sub(self.begun.elapsed()));
                    let said = engine.eval_rule(entry.path.clone()).map_err(|error| {
                        let why = error.to_string();
                        format!("policies of level {} cannot be asked: {}", entry.level, why.trim())
                    })?;
                    for rule in &entry.rules {
                        violations.extend(read(rule, &entry.level, &said[rule.as_str()])?);
                    }
                }
                Ok(violations)
            })
    }

    /// Lets an update pass that does not touch what rules judge, or worsens nothing: who must mend ten things may begin with
    /// one. What is found of the Database as it was is found as if it were made anew, by nobody: what depends on who does it,
    /// or on what is done, was not so before.
    fn ratchet(&self, violations: &mut [Violation], warnings: &mut Vec<String>) {
        // A file is judged where no API server has looked at it: what is no Database is none, whatever was there before.
        let from_file = self.request.source == Source::Cli;
        let denies =
            |violation: &Violation| violation.action == Action::Deny && !(from_file && violation.level == OPERATOR);
        let (Operation::Update, Some(old)) = (self.request.operation, &self.request.old) else {
            return;
        };
        if !violations.iter().any(denies) {
            return;
        }
        let as_it_was = Request {
            operation: Operation::Create,
            user: None,
            object: old.clone(),
            old: None,
            ..self.request.clone()
        };
        let question = Question {
            request: &as_it_was,
            place: self.place.clone(),
            ..*self
        };
        // What held before cannot be said, so nothing is let pass.
        let Ok(before) = question.violations(old) else { return };
        for violation in violations.iter_mut().filter(|violation| denies(violation)) {
            if before.iter().any(|before| no_worse(violation, before)) {
                violation.action = Action::Warn;
                warnings.push(format!("{}: it was so before this change, which passes", violation.id));
            }
        }
    }
}

fn limit_time(engine: &mut Engine, limit: Duration) {
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit,
        check_interval: LOOK_EVERY,
    });
}

/// Whether a finding is no worse than one that spoke against the Database as it was.
fn no_worse(now: &Violation, before: &Violation) -> bool {
    let same = now.id == before.id && now.path == before.path && now.level == before.level;
    same && before.action == Action::Deny
        && match (now.measure, before.measure) {
            (Some(now), Some(before)) => now <= before,
            _ => now.message == before.message,
        }
}

/// Whether two Databases are the same to rules: an update from one to the other needs no decision.
pub fn are_same(object: &Value, old: &Value) -> bool {
    normal(object) == normal(old)
}

/// Whether it is being deleted already, and nothing but that goes on: a finalizer is removed.
fn is_leaving(request: &Request) -> bool {
    let leaving = |object: &Value| !object["metadata"]["deletionTimestamp"].is_null();
    request.operation == Operation::Update
        && request
            .old
            .as_ref()
            .is_some_and(|old| leaving(old) && leaving(&request.object) && old["spec"] == request.object["spec"])
}

/// What of the metadata is declared. The rest is written by servers and controllers, and differs between who asks.
const DECLARED: [&str; 5] = ["name", "generateName", "namespace", "labels", "annotations"];

/// Begins the names of annotations that tools keep their state in.
const KUBECTL: &str = "kubectl.kubernetes.io/";

/// A Database as rules see it: with defaults, without nulls, and of its metadata what is declared.
fn normal(object: &Value) -> Value {
    let mut object = object.clone();
    api::strict::fill_in(&mut object);
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| DECLARED.contains(&field.as_str()));
        for texts in ["labels", "annotations"] {
            if let Some(texts) = metadata.get_mut(texts).and_then(Value::as_object_mut) {
                texts.retain(|name, _| !name.starts_with(KUBECTL) && !api::names::is_written_by_operator(name));
            }
        }
        metadata.retain(|_, value| value.as_object().is_none_or(|texts| !texts.is_empty()));
    }
    object
}

/// What the operator refuses whatever policies say.
fn of_operator(fault: &Fault) -> Violation {
    Violation {
        id: "api.invalid".to_owned(),
        level: OPERATOR.to_owned(),
        severity: Severity::High,
        action: Action::Deny,
        path: fault.field.clone(),
        // The path says the field already.
        message: Fault {
            field: String::new(),
            ..fault.clone()
        }
        .to_string()
        .trim_start_matches([' ', ':'])
        .to_owned(),
        measure: None,
    }
}

/// Findings of a rule. One that is not what it must be is an error: whoever wrote it meant to refuse something.
fn read(rule: &str, level: &Level, said: &Rego) -> Result<Vec<Violation>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{rule} says what is no violation: {why}");
    let set = said.as_set().map_err(|error| wrong(&error))?;
    let read = |element: &Rego| {
        let element = serde_json::to_value(element).map_err(|error| wrong(&error))?;
        let said: Said = serde_json::from_value(element).map_err(|error| wrong(&error))?;
        Ok(Violation {
            id: said.id,
            level: level.to_string(),
            severity: said.severity,
            action: said.action,
            path: said.path,
            message: said.message,
            measure: said.measure,
        })
    };
    set.iter().map(read).collect()
}

#[cfg(test)]
mod tests;
