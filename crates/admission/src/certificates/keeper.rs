//! Keeps the operator's own certificates: in the Secret, in what the server shows, and in the registration.
//!
//! Every replica does this. It reads by watching, so that nothing is asked while nothing changes, and what a replica
//! writes comes back to it in the same way as what others write.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use super::issue::{IssueError, carry_out};
use super::rotation::{Next, State, Step, next};
use super::secret::{self, SecretError};
use super::{Standing, Times, in_words};
use crate::registration::{self, INJECT, WEBHOOK, server_name};
use crate::tls::Tls;

/// Owner of `caBundle`, and of nothing else.
pub const FIELD_MANAGER: &str = "database-operator-webhook";

/// When something that was done or tried is looked at again, if no watch has told of it by then.
const AGAIN: Duration = Duration::from_secs(5);

/// Why certificates are not as they should be. Says nothing of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The Secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No certificate was made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The Secret was not written.
    #[error("Secret {} was not written", secret::NAME)]
    Write(#[source] kube::Error),
    /// The Secret cannot be read.
    #[error("Secret {} cannot be read", secret::NAME)]
    Read(#[source] kube::Error),
    /// The `caBundle` was not written.
    #[error(
        "the caBundle of ValidatingWebhookConfiguration {} was not written",
        registration::NAME
    )]
    Publish(#[source] kube::Error),
    /// There is no such webhook to write the `caBundle` of.
    #[error(
        "ValidatingWebhookConfiguration {} has no webhook {WEBHOOK}; apply the operator's manifest of it again",
        registration::NAME
    )]
    NoWebhook,
    /// Two would write the same field.
    #[error(
        "ValidatingWebhookConfiguration {} has the annotation {INJECT}, so that cert-manager writes the caBundle; remove \
         it, or let the operator read cert-manager's certificates from files",
        registration::NAME
    )]
    Injected,
}

/// Keeps certificates.
pub struct Keeper {
    /// Reaches the API server.
    pub client: Client,
    /// The operator's namespace.
    pub namespace: String,
    /// What shows the certificate.
    pub tls: Tls,
    /// How long things last.
    pub times: Times,
    /// The clock.
    pub now: fn() -> Timestamp,
    /// Is told how certificates stand.
    pub standing: watch::Sender<Standing>,
}

/// What the watches have told.
#[derive(Default)]
struct Seen {
    secret: Told<Secret>,
    registration: Told<ValidatingWebhookConfiguration>,
}

/// What a watch has told.
#[derive(Default)]
enum Told<K> {
    #[default]
    NothingYet,
    ThereIsNone,
    ThereIs(K),
}

impl Keeper {
    /// Does so until `until` completes.
    pub async fn run(self, until: impl Future<Output = ()>) {
        let mut secrets = pin!(watcher::watch_object(self.secrets(), secret::NAME).default_backoff());
        let mut registrations = pin!(watcher::watch_object(self.registrations(), registration::NAME).default_backoff());
        let mut until = pin!(until);
        let mut seen = Seen::default();
        loop {
            let wait = tokio::select! {
                () = &mut until => return,
                wait = self.look(&seen) => wait,
            };
            tokio::select! {
                () = &mut until => return,
                Some(event) = secrets.next() => seen.secret.hear(event),
                Some(event) = registrations.next() => seen.registration.hear(event),
                () = sleep(wait) => {}
            }
        }
    }

    /// Does what is to be done now, and says when to look again.
    async fn look(&self, seen: &Seen) -> Duration {
        if matches!(seen.secret, Told::NothingYet) || matches!(seen.registration, Told::NothingYet) {
            return AGAIN;
        }
        match self.act(seen.secret.object(), seen.registration.object()).await {
            Ok(wait) => wait,
            Err(error) => {
                let trouble = in_words(&error);
                tracing::warn!(error = trouble, "the webhook's certificates");
                self.standing
                    .send_if_modified(|standing| standing.trouble.replace(trouble.clone()) != Some(trouble));
                AGAIN
            }
        }
    }

    async fn act(
        &self,
        secret: Option<&Secret>,
        registration: Option<&ValidatingWebhookConfiguration>,
    ) -> Result<Duration, KeepError> {
        let state = match secret.map(secret::read).transpose() {
            Ok(state) => state,
            Err(error @ SecretError::NotOurs) => return Err(error.into()),
            // Ours, and of no use to anybody: it is made anew.
            Err(error @ (SecretError::Missing(_) | SecretError::Part { .. })) => {
                tracing::warn!(%error, "certificates are made anew");
                None
            }
        };
        let accepted = match &state {
            Some(state) => {
                self.show(state);
                self.publish(state, secret, registration).await?
            }
            None => false,
        };
        let now = (self.now)();
        let next = next(state.as_ref(), accepted, now, &self.times);
        super::stand(
            &self.standing,
            Standing {
                leaf_ends: self.tls.shown().map(|pair| pair.ends()),
                authority_ends: state.as_ref().map(|state| state.authority.ends()),
                accepted,
                trouble: None,
            },
        );
        match next {
            Next::Wait(at) => Ok(Duration::try_from(at.duration_since(now)).unwrap_or(AGAIN)),
            Next::Do(step) => {
                self.carry_out(step, state, secret, now).await?;
                Ok(AGAIN)
            }
        }
    }

    fn show(&self, state: &State) {
        if self.tls.shown().as_ref() != Some(&state.leaf) {
            self.tls.show(&state.leaf);
            tracing::info!(ends = %state.leaf.ends(), "another certificate");
        }
    }

    /// One write, of which the watch will tell. Another replica may be first: the watch tells of that, too.
    async fn carry_out(
        &self,
        step: Step,
        state: Option<State>,
        old: Option<&Secret>,
        now: Timestamp,
    ) -> Result<(), KeepError> {
        let state = carry_out(step, state, &server_name(&self.namespace), now, &self.times)?;
        let secret = secret::write(&state, &self.namespace, old);
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = match old {
            None => self.secrets().create(&parameters, &secret).await,
            Some(_) => self.secrets().replace(secret::NAME, &parameters, &secret).await,
        };
        match written {
            Ok(_) => {
                tracing::info!(?step, "certificates");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 || (status.code == 404 && old.is_some()) => {
                tracing::debug!(?step, "another replica was first");
                Ok(())
            }
            Err(error) => Err(KeepError::Write(error)),
        }
    }

    /// Writes the `caBundle` if it is not what it should be. Says whether it was.
    async fn publish(
        &self,
        state: &State,
        secret: Option<&Secret>,
        registration: Option<&ValidatingWebhookConfiguration>,
    ) -> Result<bool, KeepError> {
        let Some(registration) = registration else {
            return Ok(true);
        };
        let bundle = ByteString(state.bundle().into_bytes());
        let webhooks = registration.webhooks.as_deref().unwrap_or_default();
        let webhook = webhooks
            .iter()
            .find(|webhook| webhook.name == WEBHOOK)
            .ok_or(KeepError::NoWebhook)?;
        if webhook.client_config.ca_bundle.as_ref() == Some(&bundle) {
            return Ok(true);
        }
        let annotations = registration.metadata.annotations.as_ref();
        if annotations.is_some_and(|annotations| annotations.contains_key(INJECT)) {
            return Err(KeepError::Injected);
        }
        // This watch may be behind that of the registration: what another replica has published would be taken back.
        let live = self
            .secrets()
            .get_metadata_opt(secret::NAME)
            .await
            .map_err(KeepError::Read)?;
        let version = |metadata: &ObjectMeta| metadata.resource_version.clone();
        if live.map(|live| version(&live.metadata)) != secret.map(|secret| version(&secret.metadata)) {
            return Ok(false);
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let apply = Patch::Apply(ca_bundle(registration, &bundle));
        match self
            .registrations()
            .patch(registration::NAME, &parameters, &apply)
            .await
        {
            Ok(_) => tracing::info!("the registration accepts the certificates"),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                tracing::debug!("the registration has changed meanwhile");
            }
            Err(error) => return Err(KeepError::Publish(error)),
        }
        Ok(false)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn registrations(&self) -> Api<ValidatingWebhookConfiguration> {
        Api::all(self.client.clone())
    }
}

/// The only field that is ours, of just the version that was seen: an apply to one that is gone would make another.
fn ca_bundle(registration: &ValidatingWebhookConfiguration, bundle: &ByteString) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": registration::NAME,
            "uid": registration.metadata.uid,
            "resourceVersion": registration.metadata.resource_version,
        },
        "webhooks": [{"name": WEBHOOK, "clientConfig": {"caBundle": bundle}}],
    })
}

impl<K> Told<K> {
    /// One that fails is opened again by itself.
    fn hear(&mut self, event: Result<Option<K>, watcher::Error>) {
        match event {
            Ok(Some(object)) => *self = Self::ThereIs(object),
            Ok(None) => *self = Self::ThereIsNone,
            Err(error) => tracing::warn!(
                error = in_words(&error),
                "a watch for the webhook's certificates failed"
            ),
        }
    }

    fn object(&self) -> Option<&K> {
        match self {
            Self::ThereIs(object) => Some(object),
            Self::NothingYet | Self::ThereIsNone => None,
        }
    }
}
