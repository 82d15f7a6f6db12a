//! One request, one answer. No retries: the core knows when to try again.

use std::sync::Arc;
use std::time::Duration;

use api::names::FIELD_MANAGER;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams, Preconditions};
use kube::core::ObjectList;
use sharding::crd;
use sharding::map::ShardMap;
use sharding::protocol::{Answer, Command, Config, Event, Kept, Lease, LeaseList, LeaseRecord, Version};

use crate::answer::{Cause, RequestError};
use crate::client::{ANSWER_WITHIN, Clients};
use crate::clock::Clocks;
use crate::lease::{self, version};
use crate::shardmap;

/// What carries out the requests of one member.
#[derive(Clone)]
pub struct Requests {
    leases: Api<LeaseObject>,
    maps: Api<DynamicObject>,
    config: Arc<Config>,
    clocks: Clocks,
    within: Duration,
}

impl Requests {
    /// For the member of this configuration, with its Leases in this namespace.
    #[must_use]
    pub fn new(clients: &Clients, namespace: &str, config: &Arc<Config>, clocks: Clocks) -> Self {
        // Two tries must fit before the renew deadline.
        let half = Duration::from_millis(config.timings.renew_deadline_ms() / 2);
        Self {
            leases: Api::namespaced(clients.requests.clone(), namespace),
            maps: Api::all_with(clients.requests.clone(), &shardmap::resource()),
            config: Arc::clone(config),
            clocks,
            within: ANSWER_WITHIN.min(half),
        }
    }

    /// Carries out a command that is a request, and returns the one answer to it. None: it is not a request.
    pub async fn carry_out(&self, command: Command) -> Option<Event> {
        let me = &self.config.me.name;
        Some(match command {
            Command::Read(kept) => {
                let answer = self.read_lease(&lease::name_of(kept, me)).await;
                Event::Read(kept, self.told(answer))
            }
            Command::Write(kept, precondition, record) => {
                let name = lease::name_of(kept, me);
                Event::Written(kept, self.write_lease(&name, precondition, &record).await)
            }
            Command::Take(name, precondition, record) => {
                let object = lease::name_of(Kept::Member, &name);
                let answer = self.write_lease(&object, Some(precondition), &record).await;
                Event::Taken(name, answer)
            }
            Command::Forget(name, uid, version) => {
                let answer = self
                    .delete_lease(&lease::name_of(Kept::Member, &name), &uid, version)
                    .await;
                Event::Forgotten(name, answer)
            }
            Command::ListLeases => {
                let answer = self.list_leases().await;
                Event::Listed(self.told(answer))
            }
            Command::WriteMap(precondition, map) => Event::MapWritten(self.write_map(precondition, &map).await),
            Command::ReadMap => {
                let answer = self.read_map().await;
                self.told(answer).unwrap_or(Event::MapUnread)
            }
            Command::Start(..)
            | Command::Drain(_)
            | Command::Prepare(..)
            | Command::Abort
            | Command::Refuse(_)
            | Command::Exit(_) => return None,
        })
    }

    async fn read_lease(&self, name: &str) -> Result<Option<Lease>, RequestError> {
        let read = async { Ok(self.leases.get_opt(name).await?) };
        let object = self.within("get", &format!("leases/{name}"), read).await?;
        let lease = object.as_ref().map(lease::from_object).transpose();
        lease.map_err(|error| RequestError {
            verb: "get",
            what: format!("leases/{name}"),
            cause: error.into(),
        })
    }

    async fn list_leases(&self) -> Result<LeaseList, RequestError> {
        let read = async {
            // Without a version: consistent.
            let list = self.leases.list(&ListParams::default()).await?;
            let at = list_version(&list)?;
            let mut leases = Vec::new();
            for object in &list.items {
                let name = object.metadata.name.as_deref().unwrap_or_default();
                if let Some(member) = lease::member_of(name) {
                    leases.push((member, lease::from_object(object)?));
                }
            }
            Ok(LeaseList { leases, at })
        };
        self.within("list", "leases", read).await
    }

    async fn write_lease(&self, name: &str, precondition: Option<Version>, record: &LeaseRecord) -> Answer {
        let object = lease::to_object(name, precondition, record, self.config.timings, (self.clocks.wall)());
        self.write(&self.leases, "leases", name, precondition.is_some(), Ok(object))
            .await
    }

    /// With both preconditions: a process may be taking it up, or have made another of this name.
    async fn delete_lease(&self, name: &str, uid: &Arc<str>, version: Version) -> Answer {
        let parameters = DeleteParams::default().preconditions(Preconditions {
            uid: Some(uid.to_string()),
            resource_version: Some(version.0.to_string()),
        });
        let delete = async { Ok(self.leases.delete(name, &parameters).await.map(drop)?) };
        match self.within("delete", &format!("leases/{name}"), delete).await {
            Ok(()) => Answer::Accepted {
                version,
                uid: Arc::clone(uid),
            },
            Err(error) => {
                self.complain(&error);
                error.cause.answer(true)
            }
        }
    }

    async fn write_map(&self, precondition: Option<Version>, map: &ShardMap) -> Answer {
        let object = shardmap::to_object(precondition, map);
        let replaces = precondition.is_some();
        self.write(&self.maps, crd::PLURAL, crd::MAP_NAME, replaces, object)
            .await
    }

    async fn read_map(&self) -> Result<Event, RequestError> {
        let read = async {
            // A list, so that there is a version even if there is no map.
            let only = ListParams::default().fields(&format!("metadata.name={}", crd::MAP_NAME));
            let list = self.maps.list(&only).await?;
            Ok(match list.items.first() {
                Some(object) => shardmap::to_event(object, &self.config.expected)?,
                None => Event::MapGone(list_version(&list)?),
            })
        };
        self.within("list", crd::PLURAL, read).await
    }

    async fn write<K>(
        &self,
        api: &Api<K>,
        resource: &str,
        name: &str,
        replaces: bool,
        object: Result<K, serde_json::Error>,
    ) -> Answer
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let write = async {
            let object = object.map_err(Cause::Unwritable)?;
            let stored = if replaces {
                api.replace(name, &parameters, &object).await?
            } else {
                api.create(&parameters, &object).await?
            };
            let meta = stored.meta();
            Ok(Answer::Accepted {
                version: version(meta.resource_version.as_deref())?,
                uid: meta.uid.as_deref().unwrap_or_default().into(),
            })
        };
        let verb = if replaces { "update" } else { "create" };
        match self.within(verb, &format!("{resource}/{name}"), write).await {
            Ok(answer) => answer,
            Err(error) => {
                self.complain(&error);
                error.cause.answer(replaces)
            }
        }
    }

    async fn within<T>(
        &self,
        verb: &'static str,
        what: &str,
        request: impl Future<Output = Result<T, Cause>>,
    ) -> Result<T, RequestError> {
        let answer = tokio::time::timeout(self.within, request).await;
        answer
            .unwrap_or(Err(Cause::Late(self.within)))
            .map_err(|cause| RequestError {
                verb,
                what: what.to_owned(),
                cause,
            })
    }

    fn told<T>(&self, answer: Result<T, RequestError>) -> Option<T> {
        answer.inspect_err(|error| self.complain(error)).ok()
    }

    fn complain(&self, error: &RequestError) {
        let (member, text) = (&self.config.me, telemetry::chain(error));
        if matches!(error.cause, Cause::Conflict) {
            // Somebody was first. That is how it is decided who leads.
            tracing::debug!(incarnation = %member, error = text, "a request of the protocol met a conflict");
            return;
        }
        let error = text;
        tracing::warn!(incarnation = %member, error, "a request of the protocol failed");
    }
}

pub(crate) fn list_version<K: Clone>(list: &ObjectList<K>) -> Result<Version, lease::VersionError> {
    version(list.metadata.resource_version.as_deref())
}
