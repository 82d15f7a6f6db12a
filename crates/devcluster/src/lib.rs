//! A real Kubernetes on one machine, for tests and for the demo.

mod api;
mod cache;
mod certificates;
mod cluster;
mod command;
mod component;
mod control_plane;
mod identities;
mod kubeconfig;
mod name;
mod parts;
mod progress;
mod provisioner;
mod state;
mod supervisor;
mod tools;

pub use certificates::Identity;
pub use cluster::{Cluster, ClusterError, NodeStatus, Options, Status, all, components, down, log, status};
pub use component::ComponentStatus;
pub use control_plane::Mode;
pub use name::{DEFAULT_NAME, InvalidName, Name};
pub use parts::{PartError, Wanted, prepare};
pub use supervisor::{Shape, SupervisorError, supervise};
pub use tools::KUBERNETES_VERSION;
