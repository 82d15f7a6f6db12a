//! What counts for a while only.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Values by key, each forgotten some time after it counts no more. What that costs for one look does not grow with how
/// many there are, and the memory is given back.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    of: HashMap<K, V>,
    /// How many there may be before the old ones are looked for again.
    room: usize,
    /// When they were looked for last.
    looked: Option<Instant>,
}

/// So many are remembered before any is forgotten: below that, looking for old ones is not worth it.
const ROOM: usize = 64;

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            of: HashMap::new(),
            room: ROOM,
            looked: None,
        }
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// All of them, after those were forgotten that `counts` says no more of: when there are twice as many as were left
    /// the last time, or a `window` has passed since.
    pub(crate) fn at(
        &mut self,
        now: Instant,
        window: Duration,
        mut counts: impl FnMut(&mut V) -> bool,
    ) -> &mut HashMap<K, V> {
        let looked = *self.looked.get_or_insert(now);
        if self.of.len() >= self.room || now.saturating_duration_since(looked) >= window {
            self.looked = Some(now);
            self.of.retain(|_, value| counts(value));
            self.room = ROOM.max(2 * self.of.len());
            self.of.shrink_to(self.room);
        }
        &mut self.of
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    #[test]
    fn looking_for_what_is_past_costs_little_for_each_however_many_there_are() {
        let mut recent = Recent::default();
        let (start, mut looks) = (Instant::now(), 0);
        for number in 0..10_000 {
            let all = recent.at(start, WINDOW, |()| {
                looks += 1;
                true
            });
            all.insert(number, ());
        }
        assert!(looks < 20_000, "{looks} looks for 10,000");
        let all = recent.at(start + WINDOW, WINDOW, |()| false);
        assert_eq!(
            (all.len(), all.capacity() <= 4 * ROOM),
            (0, true),
            "what is past went, and its memory"
        );
    }
}
