//! Where two sets of policies differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use policy::bundle::Bundle;
use policy::decision::BundleRevision;
use serde::Serialize;

/// How other policies judge a Database.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Change {
    /// The old ones allow it, the new ones do not.
    NewlyDenied,
    /// The other way round.
    NewlyAllowed,
    /// Both deny it, by other rules or at other fields.
    OtherRules,
}

/// A rule that denies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub(super) struct Denial {
    /// The rule.
    pub id: String,
    /// The field.
    pub path: String,
}

/// A Database whose denials are not the same.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Difference {
    pub namespace: String,
    pub name: String,
    pub change: Change,
    /// What only the new ones deny.
    pub newly: BTreeSet<Denial>,
    /// What only the old ones deny.
    pub not_any_more: BTreeSet<Denial>,
    /// Whether the new ones cannot be asked about it.
    pub error: bool,
    /// Whether the new ones let a change pass that has nothing to do with what they deny.
    pub unrelated_change_passes: bool,
}

/// All that differs.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    old: BTreeMap<String, BundleRevision>,
    new: BTreeMap<String, BundleRevision>,
    counts: Counts,
    databases: Vec<Difference>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    databases: usize,
    newly_denied: usize,
    newly_allowed: usize,
    other_rules: usize,
    /// Of those that are denied: how many could not be changed any more at all.
    stuck: usize,
}

impl Report {
    /// Nothing was asked yet.
    pub(super) fn new(old: &[Bundle], new: &[Bundle]) -> Self {
        Self {
            old: revisions(old),
            new: revisions(new),
            counts: Counts::default(),
            databases: Vec::new(),
        }
    }

    /// So many were asked, and among them these differ.
    pub(super) fn add(&mut self, differences: Vec<Difference>, asked: usize) {
        self.counts.databases += asked;
        for difference in &differences {
            *match difference.change {
                Change::NewlyDenied => &mut self.counts.newly_denied,
                Change::NewlyAllowed => &mut self.counts.newly_allowed,
                Change::OtherRules => &mut self.counts.other_rules,
            } += 1;
            self.counts.stuck += usize::from(!difference.unrelated_change_passes);
        }
        self.databases.extend(differences);
    }

    /// How many were asked.
    pub(super) fn databases(&self) -> usize {
        self.counts.databases
    }

    /// How many would be denied that are allowed now.
    pub(super) fn newly_denied(&self) -> usize {
        self.counts.newly_denied
    }
}

fn revisions(bundles: &[Bundle]) -> BTreeMap<String, BundleRevision> {
    let revision = |bundle: &Bundle| {
        let revision = BundleRevision {
            revision: bundle.manifest().revision.clone(),
            digest: bundle.digest().to_owned(),
        };
        (bundle.name().to_owned(), revision)
    };
    bundles.iter().map(revision).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.databases {
            writeln!(f, "{difference}")?;
        }
        let Counts {
            databases,
            newly_denied,
            newly_allowed,
            other_rules,
            stuck,
        } = self.counts;
        let same = databases - newly_denied - newly_allowed - other_rules;
        writeln!(
            f,
            "{databases} Databases: {newly_denied} newly denied, {newly_allowed} newly allowed, {other_rules} denied by \
             other rules, {same} as before; {stuck} could not be changed at all"
        )
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = match self.change {
            Change::NewlyDenied => "newly denied",
            Change::NewlyAllowed => "newly allowed",
            Change::OtherRules => "other rules",
        };
        let signed =
            |sign: char| move |Denial { id, path }: &Denial| format!("{sign}{id} {path}").trim_end().to_owned();
        let newly = self.newly.iter().map(signed('+'));
        let rules: Vec<String> = newly.chain(self.not_any_more.iter().map(signed('-'))).collect();
        let Self { namespace, name, .. } = self;
        write!(f, "{namespace}/{name}\t{change}\t{}", rules.join(", "))?;
        match self.change {
            Change::NewlyAllowed => Ok(()),
            Change::NewlyDenied | Change::OtherRules if self.unrelated_change_passes => {
                f.write_str("\tother changes pass")
            }
            Change::NewlyDenied | Change::OtherRules => f.write_str("\tno change passes"),
        }
    }
}

/// How often people at a terminal are told.
const AT_TERMINAL: Duration = Duration::from_millis(200);
/// How often others are told, and when for the first time.
const ELSEWHERE: Duration = Duration::from_secs(2);

/// Tells on standard error how far it has come.
pub(super) struct Progress {
    last: Instant,
    terminal: bool,
    told: bool,
}

impl Progress {
    /// Nothing is told yet.
    pub(super) fn begin() -> Self {
        Self {
            last: Instant::now(),
            terminal: stderr().is_terminal(),
            told: false,
        }
    }

    /// So many were asked.
    pub(super) fn at(&mut self, databases: usize) {
        let pause = if self.terminal { AT_TERMINAL } else { ELSEWHERE };
        if self.last.elapsed() < pause {
            return;
        }
        self.last = Instant::now();
        self.told = true;
        if self.terminal {
            eprint!("\rasked about {databases} Databases");
        } else {
            eprintln!("asked about {databases} Databases");
        }
    }

    /// It is over.
    pub(super) fn end(self) {
        if self.told && self.terminal {
            eprintln!();
        }
    }
}
