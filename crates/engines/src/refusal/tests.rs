use super::*;

#[test]
fn secrets_are_masked() {
    for (case, text, secrets, expected) in [
        ("nothing secret", "all is well", vec![], "all is well"),
        (
            "whole value",
            "invalid value \"hunter22\"",
            vec!["hunter22"],
            "invalid value \"(hidden)\"",
        ),
        ("the longer one first", "abcdefgh", vec!["abcd", "abcdefgh"], "(hidden)"),
        (
            "as the engine quotes it",
            "near 'it''s me'",
            vec!["it's me"],
            "near '(hidden)'",
        ),
        (
            "as the engine escapes it",
            r#"near "a\"b\\c""#,
            vec![r#"a"b\c"#],
            r#"near "(hidden)""#,
        ),
        (
            "a short one hides its line",
            "port is 42\nall is well",
            vec!["42"],
            "(hidden)\nall is well",
        ),
        ("an empty one hides nothing", "all is well", vec![""], "all is well"),
    ] {
        assert_eq!(mask(text, &secrets), expected, "{case}");
    }
}
