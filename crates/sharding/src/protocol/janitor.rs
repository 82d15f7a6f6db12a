//! Leases of members long dead. Pods of a Deployment have random names, so every replica that ever ran leaves one.
//!
//! Not guaranteed, and not needed: that its member is dead. Nobody holds it, its member owns nothing by the map, and the
//! deletion is a compare-and-swap, so a process that takes it up again in the same moment either keeps it, or meets a
//! Lease that is gone and makes a new one. No safety rests on the time (`tests/model_check.rs` removes them at once).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lease::{Observed, Version};
use super::{Answer, Command, Config, Flaw, Leader};
use crate::map::ShardMap;
use crate::timing::{Millis, Timings};

/// How many deletions are on their way at once: there is no hurry, and renewals come first.
pub const AT_ONCE: usize = 4;

/// How long nobody must have touched it, by the clock of the leader: ten Leases, and at least ten minutes. Whoever looks
/// into a death still finds it then, and a pod that crashes again and again (five minutes between two starts) its own.
#[must_use]
pub fn long_dead_ms(timings: Timings) -> Millis {
    (timings.lease_ms() * 10).max(600_000)
}

/// A Lease to be deleted.
struct Dead {
    name: Arc<str>,
    uid: Arc<str>,
    version: Version,
}

/// Leases that nobody holds, has touched for long, or is named after in the map; in the order of their names.
fn long_dead<'a>(
    leases: &'a BTreeMap<Arc<str>, Observed>,
    map: &'a ShardMap,
    now: Millis,
    config: &'a Config,
) -> impl Iterator<Item = Dead> + 'a {
    let after = match config.flaw {
        Some(Flaw::ForgetAtOnce) => config.timings.lease_ms(),
        _ => long_dead_ms(config.timings),
    };
    leases.iter().filter_map(move |(name, known)| {
        let lease = known.lease.as_ref().filter(|lease| lease.record.holder.is_none())?;
        let untouched = now >= known.changed_ms.saturating_add(after);
        let named = map.members.iter().any(|member| member.incarnation.name == *name);
        (untouched && !named).then(|| Dead {
            name: Arc::clone(name),
            uid: Arc::clone(&lease.uid),
            version: lease.version,
        })
    })
}

impl Leader {
    /// For a leader that has nothing else to do.
    pub(super) fn clear_away(&mut self, map: &ShardMap, now: Millis, config: &Config, commands: &mut Vec<Command>) {
        for dead in long_dead(&self.leases, map, now, config) {
            if self.forgetting.len() == AT_ONCE {
                return;
            }
            if self.forgetting.insert(Arc::clone(&dead.name)) {
                commands.push(Command::Forget(dead.name, dead.uid, dead.version));
            }
        }
    }

    pub(super) fn forgotten(&mut self, name: &Arc<str>, answer: &Answer, now: Millis, config: &Config) {
        self.forgetting.remove(name);
        match answer {
            Answer::Accepted { version, .. } => {
                let known = self.leases.get_mut(name);
                // Perhaps the next one of this name was seen already.
                let gone = |known: &&mut Observed| known.lease.as_ref().is_some_and(|lease| lease.version == *version);
                if let Some(known) = known.filter(gone) {
                    known.lease = None;
                    known.changed_ms = now;
                }
            }
            // Somebody took it up, or it is gone already. A list tells.
            Answer::Conflict | Answer::Unknown => self.listed_for = None,
        }
        self.pause_after(answer, now, config);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::Epoch;
    use crate::map::{Expected, MapMember, Role};
    use crate::protocol::lease::{Lease, LeaseRecord};

    fn config(timings: Timings) -> Config {
        Config {
            me: "a_1".parse().expect("an incarnation"),
            timings,
            expected: Expected::of("here"),
            shards: 1,
            prepare_ms: 20_000,
            assign: |owners, _, _| owners.to_vec(),
            flaw: None,
        }
    }

    fn map() -> ShardMap {
        let member = |text: &str| MapMember {
            incarnation: text.parse().expect("an incarnation"),
            role: Role::Gone,
            weight: 1,
        };
        ShardMap {
            installation: "here".into(),
            leader: "a_1".parse().expect("an incarnation"),
            term: 1,
            sequence: 9,
            members: ["a_1", "owner_1"].map(member).into(),
            owners: vec![Some(1); 4],
            epochs: vec![Epoch(9); 4],
            round: None,
        }
    }

    fn observed(holder: Option<&str>, changed_ms: Millis) -> Observed {
        let lease = Lease {
            uid: "u".into(),
            version: Version(3),
            record: LeaseRecord {
                holder: holder.map(|holder| holder.parse().expect("an incarnation")),
                ..LeaseRecord::default()
            },
        };
        Observed {
            lease: Some(lease),
            at: Version(5),
            changed_ms,
        }
    }

    #[test]
    fn only_what_nobody_holds_or_needs_or_has_touched_for_long() {
        let now = 10_000_000;
        let long_ago = now - 600_000;
        for (name, lease, expected) in [
            ("dead", observed(None, long_ago), true),
            ("dead for not quite so long", observed(None, long_ago + 1), false),
            ("held", observed(Some("held_1"), long_ago), false),
            ("owner", observed(None, long_ago), false),
            (
                "gone",
                Observed {
                    lease: None,
                    at: Version(5),
                    changed_ms: long_ago,
                },
                false,
            ),
        ] {
            let leases = BTreeMap::from([(Arc::from(name), lease)]);
            let (config, map) = (config(Timings::FAST), map());
            let dead = long_dead(&leases, &map, now, &config);
            let dead: Vec<_> = dead.map(|dead| (dead.name.to_string(), dead.version)).collect();
            let expected = expected.then(|| (name.to_owned(), Version(3)));
            assert_eq!(dead, Vec::from_iter(expected), "{name}");
        }
    }

    #[test]
    fn ten_leases_if_those_are_longer() {
        assert_eq!(long_dead_ms(Timings::FAST), 600_000);
        assert_eq!(long_dead_ms(Timings::DEFAULT), 600_000);
        let long = Timings::new(120_000, 80_000, 2_000).expect("times of a Lease");
        assert_eq!(long_dead_ms(long), 1_200_000);
    }
}
