//! What each engine gets, whole, as text: configuration files and containers. `UPDATE_EXPECT=1 cargo test -p engines`
//! rewrites the files under `goldens/`; the difference is what a reviewer reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use api::database::Engine;
use engines::catalogue::Catalogue;
use serde_json::Value;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn check(engine: Engine, version: &str, open: &[(&str, &str)], secret: &[(&str, &str)]) {
    let catalogue = Catalogue::builtin();
    let release = catalogue
        .resolve(engine, &version.parse().expect("a version"))
        .expect("it is in the catalogue");
    let memory = "1Gi".parse().expect("a quantity");
    let mut text = format!("{engine} {}: {}\n", release.version, release.image);
    let files = engines::render::configuration(engine, release, Some(&memory), &map(open));
    for (name, file) in files {
        write!(text, "\n=== ConfigMap: {name}\n{file}").expect("a String takes all");
    }
    for (name, file) in engines::render::secret_configuration(engine, &map(secret)) {
        write!(text, "\n=== Secret: {name}\n{file}").expect("a String takes all");
    }
    let parts = engines::pod::containers(engine, release);
    for (name, container) in [("initialise", &parts.initialise), ("database", &parts.database)] {
        write!(text, "\n=== container {name}\n").expect("a String takes all");
        print(&mut text, container, 0);
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/{engine}-{}.txt", release.major));
    expect_test::expect_file![file].assert_eq(&text);
}

/// Like YAML, with scripts as their lines: a form to be read, not parsed.
fn print(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let mut entries: Vec<(String, &Value)> = Vec::new();
    match value {
        Value::Object(map) => entries.extend(map.iter().map(|(key, value)| (format!("{key}:"), value))),
        Value::Array(list) => entries.extend(list.iter().map(|value| ("-".to_owned(), value))),
        scalar => writeln!(text, "{indent}{scalar}").expect("a String takes all"),
    }
    for (key, value) in entries {
        match value {
            Value::String(script) if script.contains('\n') => {
                writeln!(text, "{indent}{key} |").expect("a String takes all");
                for line in script.lines() {
                    writeln!(text, "{indent}  {line}").expect("a String takes all");
                }
            }
            Value::Object(_) | Value::Array(_) => {
                writeln!(text, "{indent}{key}").expect("a String takes all");
                print(text, value, depth + 1);
            }
            scalar => writeln!(text, "{indent}{key} {scalar}").expect("a String takes all"),
        }
    }
}

#[test]
fn postgresql() {
    let open = [
        ("work_mem", "64MB"),
        ("search_path", r#""$user", public"#),
        ("application_name", r"it's \ here"),
    ];
    let secret = [("pgsodium.api_key", "it's a secret")];
    check(Engine::Postgresql, "15.18", &open, &secret);
    check(Engine::Postgresql, "17.10", &open, &secret);
}

#[test]
fn redis() {
    let open = [
        ("maxmemory-policy", "allkeys-lru"),
        ("save", "900 1 300 10"),
        ("notify-keyspace-events", ""),
    ];
    check(Engine::Redis, "7.2.11", &open, &[("lua-time-limit", "1\t\"000\"")]);
}

#[test]
fn mysql() {
    check(
        Engine::Mysql,
        "8.4.8",
        &[("max_connections", "500"), ("init_connect", r#"SET @a = "b\c""#)],
        &[("sql_mode", "ANSI")],
    );
}

#[test]
fn mongodb() {
    let open = [
        ("storage.wiredTiger.engineConfig.cacheSizeGB", "0.5"),
        ("setParameter.cursorTimeoutMillis", "600000"),
    ];
    check(
        Engine::Mongodb,
        "8.0.16",
        &open,
        &[("security.javascriptEnabled", "false")],
    );
}
