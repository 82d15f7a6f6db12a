//! How soon a watch that broke is opened again.
//!
//! An API server that is away comes back at any moment, and until the watch is open nothing new is seen: so there it is tried
//! about once a second. One that answers with a refusal will do so again, and gets more and more time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{Stream, TryStreamExt as _};
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

/// The same watch, with pauses after its failures.
pub(crate) fn patiently<T>(
    events: impl Stream<Item = watcher::Result<T>> + Send,
) -> impl Stream<Item = watcher::Result<T>> + Send {
    let refused = Arc::new(AtomicBool::new(false));
    let pauses = Pauses {
        failures: 0,
        refused: refused.clone(),
    };
    events
        .inspect_err(move |error| refused.store(refuses(error), Ordering::Relaxed))
        .backoff(pauses)
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

struct Pauses {
    failures: u32,
    /// Of the last failure.
    refused: Arc<AtomicBool>,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let backoff = if self.refused.load(Ordering::Relaxed) {
            REFUSED
        } else {
            UNANSWERED
        };
        Some(backoff.wait(self.failures, rand::random()))
    }
}

impl Waits for Pauses {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};
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

    /// The longest of the pauses after so many failures, over some tries.
    async fn longest_pause(error: fn() -> Error, failures: usize) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..50 {
            let failed = stream::repeat_with(|| Err::<(), _>(error())).take(failures);
            let mut events = std::pin::pin!(patiently(failed.chain(stream::iter([Ok(())]))));
            let mut last = Instant::now();
            while let Some(event) = events.next().await {
                if event.is_ok() {
                    longest = longest.max(last.elapsed());
                }
                last = Instant::now();
            }
        }
        longest
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_is_away_is_tried_every_second_and_one_that_refuses_less_and_less() {
        let away = longest_pause(away, 60).await;
        assert!(away <= Duration::from_millis(1010), "{away:?}");
        assert!(away > Duration::from_millis(500), "they do grow: {away:?}");
        let refused = longest_pause(forbidden, 8).await;
        assert!(refused > Duration::from_secs(10), "{refused:?}");
        assert!(refused <= Duration::from_millis(30_010), "{refused:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn success_makes_the_next_pause_short_again() {
        let events = [
            forbidden(),
            forbidden(),
            forbidden(),
            forbidden(),
            forbidden(),
            forbidden(),
        ];
        let events = stream::iter(events.map(Err)).chain(stream::iter([Ok(()), Err(forbidden()), Ok(())]));
        let mut events = std::pin::pin!(patiently(events));
        let mut last = Instant::now();
        let mut pauses = Vec::new();
        while let Some(event) = events.next().await {
            if event.is_ok() {
                pauses.push(last.elapsed());
            }
            last = Instant::now();
        }
        assert!(pauses[1] <= Duration::from_millis(1010), "{pauses:?}");
    }
}
