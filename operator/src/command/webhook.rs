//! `database-operator webhook`.

use admission::registration::FailurePolicy;
use clap::{Args, ValueEnum};

pub(super) const EXAMPLES: &str = "\
The webhook is served by `run` with --policies and --https-address. Its certificates are the operator's own, which writes their
authority into the configuration, unless cert-manager makes them (--inject-ca-from here, --certificates there).

Examples:
  database-operator webhook | kubectl apply --server-side -f -
      Whatever policies refuse is refused when it is declared; while no replica answers, nothing can be declared, and what
      runs goes on
  database-operator webhook --failure-policy ignore | kubectl apply --server-side -f -
      While no replica answers, everything can be declared; what policies refuse is then not accepted by the reconcile
  database-operator webhook --inject-ca-from databases/webhook | kubectl apply --server-side -f -
      With certificates of cert-manager, of the Certificate webhook in the namespace databases";

/// Arguments of `webhook`.
#[derive(Debug, Args)]
pub(crate) struct WebhookArguments {
    /// Namespace of the operator
    #[arg(long, value_name = "NAME", default_value = "database-operator", value_parser = super::namespace)]
    pub operator_namespace: String,

    /// What the API server does while no replica answers
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    pub failure_policy: OnFailure,

    /// cert-manager's Certificate, if that makes the certificates
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = certificate)]
    pub inject_ca_from: Option<String>,

    /// Port of --https-address
    #[arg(long, value_name = "PORT", default_value_t = 8443, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
}

/// What the API server does while no replica answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFailure {
    /// It refuses
    Fail,
    /// It lets pass
    Ignore,
}

impl From<OnFailure> for FailurePolicy {
    fn from(on_failure: OnFailure) -> Self {
        match on_failure {
            OnFailure::Fail => Self::Fail,
            OnFailure::Ignore => Self::Ignore,
        }
    }
}

fn certificate(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((namespace, name)) if crate::names::is_label(namespace) && crate::names::is_subdomain(name) => {
            Ok(text.to_owned())
        }
        _ => Err("expected NAMESPACE/NAME, for example databases/webhook".to_owned()),
    }
}
