//! Times and counts of several replicas, as `docs/sharding.md` shows them. Each asserts its bar.

mod moves;
mod outage;
mod reinstall;
mod silence;
mod takeover;

use crate::audit::Micros;
use crate::judge::{self, Takeover};
use crate::place::{Place, say};

pub(crate) fn seconds(micros: Micros) -> f64 {
    std::time::Duration::from_micros(micros.unsigned_abs()).as_secs_f64()
}

/// How measurements are repeated.
fn again(name: &str) -> String {
    format!("cargo test --workspace --test replicas {name} -- --ignored --nocapture")
}

/// What came of every death, told and returned.
pub(crate) fn takeovers(place: &Place) -> Vec<Takeover> {
    let (writes, maps) = (&place.log.writes, &place.log.maps);
    let deaths = place.journal.deaths.iter();
    let found = deaths.map(|death| {
        let takeover = judge::takeover(death, writes, maps, &place.databases);
        say(&format!(
            "    Takeover from {}{}: {} Databases, all owned after {:.2} s, each written for after {:.2} s at most.",
            death.member,
            if death.led { ", the leader" } else { "" },
            takeover.databases,
            seconds(takeover.owned),
            seconds(takeover.written.unwrap_or_default()),
        ));
        takeover
    });
    found.collect()
}

/// The value that so many of a thousand do not exceed.
fn quantile(sorted: &[Micros], of_thousand: usize) -> Micros {
    let at = (sorted.len() * of_thousand / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

/// How long a Database that moved as planned had nobody who might start work for it. Returns p99.
pub(crate) fn gaps(place: &Place) -> Micros {
    let gaps = judge::planned_gaps(&place.log.maps, &place.databases, &place.journal.faults);
    let p99 = quantile(&gaps, 990);
    say(&format!(
        "    Planned handovers: {} moves of Databases; nobody could start work for p50 {:.3}, p99 {:.3} (bar 1), worst \
         {:.3} s.",
        gaps.len(),
        seconds(quantile(&gaps, 500)),
        seconds(p99),
        seconds(gaps.last().copied().unwrap_or_default()),
    ));
    p99
}
