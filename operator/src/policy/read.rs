//! What is read for a question: policies, Databases, exceptions.

use std::borrow::Borrow;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use api::fault::Fault;
use engines::catalogue::Catalogue;
use planner::fresh;
use policy::bundle::{Bundle, Files, MAX_UNPACKED_BYTES, OpenError, archive, folder};
use policy::exception::PolicyException;
use policy::request::{Namespace, Operation, Planner, Request, Source, User};
use serde_json::Value;

use crate::catalogue;
use crate::command::Question as Arguments;
use crate::plan;

/// Why a file is not what it must be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// Not there, or not readable.
    #[error("{}: cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not YAML.
    #[error("{}: cannot be read as YAML: {why}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        why: String,
    },
    /// None or several.
    #[error("{}: holds {count} Databases; give a file with one", path.display())]
    Count {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// What was there before is something else.
    #[error("{}: {why}; give the same Database as it was before", path.display())]
    Other {
        /// What was there before.
        path: PathBuf,
        /// What differs.
        why: String,
    },
    /// Neither a folder nor an archive with policies.
    #[error("{}: is no bundle", path.display())]
    Bundle {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Not an exception.
    #[error("{}: is no PolicyException: {why}", path.display())]
    Exception {
        /// The file.
        path: PathBuf,
        /// Where and why.
        why: String,
    },
}

/// What is decided about.
pub(super) struct Question {
    /// The question.
    pub request: Request,
    /// Exceptions that there are.
    pub exceptions: Vec<PolicyException>,
    /// Releases that there are.
    pub catalogue: Catalogue,
    /// What an API server would refuse before it asks any policy.
    faults: Vec<Fault>,
}

impl Question {
    /// Reads the files.
    pub(super) fn read(arguments: &Arguments) -> Result<Self, Box<dyn std::error::Error>> {
        let object = one(&arguments.database)?;
        let old = arguments.old.as_deref().map(one).transpose()?;
        if let (Some(old), Some(old_path)) = (&old, &arguments.old) {
            same_database((&object, &arguments.database), (old, old_path))?;
        }
        let exceptions = match &arguments.exceptions {
            Some(path) => exceptions(path)?,
            None => Vec::new(),
        };
        let written = object["metadata"]["namespace"].as_str().filter(|name| !name.is_empty());
        let namespace = written.unwrap_or(&arguments.namespace);
        let implied = if old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        };
        let operation = arguments.operation.unwrap_or(implied);
        let before = old.as_ref().filter(|_| operation == Operation::Update);
        let faults = api::strict::faults(&object, before);
        let request = Request {
            operation,
            dry_run: false,
            source: Source::Cli,
            user: arguments.user.as_ref().map(|name| User {
                name: name.clone(),
                uid: None,
                groups: arguments.group.clone(),
            }),
            namespace: Namespace {
                name: namespace.to_owned(),
                labels: arguments.namespace_labels.iter().cloned().collect(),
            },
            object,
            old,
        };
        Ok(Self {
            request,
            exceptions,
            catalogue: catalogue::load(arguments.catalogue.as_deref())?,
            faults,
        })
    }

    /// What plans the children of the Database, unless an API server would not even take it.
    pub(super) fn planner(&self) -> impl Planner {
        Admitted {
            faults: &self.faults,
            planner: planner(&self.catalogue),
        }
    }
}

/// A change of a Database is one of that Database.
fn same_database((object, path): (&Value, &Path), (old, old_path): (&Value, &Path)) -> Result<(), ReadError> {
    for field in ["name", "namespace"] {
        let (new, old) = (&object["metadata"][field], &old["metadata"][field]);
        if new != old {
            return Err(ReadError::Other {
                path: old_path.to_owned(),
                why: format!("metadata.{field} is {old}, and in {} it is {new}", path.display()),
            });
        }
    }
    Ok(())
}

/// A planner that plans nothing of what has faults.
struct Admitted<'a, P> {
    faults: &'a [Fault],
    planner: P,
}

impl<P> Admitted<'_, P> {
    fn admit(&self) -> Result<(), Vec<Fault>> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(self.faults.to_vec())
        }
    }
}

impl<P: Planner> Planner for Admitted<'_, P> {
    fn children(&self, object: &Value, namespace: &str) -> Result<Vec<Value>, Vec<Fault>> {
        self.admit()?;
        self.planner.children(object, namespace)
    }

    fn sets(&self, object: &Value, namespace: &str) -> Result<Vec<Value>, Vec<Fault>> {
        self.admit()?;
        self.planner.sets(object, namespace)
    }
}

/// A planner that reads a Database as strictly as the API server.
pub(crate) fn planner<C: Borrow<Catalogue> + Send + Sync>(catalogue: C) -> impl Planner + Send + use<C> {
    Strict(catalogue)
}

struct Strict<C>(C);

impl<C: Borrow<Catalogue> + Sync> Planner for Strict<C> {
    fn children(&self, object: &Value, namespace: &str) -> Result<Vec<Value>, Vec<Fault>> {
        fresh::children(&api::strict::filled(object)?, namespace, self.0.borrow())
    }

    fn sets(&self, object: &Value, namespace: &str) -> Result<Vec<Value>, Vec<Fault>> {
        fresh::sets(&api::strict::filled(object)?, namespace, self.0.borrow())
    }
}

/// Bundles in the order in which they are given. Their signatures are not looked at: whoever gives a file here vouches
/// for it.
pub(super) fn bundles(paths: &[PathBuf]) -> Result<Vec<Bundle>, Box<dyn std::error::Error>> {
    paths.iter().map(|path| bundle(path)).collect()
}

/// One of them.
pub(super) fn bundle(path: &Path) -> Result<Bundle, Box<dyn std::error::Error>> {
    let opened = Bundle::open_unverified(&name(path), files(path)?);
    Ok(opened.map_err(|source| OpenError::Content {
        bundle: path.display().to_string(),
        source,
    })?)
}

/// The name of the bundle at that path. Empty, if the path has none.
pub(super) fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".tar.gz").unwrap_or(&name).to_owned()
}

/// The files of a folder or of an archive.
pub(super) fn files(path: &Path) -> Result<Files, ReadError> {
    let unusable = |source: Box<dyn std::error::Error + Send + Sync>| ReadError::Bundle {
        path: path.to_owned(),
        source,
    };
    if path.is_dir() {
        return folder::read(path).map_err(|error| unusable(error.into()));
    }
    // Packed it is not larger than unpacked: what goes on after that is cut off, and so no archive.
    let mut packed = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_UNPACKED_BYTES as u64).read_to_end(&mut packed))
        .map_err(|source| ReadError::File {
            path: path.to_owned(),
            source,
        })?;
    archive::read(&packed).map_err(|error| unusable(error.into()))
}

/// The documents of a file, and of the lists in it; `-` means standard input.
pub(super) fn documents(path: &Path) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let text = plan::read(path)?;
    let documents: Vec<Value> = serde_yaml::from_multiple(&text).map_err(|error| ReadError::Yaml {
        path: path.to_owned(),
        why: error.to_string().lines().next().unwrap_or_default().to_owned(),
    })?;
    let mut listed = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        match document {
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                // `kubectl` applies what is in it.
                match list.remove("items") {
                    Some(Value::Array(items)) => listed.extend(items),
                    _ => listed.push(Value::Object(list)),
                }
            }
            document => listed.push(document),
        }
    }
    Ok(listed)
}

/// The Database of a file: its only document, or the only one of that kind.
fn one(path: &Path) -> Result<Value, Box<dyn std::error::Error>> {
    let mut documents = documents(path)?;
    if documents.len() > 1 {
        documents.retain(|document| document["kind"] == api::names::KIND);
    }
    match (documents.pop(), documents.len()) {
        (Some(document), 0) => Ok(document),
        (last, others) => Err(ReadError::Count {
            path: path.to_owned(),
            count: others + usize::from(last.is_some()),
        }
        .into()),
    }
}

fn exceptions(path: &Path) -> Result<Vec<PolicyException>, Box<dyn std::error::Error>> {
    let wrong = |why: String| ReadError::Exception {
        path: path.to_owned(),
        why,
    };
    let read = |document: Value| {
        for (field, wanted) in [("apiVersion", api::names::API_VERSION), ("kind", "PolicyException")] {
            if document[field] != wanted {
                let found = &document[field];
                return Err(wrong(format!("{field} is {found}; write {wanted}")));
            }
        }
        if document["metadata"]["name"].as_str().is_none_or(str::is_empty) {
            return Err(wrong(
                "metadata.name: is not there; decisions name the exception by it".to_owned(),
            ));
        }
        serde_json::from_value(document).map_err(|error| wrong(error.to_string()))
    };
    let read: Result<Vec<_>, _> = documents(path)?.into_iter().map(read).collect();
    Ok(read?)
}
