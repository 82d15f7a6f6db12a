//! `password=x`, `"password": "x"`, `password: x` and `--password x` inside a text.

use std::ops::Range;

use super::MASK;
use super::copies::remember;
use super::names::is_secret;

/// Masks the values of assignments whose name announces a secret.
pub(super) fn assignments(text: &str, secrets: &mut Vec<String>) -> Option<String> {
    let mut clean = String::new();
    let mut copied = 0;
    let is_manifest = holds_secret_object(text);
    for (at, separator) in text.bytes().enumerate() {
        if at < copied || !matches!(separator, b'=' | b':' | b' ') {
            continue;
        }
        let Some(value) = secret_value(text, at, separator, is_manifest) else {
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
fn secret_value(text: &str, at: usize, separator: u8, is_manifest: bool) -> Option<Range<usize>> {
    let name = name_before(text, at)?;
    let is_flag = text[name.range.clone()].starts_with('-');
    match separator {
        // `--password x`, but not `- password x` in a list.
        b' ' if name.quoted => return None,
        b' ' if !is_flag => return spaced_value(text, at, &name.range),
        // A colon in prose separates a value only if that looks like none of the words: at the beginning of a line, or
        // beside a quote, anything may follow.
        b':' if !(name.quoted || begins_line(text, name.range.start) || quote_before(text, name.range.start)) => {
            let value = word_after(text, at)?;
            return (looks_chosen(&text[value.clone()]) && is_secret(&text[name.range])).then_some(value);
        }
        b':' if text[at..].starts_with("://") => return None,
        _ => {}
    }
    let is_data = is_manifest && matches!(&text[name.range.clone()], "data" | "stringData");
    if !is_data && !is_secret(&text[name.range.clone()]) {
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

/// Whether it is the text of a Secret, in YAML or in JSON that cannot be read.
fn holds_secret_object(text: &str) -> bool {
    text.match_indices("Secret").any(|(at, _)| {
        let before = text[..at].trim_end_matches([' ', '"', '\'', '\\']);
        before.ends_with(':') && before.trim_end_matches([':', ' ', '"', '\'', '\\']).ends_with("kind")
    })
}

/// `requirepass x`, `PASSWORD 'x'`, `IDENTIFIED BY 'x'`, and a line of its own such as `password x1`.
fn spaced_value(text: &str, at: usize, name: &Range<usize>) -> Option<Range<usize>> {
    let word = &text[name.clone()];
    if text[at + 1..].starts_with('\'') {
        let identified = || {
            let before = text[..name.start].trim_end();
            word.eq_ignore_ascii_case("by")
                && before.len() >= 10
                && before
                    .get(before.len() - 10..)
                    .is_some_and(|it| it.eq_ignore_ascii_case("identified"))
        };
        return (is_secret(word) || identified())
            .then(|| quoted_value(text, at + 1))
            .flatten();
    }
    let value = || word_after(text, at).filter(|value| looks_chosen(&text[value.clone()]));
    if REDIS.iter().any(|directive| word.eq_ignore_ascii_case(directive)) {
        return word_after(text, at);
    }
    let rest_of_line = text[at..].lines().next().unwrap_or_default().trim();
    if begins_line(text, name.start) && !rest_of_line.contains(' ') && is_secret(word) {
        return value();
    }
    None
}

/// Directives of Redis whose value is a password.
const REDIS: [&str; 3] = ["requirepass", "masterauth", "primaryauth"];

/// The word after a separator, on the same line and without the punctuation that ends it.
fn word_after(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = &text[at + 1..];
    let start = at + 1 + (rest.len() - rest.trim_start_matches([' ', '\t']).len());
    let word = text[start..].split(char::is_whitespace).next().unwrap_or_default();
    let word = word.trim_end_matches(['.', ',', ';', ':', ')', '"', '\'']);
    (!word.is_empty()).then_some(start..start + word.len())
}

/// Words of prose have no digits.
fn looks_chosen(word: &str) -> bool {
    word.len() >= 4 && word.contains(|c: char| c.is_ascii_digit())
}

/// Secrets on command lines: `mysql -px`, `curl -u a:x`, `redis-cli -a x`; and `>x` in the ACL of a Redis user.
pub(super) fn flags(text: &str, secrets: &mut Vec<String>) -> Option<String> {
    if !text.contains(" -") && !text.contains(" >") && !text.starts_with('-') {
        return None;
    }
    let (is_mysql, is_redis) = (
        text.contains("mysql") || text.contains("mariadb"),
        text.contains("redis-cli"),
    );
    let is_acl = text.contains("user ");
    let mut clean = String::new();
    let mut before = "";
    let mut found = false;
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        let pair = |value: &str| {
            let is_pair =
                |(user, password): (&str, &str)| !user.is_empty() && password.contains(|c: char| !c.is_ascii_digit());
            value.split_once(':').is_some_and(is_pair) && !value.contains("://")
        };
        let shown = if (matches!(before, "-u" | "--user") && pair(bare)) || (is_redis && before == "-a") {
            0
        } else if bare.strip_prefix("--user=").is_some_and(pair) {
            "--user=".len()
        } else if is_mysql && bare.starts_with("-p") {
            "-p".len()
        } else if is_acl && bare.starts_with('>') {
            1
        } else {
            bare.len()
        };
        let secret = &bare[shown..];
        if secret.is_empty() || secret.starts_with(MASK) {
            clean.push_str(word);
        } else {
            found = true;
            remember(secrets, secret);
            clean.push_str(&bare[..shown]);
            clean.push_str(MASK);
            clean.push_str(&word[bare.len()..]);
        }
        before = bare;
    }
    found.then_some(clean)
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
