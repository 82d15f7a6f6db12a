//! `database-operator fleet simulate`: how members would share the buckets. Pure: it asks no cluster.

use std::fmt;

use serde::Serialize;
use sharding::BUCKETS;
use sharding::assignment::{AssignError, Fleet, MAX_MEMBERS, Member, assign};

use crate::command::SimulateArguments;

/// Why nothing was simulated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SimulateError {
    /// Neither for the first members only nor for all.
    #[error("--weights: {given} given; expected {members}, one for each member{and_joining}")]
    Weights {
        /// How many weights there are.
        given: usize,
        /// How many members there are at first.
        members: usize,
        /// What else would be right.
        and_joining: String,
    },
    /// More members than the assignment takes.
    #[error("--join: {members} members and {joining} that join are more than {MAX_MEMBERS}")]
    TooMany {
        /// How many there are at first.
        members: usize,
        /// How many join.
        joining: usize,
    },
    /// More leave than there are.
    #[error("--leave: {leaving} cannot leave, there are {members}")]
    Leave {
        /// How many leave.
        leaving: usize,
        /// How many there are at first.
        members: usize,
    },
    /// All leave, none joins.
    #[error("--leave: nobody would be left")]
    NobodyLeft,
    /// What the assignment refuses.
    #[error(transparent)]
    Assign(#[from] AssignError),
}

/// What a change of members would do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Simulation {
    /// Those that are there after the change.
    members: Vec<SimulatedMember>,
    /// How many buckets change their owner.
    moved: usize,
    /// How many would if shares were exact: those of the leaving, or the share of the joining.
    ideal_moved: f64,
    /// The largest load in relation to the member's share by weight.
    max_over_mean: f64,
}

#[derive(Debug, Serialize)]
struct SimulatedMember {
    name: String,
    weight: u32,
    buckets: usize,
}

impl Simulation {
    /// Lets new members share all buckets, and then some join and leave.
    pub(crate) fn new(arguments: &SimulateArguments) -> Result<Self, SimulateError> {
        let (mut members, staying) = members(arguments)?;
        let first = arguments.members as usize;
        let nobody = vec![None; usize::from(BUCKETS)];
        let before = owners(&members[..first], &nobody, first)?;
        for member in &mut members[staying..first] {
            member.leaving = true;
        }
        let active = members.iter().filter(|member| !member.leaving).count();
        let after = owners(&members, &before, active)?;

        let weights: u32 = members.iter().filter(|m| !m.leaving).map(|m| m.weight).sum();
        let share = |weight: u32| f64::from(BUCKETS) * f64::from(weight) / f64::from(weights.max(1));
        let of_the_leaving: usize = (staying..first).map(|member| owned(&before, member)).sum();
        let of_the_joining = share(members[first..].iter().map(|member| member.weight).sum());
        let filled = members
            .iter()
            .enumerate()
            .filter(|(_, member)| !member.leaving && member.weight > 0);
        let filled = filled.map(|(index, member)| float(owned(&after, index)) / share(member.weight));
        Ok(Self {
            moved: before
                .iter()
                .zip(&after)
                .filter(|(before, after)| before != after)
                .count(),
            ideal_moved: rounded(of_the_joining.max(float(of_the_leaving)), 100.0),
            max_over_mean: rounded(filled.fold(0.0, f64::max), 10_000.0),
            members: simulated(members, &after),
        })
    }
}

/// The members, the joining behind the others, and how many of the first ones stay.
fn members(arguments: &SimulateArguments) -> Result<(Vec<Member>, usize), SimulateError> {
    let [members, joining, leaving] = [arguments.members, arguments.join, arguments.leave].map(|count| count as usize);
    let all = members + joining;
    if all > MAX_MEMBERS {
        return Err(SimulateError::TooMany { members, joining });
    }
    let staying = members
        .checked_sub(leaving)
        .ok_or(SimulateError::Leave { leaving, members })?;
    if staying + joining == 0 {
        return Err(SimulateError::NobodyLeft);
    }
    let given = arguments.weights.len();
    if ![0, members, all].contains(&given) {
        let and_joining = if joining > 0 {
            format!(", or {all}, also for those that join")
        } else {
            String::new()
        };
        return Err(SimulateError::Weights {
            given,
            members,
            and_joining,
        });
    }
    let member = |index: usize| Member {
        name: format!("member-{index}"),
        weight: arguments.weights.get(index).copied().unwrap_or(1),
        leaving: false,
    };
    Ok(((0..all).map(member).collect(), staying))
}

fn owners(members: &[Member], owners: &[Option<usize>], shards: usize) -> Result<Vec<Option<usize>>, AssignError> {
    let fleet = Fleet {
        members,
        owners,
        shards,
        objects: None,
    };
    Ok(assign(&fleet)?.owners)
}

fn owned(owners: &[Option<usize>], member: usize) -> usize {
    owners.iter().filter(|owner| **owner == Some(member)).count()
}

fn simulated(members: Vec<Member>, owners: &[Option<usize>]) -> Vec<SimulatedMember> {
    let all = members.into_iter().enumerate();
    let there = all.filter(|(_, member)| !member.leaving);
    let simulated = there.map(|(index, member)| SimulatedMember {
        name: member.name,
        weight: member.weight,
        buckets: owned(owners, index),
    });
    simulated.collect()
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("at most the number of buckets"))
}

/// To as many digits as `parts` has zeros: more would be noise.
fn rounded(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts
}

/// A table for people.
impl fmt::Display for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Simulation of {} members; no cluster was asked.\n",
            self.members.len()
        )?;
        let width = self.members.iter().map(|member| member.name.len()).max().unwrap_or(0);
        writeln!(f, "{:<width$}  {:>6}  {:>7}", "MEMBER", "WEIGHT", "BUCKETS")?;
        for SimulatedMember { name, weight, buckets } in &self.members {
            writeln!(f, "{name:<width$}  {weight:>6}  {buckets:>7}")?;
        }
        writeln!(
            f,
            "\nmoved          {} of {BUCKETS} buckets (ideal: {})",
            self.moved, self.ideal_moved
        )?;
        writeln!(f, "max over mean  {}", self.max_over_mean)
    }
}
