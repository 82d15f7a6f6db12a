//! What a decision of policy rests on beside the Database, as the API server tells it: labels of namespaces, and exceptions.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, PoisonError, RwLock};

use api::names;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use policy::desk::{Decided, Labels, Pending, Surroundings, Unknown};
use policy::exception::PolicyException;
use tokio::sync::watch;

use crate::reopen::patiently;

/// Labels of namespaces and exceptions, kept up to date by [`Around::follow`].
pub struct Around {
    client: Client,
    namespaces: RwLock<HashMap<String, Labels>>,
    exceptions: RwLock<Exceptions>,
    /// Whether exceptions have been listed once.
    listed: watch::Sender<bool>,
    hears: Box<dyn Hears>,
}

/// Who is told of decisions. Must not wait.
pub trait Hears: Send + Sync {
    /// One was made.
    fn decided(&self, decided: &Decided);

    /// A question was not asked, because too many wait.
    fn shed(&self);
}

#[derive(Default)]
struct Exceptions {
    all: Arc<[PolicyException]>,
    /// Of what they say.
    digest: u64,
}

impl Around {
    /// Nothing is known yet.
    pub fn new(client: Client, hears: impl Hears + 'static) -> Arc<Self> {
        Arc::new(Self {
            client,
            namespaces: RwLock::default(),
            exceptions: RwLock::default(),
            listed: watch::channel(false).0,
            hears: Box::new(hears),
        })
    }

    /// Follows what happens to exceptions and to these namespaces (all, if none is named), for as long as it is polled.
    pub async fn follow(self: Arc<Self>, namespaces: &[String]) -> Infallible {
        let mut all: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::new();
        let usual = watcher::Config::default().page_size(500);
        if namespaces.is_empty() {
            all.push(Box::pin(self.follow_namespaces(usual.clone())));
        }
        for namespace in namespaces {
            let one = usual.clone().fields(&format!("metadata.name={namespace}"));
            all.push(Box::pin(self.follow_namespaces(one)));
        }
        all.push(Box::pin(self.follow_exceptions(usual)));
        // A watch goes on for ever; one that ended would be a defect, and nothing is better without it.
        futures::future::join_all(all).await;
        std::future::pending().await
    }

    /// Completes once exceptions have been listed.
    pub async fn listed(&self) {
        // The sender is ours, so it cannot be gone.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    async fn follow_namespaces(&self, which: watcher::Config) {
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let events = patiently("namespaces".into(), watcher::watcher(api, which));
        let mut events = std::pin::pin!(events);
        let mut list: Option<HashMap<String, Labels>> = None;
        while let Some(event) = events.next().await {
            match event {
                Event::Init => list = Some(HashMap::new()),
                Event::InitApply(namespace) => drop(
                    list.get_or_insert_default()
                        .insert(namespace.name_any(), labels_of(namespace)),
                ),
                Event::InitDone => {
                    let listed = list.take().unwrap_or_default();
                    let mut known = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
                    // With a watch for each, a list says nothing of the others; they end with their own events.
                    known.extend(listed);
                }
                Event::Apply(namespace) => {
                    let name = namespace.name_any();
                    let mut known = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
                    known.insert(name, labels_of(namespace));
                }
                Event::Delete(namespace) => {
                    let mut known = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
                    known.remove(&namespace.name_any());
                }
            }
        }
    }

    async fn follow_exceptions(&self, which: watcher::Config) {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &exceptions());
        let events = patiently("policyexceptions".into(), watcher::watcher(api, which));
        self.take_exceptions(events).await;
    }

    async fn take_exceptions(&self, events: impl Stream<Item = Event<DynamicObject>>) {
        let mut events = std::pin::pin!(events);
        let (mut known, mut list) = (BTreeMap::new(), BTreeMap::new());
        while let Some(event) = events.next().await {
            match event {
                Event::Init => list = BTreeMap::new(),
                Event::InitApply(object) => {
                    list.insert(object.name_any(), read(object));
                    continue;
                }
                Event::InitDone => known = std::mem::take(&mut list),
                Event::Apply(object) => drop(known.insert(object.name_any(), read(object))),
                Event::Delete(object) => drop(known.remove(&object.name_any())),
            }
            self.put(known.values().flatten().cloned().collect());
        }
    }

    fn put(&self, all: Vec<PolicyException>) {
        let mut hasher = DefaultHasher::new();
        for exception in &all {
            // What cannot be written as JSON does not exist.
            serde_json::to_string(&exception.spec)
                .unwrap_or_default()
                .hash(&mut hasher);
            exception.metadata.name.hash(&mut hasher);
        }
        let next = Exceptions {
            all: all.into(),
            digest: hasher.finish(),
        };
        *self.exceptions.write().unwrap_or_else(PoisonError::into_inner) = next;
        self.listed.send_replace(true);
    }

    fn known(&self, namespace: &str) -> Option<Labels> {
        let known = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        known.get(namespace).cloned()
    }
}

fn exceptions() -> ApiResource {
    let kind = GroupVersionKind::gvk(names::GROUP, names::VERSION, "PolicyException");
    ApiResource::from_gvk_with_plural(&kind, names::EXCEPTIONS_PLURAL)
}

fn labels_of(namespace: PartialObjectMeta<Namespace>) -> Labels {
    namespace.metadata.labels.unwrap_or_default()
}

/// An exception that this version cannot read excepts nothing: what it does not know may be a condition.
fn read(object: DynamicObject) -> Option<PolicyException> {
    let name = object.name_any();
    let read = serde_json::to_value(object).and_then(serde_json::from_value);
    read.inspect_err(
        |error| tracing::warn!(exception = name, %error, "a PolicyException cannot be read, and is not used"),
    )
    .ok()
}

impl Surroundings for Around {
    fn labels<'a>(&'a self, namespace: &'a str) -> Pending<'a, Result<Labels, Unknown>> {
        Box::pin(async move {
            if let Some(labels) = self.known(namespace) {
                return Ok(labels);
            }
            // One that was made a moment ago, which no watch has told of yet.
            let api: Api<Namespace> = Api::all(self.client.clone());
            let read = api.get_metadata(namespace).await;
            read.map(labels_of).map_err(|error| telemetry::chain(&error))
        })
    }

    fn exceptions(&self) -> Arc<[PolicyException]> {
        let exceptions = self.exceptions.read().unwrap_or_else(PoisonError::into_inner);
        exceptions.all.clone()
    }

    fn basis(&self, namespace: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.known(namespace).hash(&mut hasher);
        let exceptions = self.exceptions.read().unwrap_or_else(PoisonError::into_inner);
        exceptions.digest.hash(&mut hasher);
        hasher.finish()
    }

    fn decided(&self, decided: &Decided) {
        self.hears.decided(decided);
    }

    fn shed(&self) {
        self.hears.shed();
    }
}
