//! From bundles to rules that can be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use regorus::{Engine, Value as Rego};
use serde_json::json;

use crate::bundle::{Bundle, Tests};
use crate::levels::{Kind, Level};
use crate::settings::SettingsError;

/// Ends the name of a module of tests.
pub(crate) const TEST: &str = "_test.rego";

/// Always asked.
pub(crate) const ALWAYS: &str = "violations";
/// Asked where there is a user.
pub(crate) const WITH_USER: &str = "user_violations";

/// Why policies cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A module is not Rego, or two of them contradict.
    #[error("{bundle}: {message}")]
    Rego {
        /// Which bundle.
        bundle: String,
        /// What `regorus` says, with file and line.
        message: String,
    },
    /// Two bundles own one part of the tree: rules of one could hide those of the other.
    #[error(
        "{bundle} and {other} overlap: the root {root:?} of the one and the root {of_other:?} of the other; give each \
         bundle roots of its own in .manifest, or make one bundle of them"
    )]
    Roots {
        /// Which bundle.
        bundle: String,
        /// Its root.
        root: String,
        /// The other bundle.
        other: String,
        /// The other's root.
        of_other: String,
    },
    /// Two bundles have different values at one place.
    #[error("{bundle}: its data contradicts that of another bundle: {message}")]
    Data {
        /// Which bundle.
        bundle: String,
        /// What `regorus` says.
        message: String,
    },
    /// Settings are not what they must be.
    #[error("the settings cannot be used")]
    Settings(#[source] SettingsError),
    /// There are no rules: everything would be allowed.
    #[error(
        "no package under `database` has rules (`violations`) in {bundles}, so that everything would be allowed; \
         give the folder or bundle that holds them"
    )]
    NoRules {
        /// The bundles.
        bundles: String,
    },
}

/// Rules that are asked together, so that what they share is evaluated once: those of a level, with or without a user.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The rule of [`ASKED`] that gathers what they say.
    pub(super) path: String,
    pub(super) level: Level,
    pub(super) needs_user: bool,
    /// `data.database.security.violations`, ...
    pub(super) rules: Vec<String>,
}

/// The package of ours, beside those of policies, whose rules gather what policies say: objects from path to violations.
pub(crate) const ASKED: &str = "database_operator_asked";

/// An engine with all modules and data, ready to be cloned. Modules of tests cost a tenth of the time of a decision.
pub(crate) fn engine_of(bundles: &[Bundle], tests: Tests) -> Result<Engine, LoadError> {
    for (number, bundle) in bundles.iter().enumerate() {
        for other in &bundles[..number] {
            if let Some((of_other, root)) = other.manifest().overlap(bundle.manifest()) {
                return Err(LoadError::Roots {
                    bundle: bundle.name().to_owned(),
                    root: root.to_owned(),
                    other: other.name().to_owned(),
                    of_other: of_other.to_owned(),
                });
            }
        }
    }
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    for bundle in bundles {
        let wanted = |path: &str| tests == Tests::Include || !path.ends_with(TEST);
        for (path, text) in bundle.modules().filter(|(path, _)| wanted(path)) {
            engine
                .add_policy(path.to_owned(), text.to_owned())
                .map_err(|error| LoadError::Rego {
                    bundle: bundle.name().to_owned(),
                    message: error.to_string(),
                })?;
        }
        engine
            .add_data(Rego::from(bundle.data().clone()))
            .map_err(|error| LoadError::Data {
                bundle: bundle.name().to_owned(),
                message: error.to_string(),
            })?;
    }
    Ok(engine)
}

/// The rules to be asked, by the packages that there are, gathered by rules of [`ASKED`] which are added.
pub(super) fn entries(engine: &mut Engine) -> Result<Vec<Entry>, String> {
    let mut found: BTreeMap<(Level, bool), BTreeSet<String>> = BTreeMap::new();
    for module in engine.get_modules() {
        let package = crate::tree::package(module);
        let Some(level) = level_of(&package) else { continue };
        for name in crate::tree::rule_names(module) {
            if name == ALWAYS || name == WITH_USER {
                let mut path = vec!["data".to_owned()];
                path.extend(package.iter().cloned().chain([name.clone()]));
                let rules = found.entry((level.clone(), name == WITH_USER)).or_default();
                rules.insert(crate::tree::rule_path(&path));
            }
        }
    }
    let mut asked = format!("package {ASKED}\nimport rego.v1\n");
    let mut entries = Vec::new();
    for (number, ((level, needs_user), rules)) in found.into_iter().enumerate() {
        let pair = |rule: &String| format!("{}: {rule}", json!(rule));
        let pairs: Vec<String> = rules.iter().map(pair).collect();
        let _ = writeln!(asked, "asked_{number} := {{\n{}\n}}", pairs.join(",\n"));
        entries.push(Entry {
            path: format!("data.{ASKED}.asked_{number}"),
            level,
            needs_user,
            rules: rules.into_iter().collect(),
        });
    }
    // Prepares it too: analyses, and finds what does not fit together. Nothing is asked.
    if let Some(first) = entries.first() {
        let path = first.path.as_str().into();
        engine
            .add_policy(format!("{ASKED}.rego"), asked)
            .and_then(|_| engine.compile_with_entrypoint(&path))
            .map_err(|error| error.to_string())?;
    }
    Ok(entries)
}

/// The level of a package: `database.NAME` is global, `database.KIND.SCOPE.NAME` is of that scope. Tests and whatever is
/// outside of `database` have none.
pub(crate) fn level_of(package: &[String]) -> Option<Level> {
    let named = |kind: &str| Kind::NAMED.into_iter().find(|named| named.as_str() == kind);
    let (root, rest) = package.split_first()?;
    let name = rest
        .last()
        .filter(|name| root == "database" && !name.ends_with("_test"))?;
    match rest {
        [_] if named(name).is_none() => Some(Level {
            kind: Kind::Global,
            name: String::new(),
        }),
        [kind, scope, _] => Some(Level {
            kind: named(kind)?,
            name: scope.clone(),
        }),
        _ => None,
    }
}
