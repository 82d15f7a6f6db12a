use super::*;

#[test]
fn what_no_engine_uses_is_left_out() {
    for package in [
        "perl-base",
        "libllvm14",
        "libcommon-sense-perl",
        "ucf",
        "postgresql-common",
        "systemd-sysv",
    ] {
        assert!(is_unused(package), "{package}");
    }
    for package in [
        "postgresql-15",
        "postgresql-client-15",
        "redis-tools",
        "libpam0g",
        "bash",
        "libsystemd0",
    ] {
        assert!(!is_unused(package), "{package}");
    }
}

#[test]
fn an_image_lists_its_layers_in_order() {
    let work = tempfile::tempdir().unwrap();
    let layers = ["base", "engine"].map(|name| {
        fs::create_dir(work.path().join(name)).unwrap();
        fs::write(work.path().join(name).join("file"), name).unwrap();
        pack(work.path(), name).unwrap()
    });
    let entry = describe(
        work.path(),
        "localhost/engine:1",
        &json!({ "Cmd": ["engine"] }),
        &layers,
    )
    .unwrap();
    assert_eq!(
        entry,
        json!({
            "Config": "localhost_engine_1.json",
            "RepoTags": ["localhost/engine:1"],
            "Layers": ["base.tar", "engine.tar"],
        })
    );
    let text = fs::read_to_string(work.path().join("localhost_engine_1.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        config["rootfs"]["diff_ids"],
        json!([layers[0].digest, layers[1].digest])
    );
    assert_ne!(layers[0].digest, layers[1].digest);
    assert_eq!(config["config"]["Cmd"], json!(["engine"]));
}

#[test]
fn packing_again_gives_the_same_digest() {
    let work = tempfile::tempdir().unwrap();
    fs::create_dir(work.path().join("layer")).unwrap();
    fs::write(work.path().join("layer/file"), "content").unwrap();
    let first = pack(work.path(), "layer").unwrap().digest;
    std::thread::sleep(Duration::from_millis(20));
    fs::write(work.path().join("layer/file"), "content").unwrap(); // a newer file, the same content
    assert_eq!(pack(work.path(), "layer").unwrap().digest, first);
}

#[test]
fn the_release_of_an_engine_is_read_from_its_package() {
    for (version, expected) in [
        ("15.18-0+deb12u1", "15.18"),
        ("5:7.0.15-1~deb12u1", "7.0.15"),
        ("1.2-rc1-3", "1.2-rc1"),
        ("9", "9"),
    ] {
        assert_eq!(release(version), expected, "{version}");
    }
}
