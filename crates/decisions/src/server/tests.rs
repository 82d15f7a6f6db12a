use axum::body::{Body, to_bytes};
use http::{HeaderMap, Request};
use policy::log::Page;
use serde_json::Value;
use tower::ServiceExt as _;

use super::access::REMEMBERED;
use super::*;
use crate::test_support::{Kept, Known, PLANTED, Rights, record, token};

/// Records 0 to 29, in namespaces `shop`, `bank` and none, in turn.
fn kept() -> Kept {
    let namespaces = [Some("shop"), Some("bank"), None];
    Kept::new((0..30).map(|number| record(number, namespaces[usize::try_from(number % 3).unwrap()])))
}

struct Served {
    router: Router,
    reviews: Arc<Known>,
    ended: Arc<Mutex<Vec<(Outcome, Duration)>>>,
    _kept: Kept,
}

impl Served {
    fn new(reviews: Known) -> Self {
        Self::within(reviews, Limits::default())
    }

    fn within(reviews: Known, limits: Limits) -> Self {
        let (kept, reviews, ended) = (kept(), Arc::new(reviews), Arc::<Mutex<Vec<_>>>::default());
        let hears = {
            let ended = Arc::clone(&ended);
            move |outcome, after| ended.lock().unwrap().push((outcome, after))
        };
        Self {
            router: router_within(kept.readers(), Arc::clone(&reviews) as Arc<_>, Arc::new(hears), limits),
            reviews,
            ended,
            _kept: kept,
        }
    }

    /// How requests ended since the last look.
    fn ended(&self) -> Vec<Outcome> {
        let ended = std::mem::take(&mut *self.ended.lock().unwrap());
        ended.into_iter().map(|(outcome, _)| outcome).collect()
    }

    async fn send(&self, query: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Value) {
        let mut request = Request::get(format!("{PATH}?{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, 1 << 30).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(!text.contains(PLANTED) && !text.contains("token-of-"), "{text}");
        assert_eq!(head.headers[CACHE_CONTROL], "no-store");
        (head.status, head.headers, serde_json::from_str(&text).unwrap())
    }

    async fn ask(&self, user: &str, query: &str) -> (StatusCode, Value) {
        let (status, _, body) = self
            .send(query, &[("authorization", &format!("Bearer {}", token(user)))])
            .await;
        (status, body)
    }

    async fn page(&self, user: &str, query: &str) -> Page {
        let (status, body) = self.ask(user, query).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_value(body).unwrap()
    }
}

fn namespaces(page: &Page) -> Vec<Option<&str>> {
    page.entries
        .iter()
        .map(|entry| entry.record.resource.namespace.as_deref())
        .collect()
}

fn known() -> Known {
    Known::default()
        .with("admin", Rights::all())
        .with("eve", Rights::of(&["shop"]))
}

#[tokio::test]
async fn who_may_see_everything_sees_everything() {
    let served = Served::new(known());
    let page = served.page("admin", "").await;
    assert_eq!(page.entries.len(), 30);
    assert!(namespaces(&page).contains(&None));
    let (_, body) = served.ask("admin", "limit=1").await;
    assert_eq!(body["restricted"], false);
    assert_eq!(served.ended(), [Outcome::Ok; 2]);
    let denied = served.page("admin", "verdict=deny&namespace=bank&limit=2").await;
    assert_eq!(namespaces(&denied), [Some("bank"); 2]);
    assert!(denied.next.is_some());
}

#[tokio::test]
async fn who_may_see_one_namespace_sees_that_and_is_told_so() {
    let served = Served::new(known());
    let page = served.page("eve", "").await;
    assert_eq!(namespaces(&page), [Some("shop"); 10]);
    let (_, body) = served.ask("eve", "").await;
    assert_eq!(body["restricted"], true);
    assert_eq!(served.page("eve", "namespace=shop").await.entries, page.entries);
    served.ended();
    let (status, body) = served.ask("eve", "namespace=bank").await;
    assert_eq!(served.ended(), [Outcome::Denied]);
    assert_eq!(
        (status, &body["kind"], &body["code"]),
        (StatusCode::FORBIDDEN, &"Status".into(), &403.into())
    );
    let message = body["message"].as_str().unwrap();
    for word in ["eve", "list", "databases.intent.example.com", "bank"] {
        assert!(message.contains(word), "{message}");
    }
}

#[tokio::test]
async fn nobody_is_answered_without_a_valid_token() {
    let served = Served::new(known());
    let admin = format!("Bearer {}", token("admin"));
    let basic = format!("Basic {}", token("admin"));
    for headers in [
        &[][..],
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer")],
        &[("authorization", basic.as_str())],
        &[("authorization", "Bearer token-of-nobody")],
        &[("authorization", admin.as_str()), ("authorization", admin.as_str())],
        &[("x-remote-user", "admin"), ("impersonate-user", "admin")],
    ] {
        let (status, sent, body) = served.send("", headers).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{headers:?}: {body}");
        assert_eq!(sent[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(served.ended(), [Outcome::Unauthorised], "{headers:?}");
        assert!(body.get("entries").is_none());
    }
}

#[tokio::test]
async fn a_question_that_is_not_understood_is_answered_with_the_parameter() {
    let served = Served::new(known());
    for (query, word) in [
        ("namespace=", "namespace"),
        ("limit=0", "1 to 1000"),
        ("users=eve", "unknown parameter `users`"),
        ("verdict=denied", "allow, warn, deny or error"),
    ] {
        let (status, body) = served.ask("eve", query).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {body}");
        assert!(body["message"].as_str().unwrap().contains(word), "{query}: {body}");
    }
    assert!(served.reviews.asked().is_empty(), "before anybody is asked");
    assert_eq!(served.ended(), [Outcome::Invalid; 4]);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_may_see_is_remembered_for_a_while_and_who_they_are_is_not() {
    let served = Served::new(known());
    let in_order = |mut asked: Vec<String>| {
        asked.sort();
        asked
    };
    served.page("eve", "").await;
    let expected = ["eve in *", "eve in bank", "eve in shop", "who is eve"];
    assert_eq!(in_order(served.reviews.asked()), expected);
    served.page("eve", "").await;
    served.page("eve", "namespace=shop").await;
    assert_eq!(served.reviews.asked(), ["who is eve", "who is eve"]);
    // Another token is another question.
    served.reviews.set("mallory", Rights::default());
    assert!(served.page("mallory", "").await.entries.is_empty());
    assert_eq!(in_order(served.reviews.asked())[0], "mallory in *");
    // What is taken away is gone after that while.
    served.reviews.set("eve", Rights::default());
    tokio::time::advance(REMEMBERED).await;
    assert!(served.page("eve", "").await.entries.is_empty());
    assert_eq!(served.ask("eve", "namespace=shop").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_shows_nothing() {
    let reviews = Known { fails: true, ..known() };
    let served = Served::new(reviews);
    for query in ["", "namespace=shop"] {
        let (status, body) = served.ask("eve", query).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
        assert!(body.get("entries").is_none());
    }
    assert_eq!(served.ended(), [Outcome::Error; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_given_up_and_others_are_turned_away_meanwhile() {
    let limits = Limits {
        requests: 2,
        ..Limits::default()
    };
    let served = Arc::new(Served::within(Known { hangs: true, ..known() }, limits));
    let ask = || {
        let served = Arc::clone(&served);
        tokio::spawn(async move { served.ask("admin", "").await })
    };
    let begun = tokio::time::Instant::now();
    let waiting = [ask(), ask()];
    while served.reviews.hanging() < 2 {
        tokio::task::yield_now().await;
    }
    let (status, _) = served.ask("admin", "").await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    for waited in waiting {
        assert_eq!(waited.await.unwrap().0, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(begun.elapsed(), limits.time);
    let ended = served.ended.lock().unwrap();
    let expected = [
        (Outcome::Shed, Duration::ZERO),
        (Outcome::Error, limits.time),
        (Outcome::Error, limits.time),
    ];
    assert_eq!(*ended, expected);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_is_counted() {
    let served = Served::new(Known { hangs: true, ..known() });
    let given_up = timeout(Duration::from_secs(1), served.ask("admin", "")).await;
    assert!(given_up.is_err());
    let ended = served.ended.lock().unwrap();
    assert_eq!(*ended, [(Outcome::Gone, Duration::from_secs(1))]);
}

#[tokio::test]
async fn pages_are_bounded_by_their_bytes() {
    let limits = Limits {
        bounds: Bounds {
            chunk: 4,
            bytes: 1,
            ..Bounds::default()
        },
        ..Limits::default()
    };
    let served = Served::within(known(), limits);
    // Of each four that are read, one or two are of the shop.
    let first = served.page("eve", "limit=2").await;
    assert_eq!(first.entries.len(), 1);
    let rest = format!("limit=2&cursor={}", first.next.unwrap());
    assert_eq!(served.page("eve", &rest).await.entries.len(), 1);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_no_empty_answer() {
    let folder = tempfile::TempDir::new().unwrap();
    let reader = Reader::of_file(folder.path().join("none.db"));
    let router = router(vec![reader], Arc::new(known()), Arc::new(|_, _| {}));
    let request = Request::get(PATH).header(AUTHORIZATION, format!("Bearer {}", token("admin")));
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn only_a_get_is_answered() {
    let served = Served::new(known());
    for method in ["POST", "PUT", "DELETE"] {
        let request = Request::builder().method(method).uri(PATH).body(Body::empty()).unwrap();
        let response = served.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
