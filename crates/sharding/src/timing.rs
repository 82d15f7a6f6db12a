//! How long a Lease is good for, on either side of it.

use std::fmt;

/// Milliseconds of a process's own CLOCK_BOOTTIME: monotonic, and going on in a suspend. Never a wall clock, and
/// never comparable between two processes.
pub type Millis = u64;

/// No clock in the fleet runs faster than this many tenths of true time, or slower than [`SLOWEST_TENTHS`].
pub const FASTEST_TENTHS: u64 = 11;
/// See [`FASTEST_TENTHS`].
pub const SLOWEST_TENTHS: u64 = 9;

/// The three times of a Lease. Only [`Timings::new`] makes one, so one that exists is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::struct_field_names, reason = "the unit is part of the name")]
pub struct Timings {
    lease_ms: Millis,
    renew_deadline_ms: Millis,
    retry_ms: Millis,
}

/// Which inequality does not hold. Each message says why it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// A renewal takes a round trip; below this the traffic is nothing but renewals.
    #[error("the retry period is {retry_ms} ms, but must be at least 100 ms: a renewal takes a round trip")]
    RetryTooShort {
        /// As configured.
        retry_ms: Millis,
    },
    /// One lost renewal must not stop a member.
    #[error(
        "the renew deadline of {renew_deadline_ms} ms must be at least twice the retry period of {retry_ms} ms: \
         one lost renewal must not stop a member"
    )]
    OneTry {
        /// As configured.
        renew_deadline_ms: Millis,
        /// As configured.
        retry_ms: Millis,
    },
    /// Between the renew deadline and the end of its work a member finishes what runs.
    #[error(
        "the renew deadline of {renew_deadline_ms} ms must be less than {abort_ms} ms, three quarters of the Lease: \
         what has begun by the deadline needs the time between to end"
    )]
    NoTimeToStop {
        /// As configured.
        renew_deadline_ms: Millis,
        /// Three quarters of the Lease.
        abort_ms: Millis,
    },
    /// The slowest clock must have stopped before the fastest one has counted the Lease to its end.
    #[error(
        "a Lease of {lease_ms} ms is too short: a clock at 0.9 of true time stops after {slowest_stop_ms} ms, and one \
         at 1.1 takes the Lease after {fastest_take_ms} ms; at least {MARGIN_MS} ms must lie between"
    )]
    NoMargin {
        /// As configured.
        lease_ms: Millis,
        /// True time after which the slowest holder has stopped.
        slowest_stop_ms: Millis,
        /// True time after which the fastest observer may take the Lease.
        fastest_take_ms: Millis,
    },
    /// A limit on everything; it also keeps the arithmetic from overflowing.
    #[error("a Lease of {lease_ms} ms is too long: a member that died would be missed for more than an hour")]
    LeaseTooLong {
        /// As configured.
        lease_ms: Millis,
    },
}

/// True time between the last moment of the slowest holder's work and the first of the fastest taker's: what a
/// timer that fires late may use up. A process that is late by more counts as frozen, and the fence refuses it.
pub const MARGIN_MS: Millis = 200;

impl Timings {
    /// 15/10/2 s, as client-go has it.
    pub const DEFAULT: Self = Self {
        lease_ms: 15_000,
        renew_deadline_ms: 10_000,
        retry_ms: 2_000,
    };
    /// 6/4/1 s, for small fleets on a fast control plane.
    pub const FAST: Self = Self {
        lease_ms: 6_000,
        renew_deadline_ms: 4_000,
        retry_ms: 1_000,
    };

    /// Refuses times with which two members could own one bucket, or one lost packet would stop a member.
    pub fn new(lease_ms: Millis, renew_deadline_ms: Millis, retry_ms: Millis) -> Result<Self, TimingError> {
        // An hour: also keeps every product below far from overflow.
        if lease_ms > 3_600_000 {
            return Err(TimingError::LeaseTooLong { lease_ms });
        }
        if retry_ms < 100 {
            return Err(TimingError::RetryTooShort { retry_ms });
        }
        if renew_deadline_ms < retry_ms.saturating_mul(2) {
            return Err(TimingError::OneTry {
                renew_deadline_ms,
                retry_ms,
            });
        }
        let timings = Self {
            lease_ms,
            renew_deadline_ms,
            retry_ms,
        };
        let abort_ms = timings.abort_ms();
        if renew_deadline_ms >= abort_ms {
            return Err(TimingError::NoTimeToStop {
                renew_deadline_ms,
                abort_ms,
            });
        }
        // The holder counts from before its request was sent, the taker from when it saw the result: so the holder
        // began first, and only the rates of the clocks count.
        let slowest_stop_ms = abort_ms * 10 / SLOWEST_TENTHS;
        let fastest_take_ms = lease_ms * 10 / FASTEST_TENTHS;
        if slowest_stop_ms + MARGIN_MS > fastest_take_ms {
            return Err(TimingError::NoMargin {
                lease_ms,
                slowest_stop_ms,
                fastest_take_ms,
            });
        }
        Ok(timings)
    }

    /// A record that has not been seen to change for this long may be taken.
    #[must_use]
    pub fn lease_ms(self) -> Millis {
        self.lease_ms
    }

    /// From the moment before a renewal was sent: after this, its sender starts nothing.
    #[must_use]
    pub fn renew_deadline_ms(self) -> Millis {
        self.renew_deadline_ms
    }

    /// Between two renewals, and between two tries of one.
    #[must_use]
    pub fn retry_ms(self) -> Millis {
        self.retry_ms
    }

    /// From the moment before a renewal was sent: at this, all work of its sender has stopped. 0.75 of the Lease,
    /// since 0.75 / 0.9 < 1 / 1.1.
    #[must_use]
    pub fn abort_ms(self) -> Millis {
        self.lease_ms / 4 * 3
    }
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{} ms", self.lease_ms, self.renew_deadline_ms, self.retry_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_profiles_hold_their_own_inequalities() {
        for profile in [Timings::DEFAULT, Timings::FAST] {
            assert_eq!(
                Timings::new(profile.lease_ms, profile.renew_deadline_ms, profile.retry_ms),
                Ok(profile)
            );
        }
    }

    #[test]
    fn a_broken_inequality_is_named() {
        for (case, times, expected) in [
            ("a retry that is no time", (15_000, 10_000, 50), "at least 100 ms"),
            ("a single try", (15_000, 3_000, 2_000), "one lost renewal"),
            (
                "no time to stop",
                (15_000, 11_250, 2_000),
                "three quarters of the Lease",
            ),
            (
                "a deadline beyond the Lease",
                (15_000, 20_000, 2_000),
                "three quarters of the Lease",
            ),
            (
                "no room for two clocks",
                (2_000, 1_000, 500),
                "at least 200 ms must lie between",
            ),
            ("a Lease of a day", (86_400_000, 10_000, 2_000), "more than an hour"),
            ("nothing at all", (0, 0, 0), "at least 100 ms"),
            ("overflow", (u64::MAX, u64::MAX, u64::MAX), "more than an hour"),
        ] {
            let (lease_ms, renew_deadline_ms, retry_ms) = times;
            let error = Timings::new(lease_ms, renew_deadline_ms, retry_ms).expect_err(case);
            assert!(error.to_string().contains(expected), "{case}: {error}");
        }
    }

    #[test]
    fn whatever_is_accepted_stops_before_it_can_be_taken_at_any_rate() {
        for lease_ms in (0..40_000).step_by(37) {
            for renew_deadline_ms in (0..lease_ms).step_by(501) {
                let Ok(timings) = Timings::new(lease_ms, renew_deadline_ms, 100) else {
                    continue;
                };
                for holder in SLOWEST_TENTHS..=FASTEST_TENTHS {
                    for taker in SLOWEST_TENTHS..=FASTEST_TENTHS {
                        // In true time, multiplied out: abort / holder < lease / taker.
                        assert!(timings.abort_ms() * taker < timings.lease_ms() * holder, "{timings}");
                    }
                }
            }
        }
    }
}
