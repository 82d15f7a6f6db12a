//! Bounds on the load of each member, and the fewest moves that keep them.

use std::cmp::{Ordering, Reverse};

use super::{Member, score};

/// How far a load may be from the member's share, in percent.
const TOLERANCE_PERCENT: u128 = 2;

/// Gives owners to the buckets that have none, then moves as few of the others as the bounds ask for. Owners are
/// indices into `active`, whose order decides between equals. No active members: nothing is owned.
pub(super) fn balance(active: &[&Member], loads: Vec<u64>, owners: Vec<Option<usize>>) -> Vec<Option<usize>> {
    if active.is_empty() {
        return vec![None; owners.len()];
    }
    let mut shares = Shares::new(active, loads, owners);
    if shares.settled() {
        return shares.owners;
    }
    shares.draw(active);
    shares.place_unowned();
    while let Some(step) = shares.next_move() {
        shares.carry_out(&step);
    }
    shares.owners
}

/// An active member and its load.
struct Share {
    weight: u64,
    load: u64,
    bounds: Bounds,
}

/// The least and the most that a member may carry.
#[derive(Clone, Copy)]
struct Bounds {
    least: u64,
    most: u64,
}

struct Shares {
    members: Vec<Share>,
    /// By bucket.
    loads: Vec<u64>,
    /// By bucket.
    owners: Vec<Option<usize>>,
    /// By member, then by bucket: what [`score::cost`] says.
    costs: Vec<Vec<u64>>,
}

struct Move {
    bucket: usize,
    from: usize,
    to: usize,
}

impl Bounds {
    /// Within the tolerance of `total * weight / weights`; where no whole number lies there, the ones beside the share.
    /// Shares add up to the total, so bounds on both sides of each share can always be met by buckets of load 1.
    fn new(total: u64, weight: u64, weights: u64) -> Self {
        let (share, weights) = (u128::from(total) * u128::from(weight), u128::from(weights));
        let least = (share * (100 - TOLERANCE_PERCENT)).div_ceil(weights * 100);
        let most = share * (100 + TOLERANCE_PERCENT) / (weights * 100);
        let fits = |bound: u128| u64::try_from(bound).expect("a share is at most the total, and twice that fits");
        Self {
            least: fits(least.min(share / weights)),
            most: fits(most.max(share.div_ceil(weights))),
        }
    }

    /// How far outside a load is.
    fn excess(self, load: u64) -> u64 {
        load.saturating_sub(self.most) + self.least.saturating_sub(load)
    }
}

impl Share {
    fn is_above(&self) -> bool {
        self.load > self.bounds.most
    }

    fn is_below(&self) -> bool {
        self.load < self.bounds.least
    }

    /// Compares load by weight: less of its share first.
    fn compare(&self, other: &Self) -> Ordering {
        (self.load * other.weight).cmp(&(other.load * self.weight))
    }
}

impl Shares {
    fn new(active: &[&Member], loads: Vec<u64>, owners: Vec<Option<usize>>) -> Self {
        let total = loads.iter().sum();
        let weights = active.iter().map(|member| u64::from(member.weight)).sum();
        let share = |member: &&Member| {
            let weight = u64::from(member.weight);
            let bounds = Bounds::new(total, weight, weights);
            Share {
                weight,
                load: 0,
                bounds,
            }
        };
        let mut members: Vec<Share> = active.iter().map(share).collect();
        for (owner, load) in owners.iter().zip(&loads) {
            if let Some(owner) = owner {
                members[*owner].load += load;
            }
        }
        Self {
            members,
            loads,
            owners,
            costs: Vec::new(),
        }
    }

    fn settled(&self) -> bool {
        self.owners.iter().all(Option::is_some) && self.members.iter().all(|m| !m.is_above() && !m.is_below())
    }

    fn draw(&mut self, active: &[&Member]) {
        let buckets = u16::try_from(self.owners.len()).expect("at most BUCKETS");
        let costs = |member: &&Member| {
            let cost = |bucket| score::cost(score::draw(&member.name, bucket));
            (0..buckets).map(cost).collect()
        };
        self.costs = active.iter().map(costs).collect();
    }

    /// The heaviest first, each to the member that it prefers among those that need it, else among those that have
    /// room, else to the one with the least of its share.
    fn place_unowned(&mut self) {
        let mut unowned: Vec<usize> = (0..self.owners.len()).filter(|b| self.owners[*b].is_none()).collect();
        unowned.sort_by_key(|bucket| Reverse(self.loads[*bucket]));
        for bucket in unowned {
            let load = self.loads[bucket];
            let all = 0..self.members.len();
            let has_room = |m: &usize| self.has_room(*m, load);
            let needs_it = |m: &usize| self.members[*m].is_below() && has_room(m);
            let prefers = |a: &usize, b: &usize| {
                let [cost_a, cost_b] = [*a, *b].map(|m| self.costs[m][bucket]);
                (cost_a * self.members[*b].weight).cmp(&(cost_b * self.members[*a].weight))
            };
            let to = all.clone().filter(needs_it).min_by(prefers);
            let to = to.or_else(|| all.clone().filter(has_room).min_by(prefers));
            let to = to.or_else(|| all.min_by(|a, b| self.members[*a].compare(&self.members[*b])));
            let to = to.expect("there is an active member");
            self.owners[bucket] = Some(to);
            self.members[to].load += load;
        }
    }

    /// The next bucket to move, so that the loads come nearer to their bounds: from those above to those below, and
    /// when one side is done, from the fullest or to the emptiest. Each step makes the sum of what is outside the
    /// bounds smaller, so this ends; with equal loads it ends within the bounds, after the fewest moves.
    fn next_move(&self) -> Option<Move> {
        let member = |index: &usize| &self.members[*index];
        let mut givers: Vec<usize> = (0..self.members.len()).collect();
        let mut takers = givers.clone();
        givers.sort_by(|a, b| {
            let above_first = member(b).is_above().cmp(&member(a).is_above());
            above_first.then(member(b).compare(member(a)))
        });
        takers.sort_by(|a, b| {
            let below_first = member(b).is_below().cmp(&member(a).is_below());
            below_first.then(member(a).compare(member(b)))
        });
        for from in givers {
            for to in takers.iter().copied() {
                let needed = member(&from).is_above() || member(&to).is_below();
                if needed && let Some(bucket) = self.best_bucket(from, to) {
                    return Some(Move { bucket, from, to });
                }
            }
        }
        None
    }

    /// The bucket that would improve the bounds by moving and that likes the taker most in comparison with the giver.
    /// One for which the taker has room goes first, so that the heaviest bucket moves only if the light ones cannot help.
    fn best_bucket(&self, from: usize, to: usize) -> Option<usize> {
        let owned = (0..self.owners.len()).filter(|bucket| self.owners[*bucket] == Some(from));
        let improving = owned.filter(|bucket| self.improves(from, to, self.loads[*bucket]));
        improving.min_by(|a, b| {
            let [taker_a, giver_a] = [to, from].map(|member| u128::from(self.costs[member][*a]));
            let [taker_b, giver_b] = [to, from].map(|member| u128::from(self.costs[member][*b]));
            let [room_a, room_b] = [*a, *b].map(|bucket| self.has_room(to, self.loads[bucket]));
            room_b.cmp(&room_a).then((taker_a * giver_b).cmp(&(taker_b * giver_a)))
        })
    }

    fn has_room(&self, member: usize, load: u64) -> bool {
        self.members[member].load + load <= self.members[member].bounds.most
    }

    fn improves(&self, from: usize, to: usize, load: u64) -> bool {
        if from == to {
            return false;
        }
        let (from, to) = (&self.members[from], &self.members[to]);
        let before = from.bounds.excess(from.load) + to.bounds.excess(to.load);
        let after = from.bounds.excess(from.load - load) + to.bounds.excess(to.load + load);
        after < before
    }

    fn carry_out(&mut self, step: &Move) {
        self.owners[step.bucket] = Some(step.to);
        self.members[step.from].load -= self.loads[step.bucket];
        self.members[step.to].load += self.loads[step.bucket];
    }
}
