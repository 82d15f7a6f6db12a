use proptest::prelude::*;

use super::*;

fn next(schedule: &str, after: &str, zone: &str) -> String {
    let schedule: Schedule = schedule.parse().unwrap_or_else(|error| panic!("{schedule}: {error}"));
    let zone = time_zone(zone).unwrap();
    schedule
        .next_after(after.parse().unwrap(), &zone)
        .map_or("never".to_owned(), |moment| moment.to_string())
}

/// What the case shows, the schedule, the moment before, the time zone, and the next moment.
const MOMENTS: &str = "
every minute                     | * * * * *       | 2026-01-01T00:00:00Z   | UTC                 | 2026-01-01T00:01:00Z
strictly later                   | 0 2 * * *       | 2026-01-01T02:00:00Z   | UTC                 | 2026-01-02T02:00:00Z
seconds are cut                  | 1 2 * * *       | 2026-01-01T02:00:59.9Z | UTC                 | 2026-01-01T02:01:00Z
in the time zone                 | 0 2 * * *       | 2026-01-01T02:00:00Z   | Asia/Tokyo          | 2026-01-01T17:00:00Z
half hours of offset             | 0 2 * * *       | 2026-01-01T00:00:00Z   | Asia/Kolkata        | 2026-01-01T20:30:00Z
steps                            | */20 * * * *    | 2026-01-01T00:41:00Z   | UTC                 | 2026-01-01T01:00:00Z
steps from a start               | 5/20 * * * *    | 2026-01-01T00:26:00Z   | UTC                 | 2026-01-01T00:45:00Z
steps in a range                 | 0 8-18/5 * * *  | 2026-01-01T13:00:00Z   | UTC                 | 2026-01-01T18:00:00Z
lists                            | 0 1,3,9 * * *   | 2026-01-01T03:00:00Z   | UTC                 | 2026-01-01T09:00:00Z
names in any case                | 0 0 * feb Mon   | 2026-01-01T00:00:00Z   | UTC                 | 2026-02-02T00:00:00Z
ranges of names                  | 0 0 * * MON-FRI | 2026-01-02T00:00:00Z   | UTC                 | 2026-01-05T00:00:00Z
7 is Sunday                      | 0 0 * * 7       | 2026-01-01T00:00:00Z   | UTC                 | 2026-01-04T00:00:00Z
0 is Sunday                      | 0 0 * * 0       | 2026-01-01T00:00:00Z   | UTC                 | 2026-01-04T00:00:00Z
5-7 holds Sunday                 | 0 0 * * 5-7     | 2026-01-03T00:00:00Z   | UTC                 | 2026-01-04T00:00:00Z
either day, first                | 0 0 13 * FRI    | 2026-01-03T00:00:00Z   | UTC                 | 2026-01-09T00:00:00Z
either day, then                 | 0 0 13 * FRI    | 2026-01-09T00:00:00Z   | UTC                 | 2026-01-13T00:00:00Z
an impossible day, but a weekday | 0 0 31 2 MON    | 2026-02-01T00:00:00Z   | UTC                 | 2026-02-02T00:00:00Z
leap days                        | 0 0 29 2 *      | 2024-02-29T00:00:00Z   | UTC                 | 2028-02-29T00:00:00Z
eight years to a leap day        | 0 0 29 2 *      | 2096-02-29T00:00:00Z   | UTC                 | 2104-02-29T00:00:00Z
the end of time                  | 0 0 29 2 *      | 9999-01-01T00:00:00Z   | UTC                 | never
skipped: the moment after        | 30 2 * * *      | 2026-03-28T12:00:00Z   | Europe/Berlin       | 2026-03-29T01:00:00Z
skipped: once                    | */20 2 * * *    | 2026-03-29T01:00:00Z   | Europe/Berlin       | 2026-03-30T00:00:00Z
skipped: in order                | 15,40 2 * * *   | 2026-10-03T12:00:00Z   | Australia/Lord_Howe | 2026-10-03T15:30:00Z
a skipped day                    | 0 12 30 12 *    | 2011-12-29T00:00:00Z   | Pacific/Apia        | 2011-12-30T10:00:00Z
twice: the first                 | 30 2 * * *      | 2026-10-24T12:00:00Z   | Europe/Berlin       | 2026-10-25T00:30:00Z
twice: not the second            | 30 2 * * *      | 2026-10-25T00:30:00Z   | Europe/Berlin       | 2026-10-26T01:30:00Z
twice: from between              | */30 * * * *    | 2026-10-25T01:10:00Z   | Europe/Berlin       | 2026-10-25T02:00:00Z
@hourly                          | @hourly         | 2026-01-01T00:00:00Z   | UTC                 | 2026-01-01T01:00:00Z
@daily                           | @daily          | 2026-01-01T00:00:00Z   | UTC                 | 2026-01-02T00:00:00Z
@midnight                        | @midnight       | 2026-01-01T00:00:00Z   | UTC                 | 2026-01-02T00:00:00Z
@weekly                          | @weekly         | 2026-01-01T00:00:00Z   | UTC                 | 2026-01-04T00:00:00Z
@monthly                         | @monthly        | 2026-01-01T00:00:00Z   | UTC                 | 2026-02-01T00:00:00Z
@yearly                          | @yearly         | 2026-01-01T00:00:00Z   | UTC                 | 2027-01-01T00:00:00Z
@annually                        |  @annually      | 2026-01-01T00:00:00Z   | UTC                 | 2027-01-01T00:00:00Z
";

#[test]
fn moments() {
    for line in MOMENTS.trim().lines() {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [case, schedule, after, zone, expected] = fields[..] else {
            panic!("{line}")
        };
        assert_eq!(next(schedule, after, zone), expected, "{case}");
    }
}

#[test]
fn each_error_names_the_field_and_the_rule() {
    for (text, expected) in [
        ("", "must have five fields"),
        ("0 2 * *", "but has 4"),
        ("0 0 2 * * *", "but has 6"),
        (
            "not a schedule 5s junk",
            "has \"not\" for the minute, which must be from 0 to 59",
        ),
        ("@dailyXYZ", "must be one of @hourly"),
        ("@every 5m", "must be one of @hourly"),
        ("@reboot", "must be one of @hourly"),
        ("60 * * * *", "the minute, which must be from 0 to 59"),
        ("* 24 * * *", "the hour, which must be from 0 to 23"),
        ("* * 0 * *", "the day of the month, which must be from 1 to 31"),
        ("* * 32 * *", "the day of the month, which must be from 1 to 31"),
        ("* * * 13 *", "the month, which must be from 1 to 12"),
        ("* * * JANUARY *", "the month, which must be from 1 to 12"),
        ("* * * * 8", "the day of the week, which must be from 0 to 7"),
        ("* * * MON *", "the month"),
        ("30-10 * * * *", "\"30-10\" for the minute, which ends before it begins"),
        ("* * * * SAT-SUN", "the day of the week, which ends before it begins"),
        ("*/0 * * * *", "whose step must be from 1 to 59"),
        ("*/60 * * * *", "whose step must be from 1 to 59"),
        ("*/x * * * *", "whose step must be from 1 to 59"),
        ("*/1/2 * * * *", "whose step must be from 1 to 59"),
        ("1, * * * *", "the minute"),
        (",1 * * * *", "the minute"),
        ("+1 * * * *", "the minute"),
        ("-1 * * * *", "the minute"),
        ("1-2-3 * * * *", "the minute"),
        ("*-5 * * * *", "the minute"),
        ("** * * * *", "the minute"),
        ("001 * * * *", "the minute"),
        ("? * * * *", "the minute"),
        ("* * L * *", "the day of the month"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
    ] {
        let error = text.parse::<Schedule>().expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn time_zones_are_those_of_the_built_in_database() {
    for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
        assert!(time_zone(name).is_ok(), "{name}");
    }
    for name in ["", "Mars/Olympus", "Europe", "+02:00", "../etc/passwd", "CEST"] {
        assert_eq!(time_zone(name).unwrap_err(), UnknownTimeZone(name.to_owned()));
    }
}

/// Zones in which clocks change by an hour, half an hour, a day, or never.
const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kolkata",
];

/// Schedules that come often enough for a search by brute force.
fn frequent() -> impl Strategy<Value = String> {
    let minute = prop_oneof![
        "[0-5]?[0-9]",
        "\\*/[1-9]",
        "[0-2][0-9]-[3-5][0-9]",
        "[0-9],[1-5][0-9]",
        Just("*".to_owned())
    ];
    let hour = prop_oneof![Just("*".to_owned()), "[0-9]-1[0-9]", "\\*/[1-5]", "[0-4]"];
    let day = prop_oneof![4 => Just("*".to_owned()), 1 => "[1-9]", 1 => "[1-9]-2[0-8]"];
    let weekday = prop_oneof![4 => Just("*".to_owned()), 1 => "[0-7]", 1 => Just("MON-FRI".to_owned())];
    (minute, hour, day, weekday).prop_map(|(minute, hour, day, weekday)| format!("{minute} {hour} {day} * {weekday}"))
}

/// Moments all over three years, half of them within two days of a change of the clocks in one of the zones.
fn moments_of_interest() -> impl Strategy<Value = Timestamp> {
    let changes = [
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-03-08T07:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
        "2011-12-30T10:00:00Z",
    ];
    let near = (prop::sample::select(changes.to_vec()), -172_800_i64..172_800)
        .prop_map(|(change, offset)| change.parse::<Timestamp>().unwrap().as_second() + offset);
    let any = 1_767_225_600_i64..1_861_920_000;
    prop_oneof![near, any].prop_map(|second| Timestamp::from_second(second).unwrap())
}

/// Whether the schedule matches the local time of this moment, told from the text by other means than the bit sets.
fn matches(text: &str, local: jiff::civil::DateTime) -> bool {
    let fields: Vec<&str> = text.split(' ').collect();
    let holds = |field: &str, value: i8, min: i8, max: i8| {
        field.replace("MON-FRI", "1-5").split(',').any(|part| {
            let (span, step) = part
                .split_once('/')
                .map_or((part, 1), |(span, step)| (span, step.parse::<i8>().unwrap()));
            let (first, last) = match (span, span.split_once('-')) {
                ("*", _) => (min, max),
                (_, Some((first, last))) => (first.parse().unwrap(), last.parse().unwrap()),
                (single, None) => (single.parse().unwrap(), single.parse().unwrap()),
            };
            (first..=last).contains(&value) && (value - first) % step == 0
        })
    };
    let weekday = local.weekday().to_sunday_zero_offset();
    let day = holds(fields[2], local.day(), 1, 31);
    let weekday = holds(fields[4], weekday, 0, 6) || (weekday == 0 && holds(fields[4], 7, 0, 6));
    let date = if fields[2] != "*" && fields[4] != "*" {
        day || weekday
    } else {
        day && weekday
    };
    date && holds(fields[0], local.minute(), 0, 59) && holds(fields[1], local.hour(), 0, 23)
}

/// All moments at which the schedule comes within so many minutes after `after`, by looking at each local minute.
fn by_brute_force(text: &str, after: Timestamp, zone: &TimeZone, minutes: i64) -> Option<Timestamp> {
    let first = after.as_second().div_euclid(60) + 1;
    (first..first + minutes)
        .map(|minute| Timestamp::from_second(minute * 60).unwrap())
        .find(|moment| {
            let now = zone.to_datetime(*moment);
            let before = zone.to_datetime(*moment - 1.minute());
            // The local minutes that begin now: one, or all that the clock skips, or none if they were there before.
            let seen = zone.to_ambiguous_timestamp(now).offset();
            let second_time = matches!(seen, AmbiguousOffset::Fold { after, .. } if after == zone.to_offset(*moment));
            let mut skipped = before.checked_add(1.minute()).unwrap();
            let mut any = !second_time && matches(text, now);
            while skipped < now {
                any |= matches(text, skipped);
                skipped = skipped.checked_add(1.minute()).unwrap();
            }
            any
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_next_moment_is_the_first_that_brute_force_finds(
        text in frequent(),
        after in moments_of_interest(),
        zone in prop::sample::select(ZONES.to_vec()),
    ) {
        let zone = time_zone(zone).unwrap();
        let schedule: Schedule = text.parse().unwrap();
        let next = schedule.next_after(after, &zone).unwrap();
        prop_assert!(next > after);
        let window = 4 * 24 * 60;
        let found = by_brute_force(&text, after, &zone, window);
        match found {
            Some(found) => prop_assert_eq!(next, found),
            None => prop_assert!(next.as_second() > after.as_second() + (window - 1) * 60),
        }
    }

    #[test]
    fn any_text_is_a_schedule_that_comes_or_an_error(text in "[0-9*/,@ A-Z-]{0,24}") {
        if let Ok(schedule) = text.parse::<Schedule>() {
            let after = Timestamp::from_second(1_767_225_600).unwrap();
            prop_assert!(schedule.next_after(after, &TimeZone::UTC).is_some());
        }
    }

    #[test]
    fn what_is_written_is_read_again(text in frequent()) {
        let schedule: Schedule = text.parse().unwrap();
        prop_assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
    }
}

#[test]
fn the_gaps_are_what_the_next_moments_show() {
    for (text, expected) in [
        ("0 2 * * *", Some((1440, 1440))),
        ("*/15 * * * *", Some((15, 15))),
        ("0 0,23 * * *", Some((60, 23 * 60))),
        ("0 12 * * 1", Some((7 * 1440, 7 * 1440))),
        ("0 12 * * 1,3", Some((2 * 1440, 5 * 1440))),
        ("0 0 1 * *", Some((28 * 1440, 31 * 1440))),
        ("0 0,1 1 1 *", Some((60, 366 * 1440 - 60))),
        ("0 0 13 * FRI", Some((1440, 7 * 1440))),
        ("0 0 * * 0-6", Some((1440, 1440))),
        ("0 0 29 2 *", Some((1461 * 1440, 1461 * 1440))),
        ("30 23,1 * * 1", Some((22 * 60, 6 * 1440 + 2 * 60))),
    ] {
        let schedule: Schedule = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(schedule.gaps(), expected, "{text}");
        if expected.is_some_and(|(_, most)| most > 366 * 1440) {
            continue;
        }
        let mut at = schedule
            .next_after("2024-01-01T00:00:00Z".parse().unwrap(), &TimeZone::UTC)
            .unwrap();
        let mut seen = (i64::MAX, 0);
        for _ in 0..200 {
            let next = schedule.next_after(at, &TimeZone::UTC).unwrap();
            let gap = (next.as_second() - at.as_second()) / 60;
            (seen, at) = ((seen.0.min(gap), seen.1.max(gap)), next);
        }
        assert_eq!(Some(seen), expected, "{text}");
    }
}
