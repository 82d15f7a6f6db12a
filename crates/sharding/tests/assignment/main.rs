//! The assignment from outside: `golden` (the same answer for ever), `properties` (what holds for any fleet), `bars`
//! (what was measured, and must not get worse).

mod bars;
mod golden;
mod properties;

use sharding::BUCKETS;
use sharding::assignment::{Assignment, Fleet, Member, assign};

fn member(name: impl Into<String>, weight: u32) -> Member {
    Member {
        name: name.into(),
        weight,
        leaving: false,
    }
}

/// A fleet that lives: members come and go, buckets keep their owners.
struct Story {
    members: Vec<Member>,
    owners: Vec<Option<usize>>,
    shards: usize,
}

impl Story {
    /// All members are active, and share the buckets.
    fn new(members: Vec<Member>) -> Self {
        let mut story = Self {
            shards: members.len(),
            owners: vec![None; usize::from(BUCKETS)],
            members,
        };
        story.assign();
        story
    }

    fn fleet(&self) -> Fleet<'_> {
        Fleet {
            members: &self.members,
            owners: &self.owners,
            shards: self.shards,
            objects: None,
        }
    }

    /// How many buckets changed their owner.
    fn assign(&mut self) -> usize {
        let Assignment { owners, .. } = assign(&self.fleet()).expect("a right fleet");
        let moved = owners
            .iter()
            .zip(&self.owners)
            .filter(|(after, before)| after != before);
        let moved = moved.count();
        self.owners = owners;
        moved
    }

    /// The member and all that is known of it is forgotten; it must own nothing.
    fn forget(&mut self, index: usize) {
        self.members.remove(index);
        for owner in self.owners.iter_mut().flatten() {
            assert_ne!(*owner, index, "it still owns a bucket");
            *owner -= usize::from(*owner > index);
        }
    }

    fn buckets_of(&self, index: usize) -> usize {
        self.owners.iter().filter(|owner| **owner == Some(index)).count()
    }

    fn owner_names(&self) -> Vec<&str> {
        let name = |owner: &Option<usize>| owner.map_or("", |owner| self.members[owner].name.as_str());
        self.owners.iter().map(name).collect()
    }
}
