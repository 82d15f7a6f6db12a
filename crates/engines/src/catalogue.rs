//! Which releases of an engine there are, and from which image each one runs.
//!
//! The built-in list is data, `catalogue.yaml` beside this file. A file given with `--catalogue` has the same form: an
//! engine that it names takes its **whole** list from the file, an engine that it leaves out keeps the built-in one.
//! Whole lists, because in an air gap a version that fell through to the built-in list would name an image that nobody
//! there can pull.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use api::database::Engine;
use api::fault::Fault;
use api::version::Version;
use serde::Deserialize;

/// One release of an engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// The engine.
    pub engine: Engine,
    /// The version as released, in full: `15.18`, `7.4.11`.
    pub version: Version,
    /// Within which data stays readable, as [`crate::major`] has it: `15`, `7`, `8.4`, `8.0`.
    pub major: String,
    /// `registry/repository:tag`, with `@digest` if one is known.
    pub image: String,
    /// User that the image is made for; the pod runs as it, and as the group of the same number.
    pub uid: u32,
    /// Last day of the vendor's support, `YYYY-MM-DD`; `None` where the vendor names none.
    pub end_of_life: Option<String>,
}

/// The releases that may be declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalogue {
    /// By engine, in the order of versions.
    releases: BTreeMap<Engine, Vec<Release>>,
}

/// Why a catalogue file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It is not YAML.
    #[error("the catalogue is not valid YAML: {0}")]
    Yaml(String),
    /// It has a key that does not belong there, lacks one, or a value has the wrong type.
    #[error("the catalogue at {path}: {message}")]
    Shape {
        /// Where, such as `postgresql[0].image`.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// It has values that break a rule: all of them.
    #[error("the catalogue has {} faults: {}", .0.len(), list(.0))]
    Faults(Vec<Fault>),
}

/// Why a declared version was not found.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{engine} {declared} {}; {}", self.rule(), self.remedy())]
pub struct CatalogueRefusal {
    /// The engine.
    pub engine: Engine,
    /// The version that was declared.
    pub declared: Version,
    /// The versions that there are, oldest first.
    pub known: Vec<Version>,
}

impl CatalogueRefusal {
    /// The rule, as the rest of a sentence about the field.
    pub fn rule(&self) -> String {
        format!("is not a version of {} that the operator's catalogue has", self.engine)
    }

    /// The way out, with the versions that there are.
    pub fn remedy(&self) -> String {
        let known: Vec<String> = self.known.iter().map(ToString::to_string).collect();
        format!(
            "declare one of {}, or a shorter form of one; or give the operator a catalogue that has it",
            known.join(", ")
        )
    }
}

/// An entry of the file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    version: String,
    image: String,
    uid: u32,
    end_of_life: Option<String>,
    digest: Option<String>,
    digest_source: Option<String>,
}

/// The file.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
struct File {
    postgresql: Option<Vec<Entry>>,
    mysql: Option<Vec<Entry>>,
    mongodb: Option<Vec<Entry>>,
    redis: Option<Vec<Entry>>,
}

static BUILTIN: LazyLock<Catalogue> = LazyLock::new(|| {
    let none = Catalogue {
        releases: BTreeMap::new(),
    };
    none.overridden(include_str!("catalogue.yaml"))
        .expect("the built-in catalogue is valid, as a test shows")
});

impl Catalogue {
    /// The catalogue that the operator is built with.
    pub fn builtin() -> Self {
        BUILTIN.clone()
    }

    /// The built-in catalogue, with the engines that `text` names taken from there (see the module's doc).
    ///
    /// Strict: a key that does not belong there is refused with its path, and values are checked, all faults at once.
    pub fn from_yaml(text: &str) -> Result<Self, CatalogueError> {
        Self::builtin().overridden(text)
    }

    fn overridden(mut self, text: &str) -> Result<Self, CatalogueError> {
        let value: serde_json::Value =
            serde_yaml::from_str(text).map_err(|error| CatalogueError::Yaml(error.to_string()))?;
        let file: File = serde_path_to_error::deserialize(value).map_err(|error| CatalogueError::Shape {
            path: error.path().to_string(),
            message: error.inner().to_string(),
        })?;
        let File {
            postgresql,
            mysql,
            mongodb,
            redis,
        } = file;
        let mut faults = Vec::new();
        for (engine, entries) in [
            (Engine::Postgresql, postgresql),
            (Engine::Mysql, mysql),
            (Engine::Mongodb, mongodb),
            (Engine::Redis, redis),
        ] {
            if let Some(entries) = entries {
                self.releases.insert(engine, releases(engine, &entries, &mut faults));
            }
        }
        if faults.is_empty() {
            Ok(self)
        } else {
            Err(CatalogueError::Faults(faults))
        }
    }

    /// The newest release that `declared` names: itself, or the newest that begins with it (`15` finds 15.20).
    pub fn resolve(&self, engine: Engine, declared: &Version) -> Result<&Release, CatalogueRefusal> {
        self.releases(engine)
            .iter()
            .filter(|release| declared.covers(&release.version))
            .max_by_key(|release| release.version)
            .ok_or_else(|| CatalogueRefusal {
                engine,
                declared: *declared,
                known: self.releases(engine).iter().map(|release| release.version).collect(),
            })
    }

    /// The releases of `engine`, oldest first.
    pub fn releases(&self, engine: Engine) -> &[Release] {
        self.releases.get(&engine).map_or(&[], Vec::as_slice)
    }

    /// Whether a Database of this engine can run yet. MySQL and MongoDB are planned, but their scripts have not been run
    /// with the releases of the catalogue, so nobody's data is trusted to them.
    pub fn is_available(&self, engine: Engine) -> bool {
        match engine {
            Engine::Postgresql | Engine::Redis => true,
            Engine::Mysql | Engine::Mongodb => false,
        }
    }
}

/// Components of a full version, and the oldest version that the scripts and configuration files are written for.
///
/// PostgreSQL before 14 knows other parameters; Redis before 7.0 has no `appenddirname` and reads several arguments in
/// one pair of quotes as one; MySQL before 8.4 and MongoDB before 7.0 are at the end of their lives.
fn support(engine: Engine) -> (usize, &'static str) {
    match engine {
        Engine::Postgresql => (2, "14"),
        Engine::Mysql => (3, "8.4"),
        Engine::Mongodb | Engine::Redis => (3, "7.0"),
    }
}

fn releases(engine: Engine, entries: &[Entry], faults: &mut Vec<Fault>) -> Vec<Release> {
    let name = engine.as_str();
    if entries.is_empty() {
        let remedy = "list a release, or leave the engine out to keep the built-in list";
        faults.push(Fault::new(name, "[]", "has no releases", remedy));
    }
    let mut found: Vec<Release> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let before = faults.len();
        let mut refuse = |field: &str, value: &str, rule: &str, remedy: &str| {
            faults.push(Fault::new(format!("{name}[{index}].{field}"), value, rule, remedy));
        };
        let (components, oldest) = support(engine);
        let version: Option<Version> = entry.version.parse().ok();
        let whole = entry.version.split('.').count() == components;
        let supported = version
            .as_ref()
            .zip(oldest.parse::<Version>().ok())
            .is_some_and(|(one, other)| *one >= other);
        if version.is_none() || !whole {
            let remedy = format!("write all {components} components, in quotes");
            refuse("version", &entry.version, "must be a version in full", &remedy);
        } else if !supported {
            let rule = format!("is older than {oldest}, for which the operator's files are written");
            refuse("version", &entry.version, &rule, "list newer releases only");
        } else if found.iter().any(|release| release.version.to_string() == entry.version) {
            refuse("version", &entry.version, "is listed twice", "keep one of them");
        }
        if let Err(rule) = check_image(&entry.image) {
            let remedy = "write registry/repository:tag, such as docker.io/library/postgres:15.18-bookworm";
            refuse("image", &entry.image, rule, remedy);
        }
        if entry.uid == 0 {
            refuse(
                "uid",
                "0",
                "must not be root's",
                "write the id of the image's user, 999 in the official images",
            );
        }
        if let Some(date) = entry.end_of_life.as_deref().filter(|date| !is_date(date)) {
            refuse("endOfLife", date, "must be a date", "write YYYY-MM-DD, in quotes");
        }
        match (&entry.digest, &entry.digest_source) {
            (Some(digest), Some(source)) if !source.trim().is_empty() => {
                if !is_digest(digest) {
                    refuse(
                        "digest",
                        digest,
                        "must be sha256: and 64 hexadecimal digits",
                        "copy it from its source",
                    );
                }
            }
            (Some(digest), _) => {
                refuse(
                    "digest",
                    digest,
                    "has no source",
                    "say in digestSource where it was read",
                );
            }
            (None, Some(source)) => refuse(
                "digestSource",
                source,
                "has no digest",
                "write the digest, or leave both out",
            ),
            (None, None) => {}
        }
        if let Some(version) = version
            && faults.len() == before
        {
            let digest = entry
                .digest
                .as_ref()
                .map(|digest| format!("@{digest}"))
                .unwrap_or_default();
            found.push(Release {
                engine,
                major: crate::major(engine, &version),
                version,
                image: format!("{}{digest}", entry.image),
                uid: entry.uid,
                end_of_life: entry.end_of_life.clone(),
            });
        }
    }
    found.sort_by_key(|release| release.version);
    found
}

/// Judges `registry/repository:tag`. Short names depend on the node's settings, and floating tags change under a running
/// database.
fn check_image(image: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
    if image.is_empty() || !image.bytes().all(allowed) {
        return Err("must be made of letters, digits and ._-/: only");
    }
    let (registry, rest) = image.split_once('/').ok_or("must begin with a registry")?;
    if !(registry == "localhost" || registry.contains(['.', ':'])) {
        return Err("must begin with a registry: a host name with a dot or a port, or localhost");
    }
    let (repository, tag) = rest.rsplit_once(':').ok_or("must end with a tag")?;
    if repository.is_empty() || tag.is_empty() || tag.contains('/') {
        return Err("must be registry/repository:tag");
    }
    if tag == "latest" {
        return Err("must not have the tag latest, under which any version may come");
    }
    Ok(())
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

/// Whether `text` is a day of the calendar, as `YYYY-MM-DD`.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else {
        return false;
    };
    let shaped = year.len() == 4 && month.len() == 2 && day.len() == 2;
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<u32>().ok())
            .flatten()
    };
    let (true, Some(year), Some(month), Some(day)) = (shaped, number(year), number(month), number(day)) else {
        return false;
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// Faults as text, for the error's message.
fn list(faults: &[Fault]) -> impl fmt::Display {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests;
