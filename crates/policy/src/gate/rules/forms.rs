//! Forms that `regorus` reads otherwise than OPA where a part is absent, and so would allow what OPA denies, or the other
//! way round. Each has another form that both read alike; `tests/corpus/safe-forms.yaml` has them.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{AssignOp, BoolOp, Expr, Literal, LiteralStmt, Query, Rule, RuleHead};

use crate::tree::{self, Node};

/// A line, and what is wrong there.
type Problem = (u32, String);

/// What is wrong with the forms of a rule.
pub(super) fn check(rule: &Rule, locals: &BTreeSet<String>, imports: &BTreeMap<String, Vec<String>>) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(head(rule, locals));
    problems.extend(before_else(rule, locals));
    problems.extend(hiding(rule, locals, imports));
    problems.extend(unused(rule));
    for argument in tree::arguments(rule).into_iter().flatten() {
        problems.extend(object_pattern(argument));
    }
    tree::walk(rule, &mut |node| {
        match node {
            Node::Statement(statement) => problems.extend(of_statement(statement, locals)),
            Node::Membership(Expr::Membership {
                value,
                collection,
                span,
                ..
            }) => {
                if ![value, collection].iter().all(|side| is_bound(side, locals)) {
                    let words =
                        "`in` is false, not undefined, if a side is absent; bind both sides first (x := input.x)";
                    problems.push((span.line, words.to_owned()));
                }
            }
            Node::Assign(Expr::AssignExpr { lhs, rhs, op, .. }) => {
                problems.extend(object_pattern(lhs));
                if *op == AssignOp::Eq {
                    problems.extend(object_pattern(rhs));
                }
            }
            Node::Assign(_) | Node::Membership(_) | Node::Reference(_) | Node::Call(_) | Node::Number(_) => {}
        }
        true
    });
    for body in tree::bodies(rule) {
        problems.extend(used_before(&body.query));
    }
    problems
}

/// Whether an expression always has a value once the body holds: variables with a value, literals, and what is made of
/// these by the language itself.
fn is_bound(expr: &Expr, locals: &BTreeSet<String>) -> bool {
    let all = |inner: &[regorus::unstable::Ref<Expr>]| inner.iter().all(|inner| is_bound(inner, locals));
    match expr {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::ArrayCompr { .. }
        | Expr::SetCompr { .. }
        | Expr::ObjectCompr { .. } => true,
        Expr::Var { .. } => tree::root(expr).is_some_and(|name| name == "input" || locals.contains(name)),
        Expr::Array { items, .. } | Expr::Set { items, .. } => all(items),
        Expr::Object { fields, .. } => fields
            .iter()
            .all(|(_, key, value)| is_bound(key, locals) && is_bound(value, locals)),
        Expr::UnaryExpr { expr, .. } => is_bound(expr, locals),
        Expr::BinExpr { lhs, rhs, .. } | Expr::BoolExpr { lhs, rhs, .. } | Expr::ArithExpr { lhs, rhs, .. } => {
            is_bound(lhs, locals) && is_bound(rhs, locals)
        }
        Expr::Membership { value, collection, .. } => is_bound(value, locals) && is_bound(collection, locals),
        // What the language does not define is an error, not absent.
        Expr::Call { fcn, params, .. } => is_builtin(fcn) && all(params),
        Expr::RefDot { .. } | Expr::RefBrack { .. } | Expr::AssignExpr { .. } => false,
    }
}

fn is_builtin(function: &Expr) -> bool {
    regorus::unstable::BUILTINS.contains_key(tree::static_path(function).0.join(".").as_str())
}

/// If a part of the head is absent for the last element, `regorus` loses all elements of the rule.
fn head(rule: &Rule, locals: &BTreeSet<String>) -> Option<Problem> {
    let gathers = match rule {
        Rule::Spec {
            head: RuleHead::Set { .. },
            ..
        } => true,
        Rule::Spec {
            head: RuleHead::Compr { refr, .. },
            ..
        } => matches!(refr.as_ref(), Expr::RefBrack { .. }),
        _ => false,
    };
    if !gathers && !tree::bodies(rule).iter().any(|body| iterates(&body.query, rule)) {
        return None;
    }
    let part = tree::head_parts(rule)
        .into_iter()
        .find(|part| !is_bound(part, locals))?;
    let words = "what stands in the head may be absent, and then all elements of this rule could be lost; bind it in the \
                 body (`contains v if {...; v := ...}`)";
    Some((part.span().line, words.to_owned()))
}

/// Where the value before an `else` is absent, OPA goes on to the `else`, and `regorus` ends without a value.
fn before_else(rule: &Rule, locals: &BTreeSet<String>) -> Vec<Problem> {
    let Some((_, followed)) = tree::bodies(rule).split_last() else {
        return Vec::new();
    };
    let own = followed.iter().skip(1).filter_map(|body| body.assign.as_ref());
    let values = (!followed.is_empty())
        .then(|| tree::head_value(rule))
        .flatten()
        .into_iter();
    let absent = values
        .chain(own.map(|assign| assign.value.as_ref()))
        .filter(|value| !is_bound(value, locals));
    let words = "the value before an `else` may be absent, and then the `else` would not be asked; bind it in the body \
                 (`f(x) := y if { y := x.a } else := ...`)";
    absent.map(|value| (value.span().line, words.to_owned())).collect()
}

/// Whether a body holds for several values.
fn iterates(query: &Query, rule: &Rule) -> bool {
    let mut fixed: BTreeSet<String> = BTreeSet::new();
    for argument in tree::arguments(rule).into_iter().flatten() {
        fixed.extend(tree::root(argument).map(str::to_owned));
    }
    for statement in &query.stmts {
        if let Literal::Expr { expr, .. } = &statement.literal
            && let Expr::AssignExpr {
                op: AssignOp::ColEq,
                lhs,
                ..
            } = expr.as_ref()
        {
            fixed.extend(tree::root(lhs).map(str::to_owned));
        }
    }
    query.stmts.iter().any(|statement| match &statement.literal {
        Literal::SomeVars { .. } | Literal::SomeIn { .. } => true,
        Literal::Expr { expr, .. } => selects_all(expr, &fixed),
        Literal::NotExpr { .. } | Literal::Every { .. } => false,
    })
}

/// Whether a reference in an expression takes each key in turn.
fn selects_all(expr: &Expr, fixed: &BTreeSet<String>) -> bool {
    match expr {
        Expr::RefDot { refr, .. } => selects_all(refr, fixed),
        Expr::RefBrack { refr, index, .. } => {
            let turns = matches!(index.as_ref(), Expr::Var { .. })
                && tree::root(index).is_some_and(|name| !fixed.contains(name));
            turns || selects_all(refr, fixed)
        }
        Expr::AssignExpr { lhs, rhs, .. } | Expr::BoolExpr { lhs, rhs, .. } | Expr::ArithExpr { lhs, rhs, .. } => {
            selects_all(lhs, fixed) || selects_all(rhs, fixed)
        }
        Expr::Call { params, .. } => params.iter().any(|inner| selects_all(inner, fixed)),
        _ => false,
    }
}

fn of_statement(statement: &LiteralStmt, locals: &BTreeSet<String>) -> Vec<Problem> {
    match &statement.literal {
        Literal::NotExpr { expr, .. } => not(expr, locals).into_iter().collect(),
        Literal::SomeIn { key, value, .. } => key
            .iter()
            .chain([value])
            .filter_map(|pattern| object_pattern(pattern))
            .collect(),
        Literal::Expr { .. } | Literal::SomeVars { .. } | Literal::Every { .. } => Vec::new(),
    }
}

/// Under `not`, an absent part of a call or comparison makes the whole true in `regorus`, and undefined in OPA.
fn not(expr: &Expr, locals: &BTreeSet<String>) -> Option<Problem> {
    let safe = match expr {
        Expr::BoolExpr {
            op: BoolOp::Eq,
            lhs,
            rhs,
            ..
        } => (is_whole(lhs, locals) && is_bound(rhs, locals)) || (is_bound(lhs, locals) && is_whole(rhs, locals)),
        Expr::Call { params, .. } => params.iter().all(|param| is_bound(param, locals)),
        other => is_whole(other, locals) || is_bound(other, locals),
    };
    let words = "under `not`, an absent part makes this true; bind what may be absent first (x := input.x; not f(x))";
    (!safe).then(|| (expr.span().line, words.to_owned()))
}

/// A reference whose keys all have a value.
fn is_whole(expr: &Expr, locals: &BTreeSet<String>) -> bool {
    match expr {
        Expr::Var { .. } => tree::root(expr) != Some("_"),
        Expr::RefDot { refr, .. } => is_whole(refr, locals),
        Expr::RefBrack { refr, index, .. } => is_whole(refr, locals) && is_bound(index, locals),
        _ => false,
    }
}

/// An object as a pattern fits objects with more keys in `regorus`.
fn object_pattern(pattern: &Expr) -> Option<Problem> {
    match pattern {
        Expr::Object { span, .. } => {
            let words = "an object as a pattern fits other objects in other engines; read its fields by name";
            Some((span.line, words.to_owned()))
        }
        Expr::Array { items, .. } => items.iter().find_map(|item| object_pattern(item)),
        _ => None,
    }
}

/// Names that hide what every reader takes for something else.
fn hiding(rule: &Rule, locals: &BTreeSet<String>, imports: &BTreeMap<String, Vec<String>>) -> Option<Problem> {
    let hidden = locals
        .iter()
        .find(|name| *name == "input" || *name == "data" || imports.contains_key(*name))?;
    Some((
        rule.span().line,
        format!("the variable {hidden} hides what it is the name of; call it otherwise"),
    ))
}

/// Variables that are declared and not used: whoever wrote it meant to ask for something.
fn unused(rule: &Rule) -> Vec<Problem> {
    let (mut declared, mut used) = (Vec::new(), BTreeSet::new());
    tree::walk(rule, &mut |node| {
        match node {
            Node::Reference(expr) => used.extend(tree::root(expr)),
            Node::Statement(statement) => match &statement.literal {
                Literal::SomeVars { vars, .. } => declared.extend(vars),
                Literal::Every { key, value, .. } => declared.extend(key.iter().chain([value])),
                Literal::SomeIn { .. } | Literal::Expr { .. } | Literal::NotExpr { .. } => {}
            },
            _ => {}
        }
        true
    });
    let of_head = tree::root(tree::head_reference(rule));
    declared
        .into_iter()
        .filter(|span| span.text() != "_" && !used.contains(span.text()) && of_head != Some(span.text()))
        .map(|span| {
            (
                span.line,
                format!("the variable {} is declared and not used", span.text()),
            )
        })
        .collect()
}

/// `some x in y` after a statement that uses x.
fn used_before(query: &Query) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (place, statement) in query.stmts.iter().enumerate() {
        let Literal::SomeIn { value, .. } = &statement.literal else {
            continue;
        };
        let Some(name) = tree::root(value).filter(|name| *name != "_") else {
            continue;
        };
        let before = query.stmts[..place].iter().any(|earlier| match &earlier.literal {
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => {
                let mut found = false;
                tree::walk_expr(expr, &mut |node| {
                    found |= matches!(node, Node::Reference(expr) if tree::root(expr) == Some(name));
                    true
                });
                found
            }
            Literal::SomeIn { .. } | Literal::SomeVars { .. } | Literal::Every { .. } => false,
        });
        if before {
            problems.push((
                statement.span.line,
                format!("the variable {name} is used before it has a value"),
            ));
        }
    }
    problems
}
