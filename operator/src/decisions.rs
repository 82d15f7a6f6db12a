//! `database-operator decisions`: the decision logs of all replicas, as one.

mod print;

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use ::decisions::client::token::Token;
use ::decisions::client::{Authority, ClientError, Query, Replica, discover};
use admission::registration::{NAME, SERVICE, server_name};
use jiff::Timestamp;
use kube::Client;
use policy::log::export::{self, ExportError};
use policy::log::{Entry, Filter, MAX_LIMIT, Missing, Record};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::command::{DecisionsCommand, DecisionsOutput, QueryArguments};
use crate::{Done, connect};

/// Exit code where some replicas did not answer: what is printed may not be everything.
const PARTIAL: u8 = 3;

/// Does what is asked.
pub(crate) fn run(command: DecisionsCommand) -> Done {
    match command {
        DecisionsCommand::Query(arguments) => query(*arguments),
    }
}

fn query(arguments: QueryArguments) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let left = if arguments.all {
        usize::MAX
    } else {
        arguments.limit.get()
    };
    let output = arguments.output;
    let query = runtime.block_on(question(arguments))?;
    let mut found = Found {
        runtime,
        query,
        left,
        ahead: VecDeque::new(),
    };
    let out = BufWriter::new(io::stdout().lock());
    match printed(output, &mut found, out) {
        // Whoever reads has seen enough.
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        other => other?,
    }
    Ok(told(&found.query))
}

/// What to ask, whom, and in whose name.
async fn question(arguments: QueryArguments) -> Result<Query, Box<dyn Error>> {
    let cluster = &arguments.cluster;
    let namespace = cluster.namespace();
    let (kubeconfig, context) = (cluster.kubeconfig.as_deref(), cluster.context.as_deref());
    let token = match &arguments.token_file {
        Some(path) => Token::of_file(path),
        None => Token::of_config(&connect::client_config(kubeconfig, context).await?)?,
    };
    // Only if there is something to be asked of it.
    let client = if arguments.server.is_empty() || arguments.ca_file.is_none() {
        Some(connect::connect(kubeconfig, context, &connect::user_agent("decisions")).await?)
    } else {
        None
    };
    let authority = authority(&arguments, client.as_ref(), server_name(&namespace)).await?;
    let replicas = match &client {
        Some(client) if arguments.server.is_empty() => discover::replicas(client, &namespace, SERVICE).await?,
        _ => named(&arguments.server),
    };
    let filter: Filter = arguments.wanted.filter(Timestamp::now());
    Ok(Query::new(&replicas, &authority, token, filter)?)
}

async fn authority(
    arguments: &QueryArguments,
    client: Option<&Client>,
    server_name: String,
) -> Result<Authority, Box<dyn Error>> {
    if let Some(path) = &arguments.ca_file {
        let place = path.display().to_string();
        let pem = fs::read(path).map_err(|error| format!("--ca-file {place}: cannot be read: {error}"))?;
        return Ok(Authority::new(&pem, &place, server_name)?);
    }
    // There is a client wherever no file is named.
    let client = client.ok_or("no --ca-file, and no API server to ask")?;
    let pem = discover::authorities(client, NAME).await?;
    let place = format!("the caBundle of ValidatingWebhookConfiguration {NAME}");
    Ok(Authority::new(&pem, &place, server_name)?)
}

fn named(urls: &[String]) -> Vec<Replica> {
    let replica = |url: &String| Replica {
        name: url.clone(),
        url: url.clone(),
    };
    urls.iter().map(replica).collect()
}

/// Decisions one after the other. After an error there are no more.
struct Found {
    runtime: Runtime,
    query: Query,
    left: usize,
    ahead: VecDeque<Entry>,
}

impl Iterator for Found {
    type Item = Result<Entry, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        // A page may be empty and not the last.
        while self.ahead.is_empty() && self.left > 0 && !self.query.has_ended() {
            match self.runtime.block_on(self.query.page(self.left.min(MAX_LIMIT))) {
                Ok(entries) => self.ahead.extend(entries),
                Err(error) => {
                    self.left = 0;
                    return Some(Err(error));
                }
            }
        }
        let entry = self.ahead.pop_front()?;
        self.left = self.left.saturating_sub(1);
        Some(Ok(entry))
    }
}

fn printed(output: DecisionsOutput, found: &mut Found, mut out: impl Write) -> Result<(), ExportError<ClientError>> {
    match output {
        DecisionsOutput::Table => print::table(found, &mut out)?,
        DecisionsOutput::Json => document(found, &mut out)?,
        DecisionsOutput::Jsonl => {
            export::jsonl(found.map(|entry| Ok(entry?.record)), &mut out)?;
        }
        DecisionsOutput::Csv => {
            export::csv(found.map(|entry| Ok(entry?.record)), &mut out)?;
        }
        DecisionsOutput::Opa => {
            for entry in found {
                let record = entry.map_err(ExportError::Read)?.record;
                writeln!(out, "{}", record.opa())?;
            }
        }
    }
    Ok(out.flush()?)
}

/// All of it in one, for a program.
#[derive(Serialize)]
struct Document<'a> {
    decisions: Vec<Record>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    partial: bool,
    missing: &'a [Missing],
    restricted: bool,
    unreadable: u64,
}

fn document(found: &mut Found, mut out: impl Write) -> Result<(), ExportError<ClientError>> {
    let decisions: Result<Vec<Record>, ClientError> = found.map(|entry| Ok(entry?.record)).collect();
    let query = &found.query;
    let document = Document {
        decisions: decisions.map_err(ExportError::Read)?,
        next: query.next().map(|cursor| cursor.to_string()),
        partial: !query.missing().is_empty(),
        missing: query.missing(),
        restricted: query.is_restricted(),
        unreadable: query.unreadable(),
    };
    serde_json::to_writer_pretty(&mut out, &document).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

/// Says on standard error what is not to be seen in the answer.
fn told(query: &Query) -> ExitCode {
    for Missing { replica, reason } in query.missing() {
        eprintln!("warning: what {replica} has decided is missing: {reason}");
    }
    if query.unreadable() > 0 {
        let count = query.unreadable();
        eprintln!("warning: {count} decisions are damaged, or of another version, and cannot be shown");
    }
    if query.is_restricted() {
        eprintln!("note: only namespaces are shown in which you may list databases");
    }
    if let Some(cursor) = query.next() {
        eprintln!("note: there are more; --limit or --all shows them, or go on with --cursor {cursor}");
    }
    if query.missing().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(PARTIAL)
    }
}
