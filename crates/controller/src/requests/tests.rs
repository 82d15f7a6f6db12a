use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kube::client::Body;
use planner::child::Kind;
use planner::plan::Subject;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;

/// An API server that answers every request with the same object, and keeps what it was asked.
#[derive(Clone, Default)]
struct Server {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn client(&self) -> Client {
        let asked = self.asked.clone();
        let service = service_fn(move |request: http::Request<Body>| {
            asked.lock().unwrap().push(request.method().to_string());
            async move {
                let object = object().to_string().into_bytes();
                Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(object)))
            }
        });
        Client::new(service, "shop")
    }

    /// A writer with a permit that ends after so many writes.
    fn writer(&self, writes: usize) -> Writer {
        let left = AtomicUsize::new(writes);
        let holds = move || {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
        };
        Writer::new(self.client(), &subject(), Permit::new(Epoch(7), holds))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn subject() -> Subject {
    Subject {
        namespace: "shop".to_owned(),
        name: "orders".to_owned(),
        uid: "u".to_owned(),
        bucket: sharding::bucket_of("shop", "orders"),
    }
}

fn object() -> Value {
    json!({
        "metadata": {
            "name": "orders-rw", "uid": "1", "resourceVersion": "2",
            "managedFields": [{"manager": FIELD_MANAGER, "operation": "Update"}],
        },
        "spec": {},
    })
}

/// Every way to write, by name, with the number of requests that it takes.
async fn write(writer: &Writer, way: &str) -> Result<(), ApiError> {
    let child = ChildRef::new(Kind::Service, "orders-rw");
    let body = json!({"metadata": {"labels": {}}, "spec": {}});
    match way {
        "create" => writer.create(&child, &body).await.map(drop),
        "apply" => writer.apply(&child, &body, None).await.map(drop),
        "apply again" => writer.apply(&child, &body, Some("1")).await.map(drop),
        "merge" => writer.merge(&child, "1", &body).await.map(drop),
        "remove" => writer.remove(&child, "1", "2", &["/spec".to_owned()]).await.map(drop),
        "overrule" => writer.overrule(&child, "1", &body).await.map(drop),
        "reclaim" => writer.reclaim(&child, "1", &body).await.map(drop),
        "delete" => writer.delete(&child, "1", Some("2")).await,
        "stamp" => writer.stamp("orders", "2", &body).await.map(drop),
        "status" => writer.status("orders", "2", &body).await.map(drop),
        _ => panic!("{way}"),
    }
}

const WAYS: [(&str, usize); 10] = [
    ("create", 1),
    ("apply", 1),
    ("apply again", 1),
    ("merge", 1),
    ("remove", 1),
    ("overrule", 3),
    ("reclaim", 1),
    ("delete", 1),
    ("stamp", 1),
    ("status", 1),
];

#[tokio::test]
async fn nothing_is_written_after_the_end_of_the_permit() {
    for (way, requests) in WAYS {
        for allowed in 0..requests {
            let server = Server::default();
            let answer = write(&server.writer(allowed), way).await;
            assert!(matches!(answer, Err(ApiError::NotOwner { .. })), "{way}: {answer:?}");
            assert_eq!(server.asked().len(), allowed, "{way}");
        }
        let server = Server::default();
        let answer = write(&server.writer(requests), way).await;
        assert!(answer.is_ok(), "{way}: {answer:?}");
        assert_eq!(server.asked().len(), requests, "{way}");
    }
}

#[tokio::test]
async fn reads_need_no_permit() {
    let server = Server::default();
    let child = ChildRef::new(Kind::Service, "orders-rw");
    server.writer(0).read(&child).await.unwrap();
    server.writer(0).look(&child).await.unwrap();
    assert_eq!(server.asked(), ["GET", "GET"]);
}
