//! What the rules themselves must hold to: what OPA's compiler would refuse and `regorus` finds late or never.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{Expr, Module, Ref, Rule};
use serde_json::Value;

use super::Finding;
use crate::policies::{ASKED, TEST};
use crate::tree::{self, Node};

mod calls;
mod clash;
mod depth;
mod forms;
mod graph;
mod growth;
mod names;
pub(super) mod reach;

/// Rules that ask each other in a row.
const LONGEST_CHAIN: usize = 64;

/// A rule, with where it is.
pub(super) struct Known<'a> {
    /// Names from `data`, without `data`.
    path: Vec<String>,
    /// Number of arguments of a function.
    arguments: Option<usize>,
    rule: &'a Rule,
    module: &'a Module,
}

/// Everything that is wrong with the rules, and with data that meets them.
pub(super) fn check(modules: &[Ref<Module>], data: &Value) -> Vec<Finding> {
    // Before anything walks them.
    let deep = depth::check(modules);
    if !deep.is_empty() {
        return deep;
    }
    let (tests, rules): (Vec<_>, Vec<_>) = modules.iter().partition(|module| is_test(module));
    let mut known: Vec<Known<'_>> = rules.into_iter().flat_map(|module| known(module)).collect();
    let loaded = known.len();
    known.extend(tests.into_iter().flat_map(|module| self::known(module)));
    // What tests define is not loaded with the rules, so these must not ask for it.
    let (of_rules, of_tests) = (names::Index::new(&known[..loaded]), names::Index::new(&known));
    let mut findings: Vec<Finding> = known.iter().filter_map(|rule| over(rule, data)).collect();
    findings.extend(modules.iter().filter_map(|module| version(module)));
    findings.extend(modules.iter().filter_map(|module| reserved(module)));
    findings.extend(known.iter().filter_map(entry));
    findings.extend(conflicts(&known));
    findings.extend(modules.iter().flat_map(|module| imported_twice(module)));
    findings.extend(clash::of_modules(modules, &known, &of_tests));
    let spread = spread(modules);
    let mut asks = vec![BTreeSet::new(); known.len()];
    for (rule, asks) in known.iter().zip(&mut asks) {
        let (visible, index) = if rule.is_test() {
            (&known[..], &of_tests)
        } else {
            (&known[..loaded], &of_rules)
        };
        check_rule(rule, visible, index, asks, &mut findings);
    }
    let packages: BTreeSet<Vec<String>> = modules.iter().map(|module| tree::package(module)).collect();
    for rule in &known[..loaded] {
        check_lost(rule, &of_rules, (&packages, data), &mut findings);
    }
    for rule in &known {
        check_spread(rule, &spread, &mut findings);
    }
    findings.extend(graph::check(&known, &asks));
    // It takes names, numbers of arguments and rows of rules for granted.
    if findings.is_empty() {
        findings.extend(growth::check(&known[..loaded], &of_rules));
    }
    findings
}

/// Packages of several modules.
fn spread(modules: &[Ref<Module>]) -> BTreeSet<Vec<String>> {
    let (mut once, mut several) = (BTreeSet::new(), BTreeSet::new());
    for package in modules.iter().map(|module| tree::package(module)) {
        if !once.insert(package.clone()) {
            several.insert(package);
        }
    }
    several
}

/// A package as a whole holds only what its first module says: `regorus` then takes it for evaluated, and rules of the
/// others are undefined. A name that imports a package stands for the whole of it.
fn check_spread(rule: &Known<'_>, spread: &BTreeSet<Vec<String>>, findings: &mut Vec<Finding>) {
    let imports = names::imports(rule.module);
    let locals = names::locals(rule.rule);
    let mut look = |expr: &Expr| {
        let written = tree::static_path(expr).0;
        let Some(first) = written.first().filter(|first| !locals.contains(*first)) else {
            return;
        };
        let path = if first == "data" {
            Some(&written)
        } else {
            imports.get(first)
        };
        let Some(path) = path.filter(|path| path.first().is_some_and(|root| root == "data")) else {
            return;
        };
        if let Some(package) = spread.iter().find(|package| package.starts_with(&path[1..])) {
            let name = package.join(".");
            let problem = format!(
                "asks for the whole package {name}, of which only the first file would count; write the rule in full, \
                 data.{name}.RULE, or put the package into one file"
            );
            findings.push(rule.finding(expr.span().line, problem));
        }
    };
    tree::walk(rule.rule, &mut |node| {
        if let Node::Reference(expr) = node {
            look(expr);
        }
        true
    });
}

/// References into a package that has no such rule, where no data is either.
fn check_lost(
    rule: &Known<'_>,
    index: &names::Index<'_>,
    (packages, data): (&BTreeSet<Vec<String>>, &Value),
    findings: &mut Vec<Finding>,
) {
    let imports = names::imports(rule.module);
    let locals = names::locals(rule.rule);
    tree::walk(rule.rule, &mut |node| {
        let Node::Reference(expr) = node else { return true };
        let written = tree::static_path(expr).0;
        if written
            .first()
            .is_none_or(|root| root == "input" || locals.contains(root))
        {
            return true;
        }
        let Some(path) = index.function_path(&written, rule, &imports) else {
            return true;
        };
        let into = |package: &&Vec<String>| package.len() < path.len() && path.starts_with(package);
        let found = path.iter().try_fold(data, |at, name| at.get(name)).is_some() || !index.asked(&path).is_empty();
        if let Some(package) = packages.iter().find(into).filter(|_| !found) {
            let problem = format!(
                "asks for data.{}, but the package {} has no such rule outside of tests, nor is there such data; is the \
                 name right?",
                path.join("."),
                package.join(".")
            );
            findings.push(rule.finding(expr.span().line, problem));
        }
        true
    });
}

fn known(module: &Module) -> impl Iterator<Item = Known<'_>> {
    let package = tree::package(module);
    module.policy.iter().map(move |rule| {
        let mut path = package.clone();
        path.extend(tree::static_path(tree::head_reference(rule)).0);
        Known {
            path,
            arguments: tree::arguments(rule).map(|arguments| arguments.len()),
            rule,
            module,
        }
    })
}

impl Known<'_> {
    fn finding(&self, line: u32, problem: String) -> Finding {
        Finding {
            file: self.module.package.span.source.get_path().clone(),
            line,
            problem,
        }
    }

    fn here(&self, problem: String) -> Finding {
        self.finding(self.rule.span().line, problem)
    }

    fn name(&self) -> String {
        self.path.join(".")
    }

    /// Tests may do more: nothing asks them but the runner of tests.
    fn is_test(&self) -> bool {
        is_test(self.module)
    }
}

fn is_test(module: &Module) -> bool {
    module.package.span.source.get_path().ends_with(TEST)
}

/// The rules that a rule asks.
fn asks_of<'a>(rule: &Known<'a>, known: &[Known<'a>], index: &names::Index<'_>) -> BTreeSet<usize> {
    let mut asks = BTreeSet::new();
    check_rule(rule, known, index, &mut asks, &mut Vec::new());
    asks
}

/// `regorus` lets data win over a rule at the same place, silently.
fn over(rule: &Known<'_>, data: &Value) -> Option<Finding> {
    let mut at = data;
    for name in &rule.path {
        match at {
            Value::Object(fields) => at = fields.get(name)?,
            _ => break,
        }
    }
    let problem = format!(
        "data stands at the place of the rule {}, and would replace it; move one of them",
        rule.name()
    );
    Some(rule.here(problem))
}

fn version(module: &Module) -> Option<Finding> {
    (!module.rego_v1).then(|| Finding {
        file: module.package.span.source.get_path().clone(),
        line: module.package.span.line,
        problem: "is not Rego v1; write `import rego.v1`".to_owned(),
    })
}

fn reserved(module: &Module) -> Option<Finding> {
    (tree::package(module).first().map(String::as_str) == Some(ASKED)).then(|| Finding {
        file: module.package.span.source.get_path().clone(),
        line: module.package.span.line,
        problem: format!("the package {ASKED} is the operator's own; call it otherwise"),
    })
}

/// Two imports of one name: the second would count in one engine, and none be loaded in the other.
fn imported_twice(module: &Module) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let twice = module
        .imports
        .iter()
        .filter(|import| names::imported(import).is_some_and(|name| !seen.insert(name)));
    twice
        .map(|import| Finding {
            file: import.span.source.get_path().clone(),
            line: import.span.line,
            problem: "is the second import of this name; write `as` another".to_owned(),
        })
        .collect()
}

/// What is asked must be a set of violations.
fn entry(rule: &Known<'_>) -> Option<Finding> {
    let name = rule.path.last()?;
    let asked = rule.path.first().is_some_and(|root| root == "database") && !rule.is_test();
    (asked && matches!(name.as_str(), "violations" | "user_violations") && !tree::is_set(rule.rule)).then(|| {
        rule.here(format!(
            "{name} must be a partial set: write `{name} contains v if {{...}}`"
        ))
    })
}

fn check_rule<'a>(
    rule: &Known<'a>,
    known: &[Known<'a>],
    index: &names::Index<'_>,
    asks: &mut BTreeSet<usize>,
    findings: &mut Vec<Finding>,
) {
    let declared = names::declared(rule.rule);
    let mut locals = names::locals(rule.rule);
    // `input.a[x]` asks a rule x if there is one: its name stands for a variable only where it is declared.
    locals.retain(|name| declared.iter().any(|(own, _)| own == name) || !index.has(rule.module, name));
    if !rule.is_test() {
        findings.extend(hides_rule(rule, &declared, index));
        findings.extend(clash::of_rule(rule, &declared, index));
    }
    let imports = names::imports(rule.module);
    let mut nodes = Vec::new();
    tree::walk(rule.rule, &mut |node| {
        nodes.push(node);
        true
    });
    for node in nodes {
        match node {
            Node::Reference(expr) => match index.resolve(expr, rule, known, (&imports, &locals)) {
                Ok(rules) => asks.extend(rules),
                Err(problem) => findings.push(rule.finding(expr.span().line, problem)),
            },
            Node::Call(expr) => {
                let (found, problem) = calls::check(expr, rule, known, index, &imports);
                asks.extend(found);
                findings.extend(problem.map(|problem| rule.finding(expr.span().line, problem)));
            }
            Node::Number(Expr::Number { value, span, .. }) if !rule.is_test() && value.as_i64().is_err() => {
                let problem = format!(
                    "{} is no whole number, and sums of such differ between engines",
                    span.text()
                );
                findings.push(rule.finding(span.line, problem));
            }
            Node::Statement(statement) if !statement.with_mods.is_empty() && !rule.is_test() => {
                let problem = "`with` is for tests only".to_owned();
                findings.push(rule.finding(statement.span.line, problem));
            }
            Node::Number(_) | Node::Statement(_) | Node::Assign(_) | Node::Membership(_) => {}
        }
    }
    if !rule.is_test() {
        let forms = forms::check(rule.rule, &locals, &imports);
        findings.extend(forms.into_iter().map(|(line, problem)| rule.finding(line, problem)));
    }
}

/// A variable holds in its own scope only, and outside of it the name is the rule's: engines and readers get that wrong.
fn hides_rule(rule: &Known<'_>, declared: &[(String, u32)], index: &names::Index<'_>) -> Vec<Finding> {
    let hiding = declared.iter().filter(|(name, _)| index.has(rule.module, name));
    hiding
        .map(|(name, line)| {
            let problem = format!("the variable {name} has the name of a rule of its package; call it otherwise");
            rule.finding(*line, problem)
        })
        .collect()
}

/// One name, one kind: functions with as many arguments, or sets, or others; and one default.
fn conflicts(known: &[Known<'_>]) -> Vec<Finding> {
    let mut first: BTreeMap<&[String], &Known<'_>> = BTreeMap::new();
    let mut defaults = BTreeSet::new();
    let mut findings = Vec::new();
    for rule in known {
        let is_default = matches!(rule.rule, Rule::Default { .. });
        if is_default && !defaults.insert(&rule.path) {
            findings.push(rule.here(format!("{} has two defaults", rule.name())));
        }
        let kind = |rule: &Known<'_>| (rule.arguments, tree::is_set(rule.rule));
        let other = first.entry(&rule.path).or_insert(rule);
        if kind(other) != kind(rule) {
            findings.push(rule.here(format!(
                "{} is a set, a function or a value elsewhere, and another of them here",
                rule.name()
            )));
        }
    }
    findings
}

#[cfg(test)]
mod tests;
