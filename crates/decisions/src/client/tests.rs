use std::net::Ipv4Addr;
use std::sync::Arc;

use admission::certificates::Times;
use admission::certificates::issue::carry_out;
use admission::certificates::rotation::{State, Step};
use admission::server::{Limits, Server};
use admission::tls::Tls;
use jiff::Timestamp;

use policy::log::Verdict;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::server::router;
use crate::test_support::{Kept, Known, PLANTED, Rights, record, token};

const SERVER: &str = "database-operator.operators.svc";

/// Three replicas behind one authority.
struct Fleet {
    state: State,
    replicas: Vec<Replica>,
    running: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
    kept_open: Vec<Kept>,
}

impl Fleet {
    /// Records 0 to 89 in turn; `shop` and `bank` in turn, three and three.
    async fn start() -> Self {
        let state = carry_out(Step::Begin, None, SERVER, Timestamp::now(), &Times::default()).unwrap();
        let reviews = Arc::new(
            Known::default()
                .with("admin", Rights::all())
                .with("eve", Rights::of(&["shop"])),
        );
        let mut fleet = Self {
            state,
            replicas: Vec::new(),
            running: Vec::new(),
            kept_open: Vec::new(),
        };
        for replica in 0..3_u64 {
            let mine = (0..90).filter(|number| number % 3 == replica);
            let kept =
                Kept::new(mine.map(|number| record(number, Some(["shop", "bank"][usize::from(number / 3 % 2 == 1)]))));
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            fleet.replicas.push(Replica {
                name: format!("replica-{replica}"),
                url: format!("https://{}", listener.local_addr().unwrap()),
            });
            let tls = Tls::new().unwrap();
            tls.show(&fleet.state.leaf);
            let (stop, stopped) = oneshot::channel();
            let router = router(kept.readers(), Arc::clone(&reviews) as Arc<_>, Arc::new(|_, _| {}));
            let server = Server::new(tls, router).with_limits(Limits {
                linger: Duration::ZERO,
                ..Limits::DEFAULT
            });
            let serving = server.serve(listener, async {
                drop(stopped.await);
            });
            fleet.running.push((stop, tokio::spawn(serving)));
            fleet.kept_open.push(kept);
        }
        fleet
    }

    async fn stop_last(&mut self) {
        let (stop, ended) = self.running.pop().unwrap();
        drop(stop);
        ended.await.unwrap();
    }

    fn authority(&self) -> Authority {
        Authority::new(self.state.bundle().as_bytes(), "the test", SERVER.to_owned()).unwrap()
    }

    fn query(&self, user: &str, filter: Filter) -> Query {
        let token = of_user(user);
        Query::new(&self.replicas, &self.authority(), token, filter).unwrap()
    }
}

async fn names(query: &mut Query, limit: usize) -> Vec<String> {
    let mut names = Vec::new();
    while !query.has_ended() {
        for entry in query.page(limit).await.unwrap() {
            assert!(!serde_json::to_string(&entry).unwrap().contains(PLANTED));
            names.push(entry.record.resource.name.unwrap());
        }
    }
    names
}

fn expected(wanted: impl Fn(u64) -> bool) -> Vec<String> {
    (0..90)
        .rev()
        .filter(|number| wanted(*number))
        .map(|number| format!("database-{number}"))
        .collect()
}

#[tokio::test]
async fn all_replicas_are_one_log() {
    let fleet = Fleet::start().await;
    for limit in [7, 1000] {
        let mut query = fleet.query("admin", Filter::default());
        assert_eq!(names(&mut query, limit).await, expected(|_| true));
        assert!(query.missing().is_empty() && !query.is_restricted());
    }
    let mut query = fleet.query("eve", Filter::default());
    let found = names(&mut query, 4).await;
    assert!(query.missing().is_empty(), "{:?}", query.missing());
    assert_eq!(found, expected(|number| number / 3 % 2 == 0));
    assert!(query.is_restricted());
    let denied = Filter {
        verdict: Some(Verdict::Deny),
        user: Some("user-1".to_owned()),
        ..Filter::default()
    };
    let mut query = fleet.query("admin", denied);
    assert_eq!(
        names(&mut query, 5).await,
        expected(|number| number % 2 == 0 && number % 3 == 1)
    );
}

#[tokio::test]
async fn a_page_goes_on_where_another_ended() {
    let fleet = Fleet::start().await;
    let mut first = fleet.query("admin", Filter::default());
    let head = first.page(10).await.unwrap().len();
    let rest = Filter {
        cursor: first.next(),
        ..Filter::default()
    };
    let mut second = fleet.query("admin", rest);
    assert_eq!(names(&mut second, 50).await, expected(|_| true)[head..]);
}

#[tokio::test]
async fn a_replica_that_is_away_is_named_and_the_others_answer() {
    let mut fleet = Fleet::start().await;
    fleet.stop_last().await;
    let mut query = fleet.query("admin", Filter::default());
    assert_eq!(names(&mut query, 20).await, expected(|number| number % 3 != 2));
    let missing: Vec<&str> = query.missing().iter().map(|missing| missing.replica.as_str()).collect();
    assert_eq!(missing, ["replica-2"]);
    assert!(query.missing()[0].reason.contains("refused"), "{:?}", query.missing());
}

#[tokio::test]
async fn a_replica_that_goes_in_between_is_missing_from_there_on() {
    let mut fleet = Fleet::start().await;
    let mut query = fleet.query("admin", Filter::default());
    query.page(10).await.unwrap();
    fleet.stop_last().await;
    names(&mut query, 10).await;
    assert_eq!(query.missing().len(), 1);
}

#[tokio::test]
async fn nobody_answering_is_an_error_with_all_reasons() {
    let fleet = Fleet::start().await;
    let mut query = fleet.query("nobody", Filter::default());
    let error = query.page(10).await.unwrap_err().to_string();
    for word in [
        "replica-0",
        "replica-1",
        "replica-2",
        "the token is no valid one",
        "401",
    ] {
        assert!(error.contains(word), "{error}");
    }
    let elsewhere = Filter {
        namespace: Some("bank".to_owned()),
        ..Filter::default()
    };
    let error = fleet.query("eve", elsewhere).page(10).await.unwrap_err().to_string();
    assert!(error.contains("eve may not list databases"), "{error}");
}

#[tokio::test]
async fn no_token_goes_to_a_server_that_is_not_known() {
    let fleet = Fleet::start().await;
    let another = carry_out(Step::Begin, None, SERVER, Timestamp::now(), &Times::default()).unwrap();
    let strange = Authority::new(another.bundle().as_bytes(), "the test", SERVER.to_owned()).unwrap();
    let known = fleet.state.bundle();
    let renamed = Authority::new(known.as_bytes(), "the test", "database-operator.others.svc".to_owned()).unwrap();
    for authority in [strange, renamed] {
        let mut query = Query::new(&fleet.replicas, &authority, of_user("admin"), Filter::default()).unwrap();
        let error = query.page(10).await.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
    }
}

#[test]
fn a_token_is_sent_nowhere_in_the_clear() {
    let state = carry_out(Step::Begin, None, SERVER, Timestamp::now(), &Times::default()).unwrap();
    let authority = Authority::new(state.bundle().as_bytes(), "the test", SERVER.to_owned()).unwrap();
    for url in [
        "http://127.0.0.1:8443",
        "127.0.0.1:8443",
        "https://",
        "https://user@host:1",
        "https://host:1/path",
        "https://host:1?a=b",
        "ftp://host",
        "",
    ] {
        assert!(
            matches!(authority.client(url), Err(ClientError::Address { .. })),
            "{url}"
        );
    }
    for url in ["https://127.0.0.1:8443", "https://[fd00::1]:8443/", "https://host"] {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        assert!(authority.client(url).is_ok(), "{url}");
    }
}

#[test]
fn what_is_no_certificate_is_refused() {
    for text in [
        "",
        "nothing",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ] {
        let error = Authority::new(text.as_bytes(), "ca.crt", SERVER.to_owned()).unwrap_err();
        assert!(error.to_string().contains("ca.crt holds no certificate"), "{error}");
    }
}

/// A kubeconfig's user.
fn config(user: Value) -> Config {
    let mut config = Config::new(Uri::from_static("https://127.0.0.1:6443"));
    config.auth_info = serde_json::from_value(user).unwrap();
    config
}

fn of_user(user: &str) -> Token {
    Token::of_config(&config(json!({"token": token(user)}))).unwrap()
}

#[tokio::test]
async fn a_token_comes_from_wherever_the_kubeconfig_says() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "from-a-file\n").unwrap();
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": "from-a-program", "expirationTimestamp": "2099-01-01T00:00:00Z"},
    });
    let program = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "command": "echo", "args": [credential.to_string()],
        "interactiveMode": "Never",
    });
    let mut tokens = [
        (Token::of_file(&file), "from-a-file"),
        (Token::of_config(&config(json!({"token": "inline"}))).unwrap(), "inline"),
        (
            Token::of_config(&config(json!({"exec": program}))).unwrap(),
            "from-a-program",
        ),
    ];
    for (token, expected) in &mut tokens {
        for _ in 0..2 {
            let header = token.header().await.unwrap();
            assert_eq!(header, format!("Bearer {expected}"));
            assert!(header.is_sensitive(), "{expected}");
        }
    }
    // A new one is taken at once.
    std::fs::write(&file, "another").unwrap();
    assert_eq!(tokens[0].0.header().await.unwrap(), "Bearer another");
}

#[tokio::test]
async fn without_a_token_it_is_said_how_to_get_one() {
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"clientCertificateData": "PUBLIC", "clientKeyData": "PRIVATE"},
    });
    let program = json!({"command": "echo", "args": [credential.to_string()], "interactiveMode": "Never"});
    for (user, word) in [
        (
            json!({"client-certificate-data": "AAAA", "client-key-data": "PRIVATE"}),
            "but a client certificate",
        ),
        (
            json!({"exec": program}),
            "but a program that gives a client certificate",
        ),
        (json!({}), "has no token"),
        (
            json!({"token": "PRIVATE", "as": "root"}),
            "acts as somebody else (as: root)",
        ),
        (json!({"username": "eve", "password": "PRIVATE"}), "but a password"),
    ] {
        let error = match Token::of_config(&config(user)) {
            Ok(mut token) => token.header().await.unwrap_err(),
            Err(error) => error,
        };
        let text = format!("{error} {error:?}");
        assert!(text.contains(word) && text.contains("kubectl create token"), "{text}");
        assert!(!text.contains("PRIVATE"), "{text}");
    }
}

#[tokio::test]
async fn a_file_without_a_token_is_named_and_not_shown() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("token");
    assert!(matches!(
        Token::of_file(&file).header().await,
        Err(TokenError::File(..))
    ));
    for text in ["", "\n", "two words", "a\nb", "\u{e4}"] {
        std::fs::write(&file, text).unwrap();
        let error = Token::of_file(&file).header().await.unwrap_err();
        assert!(matches!(error, TokenError::NoToken(_)), "{text:?}: {error}");
        assert!(!error.to_string().contains("two words"));
    }
}
