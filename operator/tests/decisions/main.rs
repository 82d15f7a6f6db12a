//! `decisions query` of the real binary: three replicas over TLS, and a real API server that says who may see what.
//!
//! One test. It starts a control plane of its own and runs itself again inside, where replicas have an address that an
//! EndpointSlice may name.

mod bed;

use std::process::{Command, Output};

use devcluster::TestBed;
use serde_json::{Value, json};

use bed::{Bed, OPERATORS, PLANTED, RECORDS, expected, is_of_shop, record, token};

/// Set for the run inside of the cluster.
const INSIDE: &str = "DECISIONS_TEST_INSIDE";

#[test]
fn replicas_are_asked_as_one_by_those_who_may() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        return runtime.block_on(inside());
    }
    let Some(bed) = TestBed::up("decisions") else { return };
    let this = std::env::current_exe().expect("this program");
    let mut again = bed.command(this).expect("a command");
    again
        .args(["--exact", "replicas_are_asked_as_one_by_those_who_may", "--nocapture"])
        .env(INSIDE, "yes");
    let status = again.status().expect("it can be run");
    assert!(status.success(), "inside of the cluster: {status}");
}

async fn inside() {
    let mut bed = Bed::new().await;
    everything_is_seen_by_who_may_list_everywhere(&bed);
    one_namespace_is_seen_by_who_may_list_there(&bed);
    nothing_is_seen_by_others(&bed);
    tokens_are_for_the_api_server_or_for_this(&bed);
    every_format_holds_all_and_no_secret(&bed);
    a_certificate_is_no_token(&bed);
    a_replica_that_is_away_is_named(&mut bed).await;
}

struct Answer {
    code: Option<i32>,
    out: String,
    errors: String,
}

impl Answer {
    /// Of `-o json`.
    fn document(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.errors))
    }

    fn names(&self) -> Vec<String> {
        let document = self.document();
        let decisions = document["decisions"].as_array().expect("decisions");
        let names = decisions.iter().map(|record| record["resource"]["name"].as_str());
        names.map(|name| name.expect("a name").to_owned()).collect()
    }
}

fn ask(kubeconfig: &str, arguments: &[&str]) -> Answer {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_database-operator"))
        .args([
            "decisions",
            "query",
            "--kubeconfig",
            kubeconfig,
            "--operator-namespace",
            OPERATORS,
        ])
        .args(arguments)
        .env_clear()
        .output()
        .expect("it starts");
    let answer = Answer {
        code: status.code(),
        out: String::from_utf8(stdout).expect("UTF-8"),
        errors: String::from_utf8(stderr).expect("UTF-8"),
    };
    assert!(!answer.out.contains(PLANTED) && !answer.errors.contains(PLANTED));
    answer
}

fn everything_is_seen_by_who_may_list_everywhere(bed: &Bed) {
    let auditor = bed.kubeconfig("audit", "auditor");
    let all = ask(&auditor, &["--all", "-o", "json"]);
    assert_eq!((all.code, all.errors.as_str()), (Some(0), ""));
    assert_eq!(all.names(), expected(|_| true));
    let denied = ask(
        &auditor,
        &[
            "--namespace",
            "bank",
            "--verdict",
            "deny",
            "--rule",
            "sizes.cpu",
            "-o",
            "json",
        ],
    );
    assert_eq!(
        denied.names(),
        expected(|number| number / 2 % 3 == 1 && number % 2 == 0)
    );
    // A part of it, and the rest.
    let first = ask(&auditor, &["--limit", "7", "-o", "json"]);
    assert!(first.errors.contains("--cursor"), "{}", first.errors);
    let cursor = first.document()["next"].as_str().expect("there is more").to_owned();
    let rest = ask(&auditor, &["--all", "-o", "json", "--cursor", &cursor]);
    assert_eq!([first.names(), rest.names()].concat(), expected(|_| true));
    // One, by its id.
    let id = all.document()["decisions"][5]["decision_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let one = ask(&auditor, &["--id", &id, "-o", "json"]);
    assert_eq!(one.names(), [all.names()[5].clone()]);
}

fn one_namespace_is_seen_by_who_may_list_there(bed: &Bed) {
    let developer = bed.kubeconfig("shop", "developer");
    for arguments in [
        &["--all", "-o", "json"][..],
        &["--namespace", "shop", "--all", "-o", "json"],
    ] {
        let seen = ask(&developer, arguments);
        assert_eq!(seen.code, Some(0), "{}", seen.errors);
        assert_eq!(seen.names(), expected(is_of_shop));
        let is_told = seen
            .errors
            .contains("only namespaces are shown in which you may list databases");
        assert_eq!(is_told, arguments.len() == 3, "{}", seen.errors);
    }
    let other = ask(&developer, &["--namespace", "bank"]);
    assert_eq!((other.code, other.out.as_str()), (Some(2), ""));
    let refused = "system:serviceaccount:shop:developer may not list databases.intent.example.com in namespace bank";
    assert!(other.errors.contains(refused), "{}", other.errors);
}

fn nothing_is_seen_by_others(bed: &Bed) {
    let stranger = bed.kubeconfig("farm", "stranger");
    let unknown = ask(&stranger, &["--ca-file", bed.path("ca.crt").to_str().expect("UTF-8")]);
    assert_eq!((unknown.code, unknown.out.as_str()), (Some(2), ""));
    for word in ["list endpointslices in namespace operators", "--server"] {
        assert!(unknown.errors.contains(word), "{}", unknown.errors);
    }
    let unknown = ask(&stranger, &["--server", "https://127.0.0.1:1"]);
    assert!(unknown.errors.contains("--ca-file"), "{}", unknown.errors);
    // In the name of another, whose kubeconfig leads to the replicas.
    let file = bed.path("token");
    std::fs::write(&file, token("farm", "stranger", None)).expect("written");
    let auditor = bed.kubeconfig("audit", "auditor");
    let nothing = ask(
        &auditor,
        &["--all", "-o", "json", "--token-file", file.to_str().expect("UTF-8")],
    );
    assert_eq!((nothing.code, nothing.names()), (Some(0), vec![]));
    assert_eq!(nothing.document()["restricted"], true);
}

fn tokens_are_for_the_api_server_or_for_this(bed: &Bed) {
    let auditor = bed.kubeconfig("audit", "auditor");
    let file = bed.path("token");
    let file = file.to_str().expect("UTF-8");
    let asked = |token: &str| {
        std::fs::write(file, format!("{token}\n")).expect("written");
        ask(&auditor, &["--all", "-o", "json", "--token-file", file])
    };
    let ours = asked(&token("shop", "developer", Some("database-operator")));
    assert_eq!(
        (ours.code, ours.names()),
        (Some(0), expected(is_of_shop)),
        "{}",
        ours.errors
    );
    for other in [token("audit", "auditor", Some("vault")), "made-up".to_owned()] {
        let refused = asked(&other);
        assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""));
        for word in ["replica-0", "replica-1", "replica-2", "401"] {
            assert!(refused.errors.contains(word), "{}", refused.errors);
        }
        assert!(!refused.errors.contains(&other));
    }
}

fn every_format_holds_all_and_no_secret(bed: &Bed) {
    let auditor = bed.kubeconfig("audit", "auditor");
    // One line each, and heads.
    for (format, lines) in [
        ("table", RECORDS + 1),
        ("jsonl", RECORDS),
        ("csv", RECORDS + 1),
        ("opa", RECORDS),
    ] {
        let answer = ask(&auditor, &["--all", "-o", format]);
        assert_eq!((answer.code, answer.errors.as_str()), (Some(0), ""), "{format}");
        assert_eq!(answer.out.lines().count(), lines as usize, "{format}: {}", answer.out);
        for number in 0..RECORDS {
            let id = record(number).decision_id.to_string();
            assert!(answer.out.contains(&id), "{format}: {number}");
        }
    }
}

fn a_certificate_is_no_token(bed: &Bed) {
    let admin = std::env::var("KUBECONFIG").expect("it is set");
    let refused = ask(&admin, &[]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""));
    for word in ["but a client certificate", "kubectl create token", "--token-file"] {
        assert!(refused.errors.contains(word), "{}", refused.errors);
    }
    let file = bed.path("token");
    std::fs::write(&file, token("audit", "auditor", None)).expect("written");
    let answer = ask(
        &admin,
        &["--all", "-o", "json", "--token-file", file.to_str().expect("UTF-8")],
    );
    assert_eq!(answer.names(), expected(|_| true));
}

async fn a_replica_that_is_away_is_named(bed: &mut Bed) {
    let (stop, ended) = bed.running.remove(1);
    drop(stop);
    ended.await.expect("it ends");
    let auditor = bed.kubeconfig("audit", "auditor");
    let partial = ask(&auditor, &["--all", "-o", "json"]);
    assert_eq!(partial.code, Some(3), "{}", partial.errors);
    assert_eq!(partial.names(), expected(|number| number % 3 != 1));
    assert!(
        partial
            .errors
            .contains("warning: what replica-1 has decided is missing"),
        "{}",
        partial.errors
    );
    let document = partial.document();
    assert_eq!(
        (&document["partial"], &document["missing"][0]["replica"]),
        (&json!(true), &json!("replica-1"))
    );
    for (stop, ended) in bed.running.drain(..) {
        drop(stop);
        ended.await.expect("it ends");
    }
    assert_eq!(bed.logs.len(), 3, "their stores are there to the end");
    let nobody = ask(&auditor, &["--all"]);
    assert_eq!((nobody.code, nobody.out.as_str()), (Some(2), ""));
    assert!(nobody.errors.contains("no replica answers"), "{}", nobody.errors);
}
