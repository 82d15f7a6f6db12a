//! [`Status`] for people.

use std::fmt;

use sharding::map::Phase;

use super::facts::LeaseState;
use super::status::{Flow, Lag, MemberStatus, OrphanedBuckets, RoundStatus, Status};

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Installation  {}, Leases in namespace {}",
            self.installation, self.namespace
        )?;
        match &self.leader {
            Some(leader) => writeln!(
                f,
                "Leader        {}, its Lease is {}",
                leader.member,
                lease(leader.lease, leader.renewed_seconds_ago)
            )?,
            None => writeln!(f, "Leader        nobody")?,
        }
        writeln!(
            f,
            "Map           term {}, sequence {}, version {}",
            self.term, self.sequence, self.map_version
        )?;
        match &self.fence {
            Some(fence) if fence.status == "True" => writeln!(f, "Fence         in force at the API server")?,
            Some(fence) => writeln!(f, "Fence         {}: {}", fence.status, fence.message)?,
            None => writeln!(f, "Fence         not known yet")?,
        }
        writeln!(f, "Databases     {}\n", self.databases)?;
        table(f, &self.members)?;
        if !self.former_members.is_empty() {
            let names = listed(&self.former_members);
            writeln!(
                f,
                "\nGone, with Leases that the leader removes after some time: {names}"
            )?;
        }
        match &self.round {
            Some(round) => moving(f, round)?,
            None => writeln!(f, "\nNothing moves.")?,
        }
        self.orphans(f)
    }
}

impl Status {
    fn orphans(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.healthy {
            return writeln!(f, "Every bucket has a live owner, and every Database its label.");
        }
        for orphaned in &self.orphans.buckets {
            writeln!(f, "ORPHANED: {}", buckets(orphaned))?;
        }
        let strays = &self.orphans.databases;
        if strays.count > 0 {
            writeln!(
                f,
                "ORPHANED: {} Databases whose label does not say their bucket{}",
                strays.count,
                if strays.count > strays.first.len() as u64 {
                    format!("; the first {}:", strays.first.len())
                } else {
                    ":".to_owned()
                }
            )?;
        }
        for stray in &strays.first {
            let label = stray
                .label
                .as_ref()
                .map_or("no label".to_owned(), |label| format!("label {label:?}"));
            writeln!(f, "  {}: {label}, bucket {}", stray.database, stray.bucket)?;
        }
        Ok(())
    }
}

/// Columns as wide as what is in them.
fn table(f: &mut fmt::Formatter<'_>, members: &[MemberStatus]) -> fmt::Result {
    let head = [
        "MEMBER", "ROLE", "WEIGHT", "BUCKETS", "SHARE", "OBJECTS", "LEASE", "MAP",
    ]
    .map(str::to_owned);
    let rows: Vec<[String; 8]> = std::iter::once(head).chain(members.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (text, width))| {
            // Numbers to the right.
            if (2..6).contains(&column) {
                format!("{text:>width$}")
            } else {
                format!("{text:<width$}")
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

fn row(member: &MemberStatus) -> [String; 8] {
    let mut role = member.role.map_or("joining".to_owned(), |role| format!("{role:?}"));
    // It has said so, and the leader has not written it yet.
    if member.leaving && role != "Leaving" {
        role += ", leaving";
    }
    if member.draining && role != "Draining" {
        role += ", to be drained";
    }
    [
        member.member.to_string(),
        role,
        member.weight.to_string(),
        member.buckets.to_string(),
        format!("{:.1} %", member.share_percent),
        member.objects.to_string(),
        lease(member.lease, member.renewed_seconds_ago),
        match member.map {
            Lag::Current => "current".to_owned(),
            Lag::Behind => format!("behind, at version {}", member.seen_map_version),
            Lag::Unknown => "-".to_owned(),
        },
    ]
}

fn lease(state: LeaseState, seconds_ago: Option<f64>) -> String {
    let renewed = match seconds_ago {
        None => "never renewed".to_owned(),
        Some(seconds) if seconds < 0.0 => format!("renewed {} s ahead of this clock", -seconds),
        Some(seconds) => format!("renewed {seconds} s ago"),
    };
    match state {
        LeaseState::Held => format!("held, {renewed}"),
        LeaseState::LooksExpired => format!("looks EXPIRED, {renewed}"),
        LeaseState::Released => "released".to_owned(),
        LeaseState::OfAnother => "of another process".to_owned(),
        LeaseState::Missing => "missing".to_owned(),
    }
}

fn moving(f: &mut fmt::Formatter<'_>, round: &RoundStatus) -> fmt::Result {
    let total: usize = round.moves.iter().map(|flow| flow.buckets.len()).sum();
    let (phase, waits) = match round.phase {
        Phase::Preparing => ("preparing: gainers open their watches, losers serve on", "to get warm"),
        Phase::Draining => ("draining: losers end what runs", "to acknowledge"),
    };
    writeln!(f, "\nRound {} moves {total} buckets, {phase}", round.number)?;
    for Flow { from, to, buckets } in &round.moves {
        let from = from.as_ref().map_or("nobody".to_owned(), ToString::to_string);
        writeln!(f, "  {} from {from} to {to}", buckets.len())?;
    }
    if !round.waits_for.is_empty() {
        writeln!(f, "  waits for {} {waits}", listed(&round.waits_for))?;
    }
    Ok(())
}

fn buckets(orphaned: &OrphanedBuckets) -> String {
    let (count, objects) = (orphaned.buckets.len(), orphaned.objects);
    let owner = match (&orphaned.owner, orphaned.lease) {
        (None, _) => "of nobody".to_owned(),
        (Some(owner), Some(LeaseState::Released)) => format!("of {owner}, which holds its Lease no more"),
        (Some(owner), Some(LeaseState::OfAnother)) => format!("of {owner}, whose Lease another process holds"),
        (Some(owner), Some(LeaseState::Missing)) => format!("of {owner}, whose Lease is missing"),
        (Some(owner), Some(LeaseState::Held | LeaseState::LooksExpired) | None) => {
            format!("of {owner}, whose Lease looks as if it had run out")
        }
    };
    format!("{count} buckets ({objects} Databases) {owner}")
}

fn listed<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
