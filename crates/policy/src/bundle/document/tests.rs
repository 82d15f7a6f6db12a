use super::*;

fn canonical(document: &Document) -> String {
    let mut text = Vec::new();
    document.canonical(&mut |piece| text.extend_from_slice(piece));
    String::from_utf8(text).unwrap()
}

fn json(text: &str) -> String {
    canonical(&Document::from_json(text).unwrap())
}

fn yaml(text: &str) -> String {
    canonical(&Document::from_yaml(text).unwrap())
}

#[test]
fn white_space_and_order_of_keys_do_not_count_but_the_text_of_numbers_does() {
    for (text, expected) in [
        (
            r#" { "b" : 1 , "a" : [ 1.0, 1e3, -0, 1 ] } "#,
            r#"{"a":[1.0,1e3,-0,1],"b":1}"#,
        ),
        ("\n[true, false, null, {}, []]", "[true,false,null,{},[]]"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        (r#"{"ab":1,"a":2,"B":3,"ä":4}"#, r#"{"B":3,"a":2,"ab":1,"ä":4}"#),
    ] {
        assert_eq!(json(text), expected);
    }
}

#[test]
fn strings_have_one_spelling() {
    for (text, expected) in [
        (r#""\u0041\/<>&""#, r#""A/<>&""#),
        (r#""\b\f\n\r\t\"\\""#, r#""\b\f\n\r\t\"\\""#),
        (r#""\u0000\u001f\u007f""#, "\"\\u0000\\u001f\u{7f}\""),
        ("\"\u{2028}\u{2029}\u{1f600}\"", "\"\\u2028\\u2029\u{1f600}\""),
        (r#""\ud83d\ude00""#, "\"\u{1f600}\""),
    ] {
        assert_eq!(json(text), expected);
    }
}

#[test]
fn json_that_two_readers_may_read_apart_is_refused() {
    for text in [
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"[{"b":{"a":1,"a":1}}]"#,
        "{} {}",
        "{}x",
        "",
        "\u{feff}{}",
        r#""\ud800""#,
        "1e999",
        "01",
        "{'a':1}",
        "[1,]",
        "NaN",
        "// x\n{}",
    ] {
        assert!(
            matches!(Document::from_json(text), Err(DocumentError::Json { .. })),
            "{text}"
        );
    }
}

#[test]
fn bounds_hold() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(Document::from_json(&nested(33)).is_ok());
    assert_eq!(Document::from_json(&nested(34)), Err(DocumentError::TooDeep));
    assert_eq!(Document::from_json(&nested(1_000_000)), Err(DocumentError::TooDeep));
    let wide = |values: usize| format!("[{}1]", "1,".repeat(values - 1));
    assert!(Document::from_json(&wide(MAX_VALUES - 1)).is_ok());
    assert_eq!(Document::from_json(&wide(MAX_VALUES)), Err(DocumentError::TooMany));
    assert!(
        Document::from_json(&wide(2 * MAX_VALUES))
            .unwrap_err()
            .to_string()
            .contains("more than 250000 values")
    );
    assert!(matches!(
        Document::from_yaml(&"- ".repeat(1_000)),
        Err(DocumentError::Yaml { .. })
    ));
}

#[test]
fn yaml_is_hashed_as_the_json_it_means() {
    for (text, expected) in [
        (
            "b: 1\na: [x, \"y\", null, true]\n",
            r#"{"a":["x","y",null,true],"b":1}"#,
        ),
        (
            "a: 1.5\nb: 1.0\nc: 1e30\nd: 1e-7\ne: 0.000001\n",
            r#"{"a":1.5,"b":1,"c":1e+30,"d":1e-7,"e":0.000001}"#,
        ),
        (
            "a: -3\nb: 18446744073709551615\n",
            r#"{"a":-3,"b":18446744073709551615}"#,
        ),
        ("# only\na:\n  b: text here\n", r#"{"a":{"b":"text here"}}"#),
        (r#"{"a": 1.0}"#, r#"{"a":1.0}"#),
    ] {
        assert_eq!(yaml(text), expected, "{text}");
    }
}

#[test]
fn yaml_that_is_no_json_is_refused() {
    for text in [
        "a: 1\na: 2\n",
        "a: .inf\n",
        "a: [",
        "? [a, b]\n: 1\n",
        "a: 1\n---\nb: 2\n",
    ] {
        assert!(
            matches!(Document::from_yaml(text), Err(DocumentError::Yaml { .. })),
            "{text}"
        );
    }
}

#[test]
fn aliases_of_yaml_stand_for_few_values_only() {
    let doubled = |levels: usize| {
        (1..levels).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| {
            format!("{text}a{n}: &a{n} [*a{p}, *a{p}]\n", p = n - 1)
        })
    };
    assert!(Document::from_yaml(&doubled(5)).is_ok());
    // Far below what would take long or much memory, so that the bound is what refuses it.
    for levels in [14, 30] {
        assert!(
            matches!(Document::from_yaml(&doubled(levels)), Err(DocumentError::Yaml { .. })),
            "{levels}"
        );
    }
}

#[test]
fn values_are_what_the_text_says() {
    let document = Document::from_json(r#"{"a":[1,-2,1.5,"x",null,true]}"#).unwrap();
    assert_eq!(
        document.value(),
        serde_json::json!({"a": [1, -2, 1.5, "x", null, true]})
    );
}
