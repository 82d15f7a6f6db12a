//! A real Kubernetes on one machine, for tests and for the demo.
//!
//! A cluster is one supervising process ([`supervise`]) and what it owns. [`Cluster`] is how others see it: `up`,
//! `attach`, a [`Cluster::command`] that runs where the API server and pods are reachable, a kubeconfig for any user, the
//! audit log. `README.md` has the picture, the figures, and what is not like a real cluster.
//!
//! Read in this order: `supervisor` (the start, step by step), `control_plane` and `node` (how each program is told to
//! run, pure), `component` (deaths), `provisioner` (volumes), `lifecycle` (the supervisor seen from outside). What a
//! cluster is made of comes from `parts`: `tools` are built from pinned sources, `debian` and `images` are distribution
//! packages, and `cache` keeps all of them.
//!
//! Promise: after [`down`], no process, mount, cgroup, namespace or file of the cluster is left, however it ended
//! (`tests/clusters.rs`); the cache stays. A process that a user started inside is the user's, and is named.
//!
//! Not guaranteed: durability (etcd does not sync), sizes of volumes (nothing enforces them), network policies.
//!
//! Deliberately absent: restarts. A component that dies is reported and stays dead, for that may be what is tested.

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
mod proxy;
mod simulated;
mod state;
mod status;
mod supervisor;
mod test_bed;
mod tools;

pub use certificates::Identity;
pub use cluster::{Cluster, ClusterError, Options};
pub use component::ComponentStatus;
pub use control_plane::{BODIES_GROUP, Mode};
pub use folder::{DEFAULT_NAME, InvalidName, Name};
pub use images::EngineImage;
pub use lifecycle::{Ended, down};
pub use node_init::{InitError, enter, node_init};
pub use parts::{Opa, PartError, Wanted, engine_images, opa, prepare};
pub use proxy::Proxy;
pub use status::{NodeStatus, Status, all, components, log, status};
pub use supervisor::{Shape, SupervisorError, supervise};
pub use test_bed::{TestBed, skip};
pub use tools::KUBERNETES_VERSION;
