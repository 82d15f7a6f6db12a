//! Results of tests, as text, JSON and JUnit's XML.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Coverage, Outcome, Tested};

/// For people: what does not pass, then a summary. With times of all, if asked.
pub fn text(tests: &[Tested], coverage: Option<&Coverage>, all: bool) -> String {
    let mut text = String::new();
    for test in tests
        .iter()
        .filter(|test| all || test.outcome.is_bad() || test.outcome == Outcome::Skip)
    {
        let place = if test.line == 0 {
            test.file.clone()
        } else {
            format!("{}:{}", test.file, test.line)
        };
        let micros = test.nanoseconds / 1_000;
        let _ = writeln!(text, "{place}: {}: {} ({micros} us)", test.name, test.outcome);
    }
    let count = |which: fn(&Outcome) -> bool| tests.iter().filter(|test| which(&test.outcome)).count();
    let total: u64 = tests.iter().map(|test| test.nanoseconds).sum();
    let _ = writeln!(
        text,
        "{} passed, {} failed, {} errors, {} skipped; {} us on average",
        count(|outcome| *outcome == Outcome::Pass),
        count(|outcome| matches!(outcome, Outcome::Fail(_))),
        count(|outcome| matches!(outcome, Outcome::Error(_))),
        count(|outcome| *outcome == Outcome::Skip),
        total / 1_000 / u64::try_from(tests.len().max(1)).unwrap_or(1),
    );
    if let Some(coverage) = coverage {
        let _ = writeln!(text, "{}", of_coverage(coverage));
        for (file, lines) in &coverage.not_covered {
            let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "  not reached: {file}: {}", lines.join(", "));
        }
    }
    text
}

/// In a line.
pub fn of_coverage(coverage: &Coverage) -> String {
    let Coverage { covered, lines, .. } = coverage;
    format!("{:.1} % of lines reached ({covered} of {lines})", coverage.percent())
}

/// In the form of `opa test --format json`.
pub fn opa(tests: &[Tested]) -> Value {
    let one = |test: &Tested| {
        let (package, name) = test.name.rsplit_once('.').unwrap_or(("", &test.name));
        let mut result = json!({
            "location": {"file": test.file, "row": test.line, "col": 1},
            "package": package,
            "name": name,
            "duration": test.nanoseconds,
        });
        match &test.outcome {
            Outcome::Pass => {}
            Outcome::Skip => result["skip"] = json!(true),
            Outcome::Fail(why) => {
                result["fail"] = json!(true);
                result["output"] = json!(why);
            }
            Outcome::Error(why) => result["error"] = json!({"message": why}),
        }
        result
    };
    Value::Array(tests.iter().map(one).collect())
}

/// In the form that pipelines show.
#[expect(clippy::cast_precision_loss, reason = "seconds for people")]
pub fn junit(tests: &[Tested]) -> String {
    let count = |which: fn(&Outcome) -> bool| tests.iter().filter(|test| which(&test.outcome)).count();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites><testsuite name=\"policies\" tests=\"{}\" \
         failures=\"{}\" errors=\"{}\" skipped=\"{}\">\n",
        tests.len(),
        count(|outcome| matches!(outcome, Outcome::Fail(_))),
        count(|outcome| matches!(outcome, Outcome::Error(_))),
        count(|outcome| *outcome == Outcome::Skip),
    );
    for test in tests {
        let seconds = test.nanoseconds as f64 / 1e9;
        let _ = write!(
            text,
            "<testcase classname=\"{}\" name=\"{}\" time=\"{seconds:.6}\">",
            escaped(&test.file),
            escaped(&test.name)
        );
        let _ = match &test.outcome {
            Outcome::Pass => Ok(()),
            Outcome::Skip => write!(text, "<skipped/>"),
            Outcome::Fail(why) => write!(text, "<failure>{}</failure>", escaped(why)),
            Outcome::Error(why) => write!(text, "<error>{}</error>", escaped(why)),
        };
        text.push_str("</testcase>\n");
    }
    text.push_str("</testsuite></testsuites>\n");
    text
}

/// Without what XML would misunderstand; control characters have no place in it at all.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            char if char.is_control() && char != '\n' && char != '\t' => safe.push(char::REPLACEMENT_CHARACTER),
            char => safe.push(char),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests() -> Vec<Tested> {
        let test = |name: &str, outcome| Tested {
            name: format!("data.a_test.{name}"),
            file: "a_test.rego".to_owned(),
            line: 3,
            outcome,
            nanoseconds: 1_000,
        };
        vec![
            test("test_a", Outcome::Pass),
            test("test_b", Outcome::Fail("1 < \"2\"\u{1}".to_owned())),
            test("test_c", Outcome::Error("no".to_owned())),
            test("todo_test_d", Outcome::Skip),
        ]
    }

    #[test]
    fn each_form_tells_what_failed() {
        let text = text(&tests(), None, false);
        assert!(text.contains("a_test.rego:3: data.a_test.test_b: FAIL: 1 <"), "{text}");
        assert!(
            text.ends_with("1 passed, 1 failed, 1 errors, 1 skipped; 1 us on average\n"),
            "{text}"
        );
        let json = opa(&tests());
        assert_eq!(
            (&json[1]["package"], &json[1]["name"]),
            (&json!("data.a_test"), &json!("test_b"))
        );
        assert_eq!(
            (&json[1]["fail"], &json[3]["skip"], &json[0]["fail"]),
            (&json!(true), &json!(true), &Value::Null)
        );
        let junit = junit(&tests());
        assert!(
            junit.contains("<failure>1 &lt; &quot;2&quot;\u{fffd}</failure>"),
            "{junit}"
        );
        assert!(
            junit.contains("tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\""),
            "{junit}"
        );
    }
}
