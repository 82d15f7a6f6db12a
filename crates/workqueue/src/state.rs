use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::time::Duration;

use hashbrown::DefaultHashBuilder;
use slab::Slab;

use crate::ages::Ages;
use crate::backoff::micros;
use crate::limits::{Limits, Tokens};
use crate::table::Table;
use crate::turns::{Stand, Turns};
use crate::{Class, Key};

/// The queue as a value. Time comes in as `now_us`, microseconds since any fixed moment, never going back.
///
/// A key has at most one *pending* run, in one of three places:
/// - *ready*: due, to be handed out by [`State::take`] when its turn comes;
/// - *held*: due, but the key is being worked on; becomes ready when that ends;
/// - *delayed*: due later.
///
/// Merging two requests keeps the earlier time and the more urgent class. So a request "at T" is absorbed by one
/// that is due now: whoever runs then sees the world as it is and asks again for T if that still matters.
#[derive(Debug)]
pub struct State<K: Key> {
    limits: Limits,
    /// Keys with a pending run, being worked on, or with failures.
    slots: Slab<Slot<K>>,
    /// Where the slot of a key is: a table for each group, so that a group is found without looking at all others.
    groups: Vec<Table>,
    hasher: DefaultHashBuilder,
    /// Those that are ready.
    turns: Turns<K::Tenant>,
    /// How long they have been.
    ages: Ages,
    /// Time, ticket and slot.
    delayed: BTreeSet<(u64, u32, u32)>,
    /// Runs that go on, and since when.
    working: Slab<u64>,
    counts: Counts,
    retries: Tokens,
    /// Whether the next one is taken from a class whose patience is over, if there is one.
    old_first: bool,
    /// Which class was last.
    last_old: usize,
    next_ticket: u32,
    /// The class that was served since [`State::look_ahead`] last looked.
    served: Option<Class>,
    /// Slots that are probably handed out in two turns, and in one.
    ahead: [Option<u32>; 2],
    /// Runs that became due since [`State::take_added`] was last asked.
    added: [u64; Class::ALL.len()],
    shed: u64,
    /// Something was shed since [`State::take_recall`] last said so.
    owes: bool,
}

/// For a key of 40 bytes one cache line, since among a million of them each is a miss.
#[derive(Debug)]
#[repr(align(64))]
struct Slot<K> {
    key: K,
    /// Of the pending run.
    due_us: u64,
    /// The latest one that it got. They come round after four billion, when no old place is left.
    ticket: u32,
    tenant: u32,
    /// Of the key: to hash it anew would be to read what it points to.
    hash: u32,
    /// Whether it is being worked on.
    works: bool,
    /// In a row. More than 255 wait no longer.
    failures: u8,
    class: Class,
    place: Place,
}

const _: () = assert!(size_of::<Slot<[u64; 5]>>() == 64, "one cache line");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// No run is pending.
    Nowhere,
    Ready,
    Held,
    Delayed,
}

/// A key handed out. It is being worked on until [`State::done`].
#[derive(Debug)]
pub struct Taken<K> {
    /// What to work on.
    pub key: K,
    /// The most urgent class of the requests that led to this run.
    pub class: Class,
    /// How long the run had been due.
    pub waited: Duration,
    /// Failures in a row so far: 0 unless the key was retried and not forgotten since.
    pub failures: u32,
    slot: u32,
    /// In [`State::working`].
    run: u32,
}

/// How many keys are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Due and waiting for a worker, by class: `workqueue_depth`.
    pub ready: [usize; Class::ALL.len()],
    /// Due, but being worked on already.
    pub held: usize,
    /// Due later.
    pub delayed: usize,
    /// Being worked on.
    pub working: usize,
    /// With failures that were not forgotten.
    pub failing: usize,
}

impl Counts {
    /// Due and waiting for a worker, of all classes.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready.iter().sum()
    }
}

/// What is being worked on right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InWork {
    /// How long all runs together have been going on: `workqueue_unfinished_work_seconds`.
    pub total: Duration,
    /// How long the longest has: `workqueue_longest_running_processor_seconds`.
    pub longest: Duration,
}

impl<K: Key> State<K> {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            slots: Slab::new(),
            groups: Vec::new(),
            hasher: DefaultHashBuilder::default(),
            turns: Turns::new(),
            ages: Ages::new(limits.ageing),
            delayed: BTreeSet::new(),
            working: Slab::new(),
            counts: Counts::default(),
            retries: Tokens::new(limits.retries),
            old_first: false,
            last_old: 0,
            next_ticket: 0,
            served: None,
            ahead: [None; 2],
            added: [0; Class::ALL.len()],
            shed: 0,
            owes: false,
            limits,
        }
    }

    /// Asks for a run of `key` now.
    pub fn add(&mut self, key: K, class: Class, now_us: u64) {
        self.add_at(key, class, now_us, now_us);
    }

    /// Asks for a run of `key` at `due_us`; now, if that has passed.
    pub fn add_at(&mut self, key: K, class: Class, due_us: u64, now_us: u64) {
        self.expire(now_us);
        let hash = self.hash(&key);
        // In this order: so all that they read, and the line of the table, comes in together (`look_ahead`).
        if let Some(table) = self.groups.get(key.group()) {
            table.look_ahead(hash);
        }
        self.look_ahead();
        let tenant = self.turns.enter(key.tenant(), class);
        match self.find(&key, hash) {
            Some(slot) => {
                self.turns.leave(tenant);
                self.ask(slot, class, due_us, now_us);
            }
            None if self.makes_room(class) => {
                let slot = self.enter(key, hash, tenant);
                self.place(slot, class, due_us, now_us);
            }
            None => {
                self.turns.leave(tenant);
                self.has_shed();
            }
        }
    }

    /// Hands out the key whose turn it is, if any is due. The caller owes a [`State::done`] for it.
    pub fn take(&mut self, now_us: u64) -> Option<Taken<K>> {
        self.expire(now_us);
        self.look_ahead();
        let class = self.choose(now_us)?;
        let number = self.pop(class)?;
        let run = index(self.working.insert(now_us));
        let slot = &mut self.slots[number as usize];
        slot.works = true;
        Some(Taken {
            key: slot.key.clone(),
            class,
            waited: Duration::from_micros(now_us.saturating_sub(slot.due_us)),
            failures: slot.failures.into(),
            slot: number,
            run,
        })
    }

    /// Ends a run and says how long it took. If its key was asked for meanwhile, it is ready again.
    #[allow(clippy::needless_pass_by_value, reason = "so that no run ends twice")]
    pub fn done(&mut self, taken: Taken<K>, now_us: u64) -> Duration {
        let number = taken.slot;
        self.expire(now_us);
        let slot = &mut self.slots[number as usize];
        slot.works = false;
        let held = slot.place == Place::Held;
        let since_us = self.working.remove(taken.run as usize);
        if held {
            self.counts.held -= 1;
            self.line_up(number);
        }
        self.vacate(number);
        Duration::from_micros(now_us.saturating_sub(since_us))
    }

    /// Counts a failure of `key` and asks for a run after a backoff, whose length it returns. `draw` is a
    /// uniformly random number. As with any request, a run that is due sooner absorbs this one.
    pub fn retry(&mut self, key: K, draw: u64, now_us: u64) -> Duration {
        self.expire(now_us);
        let hash = self.hash(&key);
        let number = match self.find(&key, hash) {
            Some(slot) => slot,
            None if self.makes_room(Class::Retry) => {
                let tenant = self.turns.enter(key.tenant(), Class::Retry);
                self.enter(key, hash, tenant)
            }
            None => {
                self.has_shed();
                return Duration::ZERO;
            }
        };
        let slot = &mut self.slots[number as usize];
        self.counts.failing += usize::from(slot.failures == 0);
        slot.failures = slot.failures.saturating_add(1);
        let wait = self.limits.backoff.wait(slot.failures.into(), draw);
        self.ask(number, Class::Retry, now_us.saturating_add(micros(wait)), now_us);
        wait
    }

    /// Forgets the failures of `key`: its next backoff begins anew. To be called after a success, and when the key
    /// is gone for good, or its count is kept for ever.
    pub fn forget(&mut self, key: &K) {
        let hash = self.hash(key);
        if let Some(number) = self.find(key, hash) {
            self.forgive(number);
            self.vacate(number);
        }
    }

    /// Failures in a row of `key`.
    pub fn failures(&self, key: &K) -> u32 {
        self.find(key, self.hash(key))
            .map_or(0, |slot| self.slots[slot as usize].failures.into())
    }

    /// Drops all requests and failures of a group. What is being worked on goes on, and does not run again for what was
    /// asked before. Takes as long as the group is large.
    pub fn remove_group(&mut self, group: usize) {
        let Some(table) = self.groups.get_mut(group) else {
            return;
        };
        for number in std::mem::take(table).numbers() {
            self.withdraw(number);
            self.forgive(number);
            let slot = &self.slots[number as usize];
            if slot.works {
                self.groups[group].insert(slot.hash, number, hash_of(&self.slots));
            } else {
                let gone = self.slots.remove(number as usize);
                self.turns.leave(gone.tenant);
            }
        }
    }

    /// When the next key may become due or be handed out, if none can be now.
    pub fn next_due_us(&self, now_us: u64) -> Option<u64> {
        let retry = (self.turns.waiting(Class::Retry) > 0).then(|| self.retries.next_us());
        let retry = retry.filter(|next_us| *next_us > now_us);
        let delayed = self.delayed.first().map(|(due_us, ..)| *due_us);
        retry.into_iter().chain(delayed).min()
    }

    /// How many keys are where. Delayed keys whose time has come count as ready once any request or
    /// [`State::take`] has come in since.
    pub fn counts(&self) -> Counts {
        Counts {
            ready: Class::ALL.map(|class| self.turns.waiting(class)),
            delayed: self.delayed.len(),
            working: self.working.len(),
            ..self.counts
        }
    }

    /// How many are due and wait for a worker.
    pub fn waiting(&self) -> usize {
        Class::ALL.iter().map(|class| self.turns.waiting(*class)).sum()
    }

    /// How many are being worked on.
    pub fn working(&self) -> usize {
        self.working.len()
    }

    /// For how long the keys being worked on have been so.
    pub fn in_work(&self, now_us: u64) -> InWork {
        self.working.iter().fold(InWork::default(), |sum, (_, since_us)| {
            let age = Duration::from_micros(now_us.saturating_sub(*since_us));
            InWork {
                total: sum.total.saturating_add(age),
                longest: sum.longest.max(age),
            }
        })
    }

    /// How many runs became due since this was last asked, by class.
    pub fn take_added(&mut self) -> [u64; Class::ALL.len()] {
        std::mem::take(&mut self.added)
    }

    /// How many requests were shed since this was last asked.
    pub fn take_shed(&mut self) -> u64 {
        std::mem::take(&mut self.shed)
    }

    /// Whether requests were shed since this last said so, and there is room again: whoever knows what there is asks for
    /// all of it then, and nothing is lost.
    pub fn take_recall(&mut self) -> bool {
        let recall = self.owes && self.slots.len() <= self.limits.capacity / 2;
        self.owes &= !recall;
        recall
    }

    /// From which class the next one is taken: the most urgent one; every second time, a less urgent one whose patience
    /// is over, these taking turns. Retries stand back while they have no token.
    fn choose(&mut self, now_us: u64) -> Option<Class> {
        self.old_first = !self.old_first;
        let mut class = self.most_urgent(self.old_first, now_us)?;
        if class == Class::Retry && !self.retries.spend(now_us) {
            class = self.most_urgent(self.old_first, now_us)?;
        }
        Some(class)
    }

    fn most_urgent(&mut self, old_first: bool, now_us: u64) -> Option<Class> {
        let tokens = self.retries.may_be_left(now_us);
        let waiting = Class::ALL.map(|class| self.turns.waiting(class) > 0 && (class != Class::Retry || tokens));
        let first = Class::ALL.into_iter().find(|class| waiting[*class as usize])?;
        if old_first {
            for step in 1..=Class::ALL.len() {
                let class = Class::ALL[(self.last_old + step) % Class::ALL.len()];
                if class > first && waiting[class as usize] && self.ages.patience_is_over(class, now_us) {
                    self.last_old = class as usize;
                    return Some(class);
                }
            }
        }
        Some(first)
    }

    /// Makes room for one more key of this class, if that class may have it. A deletion and a user's change come in
    /// always.
    fn makes_room(&mut self, class: Class) -> bool {
        if self.slots.len() < self.limits.capacity {
            return true;
        }
        // What knows of nothing new goes first, then what will be asked for again.
        let victims = [Class::Resync, Class::Retry, Class::ChildDrift];
        let victim = victims
            .into_iter()
            .filter(|victim| *victim > class)
            .find_map(|victim| self.pop(victim));
        if let Some(number) = victim {
            self.forgive(number);
            self.vacate(number);
            self.has_shed();
        }
        victim.is_some() || class <= Class::UserChange
    }

    fn has_shed(&mut self) {
        self.shed += 1;
        self.owes = true;
    }

    #[allow(clippy::cast_possible_truncation, reason = "half of it is enough")]
    fn hash(&self, key: &K) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    fn find(&self, key: &K, hash: u32) -> Option<u32> {
        let table = self.groups.get(key.group())?;
        table.find(hash, |slot| self.slots[slot as usize].key == *key)
    }

    /// A slot for a key that has none, with no run pending.
    fn enter(&mut self, key: K, hash: u32, tenant: u32) -> u32 {
        let group = key.group();
        if self.groups.len() <= group {
            self.groups.resize_with(group + 1, Table::default);
        }
        let number = self.slots.insert(Slot {
            key,
            due_us: 0,
            ticket: 0,
            tenant,
            hash,
            failures: 0,
            class: Class::Resync,
            place: Place::Nowhere,
            works: false,
        });
        let number = index(number);
        self.groups[group].insert(hash, number, hash_of(&self.slots));
        number
    }

    /// Gives up a slot that nothing needs any more.
    fn vacate(&mut self, number: u32) {
        let slot = &self.slots[number as usize];
        if slot.works || slot.place != Place::Nowhere || slot.failures > 0 {
            return;
        }
        let gone = self.slots.remove(number as usize);
        self.groups[gone.key.group()].remove(gone.hash, number);
        self.turns.leave(gone.tenant);
    }

    fn forgive(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        self.counts.failing -= usize::from(slot.failures > 0);
        slot.failures = 0;
    }

    /// Merges a request into what is pending.
    fn ask(&mut self, number: u32, class: Class, due_us: u64, now_us: u64) {
        let slot = &mut self.slots[number as usize];
        let old = slot.class;
        let class = if slot.place == Place::Nowhere {
            class
        } else {
            class.more_urgent(old)
        };
        match slot.place {
            Place::Nowhere => self.place(number, class, due_us, now_us),
            Place::Ready if class != old => {
                self.withdraw(number);
                self.slots[number as usize].class = class;
                self.line_up(number);
            }
            Place::Delayed if due_us < slot.due_us => {
                self.withdraw(number);
                self.place(number, class, due_us, now_us);
            }
            Place::Ready | Place::Held | Place::Delayed => slot.class = class,
        }
    }

    /// Takes the pending run out of its place.
    fn withdraw(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        let (place, class, tenant) = (slot.place, slot.class, slot.tenant);
        let delayed = (slot.due_us, slot.ticket, number);
        slot.place = Place::Nowhere;
        match place {
            Place::Nowhere => {}
            Place::Ready => {
                self.ages.left(class, delayed.0);
                self.turns.remove(class, tenant, stands(&self.slots));
            }
            Place::Held => self.counts.held -= 1,
            Place::Delayed => {
                self.delayed.remove(&delayed);
            }
        }
    }

    /// Makes delayed keys ready whose time has come. Comes first in every operation, so that a key that became due
    /// before a request also stands before it.
    fn expire(&mut self, now_us: u64) {
        while let Some((due_us, _, number)) = self.delayed.first().copied().filter(|(due_us, ..)| *due_us <= now_us) {
            self.delayed.pop_first();
            let class = self.slots[number as usize].class;
            self.place(number, class, due_us, now_us);
        }
    }

    /// Puts a run that is in none of the places where it belongs.
    fn place(&mut self, number: u32, class: Class, due_us: u64, now_us: u64) {
        let ticket = self.ticket();
        let slot = &mut self.slots[number as usize];
        slot.class = class;
        slot.due_us = due_us;
        if due_us > now_us {
            slot.place = Place::Delayed;
            slot.ticket = ticket;
            self.delayed.insert((due_us, ticket, number));
            return;
        }
        self.added[class as usize] += 1;
        if slot.works {
            slot.place = Place::Held;
            self.counts.held += 1;
        } else {
            self.line_up(number);
        }
    }

    fn line_up(&mut self, number: u32) {
        let ticket = self.ticket();
        let slot = &mut self.slots[number as usize];
        slot.place = Place::Ready;
        slot.ticket = ticket;
        self.ages.came(slot.class, slot.due_us);
        self.turns.push(slot.class, slot.tenant, Stand { number, ticket });
    }

    /// Takes out who is next in a class.
    fn pop(&mut self, class: Class) -> Option<u32> {
        let number = self.turns.pop(class, stands(&self.slots))?;
        self.served = Some(class);
        let slot = &mut self.slots[number as usize];
        slot.place = Place::Nowhere;
        self.ages.left(class, slot.due_us);
        Some(number)
    }

    /// Memory is slow, and each step of a turn says only where the next one will read: who is served, where it stands,
    /// the slot, what its key points to and the line of the table. So one step of each of the next few turns is taken at
    /// a time, whose reads do not wait for one another. Nothing is decided here: a wrong guess costs time only.
    fn look_ahead(&mut self) {
        let Some(class) = self.served.take() else {
            return;
        };
        let [soon, sooner] = self.ahead;
        self.ahead = [self.turns.look_ahead(class), soon];
        let slot = |number: Option<u32>| self.slots.get(number? as usize);
        black_box(slot(soon).map(|slot| slot.ticket));
        if let Some(slot) = slot(sooner) {
            slot.key.look_ahead();
            if let Some(table) = self.groups.get(slot.key.group()) {
                table.look_ahead(slot.hash);
            }
        }
    }

    fn ticket(&mut self) -> u32 {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.next_ticket
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("fewer keys than memory has bytes")
}

fn hash_of<K>(slots: &Slab<Slot<K>>) -> impl Fn(u32) -> u32 + '_ {
    |number| slots[number as usize].hash
}

/// Whether one still stands where it did.
fn stands<K>(slots: &Slab<Slot<K>>) -> impl Fn(&Stand) -> bool + '_ {
    |stand| {
        slots
            .get(stand.number as usize)
            .is_some_and(|slot| slot.place == Place::Ready && slot.ticket == stand.ticket)
    }
}
