//! The two clocks of a process. Only the first decides anything.

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use sharding::timing::Millis;

/// Where the driver gets the time from.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// Milliseconds, monotonic, going on in a suspend: all of the protocol's time.
    pub boot: fn() -> Millis,
    /// For people who read a Lease, and for the numbers of a map, which are not below it. No two are compared.
    pub wall: fn() -> Timestamp,
}

impl Default for Clocks {
    fn default() -> Self {
        Self {
            boot: boottime_ms,
            wall: Timestamp::now,
        }
    }
}

impl Clocks {
    /// Unix time in seconds.
    pub(crate) fn unix_s(&self) -> u64 {
        u64::try_from((self.wall)().as_second()).unwrap_or(0)
    }
}

/// CLOCK_BOOTTIME. Unlike CLOCK_MONOTONIC, behind [`std::time::Instant`], it counts while the machine is suspended.
#[must_use]
pub fn boottime_ms() -> Millis {
    // Only a kernel without this clock (before 2.6.39) refuses.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the kernel has CLOCK_BOOTTIME");
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    let millis = u64::try_from(now.tv_nsec()).unwrap_or(0) / 1_000_000;
    seconds * 1000 + millis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boottime_goes_on() {
        let before = boottime_ms();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let passed = boottime_ms() - before;
        assert!((19..20_000).contains(&passed), "{passed} ms");
    }

    #[test]
    fn unix_time_is_never_negative() {
        let clocks = Clocks {
            wall: || Timestamp::from_second(1_767_323_045).expect("in range"),
            ..Clocks::default()
        };
        assert_eq!(clocks.unix_s(), 1_767_323_045);
        let before_1970 = Clocks {
            wall: || Timestamp::from_second(-1).expect("in range"),
            ..Clocks::default()
        };
        assert_eq!(before_1970.unix_s(), 0);
    }
}
