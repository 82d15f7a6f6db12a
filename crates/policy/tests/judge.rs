//! OPA judges regorus: small programs that both engines answer, and every difference with the reason why it cannot open
//! a hole.
//!
//! The programs are in `corpus/`, the differences in `differences.yaml`. A difference that is not listed fails, and so
//! does a listed one that is no more. The judge is `opa-judge` of `devcluster`: `OPA_JUDGE` names it, else it comes from
//! the cache, where it is built once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use regorus::utils::limits::{ExecutionTimerConfig, set_fallback_execution_timer_config};
use regorus::{Engine, Value};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Far above what any program here takes, also unoptimised and beside other tests.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Names the program for [`alone`], the test that a child process runs.
const ALONE: &str = "JUDGE_PROGRAM";

/// What a child process writes before the answer, since the test runner writes too.
const ANSWER: &str = "the answer is ";

/// A program of `corpus/`. `data` and `input` are JSON texts, so that every digit of a number arrives.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    name: String,
    #[serde(rename = "note")]
    _note: Option<String>,
    data: Option<Box<str>>,
    input: Option<Box<str>>,
    query: String,
    /// It may end the process that runs it.
    #[serde(default)]
    alone: bool,
    module: String,
}

/// What an engine says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// JSON with sorted keys, sets as sorted arrays, whole numbers in plain digits, no spaces.
    Value(String),
    Undefined,
    /// Refused when it was loaded, or failed when it ran; the text is only for people.
    Error(String),
    /// The thread that ran it is gone.
    Panic,
    /// The process that ran it is gone.
    Abort,
}

impl Answer {
    /// As it is written in `differences.yaml`. A text that is a value has quotes, so the words cannot be taken for one.
    fn word(&self) -> &str {
        match self {
            Self::Value(json) => json,
            Self::Undefined => "undefined",
            Self::Error(_) => "error",
            Self::Panic => "panic",
            Self::Abort => "abort",
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(why) => write!(f, "error: {}", why.lines().last().unwrap_or_default()),
            other => f.write_str(other.word()),
        }
    }
}

/// What keeps a difference from opening a hole.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Closed {
    /// regorus fails where OPA does not, and a failed decision denies.
    Denied,
    /// A policy with this construct is not loaded.
    Gate,
    /// Only how a value is written in a message or in JSON differs.
    Text,
    /// The host computes it (`input.norm`), or the input cannot hold it.
    Host,
    /// Only in a rule that is not reached.
    Dead,
}

/// Programs that differ for one reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    closed: Closed,
    /// What the load gate refuses, if it is the gate that closes it.
    construct: Option<String>,
    why: String,
    programs: BTreeMap<String, Pair>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    opa: String,
    regorus: String,
}

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// All programs by `FILE/NAME`.
fn corpus() -> BTreeMap<String, Program> {
    let mut programs = BTreeMap::new();
    for entry in fs::read_dir(tests_folder().join("corpus")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let list: Vec<Program> = serde_yaml::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for program in list {
            let id = format!("{file}/{}", program.name);
            assert!(programs.insert(id.clone(), program).is_none(), "{id} is there twice");
        }
    }
    programs
}

fn differences() -> Vec<Group> {
    serde_yaml::from_str(&fs::read_to_string(tests_folder().join("differences.yaml")).unwrap())
        .unwrap_or_else(|error| panic!("differences.yaml: {error}"))
}

/// A line of what `opa-judge eval` reads.
#[derive(Serialize)]
struct Asked<'a> {
    id: &'a str,
    modules: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a RawValue>,
    query: &'a str,
}

/// A line of what it writes.
#[derive(Deserialize)]
struct Told {
    id: String,
    result: Option<Box<RawValue>>,
    #[serde(default)]
    undefined: bool,
    error: Option<String>,
}

fn raw(text: Option<&str>) -> Option<&RawValue> {
    text.map(|text| serde_json::from_str(text).expect("a program's data and input are JSON"))
}

/// What OPA says of each program: one process for all.
fn opa(judge: &Path, programs: &BTreeMap<String, Program>) -> BTreeMap<String, Answer> {
    let asked: Vec<Asked<'_>> = programs
        .iter()
        .map(|(id, program)| Asked {
            id,
            modules: BTreeMap::from([("t.rego", &*program.module)]),
            data: raw(program.data.as_deref()),
            input: raw(program.input.as_deref()),
            query: &program.query,
        })
        .collect();
    opa_says(judge, &asked)
}

fn opa_says(judge: &Path, asked: &[Asked<'_>]) -> BTreeMap<String, Answer> {
    let mut process = Command::new(judge)
        .arg("eval")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", judge.display()));
    let mut questions = process.stdin.take().unwrap();
    let answers = BufReader::new(process.stdout.take().unwrap());
    let told = thread::scope(|scope| {
        scope.spawn(move || {
            for asked in asked {
                writeln!(questions, "{}", serde_json::to_string(asked).unwrap()).unwrap();
            }
        });
        let read = |line: Result<String, _>| serde_json::from_str::<Told>(&line.unwrap()).unwrap();
        let answer = |told: Told| match told {
            Told { error: Some(why), .. } => Answer::Error(why),
            Told { undefined: true, .. } => Answer::Undefined,
            // `null` is a value, and the deserializer takes it for nothing.
            Told { result, .. } => Answer::Value(result.map_or("null".to_owned(), |json| json.get().to_owned())),
        };
        answers
            .lines()
            .map(read)
            .map(|told| (told.id.clone(), answer(told)))
            .collect()
    });
    assert!(process.wait().unwrap().success(), "the judge failed");
    told
}

/// What regorus says, as the operator asks it: compiled for the one rule, builtin errors strict, on a large stack.
fn regorus(program: &Program) -> Answer {
    thread::scope(|scope| {
        thread::Builder::new()
            .stack_size(64 << 20)
            .spawn_scoped(scope, || match compiled(program) {
                Ok(Value::Undefined) => Answer::Undefined,
                Ok(value) => Answer::Value(canonical(&value)),
                Err(error) => Answer::Error(error.to_string()),
            })
            .unwrap()
            .join()
            .unwrap_or(Answer::Panic)
    })
}

fn compiled(program: &Program) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
    set_fallback_execution_timer_config(Some(ExecutionTimerConfig {
        limit: TIME_LIMIT,
        check_interval: NonZeroU32::new(16).unwrap(),
    }));
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    engine.add_policy("t.rego".to_owned(), program.module.clone())?;
    if let Some(data) = &program.data {
        engine.add_data_json(data)?;
    }
    let entry: Arc<str> = program.query.as_str().into();
    let policy = engine.compile_with_entrypoint(&entry)?;
    let input = program.input.as_deref().map(Value::from_json_str).transpose()?;
    Ok(policy.eval_with_input(input.unwrap_or(Value::Undefined))?)
}

/// What regorus says in a process of its own.
fn regorus_alone(id: &str) -> Answer {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "alone"])
        .env(ALONE, id)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    match text.split_once(ANSWER).and_then(|(_, rest)| rest.lines().next()) {
        Some("undefined") => Answer::Undefined,
        Some("panic") => Answer::Panic,
        Some(line) => match line.strip_prefix("error: ") {
            Some(why) => Answer::Error(why.to_owned()),
            None => Answer::Value(line.to_owned()),
        },
        None if child.status.code().is_none() => Answer::Abort,
        None => panic!("{id}: {}: {text}", child.status),
    }
}

/// JSON as the judge writes it, so that equal values are equal texts.
fn canonical(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_integer() => number
            .to_big()
            .map_or_else(|_| number.format_decimal(), |big| big.to_string()),
        Value::Number(number) => number.format_decimal(),
        Value::Array(array) => format!("[{}]", array.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Set(set) => format!("[{}]", set.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Object(object) => {
            let pairs: BTreeMap<String, String> = object
                .iter()
                .map(|(key, value)| {
                    // A key that is no text becomes one.
                    let name = key.as_string().map_or_else(|_| canonical(key), ToString::to_string);
                    (name, canonical(value))
                })
                .collect();
            let pairs = pairs
                .iter()
                .map(|(name, value)| format!("{}:{value}", serde_json::json!(name)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
        other => other.to_json_str().unwrap(),
    }
}

/// The judge, or why there is none.
fn judge() -> Result<PathBuf, String> {
    match std::env::var_os("OPA_JUDGE") {
        Some(path) => Ok(path.into()),
        None => devcluster::opa()
            .map(|opa| opa.judge)
            .map_err(|error| error.to_string()),
    }
}

#[test]
fn every_difference_from_opa_is_listed_with_its_reason() {
    let judge = match judge() {
        Ok(judge) => judge,
        Err(why) => return devcluster::skip("judge", &why),
    };
    let programs = corpus();
    let opa = opa(&judge, &programs);
    assert_eq!(opa.len(), programs.len(), "answers of OPA");
    let groups = differences();
    let mut listed: BTreeMap<&str, &Pair> = groups
        .iter()
        .flat_map(|group| group.programs.iter().map(|(id, pair)| (id.as_str(), pair)))
        .collect();
    let mut wrong = String::new();
    for (id, program) in &programs {
        let (left, right) = (
            &opa[id],
            if program.alone {
                regorus_alone(id)
            } else {
                regorus(program)
            },
        );
        let expected = listed.remove(id.as_str());
        let as_listed = expected.map_or(left.word() == right.word(), |pair| {
            pair.opa == left.word() && pair.regorus == right.word() && pair.opa != pair.regorus
        });
        if !as_listed {
            let state = expected.map_or("not listed", |_| "listed otherwise");
            writeln!(wrong, "{id}: {state}\n    opa:     {left}\n    regorus: {right}").unwrap();
        }
    }
    for id in listed.keys() {
        writeln!(wrong, "{id}: listed, and there is no such program").unwrap();
    }
    assert!(wrong.is_empty(), "OPA and regorus:\n{wrong}");
}

/// Run by a child process for one program that may end it.
#[test]
#[ignore = "asked by the test of all programs, in a process of its own"]
fn alone() {
    let id = std::env::var(ALONE).expect("it is set by the process that starts this one");
    println!("\n{ANSWER}{}", regorus(&corpus()[&id]));
}

#[test]
fn the_corpus_is_large_and_each_reason_is_given_once() {
    let programs = corpus();
    assert!(programs.len() >= 300, "only {} programs", programs.len());
    let mut seen = BTreeSet::new();
    for group in differences() {
        assert!(group.why.split_whitespace().count() >= 8, "no reason: {}", group.why);
        assert_eq!(group.construct.is_some(), group.closed == Closed::Gate, "{}", group.why);
        for (id, pair) in &group.programs {
            assert!(seen.insert(id.clone()), "{id} is listed twice");
            assert!(programs.contains_key(id), "{id} is listed and not in the corpus");
            // What authors are told to write.
            assert!(!id.starts_with("safe-forms/"), "{id} differs, so it is not safe");
            if group.closed == Closed::Denied {
                assert_eq!(pair.regorus, "error", "{id} would not be denied");
            }
        }
    }
}

/// What the gate is said to close, it refuses; and it lets through the forms that both engines read alike.
#[test]
fn the_gate_refuses_what_it_is_said_to_refuse() {
    let corpus = corpus();
    let found = |id: &str| {
        let program = &corpus[id];
        let data = program
            .data
            .as_deref()
            .map_or(serde_json::json!({}), |data| serde_json::from_str(data).unwrap());
        policy::gate::inspect_module("t.rego", &program.module, data)
    };
    let mut wrong = String::new();
    for group in differences().iter().filter(|group| group.closed == Closed::Gate) {
        let construct = group.construct.as_deref().unwrap_or_default();
        for id in group.programs.keys().filter(|id| found(id).is_empty()) {
            writeln!(wrong, "{construct}: {id} passes").unwrap();
        }
    }
    for id in corpus.keys().filter(|id| id.starts_with("safe-forms/")) {
        for finding in found(id) {
            writeln!(wrong, "{id} is refused: {finding}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A Database, where it is, and the children that would be made of it.
type Declared = (serde_json::Value, policy::request::Namespace, Vec<serde_json::Value>);

/// The Databases of the shipped cases with their planned children, and odd ones with odd children.
fn declared(folder: &Path) -> Vec<Declared> {
    let catalogue = engines::catalogue::Catalogue::builtin();
    let mut all = Vec::new();
    for entry in fs::read_dir(folder.join("cases")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let cases: Vec<serde_json::Value> = serde_yaml::from_str(&text).unwrap();
        for case in cases {
            let planned = api::strict::database(case["object"].clone())
                .and_then(|database| planner::fresh::children(&database, "shop", &catalogue));
            let namespace = serde_json::from_value(case["namespace"].clone()).unwrap_or_default();
            all.push((case["object"].clone(), namespace, planned.unwrap_or_default()));
        }
    }
    let odd = policy::gate::samples::all();
    all.extend(odd.map(|(object, children)| (object, policy::request::Namespace::default(), children)));
    all
}

#[test]
fn the_shipped_policies_get_the_same_answers() {
    let judge = match judge() {
        Ok(judge) => judge,
        Err(why) => return devcluster::skip("judge", &why),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let files = policy::bundle::folder::read(&folder).unwrap();
    let bundle = policy::bundle::Bundle::open_unverified("policies", files).unwrap();
    let modules: BTreeMap<&str, &str> = bundle
        .modules()
        .filter(|(name, _)| !name.ends_with("_test.rego"))
        .collect();
    let catalogue = engines::catalogue::Catalogue::builtin();
    let policies = policy::policies::Policies::load(std::slice::from_ref(&bundle), catalogue)
        .unwrap()
        .with_time_limit(TIME_LIMIT);
    let mut inputs = Vec::new();
    for (object, namespace, children) in declared(&folder) {
        let request = policy::request::Request {
            operation: policy::request::Operation::Create,
            dry_run: false,
            source: policy::request::Source::Cli,
            user: None,
            namespace,
            object,
            old: None,
        };
        let planner = |_: &serde_json::Value, _: &str| Ok(children.clone());
        let now = "2026-11-28T00:00:00Z".parse().unwrap();
        inputs.push(policies.input(&request, &planner, now).to_string());
    }
    let (data, entries) = (bundle.data().to_string(), policies.entries().collect::<Vec<_>>());
    let ids: Vec<(String, usize, &str)> = (0..inputs.len())
        .flat_map(|number| {
            entries
                .iter()
                .map(move |entry| (format!("{number} {entry}"), number, *entry))
        })
        .collect();
    let asked: Vec<Asked<'_>> = ids
        .iter()
        .map(|(id, number, entry)| Asked {
            id,
            modules: modules.clone(),
            data: raw(Some(&data)),
            input: raw(Some(&inputs[*number])),
            query: entry,
        })
        .collect();
    let opa = opa_says(&judge, &asked);
    assert!(
        inputs.len() > 130 && entries.len() >= 3,
        "{} inputs, {entries:?}",
        inputs.len()
    );
    let mut found = 0;
    for (number, input) in inputs.iter().enumerate() {
        let answers = policies
            .answer(input)
            .unwrap_or_else(|error| panic!("{error}: {input}"));
        let answers: BTreeMap<String, Value> = serde_json::from_str(&answers).unwrap();
        for (entry, answer) in answers {
            found += answer.as_array().unwrap().len();
            let theirs = &opa[&format!("{number} {entry}")];
            assert_eq!(theirs.word(), canonical(&answer), "{entry} {input}");
        }
    }
    assert!(found > 500, "{found} violations");
}
