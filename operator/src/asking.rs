//! Policies while the operator runs: threads that ask them, what decisions rest on, and who is told of them.

mod counted;
mod https;

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::policy::decision::Verdict;
use ::policy::desk::{Decided, Desk, Outside};
use ::policy::guard::{Guard, SharedPlanner};
use ::policy::log::{self, DropReason, Log, Record};
use ::policy::request::Source as Asker;
use admission::server::{LINGER, Limits};
use admission::webhook::{REQUESTS, Webhook};
use axum::Router;
use controller::surroundings::{Around, Hears};
use decisions::reviews::ApiServer;
use decisions::server::router;
use engines::catalogue::Catalogue;
use jiff::Timestamp;
use kube::Client;
use telemetry::label::{Label as _, LogDrop, PolicyFailure, PolicySource, PolicyVerdict};
use telemetry::{Metrics, PolicyMetrics};
use tokio::sync::watch;

use self::https::{Certificates, Https, HttpsError};
use crate::config::Config;
use crate::policy::read::planner;
use crate::policy::source::follow::{Following, Pace, Settings};
use crate::policy::source::keys::Keys;
use crate::policy::source::status::{FailureKind, Status};
use crate::policy::source::{Source, SourceError};
use crate::run::stopped;

/// How long the log gets, at the end, to keep what it has taken.
const FLUSH: Duration = Duration::from_secs(5);

/// How long the first look at the sources of policies may hold up the beginning.
const FIRST_LOOK: Duration = Duration::from_secs(15);

/// Why policies cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    /// No threads.
    #[error("the threads that ask policies cannot be started")]
    Threads(#[source] io::Error),
    /// No thread for the log.
    #[error(transparent)]
    Log(#[from] log::StartError),
    /// No webhook.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// Not a source.
    #[error("policies")]
    Source(#[from] SourceError),
}

/// Everything that asks and is asked.
pub(crate) struct Asking {
    /// Where questions are handed in.
    pub desk: Desk,
    around: Arc<Around>,
    following: Following,
    status: watch::Receiver<Status>,
    log: Option<Arc<Log>>,
    https: Option<Https>,
    stop: watch::Receiver<bool>,
}

impl Asking {
    /// With no policies in force yet.
    pub(crate) fn begin(
        config: &Config,
        client: &Client,
        catalogue: &Catalogue,
        metrics: &Metrics,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, BeginError> {
        let planner: SharedPlanner = Arc::new(planner(catalogue.clone()));
        let threads = NonZeroUsize::new(config.policy_threads).unwrap_or(NonZeroUsize::MIN);
        let guard = Guard::start(threads, &planner).map_err(BeginError::Threads)?;
        let log = config.decision_log.as_deref();
        let log = log
            .map(|path| Log::start(options(config, path)))
            .transpose()?
            .map(Arc::new);
        let told = Told {
            log: log.clone(),
            metrics: metrics.policy.clone(),
        };
        let around = Around::new(client.clone(), told);
        let outside = Outside {
            now: Timestamp::now,
            random: rand::random,
        };
        let settings = Settings {
            sources: Source::parse_all(&config.policies)?,
            keys: Keys {
                files: config.policy_keys.clone(),
                scope: config.policy_scope.clone().unwrap_or_default(),
            },
            catalogue: catalogue.clone(),
            client: client.clone(),
            namespace: config.operator_namespace.clone(),
            pace: Pace::default(),
            gate: crate::policy::gate,
            now: Timestamp::now,
        };
        let (following, status) = Following::new(settings, guard.clone());
        count_at_scrape(metrics, status.clone(), log.clone());
        let desk = Desk::new(guard, around.clone(), outside, &config.member);
        let https = match config.https_address {
            Some(address) => {
                let more = match &log {
                    Some(log) => router(
                        vec![log.reader(), log.reader()],
                        Arc::new(ApiServer::new(client.clone())),
                        counted::queries(metrics.queries.clone()),
                    ),
                    None => Router::new(),
                };
                let hears = Arc::new(counted::Answers(metrics.webhook.clone()));
                let router = Webhook::told(desk.clone(), REQUESTS, hears).router().merge(more);
                let limits = Limits {
                    // Whoever wants a quick end gets one.
                    linger: LINGER.min(Duration::from_secs(config.stop_seconds.into())),
                    ..Limits::DEFAULT
                };
                let https = Https::begin(address, certificates(config, client), router, limits, stop.clone())?;
                tracing::info!(address = %https.address, "webhook");
                counted::at_scrape(metrics, Arc::clone(&https.connections), https.standing.clone());
                Some(https)
            }
            None => None,
        };
        Ok(Self {
            desk,
            around,
            following,
            status,
            log,
            https,
            stop,
        })
    }

    /// Does `work`, and meanwhile keeps up to date what decisions rest on.
    ///
    /// When the process is to stop, `work` ends at its own pace, which gives Lease and buckets back, and beside it the
    /// server leaves: it answers for [`LINGER`] more, until API servers know that it goes. Policies, labels and the log
    /// stay until both have ended.
    pub(crate) async fn during<T>(self, namespaces: &[String], work: impl Future<Output = T>) -> T {
        let Self {
            desk,
            around,
            following,
            mut status,
            log,
            https: server,
            mut stop,
        } = self;
        // Else what is reconciled first meets no policies, and its status says so for a while.
        let begun = async {
            let looked = tokio::time::timeout(FIRST_LOOK, status.wait_for(|status| status.looked));
            tokio::select! {
                looked = looked => if !matches!(looked, Ok(Ok(_))) {
                    tracing::warn!("the sources of policies are slow; beginning without them");
                },
                () = stopped(&mut stop) => {}
            }
            work.await
        };
        // Boxed: they are large, and live as long as the process.
        let result = tokio::select! {
            result = to_the_end(begun, server) => result,
            never = Box::pin(around.follow(namespaces)) => match never {},
            never = Box::pin(following.run()) => match never {},
        };
        desk.settle().await;
        if let Some(log) = log {
            let flushed = tokio::task::spawn_blocking(move || log.flush(FLUSH)).await;
            if !matches!(flushed, Ok(true)) {
                tracing::warn!("the last decisions may not be in the store of the decision log");
            }
        }
        result
    }
}

/// Does `work`, which does not wait for the server; then waits for what is left of the server's end.
async fn to_the_end<T>(work: impl Future<Output = T>, server: Option<Https>) -> T {
    let result = work.await;
    if let Some(server) = server {
        server.end().await;
    }
    result
}

fn certificates(config: &Config, client: &Client) -> Certificates {
    match &config.certificates {
        Some(folder) => Certificates::Files(folder.clone()),
        None => Certificates::Own {
            client: client.clone(),
            namespace: config.operator_namespace.clone(),
        },
    }
}

fn options(config: &Config, path: &Path) -> log::Options {
    let mut options = log::Options::new(path);
    options.retention = log::Retention {
        max_age: Some(Duration::from_hours(u64::from(config.decision_log_days) * 24)),
        max_bytes: Some(u64::from(config.decision_log_mebibytes) << 20),
    };
    options
}

/// Counts what is counted elsewhere.
fn count_at_scrape(metrics: &Metrics, status: watch::Receiver<Status>, log: Option<Arc<Log>>) {
    metrics.before_scrape(move |metrics| {
        let counts = log.as_ref().map(|log| log.counts()).unwrap_or_default();
        let status = status.borrow();
        metrics.policy.set(status.generation, counts.written);
        for kind in FailureKind::ALL {
            let count = status.failures.get(&kind).copied().unwrap_or_default();
            if let Some(reason) = PolicyFailure::named(kind.label()) {
                metrics.policy.load_failures.set(reason, count);
            }
        }
        for reason in DropReason::ALL {
            let label = match reason {
                DropReason::QueueFull => LogDrop::QueueFull,
                DropReason::TooLarge => LogDrop::TooLarge,
                DropReason::StoreError => LogDrop::StoreError,
            };
            metrics.policy.log_dropped.set(label, counts.dropped_for(reason));
        }
    });
}

/// Counts decisions, logs them, and keeps them.
struct Told {
    log: Option<Arc<Log>>,
    metrics: PolicyMetrics,
}

impl Hears for Told {
    fn decided(&self, decided: &Decided) {
        let record = decided.record.record();
        let took = decided.answer.waited + decided.answer.evaluated;
        self.metrics
            .decided(source(record.source), verdict(record.verdict), took);
        // A look at what exists that finds nothing is no news: after a start there is one for each Database.
        if record.source == Asker::Audit && record.verdict.is_allowed() {
            return;
        }
        line(record);
        if let Some(log) = &self.log {
            log.record(&decided.record);
        }
    }

    fn shed(&self) {
        self.metrics.shed.inc();
    }
}

/// The copy of a decision that goes wherever logs go.
fn line(record: &Record) {
    let rules: Vec<&str> = record
        .violations
        .iter()
        .map(|violation| violation.id.as_str())
        .collect();
    let revisions: Vec<&str> = record.bundles.values().map(|bundle| bundle.revision.as_str()).collect();
    let operation = record.operation.map(|operation| operation.to_string());
    tracing::info!(
        decision_id = %record.decision_id,
        source = source(record.source).label(),
        verdict = %record.verdict,
        operation,
        dry_run = record.dry_run,
        namespace = record.resource.namespace,
        name = record.resource.name,
        user = record.user.as_ref().map(|user| user.name.as_str()),
        rules = rules.join(","),
        revisions = revisions.join(","),
        error = record.error,
        "decided"
    );
}

fn source(source: Asker) -> PolicySource {
    match source {
        Asker::Admission => PolicySource::Admission,
        Asker::Reconcile => PolicySource::Reconcile,
        Asker::Audit => PolicySource::Audit,
        Asker::Cli => PolicySource::Cli,
    }
}

fn verdict(verdict: Verdict) -> PolicyVerdict {
    match verdict {
        Verdict::Allow => PolicyVerdict::Allow,
        Verdict::Warn => PolicyVerdict::Warn,
        Verdict::Deny => PolicyVerdict::Deny,
        Verdict::Error => PolicyVerdict::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_a_series() {
        for kind in FailureKind::ALL {
            assert!(PolicyFailure::named(kind.label()).is_some(), "{kind:?}");
        }
    }
}
