//! What the supervisor of a cluster tells other processes: one file, replaced as a whole.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::component::ComponentStatus;
use crate::control_plane::Mode;
use crate::folder::{Folder, FolderError};

/// How far a cluster has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Not usable yet; what it waits for.
    Starting(String),
    /// Usable, or it was: see the components.
    Running,
    /// It could not be started; why.
    Failed(String),
}

/// What the supervisor knows of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) mode: Mode,
    /// The supervisor; in [`Mode::Namespace`] its network namespace is the control plane's.
    pub(crate) supervisor: u32,
    pub(crate) api_server: String,
    /// Real nodes.
    pub(crate) nodes: u8,
    pub(crate) simulated_nodes: u32,
    /// Process 1 of each real node, by its number on this machine.
    pub(crate) first_processes: BTreeMap<String, u32>,
    pub(crate) components: Vec<ComponentStatus>,
}

impl State {
    /// What was written last; nothing if no supervisor has come so far.
    pub(crate) fn read(folder: &Folder) -> Result<Option<Self>, FolderError> {
        let path = folder.state();
        match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FolderError::at(&path)(error)),
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| FolderError::at(&path)(error.into())),
        }
    }

    /// Replaces what was written before; a reader sees the old or the new, never a part.
    pub(crate) fn write(&self, folder: &Folder) -> Result<(), FolderError> {
        let path = folder.state();
        let new = path.with_extension("new");
        let text = serde_json::to_vec_pretty(self).map_err(|error| FolderError::at(&new)(error.into()))?;
        fs::write(&new, text).map_err(FolderError::at(&new))?;
        fs::rename(&new, &path).map_err(FolderError::at(&path))
    }
}
