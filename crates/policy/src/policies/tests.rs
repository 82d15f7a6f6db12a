use std::collections::BTreeMap;

use super::*;
use crate::bundle::Files;
use crate::decision::Verdict;
use crate::request::{Namespace, Source, User};

fn policies(modules: &[(&str, &str)], data: &Value) -> Result<Policies, LoadError> {
    let mut files = Files::new();
    for (name, text) in modules {
        let text = format!("package {name}\nimport rego.v1\n{text}\n");
        files
            .add(&format!("{name}.rego"), text.into_bytes())
            .expect("it is a file");
    }
    files
        .add("data.json", data.to_string().into_bytes())
        .expect("it is a file");
    let bundle = Bundle::open_unverified("tested", files).expect("it is a bundle");
    Policies::load(&[bundle], Catalogue::builtin())
}

fn request(object: &Value) -> Request {
    Request {
        operation: Operation::Create,
        dry_run: false,
        source: Source::Admission,
        user: None,
        namespace: Namespace {
            name: "shop".to_owned(),
            labels: BTreeMap::from([("intent.example.com/team".to_owned(), "payments".to_owned())]),
        },
        object: object.clone(),
        old: None,
    }
}

fn decide(policies: &Policies, request: &Request) -> Decision {
    let planner = |_: &Value, _: &str| Ok(vec![json!({"kind": "StatefulSet", "none": null})]);
    policies.evaluate(request, &planner, &[], Timestamp::UNIX_EPOCH)
}

fn rule(id: &str, condition: &str) -> String {
    format!(
        "violations contains v if {{ {condition}; v := {{\"id\": \"{id}\", \"severity\": \"low\", \"action\": \"deny\", \
         \"path\": \"spec\", \"message\": \"no\"}} }}"
    )
}

#[test]
fn rules_of_all_levels_of_the_namespace_add_up_and_the_level_is_that_of_the_package() {
    let policies = policies(
        &[
            ("database.naming", &rule("naming.x", "true")),
            ("database.team.payments.naming", &rule("naming.x", "true")),
            ("database.team.search.naming", &rule("naming.x", "true")),
            ("database.naming_test", &rule("naming.x", "true")),
            ("elsewhere.naming", &rule("naming.x", "true")),
        ],
        &json!({}),
    )
    .expect("they load");
    let decision = decide(&policies, &request(&json!({})));
    let levels: Vec<&str> = decision
        .violations
        .iter()
        .map(|violation| violation.level.as_str())
        .collect();
    assert_eq!(
        (decision.verdict, levels),
        (Verdict::Deny, vec!["global", "team/payments"])
    );
}

#[test]
fn rules_about_users_are_asked_only_where_there_is_one() {
    let text = rule("who.x", "input.user.name != \"admin\"").replace("violations contains", "user_violations contains");
    let policies = policies(&[("database.who", &text)], &json!({})).expect("they load");
    let mut request = request(&json!({}));
    assert!(decide(&policies, &request).violations.is_empty());
    request.user = Some(User {
        name: "eve".to_owned(),
        ..User::default()
    });
    assert_eq!(decide(&policies, &request).verdict, Verdict::Deny);
}

#[test]
fn rules_see_defaults_children_and_settings_and_no_nulls() {
    let seen = "input.object.spec.deletionPolicy == \"Retain\"; not input.object.spec.backupPolicy; \
                input.children[0] == {\"kind\": \"StatefulSet\"}; not input.object.status; \
                input.settings.max.cpu == {\"value\": 2000, \"text\": \"2\", \"level\": \"team/payments\"}; \
                input.levels[1] == {\"kind\": \"team\", \"name\": \"payments\"}";
    let data = json!({"database": {"team": {"payments": {"settings": {"max": {"cpu": "2"}}}}}});
    let policies = policies(&[("database.seen", &rule("seen.x", seen))], &data).expect("they load");
    let object = json!({"spec": {"backupPolicy": null}, "status": {"phase": "x"}});
    assert_eq!(decide(&policies, &request(&object)).verdict, Verdict::Deny);
}

#[test]
fn what_cannot_be_asked_denies_and_says_so() {
    for (text, words) in [
        (rule("odd.x", "input.object.a + 1 == 2"), "cannot be asked"),
        (rule("odd.x", "strings.count(input.object.a, \"\") > 0"), "panic"),
        (
            rule("odd.x", "true").replace("\"low\"", "\"awful\""),
            "says what is no violation",
        ),
        (
            rule("odd.x", "true").replace("\"id\"", "\"level\": \"x\", \"id\""),
            "says what is no violation",
        ),
        ("violations contains 7".to_owned(), "says what is no violation"),
    ] {
        let policies = policies(&[("database.odd", &text)], &json!({})).expect("they load");
        let decision = decide(&policies, &request(&json!({"a": "x"})));
        assert_eq!(decision.verdict, Verdict::Error, "{text}: {decision:?}");
        assert!(!decision.verdict.is_allowed());
        assert!(decision.violations[0].message.contains(words), "{text}: {decision:?}");
    }
}

#[test]
fn a_rule_without_an_end_is_stopped() {
    let list = "l := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n";
    let loops: Vec<String> = (0..12).map(|number| format!("some i{number} in l")).collect();
    let text = format!("{list}{}", rule("odd.x", &loops.join("; ")));
    let policies = policies(&[("database.odd", &text)], &json!({})).expect("they load");
    let begun = Instant::now();
    let decision = decide(&policies, &request(&json!({})));
    assert_eq!(decision.verdict, Verdict::Error);
    assert!(decision.violations[0].message.contains("time limit"), "{decision:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn nothing_to_ask_is_no_policy() {
    assert!(matches!(policies(&[], &json!({})), Err(LoadError::NoRules { .. })));
    assert!(matches!(
        policies(&[("database.lib", "x := 1")], &json!({})),
        Err(LoadError::NoRules { .. })
    ));
    let settings = json!({"database": {"settings": {"max": {"cpu": "much"}}}});
    let loaded = policies(&[("database.x", &rule("x.x", "true"))], &settings);
    assert!(matches!(loaded, Err(LoadError::Settings(_))));
}

/// An update, by eve.
fn update(object: &Value, old: &Value) -> Request {
    Request {
        operation: Operation::Update,
        user: Some(User {
            name: "eve".to_owned(),
            ..User::default()
        }),
        old: Some(old.clone()),
        ..request(object)
    }
}

/// A global rule with these words and this measure (Rego), and what it does.
fn measured(condition: &str, action: &str, measure: &str) -> String {
    format!(
        "violations contains {{\"id\": \"size.cpu\", \"severity\": \"low\", \"action\": \"{action}\", \"path\": \"spec\", \
         \"message\": \"too much\", \"measure\": {measure}}} if {{ {condition} }}"
    )
}

#[test]
fn an_update_passes_if_it_makes_nothing_worse() {
    let size = "n := input.object.spec.n; n > 4";
    let rule = measured(size, "deny", "input.object.spec.n");
    let policies = policies(&[("database.size", &rule)], &json!({})).expect("they load");
    let of = |n: i64| json!({"spec": {"n": n}});
    for (from, to, action) in [
        (8, 8, Some(Action::Warn)),
        (8, 6, Some(Action::Warn)),
        (8, 4, None),
        (8, 9, Some(Action::Deny)),
        (4, 8, Some(Action::Deny)),
    ] {
        let decision = decide(&policies, &update(&of(to), &of(from)));
        let found = decision.violations.first().map(|violation| violation.action);
        assert_eq!(found, action, "{from} to {to}");
        assert_eq!(
            decision.verdict == Verdict::Deny,
            action == Some(Action::Deny),
            "{from} to {to}"
        );
    }
}

#[test]
fn what_depends_on_who_does_what_was_not_so_before() {
    let of_user =
        rule("who.x", "input.user.name != \"dba\"").replace("violations contains", "user_violations contains");
    let frozen = rule("freeze.x", "input.operation == \"UPDATE\"");
    let quiet = rule("quiet.x", "input.user.name != \"dba\"");
    for (package, text) in [
        ("database.who", of_user),
        ("database.freeze", frozen),
        ("database.quiet", quiet),
    ] {
        let policies = policies(&[(package, &text)], &json!({})).expect("they load");
        let request = update(&json!({"spec": {"n": 8}}), &json!({"spec": {"n": 1}}));
        assert_eq!(decide(&policies, &request).verdict, Verdict::Deny, "{package}");
    }
}

#[test]
fn what_was_a_warning_before_or_of_another_level_excuses_nothing() {
    let of = |n: i64| json!({"spec": {"n": n}});
    let grows = format!(
        "{}\n{}",
        measured("input.object.spec.n <= 4", "warn", "1"),
        measured("input.object.spec.n > 4", "deny", "1"),
    );
    let one = policies(&[("database.size", &grows)], &json!({})).expect("they load");
    assert_eq!(decide(&one, &update(&of(8), &of(4))).verdict, Verdict::Deny);
    let two = policies(
        &[
            (
                "database.size",
                &measured("n := input.object.spec.n; n > 4", "deny", "input.object.spec.n - 4"),
            ),
            (
                "database.team.payments.size",
                &measured("n := input.object.spec.n; n > 0", "warn", "input.object.spec.n"),
            ),
        ],
        &json!({}),
    )
    .expect("they load");
    assert_eq!(decide(&two, &update(&of(8), &of(4))).verdict, Verdict::Deny);
}

#[test]
fn rules_about_labels_are_asked_also_where_the_spec_stays() {
    let policies = policies(
        &[(
            "database.owned",
            &rule("owned.x", "not input.object.metadata.labels.owner"),
        )],
        &json!({}),
    )
    .expect("they load");
    let with = json!({"metadata": {"labels": {"owner": "ann"}}, "spec": {}});
    let without = json!({"metadata": {"labels": {"other": "x"}}, "spec": {}});
    assert_eq!(decide(&policies, &update(&without, &with)).verdict, Verdict::Deny);
    assert_eq!(decide(&policies, &update(&without, &without)).verdict, Verdict::Warn);
}

#[test]
fn of_metadata_rules_see_what_is_declared_whoever_asks() {
    let metadata = json!({
        "name": "orders", "namespace": "shop", "uid": "u", "generation": 3, "resourceVersion": "7", "finalizers": ["f"],
        "managedFields": [{}], "creationTimestamp": "t", "labels": {"a": "b", "intent.example.com/bucket": "7"},
        "annotations": {"c": "d", "kubectl.kubernetes.io/last-applied-configuration": "{}", "intent.example.com/fence": "1"},
    });
    let declared = json!({"name": "orders", "namespace": "shop", "labels": {"a": "b"}, "annotations": {"c": "d"}});
    let policies = policies(&[("database.x", &rule("x.x", "true"))], &json!({})).expect("they load");
    let planner = |_: &Value, _: &str| Ok(Vec::new());
    let of = |metadata: &Value| json!({"metadata": metadata, "spec": {}});
    let input = policies.input(&request(&of(&metadata)), &planner, Timestamp::UNIX_EPOCH);
    assert_eq!(input["object"]["metadata"], declared);
    assert!(are_same(&of(&metadata), &of(&declared)));
    assert!(!are_same(
        &of(&json!({"labels": {"a": "c"}})),
        &of(&json!({"labels": {"a": "b"}}))
    ));
}

#[test]
fn an_end_is_never_held_up() {
    let policies = policies(&[("database.x", "violations contains 7")], &json!({})).expect("they load");
    let leaving = |n: i64| json!({"metadata": {"deletionTimestamp": "t", "finalizers": [n]}, "spec": {}});
    assert_eq!(
        decide(&policies, &update(&leaving(1), &leaving(2))).verdict,
        Verdict::Allow
    );
    // A file can say anything.
    let of_file = Request {
        source: Source::Cli,
        ..update(&leaving(1), &leaving(2))
    };
    assert_eq!(decide(&policies, &of_file).verdict, Verdict::Error);
    // Who writes a time of deletion himself is not leaving.
    let staying = json!({"spec": {}});
    assert_eq!(
        decide(&policies, &update(&leaving(1), &staying)).verdict,
        Verdict::Error
    );
    assert_eq!(decide(&policies, &request(&leaving(1))).verdict, Verdict::Error);
}

#[test]
fn bundles_of_one_root_are_not_loaded_together() {
    let bundle = |name: &str, root: &str| {
        let mut files = Files::new();
        let module = format!(
            "package {}.{name}\nimport rego.v1\nviolations contains 1 if false",
            root.replace('/', ".")
        );
        let manifest = json!({"roots": [root]}).to_string();
        for (file, text) in [
            (format!("{root}/{name}.rego"), module),
            (".manifest".to_owned(), manifest),
        ] {
            files.add(&file, text.into_bytes()).expect("it is a file");
        }
        Bundle::open_unverified(name, files).expect("it is a bundle")
    };
    for (one, other, refused) in [
        ("database", "database", true),
        ("database/team", "database", true),
        ("database", "other", false),
        ("database", "databases", false),
    ] {
        let bundles = [bundle("a", one), bundle("b", other)];
        let loaded = engine_of(&bundles, Tests::LeaveOut);
        assert_eq!(matches!(loaded, Err(LoadError::Roots { .. })), refused, "{one} {other}");
        let findings = crate::gate::inspect(&bundles);
        let found = findings.iter().any(|finding| finding.problem.contains("overlap"));
        assert_eq!(found, refused, "{findings:?}");
    }
}
