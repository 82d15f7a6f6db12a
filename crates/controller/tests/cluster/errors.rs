//! What the API server answers when it refuses, asked of the real one, and what is made of it. Where an answer cannot be
//! provoked without harming other tests (too many requests, an API that is away, one that takes too long), a server of
//! this test gives it, and the case says so.

use std::time::Duration;

use controller::requests::ApiError;
use http::{Method, Request};
use kube::{Client, Config};
use serde_json::{Value, json};
use telemetry::ErrorType;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{Bed, bed, eventually};

/// What is answered: an HTTP status and a reason, or nothing.
type Answer<'a> = Option<(u16, &'a str)>;

/// A request that fails, and what is to be made of that.
async fn expect(what: &str, client: &Client, request: Request<Vec<u8>>, answer: Answer<'_>, class: ErrorType) {
    let error = client.request_text(request).await.err();
    let error = error.unwrap_or_else(|| panic!("{what}: it was accepted"));
    let said = match &error {
        kube::Error::Api(status) => Some((status.code, status.reason.clone())),
        _ => None,
    };
    let said = said.as_ref().map(|(code, reason)| (*code, reason.as_str()));
    assert_eq!(said, answer, "{what}: {error:?}");
    let text = format!("{error:?}");
    let error = ApiError::of("ConfigMap a", error);
    assert_eq!(error.error_type(), class, "{what}: {text}");
    assert!(error.to_string().starts_with("ConfigMap a: "), "{what}: {error}");
    println!("{what}: {answer:?} is {class:?}: {}", telemetry::chain(&error));
}

fn request(method: Method, path: &str, kind: &str, body: impl Into<Vec<u8>>) -> Request<Vec<u8>> {
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    request.body(body.into()).expect("a request")
}

const JSON: &str = "application/json";

fn get(path: &str) -> Request<Vec<u8>> {
    request(Method::GET, path, JSON, "")
}

fn post(path: &str, body: &Value) -> Request<Vec<u8>> {
    request(Method::POST, path, JSON, body.to_string())
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

/// Makes what must be there for a case.
async fn make(bed: &Bed, path: &str, body: &Value) {
    let made = bed.admin().request_text(post(path, body)).await;
    made.unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Ends it again.
async fn end(bed: &Bed, path: &str) {
    let ended = bed.admin().request_text(request(Method::DELETE, path, JSON, "")).await;
    ended.unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// An apply of one field.
fn applied(maps: &str, manager: &str, value: &str) -> Request<Vec<u8>> {
    let mut body = map("a");
    body["data"] = json!({"a": value});
    let path = format!("{maps}/a?fieldManager={manager}");
    request(Method::PATCH, &path, "application/apply-patch+yaml", body.to_string())
}

/// What is wrong, the request, the status and the reason of the answer, and the class.
type Case = (&'static str, Request<Vec<u8>>, u16, &'static str, ErrorType);

/// Requests that are refused for what they are.
fn wrong_in_themselves(maps: &str) -> Vec<Case> {
    let mut stale = map("a");
    stale["metadata"]["resourceVersion"] = json!("1");
    let mut large = map("large");
    large["data"] = json!({"a": "x".repeat(4 << 20)});
    let unacceptable = Request::get(maps).header("accept", "application/nonsense");
    vec![
        (
            "a body that is no JSON",
            request(Method::POST, maps, JSON, "{"),
            400,
            "BadRequest",
            ErrorType::Permanent,
        ),
        (
            "an object that is not there",
            get(&format!("{maps}/missing")),
            404,
            "NotFound",
            ErrorType::Transient,
        ),
        (
            "a kind of request that there is not",
            post(&format!("{maps}/a"), &map("a")),
            405,
            "MethodNotAllowed",
            ErrorType::Permanent,
        ),
        (
            "an answer in no form that is known",
            unacceptable.body(Vec::new()).expect("a request"),
            406,
            "NotAcceptable",
            ErrorType::Permanent,
        ),
        (
            "a name that is taken",
            post(maps, &map("a")),
            409,
            "AlreadyExists",
            ErrorType::Conflict,
        ),
        (
            "a version that is past",
            request(Method::PUT, &format!("{maps}/a"), JSON, stale.to_string()),
            409,
            "Conflict",
            ErrorType::Conflict,
        ),
        (
            "a field of another manager",
            applied(maps, "us", "ours"),
            409,
            "Conflict",
            ErrorType::Conflict,
        ),
        (
            "more than a request may have",
            post(maps, &large),
            413,
            "RequestEntityTooLarge",
            ErrorType::Permanent,
        ),
        (
            "a form that is not known",
            request(Method::POST, maps, "text/nonsense", "a"),
            415,
            "UnsupportedMediaType",
            ErrorType::Permanent,
        ),
        (
            "a name that none can have",
            post(maps, &map("UPPER")),
            422,
            "Invalid",
            ErrorType::Permanent,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_of_the_request_itself_has_a_class() {
    let Some(bed) = bed("errors").await else { return };
    let admin = &bed.admin();
    let maps = format!("/api/v1/namespaces/{}/configmaps", bed.namespace);
    make(&bed, &maps, &map("a")).await;
    admin
        .request_text(applied(&maps, "them", "theirs"))
        .await
        .expect("their field");

    for (what, request, code, reason, class) in wrong_in_themselves(&maps) {
        expect(what, admin, request, Some((code, reason)), class).await;
    }
    let mut nobody = bed.operator_config();
    nobody.auth_info = kube::config::AuthInfo {
        token: Some("nonsense".to_owned().into()),
        ..kube::config::AuthInfo::default()
    };
    let nobody = Client::try_from(nobody).expect("a client");
    let unauthorized = Some((401, "Unauthorized"));
    expect(
        "a token of nobody",
        &nobody,
        get(&maps),
        unauthorized,
        ErrorType::Transient,
    )
    .await;
    let operator = Client::try_from(bed.operator_config()).expect("a client");
    let forbidden = Some((403, "Forbidden"));
    expect(
        "a missing permission",
        &operator,
        get("/api/v1/nodes"),
        forbidden,
        ErrorType::Quota,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_by_what_is_around_it_has_a_class() {
    let Some(bed) = bed("errors").await else { return };
    let admin = &bed.admin();
    let namespace = &bed.namespace;
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let forbidden = Some((403, "Forbidden"));
    // For the last case, before anything refuses it.
    let mut held = map("held");
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    make(&bed, &maps, &held).await;

    let quotas = format!("/api/v1/namespaces/{namespace}/resourcequotas");
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"configmaps": "0"}}});
    make(&bed, &quotas, &quota).await;
    // Until the API server that is asked has seen it, a ConfigMap is made.
    let mut number = 0;
    eventually("the quota counts", async || {
        number += 1;
        match admin.request_text(post(&maps, &map(&format!("b{number}")))).await {
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    expect(
        "a quota that is used up",
        admin,
        post(&maps, &map("b")),
        forbidden,
        ErrorType::Quota,
    )
    .await;
    end(&bed, &format!("{quotas}/none")).await;

    let webhook = format!("errors.{namespace}.example.com");
    let hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let hook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": webhook},
        "webhooks": [{
            "name": webhook, "clientConfig": {"url": "https://127.0.0.1:1/"}, "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
        }],
    });
    make(&bed, hooks, &hook).await;
    // Until it is in force, a ConfigMap is made.
    let mut number = 0;
    eventually("the webhook is in force", async || {
        number += 1;
        match admin.request_text(post(&maps, &map(&format!("c{number}")))).await {
            Err(kube::Error::Api(status)) if status.code == 500 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let failed = Some((500, "InternalError"));
    expect(
        "a webhook that is away",
        admin,
        post(&maps, &map("d")),
        failed,
        ErrorType::Transient,
    )
    .await;
    end(&bed, &format!("{hooks}/{webhook}")).await;

    // A namespace that goes, and is held by an object that does not. The webhook may be in force still: whether the
    // namespace is there is asked first.
    end(&bed, &format!("/api/v1/namespaces/{namespace}")).await;
    expect(
        "a namespace that goes",
        admin,
        post(&maps, &map("e")),
        forbidden,
        ErrorType::Quota,
    )
    .await;
    let let_go = json!({"metadata": {"finalizers": []}}).to_string();
    let let_go = request(
        Method::PATCH,
        &format!("{maps}/held"),
        "application/merge-patch+json",
        let_go,
    );
    admin.request_text(let_go).await.expect("it goes");
}

/// A server that sends this text to whoever asks, and closes the connection; with none, it says nothing.
async fn server(answer: Option<String>) -> Config {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await;
                let Some(answer) = answer else {
                    return std::future::pending().await;
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    at(&format!("http://{address}"))
}

/// An answer of HTTP.
fn http(code: u16, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {code} So\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// A `Status` in an answer.
fn status(code: u16, reason: &str) -> String {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "said", "reason": reason, "code": code});
    http(code, &status.to_string())
}

/// As a client of that address, which tries once.
fn at(address: &str) -> Config {
    let mut config = Config::new(address.parse().expect("an address"));
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_millis(300));
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_an_outage() {
    let ask = async |what: &str, config: Config, answer: Answer<'_>| {
        let client = Client::try_from(config).expect("a client");
        expect(
            what,
            &client,
            get("/api/v1/namespaces/a/configmaps/a"),
            answer,
            ErrorType::Transient,
        )
        .await;
    };
    // Simulated: these answers are given by this test's server.
    for (what, code, reason) in [
        ("an API that is away (simulated)", 503, "ServiceUnavailable"),
        ("a request that took too long (simulated)", 504, "Timeout"),
        ("a version that is forgotten (simulated)", 410, "Expired"),
    ] {
        ask(what, server(Some(status(code, reason))).await, Some((code, reason))).await;
    }
    for (what, code) in [
        ("a proxy that reaches nobody (simulated)", 502),
        ("a status that nobody knows (simulated)", 418),
    ] {
        let answer = Some((code, "Failed to parse error data"));
        ask(what, server(Some(http(code, "not JSON"))).await, answer).await;
    }
    let cut_off = http(200, "{\"kind\": \"ConfigMap\"}").replace('}', "");
    ask(
        "an answer that is cut off (simulated)",
        server(Some(cut_off)).await,
        None,
    )
    .await;
    let throttled = Client::try_from(server(Some(status(429, "TooManyRequests"))).await).expect("a client");
    let (path, answer) = (get("/api/v1/namespaces/a/configmaps"), Some((429, "TooManyRequests")));
    expect(
        "too many requests (simulated)",
        &throttled,
        path,
        answer,
        ErrorType::Throttled,
    )
    .await;
    ask("a server that says nothing (simulated)", server(None).await, None).await;
    ask("nobody there", at("http://127.0.0.1:1"), None).await;
    ask("a name that nobody has", at("https://nobody.invalid"), None).await;
    // A real server, whose certificate is by nobody that we trust.
    let Some(bed) = bed("errors").await else { return };
    let real = bed.operator_config().cluster_url.to_string();
    ask("a certificate of a stranger", at(&real), None).await;
}
