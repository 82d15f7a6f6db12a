//! Everything a cluster is made of, from the cache or made now.

use std::path::PathBuf;

use thiserror::Error;

use crate::cache::{Cache, CacheError};
use crate::images::{self, EngineImage, ImageError};
use crate::node::{NodeError, NodeParts, check_place};
use crate::tools::{COREDNS, ETCD, KUBERNETES, KWOK, OPA, OPA_JUDGE, PAUSE, ToolError};

/// Why a part cannot be had.
#[derive(Debug, Error)]
pub enum PartError {
    /// The cache folder.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A program that is built from source.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The container runtime or the images.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The cache is where a node cannot use it.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// What kind of cluster the parts are for, beyond the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Real nodes: a container runtime, images, a name service. Making the images needs root.
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
    pub(crate) coredns: Option<PathBuf>,
    pub(crate) node: Option<NodeParts>,
}

impl Parts {
    /// Builds and downloads what the cache does not have; says what it does while that takes long.
    pub(crate) fn prepare(wanted: Wanted) -> Result<Self, PartError> {
        let cache = Cache::of_user()?;
        Ok(Self {
            kubernetes: KUBERNETES.folder(&cache)?,
            etcd: ETCD.program(&cache)?,
            kwok: wanted.simulated_nodes.then(|| KWOK.folder(&cache)).transpose()?,
            coredns: wanted.nodes.then(|| COREDNS.program(&cache)).transpose()?,
            node: wanted.nodes.then(|| node_parts(&cache)).transpose()?,
        })
    }
}

fn node_parts(cache: &Cache) -> Result<NodeParts, PartError> {
    check_place(cache.root(), "XDG_CACHE_HOME")?;
    let pause = PAUSE.program(cache)?;
    let runtime = images::runtime(cache)?;
    let images = images::images(cache, &runtime, &pause)?;
    Ok(NodeParts { runtime, images, pause })
}

/// The images of engines that real nodes have. Makes them if the cache does not have them.
pub fn engine_images() -> Result<Vec<EngineImage>, PartError> {
    Ok(images::engine_images(&node_parts(&Cache::of_user()?)?.images)?)
}

/// Builds and downloads what the cache does not have, and returns where it is.
pub fn prepare(wanted: Wanted) -> Result<Vec<PathBuf>, PartError> {
    let Parts {
        kubernetes,
        etcd,
        kwok,
        coredns,
        node,
    } = Parts::prepare(wanted)?;
    let mut places = vec![kubernetes, etcd];
    places.extend(kwok.into_iter().chain(coredns));
    if let Some(NodeParts { runtime, images, pause }) = node {
        places.extend([runtime, images, pause]);
    }
    Ok(places)
}

/// OPA, for those who write policies and for those who compare an engine with it. No cluster needs it, so only who asks
/// for it builds it.
#[derive(Debug, Clone)]
pub struct Opa {
    /// OPA's own command line.
    pub program: PathBuf,
    /// Answers many small programs, and measures one: its `--help` says how.
    pub judge: PathBuf,
}

/// Builds OPA if the cache does not have it.
pub fn opa() -> Result<Opa, PartError> {
    let folder = OPA.folder(&Cache::of_user()?)?;
    Ok(Opa {
        program: folder.join("opa"),
        judge: folder.join(OPA_JUDGE),
    })
}
