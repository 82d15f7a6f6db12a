//! The clients of the protocol's own traffic. Nothing else of the program uses them, so that no list of ten thousand
//! objects and no retry of it stands in the way of a renewal.
//!
//! HTTP/1.1, as `kube` has it: a request that is given up closes its connection, so a dead one is used for one try only,
//! and each watch has a connection of its own.

use std::time::Duration;

use http::header::{HeaderValue, InvalidHeaderValue, USER_AGENT};
use kube::{Client, Config};
use telemetry::Requests;

use crate::connection;

/// How long one answer may take, at most.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The user agent is not one.
    #[error("{text:?} cannot be sent as a user agent")]
    UserAgent {
        /// The text.
        text: String,
        /// What is wrong.
        source: InvalidHeaderValue,
    },
    /// The configuration does not make a client.
    #[error("the client for Leases cannot be set up")]
    Client(#[source] Box<kube::Error>),
}

/// Two clients, since a watch is silent for long and a request never is.
#[derive(Clone)]
pub struct Clients {
    /// For requests: one try, and at most [`ANSWER_WITHIN`].
    pub(crate) requests: Client,
    /// For watches.
    pub(crate) watches: Client,
}

impl Clients {
    /// Clients of the API server that `config` names, under this user agent. Needs a tokio runtime.
    /// Counted by `counts`, and slowed by nothing.
    pub fn new(config: &Config, user_agent: &str, counts: Option<&Requests>) -> Result<Self, ClientError> {
        let value = HeaderValue::from_str(user_agent).map_err(|source| ClientError::UserAgent {
            text: user_agent.to_owned(),
            source,
        })?;
        let mut config = config.clone();
        config.headers.retain(|(name, _)| *name != USER_AGENT);
        config.headers.push((USER_AGENT, value));
        config.connect_timeout = Some(ANSWER_WITHIN);
        config.write_timeout = Some(ANSWER_WITHIN);
        // A renewal that is sent again by itself could outlive the Lease that it renews.
        config.default_retry = false;
        let made =
            |config| connection::client(config, counts, None).map_err(|error| ClientError::Client(Box::new(error)));
        // A watch has its own measure of silence.
        config.read_timeout = None;
        let watches = made(config.clone())?;
        config.read_timeout = Some(ANSWER_WITHIN);
        let requests = made(config)?;
        Ok(Self { requests, watches })
    }
}
