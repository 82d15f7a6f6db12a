//! Data that no one would read: settings in the wrong place or under a wrong name bound nothing, and nobody is told.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Finding;
use crate::bundle::Bundle;
use crate::levels::{DEFAULT_ENVIRONMENT, Kind};
use crate::policies::TEST;

/// Bounds whose texts are quantities of Kubernetes.
const QUANTITIES: &[&str] = &["cpu", "memory", "storage"];

/// Everything that is wrong with the data of these bundles, as far as parsing it does not tell.
pub(super) fn check(bundles: &[Bundle], packages: &[Vec<String>]) -> Vec<Finding> {
    let modules = bundles.iter().flat_map(Bundle::modules);
    let text: String = modules
        .filter(|(name, _)| !name.ends_with(TEST))
        .flat_map(|(_, text)| [text, "\n"])
        .collect();
    let environments = environments(bundles, packages);
    let mut findings = Vec::new();
    for bundle in bundles {
        let mut of_bundle = OfBundle {
            bundle,
            text: &text,
            findings: &mut findings,
        };
        of_bundle.global(&environments);
        for kind in Kind::NAMED {
            let named = bundle.data()["database"][kind.as_str()].as_object();
            for (name, level) in named.into_iter().flatten() {
                of_bundle.level(&[kind.as_str(), name], level, false);
            }
            // What is empty may not show in the data.
            for name in of_bundle.folders(kind) {
                if named.is_none_or(|named| !named.contains_key(&name)) {
                    of_bundle.level(&[kind.as_str(), &name], &Value::Null, true);
                }
            }
        }
    }
    findings
}

/// Environments with settings or rules, and the one that there always is.
fn environments(bundles: &[Bundle], packages: &[Vec<String>]) -> BTreeSet<String> {
    let kind = Kind::Environment.as_str();
    let with_settings = bundles.iter().flat_map(|bundle| {
        let named = bundle.data()["database"][kind].as_object();
        named
            .into_iter()
            .flatten()
            .filter(|(_, level)| level["settings"].is_object())
    });
    let with_rules = packages.iter().filter_map(|package| match &package[..] {
        [root, found, name, _] if root == "database" && found == kind => Some(name.clone()),
        _ => None,
    });
    let mut all: BTreeSet<String> = with_settings.map(|(name, _)| name.clone()).chain(with_rules).collect();
    all.insert(DEFAULT_ENVIRONMENT.to_owned());
    all
}

struct OfBundle<'a> {
    bundle: &'a Bundle,
    /// All modules but those of tests.
    text: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl OfBundle<'_> {
    fn find(&mut self, path: &[&str], problem: String) {
        let files = self.bundle.files();
        let has = |file: &String| files.iter().any(|(name, _)| name == file);
        let above = (0..=path.len()).rev().map(|length| {
            let folders = [&["database"][..], &path[..length]].concat().join("/");
            [format!("{folders}/data.json"), format!("{folders}/data.yaml")]
        });
        let file = above.flatten().find(has).unwrap_or_else(|| "data.json".to_owned());
        self.findings.push(Finding { file, line: 0, problem });
    }

    /// Names of a kind of level whose folder holds data.
    fn folders(&self, kind: Kind) -> BTreeSet<String> {
        let begin = format!("database/{}/", kind.as_str());
        let files = self.bundle.files().iter();
        files
            .filter_map(|(file, _)| file.strip_prefix(&begin)?.split_once('/'))
            .filter(|(_, base)| matches!(*base, "data.json" | "data.yaml"))
            .map(|(name, _)| name.to_owned())
            .collect()
    }

    fn global(&mut self, environments: &BTreeSet<String>) {
        let global = &self.bundle.data()["database"];
        if global.is_object() {
            self.level(&[], global, false);
        }
        let settings = &global["settings"];
        let named = settings["environments"].as_object().into_iter().flatten();
        let named = named.map(|(namespace, name)| (format!("environments.{namespace}"), name));
        let default = [("default_environment".to_owned(), &settings["default_environment"])];
        for (at, name) in named.chain(default) {
            if let Some(name) = name.as_str().filter(|name| !environments.contains(*name)) {
                let known: Vec<&str> = environments.iter().map(String::as_str).collect();
                let problem = format!(
                    "settings.{at} names the environment {name}, which has neither settings nor rules; write one of {}",
                    known.join(", ")
                );
                self.find(&[], problem);
            }
        }
    }

    /// The data of a level; `path` is below `database`.
    fn level(&mut self, path: &[&str], level: &Value, must: bool) {
        let Some(fields) = level.as_object().filter(|fields| !(must && fields.is_empty())) else {
            let problem = "has no settings; write {\"settings\": {...}}, or remove the file".to_owned();
            return self.find(path, problem);
        };
        let is_level = !path.is_empty();
        if is_level && fields.is_empty() {
            return self.level(path, &Value::Null, true);
        }
        for (name, value) in fields {
            let inner = [path, &[name.as_str()]].concat();
            let problem = match name.as_str() {
                "settings" if value.is_null() => {
                    "settings is null; write {\"settings\": {...}}, or remove it".to_owned()
                }
                "settings" => {
                    self.settings(path, value);
                    continue;
                }
                kind if !is_level && Kind::NAMED.into_iter().any(|named| named.as_str() == kind) => continue,
                _ if self.is_for_rules(&inner) => continue,
                _ => format!(
                    "{name} is read by nobody: write settings as {{\"settings\": {{\"max\": ...}}}}, and other data where a rule \
                     asks for it, data.database.{}",
                    inner.join(".")
                ),
            };
            self.find(path, problem);
        }
    }

    /// Whether data stands in a folder of its own, or a rule asks for it.
    fn is_for_rules(&self, path: &[&str]) -> bool {
        let folder = format!("database/{}/", path.join("/"));
        let reference = format!("data.database.{}", path.join("."));
        self.bundle.files().iter().any(|(name, _)| name.starts_with(&folder)) || mentions(self.text, &reference)
    }

    fn settings(&mut self, path: &[&str], settings: &Value) {
        for (group, entries) in settings.as_object().into_iter().flatten() {
            if !matches!(group.as_str(), "max" | "min" | "allow" | "require") {
                continue;
            }
            for (name, entry) in entries.as_object().into_iter().flatten() {
                if !mentions(self.text, &format!(".{name}")) && !mentions(self.text, &format!("\"{name}\"")) {
                    let problem = format!(
                        "settings.{group}.{name} is asked for by no rule (input.settings.{group}.{name}); is the name right?"
                    );
                    self.find(path, problem);
                    continue;
                }
                let value = entry
                    .as_object()
                    .map_or(entry, |entry| entry.get("value").unwrap_or(&Value::Null));
                let text = value.as_str().filter(|_| matches!(group.as_str(), "max" | "min"));
                let odd = text.filter(|text| !text.bytes().all(|byte| byte.is_ascii_digit()));
                if let Some(text) = odd.filter(|_| !QUANTITIES.contains(&name.as_str())) {
                    let problem = format!(
                        "settings.{group}.{name} is {text:?}, and only cpu, memory and storage have units; write a whole number"
                    );
                    self.find(path, problem);
                }
            }
        }
    }
}

/// Whether a text has these words, with no word going on after them.
fn mentions(text: &str, words: &str) -> bool {
    let goes_on = |rest: &str| {
        rest.bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.match_indices(words)
        .any(|(at, _)| words.ends_with('"') || !goes_on(&text[at + words.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Files;

    const RULES: &str = "package database.x\nimport rego.v1\nviolations contains v if { input.settings.max.cpu; \
                         input.settings.require[\"backup\"]; input.settings.min.minutes; data.database.extra }";

    fn found(data: &[(&str, &str)]) -> Vec<String> {
        let mut files = Files::new();
        for (name, text) in [("database/x.rego", RULES)].iter().chain(data) {
            files.add(name, text.as_bytes().to_vec()).expect("it is a file");
        }
        let bundle = Bundle::open_unverified("tested", files).expect("it is a bundle");
        let findings = check(&[bundle], &[]);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn settings_that_do_nothing_are_refused() {
        for (text, words) in [
            ("{}", "has no settings"),
            ("{\"settings\": null}", "settings is null"),
            (
                "{\"setting\": {\"max\": {\"cpu\": \"1\"}}}",
                "setting is read by nobody",
            ),
            ("{\"max\": {\"cpu\": \"1\"}}", "max is read by nobody"),
            (
                "{\"settings\": {\"require\": {\"backups\": true}}}",
                "settings.require.backups is asked for by no rule",
            ),
            (
                "{\"settings\": {\"max\": {\"CPU\": \"500m\"}}}",
                "settings.max.CPU is asked for by no rule",
            ),
            ("{\"settings\": {\"min\": {\"minutes\": \"15m\"}}}", "is \"15m\""),
            (
                "{\"settings\": {\"min\": {\"minutes\": {\"value\": \"15m\"}}}}",
                "is \"15m\"",
            ),
        ] {
            let file = "database/environment/production/data.json";
            let found = found(&[(file, text)]);
            let all_there = matches!(&found[..], [one] if one.starts_with(file) && one.contains(words));
            assert!(all_there, "{text}: {found:?}");
        }
        for text in ["{\"max\": {\"cpu\": \"1\"}}", "{\"setting\": {}}"] {
            assert!(
                found(&[("database/data.json", text)])[0].contains("is read by nobody"),
                "{text}"
            );
        }
    }

    #[test]
    fn environments_that_are_not_there_are_refused() {
        let staging = ("database/environment/staging/data.json", "{\"settings\": {}}");
        for (text, problems) in [
            ("{\"settings\": {\"default_environment\": \"prod\"}}", 1),
            ("{\"settings\": {\"environments\": {\"shop\": \"prodution\"}}}", 1),
            (
                "{\"settings\": {\"default_environment\": \"staging\", \"environments\": {\"shop\": \"production\"}}}",
                0,
            ),
        ] {
            let found = found(&[("database/data.json", text), staging]);
            assert_eq!(found.len(), problems, "{text}: {found:?}");
        }
    }

    #[test]
    fn settings_and_data_that_rules_ask_for_pass() {
        let found = found(&[
            (
                "database/data.json",
                "{\"settings\": {\"max\": {\"cpu\": \"1\"}}, \"extra\": 1, \"team\": {}}",
            ),
            (
                "database/team/a/data.json",
                "{\"settings\": {\"require\": {\"backup\": true}, \"min\": {\"minutes\": \"15\"}}}",
            ),
            ("database/team/a/more/data.json", "{\"x\": 1}"),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }
}
