//! The brake on repairs: when another controller undoes what we do, and we what it does, neither may do it for ever at
//! full speed.
//!
//! A repair is an apply of the very same fields as before; a change of what is declared is none, and is never put off.

use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use planner::child::ChildRef;
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::recent::Recent;
use crate::store::Key;

/// The last repairs of each child, by the hash of what it is called: in a minute of many changes they are many.
#[derive(Default)]
pub struct Contests(Mutex<Recent<u128, Repairs>>);

struct Repairs {
    /// Hash of the fields.
    to: u128,
    /// When, oldest first.
    at: Vec<Instant>,
}

impl Contests {
    /// So many repairs of one child in a [`Contests::WINDOW`] are no contest: people edit, tools run twice.
    pub const REPAIRS: usize = 30;
    /// How long a repair is remembered.
    pub const WINDOW: Duration = Duration::from_mins(1);
    /// When to look again after a repair was put off.
    pub const ASK_AGAIN: Duration = Duration::from_secs(10);

    /// Whether this child may be repaired to these fields now.
    pub fn admit(&self, key: &Key, child: &ChildRef, to: &Value) -> bool {
        self.admit_at(key, child, to, Instant::now())
    }

    fn admit_at(&self, key: &Key, child: &ChildRef, to: &Value, now: Instant) -> bool {
        let (to, child) = (hash_of(to), hash_of(&(key, child)));
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = recent.at(now, Self::WINDOW, |repairs| {
            repairs.forget(now);
            !repairs.at.is_empty()
        });
        let none = || Repairs { to, at: Vec::new() };
        let repairs = all.entry(child).or_insert_with(none);
        repairs.forget(now);
        if repairs.to != to {
            *repairs = none();
        }
        let admitted = repairs.at.len() < Self::REPAIRS;
        if admitted {
            // One at a time: of most children there is one.
            repairs.at.reserve_exact(1);
            repairs.at.push(now);
        }
        admitted
    }
}

fn hash_of(value: &impl Hash) -> u128 {
    let mut hasher = Xxh3::new();
    value.hash(&mut hasher);
    hasher.digest128()
}

impl Repairs {
    fn forget(&mut self, now: Instant) {
        self.at.retain(|at| now.duration_since(*at) < Contests::WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use planner::child::Kind;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_contest_is_slowed_down_and_a_change_of_what_is_declared_is_not() {
        let contests = Contests::default();
        let key = Key::new("shop", "orders");
        let child = ChildRef::new(Kind::Service, "orders-rw");
        let (before, after) = (&json!(1), &json!(2));
        let start = Instant::now();
        for repair in 0..Contests::REPAIRS {
            assert!(contests.admit_at(&key, &child, before, start), "repair {repair}");
        }
        assert!(!contests.admit_at(&key, &child, before, start), "one too many");
        let other = ChildRef::new(Kind::Service, "orders-pods");
        assert!(
            contests.admit_at(&key, &other, before, start),
            "another child is not contested"
        );
        assert!(contests.admit_at(&key, &child, after, start), "a new declaration");
        let later = start + Contests::WINDOW;
        assert!(contests.admit_at(&key, &child, after, later));
    }
}
