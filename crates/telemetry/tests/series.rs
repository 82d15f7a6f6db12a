//! The series: all there from the start, and never more of them.

use std::collections::BTreeSet;
use std::time::Duration;

use telemetry::label::{
    BucketWork, CertificateTrouble, DecisionsResult, FenceLayer, HttpsCertificate, HttpsConnection, Label, MapRefusal,
    Orphan, Renewal, WebhookOutcome, WebhookShed,
};
use telemetry::{Action, ErrorType, Metrics, Outcome, Phase, Step, Verdict, WriteOutcome};
use workqueue::{Class, Key, Limits, Queue};

/// A line of the exposition without its value.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').expect("a value").0.to_owned())
        .collect()
}

/// The value of one series; all that are asked for here are whole numbers.
fn value(text: &str, series: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series))
        .unwrap_or_else(|| panic!("no {series}"));
    line.trim().parse().expect("a whole number")
}

#[test]
fn all_series_are_there_before_the_first_reconcile() {
    let text = Metrics::new("1.2.3").expect("metrics").scrape().expect("text");
    let ours = |prefix: &str| series(&text).iter().filter(|series| series.starts_with(prefix)).count();
    let histogram = 14 + 1 + 2; // bounds, infinity, sum and count
    assert_eq!(ours("database_operator_build_info{"), 1);
    assert_eq!(ours("database_operator_reconcile_steps_total{"), 5 * 4);
    assert_eq!(ours("database_operator_errors_total{"), 10 * 5);
    assert_eq!(ours("database_operator_reconciliation_total{"), 3);
    assert_eq!(ours("database_operator_reconciliation_duration_seconds"), 3 * histogram);
    assert_eq!(ours("database_operator_api_writes_total{"), 9 * 5);
    assert_eq!(ours("database_operator_phase{"), 6);
    assert_eq!(ours("database_operator_reconciles_broken_off_total{"), 2);
    assert_eq!(ours("rest_client_requests_total{"), 6 * 15);
    assert_eq!(ours("workqueue_"), 2 * 5 + 4 + (5 + 1) * histogram);
    assert_eq!(ours("database_operator_fleet_member_buckets{"), 2);
    assert_eq!(ours("database_operator_fleet_map_refused_total{"), 5);
    assert_eq!(ours("database_operator_fleet_lease_renewals_total{"), 3);
    assert_eq!(ours("database_operator_fleet_"), 2 + 5 + 3 + 7 + 3 + 2);
    assert_eq!(ours("database_operator_policy_decisions_total{"), 4 * 4);
    assert_eq!(
        ours("database_operator_policy_decision_duration_seconds"),
        4 * (10 + 1 + 2)
    );
    assert_eq!(ours("database_operator_policy_"), 16 + 52 + 2 + 9);
    assert_eq!(ours("database_operator_decision_log_"), 1 + 3);
    assert_eq!(ours("database_operator_webhook_answers_total{"), 10);
    assert_eq!(ours("database_operator_webhook_answer_duration_seconds"), 13 + 1 + 2);
    assert_eq!(ours("database_operator_webhook_shed_total{"), 3);
    assert_eq!(ours("database_operator_webhook_"), 10 + 16 + 3);
    assert_eq!(ours("database_operator_https_"), 3 + 1 + 2 + 3);
    assert_eq!(ours("database_operator_decision_queries_total{"), 7);
    assert_eq!(ours("database_operator_decision_query_duration_seconds"), 12 + 1 + 2);
    assert_eq!(ours("process_"), 7);
    assert_eq!(
        series(&text).len(),
        1 + 20 + 50 + 3 + 51 + 2 + 90 + 45 + 6 + 116 + 22 + 79 + 4 + 29 + 9 + 22 + 7,
        "the sum: {text}"
    );
    assert_eq!(
        value(
            &text,
            "database_operator_errors_total{error_type=\"transient\",operation=\"apply\"}"
        ),
        0
    );
    assert_eq!(value(&text, "database_operator_build_info{version=\"1.2.3\"}"), 1);
}

/// A key of a queue: namespace and name.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Name(String, String);

impl Key for Name {
    type Tenant = String;

    fn tenant(&self) -> &String {
        &self.0
    }

    fn group(&self) -> usize {
        0
    }
}

#[tokio::test]
async fn a_hundred_thousand_databases_add_no_series() {
    let metrics = Metrics::new("1.2.3").expect("metrics");
    let before = series(&metrics.scrape().expect("text"));
    let queue = Queue::new(Limits::default(), || 0, || 0, metrics.queue.clone());
    for database in 0..100_000 {
        let name = Name(format!("team-{}", database % 500), format!("orders-{database}"));
        queue.add(name, Class::Resync);
        let item = queue.get().await.expect("open");
        queue.retry(item.key().clone());
        item.done();
        let pick = |count: usize| database % count;
        metrics
            .steps
            .record(Step::ALL[pick(Step::ALL.len())], Outcome::ALL[pick(Outcome::ALL.len())]);
        metrics.errors.record(
            ErrorType::ALL[pick(ErrorType::ALL.len())],
            Step::ALL[pick(Step::ALL.len())],
        );
        metrics.reconciled(Verdict::ALL[pick(Verdict::ALL.len())], Duration::from_millis(7));
        metrics.writes.record(
            Action::ALL[pick(Action::ALL.len())],
            WriteOutcome::ALL[pick(WriteOutcome::ALL.len())],
        );
    }
    metrics
        .phases
        .count(|count| (0..100_000).for_each(|database| count(Phase::ALL[database % Phase::ALL.len()])));
    let text = metrics.scrape().expect("text");
    assert_eq!(series(&text), before);
    assert_eq!(value(&text, "workqueue_retries_total{name=\"database\"}"), 100_000);
    assert_eq!(
        value(&text, "workqueue_work_duration_seconds_count{name=\"database\"}"),
        100_000
    );
    let total: u64 = text
        .lines()
        .filter(|line| line.starts_with("database_operator_reconcile_steps_total{"))
        .map(|line| {
            line.rsplit_once(' ')
                .expect("a value")
                .1
                .parse::<u64>()
                .expect("a number")
        })
        .sum();
    assert_eq!(total, 100_000);
}

#[test]
fn each_pair_of_labels_counts_on_its_own_series() {
    let metrics = Metrics::new("1.2.3").expect("metrics");
    for (index, (action, outcome)) in Action::ALL
        .iter()
        .flat_map(|a| WriteOutcome::ALL.iter().map(move |o| (*a, *o)))
        .enumerate()
    {
        for _ in 0..=index {
            metrics.writes.record(action, outcome);
        }
    }
    let text = metrics.scrape().expect("text");
    for (index, (action, outcome)) in Action::ALL
        .iter()
        .flat_map(|a| WriteOutcome::ALL.iter().map(move |o| (*a, *o)))
        .enumerate()
    {
        let (action, outcome) = (action.label(), outcome.label());
        let name = format!("database_operator_api_writes_total{{action=\"{action}\",outcome=\"{outcome}\"}}");
        assert_eq!(value(&text, &name), index as u64 + 1, "{name}");
    }
}

#[test]
fn a_member_of_the_fleet_counts_on_its_own_series() {
    let metrics = Metrics::new("1.2.3").expect("metrics");
    let fleet = &metrics.fleet;
    let work = [BucketWork::Serving, BucketWork::Draining, BucketWork::Serving];
    fleet.buckets.count(|count| work.into_iter().for_each(count));
    fleet.fence.count(|count| count(FenceLayer::Policies));
    fleet.orphans.count(|count| count(Orphan::Database));
    fleet.leader.set(1);
    fleet.term.set(7);
    fleet.map_sequence.set(1_767_300_000);
    fleet.lease_seconds.set(4.0);
    fleet.takeovers.inc();
    fleet.handovers.inc_by(2);
    fleet.self_fences.inc_by(3);
    for reason in MapRefusal::ALL {
        fleet.map_refused.record(*reason);
    }
    fleet.lease_renewals.record(Renewal::Conflict);
    let text = metrics.scrape().expect("text");
    for (name, expected) in [
        ("member_buckets{state=\"serving\"}", 2),
        ("member_buckets{state=\"draining\"}", 1),
        ("fence{layer=\"policies\"}", 1),
        ("fence{layer=\"self_fence\"}", 0),
        ("orphans{kind=\"database\"}", 1),
        ("orphans{kind=\"bucket\"}", 0),
        ("leader", 1),
        ("term", 7),
        ("map_sequence", 1_767_300_000),
        ("lease_seconds", 4),
        ("takeovers_total", 1),
        ("handovers_total", 2),
        ("self_fences_total", 3),
        ("map_refused_total{reason=\"edited\"}", 1),
        ("map_refused_total{reason=\"malformed\"}", 1),
        ("lease_renewals_total{outcome=\"conflict\"}", 1),
        ("lease_renewals_total{outcome=\"success\"}", 0),
    ] {
        assert_eq!(
            value(&text, &format!("database_operator_fleet_{name} ")),
            expected,
            "{name}"
        );
    }
}

#[test]
fn the_webhook_and_what_serves_it_count_on_their_own_series() {
    let metrics = Metrics::new("1.2.3").expect("metrics");
    for (count, outcome) in WebhookOutcome::ALL.iter().enumerate() {
        (0..count).for_each(|_| metrics.webhook.answered(*outcome, Duration::from_millis(3)));
    }
    metrics.webhook.shed.record(WebhookShed::Room);
    for (count, outcome) in HttpsConnection::ALL.iter().enumerate() {
        metrics.https.connections.set(*outcome, count as u64 + 1);
    }
    metrics.https.set_open(7);
    metrics.https.set_end(HttpsCertificate::Shown, Some(1_795_000_000));
    metrics.https.set_end(HttpsCertificate::Authority, None);
    metrics
        .https
        .trouble
        .count(|count| count(CertificateTrouble::NotAccepted));
    let text = metrics.scrape().expect("text");
    for (count, outcome) in WebhookOutcome::ALL.iter().enumerate() {
        let name = format!(
            "database_operator_webhook_answers_total{{outcome=\"{}\"}}",
            outcome.label()
        );
        assert_eq!(value(&text, &name), count as u64, "{name}");
    }
    for (name, expected) in [
        ("webhook_answer_duration_seconds_bucket{le=\"0.0025\"}", 0),
        ("webhook_answer_duration_seconds_bucket{le=\"0.005\"}", 45),
        ("webhook_shed_total{reason=\"room\"}", 1),
        ("webhook_shed_total{reason=\"policies\"}", 0),
        ("https_connections_total{outcome=\"accepted\"}", 1),
        ("https_connections_total{outcome=\"refused\"}", 2),
        ("https_connections_total{outcome=\"no_handshake\"}", 3),
        ("https_open_connections", 7),
        (
            "https_certificate_end_timestamp_seconds{certificate=\"shown\"}",
            1_795_000_000,
        ),
        ("https_certificate_end_timestamp_seconds{certificate=\"authority\"}", 0),
        ("https_certificate_trouble{trouble=\"not_accepted\"}", 1),
        ("https_certificate_trouble{trouble=\"missing\"}", 0),
    ] {
        assert_eq!(value(&text, &format!("database_operator_{name} ")), expected, "{name}");
    }
}

#[test]
fn requests_for_decisions_count_on_their_own_series() {
    let metrics = Metrics::new("1.2.3").expect("metrics");
    for (count, result) in DecisionsResult::ALL.iter().enumerate() {
        (0..=count).for_each(|_| metrics.queries.answered(*result, Duration::from_millis(3)));
    }
    let text = metrics.scrape().expect("text");
    for (count, result) in DecisionsResult::ALL.iter().enumerate() {
        let name = format!(
            "database_operator_decision_queries_total{{result=\"{}\"}}",
            result.label()
        );
        assert_eq!(value(&text, &name), count as u64 + 1, "{name}");
    }
    assert_eq!(
        value(&text, "database_operator_decision_query_duration_seconds_count"),
        28
    );
}

#[test]
fn gauges_are_set_at_the_moment_of_the_scrape() {
    let metrics = Metrics::new("1.2.3").expect("metrics");
    let queue = Queue::new(Limits::default(), || 0, || 0, metrics.queue.clone());
    metrics.before_scrape({
        let queue = queue.clone();
        move |metrics| {
            metrics.queue.set(queue.counts(), queue.in_work());
            metrics
                .phases
                .count(|count| [Phase::Ready, Phase::Failed, Phase::Ready].into_iter().for_each(count));
        }
    });
    queue.add("shop/orders", Class::UserChange);
    queue.add("shop/cart", Class::UserChange);
    let text = metrics.scrape().expect("text");
    assert_eq!(
        value(&text, "workqueue_depth{name=\"database\",priority=\"user_change\"}"),
        2
    );
    assert_eq!(
        value(
            &text,
            "workqueue_adds_total{name=\"database\",priority=\"user_change\"}"
        ),
        2
    );
    assert_eq!(value(&text, "database_operator_phase{phase=\"Ready\"}"), 2);
    assert_eq!(value(&text, "database_operator_phase{phase=\"Failed\"}"), 1);
    assert_eq!(value(&text, "database_operator_phase{phase=\"Pending\"}"), 0);
}
