//! How long a decision takes.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use jiff::Timestamp;
use policy::policies::Policies;
use policy::stack;
use serde::Serialize;

use super::read::Question;
use super::{admitted, print};
use crate::Done;
use crate::command::{BenchArguments, PolicyOutput};

/// What was measured, in nanoseconds.
#[derive(Serialize)]
struct Figures {
    iterations: u32,
    p10_ns: u64,
    p50_ns: u64,
    p99_ns: u64,
    mean_ns: u64,
    per_second: u64,
}

/// Measures and prints.
pub(super) fn run(arguments: &BenchArguments) -> Done {
    let question = Question::read(&arguments.question)?;
    let bundles = admitted(&arguments.question.policies)?;
    let figures = stack::large(|| -> Result<Figures, policy::policies::LoadError> {
        let policies = Policies::load(&bundles, question.catalogue.clone())?.with_time_limit(super::PATIENCE);
        let planner = question.planner();
        // A decision from text to text, as a webhook makes it.
        let text = question.request.object.to_string();
        let decide = || {
            let mut request = question.request.clone();
            request.object = serde_json::from_str(&text).unwrap_or_default();
            let decision = policies.evaluate(&request, &planner, &question.exceptions, Timestamp::now());
            serde_json::to_string(&decision).unwrap_or_default().len()
        };
        (0..arguments.iterations.div_ceil(10)).for_each(|_| {
            std::hint::black_box(decide());
        });
        let mut times: Vec<u64> = Vec::new();
        for _ in 0..arguments.iterations {
            let begun = Instant::now();
            std::hint::black_box(decide());
            times.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(figures(times))
    })??;
    print(&match arguments.output {
        PolicyOutput::Json => format!("{}\n", serde_json::to_string_pretty(&figures)?),
        PolicyOutput::Text => for_people(&figures),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn figures(mut times: Vec<u64>) -> Figures {
    times.sort_unstable();
    let count = times.len().max(1);
    let at = |percent: usize| {
        times
            .get((count * percent / 100).min(count - 1))
            .copied()
            .unwrap_or_default()
    };
    let mean = times.iter().sum::<u64>() / count as u64;
    Figures {
        iterations: u32::try_from(count).unwrap_or(u32::MAX),
        p10_ns: at(10),
        p50_ns: at(50),
        p99_ns: at(99),
        mean_ns: mean,
        per_second: 1_000_000_000 / mean.max(1),
    }
}

fn for_people(figures: &Figures) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "decisions\t{}", figures.iterations);
    for (name, nanoseconds) in [
        ("p10", figures.p10_ns),
        ("p50", figures.p50_ns),
        ("p99", figures.p99_ns),
        ("mean", figures.mean_ns),
    ] {
        let _ = writeln!(text, "{name}\t{} us", nanoseconds / 1_000);
    }
    let _ = writeln!(text, "per second\t{}", figures.per_second);
    text
}
