//! The syntax tree of Rego, walked.
//!
//! `regorus` calls the module that shows the tree unstable, so its version is pinned exactly, and nothing else here
//! knows it.

use std::fmt::Write as _;

use regorus::Value;
use regorus::unstable::{Expr, Literal, LiteralStmt, Module, Query, Rule, RuleAssign, RuleBody, RuleHead};

/// What is met on a walk, outer before inner.
#[derive(Clone, Copy)]
pub(crate) enum Node<'a> {
    /// A variable, with whatever is selected of it: `input.spec[name]`. Not visited again in parts.
    Reference(&'a Expr),
    /// A call, of a name such as `json.filter`.
    Call(&'a Expr),
    /// A number.
    Number(&'a Expr),
    /// `=` or `:=`.
    Assign(&'a Expr),
    /// `x in y`, as an expression.
    Membership(&'a Expr),
    /// A statement of a body.
    Statement(&'a LiteralStmt),
}

/// Names of a package, `["database", "security"]`.
pub(crate) fn package(module: &Module) -> Vec<String> {
    static_path(&module.package.refr).0
}

/// First names of the rules of a module.
pub(crate) fn rule_names(module: &Module) -> Vec<String> {
    let name = |rule: &Rule| static_path(head_reference(rule)).0.into_iter().next();
    module.policy.iter().filter_map(|rule| name(rule)).collect()
}

/// What a rule is called, with all that is selected in its head.
pub(crate) fn head_reference(rule: &Rule) -> &Expr {
    match rule {
        Rule::Default { refr, .. } => refr,
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
        },
    }
}

/// Arguments of a function; `None` for other rules.
pub(crate) fn arguments(rule: &Rule) -> Option<Vec<&Expr>> {
    match rule {
        Rule::Spec {
            head: RuleHead::Func { args, .. },
            ..
        } => Some(args.iter().map(AsRef::as_ref).collect()),
        Rule::Default { args, .. } if !args.is_empty() => Some(args.iter().map(AsRef::as_ref).collect()),
        Rule::Spec { .. } | Rule::Default { .. } => None,
    }
}

/// Whether a rule is a partial set, `violations contains v`.
pub(crate) fn is_set(rule: &Rule) -> bool {
    matches!(
        rule,
        Rule::Spec {
            head: RuleHead::Set { .. },
            ..
        }
    )
}

/// Bodies of a rule, each with what it gives if that is not in the head.
pub(crate) fn bodies(rule: &Rule) -> &[RuleBody] {
    match rule {
        Rule::Spec { bodies, .. } => bodies,
        Rule::Default { .. } => &[],
    }
}

/// What a rule gives, in its head: key, value, and what is selected in its name.
pub(crate) fn head_parts(rule: &Rule) -> Vec<&Expr> {
    let mut parts = head_keys(rule);
    parts.extend(head_value(rule));
    let values = bodies(rule).iter().filter_map(|body| body.assign.as_ref());
    parts.extend(values.map(|assign| assign.value.as_ref()));
    parts
}

/// The key of a set, and what is selected in the name of a rule that is no function.
pub(crate) fn head_keys(rule: &Rule) -> Vec<&Expr> {
    let mut keys = Vec::new();
    let Rule::Spec { head, .. } = rule else {
        return keys;
    };
    let (refr, key) = match head {
        RuleHead::Compr { refr, .. } => (Some(refr), None),
        RuleHead::Set { refr, key, .. } => (Some(refr), key.as_ref()),
        RuleHead::Func { .. } => (None, None),
    };
    let mut at = refr.map(AsRef::as_ref);
    while let Some(Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. }) = at {
        if let Some(Expr::RefBrack { index, .. }) = at {
            keys.push(index.as_ref());
        }
        at = Some(refr);
    }
    keys.extend(key.map(AsRef::as_ref));
    keys
}

/// What a rule or function gives where its first body holds, if that is written.
pub(crate) fn head_value(rule: &Rule) -> Option<&Expr> {
    let Rule::Spec { head, .. } = rule else { return None };
    let (RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. }) = head else {
        return None;
    };
    assign.as_ref().map(|assign| assign.value.as_ref())
}

/// The names of a reference as far as they are fixed, and whether that is all of it.
pub(crate) fn static_path(expr: &Expr) -> (Vec<String>, bool) {
    match expr {
        Expr::Var { value, .. } => (vec![text_of(value)], true),
        Expr::RefDot { refr, field, .. } => match static_path(refr) {
            (mut path, true) => {
                path.push(text_of(&field.1));
                (path, true)
            }
            cut => cut,
        },
        Expr::RefBrack { refr, index, .. } => match (static_path(refr), index.as_ref()) {
            ((mut path, true), Expr::String { value, .. } | Expr::RawString { value, .. }) => {
                path.push(text_of(value));
                (path, true)
            }
            ((path, _), _) => (path, false),
        },
        _ => (Vec::new(), false),
    }
}

/// The path of a rule as `regorus` and OPA write it: names that are no words stand in brackets.
pub(crate) fn rule_path(names: &[String]) -> String {
    let is_word = |name: &str| {
        let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        name.bytes().next().is_some_and(letter) && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
    };
    let mut path = String::new();
    for name in names {
        if !is_word(name) {
            let _ = write!(path, "[{}]", Value::from(name.as_str()));
        } else if path.is_empty() {
            path.push_str(name);
        } else {
            let _ = write!(path, ".{name}");
        }
    }
    path
}

/// The variable that a reference begins with.
pub(crate) fn root(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Var { value, .. } => value.as_string().ok().map(AsRef::as_ref),
        Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => root(refr),
        _ => None,
    }
}

fn text_of(value: &Value) -> String {
    value
        .as_string()
        .map_or_else(|_| value.to_string(), std::string::ToString::to_string)
}

/// Walks all of a rule, but what its head is called.
///
/// Where `visit` says no to a statement, that is left out.
pub(crate) fn walk<'a>(rule: &'a Rule, visit: &mut impl FnMut(Node<'a>) -> bool) {
    match rule {
        Rule::Default { args, value, .. } => {
            for expr in args.iter().chain([value]) {
                walk_expr(expr, visit);
            }
        }
        Rule::Spec { head, bodies, .. } => {
            walk_head(head, visit);
            for body in bodies {
                walk_assign(body.assign.as_ref(), visit);
                walk_query(&body.query, visit);
            }
        }
    }
}

fn walk_head<'a>(head: &'a RuleHead, visit: &mut impl FnMut(Node<'a>) -> bool) {
    match head {
        RuleHead::Compr { refr, assign, .. } => {
            walk_selected(refr, visit);
            walk_assign(assign.as_ref(), visit);
        }
        RuleHead::Set { refr, key, .. } => {
            walk_selected(refr, visit);
            if let Some(key) = key {
                walk_expr(key, visit);
            }
        }
        RuleHead::Func { args, assign, .. } => {
            for expr in args {
                walk_expr(expr, visit);
            }
            walk_assign(assign.as_ref(), visit);
        }
    }
}

fn walk_assign<'a>(assign: Option<&'a RuleAssign>, visit: &mut impl FnMut(Node<'a>) -> bool) {
    if let Some(assign) = assign {
        walk_expr(&assign.value, visit);
    }
}

/// Walks all of a body.
pub(crate) fn walk_query<'a>(query: &'a Query, visit: &mut impl FnMut(Node<'a>) -> bool) {
    for statement in &query.stmts {
        if !visit(Node::Statement(statement)) {
            continue;
        }
        match &statement.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn {
                key, value, collection, ..
            } => {
                for expr in key.iter().chain([value, collection]) {
                    walk_expr(expr, visit);
                }
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => walk_expr(expr, visit),
            Literal::Every { domain, query, .. } => {
                walk_expr(domain, visit);
                walk_query(query, visit);
            }
        }
        for with in &statement.with_mods {
            walk_expr(&with.refr, visit);
            walk_expr(&with.r#as, visit);
        }
    }
}

/// Walks what stands in the brackets of a reference.
fn walk_selected<'a>(reference: &'a Expr, visit: &mut impl FnMut(Node<'a>) -> bool) {
    match reference {
        Expr::RefDot { refr, .. } => walk_selected(refr, visit),
        Expr::RefBrack { refr, index, .. } => {
            walk_selected(refr, visit);
            walk_expr(index, visit);
        }
        Expr::Var { .. } => {}
        other => walk_expr(other, visit),
    }
}

/// Walks an expression.
pub(crate) fn walk_expr<'a>(expr: &'a Expr, visit: &mut impl FnMut(Node<'a>) -> bool) {
    let mut each = |inner: &[&'a Expr]| inner.iter().for_each(|inner| walk_expr(inner, visit));
    match expr {
        Expr::Bool { .. } | Expr::Null { .. } | Expr::String { .. } | Expr::RawString { .. } => {}
        Expr::Number { .. } => drop(visit(Node::Number(expr))),
        Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
            visit(Node::Reference(expr));
            walk_selected(expr, visit);
        }
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().for_each(|item| walk_expr(item, visit)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, key, value)| each(&[key, value])),
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
            walk_expr(term, visit);
            walk_query(query, visit);
        }
        Expr::ObjectCompr { key, value, query, .. } => {
            each(&[key, value]);
            walk_query(query, visit);
        }
        Expr::Call { params, .. } => {
            visit(Node::Call(expr));
            for inner in params {
                walk_expr(inner, visit);
            }
        }
        Expr::UnaryExpr { expr, .. } => walk_expr(expr, visit),
        Expr::BinExpr { lhs, rhs, .. } | Expr::BoolExpr { lhs, rhs, .. } | Expr::ArithExpr { lhs, rhs, .. } => {
            each(&[lhs, rhs]);
        }
        Expr::AssignExpr { lhs, rhs, .. } => {
            visit(Node::Assign(expr));
            walk_expr(lhs, visit);
            walk_expr(rhs, visit);
        }
        Expr::Membership {
            key, value, collection, ..
        } => {
            visit(Node::Membership(expr));
            for inner in key.iter().chain([value, collection]) {
                walk_expr(inner, visit);
            }
        }
    }
}
