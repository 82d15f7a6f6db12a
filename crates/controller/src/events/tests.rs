use std::sync::Arc;

use api::database::DatabaseSpec;
use kube::client::Body;
use serde_json::Value;
use tower::service_fn;

use super::*;

/// What was asked: method, path and body.
type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

/// Events at an API server that keeps none if `forgets`.
fn events(forgets: bool) -> (Events, Asked) {
    let asked = Asked::default();
    let kept = asked.clone();
    let service = service_fn(move |request: http::Request<Body>| {
        let asked = asked.clone();
        async move {
            let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
            let body = request.into_body().collect_bytes().await.unwrap();
            let body = serde_json::from_slice(&body).expect("a body is JSON");
            let (code, answer) = if forgets && method == "PATCH" {
                (
                    404,
                    json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "it is gone"}),
                )
            } else {
                (200, json!({}))
            };
            asked.lock().unwrap().push((method, path, body));
            let answer = http::Response::builder()
                .status(code)
                .body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, std::convert::Infallible>(answer.expect("an answer"))
        }
    });
    (Events::new(Client::new(service, "shop"), "member-1"), kept)
}

fn database(name: &str) -> SeenDatabase {
    let spec: DatabaseSpec = serde_json::from_value(json!({
        "engine": "redis", "version": "7",
        "resources": {"requests": {"cpu": "1", "memory": "1Gi", "storage": "1Gi"}, "limits": {"memory": "1Gi"}},
    }))
    .expect("a spec");
    SeenDatabase::undeclared("shop", name, spec)
}

fn note(message: &str) -> Note {
    Note {
        warning: true,
        reason: "NotReady",
        action: "Serve",
        message: message.to_owned(),
    }
}

/// Publishes the note so long after the first one.
async fn publish(events: &Events, name: &str, message: &str, after: Duration) {
    // One beginning for all: there is no other way to make an `Instant`.
    static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    events
        .publish_at(&database(name), &note(message), now + after, *BEGAN + after)
        .await
        .expect("it is accepted");
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_event_says_what_happened_to_which_database() {
    let (events, asked) = events(false);
    publish(&events, "orders", "the pod is gone", Duration::ZERO).await;
    let (method, path, body) = asked.lock().unwrap()[0].clone();
    assert_eq!(
        (&*method, &*path),
        ("POST", "/apis/events.k8s.io/v1/namespaces/shop/events")
    );
    let expected = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"namespace": "shop", "name": body["metadata"]["name"]},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "type": "Warning", "reason": "NotReady", "action": "Serve", "note": "the pod is gone",
        "regarding": {
            "apiVersion": names::API_VERSION, "kind": names::KIND,
            "namespace": "shop", "name": "orders", "uid": database("orders").meta().uid,
        },
        "reportingController": names::FIELD_MANAGER, "reportingInstance": "member-1",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn one_that_repeats_is_counted_in_the_one_that_is_there() {
    let (events, asked) = events(false);
    for second in 0..3 {
        publish(&events, "orders", "gone", second * SECOND).await;
    }
    publish(&events, "users", "gone", 3 * SECOND).await;
    publish(&events, "orders", "gone", 2 * SECOND + SERIES).await;
    let asked = asked.lock().unwrap();
    let seen: Vec<(&str, &Value)> = asked
        .iter()
        .map(|(method, _, body)| (&**method, &body["series"]["count"]))
        .collect();
    let none = &Value::Null;
    let expected = [
        ("POST", none),
        ("PATCH", &json!(2)),
        ("PATCH", &json!(3)),
        ("POST", none),
        ("POST", none),
    ];
    assert_eq!(seen, expected);
    let (first, second) = (&asked[0].2, &asked[1].1);
    let name = first["metadata"]["name"].as_str().expect("a name");
    assert!(second.ends_with(name), "{second} repeats {name}");
    assert_eq!(asked[2].2["series"]["lastObservedTime"], "2026-01-01T00:00:02.000000Z");
}

#[tokio::test]
async fn one_that_the_server_has_forgotten_is_made_anew() {
    let (events, asked) = events(true);
    publish(&events, "orders", "gone", Duration::ZERO).await;
    publish(&events, "orders", "gone", SECOND).await;
    let methods: Vec<String> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|(method, ..)| method.clone())
        .collect();
    assert_eq!(methods, ["POST", "PATCH", "POST"]);
}

#[test]
fn words_are_as_many_as_the_server_takes() {
    for (message, expected) in [("short", "short"), (&"a".repeat(NOTE), &*"a".repeat(NOTE))] {
        assert_eq!(shortened(message), expected);
    }
    let long = shortened(&"ä".repeat(NOTE));
    assert!(
        (NOTE - 3..=NOTE).contains(&long.len()) && long.ends_with("ä ..."),
        "{long}"
    );
}
