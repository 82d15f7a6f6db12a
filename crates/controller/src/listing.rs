//! Lists as they come.
//!
//! Each object of a list is handed on as soon as it is there, so a list never lies in memory as a whole; nor does it in an
//! API server that streams its answers (since 1.33). To `kube` it looks like a streamed list, which has the same effect and
//! costs the API server twice as much, since it writes the JSON of each object twice.

mod items;

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http::header::ACCEPT;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body::Frame;
use http_body_util::{BodyDataStream, BodyExt as _, Either, Limited, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::{BoxError, service_fn};

use self::items::{Envelope, Items};

/// Objects per page of a list: most have one. An API server has 60 s for an answer, which may hold 15 KB for each object and
/// is read beside those of eight other kinds. It takes the first page out of its cache, but further ones, as 1.36 does, out of etcd, which
/// costs it several times as much.
const PAGE: u32 = 10_000;

/// Bytes that are kept of an answer that refuses.
const REFUSAL_BYTES: usize = 64 << 10;

/// A client that answers for a streamed list with pages of a list. They are up to date: no version is asked for, so the API
/// server waits until its cache has all that there was when it was asked.
pub(crate) fn listing(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let answer = move |request: Request<Body>| {
        let client = client.clone();
        async move {
            if !wants_streamed(&request) {
                return Ok(client.send(request).await?.map(Either::Left));
            }
            let asked = request.into_parts().0;
            let pages = Pages { client, asked };
            let first = pages.ask("").await?;
            // `kube` knows what to make of a refusal.
            let is_list = first.status().is_success();
            Ok::<_, BoxError>(first.map(|body| {
                if is_list {
                    Either::Right(pages.events(body))
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

/// The pages of a list.
struct Pages {
    client: Client,
    /// The request for a streamed list.
    asked: Parts,
}

/// A page that is being read.
struct Reading {
    pages: Pages,
    body: BodyDataStream<Body>,
    items: Items,
}

impl Pages {
    async fn ask(&self, token: &str) -> Result<Response<Body>, BoxError> {
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(page(&self.asked.uri, token)?);
        if let Some(headers) = request.headers_mut() {
            headers.clone_from(&self.asked.headers);
            if let Some(accept) = headers.get_mut(ACCEPT) {
                *accept = of_lists(accept)?;
            }
        }
        Ok(self.client.send(request.body(Body::empty())?).await?)
    }

    /// The objects as events of a watch, which ends after them.
    fn events(self, first: Body) -> StreamBody<impl Stream<Item = io::Result<Frame<Bytes>>> + Send> {
        let reading = Reading {
            pages: self,
            body: first.into_data_stream(),
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
}

impl Reading {
    /// Some more events, and what is left to read.
    async fn step(mut self) -> io::Result<(Vec<u8>, Option<Self>)> {
        let mut events = Vec::new();
        if let Some(part) = self.body.next().await {
            self.items.read(&part.map_err(io::Error::other)?, &mut events)?;
            return Ok((events, Some(self)));
        }
        let Envelope { version, token } = std::mem::take(&mut self.items).end()?;
        let Some(token) = token else {
            let end = json!({"apiVersion": "v1", "kind": "List", "metadata": {
                "resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"},
            }});
            return Ok((event("BOOKMARK", &end), None));
        };
        let next = self.pages.ask(&token).await.map_err(io::Error::other)?;
        if !next.status().is_success() {
            // Above all 410, if it took so long that the API server has forgotten how it was.
            return Ok((event("ERROR", &refusal(next).await?), None));
        }
        self.body = next.into_body().into_data_stream();
        Ok((events, Some(self)))
    }
}

/// A line of a watch.
fn event(kind: &str, object: &Value) -> Vec<u8> {
    let event = json!({"type": kind, "object": object});
    format!("{event}\n").into_bytes()
}

/// The status that an answer refuses with.
async fn refusal(answer: Response<Body>) -> io::Result<Value> {
    let code = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), REFUSAL_BYTES).collect().await;
    let body = body.map_err(io::Error::other)?.to_bytes();
    let said: Option<Value> = serde_json::from_slice(&body).ok();
    let said = said.filter(|said| said["kind"] == "Status" && said["code"].is_u64());
    Ok(said.unwrap_or_else(|| json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code})))
}

/// The same form of answer, of a list. That of an object may be its metadata alone, which of a list is another kind.
fn of_lists(accept: &HeaderValue) -> Result<HeaderValue, BoxError> {
    let accept = accept
        .to_str()?
        .replace("as=PartialObjectMetadata;", "as=PartialObjectMetadataList;");
    Ok(accept.try_into()?)
}

/// What asks for a page of the list that is asked for as a watch.
fn page(asked: &Uri, token: &str) -> Result<Uri, http::Error> {
    const OF_A_WATCH: [&str; 6] = [
        "watch",
        "sendInitialEvents",
        "resourceVersion",
        "resourceVersionMatch",
        "allowWatchBookmarks",
        "timeoutSeconds",
    ];
    let is_kept = |pair: &&str| !OF_A_WATCH.contains(&pair.split('=').next().unwrap_or_default());
    let mut query: String = pairs(asked).filter(is_kept).flat_map(|pair| [pair, "&"]).collect();
    query.extend(["limit=", &PAGE.to_string()]);
    if !token.is_empty() {
        query += "&continue=";
        query.extend(form_urlencoded::byte_serialize(token.as_bytes()));
    }
    let mut parts = asked.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{}?{query}", asked.path()))?);
    Ok(Uri::from_parts(parts)?)
}

#[cfg(test)]
mod tests;
