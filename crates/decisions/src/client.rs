//! All replicas are asked, with the caller's own token, and their pages become one.
//!
//! Read in this order: [`Query`] (page after page), [`Replica`] and [`discover`] (whom to ask), [`token`] (in whose name).
//!
//! A replica that does not answer once is not asked again: what it has is missing, and [`Query::missing`] says so.

pub mod discover;
pub mod token;

use std::time::Duration;

use futures::{AsyncReadExt as _, StreamExt as _, stream};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Uri};
use kube::{Client, Config};
use policy::log::{Answer, Cursor, Entry, Filter, MAX_LIMIT, Missing, Page, merge};
use serde::Deserialize;

use crate::{PATH, objects, parameters};
use token::{Token, TokenError};

/// Longest that a replica may take. It gives up itself before that.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Longest that a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Largest answer that is read.
const ANSWER_BYTES: u64 = 64 << 20;

/// Replicas that are asked at a time.
const AT_ONCE: usize = 16;

/// A replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replica {
    /// Its name, for people.
    pub name: String,
    /// Where it is: `https://ADDRESS:PORT`.
    pub url: String,
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An address is none.
    #[error("{url}: is no address of a replica; write https://ADDRESS:PORT")]
    Address {
        /// It.
        url: String,
    },
    /// The authorities are none.
    #[error("the certificates of the authority cannot be used")]
    Authority(#[source] Box<kube::Error>),
    /// There is no certificate.
    #[error("{0} holds no certificate (PEM)")]
    NoCertificate(String),
    /// No token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Nobody answered.
    #[error("no replica answers:{}", lines(.0))]
    Nobody(Vec<Missing>),
}

fn lines(missing: &[Missing]) -> String {
    let lines = missing
        .iter()
        .map(|Missing { replica, reason }| format!("\n  {replica}: {reason}"));
    lines.collect()
}

/// By whom replicas are known to be genuine.
#[derive(Clone, Debug)]
pub struct Authority {
    certificates: Vec<Vec<u8>>,
    server_name: String,
}

impl Authority {
    /// These certificates (PEM), which come from `place`; replicas show one for `server_name`, whatever their address.
    pub fn new(pem: &[u8], place: &str, server_name: String) -> Result<Self, ClientError> {
        let none = || ClientError::NoCertificate(place.to_owned());
        let blocks = pem::parse_many(pem).map_err(|_| none())?;
        let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
        let certificates: Vec<Vec<u8>> = certificates.map(pem::Pem::into_contents).collect();
        if certificates.is_empty() {
            return Err(none());
        }
        Ok(Self {
            certificates,
            server_name,
        })
    }

    fn client(&self, url: &str) -> Result<Client, ClientError> {
        let address = || ClientError::Address { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| address())?;
        // A token is sent there: never in the clear, and to nothing but a host and a port.
        let is_root = matches!(
            uri.path_and_query().map(http::uri::PathAndQuery::as_str),
            None | Some("/" | "")
        );
        let has_user = uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'));
        if uri.scheme_str() != Some("https") || !is_root || has_user {
            return Err(address());
        }
        let mut config = Config::new(uri);
        config.root_cert = Some(self.certificates.clone());
        config.tls_server_name = Some(self.server_name.clone());
        config.connect_timeout = Some(CONNECT_WITHIN);
        config.default_retry = false;
        Client::try_from(config).map_err(|error| ClientError::Authority(Box::new(error)))
    }
}

/// A question to all replicas.
pub struct Query {
    replicas: Vec<(String, Client)>,
    token: Token,
    filter: Filter,
    ended: bool,
    restricted: bool,
    unreadable: u64,
    missing: Vec<Missing>,
}

/// What a replica answers.
#[derive(Deserialize)]
struct Answered {
    entries: Vec<Entry>,
    #[serde(default)]
    next: Option<Cursor>,
    #[serde(default)]
    unreadable: u64,
    #[serde(default)]
    restricted: bool,
}

impl Query {
    /// Asks these replicas for this; the filter's limit means nothing here.
    pub fn new(replicas: &[Replica], authority: &Authority, token: Token, filter: Filter) -> Result<Self, ClientError> {
        let client = |replica: &Replica| Ok((replica.name.clone(), authority.client(&replica.url)?));
        Ok(Self {
            replicas: replicas.iter().map(client).collect::<Result<_, ClientError>>()?,
            token,
            filter,
            ended: false,
            restricted: false,
            unreadable: 0,
            missing: Vec::new(),
        })
    }

    /// The next page, newest first, of at most `limit`. It may be empty and not the last one.
    pub async fn page(&mut self, limit: usize) -> Result<Vec<Entry>, ClientError> {
        self.filter.limit = limit.clamp(1, MAX_LIMIT);
        let token = self.token.header().await?;
        let query = parameters::write(&self.filter);
        let asked = self.replicas.iter().map(|(name, client)| {
            let (query, token) = (&query, &token);
            async move { (name.clone(), ask(client, query, token).await) }
        });
        let answered: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        let answers = answered.into_iter().map(|(replica, outcome)| Answer {
            replica,
            outcome: outcome.map(|answered| {
                self.restricted |= answered.restricted;
                Page {
                    entries: answered.entries,
                    next: answered.next,
                    unreadable: answered.unreadable,
                }
            }),
        });
        let merged = merge(answers.collect(), self.filter.limit);
        self.unreadable += merged.unreadable;
        self.replicas
            .retain(|(name, _)| !merged.missing.iter().any(|missing| &missing.replica == name));
        self.missing.extend(merged.missing);
        if self.replicas.is_empty() {
            return Err(ClientError::Nobody(std::mem::take(&mut self.missing)));
        }
        self.filter.cursor = merged.next;
        self.ended = merged.next.is_none();
        Ok(merged.entries)
    }

    /// Where to go on; `None` at the end.
    pub fn next(&self) -> Option<Cursor> {
        self.filter.cursor.filter(|_| !self.ended)
    }

    /// Whether there is no further page.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Who did not answer, and why: what these have is missing.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Whether only some namespaces were looked at, since the caller may see no others.
    pub fn is_restricted(&self) -> bool {
        self.restricted
    }

    /// Records that were found and could not be read.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

/// Asks one replica. What goes wrong is told in words: it concerns that replica only.
async fn ask(client: &Client, query: &str, token: &HeaderValue) -> Result<Answered, String> {
    let answer = async {
        let request = Request::get(format!("{PATH}?{query}")).header(AUTHORIZATION, token);
        let request = request.body(Vec::new()).map_err(|error| error.to_string())?;
        let body = client.request_stream(request).await.map_err(|error| said(&error))?;
        let (mut text, mut body) = (Vec::new(), body.take(ANSWER_BYTES));
        let read = body.read_to_end(&mut text).await;
        read.map_err(|error| format!("the answer breaks off: {error}"))?;
        objects::from_slice(&text).map_err(|error| format!("the answer cannot be read: {error}"))
    };
    let late = |_| format!("no answer within {} s", ANSWER_WITHIN.as_secs());
    tokio::time::timeout(ANSWER_WITHIN, answer).await.map_err(late)?
}

/// What a replica says, else what is wrong with the connection, down to the cause.
fn said(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
