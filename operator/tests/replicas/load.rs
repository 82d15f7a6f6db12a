//! Databases whose specification changes all the time.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use serde_json::{Value, json};
use sharding::{Bucket, bucket_of};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::place::NAMESPACE;

/// Changes that are on their way at once.
const IN_FLIGHT: usize = 8;
/// How often is looked which changes are done.
const LOOK: Duration = Duration::from_millis(700);
/// The API server may be stopped.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub(crate) struct Load {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    databases: Api<DynamicObject>,
    names: Vec<String>,
    /// To be changed next, whatever their state.
    urgent: Mutex<VecDeque<usize>>,
    /// Whose last change is done: more would only pile up where the machine is too slow.
    done: Mutex<BTreeSet<usize>>,
    /// Whether nothing else is changed.
    calm: AtomicBool,
    /// What the next change sets.
    value: AtomicU64,
    accepted: AtomicU64,
}

pub(crate) fn resource() -> ApiResource {
    ApiResource {
        group: api::names::GROUP.to_owned(),
        version: api::names::VERSION.to_owned(),
        api_version: api::names::API_VERSION.to_owned(),
        kind: api::names::KIND.to_owned(),
        plural: api::names::PLURAL.to_owned(),
    }
}

fn database(name: &str) -> Value {
    json!({
        "apiVersion": api::names::API_VERSION,
        "kind": api::names::KIND,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "engine": "postgresql",
            "version": "16",
            "resources": {
                "requests": {"cpu": "100m", "memory": "512Mi", "storage": "1Gi"},
                "limits": {"memory": "512Mi"},
            },
            "configuration": {"parameters": {"max_connections": "100", "work_mem": "64kB"}},
        },
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// Creates the Databases that are not there. Nothing changes yet.
    pub(crate) async fn create(client: &Client, count: usize) -> Self {
        let databases: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource());
        let names: Vec<String> = (0..count).map(|index| format!("d{index:05}")).collect();
        stream::iter(&names)
            .for_each_concurrent(2 * IN_FLIGHT, |name| {
                let object = serde_json::from_value(database(name)).expect("an object");
                let databases = databases.clone();
                async move {
                    match databases.create(&PostParams::default(), &object).await {
                        Ok(_) => {}
                        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                        Err(error) => panic!("it cannot be created: {error}"),
                    }
                }
            })
            .await;
        Self {
            shared: Arc::new(Shared {
                databases,
                names,
                urgent: Mutex::default(),
                done: Mutex::default(),
                calm: AtomicBool::new(false),
                value: AtomicU64::new(100),
                accepted: AtomicU64::new(0),
            }),
            task: Mutex::default(),
        }
    }

    pub(crate) fn names(&self) -> Vec<(String, Bucket)> {
        let names = self.shared.names.iter();
        names.map(|name| (name.clone(), bucket_of(NAMESPACE, name))).collect()
    }

    /// From now on so many changes a second at most, each of a Database whose last one is done.
    pub(crate) fn start(&self, rate: u32) {
        let (looking, changing) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        // Looking at many takes long.
        let pause = LOOK * u32::try_from(self.shared.names.len() / 100).expect("few").max(1);
        let look = async move {
            loop {
                looking.look().await;
                tokio::time::sleep(pause).await;
            }
        };
        let change = async move {
            let permits = Arc::new(Semaphore::new(IN_FLIGHT));
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    continue;
                };
                let Some(which) = changing.next() else { continue };
                let shared = Arc::clone(&changing);
                tokio::spawn(async move {
                    shared.change(which).await;
                    drop(permit);
                });
            }
        };
        *lock(&self.task) = Some(tokio::spawn(async move {
            tokio::join!(look, change);
        }));
    }

    /// While it is calm, only what is urgent is changed: replicas that can do no more would not come to it.
    pub(crate) fn calm(&self, calm: bool) {
        self.shared.calm.store(calm, Ordering::Relaxed);
    }

    /// These are changed next.
    pub(crate) fn urge(&self, databases: &[String]) {
        let names = self.shared.names.iter().enumerate();
        let which = names.filter(|(_, name)| databases.contains(name)).map(|(at, _)| at);
        lock(&self.shared.urgent).extend(which);
    }

    /// These are changed now, all at once.
    pub(crate) fn burst(&self, databases: &[String]) {
        let names = self.shared.names.iter().enumerate();
        for (which, _) in names.filter(|(_, name)| databases.contains(name)) {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move { shared.change(which).await });
        }
    }

    pub(crate) fn changes(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Ends.
    pub(crate) async fn stop(&self) {
        let task = lock(&self.task).take();
        if let Some(task) = task {
            task.abort();
        }
        // What was on its way arrives.
        tokio::time::sleep(ANSWER_WITHIN / 5).await;
    }

    /// Ends, and gives every Database a last change. Returns what each has then.
    pub(crate) async fn finish(&self) -> Vec<(String, u64)> {
        self.stop().await;
        let names = stream::iter(self.shared.names.iter().enumerate());
        let changed = names.map(|(at, name)| async move {
            loop {
                if let Some(value) = self.shared.change(at).await {
                    return (name.clone(), value);
                }
            }
        });
        changed.buffer_unordered(IN_FLIGHT).collect().await
    }

    /// Whether all that was declared is reported as done, and what is still missing.
    pub(crate) async fn settled(&self) -> Result<(), String> {
        let list = self.shared.databases.list(&ListParams::default()).await;
        let list = list.map_err(|error| error.to_string())?.items;
        let behind: Vec<&DynamicObject> = list.iter().filter(|object| !is_done(object)).collect();
        match behind.first() {
            None if list.len() == self.shared.names.len() => Ok(()),
            None => Err(format!("there are {} Databases", list.len())),
            Some(first) => Err(format!(
                "{} are behind, the first: {:?} {}",
                behind.len(),
                first.metadata.name,
                first.data["status"]
            )),
        }
    }

    /// Whose configuration is not what was asked for last.
    pub(crate) async fn misconfigured(&self, client: &Client, last: &[(String, u64)]) -> Vec<String> {
        let configs: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let configs = configs.list(&ListParams::default()).await.expect("a list").items;
        let has = |name: &str, value: u64| {
            let config = api::names::config(name);
            let found = configs
                .iter()
                .find(|object| object.metadata.name.as_deref() == Some(&config));
            let data = found.and_then(|object| object.data.as_ref());
            data.is_some_and(|data| data.values().any(|text| text.contains(&format!("{value}kB"))))
        };
        let wrong = last.iter().filter(|(name, value)| !has(name, *value));
        wrong.map(|(name, value)| format!("{name} has not {value}kB")).collect()
    }
}

/// Whether its last change is reported as done.
fn is_done(object: &DynamicObject) -> bool {
    object.data["status"]["observedGeneration"].as_i64() == object.metadata.generation
}

impl Shared {
    async fn look(&self) {
        let parameters = ListParams::default();
        let list = tokio::time::timeout(ANSWER_WITHIN, self.databases.list(&parameters)).await;
        let Ok(Ok(list)) = list else { return };
        let done = list.items.iter().filter(|object| is_done(object));
        let names: BTreeSet<&str> = done.filter_map(|object| object.metadata.name.as_deref()).collect();
        let all = self.names.iter().enumerate();
        *lock(&self.done) = all
            .filter(|(_, name)| names.contains(name.as_str()))
            .map(|(at, _)| at)
            .collect();
    }

    /// Which one to change.
    fn next(&self) -> Option<usize> {
        if let Some(urgent) = lock(&self.urgent).pop_front() {
            return Some(urgent);
        }
        if self.calm.load(Ordering::Relaxed) {
            return None;
        }
        let start = usize::try_from(self.value.load(Ordering::Relaxed)).unwrap_or_default() % self.names.len();
        let mut done = lock(&self.done);
        let next = done.range(start..).next().or(done.first()).copied()?;
        done.remove(&next);
        Some(next)
    }

    /// What it was changed to; nothing, if that is not certain.
    async fn change(&self, which: usize) -> Option<u64> {
        let value = self.value.fetch_add(1, Ordering::Relaxed);
        let mut parameters = json!({"work_mem": format!("{value}kB")});
        if value.is_multiple_of(3) {
            // One that a reload does not do for, so that it is in the pod's template.
            parameters["max_connections"] = json!((100 + value % 50).to_string());
        }
        let patch = json!({"spec": {"configuration": {"parameters": parameters}}});
        let (name, parameters) = (&self.names[which], PatchParams::default());
        let patch = Patch::Merge(patch);
        let request = self.databases.patch(name, &parameters, &patch);
        let answer = tokio::time::timeout(ANSWER_WITHIN, request).await;
        let accepted = matches!(answer, Ok(Ok(_)));
        self.accepted.fetch_add(u64::from(accepted), Ordering::Relaxed);
        accepted.then_some(value)
    }
}
