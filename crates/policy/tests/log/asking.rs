//! Questions are answered as a plain search through all records would answer them.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::sample::{BEGIN_NS, FLUSH, record, record_at, started, violation};
use jiff::Timestamp;
use policy::log::{
    Answer, BundleRevision, Cursor, Entry, Filter, Operation, Page, Record, Source, Verdict, mask, merge,
};
use proptest::prelude::*;
use uuid::Uuid;

/// Records with few different values, so that filters meet.
fn any_record() -> impl Strategy<Value = Record> {
    let sources = prop_oneof![Just(Source::Admission), Just(Source::Reconcile), Just(Source::Cli)];
    let verdicts = prop_oneof![
        Just(Verdict::Allow),
        Just(Verdict::Deny),
        Just(Verdict::Warn),
        Just(Verdict::Error)
    ];
    let operations = prop_oneof![Just(None), Just(Some(Operation::Create)), Just(Some(Operation::Delete))];
    (
        any::<u64>(),
        0..40_i128,
        sources,
        verdicts,
        operations,
        0..4_u8,
        0..4_u8,
        any::<bool>(),
    )
        .prop_map(|(number, time, source, verdict, operation, rules, place, dry_run)| {
            // Few different times: many records share one.
            let mut record = record_at(number, BEGIN_NS + time * 250_000);
            record.source = source;
            record.verdict = verdict;
            record.operation = operation;
            record.dry_run = dry_run;
            record.violations = (0..2)
                .filter(|bit| rules & (1 << bit) != 0)
                .map(|bit| violation(&format!("rule-{bit}")))
                .collect();
            if place == 0 {
                record.resource.namespace = None;
                record.user = None;
            }
            if place == 1 {
                record.bundles.insert(
                    "team".to_owned(),
                    BundleRevision {
                        revision: "r2".to_owned(),
                        ..BundleRevision::default()
                    },
                );
            }
            record
        })
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let maybe = |text: &'static str, count: u8| {
        proptest::option::weighted(0.3, (0..count).prop_map(move |n| format!("{text}{n}")))
    };
    let time = || {
        proptest::option::weighted(
            0.3,
            (0..40_i128).prop_map(|at| Timestamp::from_nanosecond(BEGIN_NS + at * 250_000).unwrap()),
        )
    };
    let sources = proptest::option::weighted(0.3, prop_oneof![Just(Source::Admission), Just(Source::Audit)]);
    let verdicts = proptest::option::weighted(0.3, prop_oneof![Just(Verdict::Deny), Just(Verdict::Error)]);
    let operations = proptest::option::weighted(0.3, prop_oneof![Just(Operation::Create), Just(Operation::Update)]);
    let allowed = proptest::option::weighted(0.3, proptest::collection::btree_set("namespace-[0-4]", 0..4));
    (
        (
            maybe("user-", 8),
            maybe("namespace-", 6),
            maybe("database-", 12),
            maybe("rule-", 3),
            maybe("r", 4),
        ),
        (sources, verdicts, operations, allowed, time(), time(), 1..9_usize),
    )
        .prop_map(
            |((user, namespace, name, rule, bundle), (source, verdict, operation, allowed, from, to, limit))| Filter {
                user,
                namespace,
                name,
                rule,
                bundle,
                source,
                verdict,
                operation,
                allowed,
                from,
                to,
                limit,
                ..Filter::default()
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Every filter, page by page, gives what a plain search gives, in order, each once.
    #[test]
    fn pages_are_what_a_plain_search_finds(
        records in proptest::collection::vec(any_record(), 0..80),
        filters in proptest::collection::vec(any_filter(), 12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let log = started(folder.path());
        for record in &records {
            log.record(&mask(record.clone()));
        }
        prop_assert!(log.flush(FLUSH));
        let mut reader = log.reader();
        for filter in filters {
            let mut paged: Vec<Entry> = Vec::new();
            let mut cursor = None;
            loop {
                let page = reader.page(&Filter { cursor, ..filter.clone() }).unwrap();
                prop_assert!(page.entries.len() <= filter.limit);
                paged.extend(page.entries);
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            prop_assert!(paged.windows(2).all(|pair| pair[0].cursor() > pair[1].cursor()));
            let mut found: Vec<Uuid> = paged.iter().map(|entry| entry.record.decision_id).collect();
            let mut expected: Vec<Uuid> =
                records.iter().filter(|record| filter.matches(record)).map(|record| record.decision_id).collect();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected, "{:?}", filter);
        }
        prop_assert!(reader.verify(None).is_ok());
    }

    /// Records spread over replicas come out as if they were in one place.
    #[test]
    fn merged_pages_are_the_whole_in_order(
        spread in proptest::collection::vec((0..3_usize, 0..20_i64), 0..60),
        limit in 1..7_usize,
        uneven in 1..5_usize,
    ) {
        let mut replicas: Vec<Vec<Entry>> = vec![Vec::new(); 3];
        for (number, (replica, position)) in (0..).zip(&spread) {
            // Within a replica a place is taken once; between replicas it may not be.
            if replicas[*replica].iter().all(|entry| entry.position != *position) {
                replicas[*replica].push(Entry { position: *position, record: record(number) });
            }
        }
        let mut all: Vec<Cursor> = replicas.iter().flatten().map(Entry::cursor).collect();
        all.sort_unstable_by_key(|cursor| Reverse(*cursor));
        let mut seen = Vec::new();
        let mut cursor = None;
        for _ in 0..200 {
            let answers = replicas.iter().enumerate().map(|(replica, entries)| Answer {
                replica: replica.to_string(),
                // Replicas end their pages at different lengths.
                outcome: Ok(page_of(entries, cursor, if replica == 0 { uneven.min(limit) } else { limit })),
            });
            let merged = merge(answers.collect(), limit);
            prop_assert!(merged.entries.len() <= limit && !merged.partial);
            seen.extend(merged.entries.iter().map(Entry::cursor));
            cursor = merged.next;
            if cursor.is_none() {
                break;
            }
        }
        prop_assert_eq!(seen, all);
    }
}

fn page_of(entries: &[Entry], cursor: Option<Cursor>, limit: usize) -> Page {
    let mut left: Vec<Entry> = entries
        .iter()
        .filter(|entry| cursor.is_none_or(|cursor| entry.cursor() < cursor))
        .cloned()
        .collect();
    left.sort_unstable_by_key(|entry| Reverse(entry.cursor()));
    let more = left.len() > limit;
    left.truncate(limit);
    let next = left.last().filter(|_| more).map(Entry::cursor);
    Page {
        entries: left,
        next,
        unreadable: 0,
    }
}

#[test]
fn a_replica_that_does_not_answer_is_named() {
    let page = Page {
        entries: vec![Entry {
            position: 5,
            record: record(1),
        }],
        ..Page::default()
    };
    let merged = merge(
        vec![
            Answer {
                replica: "a".to_owned(),
                outcome: Ok(page),
            },
            Answer {
                replica: "b".to_owned(),
                outcome: Err("timeout".to_owned()),
            },
        ],
        10,
    );
    assert!(merged.partial);
    assert_eq!(merged.missing.len(), 1);
    assert_eq!(
        (merged.missing[0].replica.as_str(), merged.missing[0].reason.as_str()),
        ("b", "timeout")
    );
    assert_eq!(merged.entries.len(), 1, "what is known is given");
}

#[test]
fn new_records_do_not_disturb_paging() {
    let folder = tempfile::tempdir().unwrap();
    let log = started(folder.path());
    for number in 0..30 {
        log.record(&crate::sample::masked(number));
    }
    assert!(log.flush(FLUSH));
    let mut reader = log.reader();
    let mut filter = Filter {
        limit: 10,
        ..Filter::default()
    };
    let mut seen = Vec::new();
    for round in 0..3 {
        let page = reader.page(&filter).unwrap();
        seen.extend(page.entries.into_iter().map(|entry| entry.record));
        filter.cursor = page.next;
        for number in 0..20 {
            log.record(&crate::sample::masked(100 + round * 20 + number));
        }
        assert!(log.flush(FLUSH));
    }
    let numbers: Vec<_> = seen.iter().map(|record| record.request_uid.clone().unwrap()).collect();
    let expected: Vec<_> = (0..30).rev().map(|number| format!("request-{number}")).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn a_page_is_bounded_by_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let log = started(folder.path());
    for number in 0..40 {
        let mut large = record(number);
        large.warnings = vec!["x".repeat(200_000)];
        log.record(&mask(large));
    }
    assert!(log.flush(FLUSH));
    let mut reader = log.reader();
    let mut filter = Filter {
        limit: 1000,
        ..Filter::default()
    };
    let mut pages = Vec::new();
    loop {
        let page = reader.page(&filter).unwrap();
        pages.push(page.entries.len());
        filter.cursor = page.next;
        if filter.cursor.is_none() {
            break;
        }
    }
    // 4 MiB hold 21 of them.
    assert_eq!(pages, [21, 19]);
}

#[test]
fn one_decision_is_found_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let log = started(folder.path());
    // All at the same time: the worst case for places that must differ.
    let records: Vec<Record> = (0..500).map(|number| record_at(number, BEGIN_NS)).collect();
    for record in &records {
        log.record(&mask(record.clone()));
    }
    assert!(log.flush(FLUSH));
    let mut reader = log.reader();
    for wanted in records.iter().step_by(50) {
        let filter = Filter {
            decision_id: Some(wanted.decision_id),
            ..Filter::default()
        };
        let page = reader.page(&filter).unwrap();
        assert_eq!(page.entries.len(), 1);
        assert_eq!(page.entries[0].record.decision_id, wanted.decision_id);
    }
}

#[test]
fn who_may_read_nothing_sees_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = started(folder.path());
    log.record(&crate::sample::masked(1));
    let mut homeless = record(2);
    homeless.resource.namespace = None;
    log.record(&mask(homeless));
    assert!(log.flush(FLUSH));
    let mut reader = log.reader();
    let mut count = |filter: Filter| reader.page(&filter).unwrap().entries.len();
    let allowed = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
    assert_eq!(count(Filter::default()), 2);
    assert_eq!(
        count(Filter {
            allowed: allowed(&[]),
            ..Filter::default()
        }),
        0
    );
    assert_eq!(
        count(Filter {
            allowed: allowed(&["other"]),
            ..Filter::default()
        }),
        0
    );
    assert_eq!(
        count(Filter {
            allowed: allowed(&["namespace-1"]),
            ..Filter::default()
        }),
        1
    );
    let asked = Some("namespace-1".to_owned());
    assert_eq!(
        count(Filter {
            allowed: allowed(&["other"]),
            namespace: asked,
            ..Filter::default()
        }),
        0
    );
    // More namespaces than ranges that are gone along one by one.
    let many: BTreeSet<String> = (0..2000).map(|number| format!("namespace-{number}")).collect();
    assert_eq!(
        count(Filter {
            allowed: Some(many),
            ..Filter::default()
        }),
        1
    );
}

#[test]
fn a_request_cannot_choose_what_it_may_read() {
    let error = serde_json::from_str::<Filter>(r#"{"allowed": ["kube-system"]}"#).unwrap_err();
    assert!(error.to_string().contains("allowed"), "{error}");
}
