//! Secrets that are planted anywhere are found nowhere.

use crate::sample::{FLUSH, record, started, violation};
use policy::log::mask::{MASK, mask_document, mask_text};
use policy::log::{Filter, export, mask};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Something that occurs nowhere else and is easily searched for.
fn any_secret() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9][a-zA-Z0-9!#$%^&*(),;/?+]{6,20}[a-zA-Z0-9]".prop_map(|middle| format!("ZQ{middle}QZ"))
}

/// Names that announce a secret.
fn any_secret_name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("password"),
        Just("PGPASSWORD"),
        Just("DB_PASSWORD"),
        Just("rootPasswd"),
        Just("api-token"),
        Just("apiKey"),
        Just("ssl_key_file"),
        Just("example.com/credentials"),
        Just("clientSecret"),
        Just("Authorization"),
        Just("requirepass.pass"),
        Just("AWS_SECRET_ACCESS_KEY"),
        Just("tokens"),
        Just("passphrase"),
    ]
    .prop_map(str::to_owned)
}

/// Texts that hold a secret in a form that can be known.
fn any_text_with(secret: String) -> impl Strategy<Value = String> {
    (any_secret_name(), 0..14_usize, "[a-z ]{0,12}", "[a-z ]{0,12}").prop_map(move |(name, form, before, after)| {
        let middle = match form {
            0 => format!("postgres://app:{secret}@db.example.com:5432/x?sslmode=require"),
            1 => format!("https://{}@host/path", secret.replace(['/', '?', '#'], "_")),
            2 => format!("{name}={secret}"),
            3 => format!("{name} = '{secret} and more'"),
            4 => format!("\n{name}: {secret}"),
            5 => format!("{{\"a\": [\"{name}\", {{\"{name}\": \"{secret}\"}}"),
            6 => format!("-----BEGIN RSA PRIVATE KEY-----\n{secret}\n-----END RSA PRIVATE KEY-----"),
            7 => format!(
                "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{}",
                secret.replace(|c: char| !c.is_alphanumeric(), "")
            ),
            8 => format!("app:{secret}@tcp(db:3306)/x"),
            9 => format!("--{name} {secret} --verbose"),
            10 => format!(
                "Authorization: Bearer {}0",
                secret.replace(|c: char| !c.is_alphanumeric(), "")
            ),
            11 => json!({"spec": {name: secret.clone()}, "url": format!("redis://:{secret}@h")}).to_string(),
            12 => json!({"x": json!({name: secret.clone()}).to_string()}).to_string(),
            _ => format!("\n  {name}: |\n    {secret}\n    more {secret}\n  other: 1"),
        };
        match form {
            // Whole documents and lines stand by themselves.
            4 | 10..=13 => middle,
            _ => format!("{before} {middle} {after}"),
        }
    })
}

/// A place that holds a secret.
fn any_plant(secret: &str) -> BoxedStrategy<Value> {
    let secret = secret.to_owned();
    let (named, env, object, listed, nested) = (
        secret.clone(),
        secret.clone(),
        secret.clone(),
        secret.clone(),
        secret.clone(),
    );
    prop_oneof![
        any_text_with(secret.clone()).prop_map(Value::String),
        any_secret_name().prop_map(move |name| json!({name: named.clone()})),
        any_secret_name().prop_map(move |name| json!([{"name": name, "value": env.clone()}])),
        any_secret_name().prop_map(move |name| json!(["server", format!("--{name}"), listed.clone()])),
        any_secret_name().prop_map(move |name| json!({name: {"user": 1, "parts": [nested.clone(), {"x": nested.clone()}]}})),
        any_text_with(secret.clone()).prop_map(|text| json!({text: true})),
        prop_oneof![
            Just(json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": object.clone()}, "stringData": {"b": object.clone()}})),
            Just(json!({"kind": "SecretList", "items": [{"data": {"a": object.clone()}}]})),
            Just(json!({"kubectl.kubernetes.io/last-applied-configuration": format!("{{broken {object}")})),
            Just(json!({"secretRef": {"name": "n", "inline": object.clone()}})),
            Just(json!({"secret": object})),
        ],
    ]
    .boxed()
}

/// A document around the plants.
fn any_document(plant: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    let harmless = prop_oneof![
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "[a-zA-Zäß ./:-]{0,20}".prop_map(Value::from),
        Just(Value::Null),
    ];
    let leaf = prop_oneof![3 => harmless, 2 => plant];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let name = prop_oneof![
            Just("spec"),
            Just("metadata"),
            Just("annotations"),
            Just("parameters"),
            Just("env"),
            Just("a/b~c"),
            Just("labels"),
            Just("containers"),
            Just("args"),
            Just("data"),
            Just("resources"),
            Just("x"),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..5).prop_map(|members| Value::Object(
                members
                    .into_iter()
                    .map(|(n, v)| (n.to_owned(), v))
                    .collect::<Map<_, _>>()
            )),
        ]
    })
}

fn any_planted() -> impl Strategy<Value = (String, Value)> {
    any_secret().prop_flat_map(|secret| {
        // Under `labels` only texts are looked at: names of labels announce nothing. So no named plant goes there.
        any_document(any_plant(&secret)).prop_map(move |document| (secret.clone(), without_labels(document)))
    })
}

/// Renames `labels` wherever what lies in it is not just a string.
fn without_labels(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_labels).collect(),
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, member)| {
                    let name = if name == "labels" && !member.is_string() {
                        "l".to_owned()
                    } else {
                        name
                    };
                    (name, without_labels(member))
                })
                .collect(),
        ),
        other => other,
    }
}

/// The secret, and what is left of it where a form allows fewer characters.
fn holds(text: &str, secret: &str) -> bool {
    let plain = secret.replace(|c: char| !c.is_alphanumeric(), "");
    let url = secret.replace(['/', '?', '#'], "_");
    let json = Value::from(secret).to_string();
    text.contains(secret) || text.contains(&plain) || text.contains(&url) || text.contains(json.trim_matches('"'))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn planted_secrets_are_found_nowhere((secret, document) in any_planted()) {
        let masked = mask_document(document.clone());
        let text = masked.value.to_string();
        prop_assert!(!holds(&text, &secret), "{text}\nfrom {document}");
        prop_assert!(!masked.masked.iter().chain(&masked.erased).any(|pointer| holds(pointer, &secret)));
        for pointer in &masked.masked {
            let there = masked.value.pointer(pointer);
            prop_assert!(there.is_some(), "{pointer} in {text}");
        }
        for pointer in &masked.erased {
            prop_assert!(masked.value.pointer(pointer).is_none(), "{pointer} in {text}");
        }
    }

    /// Also from every text beside the input, from what is stored and from what is exported.
    #[test]
    fn planted_secrets_are_in_no_record(
        ((secret, document), text) in any_planted().prop_flat_map(|(secret, document)| {
            (Just((secret.clone(), document)), any_text_with(secret))
        })
    ) {
        let mut planted = record(1);
        planted.input = Some(document.clone());
        planted.exceptions = vec![document];
        planted.warnings = vec![text.clone(), "fine".to_owned()];
        planted.error = Some(text.clone());
        planted.violations = vec![violation("a.b")];
        planted.violations[0].message = text.clone();
        planted.violations[0].path = text.clone();
        planted.user.as_mut().unwrap().groups = vec![text.clone()];
        planted.resource.name = Some(text);
        let masked = mask(planted);
        let json = serde_json::to_string(masked.record()).unwrap();
        prop_assert!(!holds(&json, &secret), "{json}");
        prop_assert!(!holds(&masked.record().opa().to_string(), &secret));
        let mut csv = Vec::new();
        export::csv([Ok::<_, std::io::Error>(masked.into_record())], &mut csv).unwrap();
        prop_assert!(!holds(&String::from_utf8(csv).unwrap(), &secret));
    }

    /// No text makes it panic, and masking twice changes nothing more than masking once.
    #[test]
    fn any_text_can_be_masked(text in "[ -~äß\\n\"'\\\\=:@/.-]{0,60}|(password|key| |=|:|\"|\\\\|://|@|\\n|-----BEGIN PRIVATE|x|ß){0,20}") {
        let once = mask_text(&text);
        prop_assert_eq!(mask_text(&once), once.clone(), "{}", text);
    }
}

#[test]
fn a_copy_of_a_masked_value_is_gone_from_messages() {
    let mut quoting = record(1);
    quoting.input =
        Some(json!({"object": {"spec": {"configuration": {"parameters": {"requirepass-token": "correct horse"}}}}}));
    quoting.violations = vec![violation("a.b")];
    quoting.violations[0].message = "`correct horse` is too short".to_owned();
    quoting.warnings = vec!["correct horse?".to_owned()];
    let masked = mask(quoting);
    assert_eq!(masked.record().violations[0].message, format!("`{MASK}` is too short"));
    assert_eq!(masked.record().warnings, [format!("{MASK}?")]);
    assert_eq!(
        masked.record().masked,
        [
            "/input/object/spec/configuration/parameters",
            "/violations/0/message",
            "/warnings/0"
        ]
    );
}

#[test]
fn of_parameters_only_the_names_stay() {
    let parameters = json!({
        "requirepass": "hunt5", "user": "default on >hunter2 ~*", "max_connections": "100", "wal_level": "logical",
        "a": 424_242, "b": {"c": "hunter2"}, "d": true, "e": "",
    });
    let mut quoting = record(1);
    quoting.input = Some(json!({
        "object": {"spec": {"configuration": {"parameters": parameters}}},
        "other": {"spec": {"configuration": {"parameters": ["hunter2"]}}},
        "old": {"metadata": {"annotations": {"x": json!({"spec": {"configuration": {"parameters": parameters}}}).to_string()}}},
    }));
    quoting.warnings = vec![
        "default on >hunter2 ~*".to_owned(),
        "max_connections is 100, wal_level logical".to_owned(),
    ];
    let masked = mask(quoting);
    let left = json!({
        "requirepass": MASK, "user": MASK, "max_connections": MASK, "wal_level": MASK,
        "a": MASK, "b": MASK, "d": true, "e": "",
    });
    let input = masked.record().input.as_ref().unwrap();
    assert_eq!(input["object"]["spec"]["configuration"]["parameters"], left);
    assert_eq!(
        input["old"]["metadata"]["annotations"]["x"],
        json!({"spec": {"configuration": {"parameters": left}}}).to_string()
    );
    assert_eq!(
        masked.record().warnings,
        [MASK, "max_connections is 100, wal_level logical"]
    );
    assert_eq!(
        masked.record().masked,
        [
            "/input/object/spec/configuration/parameters",
            "/input/old/metadata/annotations/x",
            "/input/other/spec/configuration/parameters",
            "/warnings/0"
        ]
    );
}

#[test]
fn labels_and_patches_hold_no_passwords() {
    let masked = mask_document(json!({
        "labels": {"password": "hunter2", "token-holder": "a"},
        "patch": [
            {"op": "add", "path": "/spec/password", "value": "hunter2"},
            {"op": "add", "path": "/spec/configuration/parameters/x", "value": "hunter2"},
            {"op": "add", "path": "/spec/configuration/parameters", "value": {"x": "hunter2"}},
            {"op": "replace", "path": "/spec/version", "value": "16"},
        ],
    }));
    assert_eq!(
        masked.masked,
        ["/labels/password", "/patch/0/value", "/patch/1/value", "/patch/2/value"]
    );
    assert!(!masked.value.to_string().contains("hunter2"));
}

#[test]
fn names_of_secrets_and_harmless_things_stay() {
    let document = json!({
        "metadata": {"name": "shop", "labels": {"app.kubernetes.io/name": "shop", "token-holder": "team-a"}},
        "spec": {
            "configuration": {"secretRef": {"name": "db-params"}, "parameters": {}, "max_connections": "100"},
            "template": {
                "automountServiceAccountToken": false,
                "imagePullSecrets": [{"name": "pull"}],
                "tolerations": [{"key": "dedicated", "operator": "Exists"}],
                "affinity": {"topologyKey": "kubernetes.io/hostname"},
                "volumes": [{"name": "v", "secret": {"secretName": "db-app", "items": [{"key": "ca.crt", "path": "ca"}]}}],
                "containers": [{
                    "image": "docker.io/library/postgres:16.14-bookworm@sha256:0123456789",
                    "env": [{"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": "db-app", "key": "password"}}}],
                }],
            },
        },
        "status": {"connectionInfo": {"secretRef": "db-app"}},
    });
    let masked = mask_document(document.clone());
    assert_eq!(masked.masked, Vec::<String>::new());
    assert_eq!(masked.value, document);
}

#[test]
fn what_was_masked_is_said() {
    let masked = mask_document(json!({
        "children": [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "eA=="}}],
        "object": {
            "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a/token": "t"}},
            "spec": {"env": [{"name": "API_KEY", "value": "v"}], "url": "redis://:pw@host"},
        },
    }));
    assert_eq!(
        masked.value,
        json!({
            "children": [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}],
            "object": {
                "metadata": {"annotations": {"a/token": MASK}},
                "spec": {"env": [{"name": "API_KEY", "value": MASK}], "url": format!("redis://{MASK}@host")},
            },
        })
    );
    assert_eq!(
        masked.masked,
        [
            "/object/metadata/annotations/a~1token",
            "/object/spec/env/0/value",
            "/object/spec/url"
        ]
    );
    let annotation = "/object/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";
    assert_eq!(masked.erased, ["/children/0/data", annotation]);
}

#[test]
fn planted_secrets_are_not_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let log = started(folder.path());
    let mut planted = record(1);
    planted.input = Some(json!({"object": {"spec": {"parameters": {"password": "ZQplantedQZ"}}}}));
    planted.warnings = vec!["postgres://u:ZQplantedQZ@h".to_owned(), "ZQplantedQZ".to_owned()];
    log.record(&mask(planted));
    assert!(log.flush(FLUSH));
    assert_eq!(log.reader().page(&Filter::default()).unwrap().entries.len(), 1);
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(11).any(|window| window == b"ZQplantedQZ"));
    }
}
