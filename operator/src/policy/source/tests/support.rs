//! Bundles that name their revision wherever they refuse, and what follows them.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engines::catalogue::Catalogue;
use jiff::Timestamp;
use kube::{Client, Config};
use policy::bundle::{Bundle, Files};
use policy::decision::Verdict;
use policy::gate::{self, Finding};
use policy::guard::{Answer, Guard, SharedPlanner};
use policy::request::{Namespace, Operation, Request, Source as Asker};
use policy::stack;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::follow::{Following, Pace, Settings};
use super::super::keys::Keys;
use super::super::status::Status;
use super::Source;
use crate::policy::GateFailure;

/// The operator's namespace.
pub(super) const NAMESPACE: &str = "ops";

/// A bundle of two modules, which both refuse everything and name the revision.
#[derive(Clone)]
pub(super) struct Version {
    revision: String,
    metadata: Value,
    /// Added to a module.
    pub broken: &'static str,
}

impl Version {
    pub(super) fn new(revision: &str) -> Self {
        Self {
            revision: revision.to_owned(),
            metadata: json!({}),
            broken: "",
        }
    }

    pub(super) fn sequence(mut self, sequence: u64) -> Self {
        self.metadata["sequence"] = sequence.into();
        self
    }

    pub(super) fn rollback_from(mut self, sequence: u64) -> Self {
        self.metadata["rollback_from"] = sequence.into();
        self
    }

    pub(super) fn rules(&self, package: &str) -> String {
        let Self { revision, broken, .. } = self;
        format!(
            "package database.{package}\nimport rego.v1\nviolations contains {{\"id\": \"{package}.{revision}\", \
             \"severity\": \"low\", \"action\": \"deny\", \"path\": \"spec\", \"message\": \"no\"}} if input.object\n{broken}"
        )
    }

    fn parts(&self) -> [(&'static str, String); 3] {
        let manifest = json!({
            "revision": self.revision, "roots": ["database"], "rego_version": 1, "metadata": self.metadata,
        });
        [
            (".manifest", manifest.to_string()),
            ("database/a.rego", self.rules("a")),
            ("database/b.rego", self.rules("b")),
        ]
    }

    pub(super) fn files(&self) -> Files {
        let mut files = Files::new();
        for (name, text) in self.parts() {
            files.add(name, text.into_bytes()).expect("a file");
        }
        files
    }

    /// As the keys of a ConfigMap.
    pub(super) fn keys(&self) -> Vec<(String, String)> {
        let key = |(name, text): (&str, String)| (name.replace('/', "__"), text);
        self.parts().map(key).into()
    }

    pub(super) fn write_to(&self, root: &Path) {
        fs::create_dir_all(root.join("database")).expect("a folder");
        for (name, text) in self.parts() {
            fs::write(root.join(name), text).expect("written");
        }
    }
}

/// In this process: the program that has the gate is not built with these tests.
fn inspect(bundles: &[Bundle]) -> Result<Vec<Finding>, GateFailure> {
    stack::large(|| gate::inspect(bundles)).map_err(GateFailure::Program)
}

/// Follows sources with a client. Nothing is looked at but by [`Following::look`].
pub(super) fn following(sources: &[&str], client: Client) -> (Following, watch::Receiver<Status>, Guard) {
    following_signed(sources, client, Keys::default())
}

pub(super) fn following_signed(
    sources: &[&str],
    client: Client,
    keys: Keys,
) -> (Following, watch::Receiver<Status>, Guard) {
    let planner: SharedPlanner = Arc::new(|_: &Value, _: &str| Ok(Vec::new()));
    let guard = Guard::start(NonZeroUsize::new(2).expect("it is not 0"), &planner).expect("threads");
    let settings = Settings {
        sources: Source::parse_all(sources).expect("sources"),
        keys,
        catalogue: Catalogue::builtin(),
        client,
        namespace: NAMESPACE.to_owned(),
        pace: Pace {
            every: Duration::from_millis(1),
            settle: Duration::from_millis(1),
        },
        gate: inspect,
        now: Timestamp::now,
    };
    let (following, status) = Following::new(settings, guard.clone());
    (following, status, guard)
}

/// A client of an API server that there is not.
pub(super) fn nobody() -> Client {
    // The port of a service that nobody has.
    let config = Config::new("http://127.0.0.1:1".parse().expect("an address"));
    Client::try_from(config).expect("a client")
}

pub(super) async fn ask(guard: &Guard) -> Answer {
    let request = Request {
        operation: Operation::Create,
        dry_run: false,
        source: Asker::Admission,
        user: None,
        namespace: Namespace::default(),
        object: json!({"metadata": {"name": "orders"}, "spec": {}}),
        old: None,
    };
    loop {
        match guard.decide(request.clone(), Arc::default(), Timestamp::now()).await {
            Ok(answer) => return answer,
            Err(_busy) => tokio::task::yield_now().await,
        }
    }
}

pub(super) async fn verdict(guard: &Guard) -> Verdict {
    ask(guard).await.decision.verdict
}

/// The revision by which was decided: what both modules say, and what the decision names.
pub(super) async fn revision(guard: &Guard) -> String {
    let decision = ask(guard).await.decision;
    assert_eq!(decision.verdict, Verdict::Deny, "{decision:?}");
    let ids: Vec<&str> = decision
        .violations
        .iter()
        .map(|violation| violation.id.as_str())
        .collect();
    let named = &decision.bundles.values().next().expect("a bundle").revision;
    assert_eq!(ids, [format!("a.{named}"), format!("b.{named}")]);
    named.clone()
}
