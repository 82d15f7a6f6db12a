//! One key in, out and done, while so many others wait: strings as keys, of 1,000 tenants and 1,024 groups, in random
//! order. Budget (`add_get_done/1000000`): 0.5 us.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use workqueue::{Class, Key, Limits, Queue};

/// So many at a time are measured.
const BATCH: u64 = 100;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Id {
    namespace: Arc<str>,
    name: Arc<str>,
    group: u16,
}

impl Key for Id {
    type Tenant = Arc<str>;

    fn tenant(&self) -> &Arc<str> {
        &self.namespace
    }

    fn group(&self) -> usize {
        self.group.into()
    }

    fn look_ahead(&self) {
        black_box(Arc::strong_count(&self.name));
    }
}

fn names(count: usize) -> Vec<Id> {
    let mut random = StdRng::seed_from_u64(1);
    let namespaces: Vec<Arc<str>> = (0..1000).map(|at| format!("team-{at:04}").into()).collect();
    let mut names: Vec<Id> = (0..count)
        .map(|at| Id {
            namespace: namespaces[random.random_range(0..1000)].clone(),
            name: format!("orders-database-{at:07}").into(),
            group: random.random_range(0..1024),
        })
        .collect();
    names.shuffle(&mut random);
    names
}

fn add_get_done(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let mut group = c.benchmark_group("add_get_done");
    for depth in [1_000, 1_000_000] {
        let limits = Limits {
            capacity: usize::MAX,
            ..Limits::default()
        };
        // As the operator has it.
        let clock = quanta::Clock::new();
        let zero = clock.raw();
        let queue = Queue::new(limits, move || clock.delta_as_nanos(zero, clock.raw()) / 1000, || 0, ());
        let mut spare: VecDeque<Id> = names(2 * depth).into();
        for name in spare.drain(depth..) {
            queue.add(name, Class::UserChange);
        }
        group.bench_function(BenchmarkId::from_parameter(depth), |b| {
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                let mut left = rounds;
                while left > 0 {
                    let batch = usize::try_from(left.min(BATCH)).expect("few");
                    left -= batch as u64;
                    // Whoever adds a key has just made it.
                    let added: Vec<Id> = spare.iter().take(batch).cloned().collect();
                    spare.drain(..batch);
                    let mut got = Vec::with_capacity(batch);
                    spent += runtime.block_on(async {
                        let began = Instant::now();
                        for name in added {
                            queue.add(black_box(name), Class::UserChange);
                            let item = queue.get().await.expect("not shut down");
                            got.push(item.key().clone());
                            item.done();
                        }
                        began.elapsed()
                    });
                    spare.extend(got);
                }
                spent
            });
        });
    }
}

criterion_group!(benches, add_get_done);
criterion_main!(benches);
