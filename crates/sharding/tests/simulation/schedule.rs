//! What one seed stands for: a fleet, and what befalls it when.

use sharding::timing::{FASTEST_TENTHS, Millis, SLOWEST_TENTHS, Timings};

use crate::random::Random;

/// True time since the simulation began, in microseconds. No member knows it.
pub(crate) type Micros = u64;

pub(crate) const SECOND: Micros = 1_000_000;

/// How long the gainers of a round may take to get warm.
pub(crate) const PREPARE_MS: Millis = 20_000;
/// How long they do take, at most, if nothing is wrong with them.
pub(crate) const WARM_MS: Millis = 1_000;
/// A container that has exited starts again within this.
pub(crate) const RESTART_MS: Millis = 5_000;
/// The longest way of a request or an answer, while the network is slow.
pub(crate) const SLOW_MS: Millis = 2_000;
/// After this nobody waits for an answer any more. (Less with short timings: see [`within_ms`].)
pub(crate) const ANSWER_WITHIN_MS: Millis = 2_000;
/// Before this the fleet starts, cold, and nothing goes wrong.
const BEGINS: Micros = 20 * SECOND;
/// The same, if the fleet is to have come to rest: the first two rounds may each wait for work that takes ten seconds.
const RESTS: Micros = 60 * SECOND;
/// SIGTERM to SIGKILL.
const GRACE: Micros = 40 * SECOND;

/// As the driver has it: two tries must fit before the renew deadline.
pub(crate) fn within_ms(timings: Timings) -> Millis {
    ANSWER_WITHIN_MS.min(timings.renew_deadline_ms() / 2)
}

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Theme {
    /// Everything, mixed.
    All,
    /// Crashes and restarts alone: for the time of a takeover.
    Crashes,
    /// Every member is replaced, one after the other, and nothing goes wrong.
    Rolling,
    /// Freezes, slow networks, stalled watches.
    Time,
    /// Cuts, lost and late requests, an API server that is away.
    Network,
    /// Somebody works on the cluster by hand.
    Hands,
}

/// What happens to a fleet. Whom it befalls is decided when it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A process dies. Another starts after so long, under the same name or a new one.
    Crash {
        after: Micros,
        same_name: bool,
    },
    /// A process does not run, and does not know of it.
    Freeze {
        lasts: Micros,
    },
    /// Requests do not get out, or answers and watches do not get in, or both.
    Cut {
        out: bool,
        back: bool,
        lasts: Micros,
    },
    /// One watch says nothing.
    StallMap {
        lasts: Micros,
    },
    StallLeases {
        lasts: Micros,
    },
    /// Each way takes up to two seconds: of one member, or of all.
    Slow {
        all: bool,
        lasts: Micros,
    },
    /// Requests of everybody come late or get lost.
    Lossy {
        lasts: Micros,
    },
    /// The API server is away: it refuses connections, or they hang.
    Away {
        hangs: bool,
        lasts: Micros,
    },
    /// Watches take longer to get warm than a leader waits.
    Cold {
        lasts: Micros,
    },
    DeleteMap,
    EditMap,
    RestoreMap,
    DeleteLease,
    /// An object carries a fence from somewhere else, that is newer than the owner's epoch.
    ForeignFence,
    /// The wall clock of a member jumps by up to five minutes.
    WallClock,
    /// Another member comes.
    Join,
    /// A member is asked to leave; its process is ended `GRACE` later.
    Leave,
    /// A member comes, and after so long another one leaves.
    Replace {
        after: Micros,
    },
    /// The process that was asked to leave is told that there is no more time, and then killed.
    GiveUp,
    Kill,
    Weight,
}

/// One simulation.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) theme: Theme,
    pub(crate) members: u64,
    pub(crate) shards: u16,
    pub(crate) buckets: u16,
    pub(crate) timings: Timings,
    /// Wall clocks differ by up to five minutes, and raises make sequences run ahead of all of them. If so, nobody deletes
    /// the map or puts an old one back: a leader that has never heard of the newest map takes its numbers from the wall
    /// clock (`docs/sharding.md`, "What remains possible").
    pub(crate) numbers_run_ahead: bool,
    /// In each member.
    pub(crate) workers: u16,
    /// When the fleet has started, and the first thing may happen to it.
    pub(crate) begins: Micros,
    /// In order.
    pub(crate) faults: Vec<(Micros, Fault)>,
    /// When the last fault is over.
    pub(crate) ends: Micros,
}

/// How large the fleets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// 3 to 100 members.
    Mixed,
    /// 3 to 5 members, for questions that large fleets do not answer better.
    Small,
}

impl Schedule {
    pub(crate) fn new(seed: u64, sizes: Sizes) -> Self {
        let mut random = Random::new(seed);
        let (members, seconds) = match (sizes, seed % 20) {
            (Sizes::Small, _) => (random.between(3, 5), 120),
            (Sizes::Mixed, 0) => (100, 90),
            (Sizes::Mixed, 10) => (random.between(30, 60), 120),
            (Sizes::Mixed, 5 | 12 | 15) => (random.between(10, 25), 180),
            (Sizes::Mixed, _) => (random.between(3, 8), 240),
        };
        let theme = match seed % 10 {
            1 => Theme::Crashes,
            2 => Theme::Rolling,
            3 => Theme::Time,
            4 => Theme::Network,
            6 => Theme::Hands,
            _ => Theme::All,
        };
        let standbys = if theme == Theme::Rolling { 0 } else { random.below(3) };
        let buckets = match members {
            30.. => 1024,
            10.. => random.pick(&[256, 1024]),
            4.. => random.pick(&[64, 256, 1024]),
            _ => random.pick(&[16, 64, 256, 1024]),
        };
        let timings = match members {
            30.. => Timings::DEFAULT,
            // So that a takeover is timed with both.
            _ if theme == Theme::Crashes => [Timings::FAST, Timings::DEFAULT][usize::from(seed / 10 % 2 == 1)],
            _ => random.pick(&[Timings::DEFAULT, Timings::FAST]),
        };
        let mut schedule = Self {
            seed,
            theme,
            members,
            shards: u16::try_from(members - standbys).expect("few"),
            buckets,
            timings,
            numbers_run_ahead: random.chance(500),
            workers: u16::try_from((200 / members).clamp(2, 24)).expect("few"),
            begins: 0,
            faults: Vec::new(),
            ends: 0,
        };
        match theme {
            Theme::Rolling => schedule.roll(RESTS),
            _ => schedule.draw(BEGINS, BEGINS + seconds * SECOND, &mut random),
        }
        schedule.faults.sort_by_key(|(at, _)| *at);
        schedule
    }

    /// A member comes, another leaves, and so on; each has the time that a planned move may take.
    fn roll(&mut self, begins: Micros) {
        self.begins = begins;
        let step = 2 * self.moved_ms() * 1000;
        for index in 0..self.members {
            let at = begins + index * step;
            self.faults.push((at, Fault::Join));
            self.faults.push((at + step / 2, Fault::Leave));
        }
        self.ends = begins + self.members * step;
    }

    fn draw(&mut self, begins: Micros, ends: Micros, random: &mut Random) {
        self.begins = begins;
        self.ends = ends;
        let mut at = begins;
        let (least, most) = if self.theme == Theme::Crashes {
            (20, 40)
        } else {
            (1, 12)
        };
        let mut long_absence = false;
        loop {
            at += random.between(least * SECOND, most * SECOND);
            if at + SECOND >= ends {
                return;
            }
            let fault = self.draw_one(&mut long_absence, random).within(ends - at);
            self.faults.push((at, fault));
            if matches!(fault, Fault::Leave | Fault::Replace { .. }) {
                let leaves = at + fault.lasts();
                self.faults.push(((leaves + GRACE).min(ends - SECOND), Fault::GiveUp));
                self.faults.push(((leaves + GRACE + 3 * SECOND).min(ends), Fault::Kill));
            }
        }
    }

    fn draw_one(&self, long_absence: &mut bool, random: &mut Random) -> Fault {
        let lease = self.timings.lease_ms() * 1000;
        let crash = Fault::Crash {
            after: random.between(SECOND / 5, 2 * lease),
            same_name: random.chance(500),
        };
        // Also for less than a Lease, and for just about one.
        let lasts = random.between(lease / 4, 5 * lease / 2);
        let (out, back) = random.pick(&[(true, true), (true, false), (false, true)]);
        let time = [
            Fault::Freeze { lasts },
            Fault::Freeze { lasts },
            Fault::StallMap { lasts },
            Fault::StallLeases { lasts },
            Fault::Slow { all: false, lasts },
            Fault::Slow { all: true, lasts },
        ];
        let away = [5, 5, 5, 20, 60][random.place(if *long_absence { 4 } else { 5 })];
        let network = [
            Fault::Cut { out, back, lasts },
            Fault::Cut { out, back, lasts },
            Fault::Lossy { lasts },
            Fault::Slow { all: true, lasts },
            Fault::Away {
                hangs: random.chance(500),
                lasts: away * SECOND,
            },
        ];
        let numbers = if self.numbers_run_ahead {
            [Fault::WallClock, Fault::ForeignFence]
        } else {
            [Fault::DeleteMap, Fault::RestoreMap]
        };
        let hands = [numbers[0], numbers[1], Fault::EditMap, Fault::DeleteLease];
        let life = [
            Fault::Join,
            Fault::Leave,
            Fault::Replace {
                after: random.between(0, lease),
            },
            Fault::Weight,
            Fault::Cold { lasts },
            crash,
        ];
        let crashes = [crash];
        let kinds: &[&[Fault]] = match self.theme {
            Theme::Crashes | Theme::Rolling => &[&crashes],
            Theme::Time => &[&time, &time, &life],
            Theme::Network => &[&network, &network, &life],
            Theme::Hands => &[&hands, &hands, &life],
            Theme::All => &[&time, &network, &hands, &life, &crashes],
        };
        let kind: &[Fault] = random.pick(kinds);
        let fault = random.pick(kind);
        *long_absence |= matches!(fault, Fault::Away { lasts, .. } if lasts > 20 * SECOND);
        fault
    }

    /// How long a planned move takes at most: the round is written, the gainer gets warm, each report goes with a
    /// renewal or at once, and what runs ends or is given up. In true time by the slowest clock.
    fn moved_ms(&self) -> Millis {
        slowest(WARM_MS + within_ms(self.timings) + 5 * self.timings.retry_ms())
    }

    /// After the last fault all buckets are served within this, in true time. A Lease runs out: that of a dead leader and
    /// those of dead owners, which whoever is to lead counts at the same time; once more, if it could not renew itself
    /// and counts anew. What has exited starts again. Then a handful of requests, each repeated once.
    pub(crate) fn served_within(&self) -> Micros {
        let timings = self.timings;
        1000 * (RESTART_MS + slowest(2 * timings.lease_ms() + 6 * timings.retry_ms()))
    }

    /// A member that crashes, when nothing else is wrong, is replaced within this, by the clock of the leader: its Lease
    /// runs out, and half a second for what it takes to see that, to take it, to write the map and to hear of it.
    pub(crate) fn taken_over_within(&self) -> Micros {
        1000 * (self.timings.lease_ms() + 500)
    }

    /// And within this all shares are within their bounds: a leader that drops a round waited before and rests after,
    /// and then there may be two more rounds, for what has joined since.
    pub(crate) fn balanced_within(&self) -> Micros {
        self.served_within() + 1000 * (slowest(2 * PREPARE_MS) + 2 * self.moved_ms())
    }
}

impl Fault {
    fn lasts(self) -> Micros {
        match self {
            Self::Crash { after, .. } | Self::Replace { after } => after,
            Self::Freeze { lasts }
            | Self::Cut { lasts, .. }
            | Self::StallMap { lasts }
            | Self::StallLeases { lasts }
            | Self::Slow { lasts, .. }
            | Self::Lossy { lasts }
            | Self::Away { lasts, .. }
            | Self::Cold { lasts } => lasts,
            Self::DeleteMap
            | Self::EditMap
            | Self::RestoreMap
            | Self::DeleteLease
            | Self::ForeignFence
            | Self::WallClock
            | Self::Join
            | Self::Leave
            | Self::GiveUp
            | Self::Kill
            | Self::Weight => 0,
        }
    }

    /// The same, over before the last moment.
    fn within(mut self, left: Micros) -> Self {
        match &mut self {
            Self::Crash { after: lasts, .. }
            | Self::Replace { after: lasts }
            | Self::Freeze { lasts }
            | Self::Cut { lasts, .. }
            | Self::StallMap { lasts }
            | Self::StallLeases { lasts }
            | Self::Slow { lasts, .. }
            | Self::Lossy { lasts }
            | Self::Away { lasts, .. }
            | Self::Cold { lasts } => *lasts = (*lasts).min(left),
            Self::DeleteMap
            | Self::EditMap
            | Self::RestoreMap
            | Self::DeleteLease
            | Self::ForeignFence
            | Self::WallClock
            | Self::Join
            | Self::Leave
            | Self::GiveUp
            | Self::Kill
            | Self::Weight => {}
        }
        self
    }
}

/// How fast a clock runs, in thousandths of true time.
pub(crate) fn rate(random: &mut Random) -> u64 {
    let (slowest, fastest) = (SLOWEST_TENTHS * 100, FASTEST_TENTHS * 100);
    // The ends are where it can break.
    match random.below(4) {
        0 => slowest,
        1 => fastest,
        _ => random.between(slowest, fastest),
    }
}

/// True time in which the slowest clock counts so much.
fn slowest(ms: Millis) -> Millis {
    ms * 10 / SLOWEST_TENTHS
}
