//! `database-operator fleet`: how replicas share the Databases.
//!
//! Read in this order: [`facts`] (what is known of a fleet, as data), [`read`] (how it comes from an API server),
//! [`status`] (what follows from it; pure) and [`show`] (the same for people), [`explain`] (one Database), [`drain`] (the
//! only one that writes), then [`simulate`], which asks no cluster.

pub(crate) mod drain;
pub(crate) mod explain;
pub(crate) mod facts;
pub(crate) mod read;
pub(crate) mod show;
pub(crate) mod simulate;
pub(crate) mod status;
#[cfg(test)]
mod tests;
