//! Records to test with.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use policy::log::{
    Action, BundleRevision, Log, Masked, Metrics, Operation, Options, Record, Resource, Retention, Severity, Source,
    User, Verdict, Violation, decision_id, mask,
};

/// 2026-11-28, about.
pub(crate) const BEGIN_NS: i128 = 1_795_000_000_000_000_000;

pub(crate) const FLUSH: Duration = Duration::from_mins(1);

/// A record that differs from all others with another number.
pub(crate) fn record(number: u64) -> Record {
    record_at(number, BEGIN_NS + i128::from(number) * 1_000_000)
}

pub(crate) fn record_at(number: u64, time_ns: i128) -> Record {
    let timestamp = Timestamp::from_nanosecond(time_ns).unwrap();
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Record {
        decision_id: decision_id(timestamp, random),
        timestamp,
        replica: "replica-a".to_owned(),
        source: Source::Admission,
        request_uid: Some(format!("request-{number}")),
        operation: Some(Operation::Create),
        dry_run: false,
        user: Some(User {
            name: format!("user-{}", number % 7),
            uid: None,
            groups: vec!["staff".to_owned()],
        }),
        resource: Resource {
            group: "intent.example.com".to_owned(),
            version: "v1".to_owned(),
            kind: "Database".to_owned(),
            namespace: Some(format!("namespace-{}", number % 5)),
            name: Some(format!("database-{}", number % 11)),
            uid: None,
            generation: Some(1),
        },
        verdict: Verdict::Allow,
        error: None,
        violations: vec![],
        warnings: vec![],
        exceptions: vec![],
        bundles: BTreeMap::from([(
            "main".to_owned(),
            BundleRevision {
                revision: "r1".to_owned(),
                digest: String::new(),
            },
        )]),
        input_digest: None,
        input: None,
        erased: vec![],
        masked: vec![],
        metrics: Metrics {
            eval_ns: 2,
            total_ns: 3,
        },
        trace_id: None,
        previous: None,
    }
}

pub(crate) fn masked(number: u64) -> Masked {
    mask(record(number))
}

pub(crate) fn violation(id: &str) -> Violation {
    Violation {
        id: id.to_owned(),
        level: "global".to_owned(),
        severity: Severity::High,
        action: Action::Deny,
        path: "spec.resources.requests.cpu".to_owned(),
        message: "16 is more than 8".to_owned(),
        measure: Some(16),
    }
}

/// Options without retention, in a folder.
pub(crate) fn options(folder: &Path) -> Options {
    Options {
        retention: Retention::default(),
        batch_wait: Duration::from_millis(2),
        backoff_first: Duration::from_millis(20),
        backoff_max: Duration::from_millis(100),
        retention_every: Duration::from_millis(50),
        ..Options::new(folder.join("decisions.db"))
    }
}

/// A log whose store is open.
pub(crate) fn started(folder: &Path) -> Log {
    let log = Log::start(options(folder)).unwrap();
    until("the store is open", || log.reader().head().is_ok());
    log
}

/// Waits for something to become true.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("did not happen: {what}");
}
