use super::*;

fn newest(engine: Engine) -> Version {
    let catalogue = crate::catalogue::Catalogue::builtin();
    catalogue
        .releases(engine)
        .last()
        .expect("every engine has a release")
        .version
}

fn faults(engine: Engine, parameters: &[(&str, &str)]) -> Vec<Fault> {
    check(
        engine,
        &newest(engine),
        parameters.iter().copied(),
        "spec.configuration.parameters",
    )
}

#[test]
fn what_is_the_users_is_accepted() {
    for (engine, name, value) in [
        (Engine::Postgresql, "work_mem", "64MB"),
        (Engine::Postgresql, "TimeZone", "Europe/Berlin"),
        (Engine::Postgresql, "wal_level", "logical"),
        (Engine::Postgresql, "wal_level", " Logical "),
        (Engine::Postgresql, "password_encryption", "scram-sha-256"),
        (Engine::Postgresql, "pg_stat_statements.max", "1000"),
        (Engine::Postgresql, "shared_preload_libraries", "pg_stat_statements"),
        (Engine::Postgresql, "search_path", r#""$user", public"#),
        (Engine::Postgresql, "application_name", ""),
        (Engine::Postgresql, "portal_size", "1"),
        (Engine::Redis, "maxmemory-policy", "allkeys-lru"),
        (Engine::Redis, "save", "900 1 300 10"),
        (Engine::Redis, "save", ""),
        (Engine::Redis, "client-output-buffer-limit", "normal 0 0 0"),
        (Engine::Redis, "min-replicas-to-write", "0"),
        (Engine::Mysql, "max_connections", "500"),
        (Engine::Mysql, "validate_password.length", "12"),
        (Engine::Mysql, "default-storage-engine", "innodb"),
        (Engine::Mongodb, "storage.wiredTiger.engineConfig.cacheSizeGB", "1"),
        (Engine::Mongodb, "setParameter.cursorTimeoutMillis", "600000"),
    ] {
        assert_eq!(faults(engine, &[(name, value)]), [], "{engine} {name}");
    }
}

#[test]
fn what_is_the_operators_is_refused_however_it_is_spelled() {
    for (engine, name) in [
        (Engine::Postgresql, "listen_addresses"),
        (Engine::Postgresql, "Listen_Addresses"),
        (Engine::Postgresql, "ssl_cert_file"),
        (Engine::Postgresql, "archive_command"),
        (Engine::Postgresql, "primary_conninfo"),
        (Engine::Postgresql, "include"),
        (Engine::Postgresql, "allow_alter_system"),
        (Engine::Redis, "requirepass"),
        (Engine::Redis, "RequirePass"),
        (Engine::Redis, "tls-port"),
        (Engine::Redis, "appendonly"),
        (Engine::Redis, "rename-command"),
        (Engine::Redis, "cluster-enabled"),
        (Engine::Mysql, "bind-address"),
        (Engine::Mysql, "skip-networking"),
        (Engine::Mysql, "skip_grant_tables"),
        (Engine::Mysql, "loose_skip-log-bin"),
        (Engine::Mysql, "disable-log-bin"),
        (Engine::Mysql, "datadir"),
        (Engine::Mongodb, "net.bindIp"),
        (Engine::Mongodb, "security.authorization"),
        (Engine::Mongodb, "systemLog.path"),
        (Engine::Mongodb, "replication.replSetName"),
    ] {
        let faults = faults(engine, &[(name, "x")]);
        assert_eq!(faults.len(), 1, "{engine} {name}");
        assert!(
            faults[0].rule.starts_with("is the operator's: ") && !faults[0].remedy.is_empty(),
            "{:?}",
            faults[0]
        );
    }
}

#[test]
fn every_owned_parameter_says_why_and_what_to_do() {
    for engine in Engine::ALL {
        let rules = rules(engine);
        let mut names: Vec<&str> = rules.owned.iter().map(|owned| owned.name).collect();
        for owned in rules.owned {
            assert!(
                !owned.rule.is_empty() && !owned.remedy.is_empty(),
                "{engine} {}",
                owned.name
            );
            let plain = owned.name.trim_end_matches(['*', '.']);
            assert_eq!(
                (rules.fold)(plain),
                plain,
                "{engine}: no spelling would ever match this pattern"
            );
            assert!((rules.is_name)(plain.trim_end_matches('_')), "{engine} {}", owned.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rules.owned.len(), "{engine}: listed twice");
    }
}

#[test]
fn names_are_what_the_engine_can_read() {
    for (engine, name, expected) in [
        (Engine::Postgresql, "work mem", false),
        (Engine::Postgresql, "work_mem = 1 #", false),
        (Engine::Postgresql, "a.b.c", false),
        (Engine::Postgresql, ".a", false),
        (Engine::Postgresql, "1a", false),
        (Engine::Postgresql, "größe", false),
        (Engine::Postgresql, "", false),
        (Engine::Postgresql, "_a.b$1", true),
        (Engine::Redis, "hash-max listpack", false),
        (Engine::Redis, "\"save\"", false),
        (Engine::Redis, "-a", false),
        (Engine::Redis, "bgsave_cpulist", true),
        (Engine::Mysql, "[client]", false),
        (Engine::Mysql, "!include", false),
        (Engine::Mysql, "a\nb", false),
        (Engine::Mongodb, "storage..dbPath", false),
        (Engine::Mongodb, "a: b", false),
        (Engine::Mongodb, "storage.", false),
    ] {
        let refused = faults(engine, &[(name, "x")])
            .iter()
            .any(|fault| fault.rule.starts_with("is no parameter's name"));
        assert_eq!(refused, !expected, "{engine} {name:?}");
    }
    let long = "a".repeat(NAME_MAX + 1);
    assert_eq!(faults(Engine::Redis, &[(&long, "x")]).len(), 1);
    assert_eq!(faults(Engine::Redis, &[(&long[1..], "x")]), []);
}

#[test]
fn all_faults_come_at_once_with_field_value_rule_and_remedy() {
    let long = "x".repeat(VALUE_MAX + 1);
    let found = faults(
        Engine::Postgresql,
        &[
            ("port", "1"),
            ("work_mem", "1\n2"),
            ("pg_stat_statements.max", "\0"),
            ("application_name", &long),
            ("wal_level", "minimal"),
            ("old_snapshot_threshold", "1h"),
            ("TimeZone", "UTC"),
            ("timezone", "UTC"),
            ("pgsodium.api_key", "hunter22"),
        ],
    );
    let told: Vec<(&str, &str, &str)> = found
        .iter()
        .map(|fault| (fault.field.as_str(), fault.rule.as_str(), fault.remedy.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (
                "spec.configuration.parameters.port",
                "is the operator's: clients, probes and Services rely on where it listens",
                "leave it out",
            ),
            (
                "spec.configuration.parameters.work_mem",
                "has a line break or a NUL in its value",
                "write the value on one line",
            ),
            (
                "spec.configuration.parameters[\"pg_stat_statements.max\"]",
                "has a line break or a NUL in its value",
                "write the value on one line",
            ),
            (
                "spec.configuration.parameters.application_name",
                "has a value of more than 4096 bytes",
                "write a shorter value",
            ),
            (
                "spec.configuration.parameters.wal_level",
                "must be replica or logical: with less, no standby and no backup could follow",
                "write logical for logical replication, or leave it out",
            ),
            (
                "spec.configuration.parameters.old_snapshot_threshold",
                "no longer exists since postgresql 17",
                "leave it out",
            ),
            (
                "spec.configuration.parameters.timezone",
                "is the same parameter as TimeZone",
                "keep one of them"
            ),
            (
                "spec.configuration.parameters[\"pgsodium.api_key\"]",
                "is secret by nature, and what stands here can be read by everybody who can read the Database",
                "put it into a Secret, and name that in spec.configuration.secretRef",
            ),
        ]
    );
    assert!(found.iter().all(|fault| fault.value == HIDDEN));
}

#[test]
fn a_parameter_is_refused_from_the_version_on_that_lost_it() {
    for (version, expected) in [("16.14", 0), ("17.10", 1), ("18.4", 1)] {
        let version: Version = version.parse().expect(version);
        let found = check(
            Engine::Postgresql,
            &version,
            [("old_snapshot_threshold", "1h")].into_iter(),
            "p",
        );
        assert_eq!(found.len(), expected, "{version}");
    }
}

#[test]
fn what_comes_from_a_secret_is_checked_and_never_repeated() {
    let parameters = [
        ("pgsodium.api_key", "hunter22"),
        ("port", "hunter22"),
        ("wal_level", "hunter22"),
        ("a b", "hunter22"),
    ];
    let found = check_secret(
        Engine::Postgresql,
        &newest(Engine::Postgresql),
        parameters.into_iter(),
        "secretRef",
    );
    let fields: Vec<&str> = found.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["secretRef.port", "secretRef.wal_level", "secretRef[\"a b\"]"]);
    assert!(
        found
            .iter()
            .all(|fault| fault.value == HIDDEN && !fault.to_string().contains("hunter22"))
    );
}

#[test]
fn a_value_is_never_repeated() {
    for (engine, names) in [
        (
            Engine::Redis,
            &[
                "requirepass",
                "masterauth",
                "primaryauth",
                "user",
                "min-replicas-to-write",
                "a b",
            ][..],
        ),
        (
            Engine::Postgresql,
            &["primary_conninfo", "wal_level", "pgsodium.api_key"],
        ),
        (
            Engine::Mongodb,
            &["net.tls.certificateKeyFilePassword", "setParameter.a.b", "net.port"],
        ),
        (Engine::Mysql, &["init_connect", "port", "ssl_key"]),
    ] {
        for name in names {
            let found = faults(engine, &[(name, "hunter22\n")]);
            assert!(!found.is_empty(), "{engine} {name}");
            assert!(!format!("{found:?}").contains("hunter22"), "{found:?}");
        }
    }
}

#[test]
fn mongodbs_sections_are_told_apart_from_its_options() {
    let rules = |parameters: &[(&str, &str)]| -> Vec<String> {
        faults(Engine::Mongodb, parameters)
            .into_iter()
            .map(|fault| fault.rule)
            .collect()
    };
    assert_eq!(
        rules(&[("a.b", "1"), ("a", "1")]),
        ["is a section, since a.b is set too"]
    );
    assert_eq!(rules(&[("setParameter", "1")]), ["is a section"]);
    assert_eq!(
        rules(&[("setParameter.a.b", "1")]),
        ["has no sections below setParameter"]
    );
    let secret = [("setParameter.a", "1")];
    let found = check_secret(
        Engine::Mongodb,
        &newest(Engine::Mongodb),
        secret.into_iter(),
        "secretRef",
    );
    assert_eq!(found.len(), 1);
}

#[test]
fn a_change_of_what_is_not_known_costs_a_restart() {
    for (engine, name, expected) in [
        (Engine::Postgresql, "work_mem", ChangeEffect::Reload),
        (Engine::Postgresql, "Work_Mem", ChangeEffect::Reload),
        (Engine::Postgresql, "timezone", ChangeEffect::Reload),
        (Engine::Postgresql, "shared_buffers", ChangeEffect::Restart),
        (Engine::Postgresql, "max_connections", ChangeEffect::Restart),
        (Engine::Postgresql, "wal_level", ChangeEffect::Restart),
        (Engine::Postgresql, "my_extension.knob", ChangeEffect::Restart),
        (Engine::Redis, "maxmemory-policy", ChangeEffect::Reload),
        (Engine::Redis, "databases", ChangeEffect::Restart),
        (Engine::Redis, "io-threads", ChangeEffect::Restart),
        (Engine::Redis, "nothing-known", ChangeEffect::Restart),
        (Engine::Mysql, "max-connections", ChangeEffect::Reload),
        (Engine::Mysql, "innodb_page_cleaners", ChangeEffect::Restart),
        (Engine::Mongodb, "setParameter.logLevel", ChangeEffect::Reload),
        (Engine::Mongodb, "storage.oplogMinRetentionHours", ChangeEffect::Restart),
    ] {
        assert_eq!(change_effect(engine, name), expected, "{engine} {name}");
    }
    // A comment of the list is no name.
    assert_eq!(
        change_effect(Engine::Redis, "# running server. One a line."),
        ChangeEffect::Restart
    );
}
