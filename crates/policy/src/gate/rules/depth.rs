//! How deep expressions are. Each level takes stack of whoever evaluates it, so nothing here recurses.

use regorus::unstable::{Expr, Literal, Module, Query, Ref, Rule, RuleHead};

use super::Finding;

/// Expressions within expressions.
const DEEPEST: usize = 64;

enum Part<'a> {
    Expr(&'a Expr),
    Query(&'a Query),
}

/// Expressions that are too deep, one of each rule.
pub(super) fn check(modules: &[Ref<Module>]) -> Vec<Finding> {
    let of = |module: &Module, rule: &Rule| {
        too_deep(rule).map(|line| Finding {
            file: module.package.span.source.get_path().clone(),
            line,
            problem: format!("has an expression deeper than {DEEPEST} operators; give parts of it names (x := ...)"),
        })
    };
    let all = modules
        .iter()
        .flat_map(|module| module.policy.iter().map(move |rule| (module, rule)));
    all.filter_map(|(module, rule)| of(module, rule)).collect()
}

/// The line of an expression that is too deep.
fn too_deep(rule: &Rule) -> Option<u32> {
    let mut open: Vec<(Part<'_>, usize)> = Vec::new();
    let mut line = rule.span().line;
    for part in parts(rule) {
        open.push((part, 1));
    }
    while let Some((part, depth)) = open.pop() {
        if depth > DEEPEST {
            return Some(line);
        }
        match part {
            Part::Expr(expr) => {
                line = expr.span().line;
                inner(expr, &mut |part| open.push((part, depth + 1)));
            }
            Part::Query(query) => statements(query, &mut |part| open.push((part, depth + 1))),
        }
    }
    None
}

fn parts(rule: &Rule) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    match rule {
        Rule::Default { refr, args, value, .. } => {
            parts.extend(args.iter().chain([refr, value]).map(|expr| Part::Expr(expr)));
        }
        Rule::Spec { head, bodies, .. } => {
            let (refr, rest, assign): (_, &[Ref<Expr>], _) = match head {
                RuleHead::Compr { refr, assign, .. } => (refr, &[], assign.as_ref()),
                RuleHead::Set { refr, key, .. } => (refr, key.as_slice(), None),
                RuleHead::Func { refr, args, assign, .. } => (refr, args, assign.as_ref()),
            };
            parts.extend(rest.iter().chain([refr]).map(|expr| Part::Expr(expr)));
            let assigned = assign
                .into_iter()
                .chain(bodies.iter().filter_map(|body| body.assign.as_ref()));
            parts.extend(assigned.map(|assign| Part::Expr(&assign.value)));
            parts.extend(bodies.iter().map(|body| Part::Query(&body.query)));
        }
    }
    parts
}

fn statements<'a>(query: &'a Query, add: &mut impl FnMut(Part<'a>)) {
    for statement in &query.stmts {
        match &statement.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn {
                key, value, collection, ..
            } => {
                key.iter()
                    .chain([value, collection])
                    .for_each(|expr| add(Part::Expr(expr)));
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => add(Part::Expr(expr)),
            Literal::Every { domain, query, .. } => {
                add(Part::Expr(domain));
                add(Part::Query(query));
            }
        }
        for with in &statement.with_mods {
            add(Part::Expr(&with.refr));
            add(Part::Expr(&with.r#as));
        }
    }
}

fn inner<'a>(expr: &'a Expr, add: &mut impl FnMut(Part<'a>)) {
    let mut each = |inner: &[&'a Ref<Expr>]| inner.iter().for_each(|expr| add(Part::Expr(expr)));
    match expr {
        Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Var { .. } => {}
        Expr::RefDot { refr, .. } => each(&[refr]),
        Expr::RefBrack { refr, index, .. } => each(&[refr, index]),
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().for_each(|item| each(&[item])),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, key, value)| each(&[key, value])),
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
            each(&[term]);
            add(Part::Query(query));
        }
        Expr::ObjectCompr { key, value, query, .. } => {
            each(&[key, value]);
            add(Part::Query(query));
        }
        Expr::Call { fcn, params, .. } => params.iter().chain([fcn]).for_each(|param| each(&[param])),
        Expr::UnaryExpr { expr, .. } => each(&[expr]),
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => each(&[lhs, rhs]),
        Expr::Membership {
            key, value, collection, ..
        } => key.iter().chain([value, collection]).for_each(|expr| each(&[expr])),
    }
}
