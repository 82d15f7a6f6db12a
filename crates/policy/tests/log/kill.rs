//! The process dies while it writes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::sample::{FLUSH, masked, options};
use policy::log::{Filter, Head, Log};

const FOLDER: &str = "DECLOG_KILL_FOLDER";

/// Not a test by itself: the child that writes until it is killed. It says which records were confirmed, and the head.
#[test]
fn child_writes_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let log = Log::start(options(folder.as_ref())).unwrap();
    let mut reader = log.reader();
    crate::sample::until("the store is open", || log.reader().head().is_ok());
    let first = reader.entries(Filter::default()).count() as u64;
    for number in first.. {
        log.record(&masked(number));
        if number % 97 == 0 {
            assert!(log.flush(FLUSH));
            let head = serde_json::to_string(&reader.head().unwrap()).unwrap();
            println!("\nconfirmed {number} {head}");
        }
    }
}

#[test]
fn what_was_confirmed_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut anchor: Option<Head> = None;
    for round in 0..6_u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "kill::child_writes_until_killed",
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut confirmed = None;
        // Each time at another moment after a confirmation, in the middle of whatever it does then.
        let wanted = 3 + round * 2;
        let mut confirmations = 0;
        while confirmations < wanted {
            let line = lines.next().expect("the child writes for ever").unwrap();
            if let Some(rest) = line.strip_prefix("confirmed ") {
                let (number, head) = rest.split_once(' ').unwrap();
                confirmed = Some(number.parse::<u64>().unwrap());
                anchor = Some(serde_json::from_str(head).unwrap());
                confirmations += 1;
            }
        }
        std::thread::sleep(Duration::from_micros(u64::from(700 * round)));
        child.kill().unwrap();
        child.wait().unwrap();

        let log = Log::start(options(folder.path())).unwrap();
        assert!(log.flush(FLUSH));
        crate::sample::until("the store is open", || log.reader().head().is_ok());
        let mut reader = log.reader();
        let head = reader.verify(anchor.as_ref()).unwrap();
        let confirmed = confirmed.unwrap();
        assert!(
            head.number > i64::try_from(confirmed).unwrap(),
            "{head:?}, confirmed {confirmed}"
        );
        let mut there: Vec<u64> = reader
            .entries(Filter::default())
            .map(|entry| {
                entry.unwrap().record.request_uid.unwrap()["request-".len()..]
                    .parse()
                    .unwrap()
            })
            .collect();
        there.sort_unstable();
        assert_eq!(i64::try_from(there.len()).unwrap(), head.number);
        assert_eq!(there, (0..there.len() as u64).collect::<Vec<_>>(), "no gap, no double");
        assert_eq!(log.counts().moved_aside, 0);
    }
}
