//! How news come in: list, then watch from there, for ever.
//!
//! Not `kube::runtime::watcher`, for two reasons. It swallows bookmarks, so a watch that stalls looks like one in which
//! nothing happens; and it hides the version of a list, without which "there is no map" and "that Lease is gone" cannot
//! be put in order with what else is known.
//!
//! How soon a watch that says nothing is opened anew:
//! - Leases: this member's own renewals must come back in it, so after five retry periods without any news.
//! - The map may not change for days. The server ends each session after [`MAP_SESSION`], with a bookmark before, so
//!   silence beyond [`MAP_SILENCE`] is a stall or a dead connection. It costs a request in 8 s; pings would cost less and
//!   notice less, since a proxy or a server that stalls may well answer them.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::Resource;
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use sharding::crd;
use sharding::map::Expected;
use sharding::protocol::{Config, Event, Version};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, timeout};

use crate::answer::{Cause, RequestError};
use crate::client::{ANSWER_WITHIN, Clients};
use crate::handle::Told;
use crate::lease::{self, version};
use crate::requests::list_version;
use crate::shardmap;

/// After this the server ends a watch of the map.
pub const MAP_SESSION: Duration = Duration::from_secs(8);
/// After this without any news or bookmark the watch of the map is opened anew.
pub const MAP_SILENCE: Duration = Duration::from_secs(10);
/// After this the server ends a watch of the Leases.
pub const LEASE_SESSION: Duration = Duration::from_mins(1);

/// After how long without news the watch of the Leases is opened anew.
#[must_use]
pub fn lease_silence(config: &Config) -> Duration {
    Duration::from_millis(config.timings.retry_ms() * 5)
}

/// What a watch tells.
#[derive(Debug)]
pub(crate) enum News<K> {
    /// All there is, at this version.
    Listed(Vec<K>, Version),
    /// It was made or has changed.
    Changed(K),
    /// It was deleted; its version is that of the deletion.
    Gone(K),
}

/// Why a session ended before its time.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("said nothing for {} ms", .0.as_millis())]
    Silent(Duration),
    #[error(transparent)]
    Failed(#[from] Cause),
}

impl From<kube::Error> for Broken {
    fn from(error: kube::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// One watch.
struct Watch<K> {
    api: Api<K>,
    what: &'static str,
    fields: Option<String>,
    session: Duration,
    silence: Duration,
    /// Before a new try after a failure.
    pause: Duration,
    config: Arc<Config>,
}

/// Tells of all Leases of the fleet, for ever.
pub(crate) async fn leases(clients: Clients, namespace: String, config: Arc<Config>, events: UnboundedSender<Told>) {
    let mut known = BTreeSet::new();
    let watch = Watch {
        api: Api::namespaced(clients.watches, &namespace),
        what: "leases",
        fields: None,
        session: LEASE_SESSION,
        silence: lease_silence(&config),
        pause: Duration::from_millis(config.timings.retry_ms()),
        config,
    };
    let tell = |news| {
        for event in lease_events(&mut known, news) {
            // Nobody listens only when the driver has ended, and this task with it.
            let _ = events.send(Told::Event(event));
        }
    };
    watch.run(tell).await;
}

/// Tells of the map, for ever.
pub(crate) async fn map(clients: Clients, config: Arc<Config>, events: UnboundedSender<Told>) {
    let expected = config.expected.clone();
    let watch = Watch {
        api: Api::all_with(clients.watches, &shardmap::resource()),
        what: crd::PLURAL,
        fields: Some(format!("metadata.name={}", crd::MAP_NAME)),
        session: MAP_SESSION,
        silence: MAP_SILENCE,
        pause: Duration::from_millis(config.timings.retry_ms()),
        config,
    };
    let tell = |news| {
        if let Some(event) = map_event(&news, &expected) {
            let _ = events.send(Told::Event(event));
        }
    };
    watch.run(tell).await;
}

impl<K> Watch<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn run(self, mut tell: impl FnMut(News<K>) + Send) {
        let mut from: Option<Version> = None;
        loop {
            let Some(version) = from else {
                match self.list(&mut tell).await {
                    Ok(version) => from = Some(version),
                    Err(error) => self.rest_after("list", error).await,
                }
                continue;
            };
            let began = Instant::now();
            let (reached, ended) = self.watch(version, &mut tell).await;
            from = Some(reached);
            match ended {
                // Its time was over. A server that ends it at once is not asked at once.
                Ok(()) if began.elapsed() > self.pause => {}
                Ok(()) => tokio::time::sleep(self.pause).await,
                Err(Broken::Silent(silence)) => {
                    let (member, watch, ms) = (&self.config.me, self.what, silence.as_millis());
                    tracing::warn!(incarnation = %member, watch, ms, "a watch says nothing; it is opened anew");
                }
                // Also a version that is too old (410), or newer than what the server has.
                Err(Broken::Failed(cause)) => {
                    self.rest_after("watch", cause).await;
                    from = None;
                }
            }
        }
    }

    async fn list(&self, tell: &mut (impl FnMut(News<K>) + Send)) -> Result<Version, Cause> {
        let parameters = ListParams {
            field_selector: self.fields.clone(),
            ..ListParams::default()
        };
        let list = timeout(ANSWER_WITHIN, self.api.list(&parameters)).await;
        let list = list.map_err(|_| Cause::Late(ANSWER_WITHIN))??;
        let at = list_version(&list)?;
        tell(News::Listed(list.items, at));
        Ok(at)
    }

    /// One session. Returns the version that it reached.
    async fn watch(&self, from: Version, tell: &mut (impl FnMut(News<K>) + Send)) -> (Version, Result<(), Broken>) {
        let mut reached = from;
        let ended = self.follow(&mut reached, tell).await;
        (reached, ended)
    }

    async fn follow(&self, reached: &mut Version, tell: &mut (impl FnMut(News<K>) + Send)) -> Result<(), Broken> {
        let parameters = WatchParams {
            field_selector: self.fields.clone(),
            timeout: u32::try_from(self.session.as_secs()).ok(),
            bookmarks: true,
            ..WatchParams::default()
        };
        let from = reached.0.to_string();
        let opened = timeout(ANSWER_WITHIN, self.api.watch(&parameters, &from)).await;
        let mut stream = Box::pin(opened.map_err(|_| Cause::Late(ANSWER_WITHIN))??);
        loop {
            let next = timeout(self.silence, stream.next()).await;
            let Some(event) = next.map_err(|_| Broken::Silent(self.silence))? else {
                return Ok(());
            };
            let news = match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => News::Changed(object),
                WatchEvent::Deleted(object) => News::Gone(object),
                WatchEvent::Bookmark(bookmark) => {
                    *reached = version(Some(&bookmark.metadata.resource_version)).map_err(Cause::from)?;
                    continue;
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            };
            if let News::Changed(object) | News::Gone(object) = &news {
                *reached = version(object.meta().resource_version.as_deref()).map_err(Cause::from)?;
            }
            tell(news);
        }
    }

    async fn rest_after(&self, verb: &'static str, cause: Cause) {
        let what = self.what.to_owned();
        let (member, error) = (&self.config.me, RequestError { verb, what, cause });
        tracing::warn!(incarnation = %member, error = telemetry::chain(&error), "a watch broke; it is set up again");
        tokio::time::sleep(self.pause).await;
    }
}

/// What news of Leases are to the core. `known`: the members of whose Leases it was told.
fn lease_events(known: &mut BTreeSet<Arc<str>>, news: News<LeaseObject>) -> Vec<Event> {
    let (objects, list) = match news {
        News::Listed(objects, at) => (objects, Some(at)),
        News::Changed(object) => (vec![object], None),
        News::Gone(object) => {
            let at = version(object.metadata.resource_version.as_deref());
            let name = object.metadata.name.as_deref().unwrap_or_default();
            let Ok(at) = at else { return Vec::new() };
            if name == api::names::COORDINATOR_LEASE {
                return vec![Event::Coordinator(None, at)];
            }
            return lease::member_of(name)
                .map(|member| {
                    known.remove(&member);
                    Event::MemberLease(member, None, at)
                })
                .into_iter()
                .collect();
        }
    };
    let mut absent = if list.is_some() {
        std::mem::take(known)
    } else {
        BTreeSet::new()
    };
    let (mut events, mut coordinator) = (Vec::new(), false);
    for object in &objects {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        // A version that is no number: the stream has ended with an error already, or the list has.
        let Ok(lease) = lease::from_object(object) else {
            continue;
        };
        let at = list.unwrap_or(lease.version);
        if name == api::names::COORDINATOR_LEASE {
            coordinator = true;
            events.push(Event::Coordinator(Some(lease), at));
        } else if let Some(member) = lease::member_of(name) {
            absent.remove(&member);
            known.insert(Arc::clone(&member));
            events.push(Event::MemberLease(member, Some(lease), at));
        }
    }
    if let Some(at) = list {
        events.extend(absent.into_iter().map(|member| Event::MemberLease(member, None, at)));
        if !coordinator {
            events.push(Event::Coordinator(None, at));
        }
    }
    events
}

/// What news of the map are to the core.
fn map_event(news: &News<DynamicObject>, expected: &Expected) -> Option<Event> {
    match news {
        News::Listed(objects, at) => match objects.first() {
            Some(object) => shardmap::to_event(object, expected).ok(),
            None => Some(Event::MapGone(*at)),
        },
        News::Changed(object) => shardmap::to_event(object, expected).ok(),
        News::Gone(object) => {
            let at = version(object.metadata.resource_version.as_deref()).ok()?;
            Some(Event::MapGone(at))
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kube::core::ObjectMeta;
    use sharding::protocol::{Kept, LeaseRecord};
    use sharding::timing::Timings;

    use super::*;

    fn object(name: &str, version: u64) -> LeaseObject {
        let record = LeaseRecord::default();
        lease::to_object(
            name,
            Some(Version(version)),
            &record,
            Timings::FAST,
            Timestamp::UNIX_EPOCH,
        )
    }

    /// `a@7` a Lease, `a gone@7` none.
    fn told(events: &[Event]) -> Vec<String> {
        let text =
            |name: &str, exists: bool, at: &Version| format!("{name}{}@{}", if exists { "" } else { " gone" }, at.0);
        let told = events.iter().map(|event| match event {
            Event::MemberLease(name, lease, at) => text(name, lease.is_some(), at),
            Event::Coordinator(lease, at) => text("coordinator", lease.is_some(), at),
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    #[test]
    fn a_list_tells_also_of_what_is_not_in_it() {
        let a = lease::name_of(Kept::Member, "a");
        let b = lease::name_of(Kept::Member, "b");
        let coordinator = api::names::COORDINATOR_LEASE;
        let mut known = BTreeSet::new();
        let mut tell = |news| told(&lease_events(&mut known, news));
        let first = News::Listed(vec![object(&a, 3), object("kube-scheduler", 4)], Version(5));
        assert_eq!(tell(first), ["a@5", "coordinator gone@5"]);
        assert_eq!(tell(News::Changed(object(&b, 6))), ["b@6"]);
        assert_eq!(tell(News::Changed(object("kube-scheduler", 7))), Vec::<String>::new());
        assert_eq!(tell(News::Changed(object(coordinator, 8))), ["coordinator@8"]);
        let second = News::Listed(vec![object(&b, 6), object(coordinator, 8)], Version(10));
        assert_eq!(tell(second), ["b@10", "coordinator@10", "a gone@10"]);
        assert_eq!(tell(News::Gone(object(&b, 11))), ["b gone@11"]);
        assert_eq!(tell(News::Gone(object(coordinator, 12))), ["coordinator gone@12"]);
        assert_eq!(tell(News::Listed(vec![], Version(13))), ["coordinator gone@13"]);
    }

    #[test]
    fn a_map_that_is_not_there_is_not_there_since_a_version() {
        let expected = Expected::of("here");
        let event = |news| map_event(&news, &expected);
        assert_eq!(
            event(News::Listed(vec![], Version(5))),
            Some(Event::MapGone(Version(5)))
        );
        let gone = DynamicObject {
            types: None,
            metadata: ObjectMeta {
                resource_version: Some("8".to_owned()),
                ..ObjectMeta::default()
            },
            data: serde_json::Value::Null,
        };
        assert_eq!(event(News::Gone(gone)), Some(Event::MapGone(Version(8))));
    }
}
