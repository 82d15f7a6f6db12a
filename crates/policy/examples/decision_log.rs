//! Prints what the log costs: masking, `record`, sustained throughput, size, and every filter at the end, with the plan.
//!
//! `cargo run --release -p policy --example decision_log -- [RECORDS] [FOLDER]`: 1,000,000 records in a temporary folder if not given.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use policy::log::{
    Action, BundleRevision, DropReason, Filter, Log, Metrics, Operation, Options, Record, Resource, Retention,
    Severity, Source, User, Verdict, Violation, decision_id, mask,
};
use serde_json::{Value, json};

const DEPLOYER: &str = "system:serviceaccount:delivery:deployer";

const BEGIN_NS: i128 = 1_795_000_000_000_000_000;

/// One record each 100 microseconds: 10,000 in a second.
const STEP_NS: i128 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let records: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let folder = arguments
        .next()
        .map_or_else(|| std::env::temp_dir().join("decision-log-figures"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("decisions.db");
    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(format!("{}{suffix}", path.display())));
    }
    callers(200_000.min(records));
    write(&path, records)?;
    ask(&path, records)?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Pseudo-random, the same in every run.
fn pick(number: u64, salt: u64, of: u64) -> u64 {
    let mixed = (number.wrapping_mul(31) ^ salt << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) % of
}

fn sample(number: u64) -> Record {
    let timestamp = Timestamp::from_nanosecond(BEGIN_NS + i128::from(number) * STEP_NS).unwrap_or_default();
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let namespace = format!("namespace-{}", pick(number, 1, 1000));
    let name = format!("database-{}", pick(number, 2, 10_000));
    let (verdict, rules) = verdict(number);
    // Each revision serves for a tenth of the time.
    let revision = format!("revision-{}", number / 100_000);
    Record {
        decision_id: decision_id(timestamp, random),
        timestamp,
        replica: "database-operator-0".to_owned(),
        source: source(number),
        request_uid: Some(format!("6a2f41a3-c54c-4e11-9f5b-{number:012x}")),
        operation: Some(if pick(number, 8, 4) == 0 {
            Operation::Create
        } else {
            Operation::Update
        }),
        dry_run: false,
        user: Some(User {
            name: user(number),
            uid: None,
            groups: vec!["system:authenticated".to_owned()],
        }),
        resource: Resource {
            group: "intent.example.com".to_owned(),
            version: "v1".to_owned(),
            kind: "Database".to_owned(),
            namespace: Some(namespace.clone()),
            name: Some(name.clone()),
            uid: Some(format!("0b1c41a3-c54c-4e11-9f5b-{:012x}", pick(number, 2, 10_000))),
            generation: Some(3),
        },
        verdict,
        error: None,
        violations: (0..rules).map(|rule| violation(pick(number, 9 + rule, 40))).collect(),
        warnings: vec![],
        exceptions: vec![],
        bundles: BTreeMap::from([(
            "main".to_owned(),
            BundleRevision {
                revision,
                digest: "0123456789abcdef".to_owned(),
            },
        )]),
        input_digest: None,
        input: Some(input(&namespace, &name, number)),
        erased: vec![],
        masked: vec![],
        metrics: Metrics {
            eval_ns: 60_000,
            total_ns: 100_000 + number % 1000,
        },
        trace_id: None,
        previous: None,
    }
}

/// A tenth is denied, one in ten thousand fails; who is denied or warned breaks one to three rules.
fn verdict(number: u64) -> (Verdict, u64) {
    let rules = 1 + pick(number, 4, 3);
    match pick(number, 3, 10_000) {
        0 => (Verdict::Error, 0),
        1..1000 => (Verdict::Deny, rules),
        1000..3000 => (Verdict::Warn, rules),
        _ => (Verdict::Allow, 0),
    }
}

fn source(number: u64) -> Source {
    match pick(number, 5, 100) {
        0 => Source::Cli,
        1..20 => Source::Audit,
        20..50 => Source::Reconcile,
        _ => Source::Admission,
    }
}

/// One user makes two fifths of all requests, 2,000 others make the rest.
fn user(number: u64) -> String {
    match pick(number, 6, 10) {
        0..4 => DEPLOYER.to_owned(),
        _ => format!("oidc:person-{}@example.com", pick(number, 7, 2000)),
    }
}

fn violation(rule: u64) -> Violation {
    Violation {
        id: format!("governance.rule-{rule}"),
        level: "environment/production".to_owned(),
        severity: Severity::High,
        action: Action::Deny,
        path: "spec.resources.requests.cpu".to_owned(),
        message: "cpu `16` is more than 8, the bound of environment/production; ask for 8 or less".to_owned(),
        measure: Some(16_000),
    }
}

fn input(namespace: &str, name: &str, number: u64) -> Value {
    json!({
        "operation": "UPDATE",
        "namespace": {"name": namespace, "labels": {"team": "payments", "environment": "production"}},
        "object": {
            "apiVersion": "intent.example.com/v1", "kind": "Database",
            "metadata": {"name": name, "namespace": namespace, "generation": number % 10},
            "spec": {
                "engine": "postgresql", "version": "16.14",
                "resources": {"requests": {"cpu": "2", "memory": "4Gi", "storage": "50Gi"}},
                "configuration": {"parameters": {"max_connections": "200", "ssl_passphrase": format!("s3cret-{number}")}},
            },
        },
        "norm": {"requests": {"cpu": 2000, "memory": 4_294_967_296_u64, "storage": 53_687_091_200_u64}},
    })
}

/// What the caller's thread pays: masking, then handing over.
fn callers(records: u64) {
    let samples: Vec<Record> = (0..records.min(20_000)).map(sample).collect();
    let count = samples.len();
    let begin = Instant::now();
    let masked: Vec<_> = samples.into_iter().map(mask).collect();
    println!("mask: {:.1} us each", micros(begin.elapsed(), count));
    let bytes: usize = masked
        .iter()
        .map(|masked| serde_json::to_vec(masked.record()).map_or(0, |json| json.len()))
        .sum();
    println!("record: {} bytes of JSON each", bytes / count);
}

fn micros(elapsed: Duration, count: usize) -> f64 {
    elapsed.as_secs_f64() * 1e6 / f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn options(path: &Path) -> Options {
    Options {
        retention: Retention::default(),
        ..Options::new(path)
    }
}

/// Sustained: the callers wait when the queue is nearly full, so nothing is dropped, and the writer never idles.
fn write(path: &Path, records: u64) -> Result<(), Box<dyn Error>> {
    let log = Log::start(options(path))?;
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut in_record = Duration::ZERO;
    let mut mark = (Instant::now(), 0);
    for number in 0..records {
        let masked = mask(sample(number));
        let call = Instant::now();
        log.record(&masked);
        let took = call.elapsed();
        in_record += took;
        slowest = slowest.max(took);
        if number % 1024 == 0 {
            while log.counts().queued > 6000 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if number % 100_000 == 99_999 {
            let written = log.counts().written;
            println!(
                "  {written} written, {:.0} records/s lately",
                per_second(written - mark.1, mark.0.elapsed())
            );
            mark = (Instant::now(), written);
        }
    }
    let flushed = log.flush(Duration::from_mins(5));
    let counts = log.counts();
    println!(
        "write: {:.0} records/s over {records}, flushed {flushed}",
        per_second(counts.written, begin.elapsed())
    );
    println!(
        "write: {:.1} records a commit",
        per_second(counts.written, Duration::from_secs(counts.commits))
    );
    if let Some(seconds) = writer_seconds() {
        let per_second = counts_per(counts.written, seconds);
        println!("write: {per_second:.0} records for a second of the writer's processor time");
    }
    let count = usize::try_from(records)?;
    println!(
        "record(): {:.1} us on average, slowest {slowest:?}",
        micros(in_record, count)
    );
    for reason in DropReason::ALL {
        println!("dropped, {}: {}", reason.label(), counts.dropped_for(reason));
    }
    drop(log);
    println!("size: {} bytes a record", std::fs::metadata(path)?.len() / records);
    Ok(())
}

fn per_second(records: u64, elapsed: Duration) -> f64 {
    counts_per(records, elapsed.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn counts_per(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

/// Processor time of the writer's thread (Linux): a figure that other work on the machine disturbs less.
fn writer_seconds() -> Option<f64> {
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let task = task.ok()?.path();
        if std::fs::read_to_string(task.join("comm")).ok()?.trim() == "decision-log" {
            let stat = std::fs::read_to_string(task.join("schedstat")).ok()?;
            return stat
                .split(' ')
                .next()?
                .parse()
                .ok()
                .map(|nanoseconds: f64| nanoseconds / 1e9);
        }
    }
    None
}

fn ask(path: &Path, records: u64) -> Result<(), Box<dyn Error>> {
    let log = Log::start(options(path))?;
    let mut reader = log.reader();
    let begin = Instant::now();
    while reader.head().is_err() && begin.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("| filter | limit | found | median ms | slowest ms | plan |\n| --- | --- | --- | --- | --- | --- |");
    for (what, filter) in questions(records)? {
        for limit in [100, 1000] {
            let filter = Filter {
                limit,
                ..filter.clone()
            };
            let mut times = Vec::new();
            let mut found = String::new();
            for _ in 0..15 {
                let begin = Instant::now();
                let page = reader.page(&filter)?;
                times.push(begin.elapsed().as_secs_f64() * 1e3);
                found = format!("{}{}", page.entries.len(), if page.next.is_some() { "+" } else { "" });
            }
            times.sort_by(f64::total_cmp);
            let plan = if limit == 100 {
                reader.explain(&filter)?
            } else {
                "same".to_owned()
            };
            println!(
                "| {what} | {limit} | {found} | {:.2} | {:.2} | {plan} |",
                times[7], times[14]
            );
        }
    }
    let begin = Instant::now();
    let head = reader.verify(None)?;
    println!(
        "verify: {} records in {:.1} s",
        head.number,
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Every filter by itself, values that are common, rare and unknown, and sets of them that hardly ever meet.
fn questions(records: u64) -> serde_json::Result<Vec<(&'static str, Filter)>> {
    let person = "oidc:person-7@example.com";
    let rule = "governance.rule-7";
    let time = |part: u64| Timestamp::from_nanosecond(BEGIN_NS + i128::from(records * part / 10) * STEP_NS).ok();
    let all = json!({"user": DEPLOYER, "namespace": "namespace-7", "verdict": "deny", "from": time(1), "to": time(9)});
    let asked = [
        ("nothing", json!({})),
        ("user, 40 %", json!({"user": DEPLOYER})),
        ("user, rare", json!({"user": person})),
        ("user, unknown", json!({"user": "nobody"})),
        ("namespace", json!({"namespace": "namespace-7"})),
        ("name", json!({"name": "database-7"})),
        ("verdict deny, 10 %", json!({"verdict": "deny"})),
        ("verdict error, 0.01 %", json!({"verdict": "error"})),
        ("rule", json!({"rule": rule})),
        ("rule, unknown", json!({"rule": "none.such"})),
        ("operation, 25 %", json!({"operation": "CREATE"})),
        ("operation, never", json!({"operation": "DELETE"})),
        ("source cli, 1 %", json!({"source": "cli"})),
        ("bundle, oldest", json!({"bundle": "revision-0"})),
        ("from and to", json!({"from": time(4), "to": time(5)})),
        (
            "user 40 %, namespace",
            json!({"user": DEPLOYER, "namespace": "namespace-7"}),
        ),
        ("user 40 %, error", json!({"user": DEPLOYER, "verdict": "error"})),
        ("user rare, deny", json!({"user": person, "verdict": "deny"})),
        (
            "deny, cli, create",
            json!({"verdict": "deny", "source": "cli", "operation": "CREATE"}),
        ),
        ("rule, user 40 %", json!({"rule": rule, "user": DEPLOYER})),
        ("rule, oldest bundle", json!({"rule": rule, "bundle": "revision-0"})),
        (
            "user 40 %, oldest bundle",
            json!({"user": DEPLOYER, "bundle": "revision-0"}),
        ),
        (
            "allow, oldest bundle",
            json!({"verdict": "allow", "bundle": "revision-0"}),
        ),
        ("all of it", all),
    ];
    let parsed = asked
        .into_iter()
        .map(|(what, filter)| Ok((what, serde_json::from_value(filter)?)));
    let mut questions = parsed.collect::<serde_json::Result<Vec<(&'static str, Filter)>>>()?;
    for (what, text, count) in [
        ("3 namespaces allowed", "namespace", 3),
        ("500 namespaces allowed", "namespace", 500),
        ("900 namespaces allowed", "namespace", 900),
        ("600 unknown namespaces allowed", "unknown", 600),
    ] {
        let allowed = Some((0..count).map(|number| format!("{text}-{number}")).collect());
        questions.push((
            what,
            Filter {
                allowed,
                ..Filter::default()
            },
        ));
    }
    Ok(questions)
}
