//! `database-operator run`: what surrounds the controller, from the first log line to the last.

use std::future::Future;
use std::io;
use std::process;
use std::time::Duration;

use engines::catalogue::Catalogue;
use telemetry::{Format, Server, Telemetry};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::asking::BeginError;
use crate::catalogue;
use crate::config::{Config, LogFormat};
use crate::connect::{self, ConnectError};
use crate::member::MemberError;
use crate::version::VERSION;

/// A reconcile that goes on for so long is stuck, and the process is not alive. No reconcile waits for anything but
/// answers of the API server, and few of them.
const STUCK_AFTER: Duration = Duration::from_mins(10);

/// The client, and what further ones are made from.
pub(crate) type Connected = (kube::Client, kube::Config);

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// No logs.
    #[error(transparent)]
    Logs(#[from] telemetry::logs::LogError),
    /// No catalogue.
    #[error(transparent)]
    Catalogue(#[from] catalogue::LoadError),
    /// No metrics.
    #[error(transparent)]
    Metrics(#[from] telemetry::metrics::RegisterError),
    /// No health server.
    #[error(transparent)]
    Health(#[from] telemetry::server::ServerError),
    /// No signals.
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
    /// No API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No policies.
    #[error(transparent)]
    Policies(#[from] BeginError),
    /// No member of the fleet.
    #[error(transparent)]
    Member(#[from] MemberError),
}

/// Runs `controller` with everything that it needs, until a signal asks for the end. The controller is to end soon
/// after its last argument turns true: with requests in flight finished and nothing new started.
pub(crate) async fn run<C, F>(config: Config, controller: C) -> Result<(), RunError>
where
    C: FnOnce(Connected, Config, Catalogue, Telemetry, watch::Receiver<bool>) -> F,
    F: Future<Output = Result<(), RunError>>,
{
    let format = match config.log_format {
        LogFormat::Json => Format::Json,
        LogFormat::Pretty => Format::Pretty,
    };
    let telemetry = Telemetry::new(VERSION, STUCK_AFTER)?;
    let fleet = &telemetry.metrics.fleet;
    let replica = telemetry::Replica {
        member: config.member.clone(),
        term: fleet.term.clone(),
        epoch: fleet.map_sequence.clone(),
    };
    telemetry::init_logs(format, &config.log_filter, replica)?;
    let catalogue = catalogue::load(config.catalogue.as_deref())?;
    // Before anything else may take long: a signal is heard, and probes are answered.
    let stop = stop_on_signals().map_err(RunError::Signals)?;
    let server = Server::bind(config.health_address).await?;
    tracing::info!(version = VERSION, health = %server.address(), "starting");
    let (until_dropped, running) = watch::channel(());
    let health = tokio::spawn(server.serve(telemetry.health.clone(), telemetry.metrics.clone(), closed(running)));

    let result = work(config, catalogue, telemetry, stop, controller).await;
    drop(until_dropped);
    match health.await {
        Ok(ended) => ended?,
        Err(defect) => std::panic::resume_unwind(defect.into_panic()),
    }
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}

async fn work<C, F>(
    config: Config,
    catalogue: Catalogue,
    telemetry: Telemetry,
    mut stop: watch::Receiver<bool>,
    controller: C,
) -> Result<(), RunError>
where
    C: FnOnce(Connected, Config, Catalogue, Telemetry, watch::Receiver<bool>) -> F,
    F: Future<Output = Result<(), RunError>>,
{
    let user_agent = connect::user_agent(&config.member);
    let counts = &telemetry.metrics.requests;
    let (kubeconfig, context) = (config.kubeconfig.as_deref(), config.context.as_deref());
    let connect = connect::connect_as(kubeconfig, context, &user_agent, Some(counts));
    telemetry.health.set_ready(false, "waiting for the API server");
    let client = tokio::select! {
        client = connect => client?,
        () = stopped(&mut stop) => return Ok(()),
    };
    telemetry.health.set_ready(false, "joining the fleet");
    controller(client, config, catalogue, telemetry, stop).await
}

/// Completes once `stop` is true.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which it only is with the process.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Completes once the sender is gone.
async fn closed(mut receiver: watch::Receiver<()>) {
    while receiver.changed().await.is_ok() {}
}

/// Turns true at the first SIGTERM or SIGINT; the second ends the process.
fn stop_on_signals() -> io::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "stopping: finishing what is in flight");
        sender.send_replace(true);
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal = name, "second signal: ending at once");
        process::exit(2);
    });
    Ok(receiver)
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
