//! Which buckets are watched, by which watches.
//!
//! A watch selects its buckets once and for all, so gaining some opens one more slice of watches for just those, and losing
//! some leaves a slice that is told of more than it keeps. When that has added up, one new slice takes the place of all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sharding::Bucket;
use tokio::sync::mpsc;

use crate::store::Key;
use crate::watch::{Source, Watches};

/// More slices than this are made into one. Each is nine connections' worth of watches.
const SLICES: usize = 4;
/// So is anything that is told of one bucket too many for so many that it keeps.
const WASTE: usize = 8;

/// A set of watches for some buckets.
struct Slice {
    /// Those of its buckets that are still wanted.
    buckets: BTreeSet<Bucket>,
    /// How many it is told of.
    told: usize,
    /// Whether all of its lists have come.
    listed: bool,
    /// Dropped with it.
    _watches: Watches,
}

/// All slices.
pub struct Holdings {
    source: Source,
    slices: BTreeMap<u64, Slice>,
    next: u64,
    /// Gets the number of a slice when its lists have come.
    listed: mpsc::UnboundedSender<u64>,
    lists: mpsc::UnboundedReceiver<u64>,
}

impl Holdings {
    /// Holds nothing yet.
    pub fn new(source: Source) -> Self {
        let (listed, lists) = mpsc::unbounded_channel();
        Self {
            source,
            slices: BTreeMap::new(),
            next: 0,
            listed,
            lists,
        }
    }

    /// All buckets that are watched.
    pub fn held(&self) -> BTreeSet<Bucket> {
        self.slices.values().flat_map(|slice| &slice.buckets).copied().collect()
    }

    /// Watches these buckets too.
    pub fn open(&mut self, buckets: impl IntoIterator<Item = Bucket>) {
        let held = self.held();
        let new: BTreeSet<Bucket> = buckets.into_iter().filter(|bucket| !held.contains(bucket)).collect();
        if !new.is_empty() {
            self.source.sink().store.hold(new.iter().copied());
            self.watch(new);
        }
    }

    fn watch(&mut self, buckets: BTreeSet<Bucket>) {
        let number = self.next;
        self.next += 1;
        let selected = Arc::new(buckets);
        let watches = self.source.slice(&selected);
        let (all, listed) = (watches.listed(), self.listed.clone());
        tokio::spawn(async move {
            if all.await {
                // Nobody listens only when everything is being dropped.
                let _ = listed.send(number);
            }
        });
        let slice = Slice {
            told: selected.len(),
            buckets: Arc::unwrap_or_clone(selected),
            listed: false,
            _watches: watches,
        };
        self.slices.insert(number, slice);
    }

    /// Waits until all is known of some more buckets, and returns them.
    pub async fn warmed(&mut self) -> BTreeSet<Bucket> {
        loop {
            // None cannot be: this holds a sender.
            let number = self.lists.recv().await.unwrap_or_default();
            // One that was closed meanwhile has nothing to tell.
            if let Some(slice) = self.slices.get_mut(&number) {
                slice.listed = true;
                let warm = slice.buckets.clone();
                self.drop_what_is_covered();
                return warm;
            }
        }
    }

    /// A slice whose buckets are all watched by later ones, too, is one too many.
    fn drop_what_is_covered(&mut self) {
        let mut covered = BTreeSet::new();
        let mut superfluous = Vec::new();
        for (number, slice) in self.slices.iter().rev() {
            if slice.buckets.is_subset(&covered) {
                superfluous.push(*number);
            } else if slice.listed {
                covered.extend(slice.buckets.iter().copied());
            }
        }
        self.slices.retain(|number, _| !superfluous.contains(number));
    }

    /// Forgets these buckets. Returns the Databases of which something was known.
    pub fn close(&mut self, buckets: &BTreeSet<Bucket>) -> Vec<Key> {
        for slice in self.slices.values_mut() {
            slice.buckets.retain(|bucket| !buckets.contains(bucket));
        }
        self.slices.retain(|_, slice| !slice.buckets.is_empty());
        self.source.sink().store.release(buckets.iter().copied())
    }

    /// Makes one slice of all, if they are many or are told of too much. Nothing is missed meanwhile: the old ones go on
    /// until it is listed.
    pub fn tidy(&mut self) {
        let all_listed = self.slices.values().all(|slice| slice.listed);
        let told: usize = self.slices.values().map(|slice| slice.told).sum();
        let kept = self.held();
        let wasted = told - kept.len().min(told);
        if all_listed && (self.slices.len() > SLICES || wasted > kept.len() / WASTE) {
            let slices = self.slices.len();
            tracing::info!(buckets = kept.len(), slices, wasted, "watching anew");
            self.watch(kept);
        }
    }
}
