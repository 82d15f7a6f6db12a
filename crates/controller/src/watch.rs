//! From watch events to the store and the queue.
//!
//! Databases and children are watched for some buckets at a time, selected at the server by their label ([`Source::slice`]). What
//! no such watch shows is watched by everybody, metadata only ([`Source::shared`]): Databases without a usable label, and the
//! objects that users asked us to watch. Each watch is re-listed by `kube-runtime` when it breaks. Nothing is decided
//! before every watch has delivered its first list: until then, "not found" would mean nothing.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use api::names;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Client, Resource, ResourceExt as _};
use planner::child::Kind;
use sharding::{BUCKETS, Bucket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use workqueue::{Class, Queue};

use crate::arrivals::{Arrival, Arrivals};
use crate::listing::listing;
use crate::objects::objects;
use crate::seen::{STORE, SeenChild, SeenDatabase};
use crate::store::{Key, Part, Store};
use crate::strays::Strays;

/// Where events go.
#[derive(Clone)]
pub struct Sink {
    /// What is known.
    pub store: Store,
    /// Databases that no watch by bucket shows.
    pub arrivals: Arrivals,
    /// Databases that the wrong watch shows.
    pub strays: Strays,
    /// What is to be looked at.
    pub queue: Arc<Queue<Key>>,
}

/// From where watches are opened.
#[derive(Clone)]
pub struct Source {
    client: Client,
    /// Namespaces to watch, each by itself; or all at once.
    scopes: Vec<Option<String>>,
    sink: Sink,
}

/// Some watches. They end when this is dropped.
pub struct Watches {
    /// Ended by being dropped.
    _tasks: JoinSet<()>,
    listed: watch::Receiver<bool>,
}

impl Watches {
    /// Completes once all of them have delivered their first list; with no, if they were dropped before.
    pub fn listed(&self) -> impl Future<Output = bool> + Send + use<> {
        let mut listed = self.listed.clone();
        async move { listed.wait_for(|listed| *listed).await.is_ok() }
    }
}

/// Collects watches, and then when they are listed.
struct Opening<'a> {
    source: &'a Source,
    tasks: JoinSet<()>,
    listed: mpsc::UnboundedSender<()>,
    lists: mpsc::UnboundedReceiver<()>,
}

/// What each watch gets.
struct Common {
    sink: Sink,
    scope: Option<String>,
    listed: mpsc::UnboundedSender<()>,
}

impl<'a> Opening<'a> {
    fn new(source: &'a Source) -> Self {
        let (listed, lists) = mpsc::unbounded_channel();
        Self {
            source,
            tasks: JoinSet::new(),
            listed,
            lists,
        }
    }

    fn spawn(&mut self, scope: Option<&String>, watch: impl FnOnce(Common) -> Task) {
        let sink = self.source.sink.clone();
        let store = sink.store.clone();
        let watch = watch(Common {
            sink,
            scope: scope.cloned(),
            listed: self.listed.clone(),
        });
        self.tasks.spawn(STORE.scope(store, watch));
    }

    fn opened(self) -> Watches {
        let Self {
            mut tasks, mut lists, ..
        } = self;
        let expected = tasks.len();
        let (ready, listed) = watch::channel(false);
        tasks.spawn(async move {
            for _ in 0..expected {
                if lists.recv().await.is_none() {
                    return;
                }
            }
            ready.send_replace(true);
            // Nobody waits any more only when the watches are being dropped.
            ready.closed().await;
        });
        Watches { _tasks: tasks, listed }
    }
}

type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Source {
    /// For these namespaces; all, if empty.
    pub fn new(client: Client, namespaces: &[String], sink: Sink) -> Self {
        let scopes = if namespaces.is_empty() {
            vec![None]
        } else {
            namespaces.iter().cloned().map(Some).collect()
        };
        Self {
            client: listing(client),
            scopes,
            sink,
        }
    }

    /// Where events go.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Opens the watches of these buckets.
    pub fn slice(&self, buckets: &Arc<BTreeSet<Bucket>>) -> Watches {
        let mut opening = Opening::new(self);
        let selector = selector(buckets);
        for scope in &self.scopes {
            let scope = scope.as_ref();
            let events = objects::<SeenDatabase>(&self.client, scope, &selector);
            let of = Arc::clone(buckets);
            opening.spawn(scope, |common| Box::pin(databases(events, common, of)));
            // The index is that of the kind in `Kind::ALL`; the test `every_kind_is_watched` counts them.
            self.children::<0>(&mut opening, scope, &selector, buckets);
            self.children::<1>(&mut opening, scope, &selector, buckets);
            self.children::<2>(&mut opening, scope, &selector, buckets);
            self.children::<3>(&mut opening, scope, &selector, buckets);
            self.children::<4>(&mut opening, scope, &selector, buckets);
            self.children::<5>(&mut opening, scope, &selector, buckets);
            self.children::<6>(&mut opening, scope, &selector, buckets);
            self.children::<7>(&mut opening, scope, &selector, buckets);
        }
        opening.opened()
    }

    fn children<const K: usize>(
        &self,
        opening: &mut Opening<'_>,
        scope: Option<&String>,
        selector: &str,
        buckets: &Arc<BTreeSet<Bucket>>,
    ) {
        let selector = match SeenChild::<K>::KIND {
            // Those of StatefulSets carry the labels of their templates; with each there would come a whole template.
            Kind::ControllerRevision => Cow::Owned(format!("{selector},!{REVISION_OF_TEMPLATE}")),
            _ => Cow::Borrowed(selector),
        };
        let events = objects::<SeenChild<K>>(&self.client, scope, &selector);
        let of = Arc::clone(buckets);
        opening.spawn(scope, |common| Box::pin(watch_children(events, common, of)));
    }

    /// Opens the watches that every replica has.
    pub fn shared(&self) -> Watches {
        let mut opening = Opening::new(self);
        let asked_for = format!("{}=true", names::WATCH_LABEL);
        for scope in &self.scopes {
            let scope = scope.as_ref();
            let events = objects::<PartialObjectMeta<Arriving>>(&self.client, scope, &without_bucket());
            opening.spawn(scope, |common| Box::pin(arrivals(events, common)));
            let events = objects::<PartialObjectMeta<ConfigMap>>(&self.client, scope, &asked_for);
            opening.spawn(scope, |common| Box::pin(references(events, Kind::ConfigMap, common)));
            let events = objects::<PartialObjectMeta<Secret>>(&self.client, scope, &asked_for);
            opening.spawn(scope, |common| Box::pin(references(events, Kind::Secret, common)));
        }
        opening.opened()
    }
}

/// Label that the controller of StatefulSets gives to the ControllerRevisions that it makes of their templates.
const REVISION_OF_TEMPLATE: &str = "controller.kubernetes.io/hash";

/// Selects the objects of these buckets.
fn selector(buckets: &BTreeSet<Bucket>) -> String {
    if buckets.len() == usize::from(BUCKETS) {
        names::BUCKET_LABEL.to_owned()
    } else {
        format!("{} in ({})", names::BUCKET_LABEL, joined(buckets.iter().copied()))
    }
}

/// Selects the objects without a bucket, and those whose label is none.
fn without_bucket() -> String {
    format!("{} notin ({})", names::BUCKET_LABEL, joined(Bucket::all()))
}

fn joined(buckets: impl Iterator<Item = Bucket>) -> String {
    let mut text = String::new();
    for bucket in buckets {
        let comma = if text.is_empty() { "" } else { "," };
        write!(text, "{comma}{bucket}").expect("writing to a String cannot fail");
    }
    text
}

/// A Database of which only the metadata is read.
type Arriving = SeenDatabase;

/// What others do about a change of ours, such as a StatefulSet's controller, comes in several events in a row. One look
/// at all of them is enough, so long after the first.
const TOGETHER: Duration = Duration::from_millis(100);

fn key_of<K>(object: &K) -> Key
where
    K: Resource<DynamicType = ()>,
{
    Key::new(&object.namespace().unwrap_or_default(), &object.name_any())
}

async fn databases(
    events: impl Stream<Item = Event<SeenDatabase>>,
    Common { sink, scope, listed }: Common,
    buckets: Arc<BTreeSet<Bucket>>,
) {
    let part = Part {
        buckets: &buckets,
        namespace: scope.as_deref(),
    };
    let mut events = std::pin::pin!(events);
    let (mut list, mut started_at) = (HashSet::new(), 0);
    let take = |database: SeenDatabase, class| {
        let key = key_of(&database);
        let class = if database.deleting() { Class::Deletion } else { class };
        sink.strays.take(&key, &database);
        if sink.store.put_database(&key, database) {
            sink.queue.add(key, class);
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Event::Apply(database) => take(database, Class::UserChange),
            // Also what happens when the label is changed or removed.
            Event::Delete(database) => {
                let key = key_of(&database);
                sink.strays.remove(&key);
                if sink.store.doubt(&key) {
                    sink.queue.add(key, Class::UserChange);
                }
            }
            Event::Init => (list, started_at) = (HashSet::new(), sink.store.highest_database_version(part)),
            Event::InitApply(database) => {
                list.extend(database.uid());
                take(database, Class::Resync);
            }
            Event::InitDone => {
                for key in sink.store.keep_databases(part, &list, started_at) {
                    sink.queue.add(key, Class::Resync);
                }
                list = HashSet::new();
                done(&listed);
            }
        }
    }
}

/// Databases that carry no bucket, or a label that is none: new ones, and those whose label somebody took away.
async fn arrivals(
    events: impl Stream<Item = Event<PartialObjectMeta<Arriving>>>,
    Common { sink, scope, listed }: Common,
) {
    let mut events = std::pin::pin!(events);
    let mut list = HashSet::new();
    let take = |object: PartialObjectMeta<Arriving>| {
        let key = key_of(&object);
        sink.arrivals.put(key.clone(), Arrival::of(object.metadata));
        // What is known of it is no longer kept up to date by any other watch.
        sink.store.doubt(&key);
        sink.queue.add(key.clone(), Class::UserChange);
        key
    };
    while let Some(event) = events.next().await {
        match event {
            Event::Apply(object) => drop(take(object)),
            Event::InitApply(object) => drop(list.insert(take(object))),
            Event::Delete(object) => sink.arrivals.remove(&key_of(&object)),
            Event::Init => list = HashSet::new(),
            Event::InitDone => {
                sink.arrivals.keep(scope.as_deref(), &list);
                list = HashSet::new();
                done(&listed);
            }
        }
    }
}

async fn watch_children<const K: usize>(
    events: impl Stream<Item = Event<SeenChild<K>>>,
    Common { sink, scope, listed }: Common,
    buckets: Arc<BTreeSet<Bucket>>,
) {
    let kind = SeenChild::<K>::KIND;
    let part = Part {
        buckets: &buckets,
        namespace: scope.as_deref(),
    };
    let mut events = std::pin::pin!(events);
    let (mut list, mut started_at) = (HashSet::new(), 0);
    let key_of = |seen: &SeenChild<K>| seen.database.as_deref().map(|name| Key::new(seen.namespace(), name));
    let take = |seen: SeenChild<K>, class| {
        let Some(key) = key_of(&seen) else { return };
        if sink.store.put_child(&key, seen.child, seen.facts) {
            sink.queue.add_after(key, class, TOGETHER);
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Event::Apply(seen) => take(seen, Class::ChildDrift),
            // Also what happens when the label is removed: the plan then finds the object missing, looks, and finds it.
            Event::Delete(seen) => {
                if let Some(key) = key_of(&seen)
                    && sink.store.remove_child(&key, &seen.child, &seen.facts.resource_version)
                {
                    sink.queue.add_after(key, Class::ChildDrift, TOGETHER);
                }
            }
            Event::Init => (list, started_at) = (HashSet::new(), sink.store.highest_child_version(kind, part)),
            Event::InitApply(seen) => {
                list.insert(seen.facts.uid.clone());
                take(seen, Class::Resync);
            }
            Event::InitDone => {
                for key in sink.store.keep_children(kind, part, &list, started_at) {
                    sink.queue.add(key, Class::ChildDrift);
                }
                list = HashSet::new();
                done(&listed);
            }
        }
    }
}

/// ConfigMaps and Secrets that users asked us to watch: only that one changed matters, its content is read when needed.
async fn references<K>(
    events: impl Stream<Item = Event<PartialObjectMeta<K>>>,
    kind: Kind,
    Common { sink, listed, .. }: Common,
) where
    K: Resource<DynamicType = ()>,
{
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::Apply(object) | Event::Delete(object) | Event::InitApply(object) => {
                let namespace = object.metadata.namespace.unwrap_or_default();
                let name = object.metadata.name.unwrap_or_default();
                for key in sink.store.referring(&namespace, kind, &name) {
                    sink.queue.add(key, Class::UserChange);
                }
            }
            Event::Init => {}
            Event::InitDone => done(&listed),
        }
    }
}

fn done(listed: &mpsc::UnboundedSender<()>) {
    // Only the first list is waited for; later ones find nobody listening.
    let _ = listed.send(());
}
