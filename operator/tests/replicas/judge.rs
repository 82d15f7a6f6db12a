//! The judgement, from nothing but what the API server wrote down.
//!
//! *Stale* is an accepted write to a Database, its status or any child that carries an older epoch than an earlier
//! accepted write to the same Database or its children. Earlier is what has the smaller resourceVersion; for what the log
//! has no version of (Secrets, deletions), what was answered before the other was received. The epoch is the one that was
//! sent; where none was, or it is not in the log, the newest that any map had given to that member before.

use std::collections::{BTreeMap, BTreeSet};

use sharding::Bucket;
use sharding::map::{Phase, Spec};

use crate::audit::{MapWrite, Micros, Write};

/// What was found.
#[derive(Default)]
pub(crate) struct Verdict {
    /// Writes that were accepted and changed something.
    pub(crate) accepted: usize,
    pub(crate) stale: Vec<String>,
    /// Accepted with an epoch that no map had given to that member for that bucket.
    pub(crate) not_given: Vec<String>,
    /// Accepted without an epoch, though the log shows what was sent. Deletions carry none.
    pub(crate) without_fence: usize,
    /// Refused by the fence.
    pub(crate) fenced_off: usize,
    /// Databases with an accepted write.
    pub(crate) databases: BTreeSet<String>,
    /// How often the epoch of a Database's writes grew.
    pub(crate) owners: usize,
}

/// Who was given which bucket, when and under which epoch.
struct Given(BTreeMap<(Bucket, String), Vec<(Micros, u64)>>);

impl Given {
    fn by(maps: &[MapWrite]) -> Self {
        let mut given: BTreeMap<(Bucket, String), Vec<(Micros, u64)>> = BTreeMap::new();
        for map in maps {
            for bucket in Bucket::all() {
                if let Some((owner, epoch)) = owner(&map.spec, bucket) {
                    let all = given.entry((bucket, owner.to_owned())).or_default();
                    if all.last().is_none_or(|(_, last)| *last != epoch) {
                        all.push((map.done, epoch));
                    }
                }
            }
        }
        Self(given)
    }

    fn of(&self, write: &Write) -> &[(Micros, u64)] {
        let key = (write.bucket, write.member.clone());
        self.0.get(&key).map_or(&[], Vec::as_slice)
    }

    fn newest_before(&self, write: &Write) -> Option<u64> {
        let all = self.of(write).iter();
        all.filter(|(since, _)| *since < write.done)
            .map(|(_, epoch)| *epoch)
            .max()
    }

    fn has(&self, write: &Write, epoch: u64) -> bool {
        self.of(write).iter().any(|(_, given)| *given == epoch)
    }
}

/// The owner of a bucket, by name, and its epoch.
pub(crate) fn owner(spec: &Spec, bucket: Bucket) -> Option<(&str, u64)> {
    let at = usize::from(bucket.index());
    let member = spec.members.get(usize::try_from(*spec.owners.get(at)?).ok()?)?;
    Some((&member.incarnation.name, *spec.epochs.get(at)?))
}

/// Judges the writes that were received in `[from, to)`; all before count as evidence.
pub(crate) fn judge(writes: &[Write], maps: &[MapWrite], from: Micros, to: Micros) -> Verdict {
    let given = Given::by(maps);
    let mut verdict = Verdict::default();
    let mut by_database: BTreeMap<&str, Vec<&Write>> = BTreeMap::new();
    let in_question = |write: &Write| (from..to).contains(&write.received);
    for write in writes.iter().filter(|write| write.received < to) {
        if write.accepted() {
            by_database.entry(&write.database).or_default().push(write);
        } else if write.fenced_off() && in_question(write) {
            verdict.fenced_off += 1;
        }
    }
    verdict.databases = by_database.keys().map(|name| (*name).to_owned()).collect();
    for writes in by_database.into_values() {
        let writes = changes(writes);
        for write in writes.iter().filter(|write| in_question(write)) {
            verdict.accepted += 1;
            if write.fence.is_none() && write.shown && !write.deletes {
                verdict.without_fence += 1;
            }
            if let Some(fence) = write.fence.filter(|fence| !given.has(write, *fence)) {
                let text = format!("{} by {} under {fence}", write.object, write.member);
                verdict.not_given.push(text);
            }
        }
        find_stale(&writes, &given, in_question, &mut verdict);
    }
    verdict
}

/// Without those that changed nothing: they answer with a version that another write had made.
fn changes(mut writes: Vec<&Write>) -> Vec<&Write> {
    writes.sort_by_key(|write| write.done);
    let mut seen = BTreeSet::new();
    writes.retain(|write| write.version.is_none_or(|version| seen.insert(version)));
    writes
}

fn find_stale(writes: &[&Write], given: &Given, in_question: impl Fn(&Write) -> bool, verdict: &mut Verdict) {
    let epoch_of = |write: &Write| write.fence.or_else(|| given.newest_before(write));
    let mut versioned: Vec<(u64, u64, &Write)> = writes
        .iter()
        .filter_map(|write| Some((write.version?, epoch_of(write)?, *write)))
        .collect();
    versioned.sort_by_key(|(version, ..)| *version);
    let mut newest: Option<(u64, &Write)> = None;
    for (_, epoch, write) in &versioned {
        match newest {
            Some((before, first)) if *epoch < before => {
                if in_question(write) {
                    verdict.stale.push(tell(write, *epoch, first, before));
                }
            }
            Some((before, _)) if *epoch == before => {}
            _ => {
                verdict.owners += 1;
                newest = Some((*epoch, write));
            }
        }
    }
    for write in writes
        .iter()
        .filter(|write| write.version.is_none() && in_question(write))
    {
        let Some(epoch) = epoch_of(write) else { continue };
        let newer = versioned
            .iter()
            .find(|(_, other, first)| *other > epoch && first.done < write.received);
        if let Some((_, before, first)) = newer {
            verdict.stale.push(tell(write, epoch, first, *before));
        }
    }
}

fn tell(write: &Write, epoch: u64, first: &Write, before: u64) -> String {
    let ms = (write.done - first.done) / 1000;
    format!(
        "{} written by {} under {epoch}, {ms} ms after {} had written {} under {before}",
        write.object, write.member, first.member, first.object
    )
}

/// A death of a member that nobody prepared for.
pub(crate) struct Death {
    pub(crate) member: String,
    pub(crate) at: Micros,
    /// Whether it led.
    pub(crate) led: bool,
}

/// Until another member owned, and had written for, each Database of the dead, at worst.
pub(crate) struct Takeover {
    pub(crate) databases: usize,
    pub(crate) owned: Micros,
    pub(crate) written: Option<Micros>,
}

/// From the death to the map that gives the bucket to another, and to the first accepted write by another.
pub(crate) fn takeover(death: &Death, writes: &[Write], maps: &[MapWrite], databases: &[(String, Bucket)]) -> Takeover {
    let mut found = Takeover {
        databases: 0,
        owned: 0,
        written: None,
    };
    let Some(last) = maps.iter().rfind(|map| map.done < death.at) else {
        return found;
    };
    let later = maps.iter().filter(|map| map.done >= death.at);
    for (database, bucket) in databases {
        if owner(&last.spec, *bucket).is_none_or(|(owner, _)| owner != death.member) {
            continue;
        }
        found.databases += 1;
        let mut later = later.clone();
        let taken = later.find(|map| owner(&map.spec, *bucket).is_some_and(|(owner, _)| owner != death.member));
        found.owned = found.owned.max(taken.map_or(Micros::MAX, |map| map.done) - death.at);
        let first = writes.iter().filter(|write| {
            write.database == *database && write.accepted() && write.member != death.member && write.done > death.at
        });
        if let Some(first) = first.map(|write| write.done).min() {
            found.written = found.written.max(Some(first - death.at));
        }
    }
    found
}

/// How long nobody might start anything for a Database, for each that moved in a round: from the map that tells its
/// owner to stop to the one that gives it to the next. Rounds that a fault fell into are left out.
pub(crate) fn planned_gaps(
    maps: &[MapWrite],
    databases: &[(String, Bucket)],
    faults: &[(Micros, Micros)],
) -> Vec<Micros> {
    let mut gaps = Vec::new();
    for (place, map) in maps.iter().enumerate() {
        let Some(round) = map.spec.round.as_ref().filter(|round| round.phase == Phase::Draining) else {
            continue;
        };
        let was_draining = place.checked_sub(1).and_then(|before| maps[before].spec.round.as_ref());
        if was_draining.is_some_and(|before| before.number == round.number && before.phase == Phase::Draining) {
            continue;
        }
        for moved in &round.moves {
            let at = usize::from(moved.bucket);
            let count = databases.iter().filter(|(_, bucket)| usize::from(bucket.index()) == at);
            let after = maps[place..].iter();
            let given = after
                .into_iter()
                .find(|later| later.spec.epochs[at] != map.spec.epochs[at]);
            let Some(given) = given else { continue };
            if faults.iter().any(|(from, to)| *from < given.done && map.done < *to) {
                continue;
            }
            gaps.extend(count.map(|_| given.done - map.done));
        }
    }
    gaps.sort_unstable();
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(version: Option<u64>, fence: Option<u64>, at: Micros) -> Write {
        Write {
            member: "a".to_owned(),
            database: "d1".to_owned(),
            object: "configmaps d1-config ".to_owned(),
            bucket: Bucket::try_from(1).expect("small"),
            code: 200,
            version,
            fence,
            shown: version.is_some(),
            deletes: false,
            message: String::new(),
            received: at - 1,
            done: at,
        }
    }

    fn stale(writes: &[Write]) -> usize {
        judge(writes, &[], 0, Micros::MAX).stale.len()
    }

    #[test]
    fn what_carries_an_older_epoch_after_a_newer_one_is_stale_by_version_and_not_by_time() {
        let [old, new] = [write(Some(10), Some(1), 100), write(Some(11), Some(2), 90)];
        assert_eq!(stale(&[old.clone(), new.clone()]), 0);
        let late = write(Some(12), Some(1), 80);
        assert_eq!(stale(&[old.clone(), new.clone(), late.clone()]), 1);
        let refused = Write { code: 403, ..late };
        assert_eq!(stale(&[old.clone(), new.clone(), refused]), 0);
        let nothing_new = write(Some(11), Some(1), 200);
        assert_eq!(stale(&[old, new, nothing_new]), 0, "it changed nothing");
    }

    #[test]
    fn a_write_without_a_version_is_stale_if_it_came_after_a_newer_one_was_answered() {
        let new = write(Some(11), Some(2), 90);
        assert_eq!(stale(&[new.clone(), write(None, Some(1), 92)]), 1);
        assert_eq!(stale(&[new, write(None, Some(1), 90)]), 0, "they may have crossed");
    }
}
