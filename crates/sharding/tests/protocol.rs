//! Runs of a small fleet as prose: each file of `tests/protocol/` holds what happens (lines without indentation) and what
//! the members do (indented lines). `UPDATE_EXPECT=1 cargo test -p sharding --test protocol` rewrites the latter.

mod world;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sharding::Bucket;
use sharding::Epoch;
use sharding::map::{Phase, Role, ShardMap};
use sharding::protocol::{Command, Kept, LeaseRecord, Report};
use world::{Mishap, NAMES, Setup, State, Target, Told, Turn, World, invariants};

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocol");
    let entries = fs::read_dir(&folder).expect("the folder of the scripts");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 8, "{} scripts: this would prove little", files.len());
    for file in files {
        let text = fs::read_to_string(&file).expect("a script");
        expect_test::expect_file![&file].assert_eq(&replay(&text));
    }
}

fn replay(text: &str) -> String {
    let mut player = Player::new();
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with(' ')) {
        writeln!(out, "{line}").expect("a String takes it");
        if !line.is_empty() && !line.starts_with('#') {
            out += &player.play(line);
        }
    }
    out
}

struct Player {
    setup: Setup,
    world: World,
    second: u32,
    /// What the next turn of each member is told.
    next: [Turn; 4],
    busy: [bool; 4],
    /// The last report of each member that was told of.
    told: [Report; 4],
    /// The last term that each wanted.
    terms: [u64; 4],
}

impl Player {
    fn new() -> Self {
        let mut world = World::new(&[0; 4]);
        world.server.highest = 1000;
        let mut setup = Setup::new(None, 2);
        setup.raises = true;
        Self {
            setup,
            world,
            second: 0,
            next: [Turn::default(); 4],
            busy: [false; 4],
            told: Default::default(),
            terms: [0; 4],
        }
    }

    fn play(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["shards", number] => {
                self.setup = Setup::new(None, number.parse().expect("a number"));
                self.setup.raises = true;
            }
            ["run", seconds] => return self.run(seconds.parse().expect("a number")),
            ["land"] => {
                while !self.world.net.is_empty() {
                    self.world.land(0, &self.setup);
                }
            }
            ["delete", "the", "Lease", "of", member] => self.world.server.delete_lease(member),
            ["edit", "the", "map"] => self.world.server.edit_map(),
            ["restore", "the", "map"] => self.world.server.restore_map(),
            ["delete", "the", "map"] => self.world.server.delete_map(),
            ["drain", member] => self.world.server.drain(member, true),
            ["undo-drain", member] => self.world.server.drain(member, false),
            ["who", "works"] => return self.who_works(),
            ["fence", member, bucket, epoch] => {
                let bucket: Bucket = bucket.parse().expect("a bucket");
                self.next[slot(member)].event = Some(Told::Fence(bucket, Epoch(epoch.parse().expect("an epoch"))));
            }
            [how, member, request] => {
                let mishap = match how {
                    "delay" => Mishap::Delayed,
                    "unanswered" => Mishap::Unanswered,
                    "slow" => Mishap::Slow,
                    _ => panic!("unknown line: {line}"),
                };
                self.next[slot(member)].mishap = Some((target(request), mishap));
            }
            [what, member] => self.tell(what, slot(member)),
            _ => panic!("unknown line: {line}"),
        }
        String::new()
    }

    fn tell(&mut self, what: &str, slot: usize) {
        let proc = self.world.proc(slot);
        match what {
            "start" | "thaw" => proc.state = State::Up,
            "crash" => proc.state = State::Gone,
            "freeze" => proc.state = State::Frozen(0),
            "restart" => self.world.restart(slot),
            "late-map" => proc.late_map = Some(0),
            "late-leases" => proc.late_leases = Some(0),
            "watches" => {
                proc.late_map = None;
                proc.late_leases = None;
            }
            "busy" => self.busy[slot] = true,
            "idle" => self.busy[slot] = false,
            "leave" => self.next[slot].event = Some(Told::Leave),
            "give-up" => self.next[slot].event = Some(Told::GiveUp),
            "old-map" => self.next[slot].event = Some(Told::OldMap),
            "answer" => self.world.arrive(slot, 0),
            _ => panic!("unknown line: {what}"),
        }
    }

    fn run(&mut self, seconds: u32) -> String {
        let mut out = String::new();
        for _ in 0..seconds {
            self.second += 1;
            self.world.pass(&self.setup);
            for (slot, name) in NAMES.iter().enumerate() {
                if !self.world.procs[slot].up() {
                    continue;
                }
                let mut turn = std::mem::take(&mut self.next[slot]);
                turn.busy = self.busy[slot];
                for (_, commands) in self.world.turn(slot, turn, &self.setup) {
                    for command in commands {
                        if let Some(text) = self.show(slot, &command) {
                            writeln!(out, "  {:>3} s  {name}  {text}", self.second).expect("a String takes it");
                        }
                    }
                }
                assert_eq!(invariants::check(&mut self.world, &self.setup), Ok(()), "{out}");
            }
        }
        out
    }

    /// A command in words; None for what happens all the time.
    fn show(&mut self, slot: usize, command: &Command) -> Option<String> {
        Some(match command {
            Command::Read(_) => return None,
            Command::Write(Kept::Member, precondition, record) => {
                return self.show_renewal(slot, precondition.is_some(), record);
            }
            Command::Write(Kept::Coordinator, _, LeaseRecord { holder: None, .. }) => {
                "releases the coordinator Lease".into()
            }
            Command::Write(Kept::Coordinator, _, record) => {
                let known = std::mem::replace(&mut self.terms[slot], record.transitions);
                return (known != record.transitions).then(|| format!("wants to lead, term {}", record.transitions));
            }
            Command::Take(name, ..) => format!("takes the Lease of {name}"),
            Command::Forget(name, ..) => format!("REMOVES the Lease of {name}"),
            Command::ListLeases => "lists the Leases".into(),
            Command::WriteMap(_, map) => format!("writes the map: {}", show_map(map)),
            Command::ReadMap => "reads the map".into(),
            Command::Start(bucket, epoch) => format!("STARTS {bucket} under {epoch}"),
            Command::Drain(bucket) => format!("drains {bucket}"),
            Command::Prepare(round, buckets) => {
                let buckets: Vec<String> = buckets.iter().map(ToString::to_string).collect();
                format!("opens watches for {} (round {round})", buckets.join(", "))
            }
            Command::Abort => "ABORTS all work".into(),
            Command::Refuse(error) => format!("refuses the map: {error}"),
            Command::Exit(why) => format!("exits: {why:?}"),
        })
    }

    fn show_renewal(&mut self, slot: usize, exists: bool, record: &LeaseRecord) -> Option<String> {
        let Some(holder) = &record.holder else {
            return Some("releases its Lease".into());
        };
        let told = std::mem::replace(&mut self.told[slot], record.report.clone());
        let new = &record.report;
        let mut text = Vec::new();
        if !exists || told.weight == 0 {
            text.push(format!("joins as {holder}"));
        }
        if new.warm != told.warm && new.warm != 0 {
            text.push(format!("is warm for round {}", new.warm));
        }
        if new.drained != told.drained && new.drained != 0 {
            text.push(format!("has drained for round {}", new.drained));
        }
        if new.leaving && !told.leaving {
            text.push("is leaving".into());
        }
        if new.drain != told.drain {
            text.push(format!(
                "carries on: {}",
                if new.drain {
                    "to be drained"
                } else {
                    "not to be drained"
                }
            ));
        }
        if new.raise != told.raise && !new.raise.is_empty() {
            text.push(format!("asks for a raise: {:?}", new.raise));
        }
        (!text.is_empty()).then(|| format!("reports: {}", text.join(", ")))
    }

    fn who_works(&self) -> String {
        let mut out = String::new();
        for proc in &self.world.procs {
            let config = self.setup.config(proc);
            let frozen = matches!(proc.state, State::Frozen(_));
            let works = proc
                .may_write_in()
                .filter(|work| frozen || proc.works_in(config).any(|other| other == *work));
            let works: Vec<String> = works
                .map(|(bucket, epoch)| {
                    let starts = proc.member().serves(bucket, proc.clock, config).is_some();
                    format!(
                        "{bucket} under {epoch}{}",
                        if starts || frozen { "" } else { " (starts nothing)" }
                    )
                })
                .collect();
            if proc.up() || frozen {
                let frozen = if frozen { ", frozen" } else { "" };
                let works = if works.is_empty() {
                    "nothing".into()
                } else {
                    works.join(", ")
                };
                writeln!(out, "         {}  works in {works}{frozen}", NAMES[proc.slot]).expect("a String takes it");
            }
        }
        out
    }
}

fn show_map(map: &ShardMap) -> String {
    let drained = map.members.iter().filter(|member| member.role == Role::Draining);
    let drained: Vec<String> = drained
        .map(|member| format!("; to be drained: {}", member.incarnation))
        .collect();
    let drained = drained.concat();
    let name = |place: u16| &map.members[usize::from(place)].incarnation;
    let owners: Vec<String> = map
        .buckets()
        .map(|bucket| {
            let owner = map.owner(bucket).map_or("nobody".into(), ToString::to_string);
            format!("{bucket} {owner} @{}", map.epoch(bucket).expect("it has one"))
        })
        .collect();
    let round = map.round.as_ref().map_or(String::new(), |round| {
        let moves: Vec<String> = round
            .moves
            .iter()
            .map(|(bucket, to)| format!("{bucket} to {}", name(*to)))
            .collect();
        let phase = match round.phase {
            Phase::Preparing => "preparing",
            Phase::Draining => "DRAINING",
        };
        format!("; round {} {phase}: {}", round.number, moves.join(", "))
    });
    format!(
        "#{} term {}: {}{round}{drained}",
        map.sequence,
        map.term,
        owners.join(", ")
    )
}

fn slot(name: &str) -> usize {
    NAMES
        .iter()
        .position(|known| *known == name)
        .unwrap_or_else(|| panic!("no member {name}"))
}

fn target(name: &str) -> Target {
    match name {
        "member" => Target::Member,
        "coordinator" => Target::Coordinator,
        "take" => Target::Take,
        "forget" => Target::Forget,
        "map" => Target::Map,
        "list" => Target::List,
        _ => panic!("no request {name}"),
    }
}
