use std::time::Duration;

/// How long a key waits after its n-th failure in a row: a random time from 0 up to a ceiling that doubles with
/// each failure until it reaches the cap ("full jitter": keys that failed together do not come back together).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Ceiling of the first wait. Smaller: a blip is over sooner. Larger: fewer useless retries.
    pub base: Duration,
    /// Ceiling of every later wait. Smaller: recovery after a long outage is noticed sooner. Larger: less load
    /// on whatever is failing.
    pub cap: Duration,
}

impl Default for Backoff {
    /// 50 ms doubling to 5 minutes: fourteen failures in a row reach the cap.
    fn default() -> Self {
        Self {
            base: Duration::from_millis(50),
            cap: Duration::from_mins(5),
        }
    }
}

impl Backoff {
    /// The longest wait after `failures` failures in a row (the first failure is 1). Never above the cap.
    #[must_use]
    pub fn ceiling(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1);
        2_u32
            .checked_pow(doublings)
            .and_then(|factor| self.base.checked_mul(factor))
            .map_or(self.cap, |ceiling| ceiling.min(self.cap))
    }

    /// The wait after `failures` failures in a row. `draw` is a uniformly random number; the same draw gives
    /// the same wait.
    #[must_use]
    pub fn wait(&self, failures: u32, draw: u64) -> Duration {
        let ceiling_us = u128::from(micros(self.ceiling(failures)));
        // A multiplication instead of a remainder, so that every wait is equally likely (to within 2^-64).
        let wait_us = ((ceiling_us + 1) * u128::from(draw)) >> 64;
        Duration::from_micros(u64::try_from(wait_us).unwrap_or(u64::MAX))
    }
}

/// Whole microseconds, saturating (585,000 years).
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_millis(100),
        cap: Duration::from_mins(1),
    };

    #[test]
    fn the_ceiling_doubles_up_to_the_cap_and_stays_there() {
        for (failures, expected_ms) in [
            (0, 100),
            (1, 100),
            (2, 200),
            (3, 400),
            (10, 51_200),
            (11, 60_000),
            (40, 60_000),
            (u32::MAX, 60_000),
        ] {
            assert_eq!(
                BACKOFF.ceiling(failures),
                Duration::from_millis(expected_ms),
                "after {failures} failures"
            );
        }
    }

    #[test]
    fn the_first_wait_respects_a_cap_below_the_base() {
        let backoff = Backoff {
            base: Duration::from_secs(5),
            cap: Duration::from_secs(1),
        };
        assert_eq!(backoff.wait(1, u64::MAX), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_zero_and_its_ceiling(failures in 0_u32..80, draw: u64) {
            prop_assert!(BACKOFF.wait(failures, draw) <= BACKOFF.ceiling(failures));
        }

        #[test]
        fn a_larger_draw_never_waits_less(failures in 0_u32..80, a: u64, b: u64) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(BACKOFF.wait(failures, low) <= BACKOFF.wait(failures, high));
        }
    }

    #[test]
    fn the_whole_range_is_reached() {
        assert_eq!(BACKOFF.wait(3, 0), Duration::ZERO);
        assert_eq!(BACKOFF.wait(3, u64::MAX / 2), Duration::from_millis(200));
        assert_eq!(BACKOFF.wait(3, u64::MAX), Duration::from_millis(400));
    }
}
