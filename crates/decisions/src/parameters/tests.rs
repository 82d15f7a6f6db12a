use policy::log::{Operation, Source, Verdict};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

#[test]
fn nothing_asked_is_everything() {
    assert_eq!(read(""), Ok(Filter::default()));
    assert_eq!(write(&Filter::default()), "");
}

#[test]
fn every_parameter_is_read() {
    let query = "user=system%3Aserviceaccount%3Aci%3Adeploy&namespace=shop&name=orders&verdict=deny\
                 &rule=governance.high-availability&operation=CREATE&source=admission&bundle=v42\
                 &from=2026-11-28T12:00:00Z&to=2026-11-28T14:00:00%2B01:00&limit=1000\
                 &id=0190163d-8694-739b-aea5-966c26f8ad91&cursor=17.0190163d-8694-739b-aea5-966c26f8ad91";
    let id: Uuid = "0190163d-8694-739b-aea5-966c26f8ad91".parse().unwrap();
    let expected = Filter {
        decision_id: Some(id),
        user: Some("system:serviceaccount:ci:deploy".to_owned()),
        namespace: Some("shop".to_owned()),
        allowed: None,
        name: Some("orders".to_owned()),
        verdict: Some(Verdict::Deny),
        rule: Some("governance.high-availability".to_owned()),
        operation: Some(Operation::Create),
        source: Some(Source::Admission),
        bundle: Some("v42".to_owned()),
        from: Some("2026-11-28T12:00:00Z".parse().unwrap()),
        to: Some("2026-11-28T13:00:00Z".parse().unwrap()),
        limit: 1000,
        cursor: Some(Cursor { position: 17, id }),
    };
    assert_eq!(read(query), Ok(expected));
    // And all that there are were asked for.
    assert_eq!(query.matches('=').count(), ALL.len());
}

#[test]
fn what_is_unknown_is_named_with_what_there_is() {
    for query in ["usr=eve", "User=eve", "allowed=shop", "=x", "limit[]=3", "decisionId=1"] {
        let error = read(query).unwrap_err();
        assert!(matches!(error, ParameterError::Unknown(_)), "{query}: {error}");
        for (name, _) in ALL {
            assert!(error.to_string().contains(name), "{query}: {error}");
        }
    }
    assert_eq!(read("user=a&user=b"), Err(ParameterError::Twice("user")));
}

#[test]
fn a_bad_value_is_named_with_what_it_may_be() {
    for (query, word) in [
        ("namespace=", "namespace"),
        ("namespace=Shop", "small letters"),
        ("namespace=shop/x", "small letters"),
        ("namespace=%00", "namespace"),
        ("namespace", "namespace"),
        ("user=", "user"),
        ("user=a%0Ab", "user"),
        ("name=", "name"),
        ("verdict=denied", "allow, warn, deny or error"),
        ("verdict=DENY", "allow, warn, deny or error"),
        ("operation=create", "CREATE, UPDATE or DELETE"),
        ("source=webhook", "admission, reconcile, audit or cli"),
        ("from=yesterday", "2026-11-28T12:00:00Z"),
        ("to=2026-11-28", "2026-11-28T12:00:00Z"),
        ("from=2026-11-28T12:00:00", "2026-11-28T12:00:00Z"),
        ("limit=0", "1 to 1000"),
        ("limit=1001", "1 to 1000"),
        ("limit=-1", "1 to 1000"),
        ("limit=ten", "1 to 1000"),
        ("id=7", "UUID"),
        ("cursor=1", "`next`"),
    ] {
        let error = read(query).unwrap_err();
        let name = query.split('=').next().unwrap();
        let text = error.to_string();
        assert!(
            matches!(error, ParameterError::Value { name: wrong, .. } if wrong == name),
            "{query}: {text}"
        );
        assert!(text.contains(word), "{query}: {text}");
    }
    let long = format!("user={}", "a".repeat(VALUE_CHARS + 1));
    assert!(read(&long).unwrap_err().to_string().len() < 300);
}

#[test]
fn every_word_that_is_offered_is_taken() {
    let offered = |name: &str| {
        let (_, expected) = ALL.iter().find(|(known, _)| *known == name).unwrap();
        expected
            .replace(" or ", ", ")
            .split(", ")
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for name in ["verdict", "operation", "source"] {
        for value in offered(name) {
            let query = format!("{name}={value}");
            assert_eq!(write(&read(&query).unwrap()), query);
        }
    }
}

fn filters() -> impl Strategy<Value = Filter> {
    let texts = || proptest::option::of("[^\\x00-\\x1f\\x7f-\\x9f]{1,20}");
    let times = || proptest::option::of(0_i64..4_000_000_000);
    let time = |second: i64| Timestamp::from_second(second).unwrap();
    let words = (
        proptest::option::of(prop_oneof![Just(Verdict::Allow), Just(Verdict::Error)]),
        proptest::option::of(prop_oneof![Just(Operation::Update), Just(Operation::Delete)]),
        proptest::option::of(prop_oneof![Just(Source::Cli), Just(Source::Audit)]),
    );
    (
        (texts(), texts(), texts(), texts()),
        proptest::option::of("[a-z]([-a-z0-9]{0,8}[a-z0-9])?"),
        words,
        (times(), times()),
        proptest::option::of((any::<i64>(), any::<u128>())),
        0..=MAX_LIMIT,
    )
        .prop_map(
            move |((user, name, rule, bundle), namespace, words, times, cursor, limit)| Filter {
                decision_id: cursor.map(|(_, id)| Uuid::from_u128(id)),
                user,
                namespace,
                allowed: None,
                name,
                verdict: words.0,
                rule,
                operation: words.1,
                source: words.2,
                bundle,
                from: times.0.map(time),
                to: times.1.map(time),
                limit,
                cursor: cursor.map(|(position, id)| Cursor {
                    position,
                    id: Uuid::from_u128(id),
                }),
            },
        )
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(filter in filters()) {
        prop_assert_eq!(read(&write(&filter)), Ok(filter));
    }

    #[test]
    fn no_text_ends_the_process(query in ".*") {
        drop(read(&query));
    }
}
