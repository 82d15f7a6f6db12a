//! Which rules are ever asked. One that is not, by a slip in the name of its package, allows what it was written to deny.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{Module, Ref};

use super::{Finding, Known, asks_of, is_test, known, names};
use crate::policies::{ALWAYS, WITH_USER, level_of};
use crate::tree;

/// Names that other programs ask, or that are a slip away from those that we ask; without `_`.
const NEAR: &[&str] = &[
    "violation",
    "violations",
    "userviolation",
    "userviolations",
    "deny",
    "warn",
];

/// What is wrong with where rules stand.
pub(in crate::gate) fn check(modules: &[Ref<Module>]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = modules.iter().filter_map(|module| place(module)).collect();
    let rules: Vec<&Ref<Module>> = modules.iter().filter(|module| !is_test(module)).collect();
    let known: Vec<Known<'_>> = rules.iter().flat_map(|module| known(module)).collect();
    findings.extend(known.iter().filter_map(near));
    if findings.is_empty() {
        findings.extend(dead(&known));
    }
    findings
}

fn is_entry(name: &str) -> bool {
    name == ALWAYS || name == WITH_USER
}

fn at(module: &Module, problem: String) -> Finding {
    Finding {
        file: module.package.span.source.get_path().clone(),
        line: module.package.span.line,
        problem,
    }
}

/// Files of tests have packages of tests, and only they; packages that want to be asked are where they are.
fn place(module: &Module) -> Option<Finding> {
    let package = tree::package(module);
    let name = package.join(".");
    let of_tests = package.last().is_some_and(|last| last.ends_with("_test"));
    match (is_test(module), of_tests) {
        (true, false) => {
            let problem = format!(
                "is a file of tests (*_test.rego), which is not loaded, and its package {name} is none of tests; call \
                 the package {name}_test, or the file otherwise"
            );
            return Some(at(module, problem));
        }
        (false, true) => {
            let problem = format!(
                "the package {name} is one of tests (*_test), which nothing asks, in a file of rules; call the package \
                 otherwise, or the file *_test.rego"
            );
            return Some(at(module, problem));
        }
        _ => {}
    }
    let entry = tree::rule_names(module).into_iter().find(|name| is_entry(name))?;
    (!of_tests && level_of(&package).is_none()).then(|| {
        let problem = format!(
            "{entry} of the package {name} would never be asked; call the package database.NAME for all, or \
             database.team.TEAM.NAME, database.business_unit.UNIT.NAME, database.environment.ENVIRONMENT.NAME"
        );
        at(module, problem)
    })
}

fn near(rule: &Known<'_>) -> Option<Finding> {
    let name = tree::static_path(tree::head_reference(rule.rule))
        .0
        .into_iter()
        .next()?;
    let plain: String = name.to_lowercase().chars().filter(|char| *char != '_').collect();
    let slip = rule.arguments.is_none() && !is_entry(&name) && NEAR.contains(&plain.as_str());
    slip.then(|| {
        rule.here(format!(
            "{name} is not asked: only violations and user_violations are; call it so, or, if it is only used by these, \
             by what it is about"
        ))
    })
}

/// Packages of which nothing is asked, not even by others.
fn dead(known: &[Known<'_>]) -> Vec<Finding> {
    let index = names::Index::new(known);
    let asks: Vec<BTreeSet<usize>> = known.iter().map(|rule| asks_of(rule, known, &index)).collect();
    let mut open: Vec<usize> = (0..known.len())
        .filter(|rule| {
            let name = tree::static_path(tree::head_reference(known[*rule].rule))
                .0
                .into_iter()
                .next();
            name.is_some_and(|name| is_entry(&name)) && level_of(&tree::package(known[*rule].module)).is_some()
        })
        .collect();
    let mut reached = BTreeSet::new();
    while let Some(rule) = open.pop() {
        if reached.insert(rule) {
            open.extend(&asks[rule]);
        }
    }
    let mut packages: BTreeMap<Vec<String>, (bool, &Known<'_>)> = BTreeMap::new();
    for (number, rule) in known.iter().enumerate() {
        let package = packages.entry(tree::package(rule.module)).or_insert((false, rule));
        package.0 |= reached.contains(&number);
    }
    let unasked = packages.iter().filter(|(_, (asked, _))| !asked);
    unasked
        .map(|(package, (_, rule))| {
            let name = package.join(".");
            let problem = format!(
                "nothing that is asked uses the package {name}: it has no violations, and no rule that has asks for one \
                 of its rules; write its rules as `violations contains v if {{...}}`, or remove it"
            );
            at(rule.module, problem)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use regorus::Engine;

    use super::*;

    fn found(modules: &[(&str, &str)]) -> String {
        let mut engine = Engine::new();
        for (file, text) in modules {
            let (package, rules) = text.split_once('\n').expect("a package and rules");
            let text = format!("package {package}\nimport rego.v1\n{rules}\n");
            engine.add_policy((*file).to_owned(), text).expect("it is Rego");
        }
        let findings: Vec<String> = check(engine.get_modules()).iter().map(ToString::to_string).collect();
        findings.join("\n")
    }

    const ASKED: &str = "violations contains 1 if input.a";

    #[test]
    fn packages_that_are_not_asked_are_refused() {
        for package in [
            "database.environment.production",
            "database.team.payments",
            "database.team.payments.a.b",
            "database.teams.x.y",
            "database.security.extra",
            "databse.security",
            "database.team",
            "database",
        ] {
            for rule in [ASKED, "user_violations contains 1 if input.a"] {
                let found = found(&[("x.rego", &format!("{package}\n{rule}"))]);
                assert!(
                    found.starts_with("x.rego:1: ") && found.contains("never be asked"),
                    "{package}: {found}"
                );
            }
        }
        for package in ["database.load_test", "database.team.x.load_test"] {
            let found = found(&[("load.rego", &format!("{package}\n{ASKED}"))]);
            assert!(found.contains("in a file of rules"), "{package}: {found}");
        }
        let found = found(&[("load_test.rego", &format!("database.load\n{ASKED}"))]);
        assert!(found.contains("call the package database.load_test"), "{found}");
    }

    #[test]
    fn packages_that_are_asked_pass() {
        for package in [
            "database.x",
            "database.team.x.y",
            "database.environment.x.y",
            "database.business_unit.x.y",
        ] {
            assert_eq!(found(&[("x.rego", &format!("{package}\n{ASKED}"))]), "", "{package}");
        }
        let lib = ("lib.rego", "shared.lib\nx := y\ny := 1");
        let asker = ("x.rego", "database.x\nviolations contains 1 if data.shared.lib.x");
        let test = ("x_test.rego", "database.x_test\ntest_x if data.database.x.violations");
        assert_eq!(found(&[lib, asker, test]), "");
    }

    #[test]
    fn slips_and_packages_that_nothing_uses_are_refused() {
        for name in [
            "violation",
            "Violations",
            "user_violation",
            "userviolations",
            "deny",
            "warn",
        ] {
            let found = found(&[("x.rego", &format!("database.x\n{ASKED}\n{name} contains 1 if input.a"))]);
            assert!(
                found.contains(&format!("x.rego:4: {name} is not asked")),
                "{name}: {found}"
            );
        }
        assert_eq!(
            found(&[("x.rego", "database.x\nviolations contains 1 if deny(1)\ndeny(a) := a")]),
            ""
        );
        let asker = ("x.rego", "database.x\nviolations contains 1 if input.a");
        let dead = ("y.rego", "database.y\nx contains 1 if z\nz := 1");
        let test = (
            "y_test.rego",
            "database.y_test\nviolations contains 1 if data.database.y.x",
        );
        let found = found(&[asker, dead, test]);
        assert!(
            found.starts_with("y.rego:1: nothing that is asked uses the package database.y"),
            "{found}"
        );
    }
}
