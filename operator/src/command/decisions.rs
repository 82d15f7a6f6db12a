//! `database-operator decisions`: what can be asked about decisions.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use decisions::parameters;
use jiff::{SpanRelativeTo, Timestamp, ToSpan as _};
use policy::log::{Cursor, Filter, Operation, Source, Verdict};
use uuid::Uuid;

use super::fleet::Cluster;
use super::namespace;

pub(super) const EXAMPLES: &str = "\
Examples:
  database-operator decisions query --namespace shop --verdict deny
      What was refused in a namespace, and why
  database-operator decisions query --all -o jsonl > decisions.jsonl
      Everything that you may see, for a program

Exit codes: 0 done, 2 error, 3 some replicas did not answer.";

const QUERY_EXAMPLES: &str = "\
Each replica of the operator keeps the decisions that it made itself. All of them are asked, with
your own token, and their answers become one, newest first. You see the decisions of namespaces in
which you may list databases.intent.example.com, and all if you may do so in the whole cluster.
All filters that are given must hold.

Replicas are taken from the EndpointSlices of the Service database-operator, and known by the
caBundle of the ValidatingWebhookConfiguration database-operator: run this in a pod, or forward a
port of each replica and name them with --server and --ca-file. The token is that of the kubeconfig
or of the pod; a client certificate is of no use here (see --token-file).

Examples:
  database-operator decisions query --namespace shop --verdict deny --from 24h
      What was refused in a namespace since yesterday
  database-operator decisions query --user alice --name orders -o json
      All that is known of what somebody wanted with a Database
  database-operator decisions query --id 0190163d-8694-739b-aea5-966c26f8ad91 -o json
      The decision that the audit log of the API server names, or the operator's log
  database-operator decisions query --all -o csv > decisions.csv
      Everything, for a spreadsheet; jsonl holds all that is known
  kubectl create token auditor -n audit > token
  database-operator decisions query --server https://127.0.0.1:8443 --token-file token
      One replica, through a forwarded port, in the name of a service account

Exit codes: 0 done, 2 error, 3 some replicas did not answer: what came is printed, they are named.";

/// What to ask.
#[derive(Debug, Subcommand)]
pub(crate) enum DecisionsCommand {
    /// Show decisions of policy, of all replicas
    #[command(after_help = QUERY_EXAMPLES)]
    Query(Box<QueryArguments>),
}

/// Arguments of `decisions query`.
#[derive(Debug, Args)]
pub(crate) struct QueryArguments {
    /// Which decisions
    #[command(flatten)]
    pub wanted: Wanted,

    /// How many at most, newest first
    #[arg(long, value_name = "N", default_value = "100", conflicts_with = "all")]
    pub limit: NonZeroUsize,

    /// As many as there are
    #[arg(long)]
    pub all: bool,

    /// How they are printed
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: DecisionsOutput,

    /// A replica, https://ADDRESS:PORT; may be repeated. Default: all of the Service database-operator
    #[arg(long, value_name = "URL")]
    pub server: Vec<String>,

    /// Certificates (PEM) by which replicas are known. Default: those by which the API server knows the webhook
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// File with a token in whose name is asked. Default: that of the kubeconfig, or of the pod
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Of which operator
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Which decisions are wanted. All of it must hold.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// What this user wanted
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// About Databases of this namespace
    #[arg(short, long, value_name = "NAME", value_parser = namespace)]
    pub namespace: Option<String>,

    /// About Databases of this name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// With this outcome: allow, warn, deny or error
    #[arg(long, value_name = "VERDICT", value_parser = one_of::<Verdict>("verdict"))]
    pub verdict: Option<Verdict>,

    /// Where this rule was broken
    #[arg(long, value_name = "ID")]
    pub rule: Option<String>,

    /// About this: CREATE, UPDATE or DELETE
    #[arg(long, value_name = "OPERATION", value_parser = one_of::<Operation>("operation"))]
    pub operation: Option<Operation>,

    /// Asked for by this part: admission, reconcile, audit or cli
    #[arg(long, value_name = "SOURCE", value_parser = one_of::<Source>("source"))]
    pub source: Option<Source>,

    /// Where a bundle of this revision took part
    #[arg(long, value_name = "REVISION")]
    pub bundle: Option<String>,

    /// Not older than this: 2026-11-28T12:00:00Z, or 90m, 24h, 7d before now
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub from: Option<When>,

    /// Older than this
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub to: Option<When>,

    /// This one
    #[arg(long, value_name = "UUID")]
    pub id: Option<Uuid>,

    /// Older than where an earlier answer ended, which was told then
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<Cursor>,
}

impl Wanted {
    /// As a filter, at this time.
    pub(crate) fn filter(self, now: Timestamp) -> Filter {
        Filter {
            decision_id: self.id,
            user: self.user,
            namespace: self.namespace,
            allowed: None,
            name: self.name,
            verdict: self.verdict,
            rule: self.rule,
            operation: self.operation,
            source: self.source,
            bundle: self.bundle,
            from: self.from.map(|when| when.at(now)),
            to: self.to.map(|when| when.at(now)),
            limit: 0,
            cursor: self.cursor,
        }
    }
}

/// A time, or how long before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// A time.
    At(Timestamp),
    /// So many seconds ago.
    Ago(i64),
}

impl When {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        let span: Option<jiff::Span> = text.parse().ok();
        let duration = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
        match duration.map(|duration| duration.as_secs()) {
            Some(seconds @ 0..=MOST_SECONDS) => Ok(Self::Ago(seconds)),
            _ => Err("expected a time as in 2026-11-28T12:00:00Z, or how long before now, as in 24h or 7d".to_owned()),
        }
    }

    fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(seconds) => now.checked_sub(seconds.seconds()).unwrap_or(Timestamp::MIN),
        }
    }
}

/// A hundred years.
const MOST_SECONDS: i64 = 100 * 366 * 86_400;

/// How decisions are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DecisionsOutput {
    /// For people, a line each
    Table,
    /// One document, with who did not answer
    Json,
    /// A line of JSON each, as they come
    Jsonl,
    /// For spreadsheets
    Csv,
    /// A line of JSON each, as OPA's decision log has them
    Opa,
}

fn one_of<T>(name: &'static str) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: serde::de::DeserializeOwned + Clone + Send + Sync + 'static,
{
    move |text| {
        parameters::word(text).ok_or_else(|| {
            let (_, expected) = parameters::ALL
                .iter()
                .find(|(known, _)| *known == name)
                .unwrap_or(&("", ""));
            format!("expected {expected}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_before_now() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().expect("a time");
        for (text, expected) in [
            ("2026-11-01T00:00:00+01:00", "2026-10-31T23:00:00Z"),
            ("90m", "2026-11-28T10:30:00Z"),
            ("24h", "2026-11-27T12:00:00Z"),
            ("7d", "2026-11-21T12:00:00Z"),
            ("1d 2h", "2026-11-27T10:00:00Z"),
            ("0s", "2026-11-28T12:00:00Z"),
        ] {
            let expected: Timestamp = expected.parse().expect("a time");
            assert_eq!(When::parse(text).map(|when| when.at(now)), Ok(expected), "{text}");
        }
        for text in ["", "yesterday", "7", "-7d", "2026-11-28", "1mo", "9999y"] {
            assert!(When::parse(text).is_err(), "{text}");
        }
    }
}
