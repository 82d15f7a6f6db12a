//! Who may be drained.

use super::*;
use crate::fleet::drain::{DrainError, wanted};

fn leases(facts: &Facts) -> &Leases {
    &facts.leases
}

/// `member` or why not.
fn asked(facts: &Facts, name: &str, undo: bool) -> Result<(String, Option<u64>), String> {
    let wanted = wanted(leases(facts), name, undo, now());
    wanted
        .map(|wanted| (wanted.member.to_string(), wanted.write_over.map(|version| version.0)))
        .map_err(|error| error.to_string())
}

#[test]
fn a_member_is_drained_by_its_name_or_as_one_process() {
    let facts = healthy();
    for name in ["operator-1", "operator-1_b2"] {
        assert_eq!(
            asked(&facts, name, false),
            Ok(("operator-1_b2".to_owned(), Some(1000))),
            "{name}"
        );
        assert_eq!(
            asked(&facts, name, true),
            Ok(("operator-1_b2".to_owned(), None)),
            "{name}: nothing to undo"
        );
    }
    let drain = Report {
        drain: true,
        ..seen(MAP)
    };
    let facts = with(facts, "operator-1", &lease("operator-1", "operator-1_b2", 0, drain));
    assert_eq!(
        asked(&facts, "operator-1", false),
        Ok(("operator-1_b2".to_owned(), None)),
        "it is asked already"
    );
    assert_eq!(
        asked(&facts, "operator-1", true),
        Ok(("operator-1_b2".to_owned(), Some(1000)))
    );
}

#[test]
fn a_member_that_is_not_there_is_refused_with_those_that_are() {
    let facts = with(healthy(), "gone", &lease("gone", "", 100, Report::default()));
    for name in ["nobody", "gone", "operator-1_b3", "operator", ""] {
        let expected = format!("there is no member {name}; there are operator-0, operator-1, operator-2");
        assert_eq!(asked(&facts, name, false), Err(expected), "{name}");
    }
    let mut facts = healthy();
    facts.leases.members.clear();
    assert_eq!(
        asked(&facts, "a", false),
        Err("there is no member a; there are none".to_owned())
    );
}

#[test]
fn the_last_one_that_could_own_anything_is_not_drained() {
    let with_report = |report: Report, seconds_ago| {
        let mut facts = healthy();
        facts.leases.members.remove("operator-2");
        with(
            facts,
            "operator-1",
            &lease("operator-1", "operator-1_b2", seconds_ago, report),
        )
    };
    let change = |change: fn(&mut Report)| {
        let mut report = seen(MAP);
        change(&mut report);
        report
    };
    assert!(
        asked(&with_report(seen(MAP), 0), "operator-0", false).is_ok(),
        "there is another one"
    );
    for (case, facts) in [
        (
            "the other is leaving",
            with_report(change(|report| report.leaving = true), 0),
        ),
        (
            "the other is drained already",
            with_report(change(|report| report.drain = true), 0),
        ),
        (
            "the other may own nothing",
            with_report(change(|report| report.weight = 0), 0),
        ),
        ("the other looks dead", with_report(seen(MAP), 16)),
        (
            "the other has released its Lease",
            with(
                with_report(seen(MAP), 0),
                "operator-1",
                &lease("operator-1", "", 0, seen(MAP)),
            ),
        ),
    ] {
        let refused = wanted(leases(&facts), "operator-0", false, now()).expect_err(case);
        assert!(
            matches!(refused, DrainError::LastOne { .. }) && refused.is_refusal(),
            "{case}: {refused}"
        );
        assert!(
            asked(&facts, "operator-0", true).is_ok(),
            "{case}: an undo is always allowed"
        );
    }
}
