use std::fs;
use std::path::Path;

use super::*;

fn pem(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundle/fixtures/keys");
    fs::read_to_string(folder.join(format!("throw-away-{name}"))).unwrap()
}

const KEYS: [&str; 4] = ["p256", "p384", "rsa", "ed25519"];

#[test]
fn each_kind_of_key_verifies_with_its_own_algorithms_and_no_others() {
    for name in KEYS {
        let public = PublicKey::from_pem(&pem(&format!("{name}.pub.pem"))).unwrap();
        for algorithm in Algorithm::ALL {
            let private = SigningKey::from_pem(&pem(&format!("{name}.pem")), Some(algorithm));
            if !public.algorithms().contains(&algorithm) {
                assert!(matches!(private, Err(KeyError::Algorithm { .. })), "{name} {algorithm}");
                continue;
            }
            let signature = private.unwrap().sign(b"message").unwrap();
            for other in Algorithm::ALL {
                assert_eq!(
                    public.verifies(other, b"message", &signature),
                    other == algorithm,
                    "{name} {other}"
                );
            }
            assert!(!public.verifies(algorithm, b"massage", &signature));
            assert!(!public.verifies(algorithm, b"message", &[]));
            assert!(!public.verifies(algorithm, b"message", &vec![0; signature.len()]));
        }
    }
}

#[test]
fn a_signature_of_one_key_is_none_of_another() {
    let signature = SigningKey::from_pem(&pem("p256.pem"), None)
        .unwrap()
        .sign(b"message")
        .unwrap();
    let other = PublicKey::from_pem(&pem("other-p256.pub.pem")).unwrap();
    assert!(!other.verifies(Algorithm::Es256, b"message", &signature));
}

#[test]
fn algorithms_that_prove_nothing_have_no_name_here() {
    for name in [
        "none", "None", "", "HS256", "HS384", "HS512", "es256", "ES512", "ES256K", "RSA-OAEP", "ES256 ",
    ] {
        assert_eq!(Algorithm::named(name), None, "{name}");
    }
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::named(algorithm.name()), Some(algorithm));
    }
}

#[test]
fn a_private_key_is_no_public_key_and_the_other_way_round() {
    for name in KEYS {
        let (private, public) = (pem(&format!("{name}.pem")), pem(&format!("{name}.pub.pem")));
        assert!(matches!(PublicKey::from_pem(&private), Err(KeyError::Block { .. })));
        assert!(matches!(
            SigningKey::from_pem(&public, None),
            Err(KeyError::Block { .. })
        ));
    }
}

#[test]
fn what_is_no_key_is_refused() {
    for text in ["", "secret", "-----BEGIN PUBLIC KEY-----\n"] {
        assert!(
            matches!(PublicKey::from_pem(text), Err(KeyError::NotPem { .. })),
            "{text}"
        );
        assert!(
            matches!(SigningKey::from_pem(text, None), Err(KeyError::NotPem { .. })),
            "{text}"
        );
    }
    let block = |tag: &str, bytes: &[u8]| ::pem::encode(&::pem::Pem::new(tag, bytes));
    assert_eq!(PublicKey::from_pem(&block("PUBLIC KEY", b"x")), Err(KeyError::Damaged));
    assert!(matches!(
        SigningKey::from_pem(&block("PRIVATE KEY", b"x"), None),
        Err(KeyError::Refused { .. })
    ));
    // X25519, which does not sign.
    let exchange = [
        &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00][..],
        &[9; 32],
    ]
    .concat();
    assert_eq!(
        PublicKey::from_pem(&block("PUBLIC KEY", &exchange)),
        Err(KeyError::Unsupported)
    );
    let whole = ::pem::parse(pem("p256.pub.pem")).unwrap().into_contents();
    assert_eq!(
        PublicKey::from_pem(&block("PUBLIC KEY", &[&whole[..], b"x"].concat())),
        Err(KeyError::Damaged)
    );
}

#[test]
fn a_private_key_is_never_printed() {
    let key = SigningKey::from_pem(&pem("p256.pem"), None).unwrap();
    assert_eq!(format!("{key:?}"), "SigningKey(ES256)");
}
