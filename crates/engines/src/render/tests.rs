use proptest::prelude::*;

use super::*;
use crate::catalogue::Catalogue;

fn release(engine: Engine) -> Release {
    let catalogue = Catalogue::builtin();
    catalogue
        .releases(engine)
        .last()
        .expect("every engine has a release")
        .clone()
}

/// The main file and the Secret's file, as far as lines that set something go.
fn texts(engine: Engine, parameters: &BTreeMap<String, String>) -> [String; 2] {
    let main = configuration(engine, &release(engine), None, parameters);
    let secret = secret_configuration(engine, parameters);
    let name = secret.keys().next().expect("it has one file").clone();
    [main[&name].clone(), secret[&name].clone()]
}

/// Reads a file by the engine's own rules, written here a second time from its manual and its reader's source.
/// Pairs in the order of the file; a line that the engine would refuse is an error.
fn read(engine: Engine, text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = match engine {
            Engine::Postgresql if line.starts_with("include_if_exists = ") => continue,
            Engine::Mysql if line == "[mysqld]" || line.starts_with("!include ") => continue,
            Engine::Mongodb if line == "setParameter:" => continue,
            Engine::Postgresql => line
                .split_once(" = ")
                .and_then(|(name, value)| Some((name, postgresql_value(value)?))),
            Engine::Mysql => line
                .split_once(" = ")
                .and_then(|(name, value)| Some((name, mysql_value(value)?))),
            Engine::Mongodb => line
                .split_once(": ")
                .and_then(|(name, value)| Some((name, json_value(value)?))),
            Engine::Redis => line
                .split_once(' ')
                .and_then(|(name, value)| Some((name, redis_value(name, value)?))),
        };
        let (name, value) = pair.ok_or_else(|| format!("{engine} would refuse {line:?}"))?;
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

/// guc-file.l: a quote, then anything but quote, backslash and line break, or an escape, or two quotes; then a quote.
fn postgresql_value(text: &str) -> Option<String> {
    let mut characters = text.strip_prefix('\'')?.chars();
    let mut value = String::new();
    loop {
        match characters.next()? {
            '\'' => match characters.next() {
                Some('\'') => value.push('\''),
                None => return Some(value),
                Some(_) => return None,
            },
            // Of the escapes we write only this one.
            '\\' => match characters.next()? {
                '\\' => value.push('\\'),
                _ => return None,
            },
            other => value.push(other),
        }
    }
}

/// `my_default.cc`: the quotes around the value go, then escapes are replaced; a quote of the same kind within ends it.
fn mysql_value(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?;
    let mut characters = inner.chars();
    let mut value = String::new();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(value),
            '\\' => match characters.next()? {
                escaped @ ('"' | '\\') => value.push(escaped),
                _ => return None,
            },
            other => value.push(other),
        }
    }
}

fn json_value(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}

/// `sdssplitargs`: between double quotes, `\xHH` is a byte and a backslash makes the next character plain.
fn redis_value(name: &str, text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('"') else {
        // The operator's own lines that are written as they stand.
        return matches!(name, "bind" | "include").then(|| text.to_owned());
    };
    let bytes = inner.as_bytes();
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            b'"' => return (at + 1 == bytes.len()).then(|| String::from_utf8(value).ok()).flatten(),
            b'\\' if bytes.get(at + 1) == Some(&b'x') => {
                value.push(u8::from_str_radix(inner.get(at + 2..at + 4)?, 16).ok()?);
                at += 4;
            }
            b'\\' => {
                value.push(*bytes.get(at + 1)?);
                at += 2;
            }
            other => {
                value.push(other);
                at += 1;
            }
        }
    }
}

/// A name that each engine takes and the operator does not own.
fn name(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgresql => "application_name",
        Engine::Mysql => "init_connect",
        Engine::Mongodb => "storage.wiredTiger.engineConfig.configString",
        Engine::Redis => "notify-keyspace-events",
    }
}

/// Whatever a value holds that `parameters::check` lets pass, with what injection is made of more often than not.
fn values() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("'".to_owned()),
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just("\\n".to_owned()),
        Just("\\x41".to_owned()),
        Just("''".to_owned()),
        Just(" # ".to_owned()),
        Just("= ".to_owned()),
        Just("\t".to_owned()),
        Just("\u{b}\u{c}\u{1b}\u{7f}\u{85}\u{2028}".to_owned()),
        Just("include ".to_owned()),
        Just("[mysqld]".to_owned()),
        "\\PC{0,8}",
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().replace(['\n', '\r', '\0'], ""))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_value_is_read_back_and_nothing_else_is(value in values(), engine in proptest::sample::select(&Engine::ALL[..])) {
        let parameters = pairs([(name(engine), &value)]);
        let accepted = crate::parameters::check(
            engine,
            &release(engine).version,
            parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())),
            "p",
        );
        prop_assert_eq!(accepted, vec![]);
        let plain = texts(engine, &BTreeMap::new());
        for (with, without) in texts(engine, &parameters).iter().zip(&plain) {
            let with = read(engine, with).map_err(TestCaseError::fail)?;
            let without = read(engine, without).map_err(TestCaseError::fail)?;
            let (ours, theirs): (Vec<_>, Vec<_>) = with.into_iter().partition(|(name, _)| parameters.contains_key(name));
            prop_assert_eq!(ours, vec![(name(engine).to_owned(), value.clone())]);
            prop_assert_eq!(theirs, without);
        }
    }

    #[test]
    fn a_secret_is_masked_in_every_form_it_can_stand_in_a_file(value in values()) {
        prop_assume!(value.chars().count() >= 4);
        for engine in Engine::ALL {
            let file = secret_configuration(engine, &pairs([(name(engine), &value)]));
            for text in file.values() {
                let line = text.lines().last().expect("it has a line");
                let masked = crate::mask(line, &[&value]);
                prop_assert!(masked.contains("(hidden)"), "{engine}: {masked}");
            }
        }
    }
}

#[test]
fn the_operators_settings_stand_last() {
    for engine in Engine::ALL {
        let [main, _] = texts(engine, &BTreeMap::from([(name(engine).to_owned(), "x".to_owned())]));
        let positions: Vec<usize> = ["# Defaults", "# Parameters of", "# Parameters from", "# Settings"]
            .iter()
            .map(|heading| main.find(heading).expect(heading))
            .collect();
        assert!(positions.is_sorted(), "{engine}");
        assert!(
            main.find(name(engine))
                .is_some_and(|at| positions[1] < at && at < positions[2]),
            "{engine}"
        );
    }
}

/// A user who gets past the check still changes nothing that the operator relies on, since the last line wins.
#[test]
fn every_fixed_setting_is_also_refused_as_a_parameter() {
    for engine in Engine::ALL {
        let [main, _] = texts(engine, &BTreeMap::new());
        let fixed = main.split_once("# Settings").expect("it has the part").1;
        let pairs = read(engine, fixed.split_once('\n').expect("the heading is a line").1).expect("it is well formed");
        assert!(pairs.len() > 5, "{engine}");
        for (name, _) in pairs {
            let version = release(engine).version;
            let faults = crate::parameters::check(engine, &version, [(name.as_str(), "x")].into_iter(), "p");
            assert!(!faults.is_empty(), "{engine}: {name} is ours, and anybody may set it");
        }
    }
}

#[test]
fn caches_follow_the_memory_limit() {
    let sized = |engine, text: &str| {
        let memory: Quantity = text.parse().expect("it is a quantity");
        let files = configuration(engine, &release(engine), Some(&memory), &BTreeMap::new());
        files.into_values().collect::<String>()
    };
    assert!(sized(Engine::Postgresql, "1Gi").contains("shared_buffers = '262144kB'"));
    assert!(sized(Engine::Postgresql, "1Gi").contains("effective_cache_size = '786432kB'"));
    assert!(sized(Engine::Redis, "1Gi").contains("maxmemory \"805306368\""));
    assert!(sized(Engine::Mysql, "1Gi").contains("innodb_buffer_pool_size = \"536870912\""));
    // Milli bytes are allowed by Kubernetes; nobody gets a part of a byte.
    assert!(sized(Engine::Redis, "4000m").contains("maxmemory \"3\""));
}
