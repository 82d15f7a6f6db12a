//! What a source holds now, at the cost of little more than a look if that is what it held before.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use policy::bundle::config_map::{self, ConfigMapError};
use policy::bundle::{ConfigMapContent, Files};

use super::follow::apart;
use super::{Place, Source, files};

/// How long the API server may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// In a volume that Kubernetes mounts from a ConfigMap or a Secret: a link to the folder that holds all files of one version.
/// A new version is written beside it; then the link is replaced, and then the old folder is removed.
const VERSION_LINK: &str = "..data";
/// How often a volume is read again because it has got another version meanwhile, which takes a minute or so.
const TRIES: u32 = 3;

/// Why the files of a source are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// A folder or an archive.
    #[error(transparent)]
    Path(files::ReadError),
    /// Kubernetes writes it all the time.
    #[error("{}: the volume has changed {TRIES} times while it was read", path.display())]
    Swapped {
        /// Where it is mounted.
        path: PathBuf,
    },
    /// 404.
    #[error("ConfigMap {name}: not there; create it, or mend the source's name")]
    Missing {
        /// Namespace and name.
        name: String,
    },
    /// Whatever else the API server says, or does not.
    #[error(
        "ConfigMap {name}: cannot be read; the operator needs the permission to get it, and an API server that answers"
    )]
    Asked {
        /// Namespace and name.
        name: String,
        /// Why.
        source: AskError,
    },
    /// It is there, and no bundle.
    #[error(transparent)]
    Content(#[from] ConfigMapError),
}

/// Why a question to the API server has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It answers with an error, or cannot be reached.
    #[error(transparent)]
    Answer(Box<kube::Error>),
    /// It does not answer.
    #[error("no answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent,
}

/// Asks the API server, but not for ever.
pub(super) async fn asked<T>(question: impl Future<Output = kube::Result<T>>) -> Result<T, AskError> {
    match tokio::time::timeout(ANSWER_WITHIN, question).await {
        Ok(answer) => answer.map_err(|error| AskError::Answer(Box::new(error))),
        Err(_) => Err(AskError::Silent),
    }
}

/// What a source held at a look.
pub(super) struct Held {
    pub files: Result<Files, ReadError>,
    /// Whether it cannot have been read while somebody wrote it: an archive has a checksum, an object and a version of a
    /// volume are one.
    pub whole: bool,
}

impl Held {
    /// The same for the same content, its signature included, and for the same error.
    pub(super) fn identity(&self) -> String {
        match &self.files {
            Ok(files) => {
                let signature = files.get(".signatures.json").unwrap_or_default();
                format!("{} {signature}", files.digest())
            }
            Err(error) => telemetry::chain(error),
        }
    }
}

/// Reads one source again and again.
pub(super) struct Reader {
    pub source: Source,
    client: Client,
    /// What the ConfigMaps held, at which versions.
    known: Option<(Vec<String>, Files)>,
}

impl Reader {
    pub(super) fn new(source: Source, client: Client) -> Self {
        Self {
            source,
            client,
            known: None,
        }
    }

    pub(super) async fn read(&mut self) -> Held {
        match self.source.place.clone() {
            Place::Path(path) => apart(move || of_path(&path)).await,
            Place::ConfigMaps { namespace, names } => Held {
                files: self.config_maps(&namespace, &names).await,
                whole: names.len() == 1,
            },
        }
    }

    async fn config_maps(&mut self, namespace: &str, names: &[String]) -> Result<Files, ReadError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        if let Some((versions, files)) = &self.known {
            let mut now = Vec::new();
            for name in names {
                let metadata = found(namespace, name, asked(api.get_metadata_opt(name)).await)?;
                now.push(version(&metadata.metadata));
            }
            if *versions == now {
                return Ok(files.clone());
            }
        }
        let mut maps = Vec::new();
        for name in names {
            maps.push(found(namespace, name, asked(api.get_opt(name)).await)?);
        }
        let versions = maps.iter().map(|map| version(&map.metadata)).collect();
        let files = files_of(names, maps)?;
        self.known = Some((versions, files.clone()));
        Ok(files)
    }
}

fn of_path(path: &Path) -> Held {
    let version = || fs::canonicalize(path.join(VERSION_LINK));
    if version().is_ok() {
        return Held {
            files: of_volume(path, version),
            whole: true,
        };
    }
    let is_folder = path.is_dir();
    let files = files::files(path).map_err(ReadError::Path);
    Held {
        whole: files.is_ok() && !is_folder,
        files,
    }
}

/// All files of one version: those of one folder, which is still there afterwards.
fn of_volume(path: &Path, version: impl Fn() -> std::io::Result<PathBuf>) -> Result<Files, ReadError> {
    for _ in 0..TRIES {
        let unknown = |source| {
            ReadError::Path(files::ReadError::File {
                path: path.join(VERSION_LINK),
                source,
            })
        };
        let before = version().map_err(unknown)?;
        let files = files::files(&before).map_err(ReadError::Path);
        if version().map_err(unknown)? == before {
            return files;
        }
    }
    Err(ReadError::Swapped { path: path.to_owned() })
}

fn files_of(names: &[String], maps: Vec<ConfigMap>) -> Result<Files, ConfigMapError> {
    let parts: Vec<_> = maps
        .into_iter()
        .map(|map| {
            let binary = map.binary_data.unwrap_or_default().into_iter();
            let binary = binary.map(|(key, bytes)| (key, bytes.0)).collect();
            (map.data.unwrap_or_default(), binary)
        })
        .collect();
    let contents: Vec<ConfigMapContent> = names
        .iter()
        .zip(&parts)
        .map(|(name, (data, binary_data))| ConfigMapContent {
            name,
            data,
            binary_data,
        })
        .collect();
    config_map::read(&contents)
}

fn found<T>(namespace: &str, name: &str, answer: Result<Option<T>, AskError>) -> Result<T, ReadError> {
    let name = format!("{namespace}/{name}");
    match answer {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(ReadError::Missing { name }),
        Err(source) => Err(ReadError::Asked { name, source }),
    }
}

/// Of one object: another one of that name may come to the same resourceVersion in a restored cluster.
fn version(metadata: &kube::core::ObjectMeta) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{} {}", text(&metadata.uid), text(&metadata.resource_version))
}
