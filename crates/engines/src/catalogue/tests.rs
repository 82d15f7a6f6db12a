use super::*;

fn version(text: &str) -> Version {
    text.parse().expect(text)
}

#[test]
fn a_declared_version_finds_the_newest_release_that_it_names() {
    let catalogue = Catalogue::builtin();
    for (engine, declared, expected) in [
        (Engine::Postgresql, "15", Some("15.20")),
        (Engine::Postgresql, "15.18", Some("15.18")),
        (Engine::Postgresql, "1", None),
        (Engine::Postgresql, "15.2", None),
        (Engine::Postgresql, "13", None),
        (Engine::Redis, "7.4", Some("7.4.11")),
        (Engine::Redis, "7.4.11", Some("7.4.11")),
        (Engine::Mysql, "8.4", Some("8.4.8")),
        (Engine::Mongodb, "8.0", Some("8.0.16")),
    ] {
        let found = catalogue
            .resolve(engine, &version(declared))
            .ok()
            .map(|release| release.version.to_string());
        assert_eq!(found.as_deref(), expected, "{engine:?} {declared}");
    }
}

#[test]
fn a_refusal_names_what_there_is() {
    let refusal = Catalogue::builtin()
        .resolve(Engine::Redis, &version("6.2"))
        .expect_err("no such release");
    let remedy =
        "declare one of 7.2.11, 7.4.11, or a shorter form of one; or give the operator a catalogue that has it";
    assert_eq!(
        refusal.rule(),
        "is not a version of redis that the operator's catalogue has"
    );
    assert_eq!(refusal.remedy(), remedy);
    assert_eq!(refusal.to_string(), format!("redis 6.2 {}; {remedy}", refusal.rule()));
}

#[test]
fn every_built_in_release_is_its_own_image() {
    let catalogue = Catalogue::builtin();
    let engines = Engine::ALL;
    let releases: Vec<&Release> = engines.iter().flat_map(|engine| catalogue.releases(*engine)).collect();
    assert!(engines.iter().all(|engine| !catalogue.releases(*engine).is_empty()));
    for release in &releases {
        assert!(
            release.image.contains(&format!(":{}-", release.version)),
            "{}",
            release.image
        );
    }
    assert_eq!(
        engines.map(|engine| catalogue.is_available(engine)),
        [true, false, false, true]
    );
}

#[test]
fn a_file_replaces_an_engine_whole_and_leaves_the_others() {
    let catalogue = Catalogue::from_yaml(
        "postgresql:\n- {version: '15.18', image: 'localhost/postgres:15', uid: 999}\n\
         redis:\n- {version: '7.0.15', image: 'localhost/redis:7.0', uid: 999, endOfLife: '2024-07-29'}\n",
    )
    .expect("it is valid");
    let expected = Release {
        engine: Engine::Postgresql,
        version: version("15.18"),
        major: "15".to_owned(),
        image: "localhost/postgres:15".to_owned(),
        uid: 999,
        end_of_life: None,
    };
    assert_eq!(catalogue.resolve(Engine::Postgresql, &version("15")), Ok(&expected));
    assert!(catalogue.resolve(Engine::Postgresql, &version("17")).is_err());
    let redis = catalogue.resolve(Engine::Redis, &version("7")).expect("it is listed");
    assert_eq!(
        (redis.major.as_str(), redis.image.as_str()),
        ("7", "localhost/redis:7.0")
    );
    assert_eq!(
        catalogue.releases(Engine::Mysql),
        Catalogue::builtin().releases(Engine::Mysql)
    );
}

#[test]
fn a_digest_comes_with_its_source() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let text = format!(
        "redis: [{{version: '7.4.11', image: 'registry.example:5000/redis:7.4.11', uid: 999, \
         digest: '{digest}', digestSource: 'mirrored by the platform team'}}]"
    );
    let catalogue = Catalogue::from_yaml(&text).expect("it is valid");
    assert_eq!(
        catalogue.releases(Engine::Redis)[0].image,
        format!("registry.example:5000/redis:7.4.11@{digest}")
    );
}

#[test]
fn a_wrong_shape_is_refused_with_its_path() {
    for (case, text, path) in [
        ("an unknown engine", "oracle: []", "oracle"),
        (
            "an unknown key",
            "redis: [{version: '7.4.1', image: 'a.b/c:d', uid: 1, tag: x}]",
            "redis[0].tag",
        ),
        ("a missing key", "redis: [{version: '7.4.1', uid: 1}]", "redis[0]"),
        (
            "a version without quotes",
            "redis: [{version: 7.4, image: 'a.b/c:d', uid: 1}]",
            "redis[0].version",
        ),
        (
            "a negative id",
            "redis: [{version: '7.4.1', image: 'a.b/c:d', uid: -1}]",
            "redis[0].uid",
        ),
    ] {
        match Catalogue::from_yaml(text) {
            Err(CatalogueError::Shape { path: found, .. }) => assert_eq!(found, path, "{case}"),
            other => panic!("{case}: {other:?}"),
        }
    }
    for text in ["redis: [", "redis: {}\nredis: {}"] {
        assert!(
            matches!(Catalogue::from_yaml(text), Err(CatalogueError::Yaml(_))),
            "{text}"
        );
    }
}

#[test]
fn all_faults_of_a_file_come_at_once() {
    let text = r"
postgresql:
- {version: '15', image: 'a.b/c:d', uid: 999}
- {version: '13.1', image: 'postgres:13', uid: 0, endOfLife: '2025-02-29'}
- {version: '15.1', image: 'a.b/c:latest', uid: 999, digest: 'sha256:00'}
- {version: '15.2', image: 'a.b/c', uid: 999, digestSource: me}
- {version: '15.3', image: 'a.b/c:d', uid: 999, digest: 'sha256:00', digestSource: me}
- {version: '15.4', image: 'a.b/c:d', uid: 999}
- {version: '15.4', image: 'a.b/c d', uid: 999}
redis: []
";
    let Err(CatalogueError::Faults(faults)) = Catalogue::from_yaml(text) else {
        panic!("it has faults")
    };
    let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "postgresql[0].version",
            "postgresql[1].version",
            "postgresql[1].image",
            "postgresql[1].uid",
            "postgresql[1].endOfLife",
            "postgresql[2].image",
            "postgresql[2].digest",
            "postgresql[3].image",
            "postgresql[3].digestSource",
            "postgresql[4].digest",
            "postgresql[6].version",
            "postgresql[6].image",
            "redis",
        ]
    );
}

#[test]
fn dates_are_days_of_the_calendar() {
    for (text, expected) in [
        ("2027-11-11", true),
        ("2028-02-29", true),
        ("2027-02-29", false),
        ("2100-02-29", false),
        ("2027-13-01", false),
        ("2027-00-10", false),
        ("2027-1-01", false),
        ("27-11-11", false),
        ("2027-11-+1", false),
        ("2027-11-11T00", false),
        ("", false),
    ] {
        assert_eq!(is_date(text), expected, "{text}");
    }
}
