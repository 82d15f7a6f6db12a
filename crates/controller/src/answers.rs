//! What answers to our own writes told, until a watch tells it too: most events of a change are such echoes, and need not
//! be read again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use planner::child::ChildRef;
use sharding::Bucket;

use crate::store::Key;

/// By version: the Database of this key, or that child of it.
#[derive(Default)]
pub struct Answers(Mutex<HashMap<u64, (Key, Option<ChildRef>)>>);

/// So many are remembered. There are more only when events do not come at all; they are read then, when they come.
const AT_MOST: usize = 4096;

impl Answers {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (Key, Option<ChildRef>)>> {
        // Nothing in it has to fit together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer told this version.
    pub fn told(&self, version: u64, key: &Key, child: Option<ChildRef>) {
        let mut all = self.lock();
        if all.len() >= AT_MOST {
            all.clear();
        }
        all.insert(version, (key.clone(), child));
    }

    /// What it was, and no longer remembers it: its event comes once.
    pub fn take(&self, version: u64) -> Option<(Key, Option<ChildRef>)> {
        self.lock().remove(&version)
    }

    /// Forgets what is of these buckets.
    pub fn release(&self, is_released: impl Fn(Bucket) -> bool) {
        self.lock().retain(|_, (key, _)| !is_released(key.bucket));
    }

    /// Whether no event is waited for.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let answers = Answers::default();
        let key = Key::new("shop", "orders");
        let held = || answers.lock().len();
        (1..=AT_MOST as u64).for_each(|version| answers.told(version, &key, None));
        assert_eq!(held(), AT_MOST);
        answers.told(0, &key, None);
        assert_eq!(held(), 1, "the newest");
        assert_eq!(answers.take(0), Some((key, None)));
        assert!(answers.is_empty());
    }
}
