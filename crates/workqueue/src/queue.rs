use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::backoff::micros;
use crate::{Class, Counts, InWork, Key, Limits, Metrics, State, Taken};

/// A handle on the queue; clones share it. For what it promises, see the crate's documentation.
///
/// Must be used inside a tokio runtime with time enabled.
pub struct Queue<K: Key> {
    shared: Arc<Shared<K>>,
}

struct Shared<K: Key> {
    inner: Mutex<Inner<K>>,
    /// Wakes one worker to look at the queue: the one that has waited longest.
    ///
    /// Why no key and no due time is missed: a worker looks before it waits, and each request wakes one that waits,
    /// so those that wait without having seen the latest requests stand before those that have, and are taken first.
    /// One that has seen them and gives up waiting passes it on.
    wake: Notify,
    /// Wakes those who wait in [`Queue::drained`].
    idle: Notify,
    /// Wakes those who wait in [`Queue::recall`].
    recall: Notify,
    metrics: Box<dyn Metrics>,
    /// The clock that [`State`] sees.
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
}

struct Inner<K: Key> {
    state: State<K>,
    draw: Box<dyn FnMut() -> u64 + Send>,
    shut_down: bool,
}

/// What a worker finds when it looks.
enum Look<K> {
    Found(Taken<K>),
    /// Nothing, for so long.
    Nothing {
        next_due: Option<Duration>,
    },
    ShutDown,
}

impl<K: Key> Queue<K> {
    /// An empty queue. `clock` tells microseconds since any fixed moment, never going back, at the pace of the timers of
    /// the runtime; it is asked for each operation, so how soon it answers matters. `draw` gives uniformly random numbers
    /// for the jitter of retries; `metrics` counts, or `()`.
    pub fn new(
        limits: Limits,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
        draw: impl FnMut() -> u64 + Send + 'static,
        metrics: impl Metrics,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                inner: Mutex::new(Inner {
                    state: State::new(limits),
                    draw: Box::new(draw),
                    shut_down: false,
                }),
                wake: Notify::new(),
                idle: Notify::new(),
                recall: Notify::new(),
                metrics: Box::new(metrics),
                clock: Box::new(clock),
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

    /// Drops all requests and failures of a group. What is being worked on goes on.
    pub fn remove_group(&self, group: usize) {
        self.shared.lock().state.remove_group(group);
    }

    /// Completes when requests were shed and there is room again: everything is to be asked for again then. Cancel safe.
    pub async fn recall(&self) {
        self.shared.recall.notified().await;
    }

    /// The next key, once there is one; `None` from [`Queue::shutdown`] on. Cancel safe.
    ///
    /// The key is being worked on until the [`Item`] is dropped.
    pub async fn get(&self) -> Option<Item<K>> {
        let found = |taken| Item {
            taken: Some(taken),
            shared: Arc::clone(&self.shared),
        };
        // To stand in line costs more than to look, and mostly there is something.
        if let Look::Found(taken) = self.shared.look() {
            return Some(found(taken));
        }
        loop {
            let mut woken = pin!(self.shared.wake.notified());
            // In line before it looks: else a worker on another thread that was told of a later request could come
            // to stand before it (see `wake`). No test of ours hits that moment.
            woken.as_mut().enable();
            match self.shared.look() {
                Look::Found(taken) => return Some(found(taken)),
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
        self.counts().ready()
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
        inner.state.in_work((self.shared.clock)())
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

impl<K: Key> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K: Key> fmt::Debug for Queue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// A key being worked on. Dropping it ends the run, also when the worker panics or is cancelled; the key is then
/// not run again by itself.
pub struct Item<K: Key> {
    /// There until it is dropped.
    taken: Option<Taken<K>>,
    shared: Arc<Shared<K>>,
}

impl<K: Key> Item<K> {
    fn taken(&self) -> &Taken<K> {
        self.taken.as_ref().expect("it is there until it is dropped")
    }

    /// What to work on.
    pub fn key(&self) -> &K {
        &self.taken().key
    }

    /// The most urgent class of the requests that led to this run.
    pub fn class(&self) -> Class {
        self.taken().class
    }

    /// How long the run had been due when it was handed out.
    pub fn waited(&self) -> Duration {
        self.taken().waited
    }

    /// Failures in a row before this run.
    pub fn failures(&self) -> u32 {
        self.taken().failures
    }

    /// Ends the run. The same as dropping, but it reads as what it is.
    pub fn done(self) {}
}

impl<K: Key> Drop for Item<K> {
    fn drop(&mut self) {
        let Some(taken) = self.taken.take() else {
            return;
        };
        let mut inner = self.shared.lock();
        let work = inner.state.done(taken, (self.shared.clock)());
        let news = News::of(&mut inner.state);
        let (waiting, idle) = (inner.state.waiting(), inner.shut_down && inner.state.working() == 0);
        drop(inner);
        if waiting > 0 {
            self.shared.wake.notify_one();
        }
        if idle {
            self.shared.idle.notify_waiters();
        }
        self.shared.tell(&news);
        self.shared.metrics.worked(work);
    }
}

impl<K: Key + fmt::Debug> fmt::Debug for Item<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Item").field(self.taken()).finish()
    }
}

/// What happened in a change that others are to be told of, once the lock is free.
struct News {
    added: [u64; Class::ALL.len()],
    shed: u64,
    recall: bool,
}

impl News {
    fn of<K: Key>(state: &mut State<K>) -> Self {
        Self {
            added: state.take_added(),
            shed: state.take_shed(),
            recall: state.take_recall(),
        }
    }
}

impl<K: Key> Shared<K> {
    fn tell(&self, news: &News) {
        for (class, runs) in Class::ALL.into_iter().zip(news.added) {
            if runs > 0 {
                self.metrics.added(class, runs);
            }
        }
        if news.shed > 0 {
            self.metrics.shed(news.shed);
        }
        if news.recall {
            self.recall.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        // Poisoned only if hashing, comparing or drawing panicked half-way: then the state cannot be trusted.
        self.inner.lock().expect("no panic while the queue was locked")
    }

    /// Makes a request and wakes a worker; `None` after shutdown.
    fn change<T>(&self, request: impl FnOnce(&mut Inner<K>, u64) -> T) -> Option<T> {
        let mut inner = self.lock();
        if inner.shut_down {
            return None;
        }
        // Read under the lock, so that the state never sees time go back.
        let answer = request(&mut inner, (self.clock)());
        let news = News::of(&mut inner.state);
        drop(inner);
        self.wake.notify_one();
        self.tell(&news);
        Some(answer)
    }

    fn look(&self) -> Look<K> {
        let mut inner = self.lock();
        if inner.shut_down {
            return Look::ShutDown;
        }
        let now_us = (self.clock)();
        let taken = inner.state.take(now_us);
        let news = News::of(&mut inner.state);
        let next_due_us = inner.state.next_due_us(now_us);
        drop(inner);
        self.tell(&news);
        match taken {
            Some(taken) => {
                self.metrics.waited(taken.class, taken.waited);
                Look::Found(taken)
            }
            None => Look::Nothing {
                next_due: next_due_us.map(|due_us| Duration::from_micros(due_us.saturating_sub(now_us))),
            },
        }
    }
}

async fn wait(woken: impl Future<Output = ()>, next_due: Option<Duration>) {
    match next_due {
        Some(wait) => tokio::select! {
            () = woken => {}
            () = sleep(wait) => {}
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
