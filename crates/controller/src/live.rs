//! One Database read from the API server, for the command line: what a running operator has in its store.

use api::names;
use kube::Client;
use kube::core::Request;
use kube::core::params::{GetParams, ListParams};
use planner::child::{Child, ChildRef, Children, Kind, database_of};
use serde_json::Value;

use crate::requests::{ApiError, collection, exchange};
use crate::seen::SeenDatabase;

/// The Database and its children as they are now; `None` if it does not exist.
pub async fn observe(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<(Option<SeenDatabase>, Children), ApiError> {
    let path = collection(names::GROUP, names::VERSION, names::PLURAL, namespace);
    let request = Request::new(path).get(name, &GetParams::default());
    let database = match exchange::<SeenDatabase>(client, &format!("Database {name}"), request).await {
        Ok(database) => Some(database),
        Err(ApiError::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    let mut children = Children::new();
    for kind in Kind::ALL {
        let (group, version, plural) = kind.resource();
        let of_ours = ListParams::default().labels(names::BUCKET_LABEL);
        let request = Request::new(collection(group, version, plural, namespace)).list(&of_ours);
        let list: Value = exchange(client, plural, request).await?;
        for object in list["items"].as_array().into_iter().flatten() {
            if database_of(kind, object).as_deref() == Some(name)
                && let Ok((child, facts)) = Child::observe(kind, object)
            {
                children.insert(child, facts);
            }
        }
    }
    Ok((database, children))
}

/// Names of children that a Database of this name would have, for a look at what stands in their place.
pub fn expected(name: &str) -> Vec<ChildRef> {
    let of = ChildRef::new;
    vec![
        of(Kind::ServiceAccount, names::service_account(name)),
        of(Kind::Service, names::service_rw(name)),
        of(Kind::Service, names::service_pods(name)),
        of(Kind::Secret, names::secret_admin(name)),
        of(Kind::Secret, names::secret_app(name)),
        of(Kind::ConfigMap, names::config(name)),
        of(
            Kind::PersistentVolumeClaim,
            names::claim(name, planner::bodies::GENERATION, 0),
        ),
        of(
            Kind::StatefulSet,
            names::stateful_set(name, planner::bodies::GENERATION),
        ),
    ]
}
