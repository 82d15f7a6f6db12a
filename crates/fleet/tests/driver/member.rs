//! One member, and a program around it that works in its buckets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use devcluster::Proxy;
use fleet::{Abandoned, Clients, Clocks, Driver, Fleet, Order, Orders, Settings};
use kube::Config;
use sharding::map::Expected;
use sharding::protocol::{self, Candidate, Exit, Incarnation};
use sharding::timing::Timings;
use sharding::{BUCKETS, Bucket};
use telemetry::Metrics;
use tokio::task::{JoinHandle, JoinSet};

use crate::judge::Judge;

/// Where members run.
pub(crate) struct Place {
    pub(crate) config: Config,
    /// The API server's own address.
    pub(crate) server: SocketAddr,
    pub(crate) namespace: &'static str,
    pub(crate) judge: Judge,
}

pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) fleet: Fleet,
    driver: JoinHandle<Result<Exit, Abandoned>>,
    program: JoinHandle<()>,
    judge: Judge,
    metrics: Metrics,
    /// On its way to the API server.
    pub(crate) proxy: Proxy,
}

/// The buckets go round the members that are fit, in the order of their names.
fn round_robin(owners: &[Option<u16>], candidates: &[Candidate], shards: u16) -> Vec<Option<u16>> {
    let mut fit: Vec<u16> = (0..)
        .zip(candidates)
        .filter(|(_, candidate)| candidate.fit)
        .map(|(place, _)| place)
        .collect();
    fit.sort_by_key(|place| &candidates[usize::from(*place)].incarnation);
    fit.truncate(shards.into());
    let of = |bucket: usize| (!fit.is_empty()).then(|| fit[bucket % fit.len()]);
    (0..owners.len()).map(of).collect()
}

/// What is the same in all members here.
pub(crate) fn configured(name: &str, nonce: u64, installation: &str) -> protocol::Config {
    protocol::Config {
        me: Incarnation {
            name: name.into(),
            nonce,
        },
        timings: Timings::FAST,
        expected: Expected::of(installation),
        shards: 3,
        prepare_ms: 10_000,
        assign: round_robin,
        flaw: None,
    }
}

impl Member {
    pub(crate) fn start(place: &Place, name: &str, nonce: u64) -> Self {
        Self::start_in(place, name, nonce, "here")
    }

    pub(crate) fn start_in(place: &Place, name: &str, nonce: u64, installation: &str) -> Self {
        let proxy = Proxy::start(place.server).expect("a free port");
        let mut config = place.config.clone();
        config.cluster_url = format!("https://{}/", proxy.address()).parse().expect("a URL");
        config.tls_server_name = Some(place.server.ip().to_string());
        let agent = format!("database-operator/test ({name})");
        let (driver, fleet, orders) = Driver::new(Settings {
            clients: Clients::new(&config, &agent, None).expect("clients"),
            namespace: place.namespace.to_owned(),
            protocol: configured(name, nonce, installation),
            weight: 1,
            clocks: Clocks::default(),
        });
        let metrics = Metrics::new("test").expect("metrics");
        let driver = driver.with_metrics(&metrics);
        place.judge.watches(name, fleet.served());
        Self {
            name: name.to_owned(),
            driver: tokio::spawn(driver.run()),
            program: tokio::spawn(program(fleet.clone(), orders, place.judge.clone())),
            fleet,
            judge: place.judge.clone(),
            metrics,
            proxy,
        }
    }

    pub(crate) fn runs(&self) -> bool {
        !self.driver.is_finished()
    }

    pub(crate) fn leads(&self) -> bool {
        self.fleet.served().borrow().leads
    }

    /// The value of one series of the fleet, by the rest of its name.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.scrape().expect("text");
        let name = format!("database_operator_fleet_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
    }

    /// As if by `kill -9`: nothing of it runs any more, and it tells nobody.
    pub(crate) async fn kill(self) {
        self.driver.abort();
        self.program.abort();
        assert!(
            self.driver.await.is_err_and(|error| error.is_cancelled()),
            "it ran until now"
        );
        self.judge.forgets(&self.name);
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(self) -> Exit {
        let exit = tokio::time::timeout(crate::DEADLINE, self.driver).await;
        self.judge.forgets(&self.name);
        exit.expect("in time").expect("no panic").expect("orders were taken")
    }
}

/// How often work is in flight, by bucket.
type Running = Arc<Mutex<BTreeMap<Bucket, u32>>>;

async fn program(fleet: Fleet, mut orders: Orders, judge: Judge) {
    let running = Running::default();
    let mut works = JoinSet::new();
    let mut next = 0;
    loop {
        let order = tokio::time::timeout(Duration::from_millis(4), orders.recv()).await;
        match order {
            Ok(None) => return,
            Ok(Some(Order::Open(round, _))) => fleet.warm(round),
            Ok(Some(Order::Serve(_))) => {}
            Ok(Some(Order::Drain(number, buckets))) => {
                let (fleet, running) = (fleet.clone(), Arc::clone(&running));
                tokio::spawn(drain(fleet, running, number, buckets));
            }
            Ok(Some(Order::Abort(token))) => {
                works.shutdown().await;
                lock(&running).clear();
                drop(token);
            }
            Err(_) => {
                for _ in 0..16 {
                    next = (next + 7) % BUCKETS;
                    let bucket = Bucket::try_from(next).expect("a bucket");
                    works.spawn(work(fleet.clone(), Arc::clone(&running), bucket, judge.clone()));
                }
                while works.try_join_next().is_some() {}
            }
        }
    }
}

/// Enters itself first, and asks then.
async fn work(fleet: Fleet, running: Running, bucket: Bucket, judge: Judge) {
    let busy = {
        let mut running = lock(&running);
        let count = running.entry(bucket).or_default();
        *count += 1;
        *count > 1
    };
    if !busy && let Some(epoch) = fleet.may_start(bucket) {
        let _at_work = judge.begins(&fleet.me, bucket, epoch);
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    if let Some(count) = lock(&running).get_mut(&bucket) {
        *count = count.saturating_sub(1);
    }
}

async fn drain(fleet: Fleet, running: Running, number: u64, mut buckets: Vec<Bucket>) {
    while !buckets.is_empty() {
        buckets.retain(|bucket| {
            let busy = lock(&running).get(bucket).is_some_and(|count| *count > 0);
            if !busy {
                fleet.idle(number, *bucket);
            }
            busy
        });
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
