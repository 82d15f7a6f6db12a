//! One life as a member of the fleet after the other.
//!
//! A replica whose Lease was taken, because it was cut off or frozen for too long, has lost everything that it owned. It
//! begins anew as another incarnation, in the same process: a restart would cost more and tell nobody anything.

use std::future::Future;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use fleet::{Abandoned, ClientError, Clients, Clocks, Driver, Fleet, Orders};
use sharding::assignment::MAX_WEIGHT;
use sharding::map::Expected;
use sharding::protocol::{self, Exit, Incarnation};
use telemetry::Metrics;
use tokio::sync::{oneshot, watch};

use crate::config::Config;
use crate::connect;

/// How long the gainers of a handover get to fill their caches, before it is dropped and tried again.
const PREPARE_MS: u64 = 120_000;

/// How often the file with the weight is read.
const LOOK_AT_WEIGHT: Duration = Duration::from_secs(2);

/// Pause between a life and the next one.
const PAUSE: Duration = Duration::from_secs(1);

/// Why this replica is no member any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemberError {
    /// The thread of the driver could not be started.
    #[error("the thread that keeps the Lease cannot be started")]
    Thread(#[source] io::Error),
    /// No client for the Leases.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The controller ended before the driver. A defect.
    #[error(transparent)]
    Abandoned(#[from] Abandoned),
    /// The thread of the driver panicked. A defect.
    #[error("the thread that keeps the Lease has died")]
    Died,
    /// The map is that of others.
    #[error(
        "the ShardMap of this cluster belongs to another installation, or to a version of the operator with another number \
         of buckets (the log says which); this one, {ours:?}, changes nothing. Uninstall one of the two; if the other has \
         gone for good, delete its map: kubectl delete shardmap fleet"
    )]
    Foreign {
        /// The operator's namespace.
        ours: String,
    },
}

/// Runs `work` for each life, until this replica was asked to stop and others have taken over. `work` is to end when its
/// orders do.
pub(crate) async fn run<W, F>(
    client: &kube::Config,
    config: &Config,
    metrics: &Metrics,
    stop: watch::Receiver<bool>,
    mut work: W,
) -> Result<(), MemberError>
where
    W: FnMut(Fleet, Orders) -> F,
    F: Future<Output = ()>,
{
    loop {
        let (fleet, orders, end) = begin(client, config, metrics).await?;
        let weight = config
            .weight_file
            .as_deref()
            .map(|file| tokio::spawn(follow(file.to_owned(), fleet.clone())));
        work(fleet, orders).await;
        if let Some(weight) = weight {
            weight.abort();
        }
        match end.await.map_err(|_| MemberError::Died)?? {
            Exit::Left => return Ok(()),
            Exit::Foreign => {
                return Err(MemberError::Foreign {
                    ours: config.operator_namespace.clone(),
                });
            }
            Exit::LeaseLost if *stop.borrow() => return Ok(()),
            Exit::LeaseLost => tracing::warn!("the Lease was lost to another replica; beginning anew"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

type End = oneshot::Receiver<Result<Exit, MemberError>>;

/// The driver has a thread of its own, so that no amount of work delays a renewal.
async fn begin(client: &kube::Config, config: &Config, metrics: &Metrics) -> Result<(Fleet, Orders, End), MemberError> {
    let (begun, beginning) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    let (client, config, metrics) = (client.clone(), config.clone(), metrics.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(MemberError::Thread)?;
    let live = move || {
        let result = runtime.block_on(async {
            let clients = Clients::new(&client, &connect::user_agent(&config.member), Some(&metrics.requests))?;
            let (driver, fleet, orders) = Driver::new(settings(clients, &config));
            // Nobody waits only when the process is ending.
            let _ = begun.send((fleet, orders));
            Ok(driver.with_metrics(&metrics).run().await?)
        });
        let _ = ended.send(result);
    };
    thread::Builder::new()
        .name("fleet".to_owned())
        .spawn(live)
        .map_err(MemberError::Thread)?;
    match beginning.await {
        Ok((fleet, orders)) => Ok((fleet, orders, end)),
        // It ended before it began, and says why.
        Err(_) => Err(end
            .await
            .map_err(|_| MemberError::Died)?
            .err()
            .unwrap_or(MemberError::Died)),
    }
}

fn settings(clients: Clients, config: &Config) -> fleet::Settings {
    fleet::Settings {
        clients,
        namespace: config.operator_namespace.clone(),
        protocol: protocol::Config {
            me: Incarnation {
                name: config.member.as_str().into(),
                nonce: rand::random(),
            },
            timings: config.timings,
            expected: Expected::of(&config.operator_namespace),
            shards: config.shards,
            prepare_ms: PREPARE_MS,
            assign: protocol::assigned,
            flaw: None,
        },
        weight: config.weight_file.as_deref().and_then(read).unwrap_or(config.weight),
        clocks: Clocks::default(),
    }
}

/// Tells the fleet of the weight whenever the file changes.
async fn follow(file: std::path::PathBuf, fleet: Fleet) {
    let mut known = None;
    loop {
        let weight = read(&file);
        if weight.is_some() && weight != known {
            tracing::info!(weight, file = %file.display(), "weight");
            fleet.weight(weight.unwrap_or_default());
            known = weight;
        }
        tokio::time::sleep(LOOK_AT_WEIGHT).await;
    }
}

/// What a file says, if it says a weight. A file that cannot be read or is being written changes nothing.
fn read(file: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(file)
        .inspect_err(|error| tracing::warn!(file = %file.display(), %error, "the weight cannot be read; it stays"))
        .ok()?;
    let weight = text.trim().parse().ok().filter(|weight| *weight <= MAX_WEIGHT);
    if weight.is_none() {
        tracing::warn!(file = %file.display(), "no weight, a number from 0 to {MAX_WEIGHT}; it stays");
    }
    weight
}
