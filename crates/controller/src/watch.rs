//! From watch events to the store and the queue.
//!
//! One watch for each kind (and namespace, if the operator is confined to some), each re-listed by `kube-runtime` when
//! it breaks. Children are selected at the server by the presence of the bucket label. A reconcile starts only after
//! every watch has delivered its first list: before that, "not found" would mean nothing.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use api::names;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource, ResourceExt as _};
use planner::child::Kind;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use workqueue::{Class, Queue};

use crate::seen::{SeenChild, SeenDatabase};
use crate::store::{Key, Store};

/// Where events go.
#[derive(Clone)]
pub struct Sink {
    /// What is known.
    pub store: Store,
    /// What is to be looked at.
    pub queue: Arc<Queue<Key>>,
}

/// Starts every watch. `ready` turns true once all of them have delivered their first list. They end when the returned
/// set is dropped.
pub fn start(client: &Client, namespaces: &[String], sink: &Sink) -> (tokio::task::JoinSet<()>, watch::Receiver<bool>) {
    let mut tasks = tokio::task::JoinSet::new();
    let (listed, mut lists) = mpsc::unbounded_channel::<()>();
    let mut expected = 0;
    let scopes: Vec<Option<String>> = if namespaces.is_empty() {
        vec![None]
    } else {
        namespaces.iter().cloned().map(Some).collect()
    };
    for scope in &scopes {
        let mut spawn = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            expected += 1;
            tasks.spawn(task);
        };
        let common = || (sink.clone(), scope.clone(), listed.clone());
        spawn(Box::pin(databases(objects(client, scope.as_ref(), None), common())));
        // The index is that of the kind in `Kind::ALL`; the test `every_kind_is_watched` counts them.
        let children = || Some(names::BUCKET_LABEL);
        spawn(Box::pin(watch_children::<0>(
            objects(client, scope.as_ref(), children()),
            common(),
        )));
        spawn(Box::pin(watch_children::<1>(
            objects(client, scope.as_ref(), children()),
            common(),
        )));
        spawn(Box::pin(watch_children::<2>(
            objects(client, scope.as_ref(), children()),
            common(),
        )));
        spawn(Box::pin(watch_children::<3>(
            objects(client, scope.as_ref(), children()),
            common(),
        )));
        spawn(Box::pin(watch_children::<4>(
            objects(client, scope.as_ref(), children()),
            common(),
        )));
        spawn(Box::pin(watch_children::<5>(
            objects(client, scope.as_ref(), children()),
            common(),
        )));
        spawn(Box::pin(watch_children::<6>(
            objects(client, scope.as_ref(), children()),
            common(),
        )));
        spawn(Box::pin(watch_children::<7>(
            objects(client, scope.as_ref(), children()),
            common(),
        )));
        spawn(Box::pin(references::<ConfigMap>(
            metadata(client, scope.as_ref()),
            Kind::ConfigMap,
            common(),
        )));
        spawn(Box::pin(references::<Secret>(
            metadata(client, scope.as_ref()),
            Kind::Secret,
            common(),
        )));
    }
    let (ready, is_ready) = watch::channel(false);
    tasks.spawn(async move {
        for _ in 0..expected {
            if lists.recv().await.is_none() {
                return;
            }
        }
        // Nobody waits any more only when the process is stopping.
        ready.send_replace(true);
        ready.closed().await;
    });
    (tasks, is_ready)
}

type Common = (Sink, Option<String>, mpsc::UnboundedSender<()>);

fn api<K>(client: &Client, scope: Option<&String>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn objects<K>(
    client: &Client,
    scope: Option<&String>,
    label: Option<&str>,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let config = label.map_or_else(watcher::Config::default, |label| {
        watcher::Config::default().labels(label)
    });
    watcher::watcher(api::<K>(client, scope), config).default_backoff()
}

fn metadata<K>(
    client: &Client,
    scope: Option<&String>,
) -> impl Stream<Item = watcher::Result<Event<PartialObjectMeta<K>>>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let config = watcher::Config::default().labels(&format!("{}=true", names::WATCH_LABEL));
    watcher::watcher(api::<PartialObjectMeta<K>>(client, scope), config).default_backoff()
}

/// Whether a namespace is one that a watch of this scope shows.
fn covers(scope: Option<&String>) -> impl Fn(&str) -> bool {
    move |namespace: &str| scope.is_none_or(|scope| scope == namespace)
}

async fn databases(events: impl Stream<Item = watcher::Result<Event<SeenDatabase>>>, (sink, scope, listed): Common) {
    let mut events = std::pin::pin!(events);
    let (mut list, mut started_at) = (HashSet::new(), 0);
    let take = |database: SeenDatabase, class| {
        let key = Key::new(&database.namespace().unwrap_or_default(), &database.name_any());
        let class = if database.deleting() { Class::Deletion } else { class };
        if sink.store.put_database(&key, database) {
            sink.queue.add(key, class);
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(database)) => take(database, Class::UserChange),
            Ok(Event::Delete(database)) => {
                let key = Key::new(&database.namespace().unwrap_or_default(), &database.name_any());
                sink.store.remove_database(&key);
                sink.queue.add(key, Class::UserChange);
            }
            Ok(Event::Init) => (list, started_at) = (HashSet::new(), sink.store.highest_database_version()),
            Ok(Event::InitApply(database)) => {
                list.extend(database.uid());
                take(database, Class::Resync);
            }
            Ok(Event::InitDone) => {
                for key in sink.store.keep_databases(covers(scope.as_ref()), &list, started_at) {
                    sink.queue.add(key, Class::Resync);
                }
                list = HashSet::new();
                done(&listed);
            }
            Err(error) => complain("databases", &error),
        }
    }
}

async fn watch_children<const K: usize>(
    events: impl Stream<Item = watcher::Result<Event<SeenChild<K>>>>,
    (sink, scope, listed): Common,
) {
    let kind = SeenChild::<K>::KIND;
    let mut events = std::pin::pin!(events);
    let (mut list, mut started_at) = (HashSet::new(), 0);
    let key_of = |seen: &SeenChild<K>| seen.database.as_deref().map(|name| Key::new(seen.namespace(), name));
    let take = |seen: SeenChild<K>, class| {
        let Some(key) = key_of(&seen) else { return };
        if sink.store.put_child(&key, seen.child, seen.facts) {
            sink.queue.add(key, class);
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(seen)) => take(seen, Class::ChildDrift),
            // Also what happens when the label is removed: the plan then finds the object missing, looks, and finds it.
            Ok(Event::Delete(seen)) => {
                if let Some(key) = key_of(&seen)
                    && sink.store.remove_child(&key, &seen.child, &seen.facts.resource_version)
                {
                    sink.queue.add(key, Class::ChildDrift);
                }
            }
            Ok(Event::Init) => (list, started_at) = (HashSet::new(), sink.store.highest_child_version(kind)),
            Ok(Event::InitApply(seen)) => {
                list.insert(seen.facts.uid.clone());
                take(seen, Class::Resync);
            }
            Ok(Event::InitDone) => {
                for key in sink
                    .store
                    .keep_children(kind, covers(scope.as_ref()), &list, started_at)
                {
                    sink.queue.add(key, Class::ChildDrift);
                }
                list = HashSet::new();
                done(&listed);
            }
            Err(error) => complain(kind.resource().2, &error),
        }
    }
}

/// ConfigMaps and Secrets that users asked us to watch: only that one changed matters, its content is read when needed.
async fn references<K>(
    events: impl Stream<Item = watcher::Result<Event<PartialObjectMeta<K>>>>,
    kind: Kind,
    (sink, _, listed): Common,
) where
    K: Resource<DynamicType = ()>,
{
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::Delete(object) | Event::InitApply(object)) => {
                let namespace = object.metadata.namespace.unwrap_or_default();
                let name = object.metadata.name.unwrap_or_default();
                for key in sink.store.referring(&namespace, kind, &name) {
                    sink.queue.add(key, Class::UserChange);
                }
            }
            Ok(Event::Init) => {}
            Ok(Event::InitDone) => done(&listed),
            Err(error) => complain(kind.resource().2, &error),
        }
    }
}

fn done(listed: &mpsc::UnboundedSender<()>) {
    // Only the first list is waited for; later ones find nobody listening.
    let _ = listed.send(());
}

fn complain(what: &str, error: &watcher::Error) {
    tracing::warn!(watch = what, error = %telemetry::chain(error), "watch broke; it is being set up again");
}
