//! Whether a fleet is well again after the last fault.

use crate::fleet::Simulation;
use crate::member::Member;
use crate::network::What;
use crate::schedule::SECOND;
use crate::world::invariants::Violation;

impl Simulation {
    /// Whether the fleet is well again, after the last fault.
    pub(crate) fn look(&mut self) {
        let after = self.now - self.schedule.ends;
        let served = self.all_served();
        if served && self.judge.counts.served_after == 0 {
            self.judge.counts.served_after = after.max(1);
        }
        if self.judge.counts.served_after == 0 && after > self.schedule.served_within() {
            self.judge.found(Violation::NeverSettles);
        }
        if served && self.balanced() {
            self.judge.counts.balanced_after = after;
            self.over = true;
        } else if after > self.schedule.balanced_within() {
            self.judge.found(Violation::SharesOutOfBounds);
        }
        self.queue.put(self.now + SECOND / 4, What::Look);
    }

    fn all_served(&self) -> bool {
        // Nobody obeys a map that was edited or put back, and the leader replaces it.
        let good = !self.server.edited && !self.server.restored;
        let Some((_, map)) = self.server.map.as_ref().filter(|_| good) else {
            return false;
        };
        let served = |bucket| {
            let owner = map.owner(bucket)?;
            let mut members = self.members.iter();
            let member = members.find(|member| member.up() && member.config.me == *owner)?;
            (member.serves(bucket, self.now) == map.epoch(bucket)).then_some(())
        };
        map.buckets().all(|bucket| served(bucket).is_some())
    }

    /// Nothing is under way, as many members own buckets as can, and each within 2 % of its share by weight, or at the
    /// next whole bucket.
    fn balanced(&self) -> bool {
        let Some((_, map)) = &self.server.map else { return false };
        let fit = |member: &&Member| member.up() && !member.leaving && member.process.member.weight > 0;
        let loads = map.members.iter().enumerate().map(|(place, member)| {
            let owned = map
                .owners
                .iter()
                .flatten()
                .filter(|owner| usize::from(**owner) == place);
            (u64::from(member.weight), owned.count())
        });
        let loads: Vec<(u64, usize)> = loads.filter(|(_, load)| *load > 0).collect();
        let able = self.members.iter().filter(fit).count();
        let total = map.owners.len() as u64;
        let weights: u64 = loads.iter().map(|(weight, _)| weight).sum();
        let within = loads.iter().all(|(weight, load)| {
            let share = total * weight;
            let least = (share * 98).div_ceil(weights * 100).min(share / weights);
            let most = (share * 102 / (weights * 100)).max(share.div_ceil(weights));
            (least..=most).contains(&(*load as u64))
        });
        map.round.is_none() && loads.len() == able.min(self.schedule.shards.into()) && within
    }
}
