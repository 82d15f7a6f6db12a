use proptest::prelude::*;
use serde_json::json;

use super::*;

fn database(cpu: &str) -> Value {
    json!({
        "apiVersion": "intent.example.com/v1", "kind": "Database", "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {"engine": "postgresql", "resources": {"requests": {"cpu": cpu}}},
    })
}

fn review(operation: &str, object: &Value, old: &Value) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": KIND,
        "request": {
            "uid": "u-1", "operation": operation, "namespace": "shop", "name": "orders", "dryRun": true,
            "kind": {"group": GROUP, "version": "v1", "kind": "Database"},
            "resource": {"group": GROUP, "version": "v1", "resource": PLURAL},
            "userInfo": {"username": "eve", "uid": "7", "groups": ["staff", "system:authenticated"], "extra": {"a": ["b"]}},
            "object": object, "oldObject": old, "options": {},
        },
    })
}

fn question(review: &Value) -> Question {
    let read = read(review.to_string().as_bytes()).expect("it has a uid");
    assert_eq!(read.uid, "u-1");
    read.question
}

fn passes(review: &Value) -> Option<Passes> {
    match question(review) {
        Question::Passes(why) => Some(why),
        Question::Asks(_) => None,
        Question::Odd(why) => panic!("{why}"),
    }
}

#[test]
fn a_question_has_all_that_policies_and_the_log_want_to_know() {
    let Question::Asks(asked) = question(&review("UPDATE", &database("2"), &database("1"))) else {
        panic!("it is asked");
    };
    let Asked {
        operation,
        dry_run,
        source,
        user,
        namespace,
        object,
        old,
        request_uid,
    } = *asked;
    assert_eq!(
        (operation, dry_run, source),
        (Operation::Update, true, Source::Admission)
    );
    let user = user.expect("a user");
    assert_eq!((user.name.as_str(), user.uid.as_deref()), ("eve", Some("7")));
    assert_eq!(user.groups, ["staff", "system:authenticated"]);
    assert_eq!((namespace.as_str(), request_uid.as_deref()), ("shop", Some("u-1")));
    assert_eq!((object, old), (database("2"), Some(database("1"))));
}

#[test]
fn only_what_cannot_be_mended_otherwise_passes_unasked() {
    let [one, two] = ["1", "2"].map(database);
    let mut labelled = one.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let mut stamped = one.clone();
    stamped["metadata"]["labels"] = json!({"intent.example.com/bucket": "7"});
    stamped["metadata"]["finalizers"] = json!(["intent.example.com/finalizer"]);
    let mut deleted = two.clone();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-11-28T00:00:00Z");
    let null = Value::Null;
    for (case, review, expected) in [
        ("a deletion", review("DELETE", &null, &one), Some(Passes::Deletion)),
        (
            "what the operator writes",
            review("UPDATE", &stamped, &one),
            Some(Passes::Untouched),
        ),
        ("labels", review("UPDATE", &labelled, &one), None),
        (
            "finalizers of what is being deleted",
            review("UPDATE", &deleted, &one),
            Some(Passes::BeingDeleted),
        ),
        ("another spec", review("UPDATE", &two, &one), None),
        ("a creation", review("CREATE", &one, &null), None),
        ("a creation beside what is there", review("CREATE", &one, &one), None),
        (
            "a creation that says it is being deleted",
            review("CREATE", &deleted, &null),
            None,
        ),
        (
            "no spec, before and after",
            review("UPDATE", &json!({}), &json!({})),
            None,
        ),
    ] {
        assert_eq!(passes(&review), expected, "{case}");
    }
}

#[test]
fn what_is_odd_is_refused_in_words() {
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 13] = [
        (
            |request| request["operation"] = json!("CONNECT"),
            "the operation CONNECT",
        ),
        (|request| request["operation"] = json!(7), "cannot be read"),
        (
            |request| request["resource"]["resource"] = json!("pods"),
            "not pods.intent.example.com",
        ),
        (|request| request["resource"] = Value::Null, "cannot be read"),
        (|request| request["userInfo"] = Value::Null, "cannot be read"),
        (|request| request["userInfo"] = json!({"groups": []}), "username"),
        (|request| request["object"] = Value::Null, "has no object"),
        (|request| request["object"] = json!([]), "object is no object"),
        (|request| request["oldObject"] = Value::Null, "has no oldObject"),
        (|request| request["namespace"] = json!(""), "names no namespace"),
        (|request| request["dryRun"] = json!("yes"), "cannot be read"),
        (
            |request| request["resource"] = json!([GROUP, PLURAL]),
            "resource cannot be read: a list",
        ),
        (
            |request| request["userInfo"] = json!(["eve", null, null]),
            "userInfo cannot be read: a list",
        ),
    ];
    for (change, words) in changes {
        let mut review = review("UPDATE", &database("2"), &database("1"));
        change(&mut review["request"]);
        match question(&review) {
            Question::Odd(why) => assert!(why.contains(words), "{why}"),
            other => panic!("{words}: {other:?}"),
        }
    }
}

#[test]
fn an_object_that_is_too_deep_is_refused_by_its_uid() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let text = review("CREATE", &json!("DEEP"), &Value::Null)
        .to_string()
        .replace("\"DEEP\"", &format!("{{\"spec\": {deep}}}"));
    let read = read(text.as_bytes()).expect("it has a uid");
    assert!(matches!(read.question, Question::Odd(why) if why.contains("object cannot be read")));
}

#[test]
fn what_has_no_uid_is_an_error_in_words() {
    for (body, words) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("null", "invalid type"),
        (r#"["admission.k8s.io/v1", "AdmissionReview", {"uid": "a"}]"#, "a list"),
        (
            r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": ["a"]}"#,
            "a list",
        ),
        ("\u{feff}{}", "expected value"),
        ("\u{0}", "expected value"),
        (
            r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#,
            "missing field `request`",
        ),
        (
            r#"{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "a"}}"#,
            "AdmissionReview of admission.k8s.io/v1beta1",
        ),
        (
            r#"{"apiVersion": "admission.k8s.io/v1", "kind": "Pod", "request": {"uid": "a"}}"#,
            "this is Pod",
        ),
        (
            r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": 7}}"#,
            "invalid type",
        ),
    ] {
        let error = read(body.as_bytes()).expect_err("it has no uid").to_string();
        assert!(error.contains(words), "{body}: {error}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![Just("UPDATE".to_owned()), Just("DELETE".to_owned()), ".{0,8}"].prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let key = prop_oneof![Just("spec".to_owned()), Just("metadata".to_owned()), "[a-z]{0,4}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_review_with_anything_in_place_of_one_field_passes_only_for_the_three_reasons(
        field in prop::sample::select(vec![
            "/request", "/request/uid", "/request/operation", "/request/resource", "/request/resource/group",
            "/request/namespace", "/request/userInfo", "/request/userInfo/groups", "/request/dryRun",
            "/request/object", "/request/oldObject", "/request/object/spec", "/request/object/metadata", "/kind",
        ]),
        value in any_json(),
    ) {
        let mut changed = review("UPDATE", &database("2"), &database("1"));
        *changed.pointer_mut(field).expect("it is there") = value;
        let request = &changed["request"];
        if let Ok(Review { question: Question::Passes(why), .. }) = read(changed.to_string().as_bytes()) {
            match why {
                Passes::Deletion => prop_assert_eq!(&request["operation"], "DELETE"),
                Passes::BeingDeleted => {
                    prop_assert!(request["object"]["metadata"]["deletionTimestamp"].is_string());
                }
                Passes::Untouched => {
                    prop_assert!(policy::policies::are_same(&request["object"], &request["oldObject"]));
                }
            }
        }
    }

    #[test]
    fn no_bytes_break_it(body in prop::collection::vec(any::<u8>(), 0..256)) {
        prop_assert!(read(&body).is_err());
    }
}
