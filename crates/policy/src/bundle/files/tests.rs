use super::*;

fn add(name: &str, content: &[u8]) -> Result<(), FileError> {
    Files::new().add(name, content.to_vec())
}

#[test]
fn names_that_a_bundle_may_have() {
    for name in [
        "a.rego",
        "database/security.rego",
        "database/environment/production/data.json",
        "data.json",
        "data.yaml",
        ".manifest",
        ".signatures.json",
        "a-b/c_d/x.y.rego",
    ] {
        assert_eq!(add(name, b""), Ok(()), "{name}");
    }
}

#[test]
fn names_that_leave_the_bundle_or_are_read_in_two_ways() {
    for name in [
        "",
        "/a.rego",
        "../a.rego",
        "a/../b.rego",
        "a/./b.rego",
        "a//b.rego",
        "a/",
        "a\\b.rego",
        "a b.rego",
        "a\0.rego",
        "ä.rego",
        "c:/a.rego",
        "a\n.rego",
        "a%2fb.rego",
    ] {
        assert!(matches!(add(name, b""), Err(FileError::Name { .. })), "{name:?}");
    }
    let long = format!("{}.rego", "a".repeat(100));
    assert!(matches!(add(&long, b""), Err(FileError::Name { .. })));
    let deep = format!("{}a.rego", "abcdefghi/".repeat(16));
    assert!(matches!(add(&deep, b""), Err(FileError::Name { .. })));
}

#[test]
fn names_that_are_no_files_of_a_bundle() {
    for name in [
        "policy.wasm",
        "plan.json",
        "patch.json",
        "a/.manifest",
        "a/.signatures.json",
        "signatures.json",
        "data.yml",
        "README.md",
        ".rego",
        ".hidden.rego",
        ".git/a.rego",
        "x.manifest",
    ] {
        assert_eq!(add(name, b""), Err(FileError::Unexpected { name: name.to_owned() }));
    }
}

#[test]
fn bounds_hold() {
    let mut files = Files::new();
    for n in 0..MAX_FILES {
        files.add(&format!("a{n}.rego"), Vec::new()).unwrap();
    }
    assert!(matches!(
        files.add("b.rego", Vec::new()),
        Err(FileError::TooMany { .. })
    ));

    let mut files = Files::new();
    files.add("a.rego", vec![b'#'; MAX_UNPACKED_BYTES - 1]).unwrap();
    assert!(matches!(
        files.add("b.rego", vec![b'#'; 2]),
        Err(FileError::TooLarge { .. })
    ));
    files.add("b.rego", vec![b'#'; 1]).unwrap();
}

#[test]
fn duplicates_and_other_encodings_are_refused() {
    let mut files = Files::new();
    files.add("a.rego", Vec::new()).unwrap();
    assert!(matches!(
        files.add("a.rego", Vec::new()),
        Err(FileError::Duplicate { .. })
    ));
    assert_eq!(
        files.add("b.rego", vec![b'a', 0xff]),
        Err(FileError::NotUtf8 {
            name: "b.rego".to_owned(),
            at: 1
        })
    );
}

#[test]
fn the_digest_depends_on_every_name_and_byte_but_not_on_the_signature() {
    let of = |entries: &[(&str, &str)]| {
        let mut files = Files::new();
        for (name, content) in entries {
            files.add(name, content.as_bytes().to_vec()).unwrap();
        }
        files.digest()
    };
    let base = of(&[("a.rego", "x"), ("b.rego", "y")]);
    assert!(base.starts_with("sha256:") && base.len() == 7 + 64);
    assert_eq!(base, of(&[("b.rego", "y"), ("a.rego", "x")]));
    assert_eq!(
        base,
        of(&[("a.rego", "x"), ("b.rego", "y"), (".signatures.json", "{}")])
    );
    for other in [
        of(&[("a.rego", "x"), ("b.rego", "z")]),
        of(&[("a.rego", "x"), ("c.rego", "y")]),
        of(&[("a.rego", "x")]),
        of(&[("a.rego", "xb.rego"), ("b.rego", "")]),
    ] {
        assert_ne!(base, other);
    }
}

#[test]
fn leaving_tests_out_takes_a_signature_over_them_away() {
    let mut files = Files::new();
    files.add("a.rego", Vec::new()).unwrap();
    files.add(".signatures.json", Vec::new()).unwrap();
    assert_eq!(files.without_tests(), files);
    files.add("a_test.rego", Vec::new()).unwrap();
    assert_eq!(
        files.without_tests().iter().map(|(name, _)| name).collect::<Vec<_>>(),
        ["a.rego"]
    );
}
