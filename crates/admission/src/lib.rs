//! The webhook by which the API server asks whether a Database may be declared.
//!
//! Read in this order: [`review`] (what is asked, pure), [`answer`] (what is said, pure), [`webhook`] (the path
//! `/validate`), [`server`] and [`tls`] (HTTPS, with certificates that change while it serves), [`certificates`] (where
//! those come from), [`registration`] (what tells the API server of all this).
//!
//! Promises:
//! - Nothing but a deletion, a change that does not touch the spec, or an allowing decision is allowed; whatever cannot
//!   be read or decided is refused in words (`review/tests.rs`, `tests/admission/webhook.rs`).
//! - Every request is answered within its limit of time, also under too much load, and what waits is bounded.
//! - A certificate, or the authority behind it, is replaced without a failed request (`tests/admission/rotation.rs`).
//! - A server that leaves goes on until API servers know; each answer ends its connection (`tests/admission/server.rs`).
//! - No private key is ever printed.
//!
//! Not guaranteed: that the API server asks at all. With the failure policy `Ignore`, or without the registration, a
//! Database passes unseen; the reconciler asks the same policies again.
//!
//! Deliberately absent: defaults (they are in the schema), who records decisions (the desk's surroundings), and series of
//! metrics (whoever counts is told, see [`webhook::Hears`]).

pub mod answer;
pub mod certificates;
pub mod registration;
pub mod review;
pub mod server;
pub mod tls;
pub mod webhook;
