//! Calls: which functions policies may call, and with what.

use std::collections::BTreeMap;

use regorus::unstable::{BUILTINS, Expr, Ref};

use super::{Known, names};
use crate::tree;

/// Functions of the language that policies may call. Not among them: what reaches the network, the clock, chance or the
/// process; `numbers.range`, whose result has no bound; and `units.*`, which read quantities otherwise than Kubernetes.
pub(super) const FUNCTIONS: &[&str] = &[
    "abs",
    "array.concat",
    "array.reverse",
    "array.slice",
    "ceil",
    "concat",
    "contains",
    "count",
    "endswith",
    "floor",
    "format_int",
    "intersection",
    "is_array",
    "is_boolean",
    "is_null",
    "is_number",
    "is_object",
    "is_set",
    "is_string",
    "json.is_valid",
    "json.marshal",
    "json.patch",
    "json.unmarshal",
    "lower",
    "max",
    "min",
    "object.filter",
    "object.get",
    "object.keys",
    "object.remove",
    "object.union",
    "object.union_n",
    "product",
    "regex.find_n",
    "regex.match",
    "regex.replace",
    "replace",
    "round",
    "semver.compare",
    "sort",
    "split",
    "sprintf",
    "startswith",
    "strings.any_prefix_match",
    "strings.any_suffix_match",
    "strings.reverse",
    "substring",
    "sum",
    "time.clock",
    "time.date",
    "time.diff",
    "time.parse_duration_ns",
    "time.parse_rfc3339_ns",
    "time.weekday",
    "trim",
    "trim_left",
    "trim_prefix",
    "trim_right",
    "trim_space",
    "trim_suffix",
    "type_name",
    "union",
    "upper",
];
/// These take a pattern in this place.
const PATTERNS: &[(&str, usize)] = &[("regex.find_n", 0), ("regex.match", 0), ("regex.replace", 1)];

/// The rules that a call asks, and what is wrong with it.
pub(super) fn check(
    expr: &Expr,
    rule: &Known<'_>,
    known: &[Known<'_>],
    index: &names::Index<'_>,
    imports: &BTreeMap<String, Vec<String>>,
) -> (Vec<usize>, Option<String>) {
    let Expr::Call { fcn, params, .. } = expr else {
        return (Vec::new(), None);
    };
    let (written, whole) = tree::static_path(fcn);
    let name = written.join(".");
    let given = params.len();
    if !whole {
        return (Vec::new(), Some("calls a function whose name is computed".to_owned()));
    }
    if let Some(path) = index.function_path(&written, rule, imports) {
        let found = index.at(&path);
        let takes = found.iter().find_map(|rule| known[*rule].arguments);
        let problem = match takes {
            None if found.is_empty() => Some(format!("calls {name}, which there is not")),
            None => Some(format!("calls {name}, which is no function")),
            Some(takes) if takes != given => Some(format!("calls {name} with {given} arguments, but it takes {takes}")),
            Some(_) => None,
        };
        return (found, problem);
    }
    (Vec::new(), builtin(&name, params, rule.is_test()))
}

/// What is wrong with a call of a function of the language.
fn builtin(name: &str, params: &[Ref<Expr>], is_test: bool) -> Option<String> {
    let given = params.len();
    if name == "set" && given == 0 || name == "print" && is_test {
        return None;
    }
    let Some((_, takes)) = BUILTINS.get(name) else {
        return Some(format!("calls {name}, which there is not"));
    };
    if !FUNCTIONS.contains(&name) {
        return Some(format!("calls {name}, which policies may not"));
    }
    let takes = usize::from(*takes);
    if given != takes {
        return Some(format!("calls {name} with {given} arguments, but it takes {takes}"));
    }
    if name == "sprintf" && !is_test {
        return format(params.first()?);
    }
    let (_, place) = PATTERNS.iter().find(|(function, _)| *function == name)?;
    match params.get(*place).map(AsRef::as_ref) {
        Some(Expr::String { value, .. } | Expr::RawString { value, .. }) => {
            let text = value.as_string().map(ToString::to_string).unwrap_or_default();
            pattern(&text)
        }
        _ => Some(format!("calls {name} with a pattern that is not written out")),
    }
}

/// What is wrong with a format: a width is memory, as much as it says.
fn format(format: &Expr) -> Option<String> {
    let (Expr::String { value, .. } | Expr::RawString { value, .. }) = format else {
        return Some("calls sprintf with a format that is not written out; write sprintf(\"%v\", [x])".to_owned());
    };
    let text = value.as_string().map(ToString::to_string).unwrap_or_default();
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once('%') {
        let verb = after
            .chars()
            .next()
            .filter(|char| char.is_ascii_alphabetic() || *char == '%');
        let Some(verb) = verb else {
            return Some(format!(
                "the format {text:?} has a width, flag or place after %; write %v, %s or %d, and %% for the sign"
            ));
        };
        rest = &after[verb.len_utf8()..];
    }
    None
}

/// Engines differ on what these hold (`٣` is a digit to one of them).
const UNLIKE: &[&str] = &[
    "\\d", "\\D", "\\w", "\\W", "\\s", "\\S", "\\b", "\\B", "\\p", "\\P", "[[", "&&", "--", "~~",
];

/// What engines would read differently in a pattern.
fn pattern(text: &str) -> Option<String> {
    let flag = text.match_indices("(?").any(|(at, _)| !text[at..].starts_with("(?:"));
    let found = UNLIKE
        .iter()
        .copied()
        .find(|unlike| text.contains(unlike))
        .or(flag.then_some("(?"))?;
    Some(format!(
        "the pattern {text:?} has {found}, which engines read differently; write ranges such as [0-9]"
    ))
}
