//! Keys and the algorithms that each kind of key can be used with.
//!
//! A token says which algorithm signed it, but must not choose how it is checked: the kind of the key that we trust
//! does. There is no way to express a symmetric algorithm, or none at all, in these types.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING,
    ED25519, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The signature algorithms of JSON Web Signatures that are accepted. All are asymmetric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// RSA PKCS#1 v1.5 with SHA-256. OPA's default.
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    Rs512,
    /// RSA-PSS with SHA-256.
    Ps256,
    /// RSA-PSS with SHA-384.
    Ps384,
    /// RSA-PSS with SHA-512.
    Ps512,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every one of them.
    pub const ALL: [Self; 9] = [
        Self::Es256,
        Self::Es384,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::EdDsa,
    ];

    /// Its name in a token.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of that name, exactly as tokens spell it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a key is, whichever half of it we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    P256,
    P384,
    Rsa,
    Ed25519,
}

impl KeyKind {
    /// The first is the default for signing.
    const fn algorithms(self) -> &'static [Algorithm] {
        match self {
            Self::P256 => &[Algorithm::Es256],
            Self::P384 => &[Algorithm::Es384],
            Self::Rsa => &[
                Algorithm::Rs256,
                Algorithm::Rs384,
                Algorithm::Rs512,
                Algorithm::Ps256,
                Algorithm::Ps384,
                Algorithm::Ps512,
            ],
            Self::Ed25519 => &[Algorithm::EdDsa],
        }
    }
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not one PEM block.
    #[error("the key is not one PEM block; give the file that begins with -----BEGIN {expected}-----")]
    NotPem {
        /// The block that is expected.
        expected: &'static str,
    },
    /// A PEM block of another kind.
    #[error("the key is a PEM block {found:?}; {hint}")]
    Block {
        /// Its kind.
        found: String,
        /// How to convert it.
        hint: &'static str,
    },
    /// The block does not hold such a key.
    #[error("the key is damaged; make the file anew")]
    Damaged,
    /// Another curve or algorithm.
    #[error(
        "the key is none of P-256, P-384, RSA and Ed25519; make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
    )]
    Unsupported,
    /// The private key was refused, mostly because it is too short.
    #[error("the private key is refused: {why}; RSA needs 2048 to 4096 bits, and an EC key its public half")]
    Refused {
        /// In the words of the library.
        why: String,
    },
    /// The algorithm does not fit the key.
    #[error("{algorithm} cannot be used with this kind of key; use one of {}", list(.possible))]
    Algorithm {
        /// The algorithm.
        algorithm: Algorithm,
        /// What fits.
        possible: &'static [Algorithm],
    },
    /// The system gave no random numbers.
    #[error("signing failed; the system gave no random numbers, so try again")]
    Signing,
}

pub(super) fn list(algorithms: &[Algorithm]) -> String {
    algorithms
        .iter()
        .map(|algorithm| algorithm.name())
        .collect::<Vec<_>>()
        .join(", ")
}

/// A key that signatures are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    /// As `ring` takes it: a point, 32 bytes, or an `RSAPublicKey`.
    bytes: Vec<u8>,
}

impl PublicKey {
    /// Reads a PEM block `PUBLIC KEY`, as `openssl pkey -pubout` writes it, or `RSA PUBLIC KEY`.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let block = pem::parse(text).map_err(|_| KeyError::NotPem { expected: "PUBLIC KEY" })?;
        match block.tag() {
            "PUBLIC KEY" => Self::from_spki(block.contents()),
            "RSA PUBLIC KEY" => Ok(Self {
                kind: KeyKind::Rsa,
                bytes: block.contents().to_vec(),
            }),
            found => Err(KeyError::Block {
                found: found.to_owned(),
                hint: "give the public key alone: `openssl pkey -in KEY -pubout`, or `openssl x509 -in CERT -noout -pubkey`",
            }),
        }
    }

    fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyError::Damaged)?;
        if !rest.is_empty() {
            return Err(KeyError::Damaged);
        }
        let curve = info
            .algorithm
            .parameters
            .as_ref()
            .and_then(|any| any.as_oid().ok())
            .map(|oid| oid.to_id_string());
        let kind = match (info.algorithm.algorithm.to_id_string().as_str(), curve.as_deref()) {
            ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => KeyKind::P256,
            ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => KeyKind::P384,
            ("1.2.840.113549.1.1.1", _) => KeyKind::Rsa,
            ("1.3.101.112", _) => KeyKind::Ed25519,
            _ => return Err(KeyError::Unsupported),
        };
        Ok(Self {
            kind,
            bytes: info.subject_public_key.data.into_owned(),
        })
    }

    /// The algorithms that this key can check.
    pub fn algorithms(&self) -> &'static [Algorithm] {
        self.kind.algorithms()
    }

    /// Whether `signature` is this key's over `message`. False also if the algorithm does not fit the key.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let how: &dyn VerificationAlgorithm = match (self.kind, algorithm) {
            (KeyKind::P256, Algorithm::Es256) => &ECDSA_P256_SHA256_FIXED,
            (KeyKind::P384, Algorithm::Es384) => &ECDSA_P384_SHA384_FIXED,
            (KeyKind::Ed25519, Algorithm::EdDsa) => &ED25519,
            (KeyKind::Rsa, Algorithm::Rs256) => &RSA_PKCS1_2048_8192_SHA256,
            (KeyKind::Rsa, Algorithm::Rs384) => &RSA_PKCS1_2048_8192_SHA384,
            (KeyKind::Rsa, Algorithm::Rs512) => &RSA_PKCS1_2048_8192_SHA512,
            (KeyKind::Rsa, Algorithm::Ps256) => &RSA_PSS_2048_8192_SHA256,
            (KeyKind::Rsa, Algorithm::Ps384) => &RSA_PSS_2048_8192_SHA384,
            (KeyKind::Rsa, Algorithm::Ps512) => &RSA_PSS_2048_8192_SHA512,
            (KeyKind::P256 | KeyKind::P384 | KeyKind::Ed25519 | KeyKind::Rsa, _) => return false,
        };
        UnparsedPublicKey::new(how, &self.bytes)
            .verify(message, signature)
            .is_ok()
    }
}

/// A key that bundles are signed with.
pub struct SigningKey {
    pair: Pair,
    algorithm: Algorithm,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for SigningKey {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm)
    }
}

impl SigningKey {
    /// Reads a PEM block `PRIVATE KEY` (PKCS#8), as `openssl genpkey` writes it, or `RSA PRIVATE KEY`.
    /// Without `algorithm`, it is the first of those that fit the key: ES256, ES384, RS256, EdDSA.
    pub fn from_pem(text: &str, algorithm: Option<Algorithm>) -> Result<Self, KeyError> {
        let block = pem::parse(text).map_err(|_| KeyError::NotPem {
            expected: "PRIVATE KEY",
        })?;
        let der = block.contents();
        let (kind, pair) = match block.tag() {
            "PRIVATE KEY" => Self::from_pkcs8(der)?,
            "RSA PRIVATE KEY" => (KeyKind::Rsa, rsa(RsaKeyPair::from_der(der))?),
            found => {
                return Err(KeyError::Block {
                    found: found.to_owned(),
                    hint: "give an unencrypted private key: `openssl pkcs8 -topk8 -nocrypt -in KEY`",
                });
            }
        };
        let possible = kind.algorithms();
        let algorithm = algorithm.unwrap_or(possible[0]);
        if !possible.contains(&algorithm) {
            return Err(KeyError::Algorithm { algorithm, possible });
        }
        Ok(Self { pair, algorithm })
    }

    /// PKCS#8 names the kind of key inside; each parser takes only its own.
    fn from_pkcs8(der: &[u8]) -> Result<(KeyKind, Pair), KeyError> {
        let random = SystemRandom::new();
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random) {
            return Ok((KeyKind::P256, Pair::Ecdsa(pair)));
        }
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, der, &random) {
            return Ok((KeyKind::P384, Pair::Ecdsa(pair)));
        }
        // OpenSSL leaves the public half out.
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok((KeyKind::Ed25519, Pair::Ed25519(pair)));
        }
        Ok((KeyKind::Rsa, rsa(RsaKeyPair::from_pkcs8(der))?))
    }

    /// The algorithm that it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair
                .sign(&random, message)
                .map(|signed| signed.as_ref().to_vec())
                .map_err(|_| KeyError::Signing),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(self.padding(), &random, message, &mut signed)
                    .map_err(|_| KeyError::Signing)?;
                Ok(signed)
            }
        }
    }

    fn padding(&self) -> &'static dyn RsaEncoding {
        match self.algorithm {
            Algorithm::Rs384 => &RSA_PKCS1_SHA384,
            Algorithm::Rs512 => &RSA_PKCS1_SHA512,
            Algorithm::Ps256 => &RSA_PSS_SHA256,
            Algorithm::Ps384 => &RSA_PSS_SHA384,
            Algorithm::Ps512 => &RSA_PSS_SHA512,
            // The others never come with an RSA key.
            Algorithm::Rs256 | Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => &RSA_PKCS1_SHA256,
        }
    }
}

fn rsa(parsed: Result<RsaKeyPair, ring::error::KeyRejected>) -> Result<Pair, KeyError> {
    parsed
        .map(|pair| Pair::Rsa(Box::new(pair)))
        .map_err(|error| KeyError::Refused { why: error.to_string() })
}

#[cfg(test)]
mod tests;
