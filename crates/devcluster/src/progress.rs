//! Says what takes long while it takes long, on standard error.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What is over sooner than this is not worth a line.
pub(crate) const SILENT: Duration = Duration::from_secs(2);

/// How often a long step says that it still goes on.
const REMINDER: Duration = Duration::from_secs(20);

/// Does `work` on this thread. If it takes more than two seconds, says so: at once, every 20 s, and at the end.
pub(crate) fn during<T, E>(what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let began = Instant::now();
    let (working, waiting) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let reporter = scope.spawn(move || {
            let mut pause = SILENT;
            let mut reported = false;
            // The sender is dropped when the work is over; nothing is ever sent.
            while waiting.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                if reported {
                    eprintln!("devcluster: {what}: still busy after {} s", began.elapsed().as_secs());
                } else {
                    eprintln!("devcluster: {what}");
                }
                reported = true;
                pause = REMINDER;
            }
            reported
        });
        let result = work();
        drop(working);
        if reporter.join().unwrap_or(false) {
            let end = if result.is_ok() { "done" } else { "FAILED" };
            eprintln!("devcluster: {what}: {end} after {:.1} s", began.elapsed().as_secs_f64());
        }
        result
    })
}
