//! The path `/validate`: a request in, an answer out, within bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt;
use policy::decision::Verdict;
use policy::desk::Desk;
use policy::guard::Busy;
use scopeguard::guard;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::answer::Answer;
use crate::review::{self, Question, Review};

/// Where the API server asks.
pub const PATH: &str = "/validate";
/// An update carries the object twice, and each may have 1.5 MiB.
pub const BODY_BYTES: usize = 8 << 20;
/// What all large bodies that are being read or judged may take together.
pub const LARGE_BODIES_BYTES: usize = 64 << 20;
/// Up to here a body is not large: nobody who sends large ones, or says so, can be in the way of a usual request.
pub const USUAL_BODY_BYTES: usize = 64 << 10;
/// Requests that are judged at a time: most of them wait for the labels of their namespace, since the threads that ask
/// policies have a shorter queue. More are turned away.
pub const REQUESTS: usize = 256;
/// Longest that a request may take, of the [`crate::registration::TIMEOUT_SECONDS`] that the API server waits.
pub const TIME_LIMIT: Duration = Duration::from_secs(4);

/// What is behind the path.
#[derive(Clone)]
pub struct Webhook(Arc<Inner>);

struct Inner {
    desk: Desk,
    hears: Arc<dyn Hears>,
    requests: Semaphore,
    /// For large bodies, in KiB.
    room: Semaphore,
    outcomes: [AtomicU64; Outcome::ALL.len()],
}

/// How a request ended. A closed set, so it may be a label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Allowed by policies.
    Allowed,
    /// Allowed by policies, with warnings.
    Warned,
    /// Refused by policies.
    Denied,
    /// Refused, because policies could not be asked.
    Error,
    /// Allowed; there was nothing to ask.
    Passed,
    /// Turned away: too much to do.
    Busy,
    /// Refused: no decision in time, or a body that came too slowly.
    Late,
    /// Refused: what was asked could not be understood.
    Odd,
    /// Refused: too large.
    TooLarge,
    /// Not answered: whoever asked did not wait.
    Gone,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Allowed,
        Self::Warned,
        Self::Denied,
        Self::Error,
        Self::Passed,
        Self::Busy,
        Self::Late,
        Self::Odd,
        Self::TooLarge,
        Self::Gone,
    ];
}

/// Why a request was turned away. A closed set, so it may be a label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shed {
    /// As many requests as may be are being judged.
    Requests,
    /// As many questions as may be wait for the threads that ask policies.
    Policies,
    /// Large bodies have taken the room that there is for them.
    Room,
}

/// Who counts. Must not wait.
pub trait Hears: Send + Sync {
    /// A request came to its end after so long.
    fn answered(&self, outcome: Outcome, after: Duration);

    /// A request was turned away; [`Hears::answered`] tells of it too.
    fn shed(&self, reason: Shed);
}

/// Nobody.
struct Nobody;

impl Hears for Nobody {
    fn answered(&self, _: Outcome, _: Duration) {}

    fn shed(&self, _: Shed) {}
}

/// Why a body was not read.
enum Unread {
    TooLarge,
    Broken(axum::Error),
    /// There was no room for it in time.
    NoRoom,
    /// It did not come in time.
    Late,
}

impl Webhook {
    /// Asks at `desk`.
    pub fn new(desk: Desk) -> Self {
        Self::with_requests(desk, REQUESTS)
    }

    /// With room for so many at a time, not for [`REQUESTS`].
    #[must_use]
    pub fn with_requests(desk: Desk, requests: usize) -> Self {
        Self::told(desk, requests, Arc::new(Nobody))
    }

    /// Also tells `hears` of each answer.
    #[must_use]
    pub fn told(desk: Desk, requests: usize, hears: Arc<dyn Hears>) -> Self {
        Self(Arc::new(Inner {
            desk,
            hears,
            requests: Semaphore::new(requests),
            room: Semaphore::new(LARGE_BODIES_BYTES / 1024),
            outcomes: Default::default(),
        }))
    }

    /// The path, for [`crate::server::Server`].
    pub fn router(&self) -> Router {
        Router::new().route(PATH, post(validate)).with_state(self.clone())
    }

    /// How many requests ended so.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.0.outcomes[outcome as usize].load(Relaxed)
    }

    fn busy(&self, uid: String, reason: Shed) -> (Outcome, Answer) {
        self.0.hears.shed(reason);
        (Outcome::Busy, Answer::busy(uid, Busy))
    }

    /// An answer to what could be read.
    async fn answer(&self, review: Review, deadline: Instant) -> (Outcome, Answer) {
        let Review { uid, question } = review;
        let asked = match question {
            Question::Passes(why) => return (Outcome::Passed, Answer::passed(uid, why)),
            Question::Odd(why) => return (Outcome::Odd, Answer::odd(uid, &why)),
            Question::Asks(asked) => *asked,
        };
        let Ok(_place) = self.0.requests.try_acquire() else {
            return self.busy(uid, Shed::Requests);
        };
        match timeout_at(deadline, self.0.desk.decide(asked)).await {
            Ok(Ok(decided)) => {
                let outcome = match decided.decision.verdict {
                    Verdict::Allow => Outcome::Allowed,
                    Verdict::Warn => Outcome::Warned,
                    Verdict::Deny => Outcome::Denied,
                    Verdict::Error => Outcome::Error,
                };
                (outcome, Answer::decided(uid, &decided))
            }
            Ok(Err(Busy)) => self.busy(uid, Shed::Policies),
            Err(_) => (Outcome::Late, Answer::late(uid)),
        }
    }

    /// The whole body, and the room that it takes.
    async fn body(&self, request: Request, deadline: Instant) -> Result<(Vec<u8>, SemaphorePermit<'_>), Unread> {
        let said = request.headers().get(header::CONTENT_LENGTH);
        let said = said.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let most = match said {
            Some(length) if length > BODY_BYTES => return Err(Unread::TooLarge),
            Some(length) => length,
            None => BODY_BYTES,
        };
        let large = if most > USUAL_BODY_BYTES {
            most.div_ceil(1024)
        } else {
            0
        };
        let kib = u32::try_from(large).map_err(|_| Unread::TooLarge)?;
        let room = timeout_at(deadline, self.0.room.acquire_many(kib)).await;
        let room = room.map_err(|_| Unread::NoRoom)?.expect("it is never closed");
        let read = timeout_at(deadline, Self::read(request, said, most)).await;
        Ok((read.map_err(|_| Unread::Late)??, room))
    }

    fn ended(&self, outcome: Outcome, after: Duration) {
        self.0.outcomes[outcome as usize].fetch_add(1, Relaxed);
        self.0.hears.answered(outcome, after);
    }

    /// The whole body, if it has not more bytes than `most`.
    async fn read(request: Request, said: Option<usize>, most: usize) -> Result<Vec<u8>, Unread> {
        let mut body = Vec::with_capacity(said.unwrap_or_default());
        let mut chunks = Body::into_data_stream(request.into_body());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(Unread::Broken)?;
            if body.len() + chunk.len() > most {
                return Err(Unread::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

async fn validate(State(webhook): State<Webhook>, request: Request) -> Response {
    let begun = Instant::now();
    // Told when it ends; whoever drops it before did not wait.
    let mut outcome = guard(Outcome::Gone, |outcome| webhook.ended(outcome, begun.elapsed()));
    let deadline = begun + time_limit(request.uri().query());
    let (body, _room) = match webhook.body(request, deadline).await {
        Ok(body) => body,
        Err(Unread::TooLarge) => {
            *outcome = Outcome::TooLarge;
            let words = format!("the body has more than {BODY_BYTES} bytes, which no Database needs\n");
            return (StatusCode::PAYLOAD_TOO_LARGE, words).into_response();
        }
        Err(Unread::Broken(error)) => {
            *outcome = Outcome::Odd;
            return (StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}\n")).into_response();
        }
        Err(unread @ (Unread::NoRoom | Unread::Late)) => {
            if matches!(unread, Unread::NoRoom) {
                webhook.0.hears.shed(Shed::Room);
            }
            *outcome = Outcome::Late;
            let words = "the body did not come in time, or there was no room for it\n";
            return (StatusCode::REQUEST_TIMEOUT, words).into_response();
        }
    };
    let review = match review::read(&body) {
        Ok(review) => review,
        Err(unreadable) => {
            *outcome = Outcome::Odd;
            return (StatusCode::BAD_REQUEST, format!("{unreadable}\n")).into_response();
        }
    };
    let (told, answer) = webhook.answer(review, deadline).await;
    *outcome = told;
    ([(header::CONTENT_TYPE, "application/json")], answer.to_json()).into_response()
}

/// The API server says how long it waits, as `timeout=5s`. An answer that comes later is none, so a fifth is left for the
/// way.
fn time_limit(query: Option<&str>) -> Duration {
    let said = query.into_iter().flat_map(|query| query.split('&'));
    let said = said.filter_map(|pair| pair.strip_prefix("timeout=")?.strip_suffix('s')?.parse().ok());
    let waits = said.map(Duration::from_secs).next().unwrap_or(TIME_LIMIT);
    waits.min(TIME_LIMIT + TIME_LIMIT / 4) * 4 / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_before_the_api_server_gives_up() {
        for (query, ms) in [
            (None, 3_200),
            (Some("timeout=5s"), 4_000),
            (Some("timeout=1s"), 800),
            (Some("a=b&timeout=2s"), 1_600),
            (Some("timeout=30s"), 4_000),
            (Some("timeout=1m0s"), 3_200),
            (Some("timeout=18446744073709551615s"), 4_000),
        ] {
            assert_eq!(time_limit(query), Duration::from_millis(ms), "{query:?}");
        }
    }
}
