//! Faults that must not spread: reconciles that fail by a defect of the operator's own, and an API server that has too
//! much to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fleet::throttle::Throttle;
use kube::Client;
use kube::client::Body;
use planner::child::Kind;
use serde_json::Value;
use telemetry::label::{BrokenOff, Label as _};
use tower::{BoxError, ServiceBuilder};

use crate::support::{Operator, bed, condition, redis};

/// How many there are, with the two that fail; `ISOLATION_DATABASES` says otherwise.
const DATABASES: usize = 60;
/// Few, so that one that is lost is missed.
const WORKERS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(5);
/// For so long the API server has too much to do; `THROTTLED_SECONDS` says otherwise.
const THROTTLED_FOR: u64 = 10;
/// So long after it, all is as if it had never been.
const RECOVERED_AFTER: Duration = Duration::from_secs(10);

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

/// How many reconciles ended with an error, of any kind.
fn errors(operator: &Operator) -> u64 {
    let text = operator.metrics.scrape().expect("text");
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("database_operator_errors_total{"));
    let counts = lines.filter_map(|line| line.rsplit_once(' '));
    counts.map(|(_, count)| count.parse::<u64>().expect("a number")).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_has_too_much_to_do_costs_time_and_nothing_else() {
    let Some(bed) = bed("throttled").await else {
        return;
    };
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    let throttled = Duration::from_secs(number("THROTTLED_SECONDS").unwrap_or(THROTTLED_FOR));
    let busy = Arc::new(AtomicBool::new(true));
    let (is_busy, asked, refused) = (busy.clone(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let count_refused = refused.clone();
    let through = Client::try_from(bed.operator_config()).expect("a client for the operator");
    // Every second request is refused as the API server does it, instead of being sent.
    let server = tower::service_fn(move |request: http::Request<Body>| {
        let refuse = is_busy.load(Ordering::SeqCst) && asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        let (through, refused) = (through.clone(), count_refused.clone());
        async move {
            if !refuse {
                return through.send(request).await.map_err(BoxError::from);
            }
            refused.fetch_add(1, Ordering::SeqCst);
            let status = serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "TooManyRequests", "code": 429,
                "message": "too many requests, please try again later", "details": {"retryAfterSeconds": 1},
            });
            let answer = http::Response::builder().status(429).header("retry-after", "1");
            Ok(answer.body(Body::from(status.to_string().into_bytes()))?)
        }
    });
    let service = ServiceBuilder::new().layer(Throttle::default()).service(server);
    let operator = bed.operator_as(Client::new(service, "default"), |_| {});
    let began = Instant::now();
    let mut declared = 0;
    while began.elapsed() < throttled {
        bed.declare(&format!("db-{declared}"), redis()).await;
        declared += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    busy.store(false, Ordering::SeqCst);
    let over = Instant::now();
    for number in 0..declared {
        bed.condition(&format!("db-{number}"), "Applied", "True").await;
    }
    println!(
        "{declared} Databases declared within {throttled:?}, {} requests refused; all applied {:.1} s later",
        refused.load(Ordering::SeqCst),
        over.elapsed().as_secs_f64()
    );
    assert!(refused.load(Ordering::SeqCst) > 5, "nothing is shown");
    assert!(over.elapsed() < RECOVERED_AFTER, "after {:?}", over.elapsed());
    assert_eq!(
        errors(&operator),
        0,
        "no reconcile failed, so no status told of an error"
    );
}
