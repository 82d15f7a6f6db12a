//! The command line of the database operator: `main` is a table from command to function.
//!
//! Read in this order: [`command`] (what can be asked for), [`config`] (what `run` can be told), [`run`] (what
//! surrounds the controller), [`connect`], [`rbac`], [`version`].

mod catalogue;
mod command;
mod config;
mod connect;
mod names;
mod rbac;
mod run;
mod version;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use engines::catalogue::Catalogue;
use kube::Client;
use telemetry::Telemetry;
use tokio::sync::watch;

use command::{Command, CommandLine, RunArguments, VersionOutput};
use config::Config;

/// Exit code for an error. The others are 0, done or allowed, and 1, refused by a rule.
const ERROR: u8 = 2;

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Run(arguments) => run(arguments),
        Command::Crds => print(&api::crd_yaml()),
        Command::Rbac(arguments) => print(&rbac::manifests(&arguments.namespaces, &arguments.subjects())),
        Command::Version(arguments) => print(&version_text(arguments.output)),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run::run(config, no_controller))?;
    Ok(ExitCode::SUCCESS)
}

/// What stands in the controller's place in a build without one: says so, is never ready, and waits for the end.
async fn no_controller(_: Client, _: Config, _: Catalogue, telemetry: Telemetry, mut stop: watch::Receiver<bool>) {
    telemetry.health.set_ready(false, "this build has no controller");
    tracing::error!("this build has no controller: no Database is looked after");
    run::stopped(&mut stop).await;
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

/// An error with all of its causes, each said once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Many messages of libraries repeat their source.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}
