//! `GET /v1/decisions`: from a request to an answer, within bounds.
//!
//! In this order: is there room, is the question understood (400), who asks (401), may they see the namespace that they
//! ask for (403). Without a namespace they see all that they may see, and are told if that is not everything.

mod access;
mod gather;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use policy::log::{Filter, QueryError, Reader};
use scopeguard::guard;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::{Instant, timeout};

use crate::PATH;
use crate::parameters::{self, ParameterError};
use crate::reviews::{AUDIENCE, Pending, RESOURCE, ReviewError, Reviews};

pub use gather::Bounds;

use access::Access;
use gather::{Answer, Chunk, Store, View, gather};

/// What all requests together may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that are answered at a time, most of them waiting for the API server or for a reader. More are turned away.
    pub requests: usize,
    /// Longest that one may take.
    pub time: Duration,
    /// What one may cost.
    pub bounds: Bounds,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: 32,
            time: Duration::from_secs(20),
            bounds: Bounds::default(),
        }
    }
}

/// How a request ended. A closed set, so it may be a label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Answered.
    Ok,
    /// A parameter is none.
    Invalid,
    /// Nobody knows who asks.
    Unauthorised,
    /// They may not see that.
    Denied,
    /// Turned away: too many ask.
    Shed,
    /// No answer: the API server or the store is not there, it took too long, or a defect.
    Error,
    /// Not answered: whoever asked did not wait.
    Gone,
}

/// Is told of each request, and how long it took. Must not wait.
pub type Hears = Arc<dyn Fn(Outcome, Duration) + Send + Sync>;

/// The path, with the usual limits. So many are read for at a time as there are readers: two are enough.
pub fn router(readers: Vec<Reader>, reviews: Arc<dyn Reviews>, hears: Hears) -> Router {
    router_within(readers, reviews, hears, Limits::default())
}

/// The path, with other limits.
pub fn router_within(readers: Vec<Reader>, reviews: Arc<dyn Reviews>, hears: Hears, limits: Limits) -> Router {
    let service = Service {
        reading: Arc::new(Semaphore::new(readers.len())),
        readers: Arc::new(Mutex::new(readers)),
        access: Access::new(reviews),
        requests: Semaphore::new(limits.requests),
        hears,
        limits,
    };
    Router::new().route(PATH, get(decisions)).with_state(Arc::new(service))
}

struct Service {
    readers: Arc<Mutex<Vec<Reader>>>,
    /// A place for each reader.
    reading: Arc<Semaphore>,
    access: Access,
    requests: Semaphore,
    hears: Hears,
    limits: Limits,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    #[error(
        "no token: send `Authorization: Bearer TOKEN` with a token of the API server, or one for the audience {AUDIENCE}"
    )]
    NoToken,
    #[error("the token is no valid one of this cluster, neither for the API server nor for the audience {AUDIENCE}")]
    Token,
    #[error(
        "{user} may not {verb} {resource}.{group} in namespace {namespace}, and so not see decisions about them",
        group = RESOURCE.0, resource = RESOURCE.1, verb = RESOURCE.2
    )]
    Forbidden { user: String, namespace: String },
    #[error("too many ask already; ask again in a second")]
    Busy,
    #[error("the answer took too long; ask for less")]
    Late,
    #[error("the API server does not answer whether you may see this; the operator's log says more")]
    Review(#[from] ReviewError),
    #[error("the store of decisions does not answer; the operator's log says more")]
    Store(#[from] QueryError),
    #[error("a record cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    #[error("reading broke off")]
    Broken(#[from] JoinError),
}

impl Refusal {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Parameters(_) => Outcome::Invalid,
            Self::NoToken | Self::Token => Outcome::Unauthorised,
            Self::Forbidden { .. } => Outcome::Denied,
            Self::Busy => Outcome::Shed,
            Self::Late | Self::Review(_) | Self::Store(_) | Self::Json(_) | Self::Broken(_) => Outcome::Error,
        }
    }

    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Parameters(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::NoToken | Self::Token => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden { .. } => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::Busy => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Self::Late | Self::Review(_) | Self::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Self::Json(_) | Self::Broken(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        }
    }
}

/// In the API server's own form, which its clients read.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, reason) = self.status();
        if code.is_server_error() {
            let cause = std::error::Error::source(&self).map(ToString::to_string);
            let why = match &self {
                Self::Review(error) => error.to_string(),
                _ => self.to_string(),
            };
            tracing::warn!(error = why, cause, "a question about decisions has no answer");
        }
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": reason, "code": code.as_u16(),
        });
        let mut response = answered(code, status.to_string());
        let headers = response.headers_mut();
        if code == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if code == StatusCode::TOO_MANY_REQUESTS || code == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn answered(code: StatusCode, body: String) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (code, headers, body).into_response()
}

async fn decisions(State(service): State<Arc<Service>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let begun = Instant::now();
    // Told when it ends; whoever drops it before did not wait.
    let mut outcome = guard(Outcome::Gone, |outcome| (service.hears)(outcome, begun.elapsed()));
    let answer = service.text(query.as_deref().unwrap_or_default(), &headers).await;
    *outcome = answer.as_ref().map_or_else(Refusal::outcome, |_| Outcome::Ok);
    match answer {
        Ok(text) => answered(StatusCode::OK, text),
        Err(refusal) => refusal.into_response(),
    }
}

impl Service {
    /// The answer as it is sent, within the limits.
    async fn text(&self, query: &str, headers: &HeaderMap) -> Result<String, Refusal> {
        let _place = self.requests.try_acquire().map_err(|_| Refusal::Busy)?;
        let answer = timeout(self.limits.time, self.answer(query, headers)).await;
        Ok(serde_json::to_string(&answer.map_err(|_| Refusal::Late)??)?)
    }

    async fn answer(&self, query: &str, headers: &HeaderMap) -> Result<Answer, Refusal> {
        let mut filter = parameters::read(query)?;
        let token = bearer(headers).ok_or(Refusal::NoToken)?;
        let caller = self.access.caller(token).await?.ok_or(Refusal::Token)?;
        let view = match &filter.namespace {
            Some(namespace) if caller.sees(namespace).await? => {
                filter.allowed = Some([namespace.clone()].into());
                View::All
            }
            Some(namespace) => {
                return Err(Refusal::Forbidden {
                    user: caller.name().to_owned(),
                    namespace: namespace.clone(),
                });
            }
            None if caller.sees_all().await? => View::All,
            None => View::Some(&caller),
        };
        gather(filter, view, self.limits.bounds, self).await
    }

    /// Reads on a thread that may block. It keeps its place until it is done, also when nobody waits for it any more.
    async fn read(&self, filter: Filter) -> Result<Chunk, Refusal> {
        let place = Arc::clone(&self.reading).acquire_owned().await;
        let place = place.map_err(|_| Refusal::Late)?;
        let readers = Arc::clone(&self.readers);
        let read = tokio::task::spawn_blocking(move || {
            let _place = place;
            let lock = || readers.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(mut reader) = lock().pop() else {
                // One was lost in a panic.
                return Err(Refusal::Busy);
            };
            let page = reader.page(&filter);
            lock().push(reader);
            Ok(Chunk::of(page?)?)
        });
        read.await?
    }
}

impl Store for Service {
    fn look(&self, filter: Filter) -> Pending<'_, Result<Chunk, Refusal>> {
        Box::pin(self.read(filter))
    }
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests;
