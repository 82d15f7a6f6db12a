//! Everything a cluster is made of, from the cache or made now.

use std::path::PathBuf;

use thiserror::Error;

use crate::cache::{Cache, CacheError};
use crate::tools::{ETCD, KUBERNETES, KWOK, ToolError};

/// Why a part cannot be had.
#[derive(Debug, Error)]
pub enum PartError {
    /// The cache folder.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A program that is built from source.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// What kind of cluster the parts are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Real nodes: a container runtime, images, name service.
    pub nodes: bool,
    /// Nodes that are played.
    pub simulated_nodes: bool,
}

/// Where the parts are.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// The folder with `kube-apiserver`, `kubectl` and the rest.
    pub(crate) kubernetes: PathBuf,
    pub(crate) etcd: PathBuf,
    /// KWOK's folder: the program and its stages.
    pub(crate) kwok: Option<PathBuf>,
}

impl Parts {
    /// Builds and downloads what the cache does not have; says what it does while that takes long.
    pub(crate) fn prepare(wanted: Wanted) -> Result<Self, PartError> {
        let cache = Cache::of_user()?;
        Ok(Self {
            kubernetes: KUBERNETES.folder(&cache)?,
            etcd: ETCD.program(&cache)?,
            kwok: wanted.simulated_nodes.then(|| KWOK.folder(&cache)).transpose()?,
        })
    }
}

/// Builds and downloads what the cache does not have, and returns where it is.
pub fn prepare(wanted: Wanted) -> Result<Vec<PathBuf>, PartError> {
    let Parts { kubernetes, etcd, kwok } = Parts::prepare(wanted)?;
    Ok([Some(kubernetes), Some(etcd), kwok].into_iter().flatten().collect())
}
