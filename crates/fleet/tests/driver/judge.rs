//! Who sees everything: who may work in a bucket, looked at all the time from a thread of its own, and who does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet::Served;
use fleet::clock::boottime_ms;
use sharding::protocol::Incarnation;
use sharding::{BUCKETS, Bucket, Epoch};
use tokio::sync::watch;

/// Clones share it.
#[derive(Clone)]
pub(crate) struct Judge(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    members: BTreeMap<String, watch::Receiver<Served>>,
    /// Who works, by bucket.
    at_work: BTreeMap<Bucket, Incarnation>,
    /// Who worked last, and under which epoch.
    last: BTreeMap<Bucket, (Incarnation, Epoch)>,
    /// Since when nobody serves a bucket.
    gaps: BTreeMap<Bucket, Instant>,
    longest_gap: Duration,
    objections: Vec<String>,
    looks: u64,
    works: u64,
}

/// What was looked at.
pub(crate) struct Verdict {
    pub(crate) looks: u64,
    pub(crate) works: u64,
}

impl Judge {
    pub(crate) fn start() -> Self {
        let judge = Self(Arc::default());
        let weak = Arc::downgrade(&judge.0);
        std::thread::spawn(move || {
            while let Some(seen) = weak.upgrade() {
                look(&seen);
                drop(seen);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        judge
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watches(&self, name: &str, served: watch::Receiver<Served>) {
        self.seen().members.insert(name.to_owned(), served);
    }

    pub(crate) fn forgets(&self, name: &str) {
        self.seen().members.remove(name);
    }

    /// Work begins, and ends when the token is dropped.
    pub(crate) fn begins(&self, who: &Incarnation, bucket: Bucket, epoch: Epoch) -> AtWork {
        let mut seen = self.seen();
        seen.works += 1;
        if let Some(other) = seen.at_work.insert(bucket, who.clone()) {
            seen.objections
                .push(format!("{who} begins in {bucket}, where {other} works"));
        }
        if let Some((last, before)) = seen.last.insert(bucket, (who.clone(), epoch))
            && (epoch < before || last != *who && epoch == before)
        {
            let text = format!("{who} works in {bucket} under {epoch}, {last} did under {before}");
            seen.objections.push(text);
        }
        AtWork(self.clone(), bucket)
    }

    /// Panics if anything was seen that must not be.
    pub(crate) fn objects(&self) {
        let seen = self.seen();
        assert!(
            seen.objections.is_empty(),
            "{:#?}",
            &seen.objections[..seen.objections.len().min(20)]
        );
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.objects();
        let seen = self.seen();
        Verdict {
            looks: seen.looks,
            works: seen.works,
        }
    }

    /// Whether these members serve all buckets, each its share.
    pub(crate) fn shared_by<S: AsRef<str>>(&self, names: &[S]) -> bool {
        let share = usize::from(BUCKETS) / names.len();
        let counts = self.counts();
        let total: usize = counts.values().sum();
        total == usize::from(BUCKETS)
            && names.iter().all(|name| {
                counts
                    .get(name.as_ref())
                    .is_some_and(|count| (share..=share + 1).contains(count))
            })
    }

    pub(crate) fn shares(&self) -> String {
        format!("{:?}", self.counts())
    }

    fn counts(&self) -> BTreeMap<String, usize> {
        let now = boottime_ms();
        let seen = self.seen();
        let counts = seen.members.iter().map(|(name, served)| {
            let served = snapshot(served);
            let count = served
                .buckets()
                .filter(|(bucket, _)| served.may_start(*bucket, now).is_some());
            (name.clone(), count.count())
        });
        counts.filter(|(_, count)| *count > 0).collect()
    }

    pub(crate) fn highest_epoch(&self) -> Epoch {
        self.epochs().max().expect("something is served")
    }

    pub(crate) fn lowest_served_epoch(&self) -> Epoch {
        self.epochs().min().unwrap_or(Epoch(0))
    }

    fn epochs(&self) -> impl Iterator<Item = Epoch> {
        let seen = self.seen();
        let served: Vec<Served> = seen.members.values().map(snapshot).collect();
        served
            .into_iter()
            .flat_map(|served| served.buckets().map(|(_, epoch)| epoch).collect::<Vec<_>>())
    }

    pub(crate) fn forget_gaps(&self) {
        let mut seen = self.seen();
        seen.gaps.clear();
        seen.longest_gap = Duration::ZERO;
    }

    /// The longest time that a bucket had no owner, among those that have one again.
    pub(crate) fn longest_gap(&self) -> Duration {
        self.seen().longest_gap
    }
}

pub(crate) struct AtWork(Judge, Bucket);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.seen().at_work.remove(&self.1);
    }
}

/// What a member serves; nothing if its driver has ended.
fn snapshot(served: &watch::Receiver<Served>) -> Served {
    if served.has_changed().is_err() {
        return Served::default();
    }
    served.borrow().clone()
}

/// One look at everybody, and a second one: what was seen in both was so in between, when the others were looked at.
fn look(seen: &Mutex<Seen>) {
    let members: Vec<(String, watch::Receiver<Served>)> = {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.members
            .iter()
            .map(|(name, served)| (name.clone(), served.clone()))
            .collect()
    };
    let first: Vec<Served> = members.iter().map(|(_, served)| snapshot(served)).collect();
    let second: Vec<Served> = members.iter().map(|(_, served)| snapshot(served)).collect();
    let (now, at) = (boottime_ms(), Instant::now());
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.looks += 1;
    for bucket in Bucket::all() {
        let mut owners = Vec::new();
        for (place, (name, _)) in members.iter().enumerate() {
            let [before, after] = [&first, &second].map(|all| all[place].may_start(bucket, now));
            // The last one is looked at between the two looks at all others.
            let certain = before.is_some() && (before == after || place + 1 == members.len());
            if certain {
                owners.push(name);
            }
        }
        if owners.len() > 1 {
            let text = format!("{bucket} is served by {owners:?}");
            seen.objections.push(text);
        }
        if owners.is_empty() {
            seen.gaps.entry(bucket).or_insert(at);
        } else if let Some(since) = seen.gaps.remove(&bucket) {
            seen.longest_gap = seen.longest_gap.max(at - since);
        }
    }
}
