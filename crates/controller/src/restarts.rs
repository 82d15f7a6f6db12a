//! The brake on restarts: a change of many Databases at once restarts only so many at a time.
//!
//! A Database holds its place from the moment its pod is deleted until a reconcile sees all its pods ready again, or
//! for as long as [`Restarts::HELD_AT_MOST`]: one that does not come back must not hold up the fleet for ever.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::Key;

/// Which Databases are restarting now.
pub struct Restarts {
    at_most: usize,
    since: Mutex<HashMap<Key, Instant>>,
}

impl Restarts {
    /// Longest time for which one Database holds a place.
    pub const HELD_AT_MOST: Duration = Duration::from_mins(5);
    /// When to ask again after a restart was put off.
    pub const ASK_AGAIN: Duration = Duration::from_secs(2);

    /// Lets this many Databases restart at once.
    pub fn new(at_most: usize) -> Self {
        Self {
            at_most,
            since: Mutex::default(),
        }
    }

    /// Whether this Database may restart a pod now.
    pub fn admit(&self, key: &Key) -> bool {
        self.admit_at(key, Instant::now())
    }

    fn admit_at(&self, key: &Key, now: Instant) -> bool {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|_, started| now.duration_since(*started) < Self::HELD_AT_MOST);
        if !since.contains_key(key) && since.len() >= self.at_most {
            return false;
        }
        since.entry(key.clone()).or_insert(now);
        true
    }

    /// Gives the place back: the Database is ready, or gone.
    pub fn settled(&self, key: &Key) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_restart_at_once_and_a_place_comes_back() {
        let restarts = Restarts::new(2);
        let [a, b, c] = ["a", "b", "c"].map(|name| Key::new("shop", name));
        let start = Instant::now();
        assert!(restarts.admit_at(&a, start));
        assert!(restarts.admit_at(&b, start));
        assert!(!restarts.admit_at(&c, start), "both places are taken");
        assert!(restarts.admit_at(&a, start), "who restarts already may go on");
        restarts.settled(&a);
        assert!(restarts.admit_at(&c, start));
    }

    #[test]
    fn one_that_never_comes_back_does_not_hold_the_fleet() {
        let restarts = Restarts::new(1);
        let start = Instant::now();
        assert!(restarts.admit_at(&Key::new("shop", "stuck"), start));
        let later = start + Restarts::HELD_AT_MOST;
        assert!(restarts.admit_at(&Key::new("shop", "next"), later));
    }
}
