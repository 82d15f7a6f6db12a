//! Events of `events.k8s.io` about Databases.
//!
//! Not by `kube`'s recorder: that keeps each event whole for six minutes, and looks through all of them for each new one,
//! which for 5,000 Databases that are declared at once is twelve million looks.

use std::collections::HashMap;
use std::hash::Hash as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::names;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::core::Request;
use kube::core::params::{Patch, PatchParams, PostParams};
use kube::{Client, Resource as _};
use planner::status::Note;
use serde_json::json;
use xxhash_rust::xxh3::Xxh3;

use crate::recent::Recent;
use crate::requests::{ApiError, accepted, collection};
use crate::seen::SeenDatabase;

/// An event that repeats within so long is counted in the one that is there (client-go does the same).
const SERIES: Duration = Duration::from_mins(6);

/// What the API server takes of a note, in bytes.
const NOTE: usize = 1024;

/// Publishes events.
pub struct Events {
    client: Client,
    member: String,
    told: Mutex<Recent<u128, Told>>,
}

/// An event that was published.
#[derive(Clone, Copy)]
struct Told {
    /// When first; its name is made of it.
    first: Timestamp,
    last: Instant,
    /// How often.
    count: i32,
}

impl Told {
    /// Whether one that repeats at this time is counted in it.
    fn counts(&self, at: Instant) -> bool {
        at.saturating_duration_since(self.last) < SERIES
    }
}

impl Events {
    /// Publishes in the name of this member.
    pub fn new(client: Client, member: &str) -> Self {
        Self {
            client,
            member: member.to_owned(),
            told: Mutex::default(),
        }
    }

    /// Publishes one note about a Database.
    pub async fn publish(&self, database: &SeenDatabase, note: &Note) -> Result<(), ApiError> {
        self.publish_at(database, note, Timestamp::now(), Instant::now()).await
    }

    async fn publish_at(
        &self,
        database: &SeenDatabase,
        note: &Note,
        now: Timestamp,
        at: Instant,
    ) -> Result<(), ApiError> {
        let about = database.object_ref(&());
        let key = key(&about, note);
        let before = self.told(at, |told| told.get(&key).copied());
        let mut told = Told {
            first: now,
            last: at,
            count: 1,
        };
        if let Some(before) = before.filter(|before| before.counts(at)) {
            let again = Told {
                last: at,
                count: before.count.saturating_add(1),
                ..before
            };
            match self.repeat(&about, again, now).await {
                Ok(()) => told = again,
                // The API server keeps events for an hour, or less.
                Err(ApiError::NotFound { .. }) => self.create(about, note, now).await?,
                Err(error) => return Err(error),
            }
        } else {
            self.create(about, note, now).await?;
        }
        self.told(at, |all| all.insert(key, told));
        Ok(())
    }

    fn told<T>(&self, at: Instant, with: impl FnOnce(&mut HashMap<u128, Told>) -> T) -> T {
        let mut recent = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        with(recent.at(at, SERIES, |told| told.counts(at)))
    }

    async fn create(&self, about: ObjectReference, note: &Note, now: Timestamp) -> Result<(), ApiError> {
        let requests = requests(&about);
        let name = name(&about, now);
        let object = format!("Event {name}");
        let kind = if note.warning { "Warning" } else { "Normal" };
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: about.namespace.clone(),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(kind.to_owned()),
            reason: Some(note.reason.to_owned()),
            action: Some(note.action.to_owned()),
            note: Some(shortened(&note.message)),
            regarding: Some(about),
            reporting_controller: Some(names::FIELD_MANAGER.to_owned()),
            reporting_instance: Some(self.member.clone()),
            ..Event::default()
        };
        let body = serde_json::to_vec(&event).map_err(kube::core::request::Error::SerializeBody);
        let request = body.and_then(|body| requests.create(&PostParams::default(), body));
        accepted(&self.client, &object, request).await
    }

    async fn repeat(&self, about: &ObjectReference, told: Told, now: Timestamp) -> Result<(), ApiError> {
        let name = name(about, told.first);
        let series = EventSeries {
            count: told.count,
            last_observed_time: MicroTime(now),
        };
        let change = Patch::Merge(json!({"series": series}));
        let request = requests(about).patch(&name, &PatchParams::default(), &change);
        accepted(&self.client, &format!("Event {name}"), request).await
    }
}

/// What makes two events one that repeats: all but the words (client-go does the same).
fn key(about: &ObjectReference, note: &Note) -> u128 {
    let mut hasher = Xxh3::new();
    (&about.namespace, &about.name, &about.uid).hash(&mut hasher);
    (note.warning, note.reason, note.action).hash(&mut hasher);
    hasher.digest128()
}

fn name(about: &ObjectReference, first: Timestamp) -> String {
    format!(
        "{}.{:x}",
        about.name.as_deref().unwrap_or_default(),
        first.as_nanosecond()
    )
}

fn requests(about: &ObjectReference) -> Request {
    let namespace = about.namespace.as_deref().unwrap_or_default();
    Request::new(collection("events.k8s.io", "v1", "events", namespace))
}

/// As much of the words as the API server takes.
fn shortened(message: &str) -> String {
    const MORE: &str = " ...";
    if message.len() <= NOTE {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(NOTE - MORE.len());
    format!("{}{MORE}", &message[..end])
}

#[cfg(test)]
mod tests;
