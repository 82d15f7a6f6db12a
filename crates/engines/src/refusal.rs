//! What an engine that did not start said about it.

use api::database::Engine;

/// Begins a line of our own scripts that tells a person why a start was refused.
const SCRIPT_REFUSED: &str = "refused: ";

/// Longest answer, in characters: a condition's message stays readable.
const LONGEST: usize = 600;

/// The complaint in the last log lines of a container that failed (its termination message under
/// `terminationMessagePolicy: FallbackToLogsOnError`): the engine's own words about a parameter or about the data, or
/// our scripts'. `None` if there is none: a container that was killed, or that lost its network, said nothing of use.
///
/// What comes back may repeat values of parameters: [`mask`] it before anybody sees it.
pub fn refusal(engine: Engine, termination_message: &str) -> Option<String> {
    let lines: Vec<&str> = termination_message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let script = lines
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix(SCRIPT_REFUSED))
        .map(str::to_owned);
    let said = script.or_else(|| match engine {
        Engine::Postgresql => postgresql(&lines),
        Engine::Redis => redis(&lines),
        Engine::Mysql => mysql(&lines),
        Engine::Mongodb => mongodb(&lines),
    })?;
    let mut characters = said.chars();
    let shown: String = characters.by_ref().take(LONGEST).collect();
    Some(if characters.next().is_some() {
        format!("{shown}…")
    } else {
        shown
    })
}

/// `text` with every occurrence of a secret replaced.
///
/// A secret of fewer than 4 characters is found in much that is not secret, and replacing it there would tell what it
/// is: a line that contains one is hidden whole.
pub fn mask(text: &str, secrets: &[&str]) -> String {
    const MASK: &str = "(hidden)";
    /// Secrets shorter than this hide the line in which they occur.
    const SHORT: usize = 4;
    let mut long: Vec<&str> = secrets
        .iter()
        .copied()
        .filter(|secret| secret.chars().count() >= SHORT)
        .collect();
    // The longest first: replacing a part of a longer secret would leave the rest of it.
    long.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    let is_short = |secret: &&&str| !secret.is_empty() && secret.chars().count() < SHORT;
    let short: Vec<&str> = secrets.iter().filter(is_short).copied().collect();
    let mut masked = text.to_owned();
    for secret in long {
        masked = masked.replace(secret, MASK);
        // An engine may repeat its file's line, in which the value is quoted.
        for form in crate::render::quoted_forms(secret) {
            masked = masked.replace(&form, MASK);
        }
    }
    let lines = masked.split('\n').map(|line| {
        if short.iter().any(|secret| line.contains(secret)) {
            MASK
        } else {
            line
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A start ends with a FATAL or PANIC line; what led to it stands before it as LOG lines about parameters. A FATAL that is
/// not at the end was the end of one client's session.
fn postgresql(lines: &[&str]) -> Option<String> {
    let message = |line: &str, severity: &str| {
        line.split_once(&format!("{severity}:  "))
            .map(|(_, message)| message.trim().to_owned())
    };
    let severe = |line: &str| ["FATAL", "PANIC"].iter().find_map(|severity| message(line, severity));
    // Before it can log, it writes a line under its own name.
    if let Some(text) = lines.last().and_then(|line| line.strip_prefix("postgres: ")) {
        return Some(text.to_owned());
    }
    let last = lines.iter().rposition(|line| severe(line).is_some())?;
    let follows = |line: &str| {
        ["HINT", "DETAIL"]
            .iter()
            .any(|severity| message(line, severity).is_some())
            || message(line, "LOG").is_some_and(|text| text == "database system is shut down")
    };
    if !lines[last + 1..].iter().all(|line| follows(line)) {
        return None;
    }
    let about = [
        "parameter",
        "syntax error",
        "configuration file",
        "could not open",
        "could not load",
        "invalid",
    ];
    let causes = lines[..last]
        .iter()
        .filter_map(|line| message(line, "LOG"))
        .filter(|text| about.iter().any(|word| text.contains(word)));
    let advice = lines[last + 1..]
        .iter()
        .filter_map(|line| message(line, "DETAIL").or_else(|| message(line, "HINT")));
    Some(
        causes
            .chain(severe(lines[last]))
            .chain(advice)
            .collect::<Vec<_>>()
            .join("; "),
    )
}

/// The block after `*** FATAL CONFIG FILE ERROR`, or the line with which a start ended.
fn redis(lines: &[&str]) -> Option<String> {
    if let Some(start) = lines
        .iter()
        .rposition(|line| line.starts_with("*** FATAL CONFIG FILE ERROR"))
    {
        return Some(lines[start + 1..].iter().take(4).copied().collect::<Vec<_>>().join(" "));
    }
    let last = lines.last()?;
    // `1:M 25 Nov 2026 17:15:54.655 # Fatal error, ...`: what stands after the level mark.
    let text = last.split_once(" # ").map(|(_, text)| text)?;
    let words = ["fatal", "can't", "could not", "bad file format", "failed", "error"];
    words
        .iter()
        .any(|word| text.to_lowercase().contains(word))
        .then(|| text.to_owned())
}

/// Lines of level `[ERROR]`; the generic `Aborting` says nothing.
fn mysql(lines: &[&str]) -> Option<String> {
    let errors: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split_once("[ERROR] "))
        .map(|(_, text)| text.trim())
        .filter(|text| !text.ends_with("Aborting"))
        .collect();
    (!errors.is_empty()).then(|| errors.join("; "))
}

/// Structured lines of severity `F` or `E`, or the plain line with which the option parser refuses.
fn mongodb(lines: &[&str]) -> Option<String> {
    let structured = |line: &&str| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        let severe = matches!(entry["s"].as_str(), Some("F" | "E"));
        let detail = entry["attr"]["error"]
            .as_str()
            .map(|error| format!(": {error}"))
            .unwrap_or_default();
        severe.then(|| format!("{}{detail}", entry["msg"].as_str().unwrap_or_default()))
    };
    let errors: Vec<String> = lines.iter().filter_map(structured).collect();
    if !errors.is_empty() {
        return Some(errors.join("; "));
    }
    let refused = [
        "Error parsing",
        "Unrecognized option",
        "BadValue",
        "Failed global initialization",
    ];
    lines
        .iter()
        .find(|line| refused.iter().any(|word| line.contains(word)))
        .map(|line| (*line).to_owned())
}

#[cfg(test)]
mod tests;
