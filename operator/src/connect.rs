//! From configuration to a client of an API server that the operator works with.

use std::path::Path;
use std::time::Duration;

use fleet::throttle::Throttle;
use http::header::{HeaderValue, USER_AGENT};
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config as ClientConfig};
use telemetry::Requests;

use crate::version::{self, VERSION, VersionError};

/// How long an API server that does not answer is asked again. Longer, and a wrong address goes unnoticed; shorter,
/// and an operator that starts together with the API server gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The kubeconfig that was named cannot be used.
    #[error("kubeconfig cannot be used; see --kubeconfig and --context")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// Neither a service account nor a kubeconfig was found.
    #[error("no cluster is configured: not in a pod, and no usable kubeconfig; set --kubeconfig or $KUBECONFIG")]
    Nowhere(#[source] Box<InferConfigError>),
    /// The kubeconfig's content does not make a client.
    #[error("the client cannot be set up")]
    Client(#[source] Box<kube::Error>),
    /// The API server answers with an error, or not at all.
    #[error("the API server at {server} does not answer")]
    Unreachable {
        /// Its address.
        server: String,
        /// What happened last.
        source: Box<kube::Error>,
    },
    /// The API server takes too long.
    #[error("the API server at {server} does not answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent {
        /// Its address.
        server: String,
    },
    /// The API server is not one that the operator works with.
    #[error(transparent)]
    Version(#[from] VersionError),
}

/// Longest silence of a connection with a request on it; then it counts as broken, and a watch is set up again. The API
/// server sends a bookmark on each watch about once a minute.
const SILENT_AT_MOST: Duration = Duration::from_secs(85);

/// What requests say of their sender: `database-operator/VERSION (MEMBER)`.
pub(crate) fn user_agent(member: &str) -> String {
    format!("database-operator/{VERSION} ({member})")
}

/// A client whose requests carry `user_agent`, once the API server has answered and proved to be one that the
/// operator works with. Without `kubeconfig` and `context`, in a pod, that is the pod's own.
pub(crate) async fn connect(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
    user_agent: &str,
) -> Result<Client, ConnectError> {
    Ok(connect_as(kubeconfig, context, user_agent, None).await?.0)
}

/// Like [`connect`], with what further clients of the same API server are made from. Requests are counted by `counts`, if
/// there are such, and wait together while the API server has too much to do.
pub(crate) async fn connect_as(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
    user_agent: &str,
    counts: Option<&Requests>,
) -> Result<(Client, ClientConfig), ConnectError> {
    let mut config = client_config(kubeconfig, context).await?;
    // Names of members are checked, so this cannot fail for them.
    let value = HeaderValue::from_str(user_agent).expect("a user agent of visible ASCII");
    config.headers.push((USER_AGENT, value));
    config.read_timeout = Some(SILENT_AT_MOST);
    let server = config.cluster_url.to_string();
    let client = fleet::connection::client(config.clone(), counts, Some(&Throttle::default()))
        .map_err(|source| ConnectError::Client(Box::new(source)))?;
    check(&client, &server).await?;
    Ok((client, config))
}

/// What the client is made from. Asks no API server.
pub(crate) async fn client_config(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<ClientConfig, ConnectError> {
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    let refused = |error| ConnectError::Kubeconfig(Box::new(error));
    match (kubeconfig, context) {
        (Some(path), _) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(refused)?;
            ClientConfig::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(refused)
        }
        (None, Some(_)) => ClientConfig::from_kubeconfig(&options).await.map_err(refused),
        (None, None) => ClientConfig::infer()
            .await
            .map_err(|error| ConnectError::Nowhere(Box::new(error))),
    }
}

/// Waits until the API server answers, and makes sure of its version.
async fn check(client: &Client, server: &str) -> Result<(), ConnectError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let error = match tokio::time::timeout(ANSWER_WITHIN, client.apiserver_version()).await {
            Ok(Ok(info)) => {
                version::check(&info)?;
                tracing::info!(server, version = info.git_version, "connected");
                return Ok(());
            }
            Ok(Err(source)) => ConnectError::Unreachable {
                server: server.to_owned(),
                source: Box::new(source),
            },
            Err(_) => ConnectError::Silent {
                server: server.to_owned(),
            },
        };
        if tokio::time::Instant::now() + PAUSE > deadline {
            return Err(error);
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "trying again");
        tokio::time::sleep(PAUSE).await;
    }
}
