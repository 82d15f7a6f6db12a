//! In whose name replicas are asked: a token of a file, or that of a kubeconfig.

use std::path::{Path, PathBuf};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use kube::Config;
use kube::client::{Body, ConfigExt as _};
use tower::util::BoxService;
use tower::{BoxError, Layer as _, Service as _, ServiceExt as _, service_fn};

/// Why there is no token. Says nothing of tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("token file {path}: cannot be read", path = .0.display())]
    File(PathBuf, #[source] std::io::Error),
    /// What is in it is no token.
    #[error("token file {path}: holds something else than a token in one line", path = .0.display())]
    NoToken(PathBuf),
    /// The kubeconfig has no token.
    #[error(
        "the kubeconfig's user has no token ({has}), and replicas take nothing else; make one: \
         kubectl create token SERVICE-ACCOUNT -n NAMESPACE > FILE, and name it with --token-file FILE"
    )]
    OfAnotherKind {
        /// What it has.
        has: &'static str,
    },
    /// The kubeconfig wants to be somebody else.
    #[error(
        "the kubeconfig's user acts as somebody else (as: {0}), which only the API server understands; make a token of \
         theirs: kubectl create token SERVICE-ACCOUNT -n NAMESPACE > FILE, and name it with --token-file FILE"
    )]
    Impersonates(String),
    /// The kubeconfig's way to a token fails.
    #[error("the kubeconfig gives no token")]
    Fails(#[source] BoxError),
}

/// Gives a token, a fresh one when the last is over.
pub struct Token(Kind);

enum Kind {
    File(PathBuf),
    /// What the client of the API server would send, by the same code: a token, a file, a program, a provider.
    Kubeconfig(BoxService<Request<Body>, Response<Option<HeaderValue>>, BoxError>),
}

impl Token {
    /// That of a file, which is read for each page: whatever renews it may do so meanwhile.
    pub fn of_file(path: &Path) -> Self {
        Self(Kind::File(path.to_owned()))
    }

    /// That of a kubeconfig, or of a pod's service account. Its program, if it has one, is called.
    pub fn of_config(config: &Config) -> Result<Self, TokenError> {
        let user = &config.auth_info;
        if let Some(other) = &user.impersonate {
            return Err(TokenError::Impersonates(other.clone()));
        }
        let layer = config.auth_layer().map_err(|error| TokenError::Fails(error.into()))?;
        let Some(layer) = layer else {
            let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
            let has = match (has_certificate, &user.exec) {
                (true, _) => "but a client certificate",
                (false, Some(_)) => "but a program that gives a client certificate",
                (false, None) => "nor anything else",
            };
            return Err(TokenError::OfAnotherKind { has });
        };
        let seen = service_fn(|request: Request<Body>| async move {
            Ok::<_, BoxError>(Response::new(request.headers().get(AUTHORIZATION).cloned()))
        });
        Ok(Self(Kind::Kubeconfig(layer.layer(seen).boxed())))
    }

    /// The header of a request.
    pub(super) async fn header(&mut self) -> Result<HeaderValue, TokenError> {
        let header = match &mut self.0 {
            Kind::File(path) => return of_file(path).await,
            Kind::Kubeconfig(service) => {
                let service = service.ready().await.map_err(TokenError::Fails)?;
                let response = service.call(Request::new(Body::empty())).await;
                response.map_err(TokenError::Fails)?.into_body()
            }
        };
        // A password is no token, and goes nowhere.
        let token = header.filter(|header| header.as_bytes().starts_with(b"Bearer "));
        token.ok_or(TokenError::OfAnotherKind { has: "but a password" })
    }
}

async fn of_file(path: &Path) -> Result<HeaderValue, TokenError> {
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|error| TokenError::File(path.to_owned(), error))?;
    let token = text.trim();
    let none = || TokenError::NoToken(path.to_owned());
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(none());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| none())?;
    header.set_sensitive(true);
    Ok(header)
}
