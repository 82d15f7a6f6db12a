use prometheus::{IntGauge, Opts, Registry};

use super::series::{Gauges, Tally};
use crate::label::{CertificateTrouble, HttpsCertificate, HttpsConnection};

/// The series about the HTTPS server of webhook and decisions; clones share them. To be set before each scrape. All are 0
/// where there is no such server.
#[derive(Clone)]
pub struct HttpsMetrics {
    /// Refused ones are worth an alert: somebody holds all connections that there may be.
    pub connections: Tally<HttpsConnection>,
    open: IntGauge,
    ends: Gauges<HttpsCertificate>,
    /// Worth an alert if it stays: with the failure policy `Fail` nothing can be declared, or soon.
    pub trouble: Gauges<CertificateTrouble>,
}

impl HttpsMetrics {
    /// Registers all series at 0.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let open = IntGauge::with_opts(Opts::new(
            "database_operator_https_open_connections",
            "Connections to the HTTPS server that are open.",
        ))?;
        registry.register(Box::new(open.clone()))?;
        Ok(Self {
            connections: Tally::register(
                registry,
                "database_operator_https_connections_total",
                "Connections to the HTTPS server, by what became of them.",
                "outcome",
            )?,
            open,
            ends: Gauges::register(
                registry,
                "database_operator_https_certificate_end_timestamp_seconds",
                "When the certificate that is shown ends, and the operator's own authority, in seconds since 1970; 0 if \
                 there is none.",
                "certificate",
            )?,
            trouble: Gauges::register(
                registry,
                "database_operator_https_certificate_trouble",
                "1 for each thing that is wrong with the certificates of the HTTPS server; it is tried again.",
                "trouble",
            )?,
        })
    }

    /// So many connections are open.
    pub fn set_open(&self, count: usize) {
        self.open.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A certificate ends then, in seconds since 1970; `None` if there is none.
    pub fn set_end(&self, certificate: HttpsCertificate, ends: Option<i64>) {
        let ends = ends.and_then(|ends| usize::try_from(ends).ok());
        self.ends.set(certificate, ends.unwrap_or_default());
    }
}
