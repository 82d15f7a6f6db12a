//! The loop: an event, a step, and what follows from it.
//!
//! Within one step the order is: what may start ([`Served`]), then orders to the program, then requests. So nobody starts
//! work in a bucket after its drain was ordered, and nothing is reported before it is true.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sharding::Bucket;
use sharding::protocol::{self, Command, Config, Event, Exit, Process};
use sharding::timing::Millis;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::client::Clients;
use crate::clock::Clocks;
use crate::deadline;
use crate::handle::{Fleet, Order, Orders, Served, Stopped, Told};
use crate::observe::Observer;
use crate::requests::Requests;
use crate::watch as watches;

/// What a member needs.
pub struct Settings {
    /// Its own clients.
    pub clients: Clients,
    /// The operator's namespace, where the Leases are.
    pub namespace: String,
    /// Of the protocol. Each start of a process needs a new incarnation.
    pub protocol: Config,
    /// Its share, to begin with.
    pub weight: u32,
    /// The time.
    pub clocks: Clocks,
}

/// The program dropped the orders: nobody would stop the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody takes the orders of the fleet any more; the Lease is left to run out")]
pub struct Abandoned;

/// One member of the fleet.
pub struct Driver {
    process: Process,
    config: Arc<Config>,
    clocks: Clocks,
    requests: Requests,
    clients: Clients,
    namespace: String,
    /// Kept, so that the channel never closes.
    sender: mpsc::UnboundedSender<Told>,
    events: mpsc::UnboundedReceiver<Told>,
    orders: mpsc::UnboundedSender<Order>,
    served: watch::Sender<Served>,
    tasks: JoinSet<()>,
    /// When time was told last.
    ticked: Option<Millis>,
    /// Which order to drain a bucket counts: the last one, unless it was taken up again since.
    draining: BTreeMap<Bucket, u64>,
    drains: u64,
    observer: Observer,
}

fn holds_its_lease(process: &Process) -> bool {
    process.member.keeper.held_from.is_some()
}

impl Driver {
    /// A member that begins when it is [run](Self::run), what the program holds of it, and its orders.
    #[must_use]
    pub fn new(settings: Settings) -> (Self, Fleet, Orders) {
        let config = Arc::new(settings.protocol);
        let (sender, events) = mpsc::unbounded_channel();
        let (orders, taken) = mpsc::unbounded_channel();
        let (served, shown) = watch::channel(Served::default());
        let fleet = Fleet {
            me: config.me.clone(),
            served: shown,
            events: sender.clone(),
            clocks: settings.clocks,
        };
        let driver = Self {
            process: Process::new(settings.weight),
            requests: Requests::new(&settings.clients, &settings.namespace, &config, settings.clocks),
            config,
            clocks: settings.clocks,
            clients: settings.clients,
            namespace: settings.namespace,
            sender,
            events,
            orders,
            served,
            tasks: JoinSet::new(),
            ticked: None,
            draining: BTreeMap::new(),
            drains: 0,
            observer: Observer::default(),
        };
        (driver, fleet, taken)
    }

    /// Counts in these series what it does.
    #[must_use]
    pub fn with_metrics(mut self, metrics: &telemetry::Metrics) -> Self {
        self.observer = Observer::new(metrics, self.served.subscribe(), self.clocks);
        self
    }

    /// Runs until the member has nothing left to do.
    pub async fn run(mut self) -> Result<Exit, Abandoned> {
        let (member, timings) = (&self.config.me, self.config.timings);
        tracing::info!(incarnation = %member, %timings, "joining the fleet");
        self.watch();
        loop {
            let event = self.next().await?;
            if let Some(exit) = self.step(&event).await? {
                tracing::info!(incarnation = %self.config.me, ?exit, "leaving the fleet");
                return Ok(exit);
            }
            while self.tasks.try_join_next().is_some() {}
        }
    }

    fn watch(&mut self) {
        let (clients, config, events) = (self.clients.clone(), Arc::clone(&self.config), self.sender.clone());
        self.tasks
            .spawn(watches::leases(clients, self.namespace.clone(), config, events));
        let (clients, config, events) = (self.clients.clone(), Arc::clone(&self.config), self.sender.clone());
        self.tasks.spawn(watches::map(clients, config, events));
    }

    async fn next(&mut self) -> Result<Event, Abandoned> {
        loop {
            let now = (self.clocks.boot)();
            // Also when there is always something else to do; and first of all.
            let due = self.ticked.map_or(0, |at| at + self.config.timings.retry_ms());
            let wait = deadline::next(&self.process, now, &self.config)
                .min(due)
                .saturating_sub(now);
            if wait == 0 {
                return Ok(self.tick(now));
            }
            let told = tokio::select! {
                biased;
                () = self.orders.closed() => return Err(Abandoned),
                told = tokio::time::timeout(Duration::from_millis(wait), self.events.recv()) => told,
            };
            match told {
                Ok(Some(Told::Event(event))) => return Ok(event),
                Ok(Some(Told::Idle(drain, bucket))) if self.draining.get(&bucket) == Some(&drain) => {
                    return Ok(Event::Idle(bucket));
                }
                // It was taken up again meanwhile.
                Ok(Some(Told::Idle(..))) => {}
                // None cannot be: the driver itself holds a sender.
                Ok(None) | Err(_) => return Ok(self.tick((self.clocks.boot)())),
            }
        }
    }

    fn tick(&mut self, now: Millis) -> Event {
        self.ticked = Some(now);
        Event::Tick(self.clocks.unix_s())
    }

    async fn step(&mut self, event: &Event) -> Result<Option<Exit>, Abandoned> {
        let now = (self.clocks.boot)();
        self.observer.event(event);
        let process = std::mem::replace(&mut self.process, Process::new(0));
        let held_before = holds_its_lease(&process);
        let commands;
        (self.process, commands) = protocol::step(process, event, now, &self.config);
        if !held_before && holds_its_lease(&self.process) {
            // Its part that leads looked at the answer before its part that is a member did: it may ask for its own Lease
            // at once, which otherwise waits for the next event.
            self.ticked = None;
        }
        self.publish(now);
        let (mut drains, mut starts, mut opens, mut requests) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut abort, mut exit) = (false, None);
        for command in commands {
            self.tell(&command);
            self.observer.command(&command);
            match command {
                Command::Start(bucket, epoch) => {
                    self.draining.remove(&bucket);
                    starts.push((bucket, epoch));
                }
                Command::Drain(bucket) => {
                    self.draining.insert(bucket, self.drains);
                    drains.push(bucket);
                }
                Command::Prepare(round, buckets) => opens.push(Order::Open(round, buckets)),
                Command::Abort => abort = true,
                Command::Exit(how) => exit = Some(how),
                Command::Refuse(_) => {}
                Command::Read(_)
                | Command::Write(..)
                | Command::Take(..)
                | Command::Forget(..)
                | Command::ListLeases
                | Command::WriteMap(..)
                | Command::ReadMap => requests.push(command),
            }
        }
        if abort {
            self.abort().await?;
        }
        if !drains.is_empty() {
            self.order(Order::Drain(self.drains, drains))?;
            self.drains += 1;
        }
        if !starts.is_empty() {
            self.order(Order::Serve(starts))?;
        }
        for open in opens {
            self.order(open)?;
        }
        for request in requests {
            let (requests, answers) = (self.requests.clone(), self.sender.clone());
            self.tasks.spawn(async move {
                if let Some(event) = requests.carry_out(request).await {
                    // Nobody waits for it only when the driver has ended.
                    let _ = answers.send(Told::Event(event));
                }
            });
        }
        Ok(exit)
    }

    /// Waits until nothing runs any more. A program that does not stop must not go on holding a Lease either, so this may
    /// take for ever: then the Lease runs out, and the fence refuses what still runs.
    async fn abort(&self) -> Result<(), Abandoned> {
        let (token, mut stopped) = Stopped::new();
        self.order(Order::Abort(token))?;
        let patience = Duration::from_secs(1);
        while tokio::time::timeout(patience, &mut stopped).await.is_err() {
            tracing::error!(incarnation = %self.config.me, "work goes on although it was told to stop");
        }
        Ok(())
    }

    fn order(&self, order: Order) -> Result<(), Abandoned> {
        self.orders.send(order).map_err(|_| Abandoned)
    }

    fn publish(&self, now: u64) {
        let leads = self.process.leader.leads(now, &self.config);
        self.observer.state(&self.process, leads);
        let buckets = self.config.expected.buckets;
        self.served.send_if_modified(|served| {
            let next = Served::of(&self.process, served, leads, buckets, self.config.timings);
            let changed = next != *served;
            *served = next;
            changed
        });
    }

    fn tell(&self, command: &Command) {
        let member = &self.config.me;
        match command {
            Command::Start(bucket, epoch) => tracing::debug!(incarnation = %member, %bucket, under = %epoch, "serving"),
            Command::Drain(bucket) => tracing::debug!(incarnation = %member, %bucket, "draining"),
            Command::Prepare(round, buckets) => {
                let buckets = buckets.len();
                tracing::info!(incarnation = %member, round, buckets, "getting warm for a round");
            }
            Command::Abort => tracing::warn!(incarnation = %member, "all work stops: the Lease is lost or about to be"),
            Command::Refuse(error) => tracing::error!(incarnation = %member, %error, "the map is not obeyed"),
            Command::Take(name, version, _) => {
                tracing::info!(incarnation = %member, of = %name, %version, "taking a Lease that ran out");
            }
            Command::Forget(name, ..) => {
                tracing::info!(incarnation = %member, of = %name, "removing the Lease of a member long gone");
            }
            Command::WriteMap(_, map) => {
                let round = map.round.as_ref().map(|round| (round.number, round.phase));
                let (new_term, sequence, members) = (map.term, map.sequence, map.members.len());
                tracing::info!(incarnation = %member, new_term, sequence, members, ?round, "writing the map");
            }
            Command::Exit(_) | Command::Read(_) | Command::Write(..) | Command::ListLeases | Command::ReadMap => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use sharding::protocol::{Answer, Kept, Version};

    use super::*;
    use crate::deadline::tests::config;

    fn driver() -> (Driver, Orders) {
        let nowhere = kube::Config::new("https://127.0.0.1:1/".parse().expect("a URL"));
        let (driver, _, orders) = Driver::new(Settings {
            clients: Clients::new(&nowhere, "test", None).expect("clients"),
            namespace: "here".to_owned(),
            protocol: config(),
            weight: 1,
            clocks: Clocks {
                boot: || 5,
                ..Clocks::default()
            },
        });
        (driver, orders)
    }

    /// The watch may tell of the member's own Lease before the answer does; then nothing else comes after it.
    #[tokio::test(start_paused = true)]
    async fn who_becomes_a_member_is_asked_again_at_once() {
        let (mut driver, _orders) = driver();
        let begun = tokio::time::Instant::now();
        let mut events = vec![
            Event::Coordinator(None, Version(3)),
            Event::MapGone(Version(4)),
            Event::Read(Kept::Member, Some(None)),
        ];
        events.insert(0, driver.next().await.expect("orders are taken"));
        for event in &events {
            driver.step(event).await.expect("orders are taken");
        }
        let accepted = Answer::Accepted {
            version: Version(6),
            uid: "u".into(),
        };
        driver
            .step(&Event::Written(Kept::Member, accepted))
            .await
            .expect("orders are taken");
        let next = driver.next().await.expect("orders are taken");
        assert!(matches!(next, Event::Tick(_)), "{next:?}");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        driver.step(&next).await.expect("orders are taken");
        assert!(driver.process.leader.keeper.tried_ms.is_some(), "it asks to lead");
    }
}
