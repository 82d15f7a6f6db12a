use super::*;

fn texts(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries
        .iter()
        .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
        .collect()
}

fn binaries(entries: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    entries
        .iter()
        .map(|(key, bytes)| ((*key).to_owned(), bytes.to_vec()))
        .collect()
}

#[test]
fn two_underscores_stand_for_a_slash_and_several_maps_make_one_bundle() {
    let (first, second) = (
        texts(&[
            (".manifest", "{}"),
            ("database__security.rego", "package database.security"),
        ]),
        texts(&[("database__environment__production__data.json", "{}")]),
    );
    let none = BTreeMap::new();
    let files = read(&[
        ConfigMapContent {
            name: "one",
            data: &first,
            binary_data: &none,
        },
        ConfigMapContent {
            name: "two",
            data: &second,
            binary_data: &none,
        },
    ])
    .unwrap();
    assert_eq!(
        files.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        [
            ".manifest",
            "database/environment/production/data.json",
            "database/security.rego"
        ]
    );
}

#[test]
fn an_archive_is_a_whole_bundle() {
    let mut files = Files::new();
    files.add("a.rego", b"package a".to_vec()).unwrap();
    let (none, archive) = (BTreeMap::new(), binaries(&[(ARCHIVE_KEY, &archive::write(&files))]));
    let map = ConfigMapContent {
        name: "one",
        data: &none,
        binary_data: &archive,
    };
    assert_eq!(read(&[map]).unwrap(), files);

    let more = texts(&[("b.rego", "package b")]);
    let mixed = ConfigMapContent { data: &more, ..map };
    assert!(matches!(read(&[mixed]), Err(ConfigMapError::Mixed { .. })));
}

#[test]
fn what_is_no_bundle_is_refused() {
    let (no_texts, no_binaries) = (BTreeMap::new(), BTreeMap::new());
    let empty = ConfigMapContent {
        name: "one",
        data: &no_texts,
        binary_data: &no_binaries,
    };
    assert!(matches!(read(&[]), Err(ConfigMapError::Empty)));
    assert!(matches!(read(&[empty]), Err(ConfigMapError::Empty)));

    let as_text = texts(&[(ARCHIVE_KEY, "x")]);
    assert!(matches!(
        read(&[ConfigMapContent {
            data: &as_text,
            ..empty
        }]),
        Err(ConfigMapError::ArchiveAsText { .. })
    ));

    let damaged = binaries(&[(ARCHIVE_KEY, b"x")]);
    let refused = read(&[ConfigMapContent {
        binary_data: &damaged,
        ..empty
    }]);
    assert!(matches!(refused, Err(ConfigMapError::Archive { .. })));

    let twice = texts(&[("a__b.rego", "x")]);
    let refused = read(&[
        ConfigMapContent { data: &twice, ..empty },
        ConfigMapContent { data: &twice, ..empty },
    ]);
    assert!(matches!(
        refused,
        Err(ConfigMapError::File {
            source: FileError::Duplicate { .. },
            ..
        })
    ));

    let outside = texts(&[("..__a.rego", "x")]);
    let refused = read(&[ConfigMapContent {
        data: &outside,
        ..empty
    }]);
    assert!(matches!(
        refused,
        Err(ConfigMapError::File {
            source: FileError::Name { .. },
            ..
        })
    ));
}
