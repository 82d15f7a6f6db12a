use std::hint::black_box;

/// Numbers by the hashes of what they stand for.
///
/// All about a dozen of them is in one cache line. So to find one among a million, to add and to remove one is one miss
/// each, where a table that keeps its tags apart from what they are for takes two or three.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// None, or a power of two. A number whose line is full stands in the next one that is not.
    lines: Vec<Line>,
    len: usize,
}

/// Numbers in a line.
const PLACES: usize = 12;

/// With more of them for each line, there are twice as many lines: by then a tenth of all lines are full.
const MANY: usize = 9;

#[derive(Debug, Clone, Default)]
#[repr(align(64))]
struct Line {
    /// For each number a part of its hash; 0 where there is none.
    tags: [u8; PLACES],
    /// How many numbers stand further on and would stand here or have passed by here.
    passed: u32,
    numbers: [u32; PLACES],
}

const _: () = assert!(size_of::<Line>() == 64, "one cache line");

impl Table {
    /// The number of this hash that is the one.
    pub(crate) fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        for at in self.path(hash) {
            let line = &self.lines[at];
            if let Some(place) = line.place(tag(hash), &is_it) {
                return Some(line.numbers[place]);
            }
            if line.passed == 0 {
                break;
            }
        }
        None
    }

    /// Adds a number that is not there. `hash_of` says the hash of each one that is.
    pub(crate) fn insert(&mut self, hash: u32, number: u32, hash_of: impl Fn(u32) -> u32) {
        if self.len == self.lines.len() * MANY {
            let twice = vec![Line::default(); (self.lines.len() * 2).max(1)];
            let before = std::mem::replace(&mut self.lines, twice);
            for number in before.iter().flat_map(Line::numbers) {
                self.put(hash_of(number), number);
            }
        }
        self.len += 1;
        self.put(hash, number);
    }

    /// Removes a number that is there.
    pub(crate) fn remove(&mut self, hash: u32, number: u32) {
        self.len -= 1;
        for at in self.path(hash) {
            let line = &mut self.lines[at];
            if let Some(place) = line.place(tag(hash), |its| its == number) {
                line.tags[place] = 0;
                return;
            }
            line.passed -= 1;
        }
    }

    /// All numbers, in no order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.lines.iter().flat_map(Line::numbers)
    }

    /// Looks at the line of this hash.
    pub(crate) fn look_ahead(&self, hash: u32) {
        black_box(self.path(hash).next().map(|at| self.lines[at].passed));
    }

    fn put(&mut self, hash: u32, number: u32) {
        for at in self.path(hash) {
            let line = &mut self.lines[at];
            if let Some(place) = line.place(0, |_| true) {
                line.tags[place] = tag(hash);
                line.numbers[place] = number;
                return;
            }
            line.passed += 1;
        }
    }

    /// The lines in which it may stand, in their order.
    fn path(&self, hash: u32) -> impl Iterator<Item = usize> + use<> {
        let lines = self.lines.len();
        (0..lines).map(move |step| (hash as usize + step) & (lines - 1))
    }
}

impl Line {
    /// The place with this tag whose number is the one.
    fn place(&self, tag: u8, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        // All tags at once: the highest bit of each byte, if that byte is the tag. Nothing is carried from one to the next.
        const LOW: u128 = u128::from_le_bytes([0x7f; 16]);
        let low = self.tags.first_chunk().map_or(0, |tags| u64::from_le_bytes(*tags));
        let high = self.tags.last_chunk().map_or(0, |tags| u32::from_le_bytes(*tags));
        let differ = (u128::from(high) << 64 | u128::from(low)) ^ u128::from_le_bytes([tag; 16]);
        let mut same = !(((differ & LOW) + LOW) | differ | LOW);
        while same != 0 {
            let place = same.trailing_zeros() as usize / 8;
            if is_it(*self.numbers.get(place)?) {
                return Some(place);
            }
            same &= same - 1;
        }
        None
    }

    fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        let there = |(tag, number): (&u8, &u32)| (*tag != 0).then_some(*number);
        self.tags.iter().zip(&self.numbers).filter_map(there)
    }
}

/// From the end of the hash that has no part in the choice of a line, or only among millions.
fn tag(hash: u32) -> u8 {
    hash.to_be_bytes()[0].max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// So few hashes that lines overflow, and one another's tags are met, also the one that stands for no number.
    fn hash_of(number: u32) -> u32 {
        (number % 3) << 24 | (number % 7)
    }

    proptest! {
        #[test]
        fn it_has_what_a_set_has(changes in prop::collection::vec((any::<bool>(), 0_u32..120), 0..1_000)) {
            let mut table = Table::default();
            let mut set = BTreeSet::new();
            for (add, number) in changes {
                if add && set.insert(number) {
                    table.insert(hash_of(number), number, hash_of);
                } else if !add && set.remove(&number) {
                    table.remove(hash_of(number), number);
                }
                prop_assert_eq!(table.find(hash_of(number), |it| it == number).is_some(), set.contains(&number));
            }
            for number in 0..120 {
                prop_assert_eq!(table.find(hash_of(number), |it| it == number).is_some(), set.contains(&number));
            }
            prop_assert_eq!(table.numbers().collect::<BTreeSet<_>>(), set.clone());
            prop_assert_eq!(table.numbers().count(), set.len());
            for number in set {
                table.remove(hash_of(number), number);
            }
            prop_assert!(table.lines.iter().all(|line| line.passed == 0), "nothing is there that anybody passed");
        }
    }
}
