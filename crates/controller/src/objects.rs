//! Objects of a kind: those that there are, and then what changes.
//!
//! The API server streams its first list as events of the watch, one object at a time, out of its cache once that is up
//! to date. One that does not (its feature gate WatchList is off) is asked for pages.

use std::fmt::Debug;
use std::future::ready;

use futures::{Stream, StreamExt as _};
use http::Request;
use http::uri::PathAndQuery;
use k8s_openapi::NamespaceResourceScope;
use kube::api::Api;
use kube::client::Body;
use kube::runtime::watcher::{self, Error, Event};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tower::service_fn;

use crate::reopen::patiently;

/// Objects per page of a list. What is kept of an object is little and lies among the rest of its page: small pages, of nine
/// kinds at once, leave little unused memory behind.
const PAGE: u32 = 100;

/// Those with these labels, in one namespace or in all, by a client of [`current`].
pub(crate) fn objects<K>(
    client: &Client,
    scope: Option<&String>,
    selector: &str,
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api: Api<K> = match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let selected = watcher::Config::default().labels(selector);
    let streamed = watcher::watcher(api.clone(), selected.clone().streaming_lists());
    let in_pages = watcher::watcher(api, selected.page_size(PAGE));
    let streamed = streamed.take_while(|event| {
        let can = event.as_ref().err().is_none_or(|error| !cannot_stream(error));
        if !can {
            tracing::info!(watch = %K::plural(&()), "the API server streams no lists: they are read in pages");
        }
        ready(can)
    });
    patiently(K::plural(&()).into_owned().into(), streamed.chain(in_pages))
}

/// Whether the API server knows how to stream lists, and may not: it calls the request invalid.
fn cannot_stream(error: &Error) -> bool {
    matches!(error, Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 422)
}

/// A client whose streamed lists are up to date. `kube` asks for version 0, which is whatever the API server has in its
/// cache, however old; without a version, it waits until its cache has all that there was when it was asked.
pub(crate) fn current(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let up_to_date = move |request| {
        let client = client.clone();
        async move { client.send(without_version(request)).await }
    };
    Client::new(service_fn(up_to_date), namespace)
}

fn without_version(mut request: Request<Body>) -> Request<Body> {
    let query = request.uri().query().unwrap_or_default();
    let is_streamed = query.split('&').any(|pair| pair == "sendInitialEvents=true");
    if is_streamed {
        let pairs: Vec<&str> = query.split('&').filter(|pair| *pair != "resourceVersion=0").collect();
        let path = format!("{}?{}", request.uri().path(), pairs.join("&"));
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(path).expect("a part of it is one too"));
        *request.uri_mut() = http::Uri::from_parts(parts).expect("only its query has become shorter");
    }
    request
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::StreamExt as _;
    use http::Response;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    /// Has one ConfigMap, and streams lists or does not.
    fn server(streams: bool, asked: Arc<Mutex<Vec<String>>>) -> Client {
        let answer = move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            asked.lock().expect("nobody panics").push(query.clone());
            let object = json!({"kind": "ConfigMap", "apiVersion": "v1",
                "metadata": {"name": "one", "namespace": "x", "resourceVersion": "7"}});
            let end = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": "7",
                "annotations": {"k8s.io/initial-events-end": "true"}}});
            let (code, body) = match (query.contains("sendInitialEvents"), query.contains("watch=")) {
                (true, _) if streams => {
                    let events = [
                        json!({"type": "ADDED", "object": object}),
                        json!({"type": "BOOKMARK", "object": end}),
                    ];
                    (200, events.map(|event| event.to_string() + "\n").concat())
                }
                (true, _) => (
                    422,
                    json!({"kind": "Status", "status": "Failure", "reason": "Invalid", "code": 422}).to_string(),
                ),
                (false, true) => (200, String::new()),
                (false, false) => (
                    200,
                    json!({"metadata": {"resourceVersion": "7"}, "items": [object]}).to_string(),
                ),
            };
            let answer = Response::builder().status(code).body(Body::from(body.into_bytes()));
            ready(answer)
        };
        current(Client::new(service_fn(answer), "x"))
    }

    async fn first_list(streams: bool) -> (Vec<String>, Vec<String>) {
        let asked = Arc::default();
        let client = server(streams, Arc::clone(&asked));
        let events = objects::<ConfigMap>(&client, None, "a=b");
        let seen: Vec<_> = events
            .take(3)
            .map(|event| match event {
                Event::Init => "begin".to_owned(),
                Event::InitApply(object) => object.metadata.name.expect("a name"),
                Event::InitDone => "end".to_owned(),
                other => panic!("{other:?}"),
            })
            .collect()
            .await;
        let asked = asked.lock().expect("nobody panics").clone();
        (seen, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn lists_are_streamed_and_up_to_date() {
        let (seen, asked) = first_list(true).await;
        assert_eq!(seen, ["begin", "one", "end"]);
        let [query] = &asked[..] else { panic!("{asked:?}") };
        assert!(query.contains("sendInitialEvents=true"), "{query}");
        assert!(query.contains("resourceVersionMatch=NotOlderThan"), "{query}");
        assert!(query.contains("labelSelector=a%3Db"), "{query}");
        assert!(!query.contains("resourceVersion="), "{query}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_stream_is_asked_for_pages() {
        let (seen, asked) = first_list(false).await;
        assert_eq!(seen, ["begin", "one", "end"]);
        let [streamed, page] = &asked[..] else {
            panic!("{asked:?}")
        };
        assert!(streamed.contains("sendInitialEvents=true"), "{streamed}");
        assert!(page.contains("limit=100"), "{page}");
    }
}
