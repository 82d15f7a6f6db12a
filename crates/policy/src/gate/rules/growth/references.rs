//! References: what their names stand for, and what is selected of that.

use std::collections::BTreeMap;

use regorus::unstable::Expr;

use super::builtins::How;
use super::size::{self, Env, Size};
use super::{Estimator, LARGEST, LIMIT, most, names};
use crate::tree;

impl Estimator<'_> {
    /// A variable, rule or part of input and data, with what is selected of it.
    pub(super) fn reference(&mut self, expr: &Expr, rule: usize, env: &mut Env) -> Size {
        let (mut at, mut selected) = (expr, Vec::new());
        while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = at {
            if let Expr::RefBrack { index, .. } = at {
                selected.push(index);
            }
            at = refr;
        }
        let mut size = match at {
            Expr::Var { .. } => self.named(expr, rule, env),
            other => self.expr(other, rule, env),
        };
        for index in selected.into_iter().rev() {
            size = self.selected(size, index, rule, env);
        }
        size
    }

    /// What the fixed names of a reference stand for.
    fn named(&mut self, expr: &Expr, rule: usize, env: &Env) -> Size {
        let root = tree::root(expr).unwrap_or_default();
        if let Some(size) = env.get(root) {
            return size;
        }
        let (known, index) = (self.known, self.index);
        let (written, imports) = (tree::static_path(expr).0, &self.scopes[rule].imports);
        let Some(path) = index.function_path(&written, &known[rule], imports) else {
            if self.is_free(root, rule, env) && root != "_" {
                let problem =
                    format!("{root} is made of itself, or of what has no value yet; write first what it is made of");
                self.find(rule, expr.span().line, problem);
                return Size::still(LIMIT);
            }
            return Size::still(LARGEST);
        };
        let mut by_path: BTreeMap<&[String], Vec<usize>> = BTreeMap::new();
        for asked in index.asked(&path) {
            by_path.entry(&known[asked].path).or_default().push(asked);
        }
        let whole = by_path.keys().all(|found| found.len() > path.len());
        // Below a package there may be data, too.
        let data = if whole { LARGEST } else { 0 };
        let values: Vec<u64> = by_path.values().map(|rules| self.value(rules)).collect();
        let bytes = size::add(&values).saturating_add(data);
        let before = most(&values);
        self.look(rule, expr.span().line, (before, bytes), ("this package", How::Join));
        Size::still(bytes)
    }

    /// One of what is in brackets after a value, or each in turn.
    fn selected(&mut self, size: Size, index: &Expr, rule: usize, env: &mut Env) -> Size {
        let free: Vec<String> = names::of_pattern(index)
            .into_iter()
            .filter(|name| self.is_free(name, rule, env))
            .collect();
        if free.is_empty() {
            self.expr(index, rule, env);
            return size;
        }
        let size = env.turn(size);
        for name in free {
            env.set(name, size);
        }
        size
    }

    /// Whether a name is that of a variable that has no value yet.
    pub(super) fn is_free(&self, name: &str, rule: usize, env: &Env) -> bool {
        let stands = || {
            ["input", "data"].contains(&name)
                || self.scopes[rule].imports.contains_key(name)
                || self.index.has(self.known[rule].module, name)
        };
        env.get(name).is_none() && (name == "_" || !stands())
    }
}
