//! What this process knows of its Databases and their children.
//!
//! Fed by watches and by the answers to our own writes, whichever is newer by `resourceVersion`: so a reconcile that
//! has just written sees what it wrote, and the echo of that write wakes nobody. (Since Kubernetes 1.35 versions of one
//! kind may be compared as numbers; every earlier API server on etcd behaved so too.)

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt as _;
use planner::child::{Child, ChildRef, Children, Kind};

use crate::seen::SeenDatabase;

/// Namespace and name of a Database.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of the Database with this namespace and name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is known of one Database.
#[derive(Clone, Default, Debug)]
pub struct Entry {
    /// The Database itself; `None` if only children are known.
    pub database: Option<Arc<SeenDatabase>>,
    /// Its children.
    pub children: Children,
    /// Versions at which children went: an answer to an earlier write of ours may arrive after the event of the end,
    /// and must not bring the child back.
    gone: BTreeMap<ChildRef, u64>,
}

/// All that is known. Clones share it.
#[derive(Clone, Default)]
pub struct Store(Arc<Mutex<HashMap<Key, Entry>>>);

impl Store {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        // A thread that panicked here left at most one entry out of date, which the next event or list corrects.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a Database now.
    pub fn get(&self, key: &Key) -> Entry {
        self.lock().get(key).cloned().unwrap_or_default()
    }

    /// Takes a Database. Whether it is news.
    pub fn put_database(&self, key: &Key, database: SeenDatabase) -> bool {
        let mut all = self.lock();
        let entry = all.entry(key.clone()).or_default();
        let news = entry.database.as_ref().is_none_or(|known| {
            newer(
                database.resource_version().as_deref(),
                known.resource_version().as_deref(),
            )
        });
        if news {
            entry.database = Some(Arc::new(database));
        }
        news
    }

    /// Forgets a Database that has gone.
    pub fn remove_database(&self, key: &Key) {
        let mut all = self.lock();
        if let Some(entry) = all.get_mut(key) {
            entry.database = None;
            if entry.children.is_empty() {
                all.remove(key);
            }
        }
    }

    /// Takes a child. Whether it is news.
    pub fn put_child(&self, key: &Key, child: ChildRef, facts: Child) -> bool {
        let mut all = self.lock();
        let entry = all.entry(key.clone()).or_default();
        let next = version(&facts.resource_version);
        let news = entry
            .children
            .get(&child)
            .is_none_or(|known| next > version(&known.resource_version))
            && entry.gone.get(&child).is_none_or(|gone| next > *gone);
        if news {
            entry.gone.remove(&child);
            entry.children.insert(child, facts);
        }
        news
    }

    /// Forgets a child that went at this version, unless a newer one has taken its place. Whether it was known.
    pub fn remove_child(&self, key: &Key, child: &ChildRef, gone_at: &str) -> bool {
        let mut all = self.lock();
        let Some(entry) = all.get_mut(key) else { return false };
        let known = entry
            .children
            .get(child)
            .is_some_and(|known| version(&known.resource_version) <= version(gone_at));
        if known {
            entry.children.remove(child);
            // Accepted specs have new names all the time, and are never written twice.
            if child.kind != Kind::ControllerRevision {
                entry.gone.insert(child.clone(), version(gone_at));
            }
            if entry.children.is_empty() && entry.database.is_none() {
                all.remove(key);
            }
        }
        known
    }

    /// After a new list of one kind: forgets what was not in it. Returns the Databases whose children went.
    ///
    /// `started_at`: the highest version that was known when the list began; what is newer was written meanwhile.
    pub fn keep_children(
        &self,
        kind: Kind,
        in_scope: impl Fn(&str) -> bool,
        listed: &HashSet<String>,
        started_at: u64,
    ) -> Vec<Key> {
        let mut all = self.lock();
        let mut touched = Vec::new();
        all.retain(|key, entry| {
            let before = entry.children.len();
            if in_scope(&key.namespace) {
                entry.children.retain(|child, known| {
                    child.kind != kind || listed.contains(&known.uid) || version(&known.resource_version) > started_at
                });
            }
            if entry.children.len() != before {
                touched.push(key.clone());
            }
            entry.database.is_some() || !entry.children.is_empty()
        });
        touched
    }

    /// After a new list of Databases: forgets those that were not in it, and returns them.
    pub fn keep_databases(
        &self,
        in_scope: impl Fn(&str) -> bool,
        listed: &HashSet<String>,
        started_at: u64,
    ) -> Vec<Key> {
        let mut all = self.lock();
        let mut gone = Vec::new();
        all.retain(|key, entry| {
            let lost = in_scope(&key.namespace)
                && entry.database.as_ref().is_some_and(|known| {
                    !listed.contains(&known.uid().unwrap_or_default())
                        && version(&known.resource_version().unwrap_or_default()) <= started_at
                });
            if lost {
                entry.database = None;
                gone.push(key.clone());
            }
            entry.database.is_some() || !entry.children.is_empty()
        });
        gone
    }

    /// Highest version that is known of a kind of child.
    pub fn highest_child_version(&self, kind: Kind) -> u64 {
        let all = self.lock();
        let of_kind = all
            .values()
            .flat_map(|entry| &entry.children)
            .filter(|(child, _)| child.kind == kind);
        of_kind
            .map(|(_, known)| version(&known.resource_version))
            .max()
            .unwrap_or_default()
    }

    /// Highest version that is known of a Database.
    pub fn highest_database_version(&self) -> u64 {
        let all = self.lock();
        let databases = all.values().filter_map(|entry| entry.database.as_ref());
        databases
            .map(|known| version(&known.resource_version().unwrap_or_default()))
            .max()
            .unwrap_or_default()
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
        all.iter()
            .filter(|(key, entry)| &*key.namespace == namespace && refers(entry))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Number of Databases.
    pub fn len(&self) -> usize {
        self.lock().values().filter(|entry| entry.database.is_some()).count()
    }

    /// Whether there is no Database.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `each` with every Database that is known.
    pub fn for_each(&self, mut each: impl FnMut(&Key, &SeenDatabase)) {
        for (key, entry) in self.lock().iter() {
            if let Some(database) = &entry.database {
                each(key, database);
            }
        }
    }
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
