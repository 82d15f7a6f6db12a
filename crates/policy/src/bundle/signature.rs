//! Signatures over all files of a bundle, in OPA's format.
//!
//! `.signatures.json` holds one token that lists every file with its hash. [`verify`] checks the token against a key
//! that is trusted, then the list against the files in both directions.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::document::{Document, DocumentError};
use super::files::{FileError, Files, Kind, SIGNATURES, hex};
use super::keys::{Algorithm, KeyError, PublicKey, SigningKey, list};
use super::token::{self, Token};

/// Whom bundles must come from.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Keys by their id.
    pub keys: BTreeMap<String, PublicKey>,
    /// What bundles must be signed for, so that one for another place does not pass here. Empty: for no scope.
    pub scope: String,
    /// Whether unsigned bundles are refused. Without it and without keys, signatures are not looked at.
    pub require_signature: bool,
}

/// What is said beside the files when a bundle is signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The id of the key, under which those who verify find it.
    pub key_id: String,
    /// What the bundle is for. Empty: no scope.
    pub scope: String,
}

/// Proof that a key signed the files of a bundle. Only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    key_id: String,
    algorithm: Algorithm,
    issued_at: Option<Timestamp>,
}

impl Signed {
    /// The key, by its id in [`Trust::keys`].
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// How it signed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// When, as the signer says. OPA does not say.
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.issued_at
    }
}

/// Why a bundle could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Without an id, those who verify could not find the key.
    #[error("the key id is empty; give the name under which the clusters know the key")]
    NoKeyId,
    /// A file is not what its name says.
    #[error("{name:?}")]
    Document {
        /// The file.
        name: String,
        /// Why.
        source: DocumentError,
    },
    /// The key failed.
    #[error("the bundle is not signed")]
    Key(#[from] KeyError),
    /// There is no room for the signature.
    #[error("the bundle is not signed")]
    File(#[from] FileError),
}

/// Why a signature does not vouch for the bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// There is none.
    #[error(".signatures.json: not there; sign the bundle with `policy sign` or `opa build --signing-key`")]
    Unsigned,
    /// Not what OPA writes.
    #[error(".signatures.json: {why}; sign the bundle anew")]
    Malformed {
        /// What is wrong.
        why: String,
    },
    /// None, symmetric, or unknown.
    #[error(".signatures.json: algorithm {found:?} proves nothing about who signed; sign with one of {}", list(&Algorithm::ALL))]
    Algorithm {
        /// As the token spells it.
        found: String,
    },
    /// The algorithm is not one of the trusted key's.
    #[error(".signatures.json: {found} cannot come from key {key_id:?}, which signs with {}; sign with that key", list(.possible))]
    KeyKind {
        /// The key.
        key_id: String,
        /// The algorithm that the token names.
        found: Algorithm,
        /// What fits the key.
        possible: &'static [Algorithm],
    },
    /// A header that we would have to understand.
    #[error(".signatures.json: critical header {names} is not known here; sign without it")]
    Critical {
        /// What the token calls critical.
        names: String,
    },
    /// The header and the payload name different keys.
    #[error(".signatures.json: names key {header:?} in its header but {claim:?} in its claims; sign with one of them")]
    KeyIdsDiffer {
        /// The one.
        header: String,
        /// The other.
        claim: String,
    },
    /// No id, and more keys, or fewer, than one to choose from.
    #[error(".signatures.json: names no key, and {trusted} keys are trusted; sign with a key id")]
    NoKeyId {
        /// How many.
        trusted: usize,
    },
    /// Another key than the trusted ones.
    #[error(
        ".signatures.json: signed with key {key_id:?}, but trusted are {known:?}; sign with one of these, or add the key"
    )]
    UnknownKey {
        /// The one that signed.
        key_id: String,
        /// The trusted ones.
        known: Vec<String>,
    },
    /// Forged, or changed since.
    #[error(
        ".signatures.json: the signature is not of key {key_id:?}; the token was changed, or signed with another key of that id"
    )]
    Forged {
        /// The key.
        key_id: String,
    },
    /// Signed for something else.
    #[error(".signatures.json: signed for scope {found:?}, but here it must be {expected:?}; sign for that scope")]
    Scope {
        /// The token's.
        found: String,
        /// Ours.
        expected: String,
    },
    /// The token itself says when it holds.
    #[error(".signatures.json: holds from {from} until {until}, but it is {now}; sign anew")]
    OutOfTime {
        /// `nbf`, or "ever".
        from: String,
        /// `exp`, or "ever".
        until: String,
        /// When it was looked at.
        now: Timestamp,
    },
    /// MD5, SHA-1, or unknown.
    #[error("{name:?}: hashed with {found:?}; sign anew with SHA-256, SHA-384 or SHA-512")]
    Hash {
        /// The file.
        name: String,
        /// The algorithm.
        found: String,
    },
    /// Which of the two counts is a matter of the reader.
    #[error("{name:?}: listed twice in .signatures.json; sign anew")]
    ListedTwice {
        /// The file.
        name: String,
    },
    /// Signed, but not there.
    #[error("{name:?}: listed in .signatures.json but missing from the bundle; put it back, or sign anew")]
    Missing {
        /// The file.
        name: String,
    },
    /// There, but not signed.
    #[error("{name:?}: in the bundle but not in .signatures.json; remove it, or sign anew")]
    Added {
        /// The file.
        name: String,
    },
    /// Not what was signed.
    #[error("{name:?}: changed after it was signed; restore it, or sign anew")]
    Changed {
        /// The file.
        name: String,
    },
    /// A file is not what its name says.
    #[error("{name:?}")]
    Document {
        /// The file.
        name: String,
        /// Why.
        source: DocumentError,
    },
}

/// `.signatures.json`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignaturesFile {
    #[serde(default)]
    signatures: Vec<String>,
    #[serde(default)]
    plugin: String,
}

/// What the token says. Other claims are allowed and ignored, but these have their type or the token is refused.
#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    files: Vec<Listed>,
    #[serde(default)]
    keyid: String,
    #[serde(default)]
    scope: String,
    iat: Option<i64>,
    nbf: Option<i64>,
    exp: Option<i64>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    hash: String,
    algorithm: String,
}

/// Signs all files, in place of any signature that is there. `now` is noted in the token.
pub fn sign(files: &Files, key: &SigningKey, claims: &Claims, now: Timestamp) -> Result<Files, SignError> {
    if claims.key_id.is_empty() {
        return Err(SignError::NoKeyId);
    }
    let mut listed = Vec::new();
    for (name, content) in files.iter().filter(|(name, _)| *name != SIGNATURES) {
        let hash = hash::<Sha256>(name, content).map_err(|source| SignError::Document {
            name: name.to_owned(),
            source,
        })?;
        listed.push(json!({"name": name, "hash": hash, "algorithm": "SHA-256"}));
    }
    let mut payload = json!({"files": listed, "iat": now.as_second(), "keyid": claims.key_id});
    if !claims.scope.is_empty() {
        payload["scope"] = Value::from(claims.scope.as_str());
    }
    let token = token::sign(&payload, &claims.key_id, key)?;
    let mut signed = files.clone();
    signed.replace(SIGNATURES, format!("{:#}\n", json!({"signatures": [token]})))?;
    Ok(signed)
}

/// Checks that a trusted key signed exactly these files, for our scope.
pub fn verify(files: &Files, trust: &Trust, now: Timestamp) -> Result<Signed, VerifyError> {
    let token = read_token(files.get(SIGNATURES).ok_or(VerifyError::Unsigned)?)?;
    let algorithm = token::algorithm(&token).ok_or_else(|| VerifyError::Algorithm {
        found: token.algorithm.clone(),
    })?;
    if let Some(names) = &token.critical {
        return Err(VerifyError::Critical {
            names: names.to_string(),
        });
    }
    let payload: Payload = Document::from_json(&token.payload)
        .map_err(|error| error.to_string())
        .and_then(|document| serde_json::from_value(document.value()).map_err(|error| error.to_string()))
        .map_err(|why| VerifyError::Malformed {
            why: format!("the claims are not as OPA writes them: {why}"),
        })?;
    let (key_id, key) = choose(trust, token.key_id.as_deref(), &payload.keyid)?;
    if !key.algorithms().contains(&algorithm) {
        let possible = key.algorithms();
        return Err(VerifyError::KeyKind {
            key_id: key_id.to_owned(),
            found: algorithm,
            possible,
        });
    }
    if !key.verifies(algorithm, token.signed.as_bytes(), &token.signature) {
        return Err(VerifyError::Forged {
            key_id: key_id.to_owned(),
        });
    }
    // From here on the payload is the signer's word.
    if payload.scope != trust.scope {
        return Err(VerifyError::Scope {
            found: payload.scope,
            expected: trust.scope.clone(),
        });
    }
    check_time(&payload, now)?;
    check_files(files, payload.files)?;
    let issued_at = payload.iat.and_then(|seconds| Timestamp::from_second(seconds).ok());
    Ok(Signed {
        key_id: key_id.to_owned(),
        algorithm,
        issued_at,
    })
}

fn read_token(text: &str) -> Result<Token, VerifyError> {
    let malformed = |why: String| VerifyError::Malformed { why };
    let value = Document::from_json(text)
        .map_err(|error| malformed(error.to_string()))?
        .value();
    let file: SignaturesFile = serde_json::from_value(value).map_err(|error| malformed(error.to_string()))?;
    if !matches!(file.plugin.as_str(), "" | "_default") {
        return Err(malformed(format!(
            "it needs the plugin {:?}, which is not there",
            file.plugin
        )));
    }
    let [token] = file.signatures.as_slice() else {
        return Err(malformed(format!("it has {} tokens, not one", file.signatures.len())));
    };
    Token::parse(token).map_err(|why| malformed(format!("the token cannot be read: {why}")))
}

/// The trusted key that the token names; where it names none, the only one there is. The name is a hint from the
/// token, which is safe: the signature is checked with the key that it leads to.
fn choose<'a>(trust: &'a Trust, header: Option<&str>, claim: &str) -> Result<(&'a str, &'a PublicKey), VerifyError> {
    let header = header.unwrap_or_default();
    if !header.is_empty() && !claim.is_empty() && header != claim {
        return Err(VerifyError::KeyIdsDiffer {
            header: header.to_owned(),
            claim: claim.to_owned(),
        });
    }
    let named = if header.is_empty() { claim } else { header };
    let mut keys = trust.keys.iter();
    let found = match (named, keys.next(), keys.next()) {
        ("", Some(only), None) => Some(only),
        ("", ..) => {
            return Err(VerifyError::NoKeyId {
                trusted: trust.keys.len(),
            });
        }
        _ => trust.keys.get_key_value(named),
    };
    found
        .map(|(id, key)| (id.as_str(), key))
        .ok_or_else(|| VerifyError::UnknownKey {
            key_id: named.to_owned(),
            known: trust.keys.keys().cloned().collect(),
        })
}

/// OPA ignores these claims; whoever writes them means them.
fn check_time(payload: &Payload, now: Timestamp) -> Result<(), VerifyError> {
    let at = now.as_second();
    if payload.nbf.is_none_or(|from| from <= at) && payload.exp.is_none_or(|until| at < until) {
        return Ok(());
    }
    let word = |seconds: Option<i64>| match seconds.map(Timestamp::from_second) {
        Some(Ok(time)) => time.to_string(),
        Some(Err(_)) | None => "ever".to_owned(),
    };
    Err(VerifyError::OutOfTime {
        from: word(payload.nbf),
        until: word(payload.exp),
        now,
    })
}

/// Every file is listed and as listed, and every listed file is there.
fn check_files(files: &Files, listed: Vec<Listed>) -> Result<(), VerifyError> {
    let mut unseen = BTreeMap::new();
    for entry in listed {
        if let Some(other) = unseen.insert(entry.name.clone(), entry) {
            return Err(VerifyError::ListedTwice { name: other.name });
        }
    }
    for (name, content) in files.iter().filter(|(name, _)| *name != SIGNATURES) {
        let entry = unseen
            .remove(name)
            .ok_or_else(|| VerifyError::Added { name: name.to_owned() })?;
        let hash = match entry.algorithm.as_str() {
            "SHA-256" => hash::<Sha256>(name, content),
            "SHA-384" => hash::<Sha384>(name, content),
            "SHA-512" => hash::<Sha512>(name, content),
            _ => {
                return Err(VerifyError::Hash {
                    name: entry.name,
                    found: entry.algorithm,
                });
            }
        };
        let hash = hash.map_err(|source| VerifyError::Document {
            name: name.to_owned(),
            source,
        })?;
        if !hash.eq_ignore_ascii_case(&entry.hash) {
            return Err(VerifyError::Changed { name: entry.name });
        }
    }
    match unseen.into_keys().next() {
        Some(name) => Err(VerifyError::Missing { name }),
        None => Ok(()),
    }
}

/// The hash of a file as OPA makes it: of the content for documents, of the bytes for all others.
fn hash<D: Digest>(name: &str, content: &str) -> Result<String, DocumentError> {
    let mut hash = D::new();
    match Kind::of(name) {
        Some(kind) if kind.is_structured() => {
            let document = if kind == Kind::Yaml {
                Document::from_yaml(content)
            } else {
                Document::from_json(content)
            };
            document?.canonical(&mut |piece| hash.update(piece));
        }
        _ => hash.update(content),
    }
    Ok(hex(&hash.finalize()))
}
