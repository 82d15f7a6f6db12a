//! The certificate authority of one cluster and the identities that it vouches for.
//!
//! Names and groups are those that kubeadm gives, because the API server's built-in roles are bound to them.
//! Every key is an elliptic-curve key (P-256): made in well under a millisecond, accepted everywhere.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use thiserror::Error;

/// How long certificates are valid. A test cluster does not live longer, and nothing renews them.
const VALIDITY: Duration = Duration::from_hours(365 * 24);

/// Certificates are valid from a little in the past, so that a clock that is set back does not refuse them.
const BACKDATED: Duration = Duration::from_hours(1);

/// The two ways to write "organisation" in a subject: by name (`None`) and by number. The library keeps one value for
/// each way, so a client certificate can carry as many groups as there are ways.
const ORGANISATION: [Option<[u64; 4]>; 2] = [None, Some([2, 5, 4, 10])];

const AUTHORITY_CERTIFICATE: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";

/// Why no certificate was made.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// The library that makes certificates refused.
    #[error("the certificate of {subject} cannot be made: {source}")]
    Make {
        /// Whom it would have been for.
        subject: String,
        /// The library's reason.
        source: rcgen::Error,
    },
    /// A certificate has room for two groups.
    #[error("user {user} is in {groups} groups, but a certificate has room for 2; bind roles to the user instead")]
    TooManyGroups {
        /// The user.
        user: String,
        /// How many groups were asked for.
        groups: usize,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Who a client certificate says its holder is: the API server takes the common name as the user and every
/// organisation as a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user name.
    pub user: String,
    /// The groups the user is in.
    pub groups: Vec<String>,
}

impl Identity {
    /// A user in some groups.
    pub fn new(user: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            user: user.into(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        }
    }

    /// The user behind `kubectl`: may do everything, and appears in the audit log.
    pub(crate) fn administrator() -> Self {
        Self::new("kubernetes-admin", &["system:masters"])
    }

    /// This program itself: may do everything, and is left out of the audit log.
    pub(crate) fn devcluster() -> Self {
        Self::new("system:devcluster", &["system:masters"])
    }

    /// A kubelet: the node authorizer lets it see only what its own pods need.
    pub(crate) fn node(name: &str) -> Self {
        Self::new(format!("system:node:{name}"), &["system:nodes"])
    }
}

/// A certificate with its private key, both as PEM.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The one authority of a cluster: servers and clients are checked against it.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// A new authority that nobody trusts yet.
    pub(crate) fn new(now: SystemTime) -> Result<Self, CertificateError> {
        let made = || {
            let key = KeyPair::generate()?;
            let parameters = authority_parameters(now);
            let certificate = parameters.self_signed(&key)?.pem();
            Ok(Self {
                issuer: Issuer::new(parameters, key),
                certificate,
            })
        };
        made().map_err(|source| CertificateError::Make {
            subject: "the authority".to_owned(),
            source,
        })
    }

    /// Keeps the authority in `folder`, for [`Authority::load`].
    pub(crate) fn save(&self, folder: &Path) -> Result<(), CertificateError> {
        write(&folder.join(AUTHORITY_CERTIFICATE), &self.certificate)?;
        write(&folder.join(AUTHORITY_KEY), &self.issuer.key().serialize_pem())
    }

    /// The authority of a cluster that runs already.
    pub(crate) fn load(folder: &Path, now: SystemTime) -> Result<Self, CertificateError> {
        let key = KeyPair::from_pem(&read(&folder.join(AUTHORITY_KEY))?).map_err(|source| CertificateError::Make {
            subject: "the authority".to_owned(),
            source,
        })?;
        // What a certificate says of its issuer is the name and the key's digest: both are the same again.
        let issuer = Issuer::new(authority_parameters(now), key);
        Ok(Self {
            issuer,
            certificate: read(&folder.join(AUTHORITY_CERTIFICATE))?,
        })
    }

    /// The certificate that clients and servers trust, as PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate by which a client proves to be `identity`.
    pub(crate) fn client(&self, identity: &Identity, now: SystemTime) -> Result<Credentials, CertificateError> {
        let mut parameters = parameters(&identity.user, now);
        if identity.groups.len() > ORGANISATION.len() {
            return Err(CertificateError::TooManyGroups {
                user: identity.user.clone(),
                groups: identity.groups.len(),
            });
        }
        for (kind, group) in ORGANISATION.iter().zip(&identity.groups) {
            let kind = kind.map_or(DnType::OrganizationName, |oid| DnType::CustomDnType(oid.to_vec()));
            parameters.distinguished_name.push(kind, group.as_str());
        }
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&identity.user, &parameters)
    }

    /// The API server's own certificate, for these addresses and names.
    pub(crate) fn server(
        &self,
        addresses: &[Ipv4Addr],
        names: &[&str],
        now: SystemTime,
    ) -> Result<Credentials, CertificateError> {
        let subject = "kube-apiserver";
        let mut parameters = parameters(subject, now);
        for address in addresses {
            parameters.subject_alt_names.push(SanType::IpAddress((*address).into()));
        }
        for &name in names {
            let name = name.try_into().map_err(|source| CertificateError::Make {
                subject: name.to_owned(),
                source,
            })?;
            parameters.subject_alt_names.push(SanType::DnsName(name));
        }
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(subject, &parameters)
    }

    fn sign(&self, subject: &str, parameters: &CertificateParams) -> Result<Credentials, CertificateError> {
        let signed = || {
            let key = KeyPair::generate()?;
            let certificate = parameters.signed_by(&key, &self.issuer)?.pem();
            Ok(Credentials {
                certificate,
                key: key.serialize_pem(),
            })
        };
        signed().map_err(|source| CertificateError::Make {
            subject: subject.to_owned(),
            source,
        })
    }
}

/// The pair of keys by which tokens of service accounts are signed and checked, each as PEM.
pub(crate) struct TokenKeys {
    pub(crate) private: String,
    pub(crate) public: String,
}

impl TokenKeys {
    pub(crate) fn new() -> Result<Self, CertificateError> {
        let key = KeyPair::generate().map_err(|source| CertificateError::Make {
            subject: "the token issuer".to_owned(),
            source,
        })?;
        Ok(Self {
            private: key.serialize_pem(),
            public: key.public_key_pem(),
        })
    }
}

fn authority_parameters(now: SystemTime) -> CertificateParams {
    let mut parameters = parameters("devcluster-authority", now);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn parameters(common_name: &str, now: SystemTime) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    parameters.not_before = date_time_ymd(1970, 1, 1) + since_1970.saturating_sub(BACKDATED);
    parameters.not_after = date_time_ymd(1970, 1, 1) + since_1970 + VALIDITY;
    parameters
}

fn read(path: &Path) -> Result<String, CertificateError> {
    fs::read_to_string(path).map_err(|source| CertificateError::File {
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, content: &str) -> Result<(), CertificateError> {
    fs::write(path, content).map_err(|source| CertificateError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::command::run;

    fn noon() -> SystemTime {
        UNIX_EPOCH + Duration::from_hours(500_000) // 2027-01-15 08:00:00 UTC
    }

    fn openssl(folder: &Path, arguments: &[&str]) -> String {
        run(Command::new("openssl").current_dir(folder).args(arguments)).unwrap()
    }

    #[test]
    fn a_client_certificate_names_user_and_groups_and_is_signed_by_the_authority() {
        let folder = tempfile::tempdir().unwrap();
        Authority::new(noon()).unwrap().save(folder.path()).unwrap();
        // Loaded again, as for a user who is added to a running cluster.
        let authority = Authority::load(folder.path(), noon() + Duration::from_mins(1)).unwrap();
        let alice = authority
            .client(&Identity::new("alice", &["one", "two"]), noon())
            .unwrap();
        fs::write(folder.path().join("alice.crt"), &alice.certificate).unwrap();

        let shown = openssl(
            folder.path(),
            &[
                "x509",
                "-in",
                "alice.crt",
                "-noout",
                "-subject",
                "-startdate",
                "-enddate",
            ],
        );
        assert!(shown.contains("CN = alice, O = one, O = two"), "{shown}");
        assert!(shown.contains("notBefore=Jan 15 07:00:00 2027 GMT"), "{shown}");
        assert!(shown.contains("notAfter=Jan 15 08:00:00 2028 GMT"), "{shown}");
        let verified = openssl(
            folder.path(),
            &[
                "verify",
                "-attime",
                "1800000100",
                "-purpose",
                "sslclient",
                "-CAfile",
                AUTHORITY_CERTIFICATE,
                "alice.crt",
            ],
        );
        assert_eq!(verified, "alice.crt: OK\n");
    }

    #[test]
    fn the_server_certificate_holds_for_its_addresses_and_names() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(noon()).unwrap();
        let server = authority
            .server(&[Ipv4Addr::new(10, 9, 0, 1)], &["localhost"], noon())
            .unwrap();
        fs::write(folder.path().join("server.crt"), &server.certificate).unwrap();
        let shown = openssl(
            folder.path(),
            &["x509", "-in", "server.crt", "-noout", "-ext", "subjectAltName"],
        );
        assert!(shown.contains("IP Address:10.9.0.1, DNS:localhost"), "{shown}");
    }

    #[test]
    fn a_third_group_is_refused_not_dropped() {
        let authority = Authority::new(noon()).unwrap();
        let refused = authority
            .client(&Identity::new("bob", &["a", "b", "c"]), noon())
            .err()
            .unwrap();
        assert!(refused.to_string().contains("bob is in 3 groups"), "{refused}");
    }
}
