//! The requests that the operator itself makes, by [`Writer`]: those of the owner are accepted, each of one whose time is
//! over is refused by the fence and told so.
//!
//! The map says 10, and the objects are as an owner with epoch 5 left them. An object of which a writer only believes that
//! it bears its fence shows what the request itself carries.

use std::fmt::Debug;
use std::future::Future;

use api::names::FENCE_ANNOTATION;
use controller::permit::Permit;
use controller::requests::{ApiError, Writer};
use kube::{Client, Config};
use planner::child::{ChildRef, Kind, Version};
use planner::plan::Subject;
use serde_json::{Value, json};
use sharding::Epoch;
use tokio::runtime::Runtime;

use crate::support::{LABEL, NAMESPACE, Server, accepted, child, named, until};

/// Name of the Database.
const DATABASE: &str = "written";

/// The owner, and one whose time is over.
struct Writers {
    runtime: Runtime,
    owner: Writer,
    stale: Writer,
}

/// A client of this user.
async fn client(user: &str, groups: &[&str]) -> Client {
    let mut config = Config::infer().await.expect("KUBECONFIG leads to the test cluster");
    config.auth_info.impersonate = Some(user.to_owned());
    config.auth_info.impersonate_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
    Client::try_from(config).expect("a client")
}

fn subject() -> Subject {
    Subject {
        namespace: NAMESPACE.to_owned(),
        name: DATABASE.to_owned(),
        uid: "1".to_owned(),
        bucket: sharding::bucket_of(NAMESPACE, DATABASE),
    }
}

impl Writers {
    fn of_a_replica() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let replica = runtime.block_on(client("system:serviceaccount:ops:database-operator", &[]));
        let writer = |epoch| Writer::new(replica.clone(), &subject(), Permit::always(Epoch(epoch)));
        let (owner, stale) = (writer(10), writer(9));
        Self { runtime, owner, stale }
    }

    /// The answer, once nobody changes the object at the same time: Kubernetes reports on what was just made.
    fn ask<T, F: Future<Output = Result<T, ApiError>>>(&self, request: impl Fn() -> F) -> Result<T, ApiError> {
        let mut answer = self.runtime.block_on(request());
        until("nobody else writes to it", || {
            let again = matches!(answer, Err(ApiError::Conflict { .. }));
            if again {
                answer = self.runtime.block_on(request());
            }
            !again
        });
        answer
    }

    #[track_caller]
    fn accepted<T, F: Future<Output = Result<T, ApiError>>>(&self, what: &str, request: impl Fn() -> F) -> T {
        self.ask(request).unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// The fence refuses it, and nothing of it is done.
    #[track_caller]
    fn fenced<T: Debug, F>(&self, way: &str, child: &ChildRef, request: impl Fn() -> F)
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let before = self.declared(child);
        let answer = self.ask(request);
        assert!(
            matches!(answer, Err(ApiError::Fenced { .. })),
            "{way} {child}: {answer:?}"
        );
        assert_eq!(self.declared(child), before, "{way} {child}");
    }

    /// A child without what Kubernetes reports on it; `None` if there is none.
    fn declared(&self, child: &ChildRef) -> Option<Value> {
        let mut object = match self.runtime.block_on(self.owner.read(child)) {
            Ok(object) => object,
            Err(ApiError::NotFound { .. }) => return None,
            Err(error) => panic!("{child}: {error:?}"),
        };
        object["status"].take();
        object["metadata"]["resourceVersion"].take();
        object["metadata"]["managedFields"].take();
        Some(object)
    }

    fn version(&self, child: &ChildRef) -> Version {
        let (_, facts) = self.runtime.block_on(self.owner.look(child)).expect("it was made");
        facts.version()
    }
}

/// An object as the last owner left it.
fn left(server: &Server, kind: Kind) -> ChildRef {
    let mut object = body(kind, "left");
    object["metadata"]["annotations"] = json!({FENCE_ANNOTATION: "5"});
    object["metadata"]["labels"][LABEL] = json!(subject().bucket.to_string());
    object["metadata"]["labels"]["extra"] = json!("yes");
    accepted(&server.somebody().create(&object));
    ChildRef::new(kind, "left")
}

pub(crate) fn what_the_operator_writes_is_fenced(server: &Server) {
    let writers = Writers::of_a_replica();
    for kind in Kind::ALL {
        let there = left(server, kind);
        if kind != Kind::Pod {
            creates(&writers, kind);
        }
        merges(&writers, &there);
        removes(&writers, &there);
        if matches!(kind, Kind::Service | Kind::StatefulSet) {
            overrules(&writers, &there);
        }
        deletes(server, &writers, &there);
    }
    stamps_and_reports(server, &writers);
    others_write_as_they_like(&writers);
}

/// Without a fence, which is the writer's to add, and without pods.
fn body(kind: Kind, name: &str) -> Value {
    let mut body = child(kind, name, None);
    if kind == Kind::StatefulSet {
        body["spec"]["replicas"] = json!(0);
    }
    body
}

fn creates(writers: &Writers, kind: Kind) {
    let Writers { owner, stale, .. } = writers;
    let (made, made_body) = (ChildRef::new(kind, "made"), body(kind, "made"));
    writers.fenced("create", &made, || stale.create(&made, &made_body));
    writers.accepted("create", || owner.create(&made, &made_body));

    let (applied, body) = (ChildRef::new(kind, "put"), body(kind, "put"));
    writers.fenced("apply", &applied, || stale.apply(&applied, &body, None));
    let (_, facts) = writers.accepted("apply", || owner.apply(&applied, &body, None));
    let uid = &facts.uid;
    writers.fenced("apply again", &applied, || stale.apply(&applied, &body, Some(uid)));
    writers.accepted("apply again", || owner.apply(&applied, &body, Some(uid)));
    writers.fenced("reclaim", &applied, || stale.reclaim(&applied, uid, &body));
    writers.accepted("reclaim", || owner.reclaim(&applied, uid, &body));
}

fn merges(writers: &Writers, there: &ChildRef) {
    let Writers { owner, stale, .. } = writers;
    let uid = writers.version(there).uid;
    let change = json!({"metadata": {"labels": {"merged": "yes"}}});
    // The object itself is older, so that it is the map that counts; then it is the object.
    writers.fenced("merge", there, || stale.merge(there, &uid, &change));
    writers.accepted("merge", || owner.merge(there, &uid, &change));
    writers.fenced("merge", there, || stale.merge(there, &uid, &change));
}

/// The version as one sees it who takes what it bears for this fence, and so does not stamp it.
fn taken_for(epoch: u64, version: Version) -> Version {
    Version {
        fence: Some(Epoch(epoch)),
        ..version
    }
}

async fn remove(writer: &Writer, child: &ChildRef, version: Version) -> Result<(), ApiError> {
    let pointers = ["/metadata/labels/extra".to_owned()];
    writer.remove(child, &version, &pointers).await.map(drop)
}

fn removes(writers: &Writers, there: &ChildRef) {
    let Writers { owner, stale, .. } = writers;
    let version = || writers.version(there);
    writers.fenced("remove", there, || remove(stale, there, version()));
    writers.fenced("remove", there, || remove(stale, there, taken_for(9, version())));
    writers.accepted("remove", || remove(owner, there, version()));
}

async fn overrule(writer: &Writer, child: &ChildRef, version: Version) -> Result<(), ApiError> {
    let mut body = body(child.kind, &child.name);
    match child.kind {
        Kind::Service => body["spec"] = json!({"ports": [{"port": 81}]}),
        _ => body["spec"]["minReadySeconds"] = json!(1),
    }
    writer.overrule(child, &version, &body).await.map(drop)
}

fn overrules(writers: &Writers, there: &ChildRef) {
    let Writers { owner, stale, .. } = writers;
    let version = || writers.version(there);
    writers.fenced("overrule", there, || overrule(stale, there, version()));
    writers.fenced("overrule", there, || overrule(stale, there, taken_for(9, version())));
    writers.accepted("overrule", || overrule(owner, there, version()));
}

async fn delete(writer: &Writer, child: &ChildRef, version: Version) -> Result<(), ApiError> {
    writer.delete(child, &version).await.map(drop)
}

/// With a stamp before; a restart is the deletion of a pod.
fn deletes(server: &Server, writers: &Writers, there: &ChildRef) {
    let Writers { owner, stale, .. } = writers;
    let version = || writers.version(there);
    writers.fenced("delete", there, || delete(stale, there, version()));
    // As the stale one itself left it.
    accepted(&server.somebody().stamp(&named(there.kind, &there.name), Some("9")));
    writers.fenced("delete", there, || delete(stale, there, version()));
    let changed = Version {
        resource_version: "2".into(),
        ..version()
    };
    let late = writers.runtime.block_on(delete(owner, there, changed));
    assert!(matches!(late, Err(ApiError::Conflict { .. })), "{there}: {late:?}");
    writers.accepted("delete", || delete(owner, there, version()));
    let gone = writers.runtime.block_on(owner.look(there));
    let deleting = matches!(&gone, Ok((_, facts)) if facts.deleting);
    assert!(
        deleting || matches!(gone, Err(ApiError::NotFound { .. })),
        "{there}: {gone:?}"
    );
}

fn stamps_and_reports(server: &Server, writers: &Writers) {
    let Writers { owner, stale, .. } = writers;
    let mut object: Value =
        serde_yaml::from_str(include_str!("../../../docs/samples/redis.yaml")).expect("a sample is YAML");
    object["metadata"]["name"] = json!(DATABASE);
    object["metadata"]["namespace"] = json!(NAMESPACE);
    accepted(&server.somebody().create(&object));
    let name = format!("databases/{DATABASE}");
    let version = || {
        let jsonpath = "jsonpath={.metadata.resourceVersion}";
        server.must(&["get", "-n", NAMESPACE, &name, "-o", jsonpath], "")
    };
    let runtime = &writers.runtime;
    let bucket = subject().bucket.to_string();
    let first = json!({"metadata": {"labels": {LABEL: bucket}, "finalizers": [api::names::FINALIZER]}});
    let stamps = |change: &Value| {
        let at = version();
        let refused = runtime.block_on(stale.stamp(DATABASE, &at, change));
        assert!(matches!(refused, Err(ApiError::Fenced { .. })), "{refused:?}");
        assert_eq!(version(), at);
        let stamped = runtime.block_on(owner.stamp(DATABASE, &at, change));
        assert!(stamped.is_ok(), "{stamped:?}");
    };
    let reports = |change: &Value| {
        let at = version();
        let refused = runtime.block_on(stale.status(DATABASE, &at, change));
        assert!(matches!(refused, Err(ApiError::Fenced { .. })), "{refused:?}");
        assert_eq!(version(), at);
        let written = runtime.block_on(owner.status(DATABASE, &at, change));
        assert_eq!(written.expect("the owner reports").status.fence, Some(10));
    };
    stamps(&first);
    reports(&json!({"message": "made"}));
    // The fence stands there already.
    reports(&json!({"message": "ready"}));
    server.must(&["delete", "-n", NAMESPACE, &name, "--wait=false"], "");
    reports(&json!({"phase": "Deleting"}));
    stamps(&json!({"metadata": {"finalizers": []}}));
    assert!(server.admin(&["get", "-n", NAMESPACE, &name], "").is_err());
}

/// The same requests by another user, with an epoch that is long over.
fn others_write_as_they_like(writers: &Writers) {
    let admin = writers.runtime.block_on(client("alice", &["system:masters"]));
    let admin = Writer::new(admin, &subject(), Permit::always(Epoch(1)));
    for kind in Kind::ALL {
        let (object, body) = (ChildRef::new(kind, "of-alice"), body(kind, "of-alice"));
        let (_, made) = writers.accepted("create", || admin.create(&object, &body));
        let change = json!({"metadata": {"labels": {"extra": "yes"}}});
        writers.accepted("merge", || admin.merge(&object, &made.uid, &change));
        writers.accepted("remove", || remove(&admin, &object, writers.version(&object)));
        writers.accepted("delete", || delete(&admin, &object, writers.version(&object)));
    }
}

/// Without a map, or without its definition: an outage, and no verdict on the object.
pub(crate) fn without_a_map_it_is_an_outage() {
    let writers = Writers::of_a_replica();
    let late = ChildRef::new(Kind::Service, "late");
    let answer = writers
        .runtime
        .block_on(writers.owner.create(&late, &body(Kind::Service, "late")));
    assert!(matches!(answer, Err(ApiError::Unjudged { .. })), "{answer:?}");
}
