//! The decision log as it is asked for over the network: `GET /v1/decisions` of one replica, and the question to all.
//!
//! Read in this order: [`parameters`] (what can be asked for, pure), [`server`] (the path, and in which order it checks),
//! `server/access.rs` (who may see what), `server/gather.rs` (a page of what somebody may see), [`reviews`] (the API
//! server is asked who somebody is), [`client`] (all replicas are asked, and their pages become one), [`client::discover`]
//! (which replicas there are), `objects` (how JSON from outside is read).
//!
//! Promises:
//! - Nobody gets a record of a namespace in which they may not `list` Databases; a review that fails shows nothing.
//! - All pages together hold what the caller may see, each record once, newest first (`server/gather/tests.rs`).
//! - A request costs a bounded amount of reading, of reviews, of memory and of time; what is left comes with the next page.
//! - Only masked records are in the store, and so in answers. Tokens are neither kept nor logged.
//!
//! Not guaranteed: that a caller learns nothing of what they may not see. The cursor of a page tells a time before which
//! something was found, and how long an answer takes tells how much was looked at. A namespace that is made again under
//! the name of an older one shows the decisions of that one too.
//!
//! Deliberately absent: TLS and connections (`admission::server`), the store (`policy::log`), words for people (`operator`).

pub mod client;
mod objects;
pub mod parameters;
pub mod reviews;
pub mod server;

/// Where a replica is asked.
pub const PATH: &str = "/v1/decisions";

#[cfg(test)]
mod test_support;
