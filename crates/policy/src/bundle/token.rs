//! JSON Web Signatures in compact form: three parts in base64, of which the first two are signed.
//!
//! Only taken apart here. Nothing of it is true before a key has verified it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::document::Document;
use super::keys::{Algorithm, KeyError, SigningKey};

/// A token, taken apart.
pub(super) struct Token {
    /// As the token spells it, known or not.
    pub(super) algorithm: String,
    pub(super) key_id: Option<String>,
    /// Whatever the header calls critical; a reader that does not know it must refuse.
    pub(super) critical: Option<Value>,
    /// Not to be believed yet.
    pub(super) payload: String,
    /// What the signature is over.
    pub(super) signed: String,
    pub(super) signature: Vec<u8>,
}

impl Token {
    /// The error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (signed, signature) = text
            .rsplit_once('.')
            .ok_or("it is not three parts with dots between them")?;
        let (header, payload) = signed
            .split_once('.')
            .ok_or("it is not three parts with dots between them")?;
        if payload.contains('.') {
            return Err("it is not three parts with dots between them");
        }
        let mut header = object(&decoded(header)?)?;
        Ok(Self {
            algorithm: text_of(header.remove("alg"))?.ok_or("its header names no algorithm")?,
            key_id: text_of(header.remove("kid"))?,
            critical: header.remove("crit"),
            payload: decoded(payload)?,
            signed: signed.to_owned(),
            signature: bytes(signature)?,
        })
    }
}

/// A token over `payload`.
pub(super) fn sign(payload: &Value, key_id: &str, key: &SigningKey) -> Result<String, KeyError> {
    let header = json!({"alg": key.algorithm().name(), "kid": key_id});
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encoded(&header), encoded(payload));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}

/// The algorithm of that name, if it is one that may be used at all.
pub(super) fn algorithm(token: &Token) -> Option<Algorithm> {
    Algorithm::named(&token.algorithm)
}

fn bytes(part: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| "a part of it is not base64 for URLs without padding")
}

fn decoded(part: &str) -> Result<String, &'static str> {
    String::from_utf8(bytes(part)?).map_err(|_| "a part of it is not UTF-8")
}

fn object(text: &str) -> Result<Map<String, Value>, &'static str> {
    match Document::from_json(text).map(|document| document.value()) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) | Err(_) => Err("its header is not a JSON object with each key once"),
    }
}

fn text_of(value: Option<Value>) -> Result<Option<String>, &'static str> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err("its header has another type than text for the algorithm or the key id"),
    }
}
