use policy::decision::{Decision, Severity};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn violation(id: &str, path: &str, message: &str) -> Violation {
    Violation {
        id: id.to_owned(),
        level: "global".to_owned(),
        severity: Severity::High,
        action: Action::Deny,
        path: path.to_owned(),
        message: message.to_owned(),
        measure: None,
    }
}

fn decided(verdict: Verdict, violations: Vec<Violation>, warnings: Vec<String>) -> Told {
    let bundle = |revision: &str| BundleRevision {
        revision: revision.to_owned(),
        digest: String::new(),
    };
    Told {
        id: "0193e5a4-0000-7000-8000-000000000001".parse().expect("a uuid"),
        decision: Decision {
            verdict,
            violations,
            warnings,
            exceptions: Vec::new(),
            bundles: BTreeMap::from([("base".to_owned(), bundle("v42")), ("more".to_owned(), bundle("7"))]),
        },
    }
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.to_json()).expect("JSON")
}

#[test]
fn a_denial_says_what_where_and_by_which_rule() {
    let mut noted = violation("cost.idle", "spec", "only noted");
    noted.action = Action::Audit;
    let violations = vec![
        violation(
            "governance.max-cpu",
            "spec.resources.limits.cpu",
            "\"9\" is more than \"4\"",
        ),
        violation("security.team", "", "no team\nis named"),
        noted,
    ];
    let decided = decided(Verdict::Deny, violations, vec!["careful".to_owned()]);
    assert_eq!(
        json_of(&Answer::decided("u-1".to_owned(), &decided)),
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {
                "uid": "u-1", "allowed": false,
                "status": {
                    "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
                    "code": 403, "reason": "Forbidden",
                    "message": "refused by 2 rules:\n\
                                - spec.resources.limits.cpu: \"9\" is more than \"4\" (governance.max-cpu)\n\
                                - no team is named (security.team)\n\
                                decision 0193e5a4-0000-7000-8000-000000000001",
                    "details": {"causes": [
                        {"field": "spec.resources.limits.cpu", "message": "\"9\" is more than \"4\"",
                         "reason": "governance.max-cpu"},
                        {"message": "no team is named", "reason": "security.team"},
                    ]},
                },
                "warnings": ["careful"],
                "auditAnnotations": {
                    "decision-id": "0193e5a4-0000-7000-8000-000000000001", "bundle-revision": "base=v42,more=7",
                    "verdict": "deny",
                },
            },
        })
    );
}

#[test]
fn what_is_allowed_has_no_status() {
    for verdict in [Verdict::Allow, Verdict::Warn] {
        let answer = Answer::decided("u-1".to_owned(), &decided(verdict, Vec::new(), Vec::new()));
        assert!(answer.is_allowed());
        let response = &json_of(&answer)["response"];
        assert_eq!(
            (&response["allowed"], &response["status"]),
            (&json!(true), &Value::Null)
        );
        assert_eq!(response["auditAnnotations"]["verdict"], verdict.to_string());
    }
    let passed = json_of(&Answer::passed("u-1".to_owned(), Passes::Deletion));
    assert_eq!(passed["response"]["allowed"], true);
    assert_eq!(
        passed["response"]["auditAnnotations"]["verdict"],
        "not asked: a deletion"
    );
}

#[test]
fn refusals_that_are_no_denials_have_codes_of_their_own() {
    let failed = Decision::failed("no policies are in force".to_owned());
    let decided = decided(Verdict::Error, failed.violations, Vec::new());
    for (answer, code, reason, words, retry) in [
        (
            Answer::decided("u-1".to_owned(), &decided),
            500,
            "PolicyError",
            "could not be asked:\n- no policies are in force (PolicyError)\ndecision 0193e5a4-0000-7000-8000-000000000001",
            None,
        ),
        (
            Answer::busy("u-1".to_owned(), Busy),
            429,
            "TooManyRequests",
            "ask again",
            Some(1),
        ),
        (Answer::late("u-1".to_owned()), 504, "Timeout", "in time", None),
        (
            Answer::odd("u-1".to_owned(), "no object"),
            400,
            "BadRequest",
            "no object",
            None,
        ),
    ] {
        assert!(!answer.is_allowed());
        let response = &json_of(&answer)["response"];
        let status = &response["status"];
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("u-1"), &json!(false)));
        assert_eq!((&status["code"], &status["reason"]), (&json!(code), &json!(reason)));
        assert!(
            status["message"].as_str().is_some_and(|text| text.contains(words)),
            "{status}"
        );
        assert_eq!(status["details"]["retryAfterSeconds"].as_i64(), retry, "{status}");
    }
}

proptest! {
    #[test]
    fn whatever_policies_say_fits_into_what_api_servers_take(
        texts in prop::collection::vec("(?s).{0,600}", 0..130),
        warnings in prop::collection::vec("(?s).{0,300}", 0..30),
    ) {
        let count = texts.len();
        let violations = texts.iter().map(|text| violation("a.b", text, text)).collect();
        let answer = json_of(&Answer::decided("u".to_owned(), &decided(Verdict::Deny, violations, warnings.clone())));
        let response = &answer["response"];
        let message = response["status"]["message"].as_str().expect("a message");
        prop_assert_eq!(message.lines().count(), 2 + count.min(LINES) + usize::from(count > LINES));
        prop_assert!(message.ends_with("\ndecision 0193e5a4-0000-7000-8000-000000000001"));
        prop_assert!(message.len() <= 64 << 10);
        let causes = response["status"]["details"]["causes"].as_array().expect("causes");
        prop_assert_eq!(causes.len(), count.min(CAUSES));
        let empty = Vec::new();
        let said: Vec<&str> = response["warnings"].as_array().unwrap_or(&empty).iter().filter_map(Value::as_str).collect();
        prop_assert!(said.len() <= WARNINGS && said.iter().map(|text| text.len()).sum::<usize>() <= 4_096);
        for text in said {
            prop_assert!(!text.is_empty() && text.len() <= 256 && !text.contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters(text in "(?s).{0,200}", bytes in 3_usize..120) {
        let short = cut(&text, bytes);
        prop_assert!(short.len() <= bytes);
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let kept = short.strip_suffix('…').unwrap_or(&short);
        prop_assert!(line.trim().starts_with(kept));
    }
}
