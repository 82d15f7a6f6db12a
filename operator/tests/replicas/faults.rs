//! What is done to the replicas and to the API server.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use crate::audit::{Micros, now};
use crate::judge::Death;
use crate::place::Place;

/// One fault, from its begin until all replicas share the buckets again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// `kill -9`, then started again.
    Kill,
    /// The same, of the leader.
    KillLeader,
    /// SIGTERM, then started again: a planned handover.
    Terminate,
    /// SIGTERM to one, and `kill -9` to the leader some moments later: somewhere in the handover.
    KillLeaderInHandover,
    /// SIGSTOP at any moment under load, for longer than the Lease.
    Freeze,
    /// What it has sent arrives after the takeover, while it is frozen.
    FreezeAndDeliver,
    /// What it has sent arrives after the takeover, while it has long given up. No request passes meanwhile.
    Deliver,
    /// No answer passes.
    HoldAnswers,
    /// Nothing passes.
    Cut,
    /// No event of a watch passes, while requests are answered.
    HoldEvents,
    /// Every answer takes 2 s longer.
    Slow,
    /// The API server is frozen.
    ServerFrozen,
    /// The API server refuses connections, to all.
    ServerAway,
    /// Its wall clock jumps by five minutes, forwards or back, and stays so.
    WallClock,
}

/// All of them.
pub(crate) const ALL: [Fault; 14] = [
    Fault::Kill,
    Fault::KillLeader,
    Fault::Terminate,
    Fault::KillLeaderInHandover,
    Fault::Freeze,
    Fault::FreezeAndDeliver,
    Fault::Deliver,
    Fault::HoldAnswers,
    Fault::Cut,
    Fault::HoldEvents,
    Fault::Slow,
    Fault::ServerFrozen,
    Fault::ServerAway,
    Fault::WallClock,
];

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::KillLeader => "kill -9 of the leader",
            Self::Terminate => "SIGTERM",
            Self::KillLeaderInHandover => "kill -9 of the leader in a handover",
            Self::Freeze => "SIGSTOP",
            Self::FreezeAndDeliver => "SIGSTOP, requests delivered late",
            Self::Deliver => "requests held and delivered late",
            Self::HoldAnswers => "answers held",
            Self::Cut => "blackhole",
            Self::HoldEvents => "watches stalled",
            Self::Slow => "2 s of latency",
            Self::ServerFrozen => "API server SIGSTOP",
            Self::ServerAway => "API server away",
            Self::WallClock => "wall clock jumps",
        }
    }

    /// Does it, and waits until all is well again. `long`: also what takes minutes.
    pub(crate) async fn strike(self, place: &mut Place, long: bool) {
        *place.journal.done.entry(self.name()).or_default() += 1;
        match self {
            Self::Kill => {
                let victim = an_owner(place).await;
                killed(place, victim, false).await;
            }
            Self::KillLeader => {
                let victim = place.leader().await;
                killed(place, victim, true).await;
            }
            Self::Terminate => terminated(place, None).await,
            Self::KillLeaderInHandover => {
                let after = Duration::from_millis(place.random.random_range(0..600));
                terminated(place, Some(after)).await;
            }
            Self::Freeze => frozen(place, false).await,
            Self::FreezeAndDeliver => frozen(place, true).await,
            Self::Deliver | Self::HoldAnswers | Self::Cut => cut_off(self, place).await,
            Self::HoldEvents => {
                // Beyond 90 s it is noticed.
                let time = if long && place.random.random_bool(0.3) { 110 } else { 10 };
                ailing(self, place, Duration::from_secs(time)).await;
            }
            Self::WallClock => clock_jumps(place).await,
            Self::Slow => ailing(self, place, Duration::from_secs(12)).await,
            Self::ServerFrozen | Self::ServerAway => {
                let times: &[u64] = if long { &[5, 5, 20, 60] } else { &[5] };
                let time = *times.choose(&mut place.random).expect("some");
                without_server(self, place, Duration::from_secs(time)).await;
            }
        }
        place.settled().await;
    }
}

/// Any replica that owns Databases.
pub(crate) async fn an_owner(place: &mut Place) -> usize {
    let mut owners = Vec::new();
    for (at, replica) in place.replicas.iter().enumerate() {
        if !place.databases_of(&replica.name).await.is_empty() {
            owners.push(at);
        }
    }
    *owners.choose(&mut place.random).expect("somebody owns something")
}

pub(crate) async fn killed(place: &mut Place, victim: usize, led: bool) {
    let member = place.replicas[victim].name.clone();
    let databases = place.databases_of(&member).await;
    // So that it dies in the middle of its work.
    place.load().burst(&databases);
    let millis = place.random.random_range(0..500);
    place.pass(Duration::from_millis(millis)).await;
    let at = now();
    place.replicas[victim].kill();
    place.tell(&format!("{member} killed, with {} Databases", databases.len()));
    place.journal.deaths.push(Death {
        member: member.clone(),
        at,
        led,
    });
    place.load().urge(&databases);
    place.taken(&member).await;
    place.tell("its buckets are taken");
    place.written_by_others(&databases, &member, at).await;
    place.healed(at);
    place.replicas[victim].start();
}

async fn terminated(place: &mut Place, kill_leader_after: Option<Duration>) {
    let victim = an_owner(place).await;
    let member = place.replicas[victim].name.clone();
    let databases = place.databases_of(&member).await;
    place.load().urge(&databases);
    let from = now();
    place.replicas[victim].signal(Signal::SIGTERM);
    place.tell(&format!("{member} is to stop, with {} Databases", databases.len()));
    let mut dead = None;
    if let Some(after) = kill_leader_after {
        tokio::time::sleep(after).await;
        let leader = place.leader().await;
        if leader != victim {
            place.replicas[leader].kill();
            place.tell(&format!("{} killed, which led", place.replicas[leader].name));
            dead = Some(leader);
        }
    }
    place.stops(victim).await;
    place.tell("it has stopped");
    if let Some(dead) = dead {
        let member = place.replicas[dead].name.clone();
        place.taken(&member).await;
        place.healed(from);
        place.replicas[dead].start();
    }
    place.replicas[victim].start();
}

/// `deliver`: requests are held back before the freeze, and delivered while it lasts.
async fn frozen(place: &mut Place, deliver: bool) {
    let victim = an_owner(place).await;
    let member = place.replicas[victim].name.clone();
    let databases = place.databases_of(&member).await;
    place.load().burst(&databases);
    let from = now();
    // At any moment of the work: held back is what each reconcile sends next.
    let millis = place.random.random_range(100..800);
    place.pass(Duration::from_millis(millis)).await;
    if deliver {
        place.replicas[victim].proxy.hold_requests(true);
        let millis = place.random.random_range(200..600);
        place.pass(Duration::from_millis(millis)).await;
    }
    place.replicas[victim].signal(Signal::SIGSTOP);
    place.tell(&format!("{member} frozen, with {} Databases", databases.len()));
    let at = now();
    place.taken(&member).await;
    place.tell("its buckets are taken");
    place.written_by_others(&databases, &member, at).await;
    if deliver {
        let delivered = now();
        place.replicas[victim].proxy.hold_requests(false);
        place.pass(Duration::from_secs(2)).await;
        tell_late(place, &member, delivered);
    }
    let woken = now();
    place.replicas[victim].signal(Signal::SIGCONT);
    place.pass(Duration::from_secs(1)).await;
    place.healed(from);
    if !deliver {
        tell_late(place, &member, woken);
    }
}

/// What came of what arrived too late.
fn tell_late(place: &Place, member: &str, since: Micros) {
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for write in place.since(since).into_iter().filter(|write| write.member == member) {
        let resource = write.object.split(' ').next().unwrap_or_default();
        let refused = if write.fenced_off() { " by the fence" } else { "" };
        *answers
            .entry(format!("{resource} {}{refused}", write.code))
            .or_default() += 1;
    }
    place.tell(&format!("what came of {member} since: {answers:?}"));
}

/// Cut off until others have taken over, and connected again.
async fn cut_off(fault: Fault, place: &mut Place) {
    let victim = an_owner(place).await;
    let member = place.replicas[victim].name.clone();
    let databases = place.databases_of(&member).await;
    place.load().burst(&databases);
    let millis = place.random.random_range(100..800);
    place.pass(Duration::from_millis(millis)).await;
    let from = now();
    let cut = |place: &Place, cut| {
        let proxy = &place.replicas[victim].proxy;
        match fault {
            Fault::Deliver => proxy.hold_requests(cut),
            Fault::HoldAnswers => proxy.hold_answers(cut),
            _ => proxy.cut(cut),
        }
    };
    cut(place, true);
    place.tell(&format!(
        "{member}: {}, with {} Databases",
        fault.name(),
        databases.len()
    ));
    place.taken(&member).await;
    place.tell("its buckets are taken");
    place.written_by_others(&databases, &member, now()).await;
    let again = now();
    cut(place, false);
    place.pass(Duration::from_secs(2)).await;
    place.healed(from);
    tell_late(place, &member, again);
}

/// Unwell for some time, which may or may not cost it its Lease.
async fn ailing(fault: Fault, place: &mut Place, time: Duration) {
    let victim = an_owner(place).await;
    let member = place.replicas[victim].name.clone();
    let from = now();
    place.tell(&format!("{member}: {} for {} s", fault.name(), time.as_secs()));
    let ail = |place: &Place, ails| {
        let proxy = &place.replicas[victim].proxy;
        match fault {
            Fault::Slow => proxy.delay(if ails { Duration::from_secs(1) } else { Duration::ZERO }),
            _ => proxy.hold_events(ails),
        }
    };
    ail(place, true);
    place.pass(time).await;
    ail(place, false);
    place.settled().await;
    place.healed(from);
}

/// Nothing comes of it: only people read wall clocks.
async fn clock_jumps(place: &mut Place) {
    let victim = an_owner(place).await;
    let member = place.replicas[victim].name.clone();
    let seconds = *[-300, 0, 300].choose(&mut place.random).expect("some");
    place.tell(&format!("{member}: its wall clock goes wrong by {seconds} s"));
    let before = place.map().await.expect("a map");
    place.replicas[victim].set_clock(seconds);
    place.pass(Duration::from_secs(10)).await;
    let off = place.wall_clock_of(&member).await;
    assert!(
        (off - seconds).abs() < 30,
        "its Lease shows a clock that is off by {off} s"
    );
    let after = place.map().await.expect("a map");
    assert_eq!(
        (after.owners, after.epochs),
        (before.owners, before.epochs),
        "nothing moves"
    );
}

/// Goes on however the test ends.
struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have gone with the cluster.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// The API server does not answer, or is away, for so long. Ends when a replica has written again, and nothing moves.
pub(crate) async fn without_server(fault: Fault, place: &mut Place, time: Duration) {
    let from = now();
    place.tell(&format!("{} for {} s", fault.name(), time.as_secs()));
    if fault == Fault::ServerFrozen {
        let server = Pid::from_raw(place.api_server);
        kill(server, Signal::SIGSTOP).expect("stopped");
        let _frozen = Frozen(server);
        place.pass(time).await;
    } else {
        let away = |place: &Place, away| place.replicas.iter().for_each(|replica| replica.proxy.away(away));
        away(place, true);
        place.pass(time).await;
        away(place, false);
    }
    let back = now();
    place
        .until("a replica writes again", |place, _| {
            place
                .since(back)
                .iter()
                .any(|write| write.accepted() && write.received > back)
        })
        .await;
    let first = place
        .since(back)
        .iter()
        .filter(|write| write.accepted())
        .map(|write| write.done)
        .min();
    place.journal.resumed.extend(first.map(|first| first - back));
    place.settled().await;
    place.healed(from);
}
