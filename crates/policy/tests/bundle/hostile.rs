//! Bundles that someone tampered with, by way of their signature. Archives that attack the reader are in
//! `src/archive/tests.rs`, files that attack the parsers beside the parsers.

use std::io::{Read, Write};

use crate::common::{KEY_ID, SCOPE, claims, now, private, public, signed, small, text, trust, with, without};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use policy::bundle::{Algorithm, Bundle, Files, OpenError, Trust, VerifyError, archive, signature};
use ring::{hmac, rand, signature as raw};
use serde_json::{Value, json};

fn verify(files: &Files) -> Result<(), VerifyError> {
    signature::verify(files, &trust("p256"), now()).map(|_| ())
}

/// Header and payload of the token that signs `files`.
fn token_of(files: &Files) -> (Value, Value) {
    let file: Value = serde_json::from_str(files.get(".signatures.json").unwrap()).unwrap();
    let token = file["signatures"][0].as_str().unwrap().to_owned();
    let part =
        |index| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap();
    (part(0), part(1))
}

/// Signs with the trusted key, whatever the header says.
fn with_trusted_key(signed: &[u8]) -> Vec<u8> {
    let pem = pem::parse(text("keys/throw-away-p256.pem")).unwrap();
    let random = rand::SystemRandom::new();
    let pair = raw::EcdsaKeyPair::from_pkcs8(&raw::ECDSA_P256_SHA256_FIXED_SIGNING, pem.contents(), &random).unwrap();
    pair.sign(&random, signed).unwrap().as_ref().to_vec()
}

/// Puts a token of these parts into the bundle.
fn forged(files: &Files, header: &str, payload: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> Files {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign(signed.as_bytes())));
    with(files, ".signatures.json", &json!({"signatures": [token]}).to_string())
}

/// Changes the header and the payload, and signs both with the trusted key.
fn resigned(files: &Files, change: impl Fn(&mut Value, &mut Value)) -> Files {
    let (mut header, mut payload) = token_of(files);
    change(&mut header, &mut payload);
    forged(files, &header.to_string(), &payload.to_string(), with_trusted_key)
}

#[test]
fn the_start_of_all_these_tests_is_verified() {
    let files = signed(&small("{}"));
    assert_eq!(verify(&files), Ok(()));
    assert_eq!(verify(&resigned(&files, |_, _| {})), Ok(()));
    let bundle = Bundle::open("b", files, &trust("p256"), now()).unwrap();
    assert_eq!(bundle.signed_by(), Some(KEY_ID));
    assert_eq!(bundle.signed().unwrap().issued_at(), Some(now()));
}

#[test]
fn a_changed_file_is_refused() {
    let files = signed(&small("{}"));
    for (name, content) in [
        ("database/a.rego", "package database.a\n"),
        ("database/data.json", r#"{"settings":{"x":2}}"#),
        ("database/data.json", r#"{"settings":{"x":1.0}}"#),
        (".manifest", r#"{"revision":"r","roots":[""],"metadata":{}}"#),
        (
            ".manifest",
            r#"{"revision":"r","roots":["database"],"metadata":{"sequence":99}}"#,
        ),
    ] {
        let refused = verify(&with(&files, name, content));
        assert_eq!(
            refused,
            Err(VerifyError::Changed { name: name.to_owned() }),
            "{content}"
        );
    }
    // White space and the order of keys are not content, in documents.
    assert_eq!(
        verify(&with(&files, "database/data.json", "{ \"settings\" : {\"x\":1}}\n")),
        Ok(())
    );
    let spaced = format!("{}\n", files.get("database/a.rego").unwrap());
    assert!(verify(&with(&files, "database/a.rego", &spaced)).is_err());
}

#[test]
fn missing_and_added_files_are_refused() {
    let files = signed(&small("{}"));
    for name in ["database/a.rego", "database/data.json", ".manifest"] {
        assert_eq!(
            verify(&without(&files, name)),
            Err(VerifyError::Missing { name: name.to_owned() })
        );
    }
    for name in ["database/b.rego", "data.json", "data.yaml", "database/a_test.rego"] {
        assert_eq!(
            verify(&with(&files, name, "{}")),
            Err(VerifyError::Added { name: name.to_owned() })
        );
    }
    let renamed = with(
        &without(&files, "database/a.rego"),
        "database/c.rego",
        files.get("database/a.rego").unwrap(),
    );
    assert!(matches!(verify(&renamed), Err(VerifyError::Added { .. })));
}

#[test]
fn a_bundle_without_signature_is_unsigned_never_verified() {
    assert_eq!(verify(&small("{}")), Err(VerifyError::Unsigned));
    let bundle = Bundle::open("b", small("{}"), &trust("p256"), now()).unwrap();
    assert_eq!(bundle.signed_by(), None);
}

#[test]
fn a_signature_that_is_there_must_hold_also_where_none_is_required() {
    let optional = Trust {
        require_signature: false,
        ..trust("p256")
    };
    let changed = with(&signed(&small("{}")), "database/data.json", "{}");
    let refused = Bundle::open("b", changed.clone(), &optional, now());
    assert!(matches!(
        refused,
        Err(OpenError::Signature {
            source: VerifyError::Changed { .. },
            ..
        })
    ));
    // No key at all and none required: a developer's folder. It never counts as signed.
    assert_eq!(
        Bundle::open("b", changed, &Trust::default(), now())
            .unwrap()
            .signed_by(),
        None
    );
    // Required, but no key: nothing can be verified.
    let keyless = Trust {
        require_signature: true,
        ..Trust::default()
    };
    let refused = Bundle::open("b", signed(&small("{}")), &keyless, now());
    assert!(matches!(
        refused,
        Err(OpenError::Signature {
            source: VerifyError::UnknownKey { .. },
            ..
        })
    ));
}

#[test]
fn algorithm_none_is_refused_in_every_spelling() {
    let files = signed(&small("{}"));
    let payload = token_of(&files).1.to_string();
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({"alg": name, "kid": KEY_ID}).to_string();
        let refused = verify(&forged(&files, &header, &payload, |_| Vec::new()));
        assert_eq!(refused, Err(VerifyError::Algorithm { found: name.to_owned() }));
        assert!(verify(&forged(&files, &header, &payload, with_trusted_key)).is_err());
    }
    let nameless = forged(&files, &json!({"kid": KEY_ID}).to_string(), &payload, with_trusted_key);
    assert!(matches!(verify(&nameless), Err(VerifyError::Malformed { .. })));
}

#[test]
fn the_public_key_as_a_shared_secret_is_refused() {
    let files = signed(&small("{}"));
    let payload = token_of(&files).1.to_string();
    let secret = text("keys/throw-away-p256.pub.pem");
    let secrets = [
        secret.as_bytes().to_vec(),
        secret.trim_end().as_bytes().to_vec(),
        pem::parse(&secret).unwrap().into_contents(),
    ];
    for secret in &secrets {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let header = json!({"alg": "HS256", "kid": KEY_ID}).to_string();
        let refused = verify(&forged(&files, &header, &payload, |signed| {
            hmac::sign(&key, signed).as_ref().to_vec()
        }));
        assert_eq!(
            refused,
            Err(VerifyError::Algorithm {
                found: "HS256".to_owned()
            })
        );
        // Nor under the name of an algorithm that the key has.
        let header = json!({"alg": "ES256", "kid": KEY_ID}).to_string();
        let refused = verify(&forged(&files, &header, &payload, |signed| {
            hmac::sign(&key, signed).as_ref().to_vec()
        }));
        assert_eq!(
            refused,
            Err(VerifyError::Forged {
                key_id: KEY_ID.to_owned()
            })
        );
    }
}

#[test]
fn the_kind_of_the_trusted_key_decides_which_algorithms_count() {
    let files = signed(&small("{}"));
    for algorithm in Algorithm::ALL
        .into_iter()
        .filter(|algorithm| *algorithm != Algorithm::Es256)
    {
        let refused = verify(&resigned(&files, |header, _| header["alg"] = algorithm.name().into()));
        assert!(
            matches!(refused, Err(VerifyError::KeyKind { .. })),
            "{algorithm}: {refused:?}"
        );
    }
    // A token may not bring its own key.
    let other = private("other-p256", None);
    let stolen = signature::sign(&small("{}"), &other, &claims(), now()).unwrap();
    assert_eq!(
        verify(&stolen),
        Err(VerifyError::Forged {
            key_id: KEY_ID.to_owned()
        })
    );
}

#[test]
fn another_scope_is_refused() {
    for scope in ["staging", "", "Production", "production "] {
        let other = policy::bundle::Claims {
            scope: scope.to_owned(),
            ..claims()
        };
        let files = signature::sign(&small("{}"), &private("p256", None), &other, now()).unwrap();
        let refused = verify(&files);
        assert_eq!(
            refused,
            Err(VerifyError::Scope {
                found: scope.to_owned(),
                expected: SCOPE.to_owned()
            })
        );
    }
    let unscoped = Trust {
        scope: String::new(),
        ..trust("p256")
    };
    let refused = signature::verify(&signed(&small("{}")), &unscoped, now());
    assert!(matches!(refused, Err(VerifyError::Scope { .. })));
}

#[test]
fn another_key_id_is_refused_even_if_the_key_would_fit() {
    let files = signed(&small("{}"));
    for (header_id, claim_id) in [(Some("other"), "other"), (Some("other"), ""), (None, "other")] {
        let refused = verify(&resigned(&files, |header, payload| {
            header["kid"] = json!(header_id.unwrap_or_default());
            payload["keyid"] = json!(claim_id);
        }));
        let expected = VerifyError::UnknownKey {
            key_id: "other".to_owned(),
            known: vec![KEY_ID.to_owned()],
        };
        assert_eq!(refused, Err(expected));
    }
    let refused = verify(&resigned(&files, |header, _| header["kid"] = json!("other")));
    assert!(matches!(refused, Err(VerifyError::KeyIdsDiffer { .. })));
    // Two keys are trusted, and the token names the wrong one of them.
    let mut both = trust("p256");
    both.keys.insert("other".to_owned(), public("other-p256"));
    let crossed = resigned(&files, |header, payload| {
        header["kid"] = json!("other");
        payload["keyid"] = json!("other");
    });
    assert_eq!(
        signature::verify(&crossed, &both, now()),
        Err(VerifyError::Forged {
            key_id: "other".to_owned()
        })
    );
}

#[test]
fn without_a_key_id_only_a_single_trusted_key_is_meant() {
    let nameless = resigned(&signed(&small("{}")), |header, payload| {
        header.as_object_mut().unwrap().remove("kid");
        payload.as_object_mut().unwrap().remove("keyid");
    });
    assert_eq!(verify(&nameless), Ok(()));
    let mut both = trust("p256");
    both.keys.insert("other".to_owned(), public("other-p256"));
    assert_eq!(
        signature::verify(&nameless, &both, now()),
        Err(VerifyError::NoKeyId { trusted: 2 })
    );
}

#[test]
fn critical_headers_are_refused_since_none_is_known() {
    let files = signed(&small("{}"));
    for critical in [json!(["b64"]), json!(["exp"]), json!([]), json!(null)] {
        let refused = verify(&resigned(&files, |header, _| header["crit"] = critical.clone()));
        assert_eq!(
            refused,
            Err(VerifyError::Critical {
                names: critical.to_string()
            })
        );
    }
}

#[test]
fn times_in_the_token_count_and_a_wrong_type_is_not_the_same_as_none() {
    let files = signed(&small("{}"));
    let at = now().as_second();
    for (claim, value, holds) in [
        ("exp", json!(at + 1), true),
        ("exp", json!(at), false),
        ("nbf", json!(at), true),
        ("nbf", json!(at + 1), false),
    ] {
        let result = verify(&resigned(&files, |_, payload| payload[claim] = value.clone()));
        assert_eq!(result.is_ok(), holds, "{claim}: {result:?}");
        assert!(holds || matches!(result, Err(VerifyError::OutOfTime { .. })));
    }
    for value in [json!("never"), json!(1e300), json!([at])] {
        let refused = verify(&resigned(&files, |_, payload| payload["exp"] = value.clone()));
        assert!(matches!(refused, Err(VerifyError::Malformed { .. })), "{value}");
    }
}

#[test]
fn weak_hashes_and_lists_that_can_be_read_in_two_ways_are_refused() {
    let files = signed(&small("{}"));
    for weak in ["MD5", "SHA-1", "SHA-224", "sha-256", ""] {
        let refused = verify(&resigned(&files, |_, payload| {
            payload["files"][0]["algorithm"] = json!(weak);
        }));
        assert!(matches!(refused, Err(VerifyError::Hash { .. })), "{weak}: {refused:?}");
    }
    let refused = verify(&resigned(&files, |_, payload| {
        let first = payload["files"][0].clone();
        payload["files"].as_array_mut().unwrap().push(first);
    }));
    assert_eq!(
        refused,
        Err(VerifyError::ListedTwice {
            name: ".manifest".to_owned()
        })
    );
    let (header, payload) = token_of(&files);
    let twice = payload.to_string().replacen('{', r#"{"scope":"staging","#, 1);
    let refused = verify(&forged(&files, &header.to_string(), &twice, with_trusted_key));
    assert!(matches!(refused, Err(VerifyError::Malformed { .. })), "{refused:?}");
    let refused = verify(&resigned(&files, |_, payload| payload["files"] = json!([])));
    assert!(matches!(refused, Err(VerifyError::Added { .. })));
}

#[test]
fn signature_files_that_are_not_as_opa_writes_them_are_refused() {
    let files = signed(&small("{}"));
    let file: Value = serde_json::from_str(files.get(".signatures.json").unwrap()).unwrap();
    let token = file["signatures"][0].as_str().unwrap().to_owned();
    let cut = token.rsplit_once('.').unwrap().0.to_owned();
    for content in [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        json!({"signatures": []}).to_string(),
        json!({"signatures": [token, token]}).to_string(),
        json!({"signatures": [token], "plugin": "mine"}).to_string(),
        json!({"signatures": [token], "more": 1}).to_string(),
        json!({"signatures": [""]}).to_string(),
        json!({"signatures": [cut]}).to_string(),
        json!({"signatures": [format!("{token}.x")]}).to_string(),
        json!({"signatures": [format!("{token}=")]}).to_string(),
        json!({"signatures": [format!(" {token}")]}).to_string(),
        json!({"signatures": [token.replace('.', " . ")]}).to_string(),
    ] {
        let refused = verify(&with(&files, ".signatures.json", &content));
        assert!(
            matches!(refused, Err(VerifyError::Malformed { .. })),
            "{content:.60}: {refused:?}"
        );
    }
    let unsigned = json!({"signatures": [format!("{cut}.")]}).to_string();
    assert!(matches!(
        verify(&with(&files, ".signatures.json", &unsigned)),
        Err(VerifyError::Forged { .. })
    ));
}

/// Whatever happens to the bytes under way: a refusal, or the same bundle. Never a panic, never another bundle.
#[test]
fn random_damage_is_refused_or_does_not_matter() {
    let files = signed(&small(r#"{"sequence":7}"#));
    let whole = Bundle::open("b", files.clone(), &trust("p256"), now()).unwrap();
    let packed = archive::write(&files);
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice())
        .read_to_end(&mut unpacked)
        .unwrap();
    // A small generator of our own: the same damage in every run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut opened = 0;
    for _ in 0..3_000 {
        let mut damaged = unpacked.clone();
        for _ in 0..=random(3) {
            // Most of a tar file is padding; headers begin every 512 bytes.
            let at = random(unpacked.len() / 512) * 512 + random(512);
            damaged[at] = [0, b'/', b'.', b'1', 0xff, damaged[at] ^ 1][random(6)];
        }
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&damaged).unwrap();
        let Ok(read) = archive::read(&encoder.finish().unwrap()) else {
            continue;
        };
        let Ok(bundle) = Bundle::open("b", read, &trust("p256"), now()) else {
            continue;
        };
        if bundle.signed_by().is_some() {
            opened += 1;
            assert_eq!(bundle.data(), whole.data());
            assert_eq!(bundle.manifest(), whole.manifest());
            assert!(bundle.modules().eq(whole.modules()));
        }
    }
    assert!(
        opened > 0,
        "no damage was harmless, so the second half of this test proves nothing"
    );
}

#[test]
fn every_bit_of_the_token_counts() {
    let files = signed(&small("{}"));
    let file: Value = serde_json::from_str(files.get(".signatures.json").unwrap()).unwrap();
    let token = file["signatures"][0].as_str().unwrap().as_bytes().to_vec();
    for index in 0..token.len() {
        let mut changed = token.clone();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        let content = json!({"signatures": [String::from_utf8(changed).unwrap()]}).to_string();
        assert!(
            verify(&with(&files, ".signatures.json", &content)).is_err(),
            "byte {index}"
        );
    }
}

#[test]
fn refusals_say_what_where_and_how_to_mend_it() {
    let files = signed(&small("{}"));
    let refused = Bundle::open("shop", with(&files, "database/data.json", "{}"), &trust("p256"), now()).unwrap_err();
    assert_eq!(refused.to_string(), "bundle shop: the signature does not hold");
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert_eq!(
        source,
        r#""database/data.json": changed after it was signed; restore it, or sign anew"#
    );
}
