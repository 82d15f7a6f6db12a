//! TLS with a certificate that may change while connections are served.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, ServerConfig};

/// Why a certificate or TLS itself cannot be used. Says nothing of keys.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or not of what is wanted.
    #[error("the {0} is not PEM of one")]
    Pem(&'static str, #[source] PemError),
    /// It cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// The key is of an unknown kind, or does not belong to the certificate.
    #[error("the certificate and its key cannot be used together")]
    Pair(#[source] rustls::Error),
    /// The library refuses its own settings.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// A certificate, or a chain, with its key, which fit together. Both as PEM.
#[derive(Clone)]
pub struct Pair {
    certificate: String,
    key: String,
    ends: Timestamp,
    certified: Arc<CertifiedKey>,
}

impl Pair {
    /// Reads both.
    pub fn new(certificate: String, key: String) -> Result<Self, TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| TlsError::Pem("certificate", error))?;
        let ends = ends(&chain)?;
        let private =
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| TlsError::Pem("private key", error))?;
        let certified = CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(TlsError::Pair)?;
        Ok(Self {
            certificate,
            key,
            ends,
            certified: Arc::new(certified),
        })
    }

    /// The certificate, or the chain.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The private key. Not to be shown to anybody.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// When the certificate ends.
    pub fn ends(&self) -> Timestamp {
        self.ends
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        (&self.certificate, &self.key) == (&other.certificate, &other.key)
    }
}

/// Without the key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// When the first certificate of a chain ends.
fn ends(chain: &[CertificateDer<'_>]) -> Result<Timestamp, TlsError> {
    let wrong = |why: &dyn fmt::Display| TlsError::Certificate(why.to_string());
    let first = chain.first().ok_or_else(|| wrong(&"there is none"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(first).map_err(|error| wrong(&error))?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).map_err(|error| wrong(&error))
}

/// What a server speaks, and the certificate that it shows. Clones share it.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
}

/// The certificate of the moment. A handshake while there is none fails.
#[derive(Default)]
struct Shown(RwLock<Option<Pair>>);

impl Tls {
    /// TLS 1.2 and 1.3, HTTP/1.1, no certificate yet.
    ///
    /// API servers speak HTTP/1.1 with webhooks, so that their requests spread over replicas.
    pub fn new() -> Result<Self, TlsError> {
        let shown = Arc::<Shown>::default();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            shown,
        })
    }

    /// Shows this certificate in all handshakes from now on. Connections go on.
    pub fn show(&self, pair: &Pair) {
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Some(pair.clone());
    }

    /// The certificate that is shown.
    pub fn shown(&self) -> Option<Pair> {
        self.shown.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shown.as_ref().map(|pair| Arc::clone(&pair.certified))
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("shown", &self.shown())
            .finish_non_exhaustive()
    }
}
