use std::os::unix::fs::symlink;

use super::*;

fn folder_with(entries: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in entries {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

fn names_of(files: &Files) -> Vec<&str> {
    files.iter().map(|(name, _)| name).collect()
}

#[test]
fn takes_the_files_of_a_bundle_and_ignores_what_stands_beside_them() {
    let folder = folder_with(&[
        (".manifest", "{}"),
        ("README.md", "text"),
        ("database/a.rego", "package database.a"),
        ("database/data.json", "{}"),
        ("cases/one.yaml", "x"),
        ("database/team/cases/a.rego", "package database.team.cases.a"),
        ("database/.hidden/b.rego", "x"),
        (".git/config", "x"),
    ]);
    let files = read(folder.path()).unwrap();
    assert_eq!(
        names_of(&files),
        [
            ".manifest",
            "database/a.rego",
            "database/data.json",
            "database/team/cases/a.rego"
        ]
    );
    assert_eq!(files.get("database/a.rego"), Some("package database.a"));
}

#[test]
fn a_file_that_no_bundle_holds_is_an_error_not_ignored() {
    let folder = folder_with(&[("database/data.yml", "a: 1")]);
    assert!(matches!(
        read(folder.path()),
        Err(FolderError::File(FileError::Unexpected { .. }))
    ));
}

#[test]
fn links_inside_are_followed_as_kubernetes_mounts_them() {
    let folder = folder_with(&[
        ("..2026_01_01/a.rego", "package a"),
        ("..2026_01_01/sub/b.rego", "package b"),
    ]);
    symlink("..2026_01_01", folder.path().join("..data")).unwrap();
    symlink("..data/a.rego", folder.path().join("a.rego")).unwrap();
    symlink("..data/sub", folder.path().join("sub")).unwrap();
    assert_eq!(names_of(&read(folder.path()).unwrap()), ["a.rego", "sub/b.rego"]);
}

#[test]
fn links_that_leave_dangle_or_circle_are_refused() {
    let outside = folder_with(&[("secret.rego", "x")]);
    let folder = folder_with(&[]);
    symlink(outside.path().join("secret.rego"), folder.path().join("a.rego")).unwrap();
    assert!(matches!(read(folder.path()), Err(FolderError::LinkLeaves { .. })));

    let folder = folder_with(&[]);
    symlink(outside.path(), folder.path().join("sub")).unwrap();
    assert!(matches!(read(folder.path()), Err(FolderError::LinkLeaves { .. })));

    let folder = folder_with(&[]);
    symlink("nowhere.rego", folder.path().join("a.rego")).unwrap();
    assert!(matches!(read(folder.path()), Err(FolderError::Io { .. })));

    let folder = folder_with(&[("sub/a.rego", "x")]);
    symlink(".", folder.path().join("sub/again")).unwrap();
    assert!(matches!(
        read(folder.path()),
        Err(FolderError::TooDeep { .. } | FolderError::File(_))
    ));
}

#[test]
fn neither_files_nor_folders_are_refused() {
    let folder = folder_with(&[]);
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("a.rego")).unwrap();
    assert!(matches!(read(folder.path()), Err(FolderError::NotAFile { .. })));
}

#[test]
fn a_large_file_is_not_read_whole() {
    let folder = folder_with(&[]);
    let file = fs::File::create(folder.path().join("a.rego")).unwrap();
    // Sparse: 1 TiB that takes no room on disk.
    file.set_len(1 << 40).unwrap();
    assert!(matches!(
        read(folder.path()),
        Err(FolderError::File(FileError::TooLarge { .. }))
    ));
}

#[test]
fn other_encodings_are_refused() {
    let folder = folder_with(&[]);
    fs::write(folder.path().join("a.rego"), [0xff, 0xfe]).unwrap();
    assert!(matches!(
        read(folder.path()),
        Err(FolderError::File(FileError::NotUtf8 { .. }))
    ));
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = read(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}
