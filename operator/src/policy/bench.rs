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

/// Of whole decisions, and of evaluation alone.
#[derive(Serialize)]
struct Measured {
    /// From the text of a Database to the text of the decision: normal form, planned children, rules, answer.
    decision: Figures,
    /// From the text of the input to the text of what rules say.
    evaluation: Figures,
}

/// Measures and prints.
pub(super) fn run(arguments: &BenchArguments) -> Done {
    let question = Question::read(&arguments.question)?;
    let bundles = admitted(&arguments.question.policies)?;
    let measured = stack::large(|| -> Result<Measured, policy::policies::LoadError> {
        let policies = Policies::load(&bundles, question.catalogue.clone())?.with_time_limit(super::PATIENCE);
        let planner = question.planner();
        let text = question.request.object.to_string();
        let decide = || {
            let mut request = question.request.clone();
            request.object = serde_json::from_str(&text).unwrap_or_default();
            let decision = policies.evaluate(&request, &planner, &question.exceptions, Timestamp::now());
            serde_json::to_string(&decision).unwrap_or_default()
        };
        let input = policies
            .input(&question.request, &planner, Timestamp::now())
            .to_string();
        let evaluate = || policies.answer(&input).unwrap_or_default();
        Ok(Measured {
            decision: measure(arguments.iterations, decide),
            evaluation: measure(arguments.iterations, evaluate),
        })
    })??;
    print(&match arguments.output {
        PolicyOutput::Json => format!("{}\n", serde_json::to_string_pretty(&measured)?),
        PolicyOutput::Text => for_people(&measured),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs it a tenth as often first, which does not count.
fn measure(iterations: u32, run: impl Fn() -> String) -> Figures {
    for _ in 0..iterations.div_ceil(10) {
        std::hint::black_box(run());
    }
    let mut times: Vec<u64> = Vec::new();
    for _ in 0..iterations {
        let begun = Instant::now();
        std::hint::black_box(run());
        times.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
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
        iterations,
        p10_ns: at(10),
        p50_ns: at(50),
        p99_ns: at(99),
        mean_ns: mean,
        per_second: 1_000_000_000 / mean.max(1),
    }
}

fn for_people(measured: &Measured) -> String {
    let mut text = "\tp10\tp50\tp99\tmean\tper second\n".to_owned();
    for (name, figures) in [("decision", &measured.decision), ("evaluation", &measured.evaluation)] {
        let Figures {
            p10_ns,
            p50_ns,
            p99_ns,
            mean_ns,
            per_second,
            ..
        } = figures;
        let micros = [p10_ns, p50_ns, p99_ns, mean_ns].map(|nanoseconds| format!("{} us", nanoseconds / 1_000));
        let _ = writeln!(text, "{name}\t{}\t{per_second}", micros.join("\t"));
    }
    text
}
