use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::backoff::micros;
use crate::{Backoff, Class, Counts, InWork, Metrics, State, Taken};

/// A handle on the queue; clones share it. For what it promises, see the crate's documentation.
///
/// Must be used inside a tokio runtime with time enabled.
pub struct Queue<K: Clone + Eq + Hash> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    inner: Mutex<Inner<K>>,
    /// Wakes one worker to look at the queue: the one that has waited longest.
    ///
    /// Why no key and no due time is missed: a worker looks before it waits, and each request wakes one that waits,
    /// so those that wait without having seen the latest requests stand before those that have, and are taken first.
    /// One that has seen them and gives up waiting passes it on.
    wake: Notify,
    /// Wakes those who wait in [`Queue::drained`].
    idle: Notify,
    metrics: Box<dyn Metrics>,
    /// Zero of the clock that [`State`] sees.
    zero: Instant,
}

struct Inner<K> {
    state: State<K>,
    draw: Box<dyn FnMut() -> u64 + Send>,
    shut_down: bool,
}

/// What a worker finds when it looks.
enum Look<K> {
    Found(Taken<K>),
    Nothing { next_due: Option<Instant> },
    ShutDown,
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// An empty queue. `draw` gives uniformly random numbers for the jitter of retries; `metrics` counts, or `()`.
    pub fn new(backoff: Backoff, draw: impl FnMut() -> u64 + Send + 'static, metrics: impl Metrics) -> Self {
        Self {
            shared: Arc::new(Shared {
                inner: Mutex::new(Inner {
                    state: State::new(backoff),
                    draw: Box::new(draw),
                    shut_down: false,
                }),
                wake: Notify::new(),
                idle: Notify::new(),
                metrics: Box::new(metrics),
                zero: Instant::now(),
            }),
        }
    }

    /// Asks for a run of `key` as soon as a worker is free, also if it was to run later. After
    /// [`Queue::shutdown`], does nothing.
    pub fn add(&self, key: K, class: Class) {
        self.add_after(key, class, Duration::ZERO);
    }

    /// Asks for a run of `key` once `delay` has passed. The earliest request wins.
    pub fn add_after(&self, key: K, class: Class, delay: Duration) {
        self.shared.change(|inner, now_us| {
            inner
                .state
                .add_at(key, class, now_us.saturating_add(micros(delay)), now_us);
        });
    }

    /// Counts a failure of `key` and asks for a run after a backoff with jitter. Returns the wait; a request that is
    /// due sooner absorbs this one.
    pub fn retry(&self, key: K) -> Duration {
        let wait = self.shared.change(|inner, now_us| {
            let draw = (inner.draw)();
            inner.state.retry(key, draw, now_us)
        });
        if wait.is_some() {
            self.shared.metrics.retried();
        }
        wait.unwrap_or_default()
    }

    /// Forgets the failures of `key`. To be called after a success, and when the key is gone for good.
    pub fn forget(&self, key: &K) {
        self.shared.lock().state.forget(key);
    }

    /// The next key, once there is one; `None` from [`Queue::shutdown`] on. Cancel safe.
    ///
    /// The key is being worked on until the [`Item`] is dropped.
    pub async fn get(&self) -> Option<Item<K>> {
        loop {
            let mut woken = pin!(self.shared.wake.notified());
            // In line before it looks: else a worker on another thread that was told of a later request could come
            // to stand before it (see `wake`). No test of ours hits that moment.
            woken.as_mut().enable();
            match self.shared.look() {
                Look::Found(taken) => {
                    return Some(Item {
                        taken,
                        shared: Arc::clone(&self.shared),
                    });
                }
                Look::ShutDown => return None,
                Look::Nothing { next_due } => {
                    // The caller may drop this future while it is the only one that knows of `next_due`.
                    let pass_on = PassOn(&self.shared.wake);
                    wait(woken, next_due).await;
                    std::mem::forget(pass_on);
                }
            }
        }
    }

    /// Keys that are due and wait for a worker.
    pub fn len(&self) -> usize {
        self.counts().ready
    }

    /// Whether no key waits for a worker. Keys may still be delayed or being worked on.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys are where.
    pub fn counts(&self) -> Counts {
        self.shared.lock().state.counts()
    }

    /// For how long the keys being worked on have been so.
    pub fn in_work(&self) -> InWork {
        let inner = self.shared.lock();
        inner.state.in_work(self.shared.now_us())
    }

    /// Hands out nothing more: every [`Queue::get`], waiting or to come, returns `None`. Runs in progress go on.
    pub fn shutdown(&self) {
        self.shared.lock().shut_down = true;
        self.shared.wake.notify_waiters();
        self.shared.idle.notify_waiters();
    }

    /// Waits until the queue is shut down and nothing is being worked on. Cancel safe.
    pub async fn drained(&self) {
        loop {
            // Hears of every end from here on, also of one between looking and waiting.
            let woken = self.shared.idle.notified();
            {
                let inner = self.shared.lock();
                if inner.shut_down && inner.state.counts().working == 0 {
                    return;
                }
            }
            woken.await;
        }
    }
}

impl<K: Clone + Eq + Hash> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K: Clone + Eq + Hash> fmt::Debug for Queue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// A key being worked on. Dropping it ends the run, also when the worker panics or is cancelled; the key is then
/// not run again by itself.
pub struct Item<K: Clone + Eq + Hash> {
    taken: Taken<K>,
    shared: Arc<Shared<K>>,
}

impl<K: Clone + Eq + Hash> Item<K> {
    /// What to work on.
    pub fn key(&self) -> &K {
        &self.taken.key
    }

    /// The most urgent class of the requests that led to this run.
    pub fn class(&self) -> Class {
        self.taken.class
    }

    /// How long the run had been due when it was handed out.
    pub fn waited(&self) -> Duration {
        self.taken.waited
    }

    /// Failures in a row before this run.
    pub fn failures(&self) -> u32 {
        self.taken.failures
    }

    /// Ends the run. The same as dropping, but it reads as what it is.
    pub fn done(self) {}
}

impl<K: Clone + Eq + Hash> Drop for Item<K> {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        let work = inner.state.done(&self.taken.key, self.shared.now_us());
        let added = inner.state.take_added();
        let (counts, shut_down) = (inner.state.counts(), inner.shut_down);
        drop(inner);
        if counts.ready > 0 {
            self.shared.wake.notify_one();
        }
        if shut_down && counts.working == 0 {
            self.shared.idle.notify_waiters();
        }
        self.shared.metrics.added(added);
        if let Some(work) = work {
            self.shared.metrics.worked(work);
        }
    }
}

impl<K: Clone + Eq + Hash + fmt::Debug> fmt::Debug for Item<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Item").field(&self.taken).finish()
    }
}

impl<K: Clone + Eq + Hash> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        // Poisoned only if hashing, comparing or drawing panicked half-way: then the state cannot be trusted.
        self.inner.lock().expect("no panic while the queue was locked")
    }

    fn now_us(&self) -> u64 {
        micros(self.zero.elapsed())
    }

    /// Makes a request and wakes a worker; `None` after shutdown.
    fn change<T>(&self, request: impl FnOnce(&mut Inner<K>, u64) -> T) -> Option<T> {
        let mut inner = self.lock();
        if inner.shut_down {
            return None;
        }
        // Read under the lock, so that the state never sees time go back.
        let answer = request(&mut inner, self.now_us());
        let added = inner.state.take_added();
        drop(inner);
        self.wake.notify_one();
        self.metrics.added(added);
        Some(answer)
    }

    fn look(&self) -> Look<K> {
        let mut inner = self.lock();
        if inner.shut_down {
            return Look::ShutDown;
        }
        let taken = inner.state.take(self.now_us());
        let added = inner.state.take_added();
        let next_due_us = inner.state.next_due_us();
        drop(inner);
        self.metrics.added(added);
        match taken {
            Some(taken) => {
                self.metrics.waited(taken.waited);
                Look::Found(taken)
            }
            None => Look::Nothing {
                next_due: next_due_us.and_then(|us| self.at(us)),
            },
        }
    }

    /// `None` for a time so far away that the clock cannot say it: never.
    fn at(&self, us: u64) -> Option<Instant> {
        self.zero.checked_add(Duration::from_micros(us))
    }
}

async fn wait(woken: impl Future<Output = ()>, next_due: Option<Instant>) {
    match next_due {
        Some(at) => tokio::select! {
            () = woken => {}
            () = sleep_until(at) => {}
        },
        None => woken.await,
    }
}

/// Wakes another worker when dropped.
struct PassOn<'a>(&'a Notify);

impl Drop for PassOn<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
