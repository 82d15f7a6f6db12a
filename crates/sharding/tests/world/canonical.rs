//! Two worlds that differ only in how long ago it all began are one state: clocks and versions are renumbered. What the
//! protocol does depends on differences of times up to one Lease, and on the order of versions of one kind.

use std::sync::Arc;

use sharding::protocol::lease::Observed;
use sharding::protocol::{Answer, Command, Event, Keeper, Kept, Lease, Version};
use sharding::timing::Millis;

use super::{Proc, Setup, World};

/// What every clock shows in a canonical state.
const NOW: Millis = 100_000;

pub(crate) fn canonical(world: &mut World, setup: &Setup) {
    for proc in &mut world.procs {
        let proc = Arc::make_mut(proc);
        let longest = setup.timings.lease_ms();
        let clock = proc.clock;
        // A time ahead of the clock is one to wait for; one that has passed long ago is as good as the oldest.
        times(proc, &mut |time| {
            *time = if *time > clock {
                NOW + (*time - clock)
            } else {
                NOW - (clock - *time).min(longest)
            };
        });
        proc.clock = NOW;
    }
    for kept in [Kept::Member, Kept::Coordinator] {
        let mut known = Vec::with_capacity(32);
        versions(world, kept, &mut |version| known.push(version.0));
        known.sort_unstable();
        known.dedup();
        versions(world, kept, &mut |version| {
            // 0 means that nothing is known, and stays.
            let rank = known.partition_point(|other| *other < version.0);
            version.0 = if version.0 == 0 {
                0
            } else {
                rank as u64 + u64::from(known[0] != 0)
            };
        });
    }
}

fn times(proc: &mut Proc, change: &mut dyn FnMut(&mut Millis)) {
    let member = &mut proc.process.member;
    let leader = &mut proc.process.leader;
    for keeper in [&mut member.keeper, &mut leader.keeper] {
        if let Some(known) = &mut keeper.known {
            change(&mut known.changed_ms);
        }
        if let Some((sent, _)) = &mut keeper.writing {
            change(sent);
        }
        for time in [&mut keeper.held_from, &mut keeper.tried_ms].into_iter().flatten() {
            change(time);
        }
    }
    for known in leader.leases.values_mut() {
        change(&mut known.changed_ms);
    }
    if let Some((_, since)) = &mut leader.preparing {
        change(since);
    }
    for time in [&mut leader.rest_until, &mut leader.pause_until, &mut proc.renewed_from]
        .into_iter()
        .flatten()
    {
        change(time);
    }
    for sent in proc.answers.iter_mut().filter_map(|(_, _, sent)| sent.as_mut()) {
        change(sent);
    }
}

fn versions(world: &mut World, kept: Kept, change: &mut dyn FnMut(&mut Version)) {
    let server = &mut world.server;
    match kept {
        Kept::Member => {
            change_number(&mut server.lease_version, change);
            server.leases.values_mut().for_each(|lease| change(&mut lease.version));
        }
        Kept::Coordinator => {
            change_number(&mut server.coordinator_version, change);
            server
                .coordinator
                .iter_mut()
                .for_each(|lease| change(&mut lease.version));
        }
    }
    for packet in &mut world.net {
        of_command(&mut packet.request, kept, change);
    }
    for proc in &mut world.procs {
        let proc = Arc::make_mut(proc);
        let leader = &mut proc.process.leader;
        match kept {
            Kept::Member => {
                of_keeper(&mut proc.process.member.keeper, change);
                leader.leases.values_mut().for_each(|known| of_observed(known, change));
            }
            Kept::Coordinator => of_keeper(&mut leader.keeper, change),
        }
        for answer in proc
            .answers
            .iter_mut()
            .map(|(_, answer, _)| answer)
            .chain(&mut proc.arrived)
        {
            of_answer(answer, kept, change);
        }
    }
}

fn change_number(number: &mut u64, change: &mut dyn FnMut(&mut Version)) {
    let mut version = Version(*number);
    change(&mut version);
    *number = version.0;
}

fn of_keeper(keeper: &mut Keeper, change: &mut dyn FnMut(&mut Version)) {
    keeper.known.iter_mut().for_each(|known| of_observed(known, change));
}

fn of_observed(known: &mut Observed, change: &mut dyn FnMut(&mut Version)) {
    change(&mut known.at);
    of_lease(&mut known.lease, change);
}

fn of_lease(lease: &mut Option<Lease>, change: &mut dyn FnMut(&mut Version)) {
    if let Some(lease) = lease {
        change(&mut lease.version);
    }
}

fn of_command(command: &mut Command, kept: Kept, change: &mut dyn FnMut(&mut Version)) {
    match command {
        Command::Write(which, precondition, _) if *which == kept => precondition.iter_mut().for_each(change),
        Command::Take(_, version, _) | Command::Forget(_, _, version) if kept == Kept::Member => change(version),
        _ => {}
    }
}

fn of_answer(event: &mut Event, kept: Kept, change: &mut dyn FnMut(&mut Version)) {
    match event {
        Event::Written(which, Answer::Accepted { version, .. }) if *which == kept => change(version),
        Event::Taken(_, Answer::Accepted { version, .. }) | Event::Forgotten(_, Answer::Accepted { version, .. })
            if kept == Kept::Member =>
        {
            change(version);
        }
        Event::Read(which, Some(lease)) if *which == kept => of_lease(lease, change),
        Event::Listed(Some(list)) if kept == Kept::Member => {
            change(&mut list.at);
            list.leases.iter_mut().for_each(|(_, lease)| change(&mut lease.version));
        }
        _ => {}
    }
}
