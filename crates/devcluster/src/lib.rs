//! A real Kubernetes on one machine, for tests and for the demo.

mod api;
mod cache;
mod certificates;
mod cgroups;
mod cluster;
mod command;
mod component;
mod control_plane;
mod debian;
mod folder;
mod identities;
mod images;
mod kubeconfig;
mod lifecycle;
mod node;
mod node_init;
mod parts;
mod progress;
mod provisioner;
mod simulated;
mod state;
mod status;
mod supervisor;
mod tools;

pub use certificates::Identity;
pub use cluster::{Cluster, ClusterError, Options};
pub use component::ComponentStatus;
pub use control_plane::Mode;
pub use folder::{DEFAULT_NAME, InvalidName, Name};
pub use lifecycle::{Ended, down};
pub use node_init::{InitError, enter, node_init};
pub use parts::{PartError, Wanted, prepare};
pub use status::{NodeStatus, Status, all, components, log, status};
pub use supervisor::{Shape, SupervisorError, supervise};
pub use tools::KUBERNETES_VERSION;
