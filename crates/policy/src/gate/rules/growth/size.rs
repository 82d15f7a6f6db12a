//! Sizes as estimates from above, and what of them changes with a loop.

use std::collections::BTreeMap;

/// How often a loop counts that repeats what does not change in it. One such loop stands for at most the square of what
/// is there, which is how reports are written (a name beside each of its parts); loops over what such loops made do not
/// end at squares, and reach the limit at the second.
pub(super) const TURNS: u64 = 32;

/// Bytes of a value: of `fixed` there is as much in each turn of the loops around it, of `each` as much in all turns
/// together, for the turns share it among them.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Size {
    fixed: u64,
    each: u64,
    /// The loop whose turns share `each`; to loops that begin later, all of it is fixed.
    turn: u32,
}

impl Size {
    /// Of what is the same in each turn.
    pub(super) fn still(bytes: u64) -> Self {
        Self {
            fixed: bytes,
            each: 0,
            turn: 0,
        }
    }

    pub(super) fn total(self) -> u64 {
        self.fixed.saturating_add(self.each)
    }

    fn seen_from(self, turn: u32) -> Self {
        if self.turn == turn {
            return self;
        }
        Self {
            fixed: self.total(),
            each: 0,
            turn,
        }
    }

    /// What `combine` makes of sizes. It must not give less for more.
    pub(super) fn of_all(sizes: &[Self], mut combine: impl FnMut(&[u64]) -> u64) -> Self {
        let turn = sizes.iter().map(|size| size.turn).max().unwrap_or_default();
        let seen: Vec<Self> = sizes.iter().map(|size| size.seen_from(turn)).collect();
        let totals: Vec<u64> = seen.iter().map(|size| size.total()).collect();
        let total = combine(&totals);
        if seen.iter().all(|size| size.each == 0) {
            return Self::still(total).seen_from(turn);
        }
        let still: Vec<u64> = seen.iter().map(|size| size.fixed).collect();
        let fixed = combine(&still).min(total);
        Self {
            fixed,
            each: total - fixed,
            turn,
        }
    }

    pub(super) fn sum(sizes: &[Self]) -> Self {
        Self::of_all(sizes, add)
    }
}

/// Sum of bytes.
pub(super) fn add(bytes: &[u64]) -> u64 {
    bytes.iter().fold(0, |sum, more| sum.saturating_add(*more))
}

/// Variables of a query, and the loops that it has had so far.
#[derive(Clone, Default)]
pub(super) struct Env {
    variables: BTreeMap<String, Size>,
    turns: u32,
}

impl Env {
    pub(super) fn get(&self, name: &str) -> Option<Size> {
        self.variables.get(name).copied()
    }

    pub(super) fn set(&mut self, name: String, size: Size) {
        if name != "_" {
            self.variables.insert(name, size);
        }
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.variables.remove(name);
    }

    pub(super) fn len(&self) -> usize {
        self.variables.len()
    }

    /// Begins a loop, and gives the size of what it takes in its turns.
    ///
    /// A loop over parts of what the loop before takes shares it further. Any other loop repeats it: loops in loops over
    /// different things take time for each pair, so the limit of time bounds them, and not what is said here.
    pub(super) fn turn(&mut self, over: Size) -> Size {
        let shares = self.turns == 0 || over.seen_from(self.turns).fixed == 0;
        self.turns += 1;
        let (fixed, each) = if shares { (0, over.total()) } else { (over.total(), 0) };
        Size {
            fixed,
            each,
            turn: self.turns,
        }
    }

    /// Whether something in it changes with a loop.
    pub(super) fn varies(&self) -> bool {
        self.variables.values().any(|size| size.seen_from(self.turns).each > 0)
    }

    /// What a query within this one begins with: to its loops, all of that is fixed.
    pub(super) fn within(&self) -> Self {
        self.map(Size::total)
    }

    /// The same of what does not change with a loop of this query.
    pub(super) fn within_still(&self) -> Self {
        self.map(|size| size.seen_from(self.turns).fixed)
    }

    fn map(&self, bytes: impl Fn(Size) -> u64) -> Self {
        let still = |(name, size): (&String, &Size)| (name.clone(), Size::still(bytes(*size)));
        Self {
            variables: self.variables.iter().map(still).collect(),
            turns: 0,
        }
    }

    /// Bytes of all that the turns of this query give, where each gives `size`.
    pub(super) fn gathered(&self, size: Size) -> u64 {
        let size = size.seen_from(self.turns);
        let times = if self.turns == 0 { 1 } else { TURNS };
        size.each.saturating_add(size.fixed.saturating_mul(times))
    }

    /// What changes with the loops of this query, and what does not, of a value that is `total` and, without what
    /// changes, `still`.
    pub(super) fn split(&self, total: u64, still: u64) -> Size {
        let fixed = still.min(total);
        Size {
            fixed,
            each: total - fixed,
            turn: self.turns,
        }
    }
}
