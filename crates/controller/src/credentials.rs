//! Passwords: random once, then only ever copied from the administrator's Secret.

use std::collections::BTreeMap;

use api::database::Engine;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use planner::plan::Subject;
use rand::Rng;
use rand::distr::{Alphanumeric, SampleString as _};
use serde_json::Value;

/// Length of a password: 32 characters of 62 are 190 bits, and need no quoting in any engine, shell or URL.
const PASSWORD_LENGTH: usize = 32;

/// The administrator's Secret cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "Secret {secret}: key {key} is missing or not text; restore the Secret from a copy, or restore a backup into a new Database"
)]
pub struct CredentialsError {
    secret: String,
    key: &'static str,
}

/// What a new administrator's Secret holds beyond names: two passwords, and the salt of hashes of secret values.
pub fn generate(random: &mut impl Rng) -> BTreeMap<String, String> {
    ["password", "app-password", "salt"]
        .into_iter()
        .map(|key| (key.to_owned(), Alphanumeric.sample_string(random, PASSWORD_LENGTH)))
        .collect()
}

/// A value of a Secret, as text.
pub fn value(secret: &Value, key: &'static str) -> Result<String, CredentialsError> {
    secret["data"][key]
        .as_str()
        .and_then(|encoded| BASE64.decode(encoded).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|text| !text.is_empty())
        .ok_or_else(|| CredentialsError {
            secret: secret["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            key,
        })
}

/// What the application's Secret holds beyond what its manifest names: the keys of a service binding that come from
/// the administrator's Secret.
pub fn app(admin: &Value, body: &Value, subject: &Subject) -> Result<BTreeMap<String, String>, CredentialsError> {
    let username = value(admin, "app-username")?;
    let password = value(admin, "app-password")?;
    let database = value(admin, "app-database")?;
    let engine: Option<Engine> = value(body, "type")?.parse().ok();
    let uri = engine.map(|engine| {
        let profile = engines::profile(engine);
        profile.uri(&subject.host(), profile.port, &username, &password, &database)
    });
    let mut keys = BTreeMap::from([
        ("username".to_owned(), username),
        ("password".to_owned(), password),
        ("database".to_owned(), database),
    ]);
    keys.extend(uri.map(|uri| ("uri".to_owned(), uri)));
    Ok(keys)
}
