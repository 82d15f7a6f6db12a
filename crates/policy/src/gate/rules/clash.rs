//! One name for two things: each engine takes it for another of them.

use std::collections::BTreeSet;

use regorus::unstable::{BUILTINS, Expr, Module, Ref};

use super::{Finding, Known, names};
use crate::tree::{self, Node};

/// Names that modules and packages have twice.
pub(super) fn of_modules(modules: &[Ref<Module>], known: &[Known<'_>], index: &names::Index<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for module in modules {
        let at = |line: u32, problem: String| Finding {
            file: module.package.span.source.get_path().clone(),
            line,
            problem,
        };
        for import in &module.imports {
            let root = tree::root(&import.refr);
            let Some(name) = names::imported(import).filter(|_| matches!(root, Some("data" | "input"))) else {
                continue;
            };
            let same = root == Some(name.as_str()) && import.r#as.is_none();
            let what = if !same && matches!(name.as_str(), "input" | "data") {
                "what every reader takes for something else"
            } else if is_builtin_root(&name) {
                "the name of a function of the language"
            } else if index.has(module, &name) {
                "the name of a rule of this package"
            } else {
                continue;
            };
            let problem = format!("the import {name} has {what}; write `as` another name");
            findings.push(at(import.span.line, problem));
        }
        let package = tree::package(module);
        let rule = known.iter().find(|rule| package.starts_with(&rule.path));
        if let Some(rule) = rule {
            let problem = format!(
                "the package {} lies at or below the rule {}, and only one of them would be seen; call one otherwise",
                package.join("."),
                rule.name()
            );
            findings.push(at(module.package.span.line, problem));
        }
    }
    findings
}

/// Whether calls begin with this name: `count`, or `json` of `json.marshal`.
fn is_builtin_root(name: &str) -> bool {
    BUILTINS.keys().any(|function| function.split('.').next() == Some(name))
}

/// Names that a rule uses for two things, and keys of what has none.
pub(super) fn of_rule(rule: &Known<'_>, declared: &[(String, u32)], index: &names::Index<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for argument in tree::arguments(rule.rule).into_iter().flatten() {
        let mut twice = None;
        tree::walk_expr(argument, &mut |node| {
            if let Node::Reference(Expr::Var { span, .. }) = node
                && span.text() != "_"
                && !seen.insert(span.text())
            {
                twice = Some(span);
            }
            true
        });
        if let Some(span) = twice {
            let problem = format!(
                "the argument {0} is there twice, which does not compare them here; write another name, and {0} == it in the \
                 body",
                span.text()
            );
            findings.push(rule.finding(span.line, problem));
        }
    }
    tree::walk(rule.rule, &mut |node| {
        match node {
            Node::Call(Expr::Call { fcn, span, .. }) => {
                let name = tree::static_path(fcn).0;
                let root = name.first().map(String::as_str).unwrap_or_default();
                let hidden = declared.iter().any(|(own, _)| own == root) || index.has(rule.module, root);
                if hidden && BUILTINS.contains_key(name.join(".").as_str()) {
                    let problem = format!(
                        "calls {}, while {root} is a variable or rule here; call that otherwise",
                        name.join(".")
                    );
                    findings.push(rule.finding(span.line, problem));
                }
            }
            Node::Reference(expr) if is_of_literal(expr) => {
                let problem = "takes a key of a text, number or constant, which has none; remove it".to_owned();
                findings.push(rule.finding(expr.span().line, problem));
            }
            _ => {}
        }
        true
    });
    findings
}

fn is_of_literal(expr: &Expr) -> bool {
    match expr {
        Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => {
            let literal = matches!(
                refr.as_ref(),
                Expr::String { .. }
                    | Expr::RawString { .. }
                    | Expr::Number { .. }
                    | Expr::Bool { .. }
                    | Expr::Null { .. }
            );
            literal || is_of_literal(refr)
        }
        _ => false,
    }
}
