//! Policies that would harm whoever asks them.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{STAGING, VIOLATION, bundle, eval_text, good, written};

/// Rules that ask each other in a row.
fn row(length: usize) -> String {
    let rule = |number: usize| format!("r{number} := r{}\n", number - 1);
    format!("r0 := 1\n{}", (1..length).map(rule).collect::<String>())
}

/// A text that doubles forty times, behind a condition.
fn doubling(guard: &str) -> String {
    let line = |number: usize| format!("s{number} := concat(\"\", [s{0}, s{0}])\n", number - 1);
    format!(
        "{VIOLATION}{guard}\n s0 := \"0123456789abcdef\"\n{} s40 != \"\" }}",
        (1..=40).map(line).collect::<String>()
    )
}

/// Policies that would end, stop or fill a process, or that would allow by mistake: none is loaded, and soon.
#[test]
fn harmful_policies_are_refused() {
    for (name, rules, words) in [
        (
            "recursion of a function",
            "f(x) := f(x)\nviolations contains f(1)".to_owned(),
            "asks itself",
        ),
        (
            "recursion of rules",
            "violations contains x if some x in violations".to_owned(),
            "asks itself",
        ),
        (
            "brackets",
            format!("x := {}{}", "[".repeat(40), "]".repeat(40)),
            "nested deeper",
        ),
        (
            "a row of 600 rules",
            format!("{}violations contains r599", row(600)),
            "begins a row",
        ),
        (
            "a range",
            format!("{VIOLATION}; count(numbers.range(1, 1000000000)) > 1 }}"),
            "calls numbers.range",
        ),
        ("doubling", doubling(""), "what concat gives here may become"),
        // No odd input has that label.
        (
            "doubling that nothing reaches",
            doubling("; input.object.metadata.labels.special == \"x\""),
            "what concat gives here may become",
        ),
        (
            "many long texts",
            format!(
                "a := [\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\"]\n{VIOLATION}\n t := `{}`\n count([1 | some s in \
                 [concat(\"\", [t, h, i, j, k, l]) | some h in a; some i in a; some j in a; some k in a; some l in a]; s != \"\"]) > 0 }}",
                format!("{}\n", "x".repeat(999)).repeat(100)
            ),
            "takes more than",
        ),
        (
            "a loop",
            format!(
                "a := [1 | some _ in [1,2,3,4,5,6,7,8]]\n{VIOLATION}; {} }}",
                (0..12)
                    .map(|number| format!("some i{number} in a"))
                    .collect::<Vec<_>>()
                    .join("; ")
            ),
            "takes more than",
        ),
        ("no rule", "allow := true".to_owned(), "nothing that is asked uses"),
        ("no Rego", "violations contains".to_owned(), "odd.rego"),
        (
            "a function that there is not",
            format!("{VIOLATION}; is_bad(input.object) }}"),
            "calls is_bad, which there is not",
        ),
        (
            "a name that stands for nothing",
            format!("{VIOLATION}; inptu.object }}"),
            "inptu stands for nothing",
        ),
        (
            "the network",
            format!("{VIOLATION}; http.send({{}}) }}"),
            "calls http.send",
        ),
        (
            "what is no violation",
            "violations contains \"no\"".to_owned(),
            "says what is no violation",
        ),
        (
            "a type error",
            format!("{VIOLATION}; count(input.object.spec.engine) > 100; input.object.spec.x + 1 == 2 }}"),
            "cannot be asked",
        ),
    ] {
        let folder = bundle(&rules);
        let begun = Instant::now();
        let (code, decision) = eval_text(&good().to_string(), folder.path().to_str().expect("UTF-8"), &STAGING);
        let took = begun.elapsed();
        assert_eq!(
            (code, &decision["verdict"]),
            (Some(2), &json!("error")),
            "{name}: {decision}"
        );
        assert!(decision.to_string().contains(words), "{name}: {decision}");
        // Two seconds on a quiet machine; the limit of CPU is one.
        assert!(took < Duration::from_secs(12), "{name} took {took:?}");
    }
}

#[test]
fn data_over_a_rule_is_refused() {
    let folder = bundle(&format!("{VIOLATION} }}"));
    written(folder.path(), "database/data.json", "{\"odd\": {\"violations\": []}}");
    let (code, decision) = eval_text(&good().to_string(), folder.path().to_str().expect("UTF-8"), &STAGING);
    assert_eq!(code, Some(2), "data over a rule: {decision}");
    assert!(
        decision.to_string().contains("data stands at the place of the rule"),
        "{decision}"
    );
}
