//! How large the functions of the language make what they are given.
//!
//! Sizes are those of JSON, so that a list of empty texts has one, and that what is quoted is never smaller than what it
//! was.

use regorus::unstable::{Expr, Ref};

use super::WRITTEN;
use super::size::add;
use crate::tree;

/// Why something grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    Join,
    Insert,
    Escape,
    Loop,
    Patch,
    Multiply,
}

impl How {
    /// In words, and how to write otherwise.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Join => {
                "it joins several of what was joined of several before; use each value once, or cut it first, \
                 substring(x, 0, 100)"
            }
            Self::Insert => {
                "it puts one value into another at many places; write out what is put there, or cut it first, \
                 substring(x, 0, 100)"
            }
            Self::Escape => "each time, what has to be quoted takes several times the room; do it once, at the end",
            Self::Loop => {
                "each turn of its loop repeats what does not change, as the loop that made this did; keep what does not \
                 change out of lists, or cut it first, substring(x, 0, 100)"
            }
            Self::Patch => {
                "operations that copy double it, and operations that are not written out may copy; write out the \
                 operations, or use object.union"
            }
            Self::Multiply => "a product has the digits of both sides; bound the numbers first (x < 1000000)",
        }
    }
}

/// Why a function makes larger what it is given.
pub(super) fn how(name: &str) -> How {
    match name {
        "concat" | "replace" | "regex.replace" => How::Insert,
        "json.marshal" | "split" | "lower" | "upper" | "format_int" | "regex.find_n" => How::Escape,
        "json.patch" => How::Patch,
        _ => How::Join,
    }
}

/// Bytes that a function gives at most; nothing for one that is not known here.
pub(super) fn grown(name: &str, params: &[Ref<Expr>], sizes: &[u64]) -> Option<u64> {
    let size = |place: usize| sizes.get(place).copied().unwrap_or_default();
    let param = |place: usize| params.get(place).map(AsRef::as_ref);
    let times = |bytes: u64, times: u64| bytes.saturating_mul(times);
    let bytes = match name {
        // Nothing yet, yes or no, a number of a few digits, a word.
        "set"
        | "contains"
        | "count"
        | "endswith"
        | "is_array"
        | "is_boolean"
        | "is_null"
        | "is_number"
        | "is_object"
        | "is_set"
        | "is_string"
        | "json.is_valid"
        | "regex.match"
        | "semver.compare"
        | "startswith"
        | "strings.any_prefix_match"
        | "strings.any_suffix_match"
        | "time.clock"
        | "time.date"
        | "time.diff"
        | "time.parse_duration_ns"
        | "time.parse_rfc3339_ns"
        | "time.weekday"
        | "type_name" => WRITTEN,
        // A part of the first, or all of it in another order. A product of a list has at most the digits of the list.
        "abs" | "array.reverse" | "array.slice" | "ceil" | "floor" | "intersection" | "json.unmarshal" | "max"
        | "min" | "object.filter" | "object.keys" | "object.remove" | "object.union_n" | "product" | "round"
        | "sort" | "strings.reverse" | "sum" | "trim" | "trim_left" | "trim_prefix" | "trim_right" | "trim_space"
        | "trim_suffix" | "union" => size(0),
        "object.get" => size(0).max(size(2)),
        "substring" => match param(2) {
            Some(Expr::Number { value, .. }) => {
                // The longest way to write a character in JSON is \u0000.
                let longest = value.as_u64().map_or(u64::MAX, |characters| times(characters, 6));
                size(0).min(longest.max(WRITTEN))
            }
            _ => size(0),
        },
        "array.concat" | "object.union" => add(sizes),
        // A quote, a backslash: two of each. Letters of some languages have cases of three.
        "json.marshal" => times(size(0), 2),
        "lower" | "upper" => times(size(0), 3),
        // A list of single characters ("a",), a number in base 2.
        "split" | "format_int" => times(size(0), 4),
        "regex.find_n" => times(size(1), 4),
        "sprintf" => size(0).saturating_add(times(size(1), format_times(param(0), param(1)))),
        "concat" => concat(param(0), param(1), (size(0), size(1))),
        "replace" => replace(param(1), param(2), (size(0), size(2))),
        // What is put there may name what was found ($0) as often as its length allows.
        "regex.replace" => {
            let put = param(2).and_then(written).unwrap_or(size(2));
            times(size(0), put.saturating_add(1))
        }
        "json.patch" => patch(param(1), add(sizes)),
        _ => return None,
    };
    Some(bytes)
}

/// Length of a text that is written out, as JSON without quotes.
fn written(expr: &Expr) -> Option<u64> {
    match expr {
        Expr::String { value, .. } | Expr::RawString { value, .. } => {
            Some((value.to_string().len() as u64).saturating_sub(2))
        }
        _ => None,
    }
}

/// These give texts.
const TEXTS: &[&str] = &[
    "concat",
    "format_int",
    "json.marshal",
    "lower",
    "regex.replace",
    "replace",
    "sprintf",
    "strings.reverse",
    "substring",
    "trim",
    "trim_left",
    "trim_prefix",
    "trim_right",
    "trim_space",
    "trim_suffix",
    "type_name",
    "upper",
];

/// How many times as large arguments become in a format: texts stay as they are, and within lists they are quoted.
fn format_times(format: Option<&Expr>, arguments: Option<&Expr>) -> u64 {
    let binary = match format {
        Some(Expr::String { value, .. } | Expr::RawString { value, .. }) => value.to_string().contains("%b"),
        _ => true,
    };
    let is_text = |argument: &Expr| match argument {
        Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. } | Expr::Bool { .. } => true,
        Expr::Call { fcn, .. } => TEXTS.contains(&tree::static_path(fcn).0.join(".").as_str()),
        _ => false,
    };
    match arguments {
        _ if binary => 4,
        Some(Expr::Array { items, .. }) if items.iter().all(|item| is_text(item)) => 1,
        _ => 2,
    }
}

/// A list with something between. Each element of a list takes three bytes at least (`"",`), so a separator that is not
/// longer makes no more of it.
fn concat(separator: Option<&Expr>, list: Option<&Expr>, (between, joined): (u64, u64)) -> u64 {
    let between = separator.and_then(written).unwrap_or(between);
    match list {
        Some(Expr::Array { items, .. } | Expr::Set { items, .. }) => {
            joined.saturating_add(between.saturating_mul(items.len() as u64))
        }
        _ => joined.saturating_mul(between.div_ceil(3).max(1)),
    }
}

/// A text with one thing for another, at each place where that is. Nothing (`""`) is at every place.
fn replace(old: Option<&Expr>, new: Option<&Expr>, (text, put): (u64, u64)) -> u64 {
    let put = new.and_then(written).unwrap_or(put);
    match old.and_then(written) {
        None | Some(0) => text.saturating_mul(put.saturating_add(1)),
        Some(taken) => text.saturating_mul(put.div_ceil(taken).max(1)),
    }
}

/// A value with operations. Each one that copies may copy all of it into itself.
fn patch(operations: Option<&Expr>, sum: u64) -> u64 {
    let Some(Expr::Array { items, .. }) = operations else {
        return u64::MAX;
    };
    let kind = |operation: &Expr| match operation {
        Expr::Object { fields, .. } => fields
            .iter()
            .find_map(|(_, key, value)| match (key.as_ref(), value.as_ref()) {
                (Expr::String { value: key, .. }, Expr::String { value: kind, .. }) => {
                    let is_kind = key.as_string().is_ok_and(|key| key.as_ref() == "op");
                    is_kind.then(|| kind.as_string().map(ToString::to_string).unwrap_or_default())
                }
                _ => None,
            }),
        _ => None,
    };
    items
        .iter()
        .fold(sum, |sum, operation| match kind(operation).as_deref() {
            None => u64::MAX,
            Some("copy") => sum.saturating_mul(2),
            Some(_) => sum,
        })
}
