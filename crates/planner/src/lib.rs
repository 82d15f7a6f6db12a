//! What must be done to bring a Database's children to what is declared: pure functions from data to data.
//!
//! Read in this order: [`child`] (what is known of what there is), [`intent`] and [`validate`](mod@validate) (what is
//! wanted), [`plan`](mod@plan) (what to do about the difference), [`bodies`] (how each child looks), [`deletion`] (the
//! end), [`ruling`] (what policies say) and [`status`] (what is reported). [`owned`] decides what counts as a difference at all.
//!
//! Promise: planning and carrying out the plan again reaches an empty plan in a bounded number of rounds and stays
//! there, whatever the children looked like (`tests/convergence.rs`).
//! Deliberately absent: clients, clocks, randomness, retries. They are the shell's (`crates/controller`).

pub mod action;
pub mod bodies;
pub mod child;
pub mod deletion;
pub mod fresh;
pub mod intent;
pub mod json;
pub mod kept;
pub mod marks;
pub mod owned;
pub mod plan;
pub mod rendered;
pub mod ruling;
pub mod show;
pub mod status;
pub mod validate;

#[cfg(test)]
mod test_support;
