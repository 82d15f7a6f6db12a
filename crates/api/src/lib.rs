//! The `Database` resource, the types of its values, and the names that are fixed for ever.
//!
//! Read in this order: [`database`] (the resource as users write it), [`database::status`] (what the operator reports),
//! [`exception`] (rules of policy that some may break), [`names`]; then the value types [`quantity`], [`version`], [`schedule`], [`retention`], which are exact and know no
//! clock; then [`fault`] (how refusals are told), [`rules`] and `metadata` (what the API server refuses) and [`strict`] (reading
//! manifests without a server).
//!
//! Values stand in the spec as text and are parsed by whoever judges them, so that one bad Database never breaks the
//! decoding of a list, and all of its faults can be told at once.
//!
//! Deliberately absent: a client, a clock, I/O, and everything that needs the catalogue of engines.

pub use crd::{crd_yaml, crds};

mod crd;
pub mod database;
pub mod exception;
pub mod fault;
mod metadata;
pub mod names;
pub mod quantity;
pub mod retention;
pub mod rules;
pub mod schedule;
mod schema;
pub mod strict;
#[cfg(feature = "test-support")]
pub mod test_support;
pub mod version;
