use jiff::ToSpan;
use proptest::prelude::*;

use super::*;
use crate::certificates::issue::carry_out;

const SERVER: &str = "database-operator.here.svc";
const SETTLE: Duration = Duration::from_hours(1);

fn start() -> Timestamp {
    "2026-11-28T00:00:00Z".parse().expect("it is a time")
}

fn done(step: Step, state: Option<State>, now: Timestamp) -> State {
    carry_out(step, state, SERVER, now, &Times::default()).expect("it is made")
}

fn at(hours: i64) -> Timestamp {
    start() + hours.hours()
}

#[test]
fn steps_come_in_order_and_each_in_its_time() {
    let times = Times::default();
    let begun = done(Step::Begin, None, start());
    let leaf_due = at(60 * 24);
    assert_eq!(next(None, false, start(), &times), Next::Do(Step::Begin));
    assert_eq!(next(Some(&begun), true, start(), &times), Next::Wait(leaf_due));
    assert_eq!(next(Some(&begun), true, leaf_due, &times), Next::Do(Step::RenewLeaf));

    let authority_due = at(365 * 24 * 2 / 3);
    let renewed = done(Step::RenewLeaf, Some(begun), at(5_800));
    assert_eq!(renewed.leaf.ends(), at(5_800 + 90 * 24));
    assert_eq!(
        next(Some(&renewed), true, authority_due, &times),
        Next::Do(Step::Announce)
    );

    let announced = done(Step::Announce, Some(renewed.clone()), authority_due);
    assert_eq!(announced.leaf, renewed.leaf);
    assert!(matches!(
        next(Some(&announced), false, authority_due, &times),
        Next::Wait(_)
    ));
    assert_eq!(
        next(Some(&announced), true, authority_due, &times),
        Next::Do(Step::NoteAccepted)
    );

    let noted = done(Step::NoteAccepted, Some(announced), authority_due);
    assert_eq!(
        next(Some(&noted), true, authority_due, &times),
        Next::Wait(authority_due + SETTLE)
    );
    assert_eq!(
        next(Some(&noted), true, authority_due + SETTLE, &times),
        Next::Do(Step::Switch)
    );
    // Somebody has taken the bundle away meanwhile.
    assert!(matches!(
        next(Some(&noted), false, authority_due + SETTLE, &times),
        Next::Wait(_)
    ));

    let switch = authority_due + SETTLE;
    let switched = done(Step::Switch, Some(noted.clone()), switch);
    assert_eq!(switched.bundle(), noted.bundle());
    assert_ne!(switched.authority, noted.authority);
    assert_eq!(next(Some(&switched), true, switch, &times), Next::Wait(switch + SETTLE));
    assert_eq!(
        next(Some(&switched), true, switch + SETTLE, &times),
        Next::Do(Step::Forget)
    );
    let forgot = done(Step::Forget, Some(switched.clone()), switch + SETTLE);
    assert_eq!(
        (forgot.bundle().as_str(), &forgot.leaf),
        (switched.authority.certificate(), &switched.leaf)
    );
}

#[test]
fn a_change_that_is_never_accepted_ends_in_one_that_begins_anew() {
    let times = Times::default();
    let begun = done(Step::Begin, None, start());
    let announced = done(Step::Announce, Some(begun.clone()), at(365 * 16));
    // Its certificate can last no longer than its authority: nothing is written for that.
    let late = done(Step::RenewLeaf, Some(announced), at(340 * 24));
    assert_eq!(late.leaf.ends(), begun.authority.ends());
    assert_eq!(
        next(Some(&late), false, at(360 * 24), &times),
        Next::Wait(begun.authority.ends())
    );
    assert_eq!(next(Some(&late), false, at(365 * 24), &times), Next::Do(Step::Begin));
}

/// What may be seen of a state for a while after it was replaced.
struct Past<T>(Vec<(Timestamp, T)>);

impl<T: Clone + PartialEq> Past<T> {
    fn is(&mut self, now: Timestamp, value: T) {
        if self.0.last().is_none_or(|(_, last)| *last != value) {
            self.0.push((now, value));
        }
    }

    /// All that somebody may see who is behind by less than the time to settle.
    fn seen(&self, now: Timestamp) -> impl Iterator<Item = &T> {
        let replaced = self.0.iter().skip(1).map(|(since, _)| Some(*since)).chain([None]);
        self.0
            .iter()
            .zip(replaced)
            .filter(move |(_, until)| until.is_none_or(|until| until > now - SETTLE))
            .map(|((_, value), _)| value)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Three years. Looks come late, the registration follows late, and replicas and API servers are behind by up to the
    /// time to settle: whatever a replica may show is accepted by every API server.
    #[test]
    fn what_is_shown_is_accepted_at_every_moment(
        late_minutes in prop::collection::vec(0_i64..4_000, 64),
        follows_minutes in prop::collection::vec(0_i64..600, 64),
    ) {
        let times = Times::default();
        let end = at(3 * 365 * 24);
        let (mut now, mut steps) = (start(), Vec::new());
        let mut state = done(Step::Begin, None, now);
        let (mut shown, mut accepted) = (Past(vec![]), Past(vec![]));
        accepted.is(now, state.bundle());
        let mut pending: Option<Timestamp> = None;
        for turn in 0.. {
            // The registration follows the state after a while.
            if pending.is_some_and(|at| at <= now) {
                accepted.is(now, state.bundle());
                pending = None;
            }
            shown.is(now, (state.leaf.ends(), state.authority.certificate().to_owned()));
            for (ends, authority) in shown.seen(now) {
                prop_assert!(*ends > now, "a replica shows what has ended, after {steps:?}");
                for bundle in accepted.seen(now) {
                    prop_assert!(bundle.contains(authority.as_str()), "not accepted at {now}, after {steps:?}");
                }
            }
            if now >= end {
                break;
            }
            let is_accepted = accepted.0.last().is_some_and(|(_, bundle)| *bundle == state.bundle());
            match next(Some(&state), is_accepted, now, &times) {
                Next::Do(step) => {
                    steps.push(step);
                    state = done(step, Some(state), now);
                    let follows = follows_minutes[turn % follows_minutes.len()];
                    pending = (accepted.0.last().map(|(_, bundle)| bundle) != Some(&state.bundle()))
                        .then(|| now + follows.minutes());
                }
                Next::Wait(at) => {
                    let look = at + late_minutes[turn % late_minutes.len()].minutes();
                    now = pending.map_or(look, |pending| pending.clamp(now, look));
                }
            }
        }
        let count = |step| steps.iter().filter(|done| **done == step).count();
        prop_assert_eq!(count(Step::Begin), 0);
        // Three years have four turns of two thirds of a year, and twenty of 60 days, some of which a switch saves.
        prop_assert!((3..=4).contains(&count(Step::Switch)), "{steps:?}");
        prop_assert!((12..=20).contains(&count(Step::RenewLeaf)), "{steps:?}");
    }
}
