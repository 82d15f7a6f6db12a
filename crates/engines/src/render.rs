//! Configuration files from parameters.
//!
//! Each main file has the same four parts, and in every engine the later one wins:
//!
//! 1. defaults of the operator, which a parameter of the Database overrides;
//! 2. the Database's parameters;
//! 3. an include of the parameters that come from a Secret, which stand in a file of the same name of their own;
//! 4. the operator's settings, which nothing overrides.
//!
//! Values are quoted by the engine's rules, so that none can end its line, begin another or become a directive: for
//! every value that [`crate::parameters`] accepts, what the engine reads is exactly that value. Rendering is
//! deterministic. The init script copies the files, so the paths in them are those of the copies, [`CONFIG`] and
//! [`CONFIG_SECRET`].

mod mongodb;
mod mysql;
mod postgresql;
mod redis;

use std::collections::BTreeMap;

use api::database::Engine;
use api::quantity::Quantity;

use crate::catalogue::Release;

/// Where a running engine reads the files of ConfigMap `NAME-config`.
pub const CONFIG: &str = "/run/database/config";
/// Where a running engine reads the files of Secret `NAME-config-secret`.
pub const CONFIG_SECRET: &str = "/run/database/config-secret";

/// Files by name.
pub type Files = BTreeMap<String, String>;

/// The files of ConfigMap `NAME-config`. `memory_limit` is the container's, by which caches are sized; without one the
/// engine's own defaults hold.
pub fn configuration(
    engine: Engine,
    release: &Release,
    memory_limit: Option<&Quantity>,
    parameters: &BTreeMap<String, String>,
) -> Files {
    let memory_bytes = memory_limit.map(Quantity::bytes_ceil);
    match engine {
        Engine::Postgresql => postgresql::configuration(release, memory_bytes, parameters),
        Engine::Mysql => mysql::configuration(release, memory_bytes, parameters),
        Engine::Mongodb => mongodb::configuration(parameters),
        Engine::Redis => redis::configuration(memory_bytes, parameters),
    }
}

/// The files of Secret `NAME-config-secret`: parameters whose values come from `secretRef`.
pub fn secret_configuration(engine: Engine, parameters: &BTreeMap<String, String>) -> Files {
    let (name, text) = match engine {
        Engine::Postgresql => (postgresql::FILE, postgresql::lines(parameters)),
        Engine::Mysql => (mysql::FILE, mysql::section(parameters)),
        Engine::Mongodb => (mongodb::FILE, mongodb::lines(parameters)),
        Engine::Redis => (redis::FILE, redis::lines(parameters)),
    };
    BTreeMap::from([(name.to_owned(), format!("{HEADER}{text}"))])
}

const HEADER: &str = "# Written by the database operator from the Database; changes made here do not last.\n";

/// The parts of a main file, in order.
struct Parts<'a> {
    defaults: String,
    parameters: String,
    include: &'a str,
    fixed: String,
}

impl Parts<'_> {
    fn join(&self) -> String {
        let Self {
            defaults,
            parameters,
            include,
            fixed,
        } = self;
        format!(
            "{HEADER}\n# Defaults of the operator.\n{defaults}\n# Parameters of the Database.\n{parameters}\n\
             # Parameters from the Database's Secret.\n{include}\n\n# Settings of the operator, which win.\n{fixed}"
        )
    }
}

/// How `value` stands in the engines' files, without the quotes around it.
pub(crate) fn quoted_forms(value: &str) -> [String; 4] {
    [
        postgresql::quoted(value),
        mysql::quoted(value),
        mongodb::quoted(value),
        redis::quoted(value),
    ]
    .map(|quoted| quoted[1..quoted.len() - 1].to_owned())
}

/// Lines as a text.
fn text(lines: impl Iterator<Item = String>) -> String {
    lines.fold(String::new(), |text, line| text + &line + "\n")
}

/// Lines from pairs of our own, which go through the same quoting as the user's.
fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests;
