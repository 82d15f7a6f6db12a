//! Who owns what, for fleets of several sizes: a new fleet, one that has nothing to change, one that a member joins.
//! Budget: 50 ms for 100 members. The leader asks when a member comes or goes, not for each object.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sharding::BUCKETS;
use sharding::assignment::{Fleet, Member, assign};

const MEMBERS: [usize; 4] = [3, 10, 30, 100];

fn members(count: usize) -> Vec<Member> {
    let member = |n| Member {
        name: format!("database-operator-{n}"),
        weight: 1,
        leaving: false,
    };
    (0..count).map(member).collect()
}

fn owners(members: &[Member], before: &[Option<usize>]) -> Vec<Option<usize>> {
    let fleet = Fleet {
        members,
        owners: before,
        shards: members.len(),
        objects: None,
    };
    assign(&fleet).expect("a right fleet").owners
}

fn fleets(c: &mut Criterion) {
    let nobody = vec![None; usize::from(BUCKETS)];
    for (case, joining) in [
        ("new fleet", None),
        ("nothing to change", Some(0)),
        ("one joins", Some(1)),
    ] {
        let mut group = c.benchmark_group(format!("assign: {case}"));
        for count in MEMBERS {
            let after = members(count + joining.unwrap_or(0));
            let before = joining.map_or_else(|| nobody.clone(), |_| owners(&after[..count], &nobody));
            group.bench_function(format!("{count} members"), |b| {
                b.iter(|| owners(black_box(&after), &before));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, fleets);
criterion_main!(benches);
