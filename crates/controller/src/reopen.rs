//! How soon a watch that broke is opened again.
//!
//! An API server that is away comes back at any moment, and until the watch is open nothing new is seen: so there it is tried
//! about once a second. One that answers with a refusal will do so again, and gets more and more time.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff as Waits;
use kube::runtime::watcher::{self, Error};
use workqueue::Backoff;

/// While the API server does not answer. Its cap is what a watch adds, at most, to the time that a replica needs to
/// work again; in the fast profile that is to be two retry periods of a second.
const UNANSWERED: Backoff = Backoff {
    base: Duration::from_millis(400),
    cap: Duration::from_secs(1),
};

/// When it answers, and refuses.
const REFUSED: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(30),
};

/// What is known of the failures of a watch.
#[derive(Debug, Default)]
struct Failures {
    /// In a row.
    count: AtomicU32,
    /// Whether the last one was said by the API server.
    refused: AtomicBool,
}

/// The same watch, with pauses after its failures, which are logged, seldom if they go on.
pub(crate) fn patiently<T: Send>(
    what: Cow<'static, str>,
    events: impl Stream<Item = watcher::Result<T>> + Send,
) -> impl Stream<Item = T> + Send {
    let failures = Arc::new(Failures::default());
    let pauses = Pauses(failures.clone());
    let seen = events.inspect_err(move |error| {
        failures.refused.store(refuses(error), Ordering::Relaxed);
        let count = failures.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            let error = telemetry::chain(error);
            tracing::warn!(watch = %what, count, %error, "watch broke; it is being set up again");
        }
    });
    seen.backoff(pauses).filter_map(|event| std::future::ready(event.ok()))
}

/// Whether that was said by the API server.
fn refuses(error: &Error) -> bool {
    match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => {
            matches!(error, kube::Error::Api(_))
        }
        Error::WatchError(_) | Error::NoResourceVersion => true,
    }
}

struct Pauses(Arc<Failures>);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let backoff = if self.0.refused.load(Ordering::Relaxed) {
            REFUSED
        } else {
            UNANSWERED
        };
        Some(backoff.wait(self.0.count.load(Ordering::Relaxed), rand::random()))
    }
}

impl Waits for Pauses {
    fn reset(&mut self) {
        self.0.count.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use kube::core::Status;
    use tokio::time::Instant;

    use super::*;

    fn away() -> Error {
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        Error::WatchStartFailed(kube::Error::Service(error.into()))
    }

    fn forbidden() -> Error {
        let status = Status::failure("no", "Forbidden").with_code(403);
        Error::InitialListFailed(kube::Error::Api(status.boxed()))
    }

    const FAILURES: u32 = 60;

    /// How long a watch takes to be open again after so many failures in a row.
    async fn pauses(failure: fn() -> Error) -> Duration {
        let failures = (0..FAILURES).map(|_| Err(failure()));
        let events = stream::iter(failures.chain([Ok(())]));
        let mut events = std::pin::pin!(patiently("things".into(), events));
        let began = Instant::now();
        assert_eq!(events.next().await, Some(()));
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_is_away_is_tried_every_second_and_one_that_refuses_less_and_less() {
        // Their full jitter is half of the ceiling on average.
        let away = pauses(away).await / FAILURES;
        assert!(away > Duration::from_millis(300), "{away:?}");
        assert!(away < Duration::from_millis(700), "{away:?}");
        let refused = pauses(forbidden).await / FAILURES;
        assert!(refused > Duration::from_secs(8), "{refused:?}");
        assert!(refused < Duration::from_secs(20), "{refused:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn success_makes_the_next_pause_short_again() {
        let events = (0..40).flat_map(|_| [Err(forbidden()), Ok(())]);
        let mut events = std::pin::pin!(patiently("things".into(), stream::iter(events)));
        let began = Instant::now();
        while let Some(()) = events.next().await {}
        assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    }
}
