//! `database-operator plan`: what would be made of a manifest, and for an edit what would be done and why.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use api::database::Database;
use api::fault::Fault;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use controller::live::{PreviewError, preview};
use engines::catalogue::Catalogue;
use kube::Client;
use planner::fresh::{as_recorded, fresh, subject};
use planner::plan::{Plan, Subject};
use planner::show::shown;
use planner::validate::{Reference, References, validate};
use serde_json::{Value, json};

/// Why nothing could be planned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// The file is not there, or not readable.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The cluster could not be asked.
    #[error("{database}: the cluster cannot be asked")]
    Cluster {
        /// Which Database.
        database: String,
        /// Why.
        source: PreviewError,
    },
}

/// What came of one manifest.
pub(crate) struct Planned {
    /// What is shown.
    pub shown: Value,
    /// Whether anything was refused.
    pub refused: bool,
}

/// Longest text that is read, in bytes: a hundred thousand Databases have a third of it.
const TEXT_MAX: u64 = 256 << 20;

/// The text of a manifest; `-` means standard input.
pub(crate) fn read(path: &Path) -> Result<String, PlanError> {
    let whole = |input: &mut dyn Read| {
        let mut text = String::new();
        // One byte more, to see that there is more.
        input.take(TEXT_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > TEXT_MAX {
            return Err(io::Error::other(format!(
                "it has more than {TEXT_MAX} bytes; give a part of it"
            )));
        }
        Ok(text)
    };
    let text = if path == Path::new("-") {
        whole(&mut io::stdin().lock())
    } else {
        File::open(path).and_then(|mut file| whole(&mut file))
    };
    text.map_err(|source| PlanError::Read {
        path: path.to_owned(),
        source,
    })
}

/// A manifest: the Databases in it, and the ConfigMaps and Secrets that they may refer to.
pub(crate) struct Manifest {
    databases: Vec<Database>,
    config_maps: BTreeMap<String, Reference>,
    secrets: BTreeMap<String, Reference>,
}

impl Manifest {
    /// Reads a manifest strictly: every fault in it at once, unknown fields among them.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let documents: Vec<Value> = match serde_yaml::from_multiple(text) {
            Ok(documents) => documents,
            // The strict reader says where it is not YAML.
            Err(_) => return api::strict::parse_database(text).map(Self::of),
        };
        let documents: Vec<Value> = documents.into_iter().filter(|document| !document.is_null()).collect();
        let mut manifest = Self::of(Vec::new());
        let mut faults = Vec::new();
        let many = documents.len() > 1;
        for (index, document) in documents.into_iter().enumerate() {
            let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            match document["kind"].as_str() {
                Some("ConfigMap") => drop(
                    manifest
                        .config_maps
                        .insert(name, texts(&document, "data", |text| Some(text.to_owned()))),
                ),
                Some("Secret") => drop(manifest.secrets.insert(name, secret(&document))),
                _ => match api::strict::database(document) {
                    Ok(database) => manifest.databases.push(database),
                    Err(found) => faults.extend(found.into_iter().map(|fault| {
                        let field = if many {
                            format!("document {}: {}", index + 1, fault.field)
                        } else {
                            fault.field.clone()
                        };
                        Fault { field, ..fault }
                    })),
                },
            }
        }
        if !faults.is_empty() {
            Err(faults)
        } else if manifest.databases.is_empty() {
            Err(vec![Fault::new(
                "manifest",
                "",
                "holds no Database",
                "write a Database",
            )])
        } else {
            Ok(manifest)
        }
    }

    fn of(databases: Vec<Database>) -> Self {
        Self {
            databases,
            config_maps: BTreeMap::new(),
            secrets: BTreeMap::new(),
        }
    }

    /// What a Database of this manifest refers to, as far as the manifest has it.
    fn references(&self, database: &Database) -> References {
        let configuration = database.spec.configuration.as_ref();
        let find = |all: &BTreeMap<String, Reference>, reference: Option<&api::database::LocalRef>| {
            reference.map_or(Reference::Absent, |reference| {
                all.get(&reference.name).cloned().unwrap_or(Reference::Missing)
            })
        };
        References {
            config_map: find(&self.config_maps, configuration.and_then(|c| c.config_map_ref.as_ref())),
            secret: find(&self.secrets, configuration.and_then(|c| c.secret_ref.as_ref())),
        }
    }
}

fn texts(document: &Value, field: &str, text: fn(&str) -> Option<String>) -> Reference {
    let mut found = BTreeMap::new();
    let mut unreadable = Vec::new();
    for (key, value) in document[field].as_object().into_iter().flatten() {
        match value.as_str().and_then(text) {
            Some(value) => drop(found.insert(key.clone(), value)),
            None => unreadable.push(key.clone()),
        }
    }
    if unreadable.is_empty() {
        Reference::Found(found)
    } else {
        Reference::NotText(unreadable)
    }
}

fn secret(document: &Value) -> Reference {
    let decode = |text: &str| String::from_utf8(BASE64.decode(text).ok()?).ok();
    match (
        texts(document, "data", decode),
        texts(document, "stringData", |text| Some(text.to_owned())),
    ) {
        (Reference::Found(mut data), Reference::Found(plain)) => {
            data.extend(plain);
            Reference::Found(data)
        }
        (Reference::Found(_), unreadable) | (unreadable, _) => unreadable,
    }
}

/// Plans every Database of a manifest as if nothing of it existed.
pub(crate) fn offline(manifest: &Manifest, namespace: &str, catalogue: &Catalogue) -> Vec<Planned> {
    let plan_one = |database: &Database| {
        let subject = subject(database, namespace);
        let verdict = validate(&database.spec, &manifest.references(database), catalogue, None);
        match verdict {
            Ok(intent) => {
                let next = fresh(&subject, intent, as_recorded(&database.spec));
                show(&subject, &[], Some(&next), None)
            }
            Err(refusal) => show(&subject, &refusal.faults, None, None),
        }
    };
    manifest.databases.iter().map(plan_one).collect()
}

/// Plans every Database of a manifest against what the cluster has.
pub(crate) async fn against_cluster(
    manifest: &Manifest,
    namespace: &str,
    catalogue: &Catalogue,
    client: &Client,
) -> Result<Vec<Planned>, PlanError> {
    let mut all = Vec::new();
    for database in &manifest.databases {
        let subject = subject(database, namespace);
        let preview = preview(client, catalogue, &subject.namespace, &subject.name, &database.spec)
            .await
            .map_err(|source| PlanError::Cluster {
                database: format!("{}/{}", subject.namespace, subject.name),
                source,
            })?;
        let mut faults = preview
            .verdict
            .refusal()
            .map(|refusal| refusal.faults.clone())
            .unwrap_or_default();
        if let Some(current) = &preview.current {
            faults.splice(0..0, api::rules::schema_faults(database, Some(current)));
        }
        // What the server refuses never reaches the operator, so there is nothing to be done about it.
        all.push(show(
            &subject,
            &faults,
            preview.plan.as_ref(),
            Some(preview.current.is_some()),
        ));
    }
    Ok(all)
}

fn show(subject: &Subject, faults: &[Fault], plan: Option<&Plan>, exists: Option<bool>) -> Planned {
    let refused = !faults.is_empty();
    let mut all = json!({
        "database": format!("{}/{}", subject.namespace, subject.name),
        "verdict": if refused { "refused" } else { "accepted" },
    });
    if let Some(exists) = exists {
        all["exists"] = json!(exists);
    }
    if refused {
        all["faults"] = json!(faults);
        all["note"] = json!("a refused spec changes nothing; what is planned works from the spec accepted before");
    }
    if let (Some(plan), Some(all)) = (plan, all.as_object_mut())
        && let Value::Object(shown) = shown(plan)
    {
        all.extend(shown);
    }
    Planned { shown: all, refused }
}
