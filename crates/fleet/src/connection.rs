//! Connections to the API server whose death is noticed.
//!
//! `kube` speaks HTTP/1.1, where a watch has a connection of its own and is silent for a minute at a time; HTTP/2's pings
//! are done by TCP here. What they cannot see is a server that lives and says nothing: that is for whoever reads.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use telemetry::Requests;
use telemetry::label::{AnswerCode, Method};
use tower::layer::layer_fn;
use tower::retry::{Policy, RetryLayer};
use tower::timeout::TimeoutLayer;
use tower::{BoxError, Service, ServiceBuilder};

use crate::throttle::Throttle;

/// Silence of the other side after which it is asked whether it is there, and how often from then on.
const ASK: Duration = Duration::from_secs(2);
/// The connection is dead when nothing that was sent, question or request, was acknowledged for so long. With one
/// [`ASK`] before and one after it that stays below the 10 s in which a dead connection is to be noticed.
const DEAD: Duration = Duration::from_secs(6);
/// Questions without an answer after which it is dead where the operating system has no such limit as [`DEAD`].
const QUESTIONS: u32 = 3;

/// From sending a request until the status of its answer is here, also of a watch. The API server itself gives up after
/// 60 s; by then a new try serves better.
pub const ANSWER_BEGINS: Duration = Duration::from_secs(30);

/// A client like that of `kube`, with a limit on how long a connection can be dead without being noticed.
///
/// Not through an HTTP proxy, and not with credentials of a program, which people on their own machines have:
/// there it is `kube`'s own. Every request is counted, if `counts` are given; `throttle` slows all, if there is one.
pub fn client(config: Config, counts: Option<&Requests>, throttle: Option<&Throttle>) -> kube::Result<Client> {
    if config.proxy_url.is_some() || config.auth_info.exec.is_some() {
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(ASK));
    tcp.set_keepalive_interval(Some(ASK));
    tcp.set_keepalive_retries(Some(QUESTIONS));
    tcp.set_tcp_user_timeout(Some(DEAD));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let http: Http<_, Body> = Http::builder(TokioExecutor::new()).build(connector);
    let again = config.default_retry.then(|| RetryLayer::new(Brief::default()));
    let counted = counts.cloned().map(|counts| {
        layer_fn(move |inner| Counted {
            inner,
            counts: counts.clone(),
        })
    });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(again)
        .option_layer(throttle.cloned())
        .layer(TimeoutLayer::new(ANSWER_BEGINS))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .option_layer(counted)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// An API server that is away for a moment (503, 504) is asked again a few times before anybody hears of it. One that has
/// too much to do (429) is a matter of [`Throttle`].
#[derive(Clone, Default)]
struct Brief(RetryPolicy);

impl<B> Policy<Request<Body>, Response<B>, BoxError> for Brief {
    type Future = tokio::time::Sleep;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        answer: &mut Result<Response<B>, BoxError>,
    ) -> Option<tokio::time::Sleep> {
        let throttled = answer
            .as_ref()
            .is_ok_and(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS);
        if throttled { None } else { self.0.retry(request, answer) }
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Policy::<_, Response<B>, _>::clone_request(&mut self.0, request)
    }
}

/// Counts each request when it is answered, or fails.
#[derive(Clone)]
struct Counted<S> {
    inner: S,
    counts: Requests,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (counts, method) = (self.counts.clone(), Method::of(request.method().as_str()));
        let answer = self.inner.call(request);
        answer
            .inspect(move |answer| {
                let code = answer.as_ref().ok().map(|answer| answer.status().as_u16());
                counts.record(method, AnswerCode::of(code));
            })
            .boxed()
    }
}
