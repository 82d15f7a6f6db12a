//! When to do something again and again: five fields of cron.
//!
//! A schedule speaks of local times, so it needs a time zone. What happens when the clocks change:
//! - a local time that the clock **skips** counts at the moment after the skip (a backup at 02:30 is taken at 03:00 on
//!   that day, not lost);
//! - a local time that occurs **twice** counts the first time only (so that an hourly schedule pauses for two hours once
//!   a year).
//!
//! Not guaranteed: that two moments are apart by any length of time. Who must not run twice keeps the last run.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

/// A repeating schedule, by minute, hour, day of the month, month and day of the week.
///
/// Each field is `*`, a number, a range `1-5`, or a list `1,3,5` of them; a range or `*` may have a step `*/15`, and
/// `5/15` means `5-59/15`. Months and days of the week may be English names of three letters, in any case. Sunday is 0
/// and 7. If both day of the month and day of the week are other than `*`, a day matches if either does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    text: String,
    /// One bit for each value that matches, per field.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is bit 0.
    weekdays: u64,
    /// Whether a day matches if either the day of the month or the day of the week does.
    either_day: bool,
}

/// A field of a schedule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Field {
    /// The first.
    Minute,
    /// The second.
    Hour,
    /// The third.
    DayOfMonth,
    /// The fourth.
    Month,
    /// The fifth.
    DayOfWeek,
}

impl Field {
    const fn bounds(self) -> (u32, u32) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (0, 7),
        }
    }

    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Minute | Self::Hour | Self::DayOfMonth => &[],
            Self::Month => &[
                "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
            ],
            Self::DayOfWeek => &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Minute => "the minute",
            Self::Hour => "the hour",
            Self::DayOfMonth => "the day of the month",
            Self::Month => "the month",
            Self::DayOfWeek => "the day of the week",
        })
    }
}

/// Why a text is not a schedule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScheduleError {
    /// There are not five fields.
    #[error("must have five fields (minute, hour, day of the month, month, day of the week), but has {0}")]
    Count(usize),
    /// The word after `@` is not known.
    #[error("must be one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually, but is {0:?}")]
    Macro(String),
    /// A value is not one that the field can have.
    #[error(
        "has {text:?} for {field}, which must be from {min} to {max}, `*`, a range, a list, or one of these with a step"
    )]
    Value {
        /// Where.
        field: Field,
        /// What stands there.
        text: String,
        /// The field's least value.
        min: u32,
        /// The field's largest value.
        max: u32,
    },
    /// A range ends before it begins.
    #[error("has the range {text:?} for {field}, which ends before it begins")]
    Range {
        /// Where.
        field: Field,
        /// What stands there.
        text: String,
    },
    /// A step is not a positive number, or is longer than the field.
    #[error("has {text:?} for {field}, whose step must be from 1 to {max}")]
    Step {
        /// Where.
        field: Field,
        /// What stands there.
        text: String,
        /// The field's largest value.
        max: u32,
    },
    /// No month that is listed has a day that is listed.
    #[error("never comes: none of its months has one of its days")]
    Never,
}

/// The name is in no time zone database.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("must be a name of the IANA time zone database, but is {0:?}")]
pub struct UnknownTimeZone(pub String);

/// The time zone of this name, from the built-in database: it depends on the version of this program, not on the system.
pub fn time_zone(name: &str) -> Result<TimeZone, UnknownTimeZone> {
    TimeZoneDatabase::bundled()
        .get(name)
        .map_err(|_| UnknownTimeZone(name.to_owned()))
}

/// Days after which a search ends. The rarest date, 29 February, comes every eight years at the latest (1896, 1904).
const HORIZON_DAYS: u32 = 8 * 366 + 1;

const DAY_MINUTES: i64 = 24 * 60;

impl Schedule {
    /// The first moment after `after` that matches, to the minute; none beyond the year 9999.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let local = zone.to_datetime(after);
        let minute = Time::new(local.hour(), local.minute(), 0, 0).ok()?;
        let start = local.date().to_datetime(minute).checked_add(1.minute()).ok()?;
        let mut date = start.date();
        let mut from = start.time();
        for _ in 0..HORIZON_DAYS {
            if self.has_day(date) {
                let found = self
                    .times()
                    .filter(|time| *time >= from)
                    .find_map(|time| moment(date, time, zone).filter(|moment| *moment > after));
                if found.is_some() {
                    return found;
                }
            }
            date = date.tomorrow().ok()?;
            from = Time::midnight();
        }
        None
    }

    /// The least and the most time between two moments that match one after the other, in minutes of local time (clock
    /// changes aside); `None` if there are no two of them.
    pub fn gaps(&self) -> Option<(i64, i64)> {
        let minutes: Vec<i64> = self
            .times()
            .map(|time| i64::from(time.hour()) * 60 + i64::from(time.minute()))
            .collect();
        let (first, last) = (minutes.first()?, minutes.last()?);
        let over_night = |days: i64| days * DAY_MINUTES - last + first;
        let (fewest, most) = self.days_between()?;
        let within = || minutes.windows(2).map(|pair| pair[1] - pair[0]);
        let shortest = within().chain([over_night(fewest)]).min()?;
        let longest = within().chain([over_night(most)]).max()?;
        Some((shortest, longest))
    }

    /// The fewest and the most days from one that matches to the next.
    fn days_between(&self) -> Option<(i64, i64)> {
        let full = |set: u64, (least, most): (u32, u32)| (least..=most).all(|value| set >> value & 1 == 1);
        let every_weekday = self.weekdays & 0x7f == 0x7f;
        if full(self.months, Field::Month.bounds())
            && full(self.days, Field::DayOfMonth.bounds())
            && (every_weekday || self.either_day)
        {
            return Some((1, 1));
        }
        let mut date = Date::constant(2024, 1, 1);
        let (mut before, mut gaps) = (None, None::<(i64, i64)>);
        for day in 0..i64::from(HORIZON_DAYS) {
            if self.has_day(date)
                && let Some(before) = before.replace(day)
            {
                let gap = day - before;
                gaps = Some(gaps.map_or((gap, gap), |(fewest, most)| (fewest.min(gap), most.max(gap))));
            }
            date = date.tomorrow().ok()?;
        }
        gaps
    }

    /// The times of a day that match, in order.
    fn times(&self) -> impl Iterator<Item = Time> {
        let minutes = self.minutes;
        bits(self.hours)
            .flat_map(move |hour| bits(minutes).filter_map(move |minute| Time::new(hour, minute, 0, 0).ok()))
    }

    /// Whether the date matches.
    fn has_day(&self, date: Date) -> bool {
        let has = |set: u64, value: i8| set >> value & 1 == 1;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month())
            && if self.either_day {
                day || weekday
            } else {
                day && weekday
            }
    }
}

/// The numbers of the bits that are set.
fn bits(set: u64) -> impl Iterator<Item = i8> {
    (0_i8..64).filter(move |bit| set >> bit & 1 == 1)
}

/// The moment at which a local time comes, as the module says for times that come never or twice.
fn moment(date: Date, time: Time, zone: &TimeZone) -> Option<Timestamp> {
    let local = date.to_datetime(time);
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
        // By the later offset, the skipped time lies before the moment at which the clock was changed.
        AmbiguousOffset::Gap { after, .. } => {
            let before_skip = after.to_timestamp(local).ok()?;
            zone.following(before_skip)
                .next()
                .map(|transition| transition.timestamp())
        }
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let trimmed = text.trim_ascii();
        let expanded = match trimmed.strip_prefix('@') {
            Some("hourly") => "0 * * * *",
            Some("daily" | "midnight") => "0 0 * * *",
            Some("weekly") => "0 0 * * 0",
            Some("monthly") => "0 0 1 * *",
            Some("yearly" | "annually") => "0 0 1 1 *",
            Some(_) => return Err(ScheduleError::Macro(trimmed.to_owned())),
            None => trimmed,
        };
        let fields: Vec<&str> = expanded.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(ScheduleError::Count(fields.len()));
        };
        let schedule = Self {
            text: trimmed.to_owned(),
            minutes: values(Field::Minute, minute)?,
            hours: values(Field::Hour, hour)?,
            days: values(Field::DayOfMonth, day)?,
            months: values(Field::Month, month)?,
            // 7 is Sunday too.
            weekdays: values(Field::DayOfWeek, weekday).map(|set| set & 0x7f | set >> 7)?,
            either_day: day != "*" && weekday != "*",
        };
        if !schedule.either_day && !schedule.comes() {
            return Err(ScheduleError::Never);
        }
        Ok(schedule)
    }
}

impl Schedule {
    /// Whether one of the months has one of the days, in some year.
    fn comes(&self) -> bool {
        let longest = |month| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        bits(self.months).any(|month| bits(self.days).any(|day| day <= longest(month)))
    }
}

/// The values that a field matches, one bit each.
fn values(field: Field, text: &str) -> Result<u64, ScheduleError> {
    text.split(',')
        .map(|part| range(field, part))
        .try_fold(0, |all, part| Ok(all | part?))
}

/// The values that one part of a list matches.
fn range(field: Field, text: &str) -> Result<u64, ScheduleError> {
    let (min, max) = field.bounds();
    let (span, step) = match text.split_once('/') {
        Some((span, step)) => (span, Some(step)),
        None => (text, None),
    };
    let (first, last) = match (span, span.split_once('-')) {
        // Monday to Sunday, not twice Sunday.
        ("*", _) => (min, if field == Field::DayOfWeek { 6 } else { max }),
        (_, Some((first, last))) => (value(field, first, text)?, value(field, last, text)?),
        (single, None) => {
            let first = value(field, single, text)?;
            (first, if step.is_some() { max } else { first })
        }
    };
    if last < first {
        return Err(ScheduleError::Range {
            field,
            text: text.to_owned(),
        });
    }
    let step = match step {
        Some(step) => number(step)
            .filter(|step| (1..=max).contains(step))
            .ok_or_else(|| ScheduleError::Step {
                field,
                text: text.to_owned(),
                max,
            })?,
        None => 1,
    };
    let mut set = 0;
    let mut next = first;
    while next <= last {
        set |= 1 << next;
        next += step;
    }
    Ok(set)
}

/// A number within the field's bounds, or one of its names.
fn value(field: Field, text: &str, part: &str) -> Result<u32, ScheduleError> {
    let (min, max) = field.bounds();
    let named = field.names().iter().position(|name| name.eq_ignore_ascii_case(text));
    let named = named
        .and_then(|index| u32::try_from(index).ok())
        .map(|index| index + min);
    named
        .or_else(|| number(text))
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| ScheduleError::Value {
            field,
            text: part.to_owned(),
            min,
            max,
        })
}

/// A number of one or two digits, and nothing else.
fn number(text: &str) -> Option<u32> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
