use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use api::names::BUCKET_LABEL;
use kube::client::Body;
use planner::child::Kind;
use planner::plan::Subject;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;

/// An API server that answers every request with the same object, and keeps what it was asked: method and body.
#[derive(Clone, Default)]
struct Server {
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    fn client(&self) -> Client {
        let asked = self.asked.clone();
        let service = service_fn(move |request: http::Request<Body>| {
            let asked = asked.clone();
            async move {
                let method = request.method().to_string();
                let body = request.into_body().collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                asked.lock().unwrap().push((method, body));
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

    fn asked(&self) -> Vec<(String, Value)> {
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

fn bucket() -> String {
    subject().bucket.to_string()
}

fn object() -> Value {
    json!({
        "metadata": {
            "name": "orders-rw", "uid": "1", "resourceVersion": "9", "labels": {BUCKET_LABEL: bucket()},
            "annotations": {FENCE_ANNOTATION: "7"},
            "managedFields": [{"manager": FIELD_MANAGER, "operation": "Update"}],
        },
        "spec": {},
    })
}

/// As it was left by an owner of this epoch.
fn version(fence: u64, bucket: &str) -> Version {
    Version {
        uid: "1".into(),
        resource_version: "8".into(),
        fence: Some(Epoch(fence)),
        bucket: Some(bucket.into()),
    }
}

async fn write(writer: &Writer, way: &str, version: &Version) -> Result<(), ApiError> {
    let service = ChildRef::new(Kind::Service, "orders-rw");
    let body = json!({"metadata": {"labels": {}}, "spec": {}});
    match way {
        "create" => writer.create(&service, &body).await.map(drop),
        "apply" => writer.apply(&service, &body, None).await.map(drop),
        "apply again" => writer.apply(&service, &body, Some("1")).await.map(drop),
        "merge" => writer.merge(&service, "1", &body).await.map(drop),
        "remove" => writer.remove(&service, version, &["/spec".to_owned()]).await.map(drop),
        "overrule" => writer.overrule(&service, version, &body).await.map(drop),
        "reclaim" => writer.reclaim(&service, "1", &body).await.map(drop),
        "delete" => writer.delete(&service, version).await.map(drop),
        "stamp" => writer.stamp("orders", "8", &body).await.map(drop),
        "status" => writer.status("orders", "8", &json!({"message": "x"})).await.map(drop),
        _ => panic!("{way}"),
    }
}

/// Every way to write, with the requests that it takes when the object bears the fence already, and with those for a stamp
/// before.
const WAYS: [(&str, usize, usize); 10] = [
    ("create", 1, 0),
    ("apply", 1, 0),
    ("apply again", 1, 0),
    ("merge", 1, 0),
    ("remove", 1, 1),
    ("overrule", 3, 1),
    ("reclaim", 1, 0),
    ("delete", 1, 1),
    ("stamp", 1, 0),
    ("status", 1, 0),
];

#[tokio::test]
async fn nothing_is_written_after_the_end_of_the_permit() {
    for (way, requests, stamps) in WAYS {
        for allowed in 0..requests + stamps {
            let server = Server::default();
            let answer = write(&server.writer(allowed), way, &version(6, &bucket())).await;
            assert!(matches!(answer, Err(ApiError::NotOwner { .. })), "{way}: {answer:?}");
            assert_eq!(server.asked().len(), allowed, "{way}");
        }
    }
}

#[tokio::test]
async fn only_what_does_not_bear_the_fence_is_stamped() {
    for (way, requests, stamps) in WAYS {
        for (version, stamps) in [
            (version(7, &bucket()), 0),
            (version(6, &bucket()), stamps),
            // Where the label names no bucket, the fence is compared with nothing.
            (version(7, "none"), stamps),
        ] {
            let server = Server::default();
            let answer = write(&server.writer(9), way, &version).await;
            assert!(answer.is_ok(), "{way}: {answer:?}");
            assert_eq!(server.asked().len(), requests + stamps, "{way}: {version:?}");
        }
    }
}

#[tokio::test]
async fn every_write_carries_the_fence_or_is_of_a_version_that_does() {
    for (way, _, stamps) in WAYS {
        let server = Server::default();
        write(&server.writer(9), way, &version(6, &bucket())).await.unwrap();
        for (number, (method, body)) in server.asked().iter().enumerate() {
            // The version that was seen, or the one that the stamp answered.
            let at = if stamps == 1 && number == 1 { "9" } else { "8" };
            if method == "DELETE" {
                let expected = json!({"uid": "1", "resourceVersion": at});
                assert_eq!(body["preconditions"], expected, "{way}");
            } else if let Some(operations) = body.as_array() {
                let fence =
                    json!({"op": "add", "path": "/metadata/annotations/intent.example.com~1fence", "value": "7"});
                assert!(operations.contains(&fence), "{way}: {body}");
                if number == 1 && way != "overrule" {
                    let exactly = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": at});
                    assert!(operations.contains(&exactly), "{way}: {body}");
                }
            } else if way == "status" {
                assert_eq!(body["status"], json!({"message": "x", "fence": 7}));
            } else {
                assert_eq!(body["metadata"]["annotations"], json!({FENCE_ANNOTATION: "7"}), "{way}");
                assert_eq!(body["metadata"]["labels"], json!({BUCKET_LABEL: bucket()}), "{way}");
            }
            if stamps == 1 && number == 0 && way != "overrule" {
                assert_eq!(
                    (&body["metadata"]["uid"], &body["metadata"]["resourceVersion"]),
                    (&json!("1"), &json!("8")),
                    "{way}"
                );
            }
        }
    }
}

#[tokio::test]
async fn reads_need_no_permit() {
    let server = Server::default();
    let child = ChildRef::new(Kind::Service, "orders-rw");
    server.writer(0).read(&child).await.unwrap();
    server.writer(0).look(&child).await.unwrap();
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn an_answer_that_a_watch_told_before_is_not_read() {
    let (store, key) = (Store::default(), Key::new("shop", "orders"));
    store.hold([key.bucket]);
    let (child, mut facts) = Child::observe(Kind::Service, &object()).expect("it is whole");
    // Facts that the answer does not have tell whether it was read.
    let mut put = |version: &str| {
        let told = Arc::make_mut(&mut facts);
        (told.deleting, told.resource_version) = (true, version.into());
        store.put_child(&key, child.clone(), facts.clone());
    };
    let writer = Server::default().writer(2).knowing(&store, &key);
    put("8");
    let (_, read) = writer.create(&child, &object()).await.expect("it is accepted");
    assert!(!read.deleting, "another version");
    put("9");
    let (_, known) = writer.create(&child, &object()).await.expect("it is accepted");
    assert!(known.deleting, "the version that is known");
}
