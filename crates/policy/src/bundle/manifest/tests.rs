use super::*;

#[test]
fn a_whole_manifest_is_read_and_written() {
    let text = r#"{"revision":"v7","roots":["database","/other/part/"],"rego_version":1,
        "metadata":{"sequence":7,"expires":"2027-01-02T03:04:05Z","rollback_from":9,"owner":"platform"}}"#;
    let manifest = Manifest::parse(text).unwrap();
    let expected = Manifest {
        revision: "v7".to_owned(),
        roots: vec!["database".to_owned(), "other/part".to_owned()],
        rego_version: 1,
        metadata: Metadata {
            sequence: Some(7),
            expires: Some("2027-01-02T03:04:05Z".parse().unwrap()),
            rollback_from: Some(9),
            other: Map::from_iter([("owner".to_owned(), "platform".into())]),
        },
    };
    assert_eq!(manifest, expected);
    assert_eq!(Manifest::parse(&manifest.render()), Ok(expected));
}

#[test]
fn an_empty_manifest_owns_everything() {
    let manifest = Manifest::parse("{}").unwrap();
    assert_eq!(manifest, Manifest::default());
    assert!(manifest.owns(&["any".to_owned()]));
    assert!(
        !Manifest {
            roots: vec![],
            ..manifest
        }
        .owns(&["any".to_owned()])
    );
}

#[test]
fn what_could_switch_a_protection_off_is_refused() {
    for metadata in [
        r#"{"sequence":"7"}"#,
        r#"{"sequence":-1}"#,
        r#"{"sequence":7.0}"#,
        r#"{"sequence":null}"#,
        r#"{"expires":"soon"}"#,
        r#"{"expires":1}"#,
        r#"{"expires":"2027-01-02"}"#,
        r#"{"rollback_from":true}"#,
    ] {
        let refused = Manifest::parse(&format!(r#"{{"metadata":{metadata}}}"#));
        assert!(
            matches!(refused, Err(ManifestError::Field { .. })),
            "{metadata}: {refused:?}"
        );
    }
    assert!(matches!(
        Manifest::parse(r#"{"revison":"x"}"#),
        Err(ManifestError::Field { .. })
    ));
    assert!(matches!(Manifest::parse("[]"), Err(ManifestError::Field { .. })));
    assert!(matches!(
        Manifest::parse(r#"{"revision":"a","revision":"b"}"#),
        Err(ManifestError::Document(_))
    ));
}

#[test]
fn other_versions_of_rego_and_webassembly_are_refused() {
    for text in [
        r#"{"rego_version":0}"#,
        r#"{"rego_version":2}"#,
        r#"{"file_rego_versions":{"/a/*.rego":0}}"#,
    ] {
        assert!(
            matches!(Manifest::parse(text), Err(ManifestError::RegoVersion { .. })),
            "{text}"
        );
    }
    let wasm = r#"{"wasm":[{"entrypoint":"a/b","module":"/policy.wasm"}]}"#;
    assert_eq!(Manifest::parse(wasm), Err(ManifestError::Wasm));
}

#[test]
fn roots_are_paths_that_do_not_overlap() {
    for roots in [
        r#"["a","a/b"]"#,
        r#"["a/b","a"]"#,
        r#"["","a"]"#,
        r#"["a","a"]"#,
        r#"["a","/a/"]"#,
    ] {
        let refused = Manifest::parse(&format!(r#"{{"roots":{roots}}}"#));
        assert!(
            matches!(refused, Err(ManifestError::RootsOverlap { .. })),
            "{roots}: {refused:?}"
        );
    }
    for roots in [r#"["a//b"]"#, r#"["a b"]"#, r#"["a\\b"]"#] {
        let refused = Manifest::parse(&format!(r#"{{"roots":{roots}}}"#));
        assert!(
            matches!(refused, Err(ManifestError::Root { .. })),
            "{roots}: {refused:?}"
        );
    }
    assert!(Manifest::parse(r#"{"roots":["a/b","a/c","ab"]}"#).is_ok());
}
