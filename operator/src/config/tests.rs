use std::time::Duration;

use super::*;

fn surroundings() -> Surroundings {
    Surroundings {
        pod_name: Some("database-operator-6d5f-x2x7q".to_owned()),
        pod_namespace: Some("databases-system".to_owned()),
        host_name: Some("Build-Host".to_owned()),
    }
}

/// Every setting said, with values that tell `tag` apart.
fn all(tag: u16) -> Options {
    Options {
        kubeconfig: Some(format!("kubeconfig-{tag}").into()),
        context: Some(format!("context-{tag}")),
        namespaces: Some(vec![format!("namespace-{tag}")]),
        workers: Some(usize::from(tag)),
        retries_per_second: Some(u32::from(tag)),
        reconcile_seconds: Some(20 + tag),
        queue_capacity: Some(2000 + usize::from(tag)),
        member: Some(format!("member-{tag}")),
        operator_namespace: Some(format!("operator-{tag}")),
        health_address: Some(([127, 0, 0, 1], tag).into()),
        log_format: Some(if tag == 1 { LogFormat::Pretty } else { LogFormat::Json }),
        log_filter: Some(format!("info,module_{tag}=debug")),
        catalogue: Some(format!("catalogue-{tag}").into()),
        max_restarting_databases: Some(usize::from(tag)),
        shards: Some(tag),
        weight: Some(u32::from(tag)),
        weight_file: Some(format!("weight-{tag}").into()),
        lease_seconds: Some(20 + tag),
        renew_deadline_seconds: Some(10 + tag),
        retry_period_seconds: Some(tag),
        stop_seconds: Some(tag),
        policies: Some(vec![format!("policies-{tag}")]),
        policy_keys: Some(vec![format!("key-{tag}").into()]),
        policy_scope: Some(format!("scope-{tag}")),
        policy_threads: Some(usize::from(tag)),
        https_address: Some(([127, 0, 0, 1], 100 + tag).into()),
        certificates: Some(format!("certificates-{tag}").into()),
        decision_log: Some(format!("decisions-{tag}").into()),
        decision_log_days: Some(10 + tag),
        decision_log_mebibytes: Some(100 + u32::from(tag)),
        statefulset_replicas: Some(u32::from(tag % 2)),
    }
}

#[test]
fn defaults_are_as_documented() {
    let config = Config::complete(Options::default(), surroundings()).expect("valid");
    let expected = Config {
        kubeconfig: None,
        context: None,
        namespaces: vec![],
        workers: 16,
        retries_per_second: 100,
        reconcile_seconds: 120,
        queue_capacity: 1_000_000,
        member: "database-operator-6d5f-x2x7q".to_owned(),
        operator_namespace: "databases-system".to_owned(),
        health_address: ([0, 0, 0, 0], 8080).into(),
        log_format: LogFormat::Json,
        log_filter: "info".to_owned(),
        catalogue: None,
        max_restarting_databases: 10,
        shards: 3,
        weight: 1,
        weight_file: None,
        timings: Timings::DEFAULT,
        stop_seconds: 25,
        policies: vec![],
        policy_keys: vec![],
        policy_scope: None,
        policy_threads: 2,
        https_address: None,
        certificates: None,
        decision_log: None,
        decision_log_days: 7,
        decision_log_mebibytes: 1024,
        statefulset_replicas: 1,
    };
    assert_eq!(config, expected);
}

#[test]
fn outside_of_a_pod_the_host_names_the_member() {
    let outside = Surroundings {
        pod_name: None,
        pod_namespace: None,
        ..surroundings()
    };
    let config = Config::complete(Options::default(), outside).expect("valid");
    assert_eq!(
        (config.member.as_str(), config.operator_namespace.as_str()),
        ("build-host", "database-operator")
    );
}

#[test]
fn the_higher_layer_wins_in_every_setting_and_silence_lets_the_lower_speak() {
    assert_eq!(all(1).over(all(2)), all(1));
    assert_eq!(Options::default().over(all(2)), all(2));
    assert_eq!(all(1).over(Options::default()), all(1));
    let one = Options {
        workers: Some(3),
        ..Options::default()
    };
    assert_eq!(
        one.over(all(2)),
        Options {
            workers: Some(3),
            ..all(2)
        }
    );
}

#[test]
fn a_file_says_what_the_flags_say() {
    let text = "
# where and how much
kubeconfig: kubeconfig-1
context: context-1
namespaces: [namespace-1]
workers: 1
retriesPerSecond: 1
reconcileSeconds: 21
queueCapacity: 2001
member: member-1
operatorNamespace: operator-1
healthAddress: 127.0.0.1:1
logFormat: pretty
logFilter: info,module_1=debug
catalogue: catalogue-1
maxRestartingDatabases: 1
shards: 1
weight: 1
weightFile: weight-1
leaseSeconds: 21
renewDeadlineSeconds: 11
retryPeriodSeconds: 1
stopSeconds: 1
policies: [policies-1]
policyKeys: [key-1]
policyScope: scope-1
policyThreads: 1
httpsAddress: 127.0.0.1:101
certificates: certificates-1
decisionLog: decisions-1
decisionLogDays: 11
decisionLogMebibytes: 101
statefulsetReplicas: 1
";
    assert_eq!(Options::parse(text), Ok(all(1)));
}

#[test]
fn a_file_that_says_nothing_is_no_fault() {
    for text in ["", "\n\n", "# all defaults\n", "{}"] {
        assert_eq!(Options::parse(text), Ok(Options::default()), "{text:?}");
    }
}

#[test]
fn unknown_and_mistyped_keys_are_refused_with_key_and_line() {
    for (text, words) in [
        ("workers: 4\nworkerz: 5\n", &["workerz", "line 2"][..]),
        ("health-address: 127.0.0.1:80\n", &["health-address", "healthAddress"]),
        ("workers: many\n", &["line 1"]),
        ("workers: -1\n", &["line 1"]),
        ("workers: 1\nworkers: 2\n", &["workers", "line 2"]),
        ("namespaces:\n- a\n- {b: c}\n", &["line 3"]),
        ("logFormat: xml\n", &["xml", "json", "pretty"]),
        ("healthAddress: localhost:8080\n", &["line 1"]),
        ("- workers\n", &["line 1"]),
    ] {
        let error = Options::parse(text).expect_err(text);
        for word in words {
            assert!(error.contains(word), "{text:?}: {word:?} is missing in: {error}");
        }
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let options = Options {
        namespaces: Some(vec!["Shop".to_owned(), "a".to_owned(), "a".to_owned()]),
        workers: Some(0),
        member: Some("not a name".to_owned()),
        operator_namespace: Some(String::new()),
        log_filter: Some("info,x=loud".to_owned()),
        max_restarting_databases: Some(0),
        shards: Some(0),
        weight: Some(10_001),
        renew_deadline_seconds: Some(14),
        policies: Some(vec!["configmap:nothing".to_owned()]),
        policy_scope: Some("production".to_owned()),
        policy_threads: Some(0),
        certificates: Some("/certificates".into()),
        decision_log: Some("decisions.db".into()),
        decision_log_days: Some(0),
        decision_log_mebibytes: Some(1),
        statefulset_replicas: Some(3),
        ..Options::default()
    };
    let error = Config::complete(options, surroundings()).expect_err("invalid");
    let ConfigError::Invalid(faults) = error else {
        panic!("another error: {error}")
    };
    let settings: Vec<_> = faults
        .iter()
        .map(|fault| fault.split_once(':').expect("a setting").0)
        .collect();
    assert_eq!(
        settings,
        [
            "namespaces",
            "namespaces",
            "workers",
            "member",
            "operatorNamespace",
            "logFilter",
            "maxRestartingDatabases",
            "shards",
            "weight",
            "policies",
            "policyThreads",
            "decisionLogDays",
            "decisionLogMebibytes",
            "policyScope",
            "certificates",
            "statefulsetReplicas",
            "leaseSeconds, renewDeadlineSeconds, retryPeriodSeconds"
        ]
    );
}

#[test]
fn the_bounds_of_numbers_and_names_are_allowed_and_no_more() {
    let complete = |options| Config::complete(options, surroundings()).is_ok();
    for (workers, allowed) in [(0, false), (1, true), (1024, true), (1025, false)] {
        assert_eq!(
            complete(Options {
                workers: Some(workers),
                ..Options::default()
            }),
            allowed,
            "{workers}"
        );
    }
    for (length, allowed) in [(1, true), (63, true), (MAX_MEMBER, false), (MAX_MEMBER + 1, false)] {
        let member = Some("m".repeat(length));
        assert_eq!(
            complete(Options {
                member,
                ..Options::default()
            }),
            allowed,
            "one part of {length}"
        );
    }
    // Names of pods may have dots: parts of at most 63 characters.
    let parts = |last: usize| Some([63, 63, 63, last].map(|length| "m".repeat(length)).join("."));
    for (last, allowed) in [(MAX_MEMBER - 192, true), (MAX_MEMBER - 191, false)] {
        assert_eq!(
            complete(Options {
                member: parts(last),
                ..Options::default()
            }),
            allowed,
            "last part of {last}"
        );
    }
}

#[test]
fn an_empty_list_of_namespaces_means_all() {
    for namespaces in [None, Some(vec![]), Some(vec![String::new()])] {
        let config = Config::complete(
            Options {
                namespaces,
                ..Options::default()
            },
            surroundings(),
        )
        .expect("valid");
        assert_eq!(config.namespaces, Vec::<String>::new());
    }
    let namespaces = Some(vec!["a".to_owned(), String::new()]);
    assert!(
        Config::complete(
            Options {
                namespaces,
                ..Options::default()
            },
            surroundings()
        )
        .is_err()
    );
}

#[test]
fn what_means_nothing_without_policies_is_told() {
    let options = Options {
        policy_keys: Some(vec!["key.pem".into()]),
        https_address: Some(([127, 0, 0, 1], 8443).into()),
        decision_log: Some("decisions.db".into()),
        ..Options::default()
    };
    let Err(ConfigError::Invalid(faults)) = Config::complete(options.clone(), surroundings()) else {
        panic!("it is not refused")
    };
    for (fault, setting) in faults.iter().zip(["policyKeys", "httpsAddress", "decisionLog"]) {
        assert!(
            fault.starts_with(setting) && fault.contains("set policies too"),
            "{fault}"
        );
    }
    let with = Options {
        policies: Some(vec!["policies".to_owned()]),
        ..options
    };
    assert!(Config::complete(with, surroundings()).is_ok());
}

#[test]
fn what_is_printed_can_be_used_as_a_file() {
    for options in [Options::default(), all(1), all(2)] {
        let config = Config::complete(options, surroundings()).expect("valid");
        let printed = serde_yaml::to_string(&config.to_options()).expect("YAML");
        let again = Config::complete(Options::parse(&printed).expect(&printed), Surroundings::default());
        assert_eq!(again.expect("valid"), config, "{printed}");
    }
}

#[test]
fn the_parts_of_the_brake_are_no_more_than_the_brake_or_one_each() {
    for (max, shards, part) in [(10, 1, 10), (10, 3, 3), (10, 10, 1), (2, 3, 1)] {
        let options = Options {
            max_restarting_databases: Some(max),
            shards: Some(shards),
            ..Options::default()
        };
        let config = Config::complete(options, surroundings()).expect("valid");
        assert_eq!(config.restarting_share(), part, "{max} over {shards}");
    }
}

#[test]
fn the_https_server_has_left_before_a_replica_that_stops_may_have() {
    let config = Config::complete(Options::default(), surroundings()).expect("valid");
    let admission::server::Limits { linger, grace, .. } = admission::server::Limits::DEFAULT;
    assert!(linger + grace <= Duration::from_secs(config.stop_seconds.into()));
}
