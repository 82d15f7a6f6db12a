//! What this process knows of its Databases and their children, bucket by bucket.
//!
//! Only buckets that are [held](Store::hold) are kept: whatever a watch still tells of another one is not taken, and with
//! its bucket everything that is known of a Database is dropped.
//!
//! Fed by watches and by the answers to our own writes, whichever is newer by `resourceVersion`: so a reconcile that
//! has just written sees what it wrote, and the echo of that write wakes nobody. (Since Kubernetes 1.35 versions of one
//! kind may be compared as numbers; every earlier API server on etcd behaved so too.)

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::database::DatabaseSpec;
use kube::ResourceExt as _;
use planner::child::{Child, ChildRef, Children, Kind, Text};
use planner::rendered::Rendered;
use sharding::Bucket;

use crate::answers::Answers;
use crate::rule::Judged;
use crate::seen::SeenDatabase;

pub use self::key::Key;

mod key;

/// What is known of one Database.
#[derive(Clone, Default, Debug)]
pub struct Entry {
    /// The Database itself; `None` if only children are known.
    pub database: Option<SeenDatabase>,
    /// No watch shows the Database any more, or not as it is: it has gone, or its label has. It must be read before
    /// anything is decided.
    pub doubted: bool,
    /// Its children.
    pub children: Children,
    /// What the last plan rendered.
    pub rendered: Box<Rendered>,
    /// What was declared before the spec was changed, until the change is accepted: the spec that was accepted last,
    /// probably.
    pub before: Option<Arc<DatabaseSpec>>,
    /// What policies said last.
    pub judged: Judged,
    /// Versions at which children went: an answer to an earlier write of ours may arrive after the event of the end,
    /// and must not bring the child back.
    gone: BTreeMap<ChildRef, u64>,
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.database.is_none() && self.children.is_empty()
    }
}

type Partitions = BTreeMap<Bucket, HashMap<Key, Entry>>;

/// All that is known. Clones share it.
#[derive(Clone, Default)]
pub struct Store(Arc<Shared>);

#[derive(Default)]
struct Shared {
    partitions: Mutex<Partitions>,
    answers: Answers,
}

/// An object that is known already.
pub enum Recalled {
    /// A Database.
    Database(SeenDatabase),
    /// A child of the Database with this key.
    Child(Key, ChildRef, Arc<Child>),
}

/// What is known of some buckets, as one list or watch may change it.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Which buckets the list was about.
    pub buckets: &'a BTreeSet<Bucket>,
    /// In which namespace; all, if none.
    pub namespace: Option<&'a str>,
}

impl Part<'_> {
    fn covers(self, key: &Key) -> bool {
        self.namespace.is_none_or(|namespace| *key.namespace == *namespace)
    }

    fn of(self, all: &mut Partitions) -> impl Iterator<Item = &mut HashMap<Key, Entry>> {
        all.iter_mut()
            .filter(move |(bucket, _)| self.buckets.contains(bucket))
            .map(|(_, entries)| entries)
    }

    /// Highest of what `version_of` finds in the entries.
    fn highest(self, all: &Partitions, version_of: impl Fn(&Entry) -> Option<u64>) -> u64 {
        let parts = all.iter().filter(|(bucket, _)| self.buckets.contains(bucket));
        let entries = parts.flat_map(|(_, entries)| entries.values());
        entries.filter_map(version_of).max().unwrap_or_default()
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Partitions> {
        // A thread that panicked here left at most one entry out of date, which the next event or list corrects.
        self.0.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a child as the answer to a write told it: its event need not be read. Answers the same child.
    pub fn answer_child(&self, key: &Key, child: ChildRef, facts: Arc<Child>) -> Arc<Child> {
        let (at, what) = (version(&facts.resource_version), Some(child.clone()));
        let (news, facts) = self.take_child(key, child, facts);
        if news {
            self.0.answers.told(at, key, what);
        }
        facts
    }

    /// Takes a Database as the answer to a write told it: its event need not be read.
    pub fn answer_database(&self, key: &Key, database: SeenDatabase) {
        let at = version_of(&database);
        if self.put_database(key, database) {
            self.0.answers.told(at, key, None);
        }
    }

    /// A child, if what is known of it is of this version.
    pub fn child_at(&self, key: &Key, child: &ChildRef, at: u64) -> Option<Arc<Child>> {
        let all = self.lock();
        let known = all.get(&key.bucket)?.get(key)?.children.get(child);
        known.filter(|known| version(&known.resource_version) == at).cloned()
    }

    /// A Database, if what is known of it is of this version.
    pub fn database_at(&self, key: &Key, at: u64) -> Option<SeenDatabase> {
        let all = self.lock();
        let known = all.get(&key.bucket)?.get(key)?.database.as_ref();
        known.filter(|known| version_of(known) == at).cloned()
    }

    /// Whether there are answers whose events have not come yet.
    pub fn awaits_events(&self) -> bool {
        !self.0.answers.is_empty()
    }

    /// What an answer told about this version, if it still stands. Only once: its event comes once.
    pub fn recall(&self, at: u64) -> Option<Recalled> {
        let (key, what) = self.0.answers.take(at)?;
        match what {
            None => self.database_at(&key, at).map(Recalled::Database),
            Some(child) => {
                let facts = self.child_at(&key, &child, at)?;
                Some(Recalled::Child(key, child, facts))
            }
        }
    }

    /// Begins to take what is told of these buckets.
    pub fn hold(&self, buckets: impl IntoIterator<Item = Bucket>) {
        let mut all = self.lock();
        for bucket in buckets {
            all.entry(bucket).or_default();
        }
    }

    /// Forgets all that is known of these buckets, and takes nothing of them any more. Returns whose entries went.
    pub fn release(&self, buckets: impl IntoIterator<Item = Bucket>) -> Vec<Key> {
        let gone: BTreeMap<Bucket, _> = {
            let mut all = self.lock();
            let parts = buckets
                .into_iter()
                .filter_map(|bucket| Some((bucket, all.remove(&bucket)?)));
            parts.collect()
        };
        self.0.answers.release(|bucket| gone.contains_key(&bucket));
        gone.into_values().flat_map(HashMap::into_keys).collect()
    }

    /// Databases of these buckets of which anything is known, with what `of` says of each.
    pub fn keys<T>(&self, buckets: impl IntoIterator<Item = Bucket>, of: impl Fn(&Entry) -> T) -> Vec<(Key, T)> {
        let all = self.lock();
        let parts = buckets.into_iter().filter_map(|bucket| all.get(&bucket));
        parts.flatten().map(|(key, entry)| (key.clone(), of(entry))).collect()
    }

    /// What is known of a Database now.
    pub fn get(&self, key: &Key) -> Entry {
        let all = self.lock();
        let entry = all.get(&key.bucket).and_then(|entries| entries.get(key));
        entry.cloned().unwrap_or_default()
    }

    /// Takes a Database. Whether it is news; never, if its bucket is not held.
    pub fn put_database(&self, key: &Key, database: SeenDatabase) -> bool {
        let at = version_of(&database);
        let news = self.take_database(key, database);
        if !news {
            // Its event was read while the answer was being taken: it does not come again.
            self.0.answers.take(at);
        }
        news
    }

    fn take_database(&self, key: &Key, mut database: SeenDatabase) -> bool {
        let mut all = self.lock();
        let Some(entries) = all.get_mut(&key.bucket) else {
            return false;
        };
        let entry = entries.entry(key.clone()).or_default();
        let news = entry.database.as_ref().is_none_or(|known| {
            newer(
                database.resource_version().as_deref(),
                known.resource_version().as_deref(),
            )
        });
        if news {
            let (generation, deleting) = (database.generation(), database.deleting());
            if let Some(known) = &entry.database {
                database.share_spec(known);
            }
            let known = entry.database.replace(database);
            let other = known.filter(|known| known.generation() != generation);
            let other = other.and_then(|known| known.spec.as_ref().ok().cloned());
            entry.before = entry.before.take().or(other).filter(|_| !deleting);
            entry.doubted = false;
        }
        news
    }

    /// Takes a Database that was just read: it is as it is.
    pub fn believe(&self, key: &Key, database: SeenDatabase) {
        self.put_database(key, database);
        self.change(key, |entry| entry.doubted = false);
    }

    /// No watch shows a Database any more. Whether somebody has to look.
    ///
    /// One whose last finalizer we know to be gone has gone with it; any other one may have lost its label only.
    pub fn doubt(&self, key: &Key) -> bool {
        self.change(key, |entry| {
            let Some(known) = &entry.database else { return false };
            if known.deleting() && known.finalizers().is_empty() {
                entry.database = None;
                return true;
            }
            entry.doubted = true;
            true
        })
        .unwrap_or(false)
    }

    /// Forgets a Database that has gone.
    pub fn remove_database(&self, key: &Key) {
        self.change(key, |entry| {
            entry.database = None;
            entry.doubted = false;
        });
    }

    /// Changes an entry, if there is one, and drops it if nothing is left of it.
    fn change<T>(&self, key: &Key, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut all = self.lock();
        let entries = all.get_mut(&key.bucket)?;
        let entry = entries.get_mut(key)?;
        let result = change(entry);
        if entry.is_empty() {
            entries.remove(key);
        }
        Some(result)
    }

    /// Takes a child. Whether it is news; never, if its bucket is not held.
    pub fn put_child(&self, key: &Key, child: ChildRef, facts: Arc<Child>) -> bool {
        let at = version(&facts.resource_version);
        let (news, _) = self.take_child(key, child, facts);
        if !news {
            self.0.answers.take(at);
        }
        news
    }

    /// Takes a child, which shares what it can with its siblings if nobody else has it yet.
    fn take_child(&self, key: &Key, child: ChildRef, mut facts: Arc<Child>) -> (bool, Arc<Child>) {
        let mut all = self.lock();
        let Some(entries) = all.get_mut(&key.bucket) else {
            return (false, facts);
        };
        let entry = entries.entry(key.clone()).or_default();
        let next = version(&facts.resource_version);
        let news = entry
            .children
            .get(&child)
            .is_none_or(|known| next > version(&known.resource_version))
            && entry.gone.get(&child).is_none_or(|gone| next >= *gone);
        if news {
            if let Some(facts) = Arc::get_mut(&mut facts) {
                facts.share(entry.children.values().map(Arc::as_ref));
            }
            entry.gone.remove(&child);
            entry.children.insert(child, facts.clone());
        }
        (news, facts)
    }

    /// Forgets a child that went at this version, unless a newer one has taken its place. Whether it was known.
    ///
    /// An end has a version of its own. What is known at this very version went from one watch by its label only, and is
    /// in another.
    pub fn remove_child(&self, key: &Key, child: &ChildRef, gone_at: &str) -> bool {
        self.change(key, |entry| {
            let known = entry
                .children
                .get(child)
                .is_some_and(|known| version(&known.resource_version) < version(gone_at));
            if known {
                entry.children.remove(child);
                // Accepted specs have new names all the time, and are never written twice.
                if child.kind != Kind::ControllerRevision {
                    entry.gone.insert(child.clone(), version(gone_at));
                }
            }
            known
        })
        .unwrap_or(false)
    }

    /// After a new list of one kind: forgets what was not in it. Returns the Databases whose children went.
    ///
    /// `started_at`: the highest version that was known when the list began; what is newer was written meanwhile.
    pub fn keep_children(&self, kind: Kind, part: Part<'_>, listed: &HashSet<Text>, started_at: u64) -> Vec<Key> {
        let mut all = self.lock();
        let mut touched = Vec::new();
        for entries in part.of(&mut all) {
            entries.retain(|key, entry| {
                let before = entry.children.len();
                if part.covers(key) {
                    entry.children.retain(|child, known| {
                        child.kind != kind
                            || listed.contains(&known.uid)
                            || version(&known.resource_version) > started_at
                    });
                }
                if entry.children.len() != before {
                    touched.push(key.clone());
                }
                !entry.is_empty()
            });
        }
        touched
    }

    /// After a new list of Databases: doubts those that were not in it, and returns them.
    pub fn keep_databases(&self, part: Part<'_>, listed: &HashSet<String>, started_at: u64) -> Vec<Key> {
        let mut all = self.lock();
        let mut unseen = Vec::new();
        for (key, entry) in part.of(&mut all).flatten() {
            let lost = part.covers(key)
                && entry.database.as_ref().is_some_and(|known| {
                    !listed.contains(&known.uid().unwrap_or_default()) && version_of(known) <= started_at
                });
            if lost {
                entry.doubted = true;
                unseen.push(key.clone());
            }
        }
        unseen
    }

    /// Highest version that is known of a kind of child.
    pub fn highest_child_version(&self, kind: Kind, part: Part<'_>) -> u64 {
        part.highest(&self.lock(), |entry| {
            let of_kind = entry.children.iter().filter(|(child, _)| child.kind == kind);
            of_kind.map(|(_, known)| version(&known.resource_version)).max()
        })
    }

    /// Highest version that is known of a Database.
    pub fn highest_database_version(&self, part: Part<'_>) -> u64 {
        part.highest(&self.lock(), |entry| entry.database.as_ref().map(version_of))
    }

    /// Databases in `namespace` whose spec refers to this ConfigMap or Secret.
    pub fn referring(&self, namespace: &str, kind: Kind, name: &str) -> Vec<Key> {
        let all = self.lock();
        let refers = |entry: &Entry| {
            let spec = entry.database.as_ref().and_then(|database| database.spec.as_ref().ok());
            let configuration = spec.and_then(|spec| spec.configuration.as_ref());
            configuration.is_some_and(|configuration| {
                let reference = match kind {
                    Kind::ConfigMap => configuration.config_map_ref.as_ref(),
                    Kind::Secret => configuration.secret_ref.as_ref(),
                    _ => None,
                };
                reference.is_some_and(|reference| reference.name == name)
            })
        };
        all.values()
            .flatten()
            .filter(|(key, entry)| &*key.namespace == namespace && refers(entry))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Number of Databases.
    pub fn len(&self) -> usize {
        let all = self.lock();
        all.values()
            .flat_map(HashMap::values)
            .filter(|entry| entry.database.is_some())
            .count()
    }

    /// Whether there is no Database.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps what a plan rendered for the next one.
    pub fn planned(&self, key: &Key, rendered: Box<Rendered>) {
        self.change(key, |entry| entry.rendered = rendered);
    }

    /// Keeps what policies said.
    pub fn judged(&self, key: &Key, judged: Judged) {
        self.change(key, |entry| entry.judged = judged);
    }

    /// The spec of this generation is accepted: unless there is a newer one, no earlier one is asked for any more.
    pub fn accepted(&self, key: &Key, generation: i64) {
        self.change(key, |entry| {
            let newest = entry.database.as_ref().map(|database| database.generation());
            entry.before = entry.before.take().filter(|_| newest != Some(generation));
        });
    }

    /// Calls `each` with every Database that is known.
    pub fn for_each(&self, mut each: impl FnMut(&Key, &SeenDatabase)) {
        self.for_each_entry(|key, entry| {
            if let Some(database) = &entry.database {
                each(key, database);
            }
        });
    }

    /// Calls `each` with every entry. It must be quick, and must not call the store.
    pub fn for_each_entry(&self, mut each: impl FnMut(&Key, &Entry)) {
        for (key, entry) in self.lock().values().flatten() {
            each(key, entry);
        }
    }
}

fn version_of(database: &SeenDatabase) -> u64 {
    version(&database.resource_version().unwrap_or_default())
}

/// A resourceVersion as a number; 0 if it is none, so that whatever comes next is newer.
fn version(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

/// Whether `next` is newer than `known`.
fn newer(next: Option<&str>, known: Option<&str>) -> bool {
    let number = |text: Option<&str>| text.map_or(0, version);
    number(next) > number(known)
}

#[cfg(test)]
mod tests;
