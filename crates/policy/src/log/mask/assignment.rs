//! `password=x`, `"password": "x"`, `password: x` and `--password x` inside a text.

use std::ops::Range;

use super::MASK;
use super::copies::remember;
use super::names::is_secret;

/// Masks the values of assignments whose name announces a secret.
pub(super) fn assignments(text: &str, secrets: &mut Vec<String>) -> Option<String> {
    let mut clean = String::new();
    let mut copied = 0;
    for (at, separator) in text.bytes().enumerate() {
        if at < copied || !matches!(separator, b'=' | b':' | b' ') {
            continue;
        }
        let Some(value) = secret_value(text, at, separator) else {
            continue;
        };
        if value.start < copied || value.is_empty() || text[value.clone()].starts_with(MASK) {
            continue;
        }
        remember(secrets, text[value.clone()].trim());
        clean.push_str(&text[copied..value.start]);
        clean.push_str(MASK);
        copied = value.end;
    }
    (copied > 0).then(|| clean + &text[copied..])
}

/// The value that belongs to the separator at this place, if the name before it announces a secret.
fn secret_value(text: &str, at: usize, separator: u8) -> Option<Range<usize>> {
    let name = name_before(text, at)?;
    let is_flag = text[name.range.clone()].starts_with('-');
    match separator {
        // `--password x`, but not `- password x` in a list.
        b' ' if !is_flag || name.quoted => return None,
        // A colon in prose separates no value: only at the beginning of a line, or beside a quote.
        b':' if !(name.quoted || begins_line(text, name.range.start) || quote_before(text, name.range.start)) => {
            return None;
        }
        b':' if text[at..].starts_with("://") => return None,
        _ => {}
    }
    if !is_secret(&text[name.range.clone()]) {
        return None;
    }
    let start = at + 1 + text[at + 1..].find(|c: char| !matches!(c, ' ' | '\t' | '=' | '>'))?;
    if let Some(quoted) = quoted_value(text, start) {
        return Some(quoted);
    }
    match separator {
        b':' => Some(start..block_end(text, name.range.start, start)),
        _ => Some(start..word_end(text, start)),
    }
}

struct Name {
    range: Range<usize>,
    quoted: bool,
}

/// The name that ends before the separator: quotes (also escaped ones) and spaces may stand between.
fn name_before(text: &str, at: usize) -> Option<Name> {
    let before = text[..at].trim_end_matches([' ', '\t', ':']);
    let unquoted = before.trim_end_matches(['"', '\'', '`', '\\']);
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let start = unquoted.rfind(|c| !is_part(c)).map_or(0, |last| {
        last + unquoted[last..].chars().next().map_or(1, char::len_utf8)
    });
    (start < unquoted.len()).then_some(Name {
        range: start..unquoted.len(),
        quoted: unquoted.len() < before.len(),
    })
}

fn begins_line(text: &str, start: usize) -> bool {
    let line = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    text[line..start]
        .chars()
        .all(|c| c.is_whitespace() || matches!(c, '-' | '#' | '{'))
}

fn quote_before(text: &str, start: usize) -> bool {
    text[..start].ends_with(['"', '\'', '`'])
}

/// The inside of a quoted value. It ends at a quote that is escaped as often as the one that began it, or less.
fn quoted_value(text: &str, start: usize) -> Option<Range<usize>> {
    let rest = &text[start..];
    let escapes = rest.len() - rest.trim_start_matches('\\').len();
    let quote = rest[escapes..]
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let inside = start + escapes + 1;
    let mut backslashes = 0;
    for (offset, character) in text[inside..].char_indices() {
        if character == quote && backslashes <= escapes {
            return Some(inside..inside + offset - backslashes);
        }
        backslashes = if character == '\\' { backslashes + 1 } else { 0 };
    }
    Some(inside..text.len())
}

/// To the next space that is not escaped: a password may hold any other character.
fn word_end(text: &str, start: usize) -> usize {
    let mut escaped = false;
    for (offset, character) in text[start..].char_indices() {
        if character.is_whitespace() && !escaped {
            return start + offset;
        }
        escaped = character == '\\' && !escaped;
    }
    text.len()
}

/// To the end of the line, and of the lines below it that are indented more deeply than the one with the name.
fn block_end(text: &str, name: usize, start: usize) -> usize {
    let line = text[..name].rfind('\n').map_or(0, |newline| newline + 1);
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let own = indent(&text[line..]);
    let newline_at = |from: usize| text[from..].find('\n').map_or(text.len(), |newline| from + newline);
    // An empty value: its line ends before the place where a value was found.
    let mut end = newline_at(start.min(text.len()));
    while end < text.len() {
        let next = &text[end + 1..];
        let next_line = next.lines().next().unwrap_or_default();
        if !next_line.trim().is_empty() && indent(next_line) <= own {
            break;
        }
        if next_line.trim().is_empty() && next.trim().is_empty() {
            break;
        }
        end = newline_at(end + 1);
    }
    end
}
