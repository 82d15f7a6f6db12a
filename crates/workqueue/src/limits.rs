use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::Backoff;
use crate::backoff::micros;

/// What bounds a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a key waits after a failure.
    pub backoff: Backoff,
    /// How many retries are handed out.
    pub retries: RetryRate,
    /// A class waits for this long, once for each class above it, before it gets every second turn that it needs.
    pub ageing: Duration,
    /// About so many keys are known at once: beyond them, requests are shed. Each takes about 200 bytes.
    pub capacity: usize,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRate {
    /// Tokens that come each second.
    pub per_second: NonZeroU32,
    /// Tokens that it holds.
    pub burst: NonZeroU32,
}

impl Default for Limits {
    /// 50 ms doubling to 5 minutes, 100 retries a second after a burst of 200, 15 s of ageing, a million keys.
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            retries: RetryRate {
                per_second: NonZeroU32::new(100).expect("not 0"),
                burst: NonZeroU32::new(200).expect("not 0"),
            },
            ageing: Duration::from_secs(15),
            capacity: 1_000_000,
        }
    }
}

/// The token bucket of retries. `governor` keeps it, on a clock that stands still between calls.
#[derive(Debug)]
pub(crate) struct Tokens {
    bucket: RateLimiter<NotKeyed, InMemoryState, Still, NoOpMiddleware<Duration>>,
    clock: Still,
    next_us: u64,
}

#[derive(Debug, Clone, Default)]
struct Still(Arc<AtomicU64>);

impl Clock for Still {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

impl Tokens {
    pub(crate) fn new(rate: RetryRate) -> Self {
        let clock = Still::default();
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self {
            bucket: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
            next_us: 0,
        }
    }

    /// Whether there may be one: not before [`Tokens::next_us`].
    pub(crate) fn may_be_left(&self, now_us: u64) -> bool {
        now_us >= self.next_us
    }

    /// When the next one comes, if none was left when one was asked for last.
    pub(crate) fn next_us(&self) -> u64 {
        self.next_us
    }

    /// Takes one, if there is one.
    pub(crate) fn spend(&mut self, now_us: u64) -> bool {
        self.clock.0.store(now_us, Ordering::Relaxed);
        match self.bucket.check() {
            Ok(()) => true,
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.clock.now());
                // Rounded up: at that moment there is one.
                self.next_us = now_us.saturating_add(micros(wait).saturating_add(1));
                false
            }
        }
    }
}
