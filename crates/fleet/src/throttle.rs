//! One pause for all requests of a client, when the API server says that there are too many (429).
//!
//! The API server says so of one request, but means the load: whatever is sent meanwhile makes it worse, and each client
//! that tries again by itself learns it by itself. So here all wait, and what was refused is sent again; it was not carried
//! out. Leases have a client of their own ([`crate::client`]) and are not slowed.
//!
//! To be used as both a policy of retries and, inside of that, a filter of requests.

use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response, StatusCode};
use kube::client::Body;
use tokio::time::{Instant, sleep_until};
use tower::BoxError;
use tower::filter::AsyncPredicate;
use tower::retry::Policy;

/// How long all wait if the API server does not say it.
const PAUSE: Duration = Duration::from_secs(1);
/// How long all wait at most, whatever it says.
const PAUSE_AT_MOST: Duration = Duration::from_secs(30);
/// Those that waited do not all come back at one moment, but within this.
const SPREAD: Duration = Duration::from_millis(250);
/// A request that is refused for so long is not sent again: whoever sent it looks anew at what is to be done.
const TRIES_FOR: Duration = Duration::from_secs(20);

/// A handle on the pause; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Throttle {
    until: Arc<Mutex<Option<Instant>>>,
    /// When this request was refused first. Each request has a clone of its own.
    refused: Option<Instant>,
}

impl Throttle {
    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause.min(PAUSE_AT_MOST);
        let mut shared = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *shared = shared.max(Some(until));
    }

    async fn wait(self) {
        loop {
            let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
            // It may be prolonged meanwhile.
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => sleep_until(until + SPREAD.mul_f64(rand::random())).await,
                None => return,
            }
        }
    }
}

/// What the API server asks for, in whole seconds.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(PAUSE, |seconds: u64| Duration::from_secs(seconds.max(1)))
}

impl<B, E> Policy<Request<Body>, Response<B>, E> for Throttle {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Request<Body>, answer: &mut Result<Response<B>, E>) -> Option<Ready<()>> {
        let answer = answer.as_ref().ok()?;
        if answer.status() != StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        self.pause(retry_after(answer.headers()));
        let refused = *self.refused.get_or_insert_with(Instant::now);
        // It waits where all requests do.
        (refused.elapsed() < TRIES_FOR).then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        let mut copy = Request::new(request.body().try_clone()?);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        *copy.extensions_mut() = request.extensions().clone();
        Some(copy)
    }
}

impl AsyncPredicate<Request<Body>> for Throttle {
    type Future = BoxFuture<'static, Result<Request<Body>, BoxError>>;
    type Request = Request<Body>;

    fn check(&mut self, request: Request<Body>) -> Self::Future {
        self.clone().wait().map(|()| Ok(request)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tower::{Service, ServiceBuilder, ServiceExt as _, service_fn};

    use super::*;

    type Arrivals = Arc<Mutex<Vec<Duration>>>;

    /// The status of each answer in turn, the last one for ever, and when requests arrived.
    fn server(
        answers: &'static [(u16, Option<&'static str>)],
    ) -> (
        impl Service<Request<Body>, Response = Response<()>, Error = BoxError, Future: Send> + Clone,
        Arrivals,
    ) {
        let began = Instant::now();
        let arrived = Arrivals::default();
        let (log, count) = (arrived.clone(), Arc::new(AtomicUsize::new(0)));
        let service = service_fn(move |_: Request<Body>| {
            log.lock().expect("no panic").push(began.elapsed());
            let at = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let (status, after) = answers[at];
            let mut answer = Response::builder().status(status);
            if let Some(after) = after {
                answer = answer.header(RETRY_AFTER, after);
            }
            ready(Ok::<_, Infallible>(answer.body(()).expect("an answer")))
        });
        let throttle = Throttle::default();
        let service = ServiceBuilder::new()
            .retry(throttle.clone())
            .filter_async(throttle)
            .service(service);
        (service, arrived)
    }

    fn request() -> Request<Body> {
        Request::new(Body::from(b"{}".to_vec()))
    }

    fn times(arrived: &Arrivals) -> Vec<Duration> {
        arrived.lock().expect("no panic").clone()
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_sent_again_after_the_pause_and_others_wait_with_it() {
        let (service, arrived) = server(&[(429, Some("3")), (200, None)]);
        let first = tokio::spawn(service.clone().oneshot(request()));
        tokio::time::sleep(s(1)).await;
        let second = tokio::spawn(service.clone().oneshot(request()));
        for answer in [first, second] {
            let answer = answer.await.expect("no panic").expect("an answer");
            assert_eq!(answer.status(), 200);
        }
        let times = times(&arrived);
        assert_eq!((times.len(), times[0]), (3, s(0)));
        for again in &times[1..] {
            assert!((s(3)..=s(3) + SPREAD).contains(again), "{times:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_a_second_if_nothing_is_said_and_bounded_if_too_much_is() {
        for (said, expected) in [
            (None, PAUSE),
            (Some("soon"), PAUSE),
            (Some("0"), PAUSE),
            (Some("86400"), PAUSE_AT_MOST),
        ] {
            let answers: &'static [_] = Box::leak(Box::new([(429, said), (200, None)]));
            let (service, arrived) = server(answers);
            service.oneshot(request()).await.expect("an answer");
            let again = times(&arrived)[1];
            assert!((expected..=expected + SPREAD).contains(&again), "{said:?}: {again:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_answers_pass_and_endless_refusal_is_told() {
        let (service, arrived) = server(&[(503, Some("9")), (409, None)]);
        for status in [503, 409] {
            let answer = service.clone().oneshot(request()).await.expect("an answer");
            assert_eq!(answer.status(), status);
        }
        assert_eq!(times(&arrived), [s(0), s(0)]);
        let (service, arrived) = server(&[(429, Some("2"))]);
        let answer = service.oneshot(request()).await.expect("an answer");
        assert_eq!(answer.status(), 429);
        let last = *times(&arrived).last().expect("it was sent");
        assert!((TRIES_FOR..TRIES_FOR + s(3)).contains(&last), "{last:?}");
    }
}
