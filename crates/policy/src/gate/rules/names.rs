//! What names stand for: variables, imports, rules.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{AssignOp, Expr, Import, Literal, LiteralStmt, Module, Rule};

use super::Known;
use crate::tree::{self, Node};

/// Rules by their paths.
pub(super) struct Index<'a> {
    by_path: BTreeMap<&'a [String], Vec<usize>>,
}

/// Names under which a module imports, with what they stand for (from `data`, or `input`).
pub(super) fn imports(module: &Module) -> BTreeMap<String, Vec<String>> {
    let mut imports = BTreeMap::new();
    for import in &module.imports {
        if let Some(name) = imported(import) {
            imports.insert(name, tree::static_path(&import.refr).0);
        }
    }
    imports
}

/// The name under which something is imported.
pub(super) fn imported(import: &Import) -> Option<String> {
    let alias = import.r#as.as_ref().map(|span| span.text().to_owned());
    alias.or_else(|| tree::static_path(&import.refr).0.pop())
}

impl<'a> Index<'a> {
    pub(super) fn new(known: &'a [Known<'_>]) -> Self {
        let mut by_path: BTreeMap<&[String], Vec<usize>> = BTreeMap::new();
        for (number, rule) in known.iter().enumerate() {
            by_path.entry(&rule.path).or_default().push(number);
        }
        Self { by_path }
    }

    /// The rules of exactly this path.
    pub(super) fn at(&self, path: &[String]) -> Vec<usize> {
        self.by_path.get(path).cloned().unwrap_or_default()
    }

    /// Whether rules of a module's package begin with this name.
    pub(super) fn has(&self, module: &Module, name: &str) -> bool {
        let mut path = tree::package(module);
        path.push(name.to_owned());
        self.is_beginning(&path)
    }

    /// Whether paths of rules begin with this one.
    fn is_beginning(&self, path: &[String]) -> bool {
        let mut from = self.by_path.range(path..);
        from.next().is_some_and(|(known, _)| known.starts_with(path))
    }

    /// The rules that a reference asks; an error if its first name stands for nothing.
    pub(super) fn resolve(
        &self,
        expr: &Expr,
        rule: &Known<'_>,
        known: &[Known<'_>],
        (imports, locals): (&BTreeMap<String, Vec<String>>, &BTreeSet<String>),
    ) -> Result<Vec<usize>, String> {
        let Some(root) = tree::root(expr) else {
            return Ok(Vec::new());
        };
        let (written, _) = tree::static_path(expr);
        if root == "input" || root == "_" || locals.contains(root) {
            return Ok(Vec::new());
        }
        match self.path(&written, rule, imports) {
            Some(path) => {
                let asked = self.asked(&path);
                let named = (1..=path.len()).flat_map(|length| self.at(&path[..length]));
                match named.into_iter().find(|rule| known[*rule].arguments.is_some()) {
                    Some(function) => Err(format!("{} is a function; call it", known[function].name())),
                    None => Ok(asked),
                }
            }
            None if imports.contains_key(root) => Ok(Vec::new()),
            None => Err(format!(
                "{root} stands for nothing: no rule, import or variable that gets a value has this name"
            )),
        }
    }

    /// The path of a function that is called, if it is one of ours.
    pub(super) fn function_path(
        &self,
        written: &[String],
        rule: &Known<'_>,
        imports: &BTreeMap<String, Vec<String>>,
    ) -> Option<Vec<String>> {
        self.path(written, rule, imports)
    }

    /// From what is written to a path from `data`.
    fn path(
        &self,
        written: &[String],
        rule: &Known<'_>,
        imports: &BTreeMap<String, Vec<String>>,
    ) -> Option<Vec<String>> {
        let (first, rest) = written.split_first()?;
        let from_data = |path: &[String]| {
            path.split_first()
                .filter(|(root, _)| *root == "data")
                .map(|(_, rest)| rest.to_vec())
        };
        if first == "data" {
            return Some(rest.to_vec());
        }
        if let Some(imported) = imports.get(first) {
            let mut path = from_data(imported)?;
            path.extend_from_slice(rest);
            return Some(path);
        }
        let mut path = tree::package(rule.module);
        path.push(first.clone());
        let exists = self.is_beginning(&path);
        path.extend_from_slice(rest);
        exists.then_some(path)
    }

    /// Rules at, above and (as far as a reference may select further) below a path.
    pub(super) fn asked(&self, path: &[String]) -> Vec<usize> {
        let above = (1..=path.len()).filter_map(|length| self.by_path.get(&path[..length]));
        let below = self
            .by_path
            .range(path..)
            .take_while(|(known, _)| known.starts_with(path));
        above.chain(below.map(|(_, rules)| rules)).flatten().copied().collect()
    }
}

/// Variables of a rule that get a value somewhere in it. Nothing gets one under `not`.
pub(super) fn locals(rule: &Rule) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for argument in tree::arguments(rule).into_iter().flatten() {
        bind(argument, &mut found);
    }
    bind_selected(tree::head_reference(rule), &mut found);
    tree::walk(rule, &mut |node| {
        match node {
            Node::Assign(Expr::AssignExpr { lhs, rhs, op, .. }) => {
                bind(lhs, &mut found);
                if *op == AssignOp::Eq {
                    bind(rhs, &mut found);
                }
            }
            Node::Reference(expr) => bind_selected(expr, &mut found),
            Node::Statement(statement) => {
                bind_statement(statement, &mut found);
                return !matches!(statement.literal, Literal::NotExpr { .. });
            }
            Node::Assign(_) | Node::Call(_) | Node::Number(_) | Node::Membership(_) => {}
        }
        true
    });
    found
}

/// Variables that a rule says are its own, with their lines: arguments, and those of `:=`, `some` and `every`.
pub(super) fn declared(rule: &Rule) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut declare = |patterns: &[&Expr]| {
        for pattern in patterns {
            let mut names = BTreeSet::new();
            bind(pattern, &mut names);
            found.extend(names.into_iter().map(|name| (name, pattern.span().line)));
        }
    };
    declare(&tree::arguments(rule).unwrap_or_default());
    let mut spans = Vec::new();
    tree::walk(rule, &mut |node| {
        match node {
            Node::Assign(Expr::AssignExpr {
                lhs,
                op: AssignOp::ColEq,
                ..
            }) => declare(&[lhs]),
            Node::Statement(statement) => match &statement.literal {
                Literal::SomeVars { vars, .. } => spans.extend(vars),
                Literal::Every { key, value, .. } => spans.extend(key.iter().chain([value])),
                Literal::SomeIn { key, value, .. } => key.iter().chain([value]).for_each(|pattern| declare(&[pattern])),
                Literal::Expr { .. } | Literal::NotExpr { .. } => {}
            },
            _ => {}
        }
        true
    });
    found.extend(spans.into_iter().map(|span| (span.text().to_owned(), span.line)));
    found
}

pub(super) fn bind_statement(statement: &LiteralStmt, found: &mut BTreeSet<String>) {
    match &statement.literal {
        Literal::SomeVars { vars, .. } => found.extend(vars.iter().map(|span| span.text().to_owned())),
        Literal::SomeIn { key, value, .. } => key.iter().chain([value]).for_each(|pattern| bind(pattern, found)),
        Literal::Every { key, value, .. } => {
            found.extend(key.iter().chain([value]).map(|span| span.text().to_owned()));
        }
        Literal::Expr { .. } | Literal::NotExpr { .. } => {}
    }
}

/// Variables of a pattern.
pub(super) fn of_pattern(pattern: &Expr) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    bind(pattern, &mut found);
    found
}

fn bind(pattern: &Expr, found: &mut BTreeSet<String>) {
    match pattern {
        Expr::Var { .. } => found.extend(tree::root(pattern).map(str::to_owned)),
        Expr::Array { items, .. } => items.iter().for_each(|item| bind(item, found)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| bind(value, found)),
        _ => {}
    }
}

/// Variables that stand in brackets take each key.
pub(super) fn bind_selected(reference: &Expr, found: &mut BTreeSet<String>) {
    match reference {
        Expr::RefDot { refr, .. } => bind_selected(refr, found),
        Expr::RefBrack { refr, index, .. } => {
            bind_selected(refr, found);
            bind(index, found);
        }
        _ => {}
    }
}
