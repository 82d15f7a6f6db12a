//! A fleet read from an API server. Reads only.

use std::time::Duration;

use api::database::Database;
use api::names;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, ResourceExt as _};
use serde::Deserialize as _;
use sharding::crd;
use sharding::map::{Expected, MapError, ShardMap, Spec};
use sharding::protocol::Version;

use ::fleet::lease::{VersionError, version};
use ::fleet::shardmap;

use super::facts::{Census, Facts, FenceSeen, Leases};

/// How many Databases one answer holds.
const PAGE: u32 = 500;

/// How often map and Leases are read again because the map has changed in between.
const TRIES: u32 = 3;

/// Longest that Leases are watched. Those of the longest times are not waited for in full.
const WATCHED_AT_MOST: Duration = Duration::from_secs(10);

/// Why a fleet is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// 403.
    #[error("{verb} {resource} {place}: forbidden; get this permission, or use another --context: {said}")]
    Forbidden {
        /// The verb, as RBAC has it.
        verb: &'static str,
        /// The resource.
        resource: &'static str,
        /// In which namespace, or everywhere.
        place: String,
        /// What the API server says.
        said: String,
    },
    /// 404 for a whole resource.
    #[error(
        "{resource} are not defined in this cluster; is this the right --context? \
         To install: database-operator {command} | kubectl apply --server-side -f -"
    )]
    NotDefined {
        /// The resource.
        resource: &'static str,
        /// What prints the definition.
        command: &'static str,
    },
    /// The definition is there, and no map.
    #[error(
        "there is no ShardMap: no replica has run in this cluster yet, or it was deleted this moment; \
         a running leader writes one within seconds"
    )]
    NoMap,
    /// The map is none to trust.
    #[error("the ShardMap cannot be used; a running leader replaces a damaged one within seconds")]
    Map(#[source] MapError),
    /// It is a map of some fleet, whose Leases are elsewhere.
    #[error("no Lease of the fleet is in namespace {namespace}; name the operator's with --operator-namespace")]
    NoLeases {
        /// Where they were looked for.
        namespace: String,
    },
    /// The API server answers with something else, or not at all.
    #[error("{verb} {resource} {place}: failed")]
    Failed {
        /// The verb, as RBAC has it.
        verb: &'static str,
        /// The resource.
        resource: &'static str,
        /// In which namespace, or everywhere.
        place: String,
        /// What happened.
        #[source]
        source: Box<kube::Error>,
    },
    /// The answer cannot be used.
    #[error(transparent)]
    Version(#[from] VersionError),
}

/// What was asked for, to be named if it fails.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The verb, as RBAC has it.
    pub verb: &'static str,
    /// The resource.
    pub resource: &'static str,
    /// None: of the whole cluster.
    pub namespace: Option<&'a str>,
    /// What prints the definition of the resource, if it is one of ours.
    pub defined_by: Option<&'static str>,
}

impl Asked<'_> {
    /// The error that tells what to do.
    pub(crate) fn failed(self, error: kube::Error) -> ReadError {
        let place = self.namespace.map_or_else(
            || "in the whole cluster".to_owned(),
            |namespace| format!("in namespace {namespace}"),
        );
        let (verb, resource) = (self.verb, self.resource);
        match (error, self.defined_by) {
            (kube::Error::Api(status), _) if status.code == 403 => ReadError::Forbidden {
                verb,
                resource,
                place,
                said: status.message.clone(),
            },
            (kube::Error::Api(status), Some(command)) if status.code == 404 => {
                ReadError::NotDefined { resource, command }
            }
            (error, _) => ReadError::Failed {
                verb,
                resource,
                place,
                source: Box::new(error),
            },
        }
    }
}

/// All that `fleet status` shows.
pub(crate) async fn facts(client: &Client, namespace: &str) -> Result<Facts, ReadError> {
    // First what costs little: without a map there is no fleet.
    map(client).await?;
    let census = census(client).await?;
    let (mut seen, mut leases) = map_and_leases(client, namespace).await?;
    if let Some(doubtful) = leases.doubtful(Timestamp::now()) {
        let earlier = leases;
        tokio::time::sleep(doubtful.unsigned_abs().min(WATCHED_AT_MOST)).await;
        (seen, leases) = map_and_leases(client, namespace).await?;
        leases.compare(&earlier);
    }
    Ok(Facts {
        namespace: namespace.to_owned(),
        map: seen.map,
        map_version: seen.version,
        fence: seen.fence,
        leases,
        census,
        now: Timestamp::now(),
    })
}

/// The map as it was read.
pub(crate) struct MapSeen {
    pub map: ShardMap,
    version: Version,
    fence: Option<FenceSeen>,
}

/// The map, and the Leases as they were while it was so: an owner that hands over releases its Lease only later.
pub(crate) async fn map_and_leases(client: &Client, namespace: &str) -> Result<(MapSeen, Leases), ReadError> {
    let mut read = map(client).await?;
    for _ in 0..TRIES {
        let leases = leases(client, namespace).await?;
        let again = map(client).await?;
        let same = again.version == read.version;
        read = again;
        if leases.is_empty() {
            let namespace = namespace.to_owned();
            return Err(ReadError::NoLeases { namespace });
        }
        if same {
            return Ok((read, leases));
        }
    }
    // It changes all the time: what is shown may disagree with itself.
    let leases = leases(client, namespace).await?;
    Ok((read, leases))
}

/// The Leases of a fleet.
pub(crate) async fn leases(client: &Client, namespace: &str) -> Result<Leases, ReadError> {
    let asked = Asked {
        verb: "list",
        resource: "leases",
        namespace: Some(namespace),
        defined_by: None,
    };
    let leases: Api<LeaseObject> = Api::namespaced(client.clone(), namespace);
    let list = leases.list(&ListParams::default()).await;
    Ok(Leases::of(&list.map_err(|error| asked.failed(error))?.items)?)
}

/// The map, whatever installation it belongs to.
pub(crate) async fn map(client: &Client) -> Result<MapSeen, ReadError> {
    let asked = Asked {
        verb: "list",
        resource: "shardmaps.intent.example.com",
        namespace: None,
        defined_by: Some("crds --with-fence"),
    };
    let maps: Api<DynamicObject> = Api::all_with(client.clone(), &shardmap::resource());
    // A list, which tells a map that is not there from a resource that is not.
    let only = ListParams::default().fields(&format!("metadata.name={}", crd::MAP_NAME));
    let list = maps.list(&only).await.map_err(|error| asked.failed(error))?;
    let object = list.items.first().ok_or(ReadError::NoMap)?;
    let version = version(object.metadata.resource_version.as_deref())?;
    let spec = serde_json::from_value::<Spec>(object.data["spec"].clone());
    // What has another shape was not written by a leader.
    let spec = spec.map_err(|_| ReadError::Map(MapError::Edited))?;
    let map = spec.read(&Expected::of(&spec.installation)).map_err(ReadError::Map)?;
    let conditions = object.data["status"]["conditions"].as_array();
    let fence = conditions.and_then(|all| all.iter().find(|one| one["type"] == crd::FENCED_CONDITION));
    Ok(MapSeen {
        map,
        version,
        // One that somebody wrote by hand may be anything.
        fence: fence.and_then(|fence| FenceSeen::deserialize(fence).ok()),
    })
}

/// Counts all Databases, page by page: nothing but names and labels is transferred, and no more than a page is held.
async fn census(client: &Client) -> Result<Census, ReadError> {
    let asked = Asked {
        verb: "list",
        resource: "databases.intent.example.com",
        namespace: None,
        defined_by: Some("crds"),
    };
    let databases: Api<Database> = Api::all(client.clone());
    let mut census = Census::default();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = databases.list_metadata(&parameters).await;
        let page = page.map_err(|error| asked.failed(error))?;
        let now = Timestamp::now();
        for database in &page.items {
            let namespace = database.namespace().unwrap_or_default();
            let made = database.metadata.creation_timestamp.as_ref();
            let age = made.map_or(SignedDuration::MAX, |made| now.duration_since(made.0));
            let label = database.labels().get(names::BUCKET_LABEL).map(String::as_str);
            census.count(&namespace, &database.name_any(), label, age);
        }
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => parameters.continue_token = Some(more),
            None => return Ok(census),
        }
    }
}
