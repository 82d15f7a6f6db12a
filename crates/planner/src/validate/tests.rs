use serde_json::{Value, json};

use super::*;
use crate::test_support::spec;

fn judged(spec: &DatabaseSpec, references: &References, before: Option<&DatabaseSpec>) -> Result<Intent, Refusal> {
    validate(spec, references, &Catalogue::builtin(), before)
}

/// Fields and rules of the faults.
fn faults(engine: &str, version: &str, more: &Value, before: Option<&DatabaseSpec>) -> Vec<(String, String)> {
    match judged(&spec(engine, version, more), &References::default(), before) {
        Ok(_) => Vec::new(),
        Err(refusal) => refusal
            .faults
            .into_iter()
            .map(|fault| (fault.field, fault.rule))
            .collect(),
    }
}

fn expected(faults: &[(&str, &str)]) -> Vec<(String, String)> {
    faults
        .iter()
        .map(|(field, rule)| ((*field).to_owned(), (*rule).to_owned()))
        .collect()
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn refusals() {
    let limits = |kind: &str, request: &str, limit: &str| json!({"resources": {"requests": {kind: request}, "limits": {kind: limit}}});
    for (case, engine, version, more, refused) in [
        (
            "the least that a spec needs is accepted",
            "postgresql",
            "15",
            json!({}),
            &[][..],
        ),
        (
            "MySQL does not run yet",
            "mysql",
            "8.4",
            json!({}),
            &[("spec.engine", "is planned but not yet available")][..],
        ),
        (
            "MongoDB does not run yet",
            "mongodb",
            "8.0",
            json!({}),
            &[("spec.engine", "is planned but not yet available")],
        ),
        (
            "a version that is none",
            "postgresql",
            "15.x",
            json!({}),
            &[(
                "spec.version",
                "must be numbers between dots, such as 16.4, with nothing before, between or after them",
            )],
        ),
        (
            "a version that the catalogue does not have",
            "postgresql",
            "9",
            json!({}),
            &[(
                "spec.version",
                "is not a version of postgresql that the operator's catalogue has",
            )],
        ),
        (
            "several servers without replication are no high availability",
            "redis",
            "7.4",
            json!({"highAvailability": true}),
            &[(
                "spec.highAvailability",
                "is not yet available: without replication it would be several unconnected servers",
            )],
        ),
        (
            "no storage",
            "redis",
            "7.4",
            json!({"resources": {"requests": {"storage": "0"}}}),
            &[("spec.resources.requests.storage", "must be more than 0")],
        ),
        (
            "no quantity",
            "redis",
            "7.4",
            json!({"resources": {"requests": {"cpu": "1 core"}}}),
            &[(
                "spec.resources.requests.cpu",
                "must be a number with an optional suffix, without spaces, such as 500m, 2, 1.5Gi or 1e9",
            )],
        ),
        (
            "a limit below its request",
            "redis",
            "7.4",
            limits("cpu", "2", "1500m"),
            &[("spec.resources.limits.cpu", "must be at least the request, 2")],
        ),
        (
            "a limit of the same size in another form",
            "redis",
            "7.4",
            limits("memory", "1024Mi", "1Gi"),
            &[],
        ),
        (
            "too little memory to start",
            "postgresql",
            "15",
            json!({"resources": {"limits": {"memory": "64Mi"}}}),
            &[(
                "spec.resources.limits.memory",
                "postgresql does not start with less than 128Mi",
            )],
        ),
        (
            "a parameter of the operator's",
            "redis",
            "7.4",
            json!({"configuration": {"parameters": {"port": "1"}}}),
            &[(
                "spec.configuration.parameters.port",
                "is the operator's: clients, probes and Services rely on where it listens",
            )],
        ),
        (
            "no schedule, no time zone, no retention",
            "redis",
            "7.4",
            json!({"backupPolicy": {"schedule": "@daily", "timeZone": "UTC", "retention": "30d"}}),
            &[],
        ),
    ] {
        assert_eq!(faults(engine, version, &more, None), expected(refused), "{case}");
    }
}

#[test]
fn all_faults_come_at_once_in_the_order_of_the_fields() {
    let more = json!({
        "highAvailability": true,
        "resources": {"requests": {"storage": "-1", "cpu": "x"}, "limits": {"memory": "1Mi"}},
        "backupPolicy": {"schedule": "never", "timeZone": "Mars/Base", "retention": "3x"},
        "configuration": {
            "parameters": {"port": "1", "work_mem": "8MB\n"}, "configMapRef": {"name": "a"}, "secretRef": {"name": "b"},
        },
    });
    let references = References {
        config_map: Reference::Missing,
        secret: Reference::NotText(vec!["key".to_owned(), "other".to_owned()]),
    };
    let refusal = judged(&spec("postgresql", "15", &more), &references, None).expect_err("it has faults");
    let fields: Vec<(&str, &str)> = refusal
        .faults
        .iter()
        .map(|f| (f.field.as_str(), f.value.as_str()))
        .collect();
    assert_eq!(
        fields,
        [
            ("spec.resources.requests.cpu", "x"),
            ("spec.resources.requests.storage", "-1"),
            ("spec.resources.limits.memory", "1Mi"),
            ("spec.highAvailability", "true"),
            ("spec.backupPolicy.schedule", "never"),
            ("spec.backupPolicy.timeZone", "Mars/Base"),
            ("spec.backupPolicy.retention", "3x"),
            ("spec.configuration.configMapRef.name", "a"),
            ("spec.configuration.secretRef.name", "b"),
            ("spec.configuration.parameters.port", "(hidden)"),
            ("spec.configuration.parameters.work_mem", "(hidden)"),
        ]
    );
    assert!(!refusal.only_missing);
    assert!(
        refusal
            .faults
            .iter()
            .all(|fault| !fault.rule.is_empty() && !fault.remedy.is_empty()),
        "each has a way out"
    );
}

#[test]
fn changes_of_an_accepted_spec() {
    let major = |from: &str, to: &str| {
        vec![(
            "spec.version".to_owned(),
            format!(
                "would change the major version from {from} to {to}, which converts data one way and is not yet available"
            ),
        )]
    };
    let back = |from: &str| {
        vec![(
            "spec.version".to_owned(),
            format!("would go back from {from}: an engine may not read what a newer one wrote"),
        )]
    };
    for (engine, before, after, refused) in [
        ("postgresql", "15.18", "15.20", vec![]),
        ("postgresql", "15.18", "15", vec![]),
        ("postgresql", "15", "15", vec![]),
        ("postgresql", "15.18", "15.18", vec![]),
        ("postgresql", "15", "15.18", back("15")),
        ("postgresql", "15.20", "15.18", back("15.20")),
        // Has left the catalogue, and is judged by what was declared.
        ("postgresql", "15.19", "15.18", back("15.19")),
        ("postgresql", "15.17", "15.18", vec![]),
        ("postgresql", "15", "16", major("15", "16")),
        ("postgresql", "16", "15", major("16", "15")),
        ("postgresql", "14.2", "15", major("14", "15")),
        // Redis' data stays readable within 7.
        ("redis", "7.2", "7.4", vec![]),
        ("redis", "7.4", "7.2", back("7.4")),
        ("redis", "7.2.11", "7.2", vec![]),
    ] {
        let accepted = spec(engine, before, &json!({}));
        assert_eq!(
            faults(engine, after, &json!({}), Some(&accepted)),
            refused,
            "{engine} from {before} to {after}"
        );
    }
    let storage = |size: &str| json!({"resources": {"requests": {"storage": size}}});
    for (before, after, refused) in [
        ("10Gi", "20Gi", vec![]),
        ("10Gi", "10240Mi", vec![]),
        (
            "10Gi",
            "10G",
            expected(&[("spec.resources.requests.storage", "a volume cannot shrink; it has 10Gi")]),
        ),
    ] {
        let accepted = spec("redis", "7.4", &storage(before));
        assert_eq!(
            faults("redis", "7.4", &storage(after), Some(&accepted)),
            refused,
            "from {before} to {after}"
        );
    }
}

#[test]
fn a_parameter_comes_from_parameters_then_the_secret_then_the_config_map() {
    let found = |pairs: &[&str], from: &str| {
        Reference::Found(pairs.iter().map(|name| ((*name).to_owned(), from.to_owned())).collect())
    };
    let more = json!({"configuration": {
        "parameters": {"everywhere": "inline", "inline_and_map": "inline"},
        "configMapRef": {"name": "a"}, "secretRef": {"name": "b"},
    }});
    let references = References {
        config_map: found(&["everywhere", "inline_and_map", "map_and_secret", "map"], "map"),
        secret: found(&["everywhere", "map_and_secret", "secret"], "secret"),
    };
    let intent = judged(&spec("postgresql", "15", &more), &references, None).expect("it is valid");
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    assert_eq!(
        intent.parameters,
        map(&[("everywhere", "inline"), ("inline_and_map", "inline"), ("map", "map")])
    );
    assert_eq!(
        intent.secret_parameters,
        map(&[("map_and_secret", "secret"), ("secret", "secret")])
    );
}

#[test]
fn a_value_from_a_secret_is_never_repeated() {
    let planted = "Planted-7f3a\n";
    let more = json!({"configuration": {"secretRef": {"name": "b"}}});
    let secret = [("work_mem", planted), ("port", planted)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let references = References {
        secret: Reference::Found(secret.into()),
        ..References::default()
    };
    let refusal = judged(&spec("postgresql", "15", &more), &references, None).expect_err("it has faults");
    let fields: Vec<&str> = refusal.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "spec.configuration.secretRef.port",
            "spec.configuration.secretRef.work_mem"
        ]
    );
    assert!(!format!("{refusal:?}").contains("Planted"), "{refusal:?}");
}

#[test]
fn only_missing_references_are_waited_for() {
    let more = json!({"configuration": {"configMapRef": {"name": "a"}, "secretRef": {"name": "b"}}});
    let missing = References {
        config_map: Reference::Missing,
        secret: Reference::Missing,
    };
    let refused = |more: &Value, references: &References| {
        let refusal = judged(&spec("redis", "7.4", more), references, None).expect_err("it has faults");
        (refusal.faults.len(), refusal.only_missing)
    };
    assert_eq!(refused(&more, &missing), (2, true));
    let mut worse = more.clone();
    worse["highAvailability"] = json!(true);
    assert_eq!(
        refused(&worse, &missing),
        (3, false),
        "another fault is not mended by what appears"
    );
    let owned = BTreeMap::from([("port".to_owned(), "1".to_owned())]);
    let half = References {
        config_map: Reference::Found(owned),
        secret: Reference::Missing,
    };
    assert_eq!(refused(&more, &half), (2, false));
    let unreadable = References {
        config_map: Reference::NotText(vec!["x".to_owned()]),
        secret: Reference::Missing,
    };
    assert_eq!(refused(&more, &unreadable), (2, false));
}

#[test]
fn an_intent_is_typed_and_complete() {
    let more = json!({
        "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi", "storage": "1e10"}, "limits": {"cpu": "2"}},
        "storageClass": "fast", "deletionPolicy": "Delete", "monitoring": {"enabled": true},
        "backupPolicy": {"schedule": "@daily", "retention": "30d"},
    });
    let intent = judged(&spec("postgresql", "15", &more), &References::default(), None).expect("it is valid");
    let quantity = |text: &str| text.parse::<Quantity>().expect("it is a quantity");
    let builtin = Catalogue::builtin();
    let release = builtin
        .releases(Engine::Postgresql)
        .iter()
        .find(|r| r.version.to_string() == "15.20")
        .expect("it is there");
    assert_eq!(
        intent,
        Intent {
            engine: Engine::Postgresql,
            declared_version: "15".to_owned(),
            release: release.clone(),
            compute: Compute {
                cpu_request: Some(quantity("500m")),
                memory_request: Some(quantity("1Gi")),
                cpu_limit: Some(quantity("2")),
                memory_limit: None,
            },
            storage: quantity("1e10"),
            storage_class: Some("fast".to_owned()),
            deletion_policy: api::database::DeletionPolicy::Delete,
            backup: true,
            monitoring: true,
            parameters: BTreeMap::new(),
            secret_parameters: BTreeMap::new(),
        }
    );
    assert_eq!(
        intent.compute.to_resources(),
        json!({
            "requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2"},
        }),
        "as the API server keeps them"
    );
    let switched_off = spec("redis", "7.4", &json!({"monitoring": {"enabled": false}}));
    assert!(
        !judged(&switched_off, &References::default(), None)
            .expect("it is valid")
            .monitoring
    );
}
