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
mod identities;
mod images;
mod kubeconfig;
mod name;
mod node;
mod node_init;
mod parts;
mod progress;
mod provisioner;
mod simulated;
mod state;
mod supervisor;
mod tools;

pub use certificates::Identity;
pub use cluster::{Cluster, ClusterError, NodeStatus, Options, Status, all, components, down, log, status};
pub use component::ComponentStatus;
pub use control_plane::Mode;
pub use name::{DEFAULT_NAME, InvalidName, Name};
pub use node_init::{InitError, enter, node_init};
pub use parts::{PartError, Wanted, prepare};
pub use supervisor::{Shape, SupervisorError, supervise};
pub use tools::KUBERNETES_VERSION;
