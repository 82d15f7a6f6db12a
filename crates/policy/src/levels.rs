//! From a namespace to the levels of policy that hold there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use api::names::{BUSINESS_UNIT_LABEL, ENVIRONMENT_LABEL, TEAM_LABEL};
use serde_json::Value;

use crate::request::Namespace;
use crate::settings::{Settings, SettingsError};

/// A kind of level, from upper to lower.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Everybody.
    Global,
    /// A business unit.
    BusinessUnit,
    /// A team.
    Team,
    /// An environment.
    Environment,
}

impl Kind {
    /// Those that have a name, which is also a folder under `database/`.
    pub const NAMED: [Self; 3] = [Self::BusinessUnit, Self::Team, Self::Environment];

    /// As it is written in paths.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::BusinessUnit => "business_unit",
            Self::Team => "team",
            Self::Environment => "environment",
        }
    }
}

/// A level: its kind and, but for global, its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Level {
    /// Which kind.
    pub kind: Kind,
    /// Empty for global.
    pub name: String,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Global {
            f.write_str(self.kind.as_str())
        } else {
            write!(f, "{}/{}", self.kind.as_str(), self.name)
        }
    }
}

/// How the environment of a namespace was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// By the namespace's label.
    Label,
    /// By the table `environments` of the global data.
    Table,
    /// By a part of the namespace's name, which is a guess.
    Name,
    /// Not at all, so it is the default.
    Default,
}

impl Found {
    /// As policies see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Table => "table",
            Self::Name => "name",
            Self::Default => "default",
        }
    }
}

/// Where a Database is, as far as policies care.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Levels that hold there, from upper to lower.
    pub levels: Vec<Level>,
    /// Name of the environment.
    pub environment: String,
    /// How that was found.
    pub found: Found,
    /// Said to the user.
    pub warnings: Vec<String>,
}

/// All levels that there are, with their settings.
#[derive(Clone, PartialEq, Debug)]
pub struct Levels {
    settings: BTreeMap<Level, Settings>,
    /// Levels that have rules.
    ruled: BTreeSet<Level>,
    environments: BTreeMap<String, String>,
    default_environment: String,
}

/// Environments by the words that stand for them in names of namespaces.
const WORDS: [(&str, &str); 7] = [
    ("dev", "development"),
    ("development", "development"),
    ("stage", "staging"),
    ("staging", "staging"),
    ("stg", "staging"),
    ("prod", "production"),
    ("production", "production"),
];

/// The environment that holds where none is known, unless the global data says otherwise: the strictest.
pub(crate) const DEFAULT_ENVIRONMENT: &str = "production";

impl Levels {
    /// Reads the levels from the document `data.database`.
    pub fn parse(database: &Value) -> Result<Self, SettingsError> {
        let at = |path: &str| SettingsError {
            path: format!("data.database.settings.{path}"),
            problem: "must be a text".to_owned(),
        };
        let mut settings = BTreeMap::new();
        let mut add = |level: Level, path: &str, value: &Value| -> Result<(), SettingsError> {
            if !value.is_null() {
                let path = format!("data.database.{path}");
                settings.insert(level.clone(), Settings::parse(&level.to_string(), &path, value)?);
            }
            Ok(())
        };
        let global = Level {
            kind: Kind::Global,
            name: String::new(),
        };
        let mut own = database["settings"].clone();
        let take =
            |own: &mut Value, name: &str| own.as_object_mut().and_then(|own| own.remove(name)).unwrap_or_default();
        let (table, default) = (take(&mut own, "environments"), take(&mut own, "default_environment"));
        add(global, "settings", &own)?;
        for kind in Kind::NAMED {
            for (name, scope) in database[kind.as_str()].as_object().into_iter().flatten() {
                let level = Level {
                    kind,
                    name: name.clone(),
                };
                add(level, &format!("{}.{name}.settings", kind.as_str()), &scope["settings"])?;
            }
        }
        let mut environments = BTreeMap::new();
        for (namespace, environment) in table.as_object().into_iter().flatten() {
            let environment = environment
                .as_str()
                .ok_or_else(|| at(&format!("environments.{namespace}")))?;
            environments.insert(namespace.clone(), environment.to_owned());
        }
        let default_environment = match &default {
            Value::Null => DEFAULT_ENVIRONMENT,
            value => value.as_str().ok_or_else(|| at("default_environment"))?,
        };
        Ok(Self {
            settings,
            ruled: BTreeSet::new(),
            environments,
            default_environment: default_environment.to_owned(),
        })
    }

    /// The same, where these levels have rules: a level may have rules only.
    #[must_use]
    pub fn with_rules(self, ruled: BTreeSet<Level>) -> Self {
        Self { ruled, ..self }
    }

    /// The levels that hold in a namespace.
    pub fn place(&self, namespace: &Namespace) -> Place {
        let label = |name: &str| namespace.labels.get(name).filter(|value| !value.is_empty()).cloned();
        let (environment, found, guessed) = self.environment(namespace);
        let mut warnings: Vec<String> = guessed.into_iter().collect();
        let mut levels = vec![Level {
            kind: Kind::Global,
            name: String::new(),
        }];
        for (kind, label_name) in [(Kind::BusinessUnit, BUSINESS_UNIT_LABEL), (Kind::Team, TEAM_LABEL)] {
            let Some(name) = label(label_name) else { continue };
            let level = Level { kind, name };
            // Where no policy is for any team, labels of teams are for others to read.
            if self.any_of(kind) && !self.is_known(&level) {
                warnings.push(format!(
                    "namespace {} is labelled {label_name}={}, which no policy knows; only policies of other levels hold",
                    namespace.name, level.name
                ));
            }
            levels.push(level);
        }
        levels.push(Level {
            kind: Kind::Environment,
            name: environment.clone(),
        });
        Place {
            levels,
            environment,
            found,
            warnings,
        }
    }

    /// Label, else table, else a word of the name, else the default. What has neither settings nor rules of its own is not
    /// known, and the default holds there: an unknown label must not loosen anything.
    fn environment(&self, namespace: &Namespace) -> (String, Found, Option<String>) {
        let default = &self.default_environment;
        let Namespace { name, labels } = namespace;
        let remedy = format!("label the namespace with {ENVIRONMENT_LABEL}");
        if let Some(label) = labels.get(ENVIRONMENT_LABEL).filter(|label| !label.is_empty()) {
            return if self.knows(label) {
                (label.clone(), Found::Label, None)
            } else {
                let warning = format!(
                    "namespace {name} is labelled {ENVIRONMENT_LABEL}={label}, which no policy knows; it is treated as \
                     {default}"
                );
                (default.clone(), Found::Default, Some(warning))
            };
        }
        if let Some(environment) = self.environments.get(name) {
            return (environment.clone(), Found::Table, None);
        }
        let mut guesses: Vec<&str> = name
            .split('-')
            .filter_map(|part| WORDS.iter().find(|(word, _)| *word == part))
            .map(|(_, environment)| *environment)
            .filter(|environment| self.knows(environment))
            .collect();
        guesses.sort_unstable();
        guesses.dedup();
        if let [guess] = guesses[..] {
            let warning = format!("namespace {name} is taken for {guess} by its name; {remedy}");
            return (guess.to_owned(), Found::Name, Some(warning));
        }
        let warning = format!("the environment of namespace {name} is not known; it is treated as {default}; {remedy}");
        (default.clone(), Found::Default, Some(warning))
    }

    fn knows(&self, environment: &str) -> bool {
        environment == self.default_environment
            || self.is_known(&Level {
                kind: Kind::Environment,
                name: environment.to_owned(),
            })
    }

    fn is_known(&self, level: &Level) -> bool {
        self.settings.contains_key(level) || self.ruled.contains(level)
    }

    fn any_of(&self, kind: Kind) -> bool {
        self.settings.keys().chain(&self.ruled).any(|level| level.kind == kind)
    }

    /// The settings that hold at a place.
    pub fn settings(&self, place: &Place) -> Settings {
        place
            .levels
            .iter()
            .filter_map(|level| self.settings.get(level))
            .fold(Settings::default(), Settings::over)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn levels() -> Levels {
        Levels::parse(&json!({
            "settings": {"max": {"cpu": "16"}, "environments": {"shop": "staging"}},
            "environment": {
                "production": {"settings": {"max": {"cpu": "8"}}},
                "staging": {"settings": {"max": {"cpu": "4"}}},
                "development": {"settings": {"max": {"cpu": "2"}}},
            },
            "team": {"payments": {"settings": {"max": {"cpu": "1"}}}},
        }))
        .expect("they are levels")
    }

    fn namespace(name: &str, labels: &[(&str, &str)]) -> Namespace {
        Namespace {
            name: name.to_owned(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn the_environment_is_guessed_by_whole_words_only_and_the_unknown_is_the_strictest() {
        let levels = levels();
        for (name, labels, environment, found) in [
            (
                "x",
                vec![(ENVIRONMENT_LABEL, "development")],
                "development",
                Found::Label,
            ),
            (
                "x-prod",
                vec![(ENVIRONMENT_LABEL, "development")],
                "development",
                Found::Label,
            ),
            ("x", vec![(ENVIRONMENT_LABEL, "qa")], "production", Found::Default),
            ("shop", vec![], "staging", Found::Table),
            ("orders-dev", vec![], "development", Found::Name),
            ("production", vec![], "production", Found::Name),
            ("product-catalog", vec![], "production", Found::Default),
            ("reproduction-dev", vec![], "development", Found::Name),
            ("nonprod", vec![], "production", Found::Default),
            ("prod-staging", vec![], "production", Found::Default),
            ("dev-development", vec![], "development", Found::Name),
        ] {
            let place = levels.place(&namespace(name, &labels));
            assert_eq!(
                (place.environment.as_str(), place.found),
                (environment, found),
                "{name}"
            );
            let silent = matches!(found, Found::Label | Found::Table);
            assert_eq!(place.warnings.is_empty(), silent, "{name}");
        }
    }

    #[test]
    fn settings_come_from_all_levels_of_the_namespace() {
        let levels = levels();
        let labels = [
            (TEAM_LABEL, "payments"),
            (ENVIRONMENT_LABEL, "staging"),
            (BUSINESS_UNIT_LABEL, "unknown"),
        ];
        let place = levels.place(&namespace("x", &labels));
        let chain: Vec<String> = place.levels.iter().map(ToString::to_string).collect();
        assert_eq!(
            chain,
            [
                "global",
                "business_unit/unknown",
                "team/payments",
                "environment/staging"
            ]
        );
        let cpu = &levels.settings(&place).to_value()["max"]["cpu"];
        assert_eq!(cpu, &json!({"value": 1000, "text": "1", "level": "team/payments"}));
    }

    #[test]
    fn an_environment_with_rules_only_is_known() {
        let parsed =
            || Levels::parse(&json!({"settings": {"default_environment": "staging"}})).expect("they are levels");
        let in_production = namespace("shop", &[(ENVIRONMENT_LABEL, "production")]);
        assert_eq!(parsed().place(&in_production).environment, "staging");
        let ruled = Level {
            kind: Kind::Environment,
            name: "production".to_owned(),
        };
        let place = parsed().with_rules(BTreeSet::from([ruled])).place(&in_production);
        assert_eq!((place.environment.as_str(), place.found), ("production", Found::Label));
        assert_eq!(place.warnings, Vec::<String>::new());
    }

    #[test]
    fn unknown_teams_and_business_units_are_told() {
        let warnings = |labels: &[(&str, &str)]| {
            let all = [&[(ENVIRONMENT_LABEL, "staging")], labels].concat();
            levels().place(&namespace("x", &all)).warnings
        };
        assert_eq!(warnings(&[(TEAM_LABEL, "payments")]), Vec::<String>::new());
        let told = warnings(&[(TEAM_LABEL, "paymnets")]);
        assert!(
            matches!(&told[..], [one] if one.contains("team=paymnets, which no policy knows")),
            "{told:?}"
        );
        // No policy is for any business unit.
        assert_eq!(warnings(&[(BUSINESS_UNIT_LABEL, "retail")]), Vec::<String>::new());
    }
}
