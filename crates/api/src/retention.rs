//! How long a backup is kept.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// A length of time by the calendar: a number of days, weeks, months or years, from one day to a hundred years.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Retention {
    count: u16,
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Unit {
    Days,
    Weeks,
    Months,
    Years,
}

impl Unit {
    /// The letter that stands for it, its name, and how many make a hundred years.
    const fn facts(self) -> (char, &'static str, u16) {
        match self {
            Self::Days => ('d', "days", 36_500),
            Self::Weeks => ('w', "weeks", 5_200),
            Self::Months => ('m', "months", 1_200),
            Self::Years => ('y', "years", 100),
        }
    }
}

/// Why a text is not a retention.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RetentionError {
    /// It is not a number and one of the units.
    #[error("must be a whole number and one unit, d (days), w (weeks), m (months) or y (years), such as 30d")]
    Form,
    /// It is nothing, so that no backup would be kept.
    #[error("must be at least 1, or no backup would be kept")]
    Zero,
    /// It has a leading zero.
    #[error("must be written without leading zeros")]
    LeadingZero,
    /// It is over a hundred years.
    #[error("must be at most {max} {unit}, which is a hundred years")]
    TooLong {
        /// How many make a hundred years.
        max: u16,
        /// Name of the unit.
        unit: &'static str,
    },
}

impl Retention {
    /// The fewest days that this can be: twelve months are a year of 365 days, a month beside these has 28.
    pub fn least_days(&self) -> u32 {
        self.days(28, 365)
    }

    /// The most days that this can be: twelve months are a year of 366 days, a month beside these has 31.
    pub fn most_days(&self) -> u32 {
        self.days(31, 366)
    }

    fn days(self, of_month: u32, of_year: u32) -> u32 {
        let count = u32::from(self.count);
        match self.unit {
            Unit::Days => count,
            Unit::Weeks => count * 7,
            Unit::Months => count / 12 * of_year + count % 12 * of_month,
            Unit::Years => count * of_year,
        }
    }

    /// The moment before which a backup is old enough to go, by the calendar of this time zone.
    ///
    /// The time of day stays; a day that the month has not becomes its last (a month before 31 March is 28 or 29
    /// February). A time that the clock skipped becomes the moment after it.
    pub fn cutoff(&self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        let count = i64::from(self.count);
        let span = match self.unit {
            Unit::Days => Span::new().days(count),
            Unit::Weeks => Span::new().weeks(count),
            Unit::Months => Span::new().months(count),
            Unit::Years => Span::new().years(count),
        };
        // Only a `now` at the beginning of time fails; then nothing is old enough.
        now.to_zoned(zone.clone())
            .checked_sub(span)
            .map_or(Timestamp::MIN, |cutoff| cutoff.timestamp())
    }
}

impl FromStr for Retention {
    type Err = RetentionError;

    fn from_str(text: &str) -> Result<Self, RetentionError> {
        let unit = match text.as_bytes().last() {
            Some(b'd') => Unit::Days,
            Some(b'w') => Unit::Weeks,
            Some(b'm') => Unit::Months,
            Some(b'y') => Unit::Years,
            Some(_) | None => return Err(RetentionError::Form),
        };
        let number = &text[..text.len() - 1];
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(RetentionError::Form);
        }
        if number.bytes().all(|byte| byte == b'0') {
            return Err(RetentionError::Zero);
        }
        if number.starts_with('0') {
            return Err(RetentionError::LeadingZero);
        }
        let (_, name, max) = unit.facts();
        let count = number.parse().ok().filter(|count| *count <= max);
        count
            .map(|count| Self { count, unit })
            .ok_or(RetentionError::TooLong { max, unit: name })
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, self.unit.facts().0)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZoneDatabase;
    use proptest::prelude::*;

    use super::*;

    fn cutoff(retention: &str, now: &str, zone: &str) -> String {
        let retention: Retention = retention.parse().unwrap_or_else(|error| panic!("{retention}: {error}"));
        let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
        retention.cutoff(now.parse().unwrap(), &zone).to_string()
    }

    #[test]
    fn days_are_bounded_on_both_sides() {
        for (text, least, most) in [
            ("30d", 30, 30),
            ("2w", 14, 14),
            ("1m", 28, 31),
            ("14m", 421, 428),
            ("10y", 3650, 3660),
        ] {
            let retention: Retention = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((retention.least_days(), retention.most_days()), (least, most), "{text}");
        }
    }

    #[test]
    fn cutoffs() {
        for (case, retention, now, zone, expected) in [
            ("days", "30d", "2026-03-31T12:00:00Z", "UTC", "2026-03-01T12:00:00Z"),
            ("weeks", "2w", "2026-03-31T12:00:00Z", "UTC", "2026-03-17T12:00:00Z"),
            (
                "m is months, not minutes",
                "6m",
                "2026-03-31T12:00:00Z",
                "UTC",
                "2025-09-30T12:00:00Z",
            ),
            (
                "the month's last day",
                "1m",
                "2026-03-31T12:00:00Z",
                "UTC",
                "2026-02-28T12:00:00Z",
            ),
            (
                "a leap year's last day",
                "1m",
                "2024-03-31T12:00:00Z",
                "UTC",
                "2024-02-29T12:00:00Z",
            ),
            (
                "years from a leap day",
                "1y",
                "2024-02-29T12:00:00Z",
                "UTC",
                "2023-02-28T12:00:00Z",
            ),
            (
                "a day of 23 hours",
                "1d",
                "2026-03-29T20:00:00Z",
                "Europe/Berlin",
                "2026-03-28T21:00:00Z",
            ),
            (
                "a time that was skipped",
                "1d",
                "2026-03-30T00:30:00Z",
                "Europe/Berlin",
                "2026-03-29T01:30:00Z",
            ),
            (
                "the beginning of time",
                "100y",
                "-009999-01-02T01:59:59Z",
                "UTC",
                "-009999-01-02T01:59:59Z",
            ),
        ] {
            assert_eq!(cutoff(retention, now, zone), expected, "{case}");
        }
    }

    #[test]
    fn each_error_says_what_is_wrong() {
        for text in [
            "", "d", "30", "30h", "30 d", "-1d", "+1d", "1.5m", "1d1w", "30D", "1mo", "３d",
        ] {
            assert_eq!(text.parse::<Retention>(), Err(RetentionError::Form), "{text}");
        }
        assert_eq!("0d".parse::<Retention>(), Err(RetentionError::Zero));
        assert_eq!("00w".parse::<Retention>(), Err(RetentionError::Zero));
        assert_eq!("07d".parse::<Retention>(), Err(RetentionError::LeadingZero));
        for text in ["36501d", "5201w", "1201m", "101y", "99999999999999y"] {
            assert!(
                matches!(text.parse::<Retention>(), Err(RetentionError::TooLong { .. })),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(count in 1..=100_u16, unit in "[dwmy]") {
            let text = format!("{count}{unit}");
            prop_assert_eq!(text.parse::<Retention>().unwrap().to_string(), text);
        }

        #[test]
        fn a_cutoff_is_earlier_and_longer_retentions_keep_more(
            count in 1..=99_u16,
            unit in "[dwmy]",
            second in 0_i64..4_102_444_800,
        ) {
            let now = Timestamp::from_second(second).unwrap();
            let cutoff = |count: u16| format!("{count}{unit}").parse::<Retention>().unwrap().cutoff(now, &TimeZone::UTC);
            prop_assert!(cutoff(count) < now);
            prop_assert!(cutoff(count + 1) < cutoff(count));
        }
    }
}
