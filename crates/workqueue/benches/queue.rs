//! One key in, out and done, while so many others wait. Budget (for the shell, at 1,000,000): 0.5 us.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use workqueue::{Backoff, Class, Queue, State};

const DEPTHS: [u64; 2] = [1_000, 1_000_000];

fn filled_state(depth: u64) -> State<u64> {
    let mut state = State::new(Backoff::default());
    for key in 0..depth {
        state.add(key, Class::Resync, key);
    }
    state
}

/// Keys come back in the order in which they were added, so `next` is never one that waits already.
fn core(c: &mut Criterion) {
    let mut group = c.benchmark_group("state: add + take + done");
    for depth in DEPTHS {
        let mut state = filled_state(depth);
        let mut next = depth;
        group.bench_function(format!("depth {depth}"), |b| {
            b.iter(|| {
                state.add(black_box(next), Class::Resync, next);
                let taken = state.take(next).expect("the queue is not empty");
                state.done(&taken.key, next).expect("it was just taken");
                next += 1;
            });
        });
    }
}

fn shell(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let mut group = c.benchmark_group("queue: add + get + done");
    for depth in DEPTHS {
        let queue = Queue::new(Backoff::default(), || 0, ());
        for key in 0..depth {
            queue.add(key, Class::Resync);
        }
        let mut next = depth;
        group.bench_function(format!("depth {depth}"), |b| {
            b.iter(|| {
                queue.add(black_box(next), Class::Resync);
                let item = runtime.block_on(queue.get()).expect("not shut down");
                item.done();
                next += 1;
            });
        });
        // A hundred at a time inside the runtime: the price of entering it (`block_on`) is not the queue's.
        group.bench_function(format!("depth {depth}, 100 at a time"), |b| {
            b.iter_batched(
                || {
                    next += 100;
                    next
                },
                |first| {
                    runtime.block_on(async {
                        for key in first..first + 100 {
                            queue.add(black_box(key), Class::Resync);
                            queue.get().await.expect("not shut down").done();
                        }
                    });
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, core, shell);
criterion_main!(benches);
