//! What the HTTPS server, the webhook and requests for decisions count, as series.

use std::sync::Arc;
use std::time::Duration;

use admission::certificates::Standing;
use admission::server::Connections;
use admission::webhook::{Hears, Outcome, Shed};
use decisions::server;
use jiff::Timestamp;
use telemetry::label::{
    CertificateTrouble, DecisionsResult, HttpsCertificate, HttpsConnection, Label as _, WebhookOutcome, WebhookShed,
};
use telemetry::{HttpsMetrics, Metrics, QueryMetrics, WebhookMetrics};
use tokio::sync::watch;

/// Counts what the webhook answers.
pub(super) struct Answers(pub(super) WebhookMetrics);

impl Hears for Answers {
    fn answered(&self, outcome: Outcome, after: Duration) {
        self.0.answered(label(outcome), after);
    }

    fn shed(&self, reason: Shed) {
        self.0.shed.record(match reason {
            Shed::Requests => WebhookShed::Requests,
            Shed::Policies => WebhookShed::Policies,
            Shed::Room => WebhookShed::Room,
        });
    }
}

fn label(outcome: Outcome) -> WebhookOutcome {
    match outcome {
        Outcome::Allowed => WebhookOutcome::Allowed,
        Outcome::Warned => WebhookOutcome::Warned,
        Outcome::Denied => WebhookOutcome::Denied,
        Outcome::Error => WebhookOutcome::Error,
        Outcome::Passed => WebhookOutcome::Passed,
        Outcome::Busy => WebhookOutcome::Busy,
        Outcome::Late => WebhookOutcome::Late,
        Outcome::Odd => WebhookOutcome::Odd,
        Outcome::TooLarge => WebhookOutcome::TooLarge,
        Outcome::Gone => WebhookOutcome::Gone,
    }
}

/// Counts requests for decisions.
pub(super) fn queries(metrics: QueryMetrics) -> server::Hears {
    Arc::new(move |outcome, after| {
        let result = match outcome {
            server::Outcome::Ok => DecisionsResult::Ok,
            server::Outcome::Invalid => DecisionsResult::Invalid,
            server::Outcome::Unauthorised => DecisionsResult::Unauthorised,
            server::Outcome::Denied => DecisionsResult::Denied,
            server::Outcome::Shed => DecisionsResult::Shed,
            server::Outcome::Error => DecisionsResult::Error,
            server::Outcome::Gone => DecisionsResult::Gone,
        };
        metrics.answered(result, after);
    })
}

/// Counts connections, and tells of certificates.
pub(super) fn at_scrape(metrics: &Metrics, connections: Arc<Connections>, standing: watch::Receiver<Standing>) {
    metrics.before_scrape(move |metrics| {
        set_connections(&metrics.https, &connections);
        set_certificates(&metrics.https, &standing.borrow());
    });
}

fn set_connections(https: &HttpsMetrics, connections: &Connections) {
    https.set_open(connections.open());
    for outcome in HttpsConnection::ALL {
        let count = match outcome {
            HttpsConnection::Accepted => connections.accepted(),
            HttpsConnection::Refused => connections.cut(),
            HttpsConnection::NoHandshake => connections.failed(),
        };
        https.connections.set(*outcome, count);
    }
}

fn set_certificates(https: &HttpsMetrics, standing: &Standing) {
    // No `..` here: what else is told of certificates does not compile until somebody decides whether it is exported.
    let Standing {
        leaf_ends,
        authority_ends,
        accepted,
        trouble,
    } = standing;
    https.set_end(HttpsCertificate::Shown, leaf_ends.map(Timestamp::as_second));
    https.set_end(HttpsCertificate::Authority, authority_ends.map(Timestamp::as_second));
    https.trouble.count(|count| {
        for (holds, kind) in [
            (leaf_ends.is_none(), CertificateTrouble::Missing),
            (!accepted, CertificateTrouble::NotAccepted),
            (trouble.is_some(), CertificateTrouble::Failing),
        ] {
            if holds {
                count(kind);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the exposition that begin so and are not 0, without that beginning.
    fn shown(metrics: &Metrics, beginning: &str) -> Vec<String> {
        let text = metrics.scrape().expect("text");
        let lines = text.lines().filter_map(|line| line.strip_prefix(beginning));
        lines
            .filter(|line| !line.ends_with(" 0"))
            .map(ToOwned::to_owned)
            .collect()
    }

    #[test]
    fn each_outcome_and_each_reason_counts_under_its_own_name() {
        let metrics = Metrics::new("1.2.3").expect("metrics");
        let answers = Answers(metrics.webhook.clone());
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| answers.answered(outcome, Duration::ZERO));
        }
        for (index, reason) in [Shed::Requests, Shed::Policies, Shed::Room].into_iter().enumerate() {
            (0..=index).for_each(|_| answers.shed(reason));
        }
        let mut counted = shown(&metrics, "database_operator_webhook_answers_total");
        counted.sort_by_key(|line| line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()));
        let names = [
            "allowed",
            "warned",
            "denied",
            "error",
            "passed",
            "busy",
            "late",
            "odd",
            "too_large",
            "gone",
        ];
        let expected = names
            .iter()
            .zip(1..)
            .map(|(name, count)| format!("{{outcome=\"{name}\"}} {count}"));
        assert_eq!(counted, expected.collect::<Vec<_>>());
        assert_eq!(
            shown(&metrics, "database_operator_webhook_shed_total"),
            [
                "{reason=\"policies\"} 2",
                "{reason=\"requests\"} 1",
                "{reason=\"room\"} 3",
            ]
        );
    }

    #[test]
    fn each_request_for_decisions_counts_under_its_own_name() {
        let metrics = Metrics::new("1.2.3").expect("metrics");
        let hears = queries(metrics.queries.clone());
        for (outcome, name) in [
            (server::Outcome::Ok, "ok"),
            (server::Outcome::Invalid, "invalid"),
            (server::Outcome::Unauthorised, "unauthorised"),
            (server::Outcome::Denied, "denied"),
            (server::Outcome::Shed, "shed"),
            (server::Outcome::Error, "error"),
            (server::Outcome::Gone, "gone"),
        ] {
            let before = shown(&metrics, "database_operator_decision_queries_total");
            hears(outcome, Duration::ZERO);
            let after = shown(&metrics, "database_operator_decision_queries_total");
            let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
            assert_eq!(new, [&format!("{{result=\"{name}\"}} 1")]);
        }
    }

    #[test]
    fn what_is_wrong_with_certificates_is_told_and_nothing_when_all_is_well() {
        let metrics = Metrics::new("1.2.3").expect("metrics");
        let (stands, standing) = watch::channel(Standing::default());
        assert!(
            shown(&metrics, "database_operator_https_").is_empty(),
            "nothing is served"
        );
        at_scrape(&metrics, Arc::default(), standing);
        let trouble = "database_operator_https_certificate_trouble";
        assert_eq!(
            shown(&metrics, trouble),
            ["{trouble=\"missing\"} 1", "{trouble=\"not_accepted\"} 1"]
        );
        let ends = |second| Some(Timestamp::from_second(second).expect("a time"));
        let well = Standing {
            leaf_ends: ends(1_795_000_000),
            authority_ends: ends(1_800_000_000),
            accepted: true,
            trouble: None,
        };
        stands.send_replace(Standing {
            trouble: Some("it cannot be written".to_owned()),
            ..well.clone()
        });
        assert_eq!(shown(&metrics, trouble), ["{trouble=\"failing\"} 1"]);
        stands.send_replace(well);
        assert!(shown(&metrics, trouble).is_empty());
        assert_eq!(
            shown(&metrics, "database_operator_https_certificate_end_timestamp_seconds"),
            [
                "{certificate=\"authority\"} 1800000000",
                "{certificate=\"shown\"} 1795000000",
            ]
        );
    }
}
