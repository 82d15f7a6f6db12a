//! Objects of a kind: those that there are, and then what changes.

use std::fmt::Debug;

use futures::Stream;
use k8s_openapi::NamespaceResourceScope;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use crate::reopen::patiently;

/// Those with these labels, in one namespace or in all, by a client of [`crate::listing::listing`].
pub(crate) fn objects<K>(
    client: &Client,
    scope: Option<&String>,
    selector: &str,
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api: Api<K> = match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let selected = watcher::Config::default().labels(selector).streaming_lists();
    patiently(K::plural(&()).into_owned().into(), watcher::watcher(api, selected))
}
