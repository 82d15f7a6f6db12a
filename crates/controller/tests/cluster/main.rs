//! The controller on a real API server, and on a real node.
//!
//! Run by `make test`, which starts a cluster and runs this inside its network. Without one, every test here is
//! skipped, loudly; with `CI=true` that skip is a failure. Each test has a namespace of its own and an operator of its
//! own that looks at nothing else, under exactly the permissions that `database-operator rbac` prints.
//!
//! | file | what belongs there |
//! | --- | --- |
//! | `support.rs` | the cluster, namespaces, operators, waiting, the audit log. No assertions about the product |
//! | `lifecycle.rs` | create, change, delete, without pods |
//! | `drift.rs` | damage, and its repair |
//! | `crash.rs` | an operator that ends between any two writes |
//! | `errors.rs` | what the API server can answer, and which class of error it is |
//! | `isolation.rs` | faults that must not spread: defects, an overloaded API server |
//! | `counts.rs` | how many requests things cost |
//! | `policies.rs` | what policies refuse in a reconcile, and what goes on |
//! | `refused.rs` | what is refused, and how it is told |
//! | `program.rs` | the real program, for `enforced.rs` and `secrets.rs`, which have the cluster for themselves |
//! | `enforced.rs` | policies enforced by it: webhook, reconcile, log of decisions |
//! | `secrets.rs` | that no secret is anywhere but in Secrets |
//! | `upgrade.rs` | a newer operator beside running pods |
//! | `pods.rs` | real engines in real pods |

mod counts;
mod crash;
mod drift;
mod enforced;
mod errors;
mod isolation;
mod lifecycle;
mod pods;
mod policies;
mod program;
mod refused;
mod secrets;
mod support;
mod upgrade;
