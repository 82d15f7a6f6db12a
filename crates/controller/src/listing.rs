//! Lists as they come.
//!
//! Each object of a list is handed on as soon as it is there, so a list never lies in memory as a whole; nor does it in an
//! API server that streams its answers (since 1.33). To `kube` it looks like a streamed list, which has the same effect and
//! costs the API server more than twice as much, since it writes the JSON of each object twice. Pages cost it even more.

mod items;

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http::header::ACCEPT;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body::Frame;
use http_body_util::{BodyDataStream, BodyExt as _, Either, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tower::{BoxError, service_fn};

use self::items::Items;

/// A client that answers for a streamed list with a list. It is up to date: no version is asked for, so the API server
/// waits until its cache has all that there was when it was asked.
pub(crate) fn listing(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let answer = move |request: Request<Body>| {
        let client = client.clone();
        async move {
            if !wants_streamed(&request) {
                return Ok(client.send(request).await?.map(Either::Left));
            }
            let list = list(client, request.into_parts().0).await?;
            // `kube` knows what to make of a refusal.
            let is_list = list.status().is_success();
            Ok::<_, BoxError>(list.map(|body| {
                if is_list {
                    Either::Right(events(body))
                } else {
                    Either::Left(body)
                }
            }))
        }
    };
    Client::new(service_fn(answer), namespace)
}

fn wants_streamed(request: &Request<Body>) -> bool {
    pairs(request.uri()).any(|pair| pair == "sendInitialEvents=true")
}

fn pairs(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
}

async fn list(client: Client, asked: Parts) -> Result<Response<Body>, BoxError> {
    let mut request = Request::builder().method(Method::GET).uri(of_list(&asked.uri)?);
    if let Some(headers) = request.headers_mut() {
        *headers = asked.headers;
        if let Some(accept) = headers.get_mut(ACCEPT) {
            *accept = of_lists(accept)?;
        }
    }
    Ok(client.send(request.body(Body::empty())?).await?)
}

/// A list that is being read.
struct Reading {
    body: BodyDataStream<Body>,
    items: Items,
}

/// The objects of a list as events of a watch, which ends after them.
fn events(list: Body) -> StreamBody<impl Stream<Item = io::Result<Frame<Bytes>>> + Send> {
    let reading = Reading {
        body: list.into_data_stream(),
        items: Items::default(),
    };
    let events = stream::try_unfold(Some(reading), |reading| async {
        match reading {
            Some(reading) => reading.step().await.map(Some),
            None => Ok(None),
        }
    });
    StreamBody::new(events.map_ok(|events| Frame::data(events.into())))
}

impl Reading {
    /// Some more events, and what is left to read.
    async fn step(mut self) -> io::Result<(Vec<u8>, Option<Self>)> {
        if let Some(part) = self.body.next().await {
            let mut events = Vec::new();
            self.items.read(&part.map_err(io::Error::other)?, &mut events)?;
            return Ok((events, Some(self)));
        }
        let end = json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "List", "metadata": {
            "resourceVersion": self.items.end()?, "annotations": {"k8s.io/initial-events-end": "true"},
        }}});
        Ok((format!("{end}\n").into_bytes(), None))
    }
}

/// The same form of answer, of a list. That of an object may be its metadata alone, which of a list is another kind.
fn of_lists(accept: &HeaderValue) -> Result<HeaderValue, BoxError> {
    let accept = accept
        .to_str()?
        .replace("as=PartialObjectMetadata;", "as=PartialObjectMetadataList;");
    Ok(accept.try_into()?)
}

/// What asks for the list that is asked for as a watch.
fn of_list(asked: &Uri) -> Result<Uri, http::Error> {
    const OF_A_WATCH: [&str; 6] = [
        "watch",
        "sendInitialEvents",
        "resourceVersion",
        "resourceVersionMatch",
        "allowWatchBookmarks",
        "timeoutSeconds",
    ];
    let is_kept = |pair: &&str| !OF_A_WATCH.contains(&pair.split('=').next().unwrap_or_default());
    let query: Vec<&str> = pairs(asked).filter(is_kept).collect();
    let mut parts = asked.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{}?{}", asked.path(), query.join("&")))?);
    Ok(Uri::from_parts(parts)?)
}

#[cfg(test)]
mod tests;
