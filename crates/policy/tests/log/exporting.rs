//! JSONL and CSV.

use crate::sample::{FLUSH, record, started, violation};
use policy::log::{Filter, QueryError, Record, export, mask};

fn stored(records: Vec<Record>) -> (tempfile::TempDir, policy::log::Log) {
    let folder = tempfile::tempdir().unwrap();
    let log = started(folder.path());
    for record in records {
        log.record(&mask(record));
    }
    assert!(log.flush(FLUSH));
    (folder, log)
}

#[test]
fn jsonl_holds_every_record_once() {
    let (_folder, log) = stored((0..2500).map(record).collect());
    let mut out = Vec::new();
    let mut reader = log.reader();
    assert_eq!(
        export::jsonl(reader.entries(Filter::default()).records(), &mut out).unwrap(),
        2500
    );
    let lines: Vec<Record> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.windows(2).all(|pair| pair[0].timestamp > pair[1].timestamp));
    assert_eq!(lines.len(), 2500);
    let mut some = Vec::new();
    let filter = Filter {
        limit: 1200,
        ..Filter::default()
    };
    assert_eq!(
        export::jsonl(reader.entries(filter).records(), &mut some).unwrap(),
        1200
    );
}

#[test]
fn csv_rows_are_no_formulas() {
    let mut bad = record(1);
    bad.user.as_mut().unwrap().name = "=HYPERLINK(\"http://x\")".to_owned();
    bad.violations = vec![violation("cost.cpu")];
    bad.violations[0].message = "@sum, and \"more\"".to_owned();
    let rows = [Ok::<_, QueryError>(bad)];
    let mut out = Vec::new();
    assert_eq!(export::csv(rows, &mut out).unwrap(), 1);
    let text = String::from_utf8(out).unwrap();
    let (head, row) = text.split_once("\r\n").unwrap();
    assert_eq!(head, export::COLUMNS.join(","));
    assert!(row.contains(",\"'=HYPERLINK(\"\"http://x\"\")\","), "{row}");
    assert!(row.contains(",\"'@sum, and \"\"more\"\"\","), "{row}");
    assert!(row.contains(",allow,cost.cpu,"), "{row}");
}

#[test]
fn the_projection_has_opas_names() {
    let mut record = record(1);
    record.input = Some(serde_json::json!({"operation": "CREATE"}));
    let event = mask(record).record().opa();
    for name in [
        "decision_id",
        "bundles",
        "path",
        "input",
        "result",
        "requested_by",
        "timestamp",
        "metrics",
        "labels",
    ] {
        assert!(event.get(name).is_some(), "{name} in {event}");
    }
    assert_eq!(event["bundles"]["main"], serde_json::json!({"revision": "r1"}));
}
