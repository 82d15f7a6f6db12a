use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;
use crate::objects::objects;

/// Answers with these, one after the other, and then with watches without events. What was asked is kept.
fn server(answers: Vec<(u16, Value)>, asked: &Arc<Mutex<Vec<String>>>) -> Client {
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    let asked = Arc::clone(asked);
    let answer = move |request: Request<Body>| {
        let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let accept = accept.and_then(|accept| Some(accept.split_once(";as=")?.1.split_once(';')?.0));
        let query = request.uri().query().unwrap_or_default();
        let query = accept.map_or_else(|| query.to_owned(), |kind| format!("{kind} {query}"));
        let next = answers.lock().expect("nobody panics").next();
        let (code, body) = next.map_or((200, String::new()), |(code, body)| (code, body.to_string()));
        asked.lock().expect("nobody panics").push(query);
        std::future::ready(Response::builder().status(code).body(Body::from(body.into_bytes())))
    };
    listing(Client::new(service_fn(answer), "x"))
}

fn page_of(names: &[&str], token: &str) -> (u16, Value) {
    let version = |number: usize| (number + 2).to_string();
    let item = |(number, name): (usize, &&str)| json!({"metadata": {"name": name, "namespace": "x", "resourceVersion": version(number)}});
    let items: Vec<Value> = names.iter().enumerate().map(item).collect();
    let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "items": items,
        "metadata": {"resourceVersion": "70", "continue": token}});
    (200, list)
}

fn refused(code: u16) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired",
        "message": "too\nold", "code": code, "metadata": {}});
    (code, status)
}

/// What is seen until the list has ended, and what was asked for that.
async fn listed(answers: Vec<(u16, Value)>) -> (Vec<String>, Vec<String>) {
    let asked = Arc::default();
    let client = server(answers, &asked);
    let mut events = std::pin::pin!(objects::<ConfigMap>(&client, None, "a=b"));
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Init => seen.push("begin".to_owned()),
            Event::InitApply(object) => seen.push(object.metadata.name.expect("a name")),
            Event::InitDone => break,
            Event::Apply(_) | Event::Delete(_) => panic!("nothing changes"),
        }
    }
    let asked = asked.lock().expect("nobody panics").clone();
    (seen, asked)
}

#[tokio::test(start_paused = true)]
async fn a_list_is_read_page_by_page_and_up_to_date() {
    let (seen, asked) = listed(vec![page_of(&["one", "two"], "t&1"), page_of(&["three"], "")]).await;
    assert_eq!(seen, ["begin", "one", "two", "three"]);
    let of_list = "labelSelector=a%3Db&limit=10000";
    assert_eq!(asked, [of_list.to_owned(), format!("{of_list}&continue=t%261")]);
}

#[tokio::test(start_paused = true)]
async fn of_metadata_there_are_lists_too() {
    let asked = Arc::default();
    let client = server(vec![page_of(&["one"], "")], &asked);
    let mut events = std::pin::pin!(objects::<PartialObjectMeta<ConfigMap>>(&client, None, "a=b"));
    assert!(matches!(events.next().await, Some(Event::Init)));
    assert!(matches!(events.next().await, Some(Event::InitApply(_))));
    let asked = asked.lock().expect("nobody panics").clone();
    assert_eq!(asked, ["PartialObjectMetadataList labelSelector=a%3Db&limit=10000"]);
}

#[tokio::test(start_paused = true)]
async fn the_watch_goes_on_from_the_list() {
    let asked = Arc::default();
    let client = server(vec![page_of(&["one"], "")], &asked);
    let mut events = Box::pin(objects::<ConfigMap>(&client, None, "a=b"));
    let seen = |asked: &Mutex<Vec<String>>| asked.lock().expect("nobody panics").get(1).cloned();
    let query = loop {
        let _ = futures::poll!(events.next());
        if let Some(query) = seen(&asked) {
            break query;
        }
        tokio::task::yield_now().await;
    };
    assert!(query.contains("watch=true"), "{query}");
    assert!(query.contains("resourceVersion=70"), "{query}");
    assert!(!query.contains("sendInitialEvents"), "{query}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_refused_begins_anew() {
    let broken = json!({"items": [{"metadata": {"name": "gone", "resourceVersion": "1"}}]});
    let gone = || page_of(&["gone"], "more");
    for first in [
        vec![refused(403)],
        vec![refused(410)],
        vec![(200, broken)],
        vec![(200, json!("no list"))],
        vec![gone(), refused(410)],
        vec![gone(), refused(429)],
        vec![gone(), (502, json!("no status"))],
        vec![gone(), (200, json!("no list"))],
    ] {
        let case = format!("{first:?}");
        let (seen, _) = listed(first.into_iter().chain([page_of(&["one"], "")]).collect()).await;
        let (before, last) = seen.split_at(seen.len() - 2);
        assert_eq!(last, ["begin", "one"], "{case}");
        assert!(
            before.iter().all(|seen| seen == "begin" || seen == "gone"),
            "{case}: {before:?}"
        );
    }
}
