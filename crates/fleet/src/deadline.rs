//! When the core wants to be asked again.

use sharding::protocol::{Config, Keeper, Process};
use sharding::timing::Millis;

/// The next moment at which time alone changes what the core does; at the latest after a retry period.
#[must_use]
pub fn next(process: &Process, now: Millis, config: &Config) -> Millis {
    let timings = config.timings;
    let (member, leader) = (&process.member, &process.leader);
    let of_keeper = |keeper: &Keeper| {
        [
            keeper.tried_ms.map(|tried| tried + timings.retry_ms()),
            keeper.held_from.map(|sent| sent + timings.renew_deadline_ms()),
            keeper.known.as_ref().map(|known| known.changed_ms + timings.lease_ms()),
        ]
    };
    let of_leader = [
        member.abort_at(config),
        leader.pause_until,
        leader.rest_until,
        leader
            .preparing
            .map(|(_, since)| since.saturating_add(config.prepare_ms)),
    ];
    let of_leases = leader
        .leases
        .values()
        .map(|lease| Some(lease.changed_ms + timings.lease_ms()));
    of_keeper(&member.keeper)
        .into_iter()
        .chain(of_keeper(&leader.keeper))
        .chain(of_leader)
        .chain(of_leases)
        .flatten()
        .filter(|at| *at > now)
        .fold(now + timings.retry_ms(), Millis::min)
}

#[cfg(test)]
pub(crate) mod tests {
    use sharding::map::Expected;
    use sharding::protocol::{Observed, Version, Work};
    use sharding::timing::Timings;
    use sharding::{Bucket, Epoch};

    use super::*;

    type Change = fn(&mut Process);

    /// Of a member of tests.
    pub(crate) fn config() -> Config {
        Config {
            me: "a_1".parse().expect("an incarnation"),
            timings: Timings::FAST,
            expected: Expected::of("here"),
            shards: 1,
            prepare_ms: 20_000,
            assign: |owners, _, _| owners.to_vec(),
            flaw: None,
        }
    }

    #[test]
    fn time_alone_is_never_waited_for_longer_than_a_retry_period() {
        assert_eq!(next(&Process::new(1), 50_000, &config()), 51_000);
    }

    #[test]
    fn the_next_deadline_counts() {
        let now = 50_000;
        let lease = |changed_ms| Observed {
            lease: None,
            at: Version(1),
            changed_ms,
        };
        let changes: [(&str, Change, Millis); 6] = [
            (
                "a renewal is due",
                |it| it.member.keeper.tried_ms = Some(49_100),
                50_100,
            ),
            (
                "the renew deadline",
                |it| it.member.keeper.held_from = Some(46_200),
                50_200,
            ),
            ("leading ends", |it| it.leader.keeper.held_from = Some(46_300), 50_300),
            ("a pause ends", |it| it.leader.pause_until = Some(50_400), 50_400),
            (
                "a round waits no longer",
                |it| it.leader.preparing = Some((1, 30_500)),
                50_500,
            ),
            (
                "it was due already",
                |it| it.member.keeper.tried_ms = Some(40_000),
                51_000,
            ),
        ];
        for (case, change, expected) in changes {
            let mut process = Process::new(1);
            change(&mut process);
            assert_eq!(next(&process, now, &config()), expected, "{case}");
        }
        let mut process = Process::new(1);
        process.leader.leases.insert("b".into(), lease(44_600));
        assert_eq!(next(&process, now, &config()), 50_600, "a Lease runs out");
        process.member.keeper.held_from = Some(45_550);
        let bucket = Bucket::try_from(3).expect("small");
        process.member.work.insert(bucket, Work::Serving(Epoch(9)));
        assert_eq!(next(&process, now, &config()), 50_050, "all work must stop");
    }
}
