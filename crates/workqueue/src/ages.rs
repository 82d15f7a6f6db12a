use std::collections::BTreeMap;
use std::time::Duration;

use crate::Class;
use crate::backoff::micros;

/// How long the oldest of each class has waited, to within a sixteenth of the ageing time. So few entries that each
/// change is cheap, however much waits.
#[derive(Debug)]
pub(crate) struct Ages {
    ageing_us: u64,
    grain_us: u64,
    /// By class: how many have been due since which grain of time.
    since: [BTreeMap<u64, usize>; Class::ALL.len()],
}

impl Ages {
    pub(crate) fn new(ageing: Duration) -> Self {
        let ageing_us = micros(ageing);
        Self {
            ageing_us,
            grain_us: (ageing_us / 16).max(1),
            since: Default::default(),
        }
    }

    /// One that has been due since then waits in this class.
    pub(crate) fn came(&mut self, class: Class, due_us: u64) {
        *self.since[class as usize].entry(due_us / self.grain_us).or_default() += 1;
    }

    /// It waits no more.
    pub(crate) fn left(&mut self, class: Class, due_us: u64) {
        let since = &mut self.since[class as usize];
        let grain = due_us / self.grain_us;
        if let Some(count) = since.get_mut(&grain) {
            *count -= 1;
            if *count == 0 {
                since.remove(&grain);
            }
        }
    }

    /// Whether the oldest of a class has waited for one ageing time for each class above.
    pub(crate) fn patience_is_over(&self, class: Class, now_us: u64) -> bool {
        let patience_us = self.ageing_us.saturating_mul(class as u64);
        let oldest = self.since[class as usize].first_key_value();
        oldest.is_some_and(|(grain, _)| now_us.saturating_sub(grain * self.grain_us) >= patience_us)
    }
}
