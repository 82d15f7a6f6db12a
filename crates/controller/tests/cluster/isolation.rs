//! Databases whose reconciles fail by a fault of the operator's own: they harm no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::Client;
use kube::client::Body;
use planner::child::Kind;
use serde_json::Value;
use telemetry::label::{BrokenOff, Label as _};

use crate::support::{bed, condition, redis};

/// How many there are, with the two that fail; `ISOLATION_DATABASES` says otherwise.
const DATABASES: usize = 60;
/// Few, so that one that is lost is missed.
const WORKERS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_panics_and_one_that_hangs_harm_no_other() {
    let Some(bed) = bed("isolation").await else {
        return;
    };
    let count = std::env::var("ISOLATION_DATABASES").map_or(DATABASES, |text| text.parse().expect("a number"));
    let sick = Arc::new(AtomicBool::new(true));
    let is_sick = Arc::clone(&sick);
    // Stands for defects: what the operator sends for one Database kills the sender, and is never answered for another.
    let through = Client::try_from(bed.operator_config()).expect("a client for the operator");
    let client = tower::service_fn(move |request: http::Request<Body>| {
        let (is_sick, through) = (Arc::clone(&is_sick), through.clone());
        async move {
            let path = request.uri().path();
            let of = |name: &str| path.contains("/configmaps/") && path.ends_with(name);
            if is_sick.load(Ordering::SeqCst) {
                assert!(!of("db-0-config"), "a defect");
                if of("db-1-config") {
                    std::future::pending::<()>().await;
                }
            }
            through.send(request).await
        }
    });
    let operator = bed.operator_as(Client::new(client, "default"), |settings| {
        settings.workers = WORKERS;
        settings.deadline = DEADLINE;
    });
    for number in 0..count {
        bed.declare(&format!("db-{number}"), redis()).await;
    }
    for number in 2..count {
        bed.condition(&format!("db-{number}"), "Applied", "True").await;
    }
    for (name, reason) in [("db-0", "ReconcilePanicked"), ("db-1", "ReconcileTimedOut")] {
        let said = |database: &Value| {
            let stalled = condition(database, "Stalled");
            stalled["status"] == "True" && stalled["reason"] == reason
        };
        bed.database_when(name, &format!("{name} says {reason}"), said).await;
    }
    let text = operator.metrics.scrape().expect("text");
    for reason in BrokenOff::ALL {
        let series = format!(
            "database_operator_reconciles_broken_off_total{{reason=\"{}\"}} ",
            reason.label()
        );
        let count: u64 = text
            .lines()
            .find_map(|line| line.strip_prefix(&series))
            .and_then(|count| count.parse().ok())
            .expect("it is counted");
        assert!(count > 0, "{series}");
    }
    // Once the defects are gone, each is as if nothing had been; and no worker was lost.
    sick.store(false, Ordering::SeqCst);
    for name in ["db-0", "db-1"] {
        bed.condition(name, "Applied", "True").await;
        bed.condition(name, "Stalled", "False").await;
        assert!(bed.child(Kind::ConfigMap, &format!("{name}-config")).await.is_some());
    }
    assert_eq!(operator.faults(), Vec::<String>::new(), "no worker died");
}
