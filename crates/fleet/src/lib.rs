//! One member of the fleet at a real API server: the thin driver of [`sharding::protocol`].
//!
//! The core decides, this crate carries out. Read in this order: [`driver`] (the loop), [`handle`] (what the rest of
//! the program sees), [`connection`] (how the API server is reached), [`throttle`] (what is done when that has too much
//! to do), [`requests`] (one request, one answer), [`watch`] (how news come in), [`lease`] and [`shardmap`] (objects as data), [`answer`] (what an error means), `observe` (what is
//! counted).
//!
//! A crate of its own, not a module of `sharding`: the pure crates depend on that one and must not get a client with it.
//!
//! Deliberately absent: decisions. Whatever could be decided wrongly is in the core, where the model check sees it.

pub mod alone;
pub mod answer;
pub mod client;
pub mod clock;
pub mod connection;
pub mod deadline;
pub mod driver;
pub mod handle;
pub mod lease;
mod observe;
pub mod requests;
pub mod shardmap;
pub mod throttle;
pub mod watch;

pub use alone::alone;
pub use client::{ClientError, Clients};
pub use clock::Clocks;
pub use driver::{Abandoned, Driver, Settings};
pub use handle::{Fleet, Order, Orders, Served, Stopped};
