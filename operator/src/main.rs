//! The command line of the database operator: `main` is a table from command to function.
//!
//! Read in this order: [`command`] (what can be asked for), [`config`] (what `run` can be told), [`run`](mod@run) (what
//! surrounds the controller), [`member`], [`connect`], [`plan`], [`policy`](mod@policy), [`decisions`],
//! [`fleet`], [`rbac`], [`fence`], [`version`].

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

mod asking;
mod catalogue;
mod command;
mod config;
mod connect;
mod decisions;
mod fence;
mod fleet;
mod member;
mod names;
mod plan;
mod policy;
mod rbac;
mod run;
mod version;
mod webhook;

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ::fleet::{Fleet, Orders};
use clap::Parser;
use engines::catalogue::Catalogue;
use kube::Client;
use serde::Serialize;
use telemetry::Telemetry;
use tokio::sync::watch;

use asking::Asking;
use command::{
    Cluster, Command, CommandLine, DrainArguments, ExplainArguments, FleetCommand, FleetOutput, PlanArguments,
    PlanOutput, RunArguments, SimulateArguments, StatusArguments, VersionOutput,
};
use config::Config;
use run::RunError;

/// Exit code for an error. The others are 0, done or allowed, and 1, refused by a rule.
const ERROR: u8 = 2;
/// Exit code for a manifest that a rule refuses.
const REFUSED: u8 = 1;

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Run(arguments) => run(*arguments),
        Command::Plan(arguments) => plan_manifest(&arguments),
        Command::Fleet(FleetCommand::Status(arguments)) => fleet_status(&arguments),
        Command::Fleet(FleetCommand::Explain(arguments)) => fleet_explain(&arguments),
        Command::Fleet(FleetCommand::Drain(arguments)) => fleet_drain(&arguments),
        Command::Fleet(FleetCommand::Simulate(arguments)) => simulate(&arguments),
        Command::Policy(command) => policy::run(command),
        Command::Decisions(command) => decisions::run(command),
        Command::Crds(arguments) => print(
            &arguments
                .fenced()
                .map_or_else(fence::definitions, |user| fence::manifests(&user)),
        ),
        Command::Rbac(arguments) => {
            let subjects = arguments.subjects();
            print(&rbac::manifests(&arguments.own(), &arguments.namespaces, &subjects))
        }
        Command::Webhook(arguments) => webhook::manifests(&arguments)
            .map_err(Into::into)
            .and_then(|text| print(&text)),
        Command::Version(arguments) => print(&version_text(arguments.output)),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", telemetry::chain(error.as_ref()));
            ExitCode::from(ERROR)
        }
    }
}

type Done = Result<ExitCode, Box<dyn Error>>;

fn run(arguments: RunArguments) -> Done {
    let config = Config::load(arguments.options, arguments.config.as_deref())?;
    if arguments.print_config {
        return print(&serde_yaml::to_string(&config.to_options())?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()?;
    runtime.block_on(run::run(config, control))?;
    Ok(ExitCode::SUCCESS)
}

/// Reconciles wait for the API server nearly all the time: a second thread bought nothing that could be measured
/// (`docs/performance.md`), and by default there would be as many as the machine has cores. (The fleet has a thread of its
/// own.)
const WORKER_THREADS: usize = 1;

/// The controller as a member of the fleet, with what it needs of the configuration.
async fn control(
    (client, client_config): run::Connected,
    config: Config,
    catalogue: Catalogue,
    telemetry: Telemetry,
    stop: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let asking = if config.policies.is_empty() {
        None
    } else {
        let metrics = &telemetry.metrics;
        Some(Asking::begin(&config, &client, &catalogue, metrics, stop.clone())?)
    };
    let settings = controller::Settings {
        namespaces: config.namespaces.clone(),
        workers: config.workers,
        member: config.member.clone(),
        catalogue: Arc::new(catalogue),
        max_restarting: config.restarting_share(),
        replicas: config.statefulset_replicas,
        queue: config.queue(),
        deadline: Duration::from_secs(config.reconcile_seconds.into()),
        desk: asking.as_ref().map(|asking| asking.desk.clone()),
        patience: Duration::from_secs(config.stop_seconds.into()),
    };
    // Where it may create ConfigMaps.
    let namespace = config.namespaces.first().unwrap_or(&config.operator_namespace);
    let work = |fleet: Fleet, orders: Orders| {
        let metrics = telemetry.metrics.fleet.clone();
        let looks = fence::layers::follow(client.clone(), namespace.clone(), fleet.clone(), metrics);
        let (client, settings) = (client.clone(), settings.clone());
        // In a box: it is large, and is moved about.
        let work = Box::pin(controller::run(
            client,
            settings,
            (fleet, orders),
            telemetry.clone(),
            stop.clone(),
        ));
        async {
            tokio::select! {
                () = work => {}
                never = looks => match never {},
            }
        }
    };
    let member = member::run(&client_config, &config, &telemetry.metrics, stop.clone(), work);
    match asking {
        // In a box: it is large.
        Some(asking) => Box::pin(asking.during(&config.namespaces, member)).await?,
        None => member.await?,
    }
    Ok(())
}

fn plan_manifest(arguments: &PlanArguments) -> Done {
    let text = plan::read(&arguments.file)?;
    let catalogue = catalogue::load(arguments.catalogue.as_deref())?;
    let manifest = match plan::Manifest::parse(&text) {
        Ok(manifest) => manifest,
        Err(faults) => {
            for fault in &faults {
                eprintln!("refused: {fault}");
            }
            return Ok(ExitCode::from(REFUSED));
        }
    };
    let planned = if arguments.against_cluster {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let user_agent = connect::user_agent("plan");
            let (kubeconfig, context) = (arguments.kubeconfig.as_deref(), arguments.context.as_deref());
            let client = connect::connect(kubeconfig, context, &user_agent).await?;
            let planned = plan::against_cluster(&manifest, &arguments.namespace, &catalogue, &client).await?;
            Ok::<_, Box<dyn Error>>(planned)
        })?
    } else {
        plan::offline(&manifest, &arguments.namespace, &catalogue)
    };
    let refused = planned.iter().any(|planned| planned.refused);
    let shown: Vec<&serde_json::Value> = planned.iter().map(|planned| &planned.shown).collect();
    let text = match arguments.output {
        PlanOutput::Json => format!("{}\n", serde_json::to_string_pretty(&shown)?),
        PlanOutput::Yaml => {
            let documents: Result<Vec<String>, _> = shown.iter().map(serde_yaml::to_string).collect();
            documents?.join("---\n")
        }
    };
    let code = print(&text)?;
    Ok(if refused { ExitCode::from(REFUSED) } else { code })
}

/// Exit code for a fleet that does not look after everything.
const UNHEALTHY: u8 = 1;

fn fleet_status(arguments: &StatusArguments) -> Done {
    let namespace = arguments.cluster.namespace();
    let facts = at_cluster(&arguments.cluster, async |client| {
        fleet::read::facts(&client, &namespace).await
    })?;
    let status = fleet::status::Status::of(&facts);
    let code = print_fleet(arguments.output, &status)?;
    Ok(if status.healthy {
        code
    } else {
        ExitCode::from(UNHEALTHY)
    })
}

fn fleet_explain(arguments: &ExplainArguments) -> Done {
    let (of_the_operator, (namespace, name)) = (arguments.cluster.namespace(), &arguments.database);
    let explanation = at_cluster(&arguments.cluster, async |client| {
        fleet::explain::read(&client, &of_the_operator, namespace, name).await
    })?;
    print_fleet(arguments.output, &explanation)
}

fn fleet_drain(arguments: &DrainArguments) -> Done {
    let (namespace, undo) = (arguments.cluster.namespace(), arguments.undo);
    let drained = at_cluster(&arguments.cluster, async |client| {
        let asked = fleet::drain::ask(&client, &namespace, &arguments.member, undo).await;
        let member = match asked {
            Err(error) if error.is_refusal() => return Ok(Err(error)),
            asked => asked?,
        };
        if arguments.wait {
            let tell = |left| eprintln!("{member}: {left} buckets left");
            fleet::drain::wait(&client, &namespace, &member, arguments.timeout, tell).await?;
        }
        Ok::<_, fleet::drain::DrainError>(Ok(member))
    })?;
    match drained {
        Err(refusal) => {
            eprintln!("refused: {refusal}");
            Ok(ExitCode::from(REFUSED))
        }
        Ok(member) if undo => print(&format!("{member}: may own buckets again\n")),
        Ok(member) if arguments.wait => print(&format!("{member}: owns nothing\n")),
        Ok(member) => print(&format!(
            "{member}: is to own nothing; see `database-operator fleet status`\n"
        )),
    }
}

fn simulate(arguments: &SimulateArguments) -> Done {
    print_fleet(arguments.output, &fleet::simulate::Simulation::new(arguments)?)
}

/// Asks a cluster something about its fleet.
fn at_cluster<T, E: Error + 'static>(
    cluster: &Cluster,
    ask: impl AsyncFnOnce(Client) -> Result<T, E>,
) -> Result<T, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (kubeconfig, context) = (cluster.kubeconfig.as_deref(), cluster.context.as_deref());
        let client = connect::connect(kubeconfig, context, &connect::user_agent("fleet")).await?;
        Ok(ask(client).await?)
    })
}

fn print_fleet(output: FleetOutput, answer: &(impl Display + Serialize)) -> Done {
    print(&match output {
        FleetOutput::Table => answer.to_string(),
        FleetOutput::Json => format!("{}\n", serde_json::to_string_pretty(answer)?),
    })
}

fn version_text(output: VersionOutput) -> String {
    let (version, minimum) = (version::VERSION, version::MINIMUM_KUBERNETES);
    match output {
        VersionOutput::Text => format!("database-operator {version} (Kubernetes {minimum} or newer)\n"),
        VersionOutput::Json => {
            let object = serde_json::json!({ "version": version, "minimumKubernetes": minimum.to_string() });
            format!("{object}\n")
        }
    }
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> Done {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}
