//! How large values may become.
//!
//! Nothing interrupts a call of a function of the language, so `x2 := concat("", [x1, x1])` after a row of such takes all
//! memory there is, whatever the limit of time. The odd inputs show that only where they reach the rule. So each
//! expression's size is estimated from above, in bytes, where the largest thing in input and data counts as [`LARGEST`].
//!
//! What is refused is what multiplies again and again. What takes time for each of its parts is bounded by the limit of
//! time and does not count: that lists in a loop have many elements, and loops in loops over different things.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{ArithOp, BinOp, Expr, Query, Ref, Rule, RuleBody};

use super::{Finding, Known, names};
use crate::tree;

mod builtins;
mod query;
mod references;
mod size;

use builtins::How;
use size::{Env, Size};

/// Bytes that the largest thing in input and data counts as. A part of it is not larger.
const LARGEST: u64 = 4 << 10;
/// Bytes that what is written in a rule counts as at least, lest a short text may grow longer than a long one.
const WRITTEN: u64 = 256;
/// How many times as large as the largest thing a value may become. The shipped rules reach 32. A Database has some
/// 10 KiB, so this is 10 MiB. It is the square of [`size::TURNS`], and `LARGEST` is not less: a loop that repeats what a
/// loop repeated is over it at once, and so is a text put into another at each place, where neither is short.
const MOST: u64 = 1024;
const LIMIT: u64 = MOST * LARGEST;
/// Looks at expressions. The shipped rules take 2,500.
const STEPS: usize = 100_000;

/// Rules whose values may become too large.
pub(super) fn check(known: &[Known<'_>], index: &names::Index<'_>) -> Vec<Finding> {
    estimate(known, index).0
}

/// What is too large, the largest estimate of what is not, and how many looks that took.
fn estimate(known: &[Known<'_>], index: &names::Index<'_>) -> (Vec<Finding>, u64, usize) {
    let mut estimator = Estimator {
        known,
        index,
        scopes: known.iter().map(|rule| Scope::of(rule, index)).collect(),
        values: BTreeMap::new(),
        calls: BTreeMap::new(),
        left: STEPS,
        is_tangled: false,
        largest: 0,
        findings: BTreeMap::new(),
    };
    for (number, rule) in known.iter().enumerate() {
        // Functions count with what they are called with. Reports are as many as they are: a set counts as a whole only
        // for whoever asks for it.
        if rule.arguments.is_none() {
            let bytes = estimator.definition(number, &[], Whole::Once);
            // Whatever went over the limit has been found, or else counting has a hole.
            if bytes >= LIMIT && estimator.findings.is_empty() {
                let line = rule.rule.span().line;
                estimator.look(number, line, (0, bytes), ("this rule", How::Join));
            }
        }
    }
    let looks = STEPS - estimator.left;
    (estimator.findings.into_values().collect(), estimator.largest, looks)
}

/// What of a rule is estimated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// What it gives where its body holds once.
    Once,
    /// All that it gives.
    All,
}

/// What names stand for in a rule.
struct Scope {
    imports: BTreeMap<String, Vec<String>>,
    /// Variables; not what `x = 1` says of a rule x.
    locals: BTreeSet<String>,
}

impl Scope {
    fn of(rule: &Known<'_>, index: &names::Index<'_>) -> Self {
        let mut locals = names::locals(rule.rule);
        locals.retain(|name| !index.has(rule.module, name));
        Self {
            imports: names::imports(rule.module),
            locals,
        }
    }
}

struct Estimator<'a> {
    known: &'a [Known<'a>],
    index: &'a names::Index<'a>,
    scopes: Vec<Scope>,
    /// Of rules, by the first of their path.
    values: BTreeMap<usize, u64>,
    /// Of functions, by the first of their path and the sizes of their arguments.
    calls: BTreeMap<(usize, Vec<u64>), u64>,
    /// Looks that are left, and whether more were wanted.
    left: usize,
    is_tangled: bool,
    largest: u64,
    /// One for each line.
    findings: BTreeMap<(usize, u32), Finding>,
}

impl Estimator<'_> {
    /// Bytes of the value of rules of one path.
    fn value(&mut self, rules: &[usize]) -> u64 {
        let Some(first) = rules.first() else { return 0 };
        if let Some(bytes) = self.values.get(first) {
            return *bytes;
        }
        // Who asks itself is refused elsewhere. Here it has no bound.
        self.values.insert(*first, u64::MAX);
        let each: Vec<u64> = rules
            .iter()
            .map(|rule| self.definition(*rule, &[], Whole::All))
            .collect();
        let largest = each.iter().copied().max().unwrap_or_default();
        let bytes = if gathers(self.known[*first].rule) {
            size::add(&each)
        } else {
            largest
        };
        let what = format!("the rule {}", self.known[*first].name());
        self.look(
            *first,
            self.known[*first].rule.span().line,
            (largest, bytes),
            (&what, How::Join),
        );
        self.values.insert(*first, bytes);
        bytes
    }

    /// Bytes that functions of one path give at most.
    fn call(&mut self, rules: &[usize], arguments: &[u64]) -> u64 {
        let Some(first) = rules.first() else { return 0 };
        // That has been said where it is made.
        if let Some(over) = arguments.iter().copied().find(|bytes| *bytes >= LIMIT) {
            return over;
        }
        let key = (*first, arguments.to_vec());
        if let Some(bytes) = self.calls.get(&key) {
            return *bytes;
        }
        self.calls.insert(key.clone(), u64::MAX);
        let each = rules.iter().map(|rule| self.definition(*rule, arguments, Whole::All));
        let bytes = each.max().unwrap_or_default();
        self.calls.insert(key, bytes);
        bytes
    }

    fn definition(&mut self, number: usize, arguments: &[u64], whole: Whole) -> u64 {
        let rule = self.known[number].rule;
        let mut env = Env::default();
        for (pattern, bytes) in tree::arguments(rule).into_iter().flatten().zip(arguments) {
            for name in names::of_pattern(pattern) {
                env.set(name, Size::still(*bytes));
            }
        }
        if let Rule::Default { value, .. } = rule {
            return self.expr(value, number, &mut env).total();
        }
        let bodies = tree::bodies(rule);
        if bodies.is_empty() {
            return self.given(number, None, whole, &mut env);
        }
        let each = bodies.iter().map(|body| {
            let mut env = env.clone();
            self.query(&body.query, number, &mut env);
            self.given(number, Some(body), whole, &mut env)
        });
        each.max().unwrap_or_default()
    }

    /// Bytes of what a rule gives where a body holds.
    fn given(&mut self, number: usize, body: Option<&RuleBody>, whole: Whole, env: &mut Env) -> u64 {
        let rule = self.known[number].rule;
        let own = body
            .and_then(|body| body.assign.as_ref())
            .map(|assign| assign.value.as_ref());
        let mut parts = tree::head_keys(rule);
        parts.extend(own.or(tree::head_value(rule)));
        let sizes: Vec<Size> = parts.into_iter().map(|part| self.expr(part, number, env)).collect();
        let size = Size::sum(&sizes);
        let bytes = if whole == Whole::All && gathers(rule) {
            env.gathered(size)
        } else {
            size.total()
        };
        let before = largest(&sizes);
        let how = if size.total() < LIMIT { How::Loop } else { How::Join };
        let what = format!("the rule {}", self.known[number].name());
        self.look(number, rule.span().line, (before, bytes), (&what, how));
        bytes.max(WRITTEN)
    }

    fn all<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Ref<Expr>>, rule: usize, env: &mut Env) -> Vec<Size> {
        exprs.into_iter().map(|expr| self.expr(expr, rule, env)).collect()
    }

    fn expr(&mut self, expr: &Expr, rule: usize, env: &mut Env) -> Size {
        let line = expr.span().line;
        if !self.spend(1, rule, line) {
            return Size::still(LIMIT);
        }
        let small = Size::still(WRITTEN);
        match expr {
            Expr::String { value, .. } | Expr::RawString { value, .. } | Expr::Number { value, .. } => {
                Size::still((value.to_string().len() as u64).max(WRITTEN))
            }
            Expr::Bool { .. } | Expr::Null { .. } => small,
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => self.reference(expr, rule, env),
            Expr::Array { .. } | Expr::Set { .. } | Expr::Object { .. } => {
                let (size, before) = self.parts(expr, rule, env);
                let what = if matches!(expr, Expr::Object { .. }) {
                    "this object"
                } else {
                    "this list"
                };
                self.look(rule, line, (before, size.total()), (what, How::Join));
                Size::of_all(&[size], |bytes| most(bytes).max(WRITTEN))
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.comprehension(&[term], query, (rule, line), env)
            }
            Expr::ObjectCompr { key, value, query, .. } => self.comprehension(&[key, value], query, (rule, line), env),
            Expr::Call { fcn, params, .. } => self.called(fcn, params, (rule, line), env),
            Expr::UnaryExpr { expr, .. } => self.expr(expr, rule, env),
            Expr::BinExpr { lhs, rhs, op, .. } => {
                let sizes = self.all([lhs, rhs], rule, env);
                match op {
                    BinOp::Union => {
                        let size = Size::sum(&sizes);
                        let bytes = (largest(&sizes), size.total());
                        self.look(rule, line, bytes, ("this union", How::Join));
                        size
                    }
                    BinOp::Intersection => Size::of_all(&sizes, most),
                }
            }
            Expr::ArithExpr { lhs, rhs, op, .. } => {
                let sizes = self.all([lhs, rhs], rule, env);
                match op {
                    ArithOp::Mul => {
                        let size = Size::sum(&sizes);
                        let bytes = (largest(&sizes), size.total());
                        self.look(rule, line, bytes, ("this product", How::Multiply));
                        size
                    }
                    // One digit more, at most.
                    ArithOp::Add | ArithOp::Sub | ArithOp::Div | ArithOp::Mod => Size::of_all(&sizes, most),
                }
            }
            Expr::AssignExpr { lhs, rhs, op, .. } => {
                self.assign(lhs, rhs, op, rule, env);
                small
            }
            Expr::BoolExpr { lhs, rhs, .. } => {
                self.all([lhs, rhs], rule, env);
                small
            }
            Expr::Membership {
                key, value, collection, ..
            } => {
                self.all(key.iter().chain([value, collection]), rule, env);
                small
            }
        }
    }

    /// What is written out, part by part, and the largest part. Tables may be long, so their parts count as they are.
    fn parts(&mut self, expr: &Expr, rule: usize, env: &mut Env) -> (Size, u64) {
        let parts: Vec<&Ref<Expr>> = match expr {
            Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().collect(),
            Expr::Object { fields, .. } => fields.iter().flat_map(|(_, key, value)| [key, value]).collect(),
            Expr::String { value, .. } | Expr::RawString { value, .. } | Expr::Number { value, .. } => {
                let bytes = value.to_string().len() as u64;
                return (Size::still(bytes), bytes);
            }
            other => {
                let size = self.expr(other, rule, env);
                return (size, size.total());
            }
        };
        let (mut sizes, mut largest) = (Vec::new(), 0);
        for part in parts {
            let (size, of_part) = self.parts(part, rule, env);
            sizes.push(size);
            largest = largest.max(of_part);
        }
        (
            Size::of_all(&sizes, |bytes| size::add(bytes).saturating_add(2)),
            largest,
        )
    }

    fn called(&mut self, function: &Expr, params: &[Ref<Expr>], (rule, line): (usize, u32), env: &mut Env) -> Size {
        let (mut sizes, mut before) = (Vec::new(), 0);
        for param in params {
            // A list that is written as an argument is no value of its own to whoever reads the finding.
            let (size, largest) = match param.as_ref() {
                Expr::Array { .. } => self.parts(param, rule, env),
                other => {
                    let size = self.expr(other, rule, env);
                    (size, size.total())
                }
            };
            sizes.push(size);
            before = before.max(largest);
        }
        let (known, index) = (self.known, self.index);
        let written = tree::static_path(function).0;
        if let Some(path) = index.function_path(&written, &known[rule], &self.scopes[rule].imports) {
            let rules = index.at(&path);
            let lists = (before, largest(&sizes));
            self.look(
                rule,
                line,
                lists,
                (&format!("what {} gets here", written.join(".")), How::Join),
            );
            return Size::of_all(&sizes, |arguments| self.call(&rules, arguments));
        }
        let name = written.join(".");
        let size = Size::of_all(&sizes, |bytes| {
            builtins::grown(&name, params, bytes).unwrap_or(u64::MAX)
        });
        let bytes = (before, size.total());
        self.look(
            rule,
            line,
            bytes,
            (&format!("what {name} gives here"), builtins::how(&name)),
        );
        size
    }

    /// What a comprehension gives, by what of it changes with the loops around it.
    fn comprehension(&mut self, terms: &[&Ref<Expr>], query: &Query, (rule, line): (usize, u32), env: &Env) -> Size {
        let total = self.gathered(terms, query, (rule, line), env.within());
        let still = if env.varies() {
            self.gathered(terms, query, (rule, line), env.within_still())
        } else {
            total
        };
        env.split(total, still)
    }

    fn gathered(&mut self, terms: &[&Ref<Expr>], query: &Query, (rule, line): (usize, u32), mut env: Env) -> u64 {
        if !self.spend(env.len() / 16, rule, line) {
            return LIMIT;
        }
        self.query(query, rule, &mut env);
        let sizes = self.all(terms.iter().copied(), rule, &mut env);
        let bytes = env.gathered(Size::sum(&sizes)).max(WRITTEN);
        self.look(rule, line, (largest(&sizes), bytes), ("this comprehension", How::Loop));
        bytes
    }

    /// Finds what is over the limit and was not before, and remembers the largest that is not.
    fn look(&mut self, rule: usize, line: u32, (before, bytes): (u64, u64), (what, how): (&str, How)) {
        if bytes < LIMIT {
            self.largest = self.largest.max(bytes);
        } else if before < LIMIT {
            let words = how.words();
            let problem = format!(
                "{what} may become {MOST} times as large as the largest thing in input and data, or more: {words}"
            );
            self.find(rule, line, problem);
        }
    }

    fn find(&mut self, rule: usize, line: u32, problem: String) {
        let finding = self.known[rule].finding(line, problem);
        self.findings.entry((rule, line)).or_insert(finding);
    }

    /// Whether there is still something to spend on looks.
    fn spend(&mut self, looks: usize, rule: usize, line: u32) -> bool {
        if self.left < looks {
            // At the first place only.
            if !self.is_tangled {
                self.is_tangled = true;
                let problem = "is too tangled to estimate how large its values become; write first what others are made of, \
                               and call fewer functions within functions";
                self.find(rule, line, problem.to_owned());
            }
            self.left = 0;
            return false;
        }
        self.left -= looks;
        true
    }
}

fn largest(sizes: &[Size]) -> u64 {
    sizes.iter().map(|size| size.total()).max().unwrap_or_default()
}

fn most(bytes: &[u64]) -> u64 {
    bytes.iter().copied().max().unwrap_or_default()
}

/// Whether a rule's value holds what all of its definitions give, each time that they hold.
fn gathers(rule: &Rule) -> bool {
    let (_, is_fixed) = tree::static_path(tree::head_reference(rule));
    tree::is_set(rule) || !is_fixed
}

#[cfg(test)]
mod tests;
