//! `devcluster`: a real Kubernetes on this machine. The work is in the library; this is its command line.

mod arguments;

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Parser;
use devcluster::{Cluster, Ended, Identity, Mode, Name, Opa, Options, Shape, Status, Wanted};
use serde_json::{Value, json};

use crate::arguments::{Action, Arguments, Output, Part};

fn main() -> ExitCode {
    match act(Arguments::parse().command) {
        Ok(code) => code,
        // Whoever reads our output has seen enough of it.
        Err(error) if is_broken_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("devcluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(action: Action) -> Result<ExitCode, Box<dyn Error>> {
    match action {
        Action::Up {
            cluster,
            nodes,
            simulated_nodes,
            output,
        } => {
            let cluster = Cluster::up(&Options {
                name: cluster.name,
                nodes,
                simulated_nodes,
            })?;
            if cluster.was_running() {
                eprintln!("devcluster: cluster {} runs already; nothing done", cluster.name());
            }
            show(cluster.name(), output.output)
        }
        Action::Down { cluster, all, output } => down(&cluster.name, all, output.output),
        Action::Status {
            cluster,
            all: false,
            output,
        } => show(&cluster.name, output.output),
        Action::Status {
            cluster: _,
            all: true,
            output,
        } => show_all(output.output),
        Action::Exec { cluster, command } => {
            let (program, arguments) = command.split_first().ok_or("no command given")?;
            Err(Cluster::attach(&cluster.name)?
                .become_program(program, arguments)
                .into())
        }
        Action::Logs {
            cluster,
            component,
            follow,
            output,
        } => logs(&cluster.name, component, follow, output.output),
        Action::Audit { cluster, output } => {
            let path = Cluster::attach(&cluster.name)?.audit_log();
            print(output.output, &path.display().to_string(), &json!({ "path": path }))
        }
        Action::Kubeconfig {
            cluster,
            user,
            groups,
            output,
        } => {
            let path = Cluster::attach(&cluster.name)?.kubeconfig_for(&Identity { user, groups })?;
            print(output.output, &path.display().to_string(), &json!({ "path": path }))
        }
        Action::Prepare { only, output } => prepare(&only, output.output),
        Action::Images { output } => images(output.output),
        Action::LoadImage {
            cluster,
            archive,
            output,
        } => {
            let imported = Cluster::attach(&cluster.name)?.load_image(&archive)?;
            print(output.output, &imported.join("\n"), &json!({ "imported": imported }))
        }
        Action::NodeInit { folder, pause } => Err(devcluster::node_init(&folder, &pause).into()),
        Action::Enter { cgroups, command } => {
            let (program, arguments) = command.split_first().ok_or("no command given")?;
            Err(devcluster::enter(&cgroups, program, arguments).into())
        }
        Action::Supervise {
            cluster,
            nodes,
            simulated_nodes,
        } => {
            let mode = Mode::of_this_user();
            devcluster::supervise(
                &cluster.name,
                Shape {
                    mode,
                    nodes,
                    simulated_nodes,
                },
            )?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Everything of a cluster if no part is named; OPA only if it is.
fn prepare(only: &[Part], output: Output) -> Result<ExitCode, Box<dyn Error>> {
    let mut folders = Vec::new();
    if only.is_empty() || only.iter().any(|part| *part != Part::Opa) {
        let mut nodes = only.is_empty() || only.contains(&Part::Nodes);
        if nodes && only.is_empty() && Mode::of_this_user() == Mode::Loopback {
            eprintln!("devcluster: without root there are no real nodes, so their parts are left out");
            nodes = false;
        }
        let simulated_nodes = only.is_empty() || only.contains(&Part::SimulatedNodes);
        folders.extend(devcluster::prepare(Wanted { nodes, simulated_nodes })?);
    }
    if only.contains(&Part::Opa) {
        let Opa { program, judge } = devcluster::opa()?;
        folders.extend([program, judge]);
    }
    let text: Vec<String> = folders.iter().map(|path| path.display().to_string()).collect();
    print(output, &text.join("\n"), &json!({ "folders": folders }))
}

fn images(output: Output) -> Result<ExitCode, Box<dyn Error>> {
    let images = devcluster::engine_images()?;
    let line = |engine: &devcluster::EngineImage| format!("{} {}", engine.image, engine.version);
    let text: Vec<String> = images.iter().map(line).collect();
    print(output, &text.join("\n"), &json!({ "images": images }))
}

fn down(name: &Name, all: bool, output: Output) -> Result<ExitCode, Box<dyn Error>> {
    let names = if all { devcluster::all()? } else { vec![name.clone()] };
    let mut ended = Vec::new();
    for name in &names {
        let Ended {
            was_there,
            still_inside,
        } = devcluster::down(name)?;
        if was_there {
            ended.push(name.to_string());
        }
        for process in still_inside {
            eprintln!("devcluster: process {process}, started by you inside cluster {name}, still runs");
        }
    }
    let text = if ended.is_empty() {
        "no cluster was there".to_owned()
    } else {
        format!("ended: {}", ended.join(", "))
    };
    print(output, &text, &json!({ "ended": ended }))
}

/// Fails unless the cluster runs with all its components, so that a script can ask.
fn show(name: &Name, output: Output) -> Result<ExitCode, Box<dyn Error>> {
    let Some(status) = devcluster::status(name)? else {
        print(
            output,
            &format!("no cluster {name}"),
            &json!({ "name": name.to_string(), "phase": "absent" }),
        )?;
        return Ok(ExitCode::FAILURE);
    };
    print(output, &describe(&status), &serde_json::to_value(&status)?)?;
    Ok(if status.phase == "running" {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn show_all(output: Output) -> Result<ExitCode, Box<dyn Error>> {
    let mut found = Vec::new();
    for name in devcluster::all()? {
        found.extend(devcluster::status(&name)?);
    }
    let text: Vec<String> = found.iter().map(describe).collect();
    let text = if text.is_empty() {
        "no clusters".to_owned()
    } else {
        text.join("\n\n")
    };
    print(output, &text, &serde_json::to_value(&found)?)
}

fn describe(status: &Status) -> String {
    let mut text = format!("cluster      {} ({})\n", status.name, status.phase);
    let mut line = |name: &str, value: &str| text.extend([&format!("{name:<12} {value}"), "\n"]);
    if let Some(reason) = &status.reason {
        line("reason", reason);
    }
    line("where", &status.mode.to_string());
    line("api server", &status.api_server);
    line("kubeconfig", &status.kubeconfig.display().to_string());
    line("audit log", &status.audit_log.display().to_string());
    match &status.nodes {
        None => line("nodes", "unknown: the API server did not say"),
        Some(nodes) => {
            let ready = nodes.iter().filter(|node| node.ready).count();
            line("nodes", &format!("{ready} of {} ready", nodes.len()));
            for node in nodes.iter().filter(|node| !node.ready) {
                line("", &format!("{} is not ready", node.name));
            }
        }
    }
    for component in &status.components {
        line(
            "process",
            &format!("{:<24} {:>8}  {}", component.name, component.pid, component.state),
        );
    }
    if status.phase == "running" {
        let name = if status.name == devcluster::DEFAULT_NAME {
            String::new()
        } else {
            format!(" --name {}", status.name)
        };
        match status.mode {
            Mode::Namespace => line("use it", &format!("devcluster exec{name} -- kubectl get all -A")),
            Mode::Loopback => line(
                "use it",
                &format!("KUBECONFIG={} kubectl get all -A", status.kubeconfig.display()),
            ),
        }
    }
    text.trim_end().to_owned()
}

fn logs(name: &Name, component: Option<String>, follow: bool, output: Output) -> Result<ExitCode, Box<dyn Error>> {
    let known = devcluster::components(name)?;
    let Some(component) = component else {
        return print(output, &known.join("\n"), &json!({ "components": known }));
    };
    let path = devcluster::log(name, &component)?;
    if output == Output::Json {
        return print(output, "", &json!({ "component": component, "path": path }));
    }
    if follow {
        return Err(Command::new("tail").args(["-n", "+1", "-F"]).arg(&path).exec().into());
    }
    let mut log = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    io::copy(&mut log, &mut io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn print(output: Output, text: &str, value: &Value) -> Result<ExitCode, Box<dyn Error>> {
    match output {
        Output::Text => writeln!(io::stdout(), "{text}")?,
        Output::Json => writeln!(io::stdout(), "{value:#}")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
