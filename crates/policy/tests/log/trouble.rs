//! What goes wrong around the log stops no caller, is counted, and passes.

use std::fs;
use std::time::{Duration, Instant};

use crate::sample::{FLUSH, masked, options, record, record_at, started, until};
use jiff::Timestamp;
use policy::log::{DropReason, Entry, Filter, Log, Options, QueryError, Reader, Retention, chain::Fault, mask};
use rusqlite::Connection;
use serde_json::json;

/// What `record` may take at most here, however busy the machine is.
const AT_ONCE: Duration = Duration::from_millis(250);

fn record_quickly(log: &Log, number: u64) {
    let begin = Instant::now();
    log.record(&masked(number));
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
}

#[test]
fn a_full_disk_stops_nobody_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    // SQLite's own limit gives the same error as a disk without space.
    let limited = Options {
        hard_limit_bytes: Some(512 << 10),
        queue_records: 200,
        ..options(folder.path())
    };
    let log = Log::start(limited.clone()).unwrap();
    let mut sent = 0;
    until("full", || {
        (0..20).for_each(|number| record_quickly(&log, number));
        log.counts().store_failures > 0
    });
    until("the queue is full, because of the store", || {
        record_quickly(&log, sent);
        log.counts().dropped_for(DropReason::StoreError) > 0
    });
    sent = log.counts().written;
    let mut reader = log.reader();
    assert!(
        reader.page(&Filter::default()).unwrap().entries.len() == 100,
        "what is there can still be read"
    );
    assert_eq!(reader.verify(None).unwrap().number, i64::try_from(sent).unwrap());

    // Space again: what waited is written, nothing of what was accepted is lost.
    let other = Connection::open(&limited.path).unwrap();
    other.busy_timeout(Duration::from_secs(5)).unwrap();
    other
        .execute_batch("DELETE FROM tag WHERE number <= 300; DELETE FROM decision WHERE number <= 300;")
        .unwrap();
    assert!(log.flush(FLUSH));
    let counts = log.counts();
    assert_eq!(counts.accepted, counts.written);
    assert!(counts.written > sent);
    assert_eq!(counts.dropped_for(DropReason::QueueFull), 0, "{counts:?}");
}

#[test]
fn a_full_file_with_retention_goes_on_as_a_ring() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention {
        max_age: None,
        max_bytes: Some(1 << 20),
    };
    let ring = Options {
        hard_limit_bytes: Some(8 << 20),
        retention,
        ..options(folder.path())
    };
    let log = Log::start(ring).unwrap();
    for number in 0..8_000 {
        log.record(&masked(number));
        if number % 1000 == 0 {
            assert!(log.flush(FLUSH));
        }
    }
    assert!(log.flush(FLUSH));
    until("retention has caught up", || {
        log.counts().pruned > 0 && log.counts().used_bytes <= 1 << 20
    });
    let counts = log.counts();
    assert_eq!(
        (counts.written, counts.dropped, counts.store_failures),
        (8000, [0; 3], 0)
    );
    let mut reader = log.reader();
    let head = reader.verify(None).unwrap();
    assert_eq!(head.number, 8000);
    let left = reader.entries(Filter::default()).count() as u64;
    assert_eq!(left + log.counts().pruned, 8000);
    until("the file is smaller again", || {
        fs::metadata(folder.path().join("decisions.db")).unwrap().len() < 4 << 20
    });
}

#[test]
fn old_records_go() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention {
        max_age: Some(Duration::from_hours(1)),
        max_bytes: None,
    };
    let log = Log::start(Options {
        retention,
        ..options(folder.path())
    })
    .unwrap();
    let now = Timestamp::now().as_nanosecond();
    for number in 0..1500 {
        log.record(&mask(record_at(number, now - 7_200_000_000_000 + i128::from(number))));
    }
    for number in 1500..1600 {
        log.record(&mask(record_at(number, now + i128::from(number))));
    }
    assert!(log.flush(FLUSH));
    until("the old ones went", || log.counts().pruned == 1500);
    let mut reader = log.reader();
    assert_eq!(reader.entries(Filter::default()).count(), 100);
    assert_eq!(reader.verify(None).unwrap().number, 1600);
    let tags: i64 = Connection::open(folder.path().join("decisions.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM tag", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tags, 100, "the side table is cleared too");
}

#[test]
fn a_missing_folder_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let later = folder.path().join("later");
    let log = Log::start(Options {
        queue_records: 10,
        ..options(&later)
    })
    .unwrap();
    until("it was tried", || log.counts().store_failures > 0);
    (0..15).for_each(|number| record_quickly(&log, number));
    let counts = log.counts();
    assert_eq!((counts.accepted, counts.dropped_for(DropReason::StoreError)), (10, 5));
    assert!(matches!(
        log.reader().page(&Filter::default()),
        Err(QueryError::Unavailable(_))
    ));
    assert!(
        !log.flush(Duration::from_millis(10)),
        "flush says that it did not succeed"
    );
    fs::create_dir(&later).unwrap();
    assert!(log.flush(FLUSH));
    assert_eq!(log.reader().page(&Filter::default()).unwrap().entries.len(), 10);
}

#[test]
fn a_store_that_never_opens_does_not_keep_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::start(options(&folder.path().join("never"))).unwrap();
    (0..5).for_each(|number| record_quickly(&log, number));
    let begin = Instant::now();
    drop(log);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_corrupt_file_is_moved_aside() {
    for damage in [
        b"this is no database, but long enough to be read as a header of one.......".repeat(100),
        vec![0; 3],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.db");
        fs::write(&path, &damage).unwrap();
        let log = started(folder.path());
        log.record(&masked(1));
        assert!(log.flush(FLUSH));
        assert_eq!(log.counts().moved_aside, 1);
        assert_eq!(fs::read(folder.path().join("decisions.db.unusable")).unwrap(), damage);
        assert_eq!(log.reader().page(&Filter::default()).unwrap().entries.len(), 1);
    }
}

#[test]
fn another_programs_database_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decisions.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
        .unwrap();
    let log = started(folder.path());
    log.record(&masked(1));
    assert!(log.flush(FLUSH));
    assert_eq!((log.counts().moved_aside, log.counts().written), (1, 1));
    let theirs = Connection::open(folder.path().join("decisions.db.unusable")).unwrap();
    assert_eq!(
        theirs.query_row("SELECT x FROM theirs", [], |row| row.get::<_, i64>(0)),
        Ok(1)
    );
}

#[test]
fn damage_that_shows_later_is_moved_aside_and_readers_follow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decisions.db");
    let log = started(folder.path());
    for number in 0..2000 {
        log.record(&masked(number));
    }
    assert!(log.flush(FLUSH));
    drop(log);
    // Everything behind the first two pages is overwritten: it opens, and then fails.
    let mut bytes = fs::read(&path).unwrap();
    bytes[8192..].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let log = started(folder.path());
    let mut reader = log.reader();
    until("a new file takes records", || {
        log.record(&masked(9));
        log.counts().moved_aside == 1 && log.counts().written > 0
    });
    assert!(log.flush(FLUSH));
    assert!(!reader.page(&Filter::default()).unwrap().entries.is_empty());
    assert!(reader.verify(None).is_ok());
}

#[test]
fn a_removed_file_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = started(folder.path());
    log.record(&masked(1));
    assert!(log.flush(FLUSH));
    let mut reader = log.reader();
    for name in ["decisions.db", "decisions.db-wal", "decisions.db-shm"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    until("it is there again", || folder.path().join("decisions.db").exists());
    log.record(&masked(2));
    assert!(log.flush(FLUSH));
    let page = reader.page(&Filter::default()).unwrap();
    assert_eq!(
        page.entries.last().unwrap().record.request_uid.as_deref(),
        Some("request-2")
    );
}

#[test]
fn too_large_and_too_many_are_counted_apart() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options {
        record_bytes: 2000,
        queue_bytes: 20_000,
        batch_wait: Duration::from_secs(5),
        ..options(folder.path())
    };
    let log = Log::start(small).unwrap();
    let mut large = record(1);
    large.warnings = vec!["x".repeat(2000)];
    log.record(&mask(large));
    // Fewer than a batch: the writer waits, the bytes do not fit.
    (0..60).for_each(|number| record_quickly(&log, number));
    let counts = log.counts();
    assert_eq!(counts.dropped_for(DropReason::TooLarge), 1);
    assert_eq!(counts.dropped_for(DropReason::QueueFull) + counts.accepted, 60);
    assert!(counts.dropped_for(DropReason::QueueFull) > 0, "{counts:?}");
}

#[test]
fn a_record_that_is_too_large_is_kept_without_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::start(Options {
        record_bytes: 4000,
        ..options(folder.path())
    })
    .unwrap();
    let mut padded = record(1);
    padded.input = Some(json!({"object": {"metadata": {"annotations": {"padding": "x".repeat(4000)}}}}));
    let passwords: Vec<_> = (0..1000).map(|_| json!({"password": "abcdefgh"})).collect();
    let mut masked_often = record(2);
    masked_often.input = Some(json!({"object": {"spec": passwords}}));
    let mut quoting = record(3);
    quoting.input = Some(json!({"object": {"password": "abcdefgh"}}));
    quoting.warnings = vec!["x".repeat(4000)];
    for record in [padded, masked_often, quoting] {
        log.record(&mask(record));
    }
    assert!(log.flush(FLUSH));
    assert_eq!(
        log.counts().dropped_for(DropReason::TooLarge),
        1,
        "nothing else can be left out"
    );
    let page = log.reader().page(&Filter::default()).unwrap();
    assert_eq!(page.entries.len(), 2);
    for Entry { record, .. } in page.entries {
        assert_eq!((record.input, record.erased), (None, vec!["/input".to_owned()]));
        assert!(record.input_digest.is_some() && record.masked.is_empty());
    }
}

#[test]
fn tampering_in_the_file_is_found() {
    for (sql, expected) in [
        (
            "UPDATE decision SET body = replace(body, 'request-5', 'request-6') WHERE number = 6",
            Fault::Changed(7),
        ),
        ("DELETE FROM decision WHERE number = 6", Fault::Removed(6)),
        ("DELETE FROM decision WHERE number = 1", Fault::Removed(1)),
        (
            "DELETE FROM decision WHERE number = 20",
            Fault::CutShort {
                found: 19,
                expected: 20,
            },
        ),
        (
            "UPDATE decision SET body = replace(body, 'request-19', 'request-18') WHERE number = 20",
            Fault::CutShort {
                found: 20,
                expected: 20,
            },
        ),
        ("UPDATE decision SET user = 1 WHERE number = 6", Fault::Misfiled(6)),
        ("UPDATE decision SET class = 1 WHERE number = 6", Fault::Misfiled(6)),
        ("DELETE FROM tag WHERE number = 6", Fault::Misfiled(6)),
        ("UPDATE decision SET body = 'x' WHERE number = 6", Fault::Changed(6)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let log = started(folder.path());
        for number in 0..20 {
            log.record(&masked(number));
        }
        assert!(log.flush(FLUSH));
        drop(log);
        let path = folder.path().join("decisions.db");
        let mut reader = Reader::of_file(&path);
        let head = reader.verify(None).unwrap();
        assert_eq!(reader.verify(Some(&head)).unwrap(), head);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        match Reader::of_file(&path).verify(None) {
            Err(QueryError::Chain(fault)) => assert_eq!(fault, expected, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn long_records_are_compressed_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = started(folder.path());
    let mut lengthy = record(1);
    lengthy.warnings = vec!["a warning that repeats itself. ".repeat(1000)];
    log.record(&mask(lengthy.clone()));
    assert!(log.flush(FLUSH));
    let mut reader = log.reader();
    assert_eq!(
        reader.page(&Filter::default()).unwrap().entries[0].record.warnings,
        lengthy.warnings
    );
    assert!(reader.verify(None).is_ok());
    let connection = Connection::open(folder.path().join("decisions.db")).unwrap();
    let bytes: i64 = connection
        .query_row("SELECT length(body) FROM decision", [], |row| row.get(0))
        .unwrap();
    assert!(bytes < 2000, "{bytes}");
}

#[test]
fn the_same_record_again_and_again_is_kept_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let log = started(folder.path());
    let earliest = record_at(0, i128::from(i64::MIN) + 1);
    for _ in 0..1000 {
        log.record(&masked(0));
        log.record(&mask(earliest.clone()));
    }
    log.record(&masked(1));
    assert!(log.flush(FLUSH));
    assert_eq!(log.counts().written, 2001);
    assert_eq!(log.reader().entries(Filter::default()).count(), 2001);
}
