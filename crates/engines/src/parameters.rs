//! What a user may set, and what a change of it costs.
//!
//! The operator owns what it needs to run an engine: where it listens, where its data lies, who may log in, where it
//! logs, how members copy from each other. Those parameters are refused with the reason and the way out. Everything else
//! is the user's: what the operator does not know is passed on, and the engine itself judges it at its start
//! ([`crate::refusal()`]).
//!
//! A refusal is not the only guard: [`crate::render`] writes the operator's own settings last, where the last one wins.

mod mongodb;
mod mysql;
mod postgresql;
mod redis;

use std::collections::BTreeMap;

use api::database::Engine;
use api::fault::{Fault, HIDDEN};
use api::version::Version;

/// Longest name, in characters. No engine has one that is nearly as long.
pub const NAME_MAX: usize = 128;
/// Longest value, in bytes. 200 parameters of this size stay below the 1 MiB of a ConfigMap.
pub const VALUE_MAX: usize = 4096;

pub(crate) use mongodb::SET_PARAMETER;

/// What takes a changed parameter into account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeEffect {
    /// The running server takes it over.
    Reload,
    /// The server has to be started anew.
    Restart,
}

/// A parameter, or a family of them, that users may not set.
struct Owned {
    /// Its name as [`Rules::fold`] writes it; a `*` at the end stands for any ending.
    name: &'static str,
    /// The reason, as the rest of a sentence that begins with the name.
    rule: &'static str,
    /// The way out.
    remedy: &'static str,
}

/// A parameter of which only some values are allowed.
struct Limited {
    name: &'static str,
    allowed: &'static [&'static str],
    rule: &'static str,
    remedy: &'static str,
}

/// A parameter that an engine no longer has.
struct Removed {
    name: &'static str,
    /// The first version without it.
    since: &'static str,
    remedy: &'static str,
}

/// What is particular to an engine's parameters.
struct Rules {
    /// Whether a name can be written into a configuration file.
    is_name: fn(&str) -> bool,
    /// What [`Rules::is_name`] demands, as the rest of a sentence.
    name_rule: &'static str,
    /// One spelling for all spellings that the engine takes for the same parameter.
    fold: fn(&str) -> String,
    owned: &'static [Owned],
    limited: &'static [Limited],
    removed: &'static [Removed],
    /// Folded names that sound secret and are not.
    not_secret: &'static [&'static str],
    /// Whether the running server takes a parameter over, by its folded name.
    reloads: fn(&str) -> bool,
}

fn rules(engine: Engine) -> &'static Rules {
    match engine {
        Engine::Postgresql => &postgresql::RULES,
        Engine::Mysql => &mysql::RULES,
        Engine::Mongodb => &mongodb::RULES,
        Engine::Redis => &redis::RULES,
    }
}

/// All faults of parameters whose values may be seen. `field` is the path of the map they stand in.
///
/// No fault repeats a value, since faults go into answers, conditions and logs: a list of names that are harmless would
/// miss one some day, and every rule here can be obeyed without it.
/// A parameter that is secret by nature is refused here: it belongs in the Secret that `secretRef` names.
pub fn check<'a>(
    engine: Engine,
    version: &Version,
    parameters: impl Iterator<Item = (&'a str, &'a str)>,
    field: &str,
) -> Vec<Fault> {
    check_all(engine, version, parameters, field, false)
}

/// All faults of parameters whose values come from a Secret.
pub fn check_secret<'a>(
    engine: Engine,
    version: &Version,
    parameters: impl Iterator<Item = (&'a str, &'a str)>,
    field: &str,
) -> Vec<Fault> {
    check_all(engine, version, parameters, field, true)
}

/// What a change of `name` costs. A parameter that the operator does not know costs a restart: a reload that the engine
/// ignores would leave the old value in force without a word.
pub fn change_effect(engine: Engine, name: &str) -> ChangeEffect {
    let rules = rules(engine);
    if (rules.reloads)(&(rules.fold)(name)) {
        ChangeEffect::Reload
    } else {
        ChangeEffect::Restart
    }
}

fn check_all<'a>(
    engine: Engine,
    version: &Version,
    parameters: impl Iterator<Item = (&'a str, &'a str)>,
    field: &str,
    secret: bool,
) -> Vec<Fault> {
    let rules = rules(engine);
    let mut faults = Vec::new();
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for (name, value) in parameters {
        let path = path(field, name);
        let mut refuse = |rule: String, remedy: &str| faults.push(Fault::new(&path, HIDDEN, rule, remedy));
        if let Some(rule) = name_fault(rules, name) {
            refuse(rule, "write the name as the engine's manual has it");
            continue;
        }
        let folded = (rules.fold)(name);
        if let Some(other) = seen.insert(folded.clone(), name) {
            refuse(format!("is the same parameter as {other}"), "keep one of them");
        }
        if let Some(owned) = rules.owned.iter().find(|owned| matches(owned.name, &folded)) {
            refuse(format!("is the operator's: {}", owned.rule), owned.remedy);
            continue;
        }
        let removed =
            |gone: &&Removed| gone.name == folded && gone.since.parse::<Version>().is_ok_and(|since| *version >= since);
        if let Some(gone) = rules.removed.iter().find(removed) {
            refuse(format!("no longer exists since {engine} {}", gone.since), gone.remedy);
        }
        if !secret && sounds_secret(&folded) && !rules.not_secret.iter().any(|pattern| matches(pattern, &folded)) {
            let rule = "is secret by nature, and what stands here can be read by everybody who can read the Database";
            let remedy = "put it into a Secret, and name that in spec.configuration.secretRef";
            faults.push(Fault::new(&path, HIDDEN, rule, remedy));
            continue;
        }
        let mut refuse = |rule: &str, remedy: &str| faults.push(Fault::new(&path, HIDDEN, rule, remedy));
        if value.len() > VALUE_MAX {
            refuse(
                &format!("has a value of more than {VALUE_MAX} bytes"),
                "write a shorter value",
            );
        } else if value.contains(['\n', '\r', '\0']) {
            refuse("has a line break or a NUL in its value", "write the value on one line");
        } else if let Some(limited) = rules.limited.iter().find(|limited| limited.name == folded)
            && !limited
                .allowed
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(value.trim()))
        {
            refuse(
                &format!("must be {}: {}", limited.allowed.join(" or "), limited.rule),
                limited.remedy,
            );
        }
        if engine == Engine::Mongodb {
            faults.extend(mongodb::check_shape(&path, name, secret));
        }
    }
    if engine == Engine::Mongodb {
        faults.extend(mongodb::check_sections(
            &seen.values().copied().collect::<Vec<_>>(),
            field,
        ));
    }
    faults
}

fn name_fault(rules: &Rules, name: &str) -> Option<String> {
    if name.len() > NAME_MAX {
        Some(format!("has a name of more than {NAME_MAX} characters"))
    } else if !(rules.is_name)(name) {
        Some(format!("is no parameter's name: {}", rules.name_rule))
    } else {
        None
    }
}

/// `spec.configuration.parameters.work_mem`, or with the name in brackets where dots in it would be read as levels.
fn path(field: &str, name: &str) -> String {
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if plain {
        format!("{field}.{name}")
    } else {
        format!("{field}[{name:?}]")
    }
}

fn matches(pattern: &str, folded: &str) -> bool {
    pattern
        .strip_suffix('*')
        .map_or(pattern == folded, |start| folded.starts_with(start))
}

/// Words by which the value of a parameter is known to be secret.
const SECRET_WORDS: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "apikey",
    "api_key",
    "access_key",
    "private_key",
    "auth_key",
];

fn sounds_secret(folded: &str) -> bool {
    let folded = folded.to_ascii_lowercase().replace('-', "_");
    SECRET_WORDS.iter().any(|word| folded.contains(word))
}

/// A list of names, one a line, with `#` comments.
fn lists(text: &str, name: &str) -> bool {
    text.lines().any(|line| line == name)
}

#[cfg(test)]
mod tests;
