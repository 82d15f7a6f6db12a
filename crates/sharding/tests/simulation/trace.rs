//! What happened, in words.

use sharding::map::{Phase, ShardMap};
use sharding::protocol::{Command, Event, Kept, Version};

use crate::fleet::Simulation;
use crate::judge::Place;
use crate::schedule::SECOND;

/// How many lines are kept.
const LINES: usize = 400;

impl Simulation {
    pub(crate) fn log(&mut self, line: impl FnOnce() -> String) {
        if self.options.trace {
            if self.trace.len() == LINES {
                self.trace.pop_front();
            }
            let seconds = self.now / SECOND;
            let millis = self.now % SECOND / 1000;
            self.trace.push_back(format!("{seconds:>4}.{millis:03} s  {}", line()));
        }
    }

    pub(crate) fn log_step(&mut self, place: Place, event: &Event, commands: &[Command]) {
        let me = self.members[place].config.me.clone();
        let what = match event {
            Event::Map(version, map) => format!("knows map {version} #{}", map.sequence),
            Event::MapGone(version) => format!("knows of no map {version}"),
            Event::MapDamaged(version, error) => format!("knows of a bad map {version}: {error}"),
            Event::Leave | Event::GiveUp | Event::Warm(_) | Event::Taken(..) => format!("{event:?}"),
            Event::Written(kept, answer) => format!("wrote {kept:?}: {answer:?}"),
            Event::MapWritten(answer) => format!("wrote the map: {answer:?}"),
            _ => String::new(),
        };
        let mut parts = Vec::new();
        let (mut starts, mut drains) = (Vec::new(), Vec::new());
        for command in commands {
            match command {
                Command::Start(bucket, epoch) => starts.push(format!("{bucket}@{epoch}")),
                Command::Drain(bucket) => drains.push(bucket.to_string()),
                Command::WriteMap(at, map) => parts.push(format!("writes {}", show(at.as_ref(), map))),
                Command::Take(name, version, _) => parts.push(format!("takes the Lease of {name} at {version}")),
                Command::Write(Kept::Coordinator, ..) | Command::Read(_) => {}
                Command::Write(Kept::Member, at, record) => {
                    parts.push(format!("renews at {at:?}: {:?}", record.report));
                }
                Command::Prepare(round, _) => parts.push(format!("prepares round {round}")),
                other => parts.push(format!("{other:?}")),
            }
        }
        for (what, buckets) in [("STARTS", starts), ("drains", drains)] {
            if !buckets.is_empty() {
                parts.push(format!("{what} {}", buckets.join(" ")));
            }
        }
        if !what.is_empty() || !parts.is_empty() {
            self.log(|| format!("{me}  {what} -> {}", parts.join("; ")));
        }
    }
}

fn show(at: Option<&Version>, map: &ShardMap) -> String {
    let members: Vec<String> = map
        .members
        .iter()
        .enumerate()
        .map(|(place, member)| {
            let owned = map
                .owners
                .iter()
                .flatten()
                .filter(|owner| usize::from(**owner) == place);
            format!("{} {:?} {}", member.incarnation, member.role, owned.count())
        })
        .collect();
    let nobody = map.owners.iter().filter(|owner| owner.is_none()).count();
    let round = map.round.as_ref().map_or(String::new(), |round| {
        let phase = if round.phase == Phase::Draining {
            "DRAINING"
        } else {
            "preparing"
        };
        format!(", round {} {phase} of {}", round.number, round.moves.len())
    });
    format!(
        "map #{} at {at:?}: {}, nobody {nobody}{round}",
        map.sequence,
        members.join(", ")
    )
}
