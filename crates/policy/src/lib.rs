//! Policies in Rego: what may be declared.
//!
//! The same evaluation serves the API server's webhook, every reconcile and the command line. Read in this order:
//! [`request`] (what is asked), [`levels`] and [`settings`] (which policies hold where), [`norm`] (what rules see),
//! [`policies`] (asking them), [`decision`] (the answer), [`exception`], and how policies get in: [`bundle`], [`gate`],
//! [`testing`]. Where it is asked while the operator runs: [`guard`] (threads), [`desk`]. What was decided is kept by [`log`].

pub mod bundle;
pub mod decision;
pub mod desk;
pub mod exception;
pub mod gate;
pub mod guard;
pub mod image;
pub mod levels;
pub mod log;
pub mod norm;
pub mod policies;
mod reads;
mod rego;
pub mod request;
pub mod settings;
pub mod stack;
pub mod testing;
mod tree;
