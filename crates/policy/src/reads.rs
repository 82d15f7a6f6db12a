//! Which parts of its input rules can read. The others need not be given to the interpreter: most of an input are children,
//! and the shipped rules read what `norm` says of these.

use std::collections::BTreeSet;

use regorus::Engine;
use regorus::unstable::{Expr, Module};

use crate::tree::{self, Node};

const INPUT: &str = "input";

/// The fields of the input that rules can read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Reads {
    /// It is not known which, or all are wanted.
    All,
    /// These, whichever rules are asked.
    Fields(BTreeSet<String>),
}

impl Reads {
    /// Of all modules of an engine.
    pub(crate) fn of(engine: &mut Engine) -> Self {
        let mut fields = BTreeSet::new();
        let known = engine.get_modules().iter().all(|module| of_module(module, &mut fields));
        if known { Self::Fields(fields) } else { Self::All }
    }

    /// Whether rules can read this field.
    pub(crate) fn has(&self, field: &str) -> bool {
        match self {
            Self::All => true,
            Self::Fields(fields) => fields.contains(field),
        }
    }
}

/// Adds what a module reads; no if it may be anything.
fn of_module(module: &Module, fields: &mut BTreeSet<String>) -> bool {
    let mut known = true;
    let mut read = |field: Option<String>| match field {
        Some(field) => drop(fields.insert(field)),
        None => known = false,
    };
    for import in &module.imports {
        if tree::root(&import.refr) == Some(INPUT) {
            read(selected(&import.refr));
        }
    }
    for rule in &module.policy {
        // `input` as an argument of a call that has been looked at: calls are met before their arguments.
        let mut looked_at: Option<&Expr> = None;
        tree::walk(rule, &mut |node| {
            match node {
                Node::Call(call) => {
                    if let Some((input, field)) = got(call) {
                        looked_at = Some(input);
                        read(Some(field));
                    }
                }
                Node::Reference(reference)
                    if tree::root(reference) == Some(INPUT)
                        && !looked_at.is_some_and(|input| std::ptr::eq(input, reference)) =>
                {
                    read(selected(reference));
                }
                _ => {}
            }
            true
        });
    }
    known
}

/// What a reference selects of the input, if that is written out.
fn selected(reference: &Expr) -> Option<String> {
    tree::static_path(reference).0.into_iter().nth(1)
}

/// `input` and the field of it that `object.get(input, "field", ...)` or `object.get(input, ["field", ...], ...)` asks for.
/// No policy can have a function of its own under that name ([`crate::gate`]).
fn got(call: &Expr) -> Option<(&Expr, String)> {
    let Expr::Call { fcn, params, .. } = call else {
        return None;
    };
    let [input, path, _] = &params[..] else { return None };
    let (function, whole) = tree::static_path(fcn);
    let is_input = matches!(input.as_ref(), Expr::Var { .. }) && tree::root(input) == Some(INPUT);
    if !whole || function != ["object", "get"] || !is_input {
        return None;
    }
    let first = match path.as_ref() {
        Expr::Array { items, .. } => items.first()?.as_ref(),
        one => one,
    };
    match first {
        Expr::String { value, .. } | Expr::RawString { value, .. } => {
            Some((input.as_ref(), value.as_string().ok()?.to_string()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(rule: &str) -> Option<String> {
        let mut engine = Engine::new();
        engine
            .add_policy("x.rego".to_owned(), format!("package x\nimport rego.v1\n{rule}"))
            .unwrap_or_else(|error| panic!("{rule}: {error}"));
        match Reads::of(&mut engine) {
            Reads::All => None,
            Reads::Fields(fields) => Some(fields.into_iter().collect::<Vec<_>>().join(" ")),
        }
    }

    #[test]
    fn fields_are_known_that_are_written_out() {
        for (rule, fields) in [
            ("a := 1", ""),
            ("a := input.norm.x", "norm"),
            ("a if { some x in input[\"norm\"].l; x == input.old }", "norm old"),
            ("import input.children as c\na := c", "children"),
            ("a := object.get(input, [\"object\", \"spec\"], null)", "object"),
            ("a := object.get(input, \"object\", input.old)", "object old"),
            ("f(x) := y if { y := x[input.key] } else := input.norm", "key norm"),
            ("a contains b if { every b in input.l { not b == input.m } }", "l m"),
            ("a := {b: input.c | b := [d | d := input.e[_]]}", "c e"),
            ("default a := 1\na := 2 if input.x else := input.y", "x y"),
        ] {
            assert_eq!(reads(rule).as_deref(), Some(fields), "{rule}");
        }
    }

    #[test]
    fn whatever_takes_the_whole_input_may_read_anything() {
        for rule in [
            "a := input",
            "a := input[b] if b := 1",
            "a contains b if some b in input",
            "a := walk(input)",
            "import input\na := input.x",
            "import input as i\na := i.x",
            "a := object.get(input, array.concat([\"x\"], [\"y\"]), 1)",
            "a := object.get(input, [b], 1) if b := 1",
            "a := object.get(input, [], 1)",
            "a := object.get(input, [\"x\", input], 1)",
            "a := object.get({}, [\"x\"], input)",
            "f(x) := x\na := f(input)",
            "a := {input: 1}",
        ] {
            assert_eq!(reads(rule), None, "{rule}");
        }
    }
}
