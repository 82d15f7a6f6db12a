//! Bodies: what variables stand for, whatever the order of the statements that say so.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Query, Ref};

use super::size::{Env, Size};
use super::{Estimator, names};
use crate::tree::{self, Node};

/// A statement that waits until what it is made of is known.
struct Waiting<'a> {
    statement: &'a LiteralStmt,
    /// What must have a value before: one of these. Of `=`, one side, whereupon the other one gets a value.
    needs: Vec<BTreeSet<String>>,
    /// Of `=`: what gets a value of the other side, and so none by being there.
    both: BTreeSet<String>,
    /// What gets a value by it.
    binds: BTreeSet<String>,
    /// What takes each key in turn by it, if nothing else says what that is.
    selects: BTreeSet<String>,
}

/// Statements that are left and give a name a value, and those that select by it.
type Pending = BTreeMap<String, (usize, usize)>;

impl Estimator<'_> {
    /// Gives all variables of a query their sizes.
    pub(super) fn query(&mut self, query: &Query, rule: usize, env: &mut Env) {
        let locals = &self.scopes[rule].locals;
        let mut waiting: Vec<Waiting<'_>> = query
            .stmts
            .iter()
            .map(|statement| Waiting::new(statement, locals))
            .collect();
        while !waiting.is_empty() {
            let (before, mut rest) = (waiting.len(), Vec::new());
            // Counted, so that none of those that are left has to be asked of all.
            let mut pending = Pending::new();
            for one in &waiting {
                one.count(&mut pending, |count| *count += 1);
            }
            for one in waiting {
                let looks = one.binds.len() + one.selects.len() + 1 + env.len() / 16;
                if !self.spend(looks, rule, one.statement.span.line) {
                    return;
                }
                if one.is_ready(env, &pending) {
                    one.count(&mut pending, |count| *count -= 1);
                    self.statement(one.statement, rule, env);
                } else {
                    rest.push(one);
                }
            }
            // A circle: no order is right, and engines refuse it.
            if rest.len() == before {
                let first = rest.remove(0);
                self.statement(first.statement, rule, env);
            }
            waiting = rest;
        }
    }

    fn statement(&mut self, statement: &LiteralStmt, rule: usize, env: &mut Env) {
        match &statement.literal {
            Literal::SomeVars { vars, .. } => vars.iter().for_each(|name| env.forget(name.text())),
            Literal::SomeIn {
                key, value, collection, ..
            } => {
                let over = self.expr(collection, rule, env);
                let size = env.turn(over);
                // These are new, whatever had their names outside.
                let patterns = || key.iter().chain([value]);
                for name in patterns().flat_map(|pattern| names::of_pattern(pattern)) {
                    env.forget(&name);
                }
                for pattern in patterns() {
                    self.bind(pattern, size, rule, env);
                }
            }
            Literal::Expr { expr, .. } => drop(self.expr(expr, rule, env)),
            Literal::NotExpr { expr, .. } => drop(self.expr(expr, rule, &mut env.clone())),
            Literal::Every {
                key,
                value,
                domain,
                query,
                ..
            } => {
                let over = self.expr(domain, rule, env).total();
                let mut within = env.within();
                let size = within.turn(Size::still(over));
                for name in key.iter().chain([value]) {
                    within.set(name.text().to_owned(), size);
                }
                self.query(query, rule, &mut within);
            }
        }
    }

    /// `:=` gives the left side its value, `=` whichever side has none.
    pub(super) fn assign(&mut self, lhs: &Expr, rhs: &Expr, op: &AssignOp, rule: usize, env: &mut Env) {
        // Side by side, each has its own.
        if let (Expr::Array { items: left, .. }, Expr::Array { items: right, .. }) = (lhs, rhs)
            && left.len() == right.len()
        {
            for (lhs, rhs) in left.iter().zip(right) {
                self.assign(lhs, rhs, op, rule, env);
            }
            return;
        }
        let is_open = |pattern: &Expr| {
            names::of_pattern(pattern)
                .iter()
                .any(|name| self.is_free(name, rule, env))
        };
        let is_left = *op == AssignOp::ColEq || is_open(lhs) || !is_open(rhs);
        let (target, source) = if is_left { (lhs, rhs) } else { (rhs, lhs) };
        let size = self.expr(source, rule, env);
        if *op == AssignOp::ColEq {
            for name in names::of_pattern(target) {
                env.forget(&name);
            }
        }
        self.bind(target, size, rule, env);
    }

    /// Variables of a pattern that have no value get this one.
    fn bind(&mut self, pattern: &Expr, size: Size, rule: usize, env: &mut Env) {
        match pattern {
            Expr::Var { .. } => {
                let name = tree::root(pattern).unwrap_or_default();
                if self.is_free(name, rule, env) {
                    env.set(name.to_owned(), size);
                }
            }
            Expr::Array { items, .. } => items.iter().for_each(|item| self.bind(item, size, rule, env)),
            Expr::Object { fields, .. } => {
                for (_, _, value) in fields {
                    self.bind(value, size, rule, env);
                }
            }
            other => drop(self.expr(other, rule, env)),
        }
    }
}

impl<'a> Waiting<'a> {
    fn new(statement: &'a LiteralStmt, locals: &BTreeSet<String>) -> Self {
        let mut new = Self {
            statement,
            needs: Vec::new(),
            both: BTreeSet::new(),
            binds: BTreeSet::new(),
            selects: BTreeSet::new(),
        };
        match &statement.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn {
                key, value, collection, ..
            } => {
                let patterns = key.iter().chain([value]);
                new.binds
                    .extend(patterns.flat_map(|pattern| names::of_pattern(pattern)));
                new.add(&[collection]);
            }
            Literal::Expr { expr, .. } => match expr.as_ref() {
                Expr::AssignExpr { lhs, rhs, op, .. } => {
                    new.binds.extend(names::of_pattern(lhs));
                    if *op == AssignOp::Eq {
                        new.binds.extend(names::of_pattern(rhs));
                        new.both = new.binds.clone();
                        new.add(&[lhs]);
                    }
                    new.add(&[rhs]);
                }
                _ => new.add(&[expr]),
            },
            Literal::NotExpr { expr, .. } => {
                new.add(&[expr]);
                new.selects.clear();
            }
            Literal::Every {
                key,
                value,
                domain,
                query,
                ..
            } => {
                let mut used = Used::default();
                tree::walk_query(query, &mut |node| used.see(node));
                used.declared
                    .extend(key.iter().chain([value]).map(|name| name.text().to_owned()));
                // Within, it takes keys in turn for itself.
                used.selected.clear();
                tree::walk_expr(domain, &mut |node| used.see(node));
                new.add_used(used);
            }
        }
        for needs in &mut new.needs {
            needs.retain(|name| locals.contains(name));
        }
        new
    }

    /// One more set of expressions, of which all must be known.
    fn add(&mut self, exprs: &[&Ref<Expr>]) {
        let mut used = Used::default();
        for expr in exprs {
            tree::walk_expr(expr, &mut |node| used.see(node));
        }
        self.add_used(used);
    }

    fn add_used(&mut self, mut used: Used) {
        used.names.retain(|name| !used.declared.contains(name));
        self.needs.push(used.names);
        self.selects.extend(used.selected);
    }

    fn count(&self, pending: &mut Pending, change: impl Fn(&mut usize)) {
        for name in &self.binds {
            change(&mut pending.entry(name.clone()).or_default().0);
        }
        for name in &self.selects {
            change(&mut pending.entry(name.clone()).or_default().1);
        }
    }

    fn is_ready(&self, env: &Env, pending: &Pending) -> bool {
        let has_value = |name: &String| {
            let (binding, selecting) = pending.get(name).copied().unwrap_or_default();
            let by_others = binding > usize::from(self.binds.contains(name));
            let open = by_others || self.both.contains(name) || selecting > 0 && !self.selects.contains(name);
            env.get(name).is_some() || !open
        };
        self.needs.is_empty() || self.needs.iter().any(|names| names.iter().all(has_value))
    }
}

/// Names in expressions.
#[derive(Default)]
struct Used {
    names: BTreeSet<String>,
    /// Of comprehensions, their own.
    declared: BTreeSet<String>,
    selected: BTreeSet<String>,
}

impl Used {
    fn see(&mut self, node: Node<'_>) -> bool {
        match node {
            Node::Reference(expr) => {
                self.names.extend(tree::root(expr).map(str::to_owned));
                names::bind_selected(expr, &mut self.selected);
            }
            Node::Statement(statement) => names::bind_statement(statement, &mut self.declared),
            Node::Assign(Expr::AssignExpr {
                lhs,
                op: AssignOp::ColEq,
                ..
            }) => self.declared.extend(names::of_pattern(lhs)),
            _ => {}
        }
        true
    }
}
