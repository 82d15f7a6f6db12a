//! The cluster's API server, called by the supervisor. Blocking, because the supervisor does one thing at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::DynamicObject;
use kube::{Api, Client, Config, ResourceExt};
use serde_json::Value;
use thiserror::Error;
use tokio::runtime::Runtime;

/// A request that is not answered by then has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many objects are created at once.
const IN_FLIGHT: usize = 16;

/// Why the API server did not do what was asked.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// It refused, or could not be reached.
    #[error("the API server: {0}")]
    Refused(#[from] kube::Error),
    /// It did not answer.
    #[error("the API server has not answered for {} s", PATIENCE.as_secs())]
    Silent,
    /// An object of ours is malformed: a mistake in this program.
    #[error("an object is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// A client with the threads that it needs.
pub(crate) struct ApiServer<'r> {
    runtime: &'r Runtime,
    client: Client,
}

impl<'r> ApiServer<'r> {
    pub(crate) fn new(runtime: &'r Runtime, kubeconfig: &Path) -> Result<Self, ApiError> {
        let client = runtime.block_on(async {
            let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            Ok::<_, ApiError>(Client::try_from(config)?)
        })?;
        Ok(Self { runtime, client })
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whether all of its start-up hooks have finished. No answer at all means no.
    pub(crate) fn is_ready(&self) -> bool {
        let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
            return false;
        };
        self.wait(async { Ok(self.client.request_text(request).await?) })
            .is_ok()
    }

    /// Whether pods can be made in the namespace `default`: admission refuses them without this account.
    pub(crate) fn has_default_account(&self) -> Result<bool, ApiError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), "default");
        self.wait(async { Ok(accounts.get_opt("default").await?.is_some()) })
    }

    /// Each node, and whether it is Ready.
    pub(crate) fn nodes(&self) -> Result<BTreeMap<String, bool>, ApiError> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let list = self.wait(async { Ok(nodes.list(&ListParams::default()).await?) })?;
        Ok(list
            .items
            .iter()
            .map(|node| (node.name_any(), is_ready(node)))
            .collect())
    }

    /// Server-side apply of cluster-wide objects, in order.
    pub(crate) fn apply(&self, objects: &[Value]) -> Result<(), ApiError> {
        for object in objects {
            let object: DynamicObject = serde_json::from_value(object.clone())?;
            let types = object.types.clone().unwrap_or_default();
            let kind = kube::core::GroupVersionKind::try_from(&types).map_err(|error| {
                ApiError::Malformed(serde::de::Error::custom(format!("{}: {error}", types.api_version)))
            })?;
            let resource = kube::core::ApiResource::from_gvk(&kind);
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
            let parameters = PatchParams::apply("devcluster").force();
            self.wait(async {
                Ok(api
                    .patch(&object.name_any(), &parameters, &Patch::Apply(&object))
                    .await?)
            })?;
        }
        Ok(())
    }

    /// Creates nodes, many at once.
    pub(crate) fn create_nodes(&self, nodes: Vec<Node>) -> Result<(), ApiError> {
        let api: Api<Node> = Api::all(self.client.clone());
        let create = |node: Node| {
            let api = api.clone();
            async move { within(async { Ok(api.create(&PostParams::default(), &node).await?) }).await }
        };
        let all = stream::iter(nodes)
            .map(create)
            .buffer_unordered(IN_FLIGHT)
            .try_for_each(|_| async { Ok(()) });
        self.runtime.block_on(all)
    }

    fn wait<T>(&self, request: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
        self.runtime.block_on(within(request))
    }
}

async fn within<T>(request: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    tokio::time::timeout(PATIENCE, request)
        .await
        .unwrap_or(Err(ApiError::Silent))
}

/// Whether the kubelet (or who plays it) says that pods can run there.
pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}
