use std::collections::BTreeMap;

use serde_json::json;

use super::super::files::FileError;
use super::*;

fn files(entries: &[(&str, &str)]) -> Files {
    let mut files = Files::new();
    for (name, content) in entries {
        files.add(name, content.as_bytes().to_vec()).unwrap();
    }
    files
}

fn open(entries: &[(&str, &str)]) -> Result<Bundle, ContentError> {
    Bundle::open_unverified("b", files(entries))
}

#[test]
fn data_lies_under_the_names_of_its_folders() {
    let bundle = open(&[
        ("data.json", r#"{"top":1,"database":{"settings":{"a":1}}}"#),
        ("database/data.json", r#"{"settings":{"b":2}}"#),
        ("database/data.yaml", "settings:\n  c: 3\n"),
        ("database/environment/production/data.json", r#"{"settings":{"d":4}}"#),
    ])
    .unwrap();
    let expected = json!({"top": 1, "database": {
        "settings": {"a": 1, "b": 2, "c": 3},
        "environment": {"production": {"settings": {"d": 4}}},
    }});
    assert_eq!(*bundle.data(), expected);
    assert_eq!(*open(&[]).unwrap().data(), json!({}));
}

#[test]
fn the_same_value_from_two_files_is_a_conflict() {
    for (first, second, path) in [
        (r#"{"a":{"b":1}}"#, r#"{"b":1}"#, "a.b"),
        (r#"{"a":{"b":{}}}"#, r#"{"b":1}"#, "a.b"),
        (r#"{"a":1}"#, r#"{"b":1}"#, "a"),
        (r#"{"a":[]}"#, "{}", "a"),
    ] {
        let refused = open(&[("data.json", first), ("a/data.json", second)]);
        let expected = ContentError::DataConflict {
            name: "data.json".to_owned(),
            path: path.to_owned(),
        };
        assert_eq!(refused, Err(expected), "{first} {second}");
    }
}

#[test]
fn data_that_is_no_object_or_no_document_is_refused() {
    for text in ["[]", "1", "null"] {
        assert!(
            matches!(open(&[("a/data.json", text)]), Err(ContentError::NotAnObject { .. })),
            "{text}"
        );
    }
    assert!(matches!(
        open(&[("data.yaml", "")]),
        Err(ContentError::NotAnObject { .. } | ContentError::Document { .. })
    ));
    assert!(matches!(
        open(&[("data.json", "a: 1")]),
        Err(ContentError::Document { .. })
    ));
    assert!(matches!(
        open(&[("data.json", r#"{"a":1,"a":2}"#)]),
        Err(ContentError::Document { .. })
    ));
}

#[test]
fn data_and_packages_outside_of_the_roots_are_refused() {
    let manifest = (".manifest", r#"{"roots":["a/b","c"]}"#);
    for (name, content) in [
        ("data.json", r#"{"a":{"b":{"x":1}},"c":1}"#),
        ("a/b/data.json", r#"{"x":1}"#),
        ("x.rego", "package a.b.d"),
        ("x.rego", "package c"),
    ] {
        assert!(open(&[manifest, (name, content)]).is_ok(), "{content}");
    }
    for (content, path) in [
        (r#"{"a":{"bb":1}}"#, "a.bb"),
        (r#"{"a":1}"#, "a"),
        (r#"{"d":{}}"#, "d"),
        (r#"{"c":1,"a":{"b":1,"x":{"b":1}}}"#, "a.x"),
    ] {
        match open(&[manifest, ("data.json", content)]) {
            Err(ContentError::DataOutside { path: found, .. }) => assert_eq!(found, path, "{content}"),
            other => panic!("{content}: {other:?}"),
        }
    }
    for package in ["a", "d", "a.bb", "data.c", "a.c"] {
        let refused = open(&[manifest, ("x.rego", &format!("package {package}"))]);
        assert!(
            matches!(refused, Err(ContentError::PackageOutside { .. })),
            "{package}: {refused:?}"
        );
    }
    assert!(matches!(
        open(&[manifest, ("x.rego", "import rego.v1")]),
        Err(ContentError::Package { .. })
    ));
}

#[test]
fn modules_are_listed_with_tests_and_built_without() {
    let bundle = open(&[
        ("a/x.rego", "package a.x"),
        ("a/x_test.rego", "package a.x_test"),
        ("a/data.json", "{}"),
    ])
    .unwrap();
    assert_eq!(
        bundle.modules().map(|(name, _)| name).collect::<Vec<_>>(),
        ["a/x.rego", "a/x_test.rego"]
    );
    let names = |bytes: &[u8]| {
        archive::read(bytes)
            .unwrap()
            .iter()
            .map(|(name, _)| name.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&build(&bundle, Tests::LeaveOut)), ["a/data.json", "a/x.rego"]);
    assert_eq!(
        names(&build(&bundle, Tests::Include)),
        ["a/data.json", "a/x.rego", "a/x_test.rego"]
    );
}

#[test]
fn a_bundle_survives_the_way_through_archive_and_config_map() {
    let bundle = open(&[
        (".manifest", r#"{"revision":"r"}"#),
        ("a/x.rego", "package a.x"),
        ("a/data.json", "{}"),
    ])
    .unwrap();
    let bytes = build(&bundle, Tests::Include);
    let again = Bundle::open_unverified("b", archive::read(&bytes).unwrap()).unwrap();
    assert_eq!(again, bundle);
    assert_eq!(build(&again, Tests::Include), bytes);

    let data: BTreeMap<String, String> = bundle
        .files()
        .iter()
        .map(|(name, text)| (name.replace('/', "__"), text.to_owned()))
        .collect();
    let map = super::super::ConfigMapContent {
        name: "m",
        data: &data,
        binary_data: &BTreeMap::new(),
    };
    assert_eq!(
        Bundle::open_unverified("b", super::super::config_map::read(&[map]).unwrap()).unwrap(),
        bundle
    );
}

#[test]
fn a_manifest_can_be_written_into_the_files() {
    let mut files = files(&[("a/x.rego", "package a.x")]);
    let manifest = Manifest {
        revision: "v9".to_owned(),
        roots: vec!["a".to_owned()],
        ..Manifest::default()
    };
    files.set_manifest(&manifest).unwrap();
    files.set_manifest(&manifest).unwrap();
    assert_eq!(*Bundle::open_unverified("b", files).unwrap().manifest(), manifest);
    assert!(matches!(
        Files::new().add("x.txt", vec![]),
        Err(FileError::Unexpected { .. })
    ));
}
