use std::io::Write;

use super::*;

/// Makes archives that no well-meaning tool would make.
struct Hostile(tar::Builder<Vec<u8>>);

impl Hostile {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn entry(mut self, name: &str, kind: u8, content: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        // Not `set_path`, which refuses what we want to write.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(EntryType::new(kind));
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(name, b'0', content)
    }

    fn read(self) -> Result<Files, ArchiveError> {
        read(&packed(&self.0.into_inner().unwrap()))
    }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn some_files() -> Files {
    let mut files = Files::new();
    files.add("database/a.rego", b"package database.a".to_vec()).unwrap();
    files.add("data.json", b"{}".to_vec()).unwrap();
    files
        .add(
            &format!("{}/{}.rego", "f".repeat(150), "n".repeat(95)),
            vec![b'#'; 2000],
        )
        .unwrap();
    files
}

#[test]
fn what_was_written_is_read_back_and_the_bytes_do_not_vary() {
    let files = some_files();
    let bytes = write(&files);
    assert_eq!(read(&bytes).unwrap(), files);
    assert_eq!(write(&files), bytes);
}

#[test]
fn one_slash_or_dot_slash_in_front_is_dropped() {
    let files = Hostile::new()
        .entry("./", b'5', b"")
        .entry("./database/", b'5', b"")
        .file("./database/a.rego", b"x")
        .file("/data.json", b"{}")
        .read()
        .unwrap();
    assert_eq!(
        files.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        ["data.json", "database/a.rego"]
    );
}

#[test]
fn paths_out_of_the_bundle_are_refused() {
    for name in [
        "../a.rego",
        "a/../../b.rego",
        "//etc/a.rego",
        ".//a.rego",
        "/../a.rego",
        "a\\..\\b.rego",
    ] {
        let refused = Hostile::new().file(name, b"x").read();
        assert!(
            matches!(refused, Err(ArchiveError::File(FileError::Name { .. }))),
            "{name}: {refused:?}"
        );
    }
}

#[test]
fn links_devices_and_extension_headers_are_refused() {
    for kind in [b'1', b'2'] {
        assert!(matches!(
            Hostile::new().entry("a.rego", kind, b"").read(),
            Err(ArchiveError::Link { .. })
        ));
    }
    for kind in [b'3', b'4', b'6'] {
        assert!(matches!(
            Hostile::new().entry("a.rego", kind, b"").read(),
            Err(ArchiveError::Device { .. })
        ));
    }
    for kind in [b'7', b'L', b'K', b'x', b'g', b'S', b'V', b'?'] {
        let refused = Hostile::new()
            .entry("a.rego", kind, b"20 path=b.rego\n")
            .file("b.rego", b"x")
            .read();
        assert!(
            matches!(refused, Err(ArchiveError::Extension { .. })),
            "{}: {refused:?}",
            char::from(kind)
        );
    }
}

#[test]
fn the_same_name_twice_is_refused_in_either_spelling() {
    for second in ["data.json", "/data.json", "./data.json"] {
        let refused = Hostile::new().file("data.json", b"{}").file(second, b"{}").read();
        assert!(
            matches!(refused, Err(ArchiveError::File(FileError::Duplicate { .. }))),
            "{second}: {refused:?}"
        );
    }
}

#[test]
fn unexpected_files_and_other_encodings_are_refused() {
    for name in ["policy.wasm", "a/.manifest", "README.md", ".hidden/a.rego"] {
        let refused = Hostile::new().file(name, b"x").read();
        assert!(
            matches!(refused, Err(ArchiveError::File(FileError::Unexpected { .. }))),
            "{name}: {refused:?}"
        );
    }
    let refused = Hostile::new().file("a.rego", &[0xff]).read();
    assert!(matches!(refused, Err(ArchiveError::File(FileError::NotUtf8 { .. }))));
}

#[test]
fn a_gzip_bomb_ends_at_the_bound() {
    // 1 GiB of zeros, packed 16 MiB at a time into members that a reader joins: about 1 MiB of input.
    let bomb = packed(&vec![0; 16 << 20]).repeat(64);
    assert!(bomb.len() < 2 << 20);
    let mut unread = bomb.as_slice();
    assert!(matches!(unpack(&mut unread), Err(ArchiveError::TooLarge)));
    assert!(
        unread.len() > bomb.len() / 2,
        "read to the end, not to the bound: {} bytes left",
        unread.len()
    );
    assert!(matches!(read(&bomb), Err(ArchiveError::TooLarge)));
}

#[test]
fn too_much_content_and_too_many_entries_are_refused() {
    let refused = Hostile::new()
        .file("a.rego", &vec![b'#'; MAX_UNPACKED_BYTES + 1])
        .read();
    assert!(
        matches!(refused, Err(ArchiveError::File(FileError::TooLarge { .. }))),
        "{refused:?}"
    );

    let many = (0..=MAX_FILES).fold(Hostile::new(), |archive, n| archive.entry(&format!("d{n}/"), b'5', b""));
    assert!(matches!(many.read(), Err(ArchiveError::TooMany { .. })));
}

#[test]
fn a_size_that_lies_is_refused() {
    let mut header = tar::Header::new_ustar();
    header.set_path("a.rego").unwrap();
    header.set_size(u64::MAX / 2);
    header.set_cksum();
    assert!(matches!(
        read(&packed(header.as_bytes())),
        Err(ArchiveError::CutOff { .. })
    ));
}

#[test]
fn data_after_the_end_is_refused() {
    let mut tar = Hostile::new().file("a.rego", b"x").0.into_inner().unwrap();
    tar.extend(Hostile::new().file("b.rego", b"x").0.into_inner().unwrap());
    assert!(matches!(read(&packed(&tar)), Err(ArchiveError::Trailing)));
}

#[test]
fn damaged_archives_are_refused() {
    let whole = write(&some_files());
    assert!(matches!(read(&whole[..whole.len() - 1]), Err(ArchiveError::Gzip(_))));
    assert!(matches!(read(b"not gzip"), Err(ArchiveError::Gzip(_))));
    assert!(matches!(read(b""), Err(ArchiveError::Gzip(_))));
    assert!(matches!(read(&packed(&[b'x'; 1024])), Err(ArchiveError::Tar(_))));
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    assert!(read(&flipped).is_err());
}
