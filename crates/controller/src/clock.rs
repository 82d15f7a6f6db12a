//! The clock of the queue, which asks it three times for each key.

use std::time::Instant;

/// What the system's own clock rests on, if Linux says so.
const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Microseconds since now, never going back.
pub(crate) fn clock() -> Box<dyn Fn() -> u64 + Send + Sync> {
    of(std::fs::read_to_string(SOURCE).unwrap_or_default().trim())
}

/// By the counter of the processor, which answers in a third of the time, only where the system's clock rests on it too:
/// elsewhere it may jump, as when a virtual machine is moved.
fn of(source: &str) -> Box<dyn Fn() -> u64 + Send + Sync> {
    if ["tsc", "arch_sys_counter"].contains(&source) {
        let clock = quanta::Clock::new();
        let zero = clock.raw();
        Box::new(move || clock.delta_as_nanos(zero, clock.raw()) / 1000)
    } else {
        let zero = Instant::now();
        Box::new(move || u64::try_from(zero.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn whatever_it_rests_on_it_goes_as_the_system_s_clock_does() {
        let us = |since: Instant| u64::try_from(since.elapsed().as_micros()).expect("soon");
        for source in ["tsc", "arch_sys_counter", "kvm-clock", ""] {
            let clock = of(source);
            let before = Instant::now();
            let first = clock();
            let after = Instant::now();
            let mut last = first;
            while after.elapsed() < Duration::from_millis(20) {
                let now = clock();
                assert!(now >= last, "{source}: {now} after {last}");
                last = now;
            }
            let at_least = us(after);
            let passed = clock() - first;
            // Twice is more than any two clocks are apart.
            assert!((at_least / 2..=2 * us(before)).contains(&passed), "{source}: {passed}");
        }
    }
}
