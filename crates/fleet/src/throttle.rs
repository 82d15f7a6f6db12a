//! One pause for all requests of a client, when the API server says that there are too many (429).
//!
//! The API server says so of one request, but means the load: whatever is sent meanwhile makes it worse, and each client
//! that tries again by itself learns it by itself. So here whoever asks during the pause waits for its end, and what was
//! refused is sent again; it was not carried out. Leases have a client of their own ([`crate::client`]) and are not slowed.
//!
//! A wait that is over is over: a refusal that comes meanwhile prolongs the pause only for those that ask later. Otherwise
//! one request per pause would get through, and the others would wait for as long as the API server refuses anything. They
//! are not many: as many as there are workers.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response, StatusCode};
use kube::client::Body;
use kube::core::Status;
use kube::core::response::StatusDetails;
use tokio::time::{Instant, sleep_until};
use tower::{BoxError, Layer, Service, ServiceExt as _};

/// How long all wait if the API server does not say it.
const PAUSE: Duration = Duration::from_secs(1);
/// How long all wait at most, whatever it says.
const PAUSE_AT_MOST: Duration = Duration::from_secs(30);
/// Those that waited do not all come back at one moment, but within this.
const SPREAD: Duration = Duration::from_millis(250);
/// So long after it was asked for a request is still sent. Whoever asked then looks anew at what is to be done, and holds
/// up no worker meanwhile.
pub const TRIES_FOR: Duration = Duration::from_secs(20);

/// A handle on the pause; clones share it. As a layer, it holds back the requests of the service below.
#[derive(Debug, Clone, Default)]
pub struct Throttle {
    until: Arc<Mutex<Option<Instant>>>,
}

impl Throttle {
    /// Prolongs the pause, if `pause` from now is later, and says when it ends.
    fn pause(&self, pause: Duration) -> Instant {
        let until = Instant::now() + pause.min(PAUSE_AT_MOST);
        let mut shared = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let until = shared.map_or(until, |before| before.max(until));
        *shared = Some(until);
        until
    }

    /// Waits for the end of the pause, if there is one and it ends early enough.
    async fn wait(&self, gives_up: Instant) -> Result<(), kube::Error> {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match until.filter(|until| *until > now) {
            Some(until) if until > gives_up => Err(refusal(until - now)),
            Some(until) => {
                sleep_until(until + SPREAD.mul_f64(rand::random())).await;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// What the API server would most likely answer, were it asked during the pause.
fn refusal(left: Duration) -> kube::Error {
    let status = Status::failure("not sent: the API server asked for a pause", "TooManyRequests")
        .with_code(StatusCode::TOO_MANY_REQUESTS.as_u16())
        .with_details(StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: u32::try_from(left.as_secs() + 1).unwrap_or(u32::MAX),
        });
    kube::Error::Api(status.boxed())
}

/// What the API server asks for, in whole seconds.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(PAUSE, |seconds: u64| Duration::from_secs(seconds.max(1)))
}

fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

impl<S> Layer<S> for Throttle {
    type Service = Throttled<S>;

    fn layer(&self, inner: S) -> Throttled<S> {
        Throttled {
            inner,
            throttle: self.clone(),
        }
    }
}

/// A service whose requests wait during the pause, and are sent again after a refusal.
#[derive(Debug, Clone)]
pub struct Throttled<S> {
    inner: S,
    throttle: Throttle,
}

impl<S, B> Service<Request<Body>> for Throttled<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: Send,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Each try waits for it.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (mut inner, throttle) = (self.inner.clone(), self.throttle.clone());
        let gives_up = Instant::now() + TRIES_FOR;
        async move {
            loop {
                throttle.wait(gives_up).await?;
                let again = copy(&request);
                let answer = inner.ready().await?.call(request).await?;
                if answer.status() != StatusCode::TOO_MANY_REQUESTS {
                    return Ok(answer);
                }
                let until = throttle.pause(retry_after(answer.headers()));
                match again {
                    Some(again) if until <= gives_up => request = again,
                    Some(_) | None => return Ok(answer),
                }
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tower::{ServiceBuilder, service_fn};

    use super::*;

    type Arrivals = Arc<Mutex<Vec<Duration>>>;

    /// A server that gives these answers to the first, second ... request, and when requests arrived.
    fn server(
        answers: impl Fn(usize) -> (u16, Option<&'static str>) + Clone + Send + 'static,
    ) -> (
        impl Service<Request<Body>, Response = Response<()>, Error = BoxError, Future: Send> + Clone,
        Arrivals,
    ) {
        let began = Instant::now();
        let arrived = Arrivals::default();
        let (log, count) = (arrived.clone(), Arc::new(AtomicUsize::new(0)));
        let service = service_fn(move |_: Request<Body>| {
            log.lock().expect("no panic").push(began.elapsed());
            let (status, after) = answers(count.fetch_add(1, Ordering::SeqCst));
            let mut answer = Response::builder().status(status);
            if let Some(after) = after {
                answer = answer.header(RETRY_AFTER, after);
            }
            ready(Ok::<_, BoxError>(answer.body(()).expect("an answer")))
        });
        (
            ServiceBuilder::new().layer(Throttle::default()).service(service),
            arrived,
        )
    }

    /// These, the last one for ever.
    fn in_turn(
        answers: &'static [(u16, Option<&'static str>)],
    ) -> impl Fn(usize) -> (u16, Option<&'static str>) + Clone + Send + 'static {
        move |at| answers[at.min(answers.len() - 1)]
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
        let (service, arrived) = server(in_turn(&[(429, Some("3")), (200, None)]));
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
    async fn a_pause_is_a_second_if_nothing_is_said_or_what_is_said() {
        for (said, expected) in [
            (None, PAUSE),
            (Some("soon"), PAUSE),
            (Some("0"), PAUSE),
            (Some("19"), s(19)),
        ] {
            let (service, arrived) = server(move |at| if at == 0 { (429, said) } else { (200, None) });
            service.oneshot(request()).await.expect("an answer");
            let again = times(&arrived)[1];
            assert!((expected..=expected + SPREAD).contains(&again), "{said:?}: {again:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_the_end_of_a_long_pause_but_it_ends() {
        let (service, arrived) = server(in_turn(&[(429, Some("86400")), (200, None)]));
        let refused = service.clone().oneshot(request()).await.expect("an answer");
        assert_eq!(refused.status(), 429);
        tokio::time::sleep(s(5)).await;
        let error = service.clone().oneshot(request()).await.expect_err("a pause of 30 s");
        let error = error
            .downcast::<kube::Error>()
            .expect("as if the API server had said so");
        let kube::Error::Api(status) = *error else {
            panic!("{error}")
        };
        let left = status.details.as_ref().expect("when to ask again").retry_after_seconds;
        assert_eq!((status.code, left), (429, 26));
        assert_eq!(times(&arrived), [s(0)], "the second was not sent");
        tokio::time::sleep(s(6)).await;
        let answer = service.oneshot(request()).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert!((PAUSE_AT_MOST..=PAUSE_AT_MOST + SPREAD).contains(&times(&arrived)[1]));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waited_is_sent_though_others_are_refused_meanwhile() {
        // 20 at once, as workers do, over and over; each request is refused twice.
        let tries = Arc::new(Mutex::new(std::collections::HashMap::new()));
        let server = service_fn(move |request: Request<Body>| {
            let mut tries_of = tries.lock().expect("no panic");
            let count: &mut u32 = tries_of.entry(request.uri().clone()).or_default();
            *count += 1;
            let status = if *count > 2 { 200 } else { 429 };
            ready(Ok::<_, BoxError>(
                Response::builder().status(status).body(()).expect("an answer"),
            ))
        });
        let service = ServiceBuilder::new().layer(Throttle::default()).service(server);
        let worker = |worker: usize| {
            let service = service.clone();
            async move {
                for at in 0..20 {
                    let mut request = request();
                    *request.uri_mut() = format!("/{worker}/{at}").parse().expect("an address");
                    let asked = Instant::now();
                    let answer = service.clone().oneshot(request).await.expect("an answer");
                    assert_eq!(answer.status(), 200, "after {:?}", asked.elapsed());
                    // Each wait is for a pause that somebody else may just have prolonged.
                    assert!(asked.elapsed() < s(5), "{:?}", asked.elapsed());
                }
            }
        };
        futures::future::join_all((0..20).map(worker)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn other_answers_pass_and_endless_refusal_is_told() {
        let (service, arrived) = server(in_turn(&[(503, Some("9")), (409, None)]));
        for status in [503, 409] {
            let answer = service.clone().oneshot(request()).await.expect("an answer");
            assert_eq!(answer.status(), status);
        }
        assert_eq!(times(&arrived), [s(0), s(0)]);
        let (service, arrived) = server(in_turn(&[(429, Some("2"))]));
        let answer = service.oneshot(request()).await.expect("an answer");
        assert_eq!(answer.status(), 429);
        let last = *times(&arrived).last().expect("it was sent");
        assert!((s(17)..=TRIES_FOR + SPREAD).contains(&last), "{last:?}");
    }
}
