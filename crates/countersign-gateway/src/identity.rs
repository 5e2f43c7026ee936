use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use countersign::client::certificate_pin;
use countersign::store::file::{self, ReadError};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use time::{Duration, OffsetDateTime};

/// How long a generated certificate is good. Peers pin its key or trust this one certificate, so that a shorter
/// life would only mean more mornings on which everything stands still.
const VALID: Duration = Duration::days(3650);

/// A certificate chain and its private key, in PEM. The key is not shown in `Debug`.
pub struct TlsIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Why there is no TLS identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// Others can read the private key.
    #[error(
        "the private key {path} can be read by others (mode {mode:04o}): `chmod 600 {path}`, and consider whether it has been read"
    )]
    Mode {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Not PEM, or nothing usable in it.
    #[error("{path} holds no {what} in PEM")]
    Pem {
        /// Which file.
        path: String,
        /// What was looked for.
        what: &'static str,
    },
    /// Key and certificate do not go together, or a name is not one.
    #[error("the certificate cannot be used: {0}")]
    Unusable(String),
}

impl TlsIdentity {
    /// Makes a self-signed certificate for `names` (DNS names and IP addresses) and writes it to a new file. Its
    /// key is the one in `key_file`, whose pin peers may have already; if there is none, a new one (ECDSA P-256)
    /// is written there with mode 0600.
    ///
    /// # Errors
    /// A name is not one, the key cannot be used, or a file cannot be written or is there already.
    pub fn generate(
        common_name: &str,
        names: &[String],
        certificate_file: &Path,
        key_file: &Path,
    ) -> Result<(), IdentityError> {
        let unusable = |error: rcgen::Error| IdentityError::Unusable(error.to_string());
        for name in names {
            // Whatever is not a DNS name or an address would match no caller's URL.
            ServerName::try_from(name.as_str()).map_err(|_| {
                IdentityError::Unusable(format!("{name:?} is neither a DNS name nor an address"))
            })?;
        }
        let key = match read_key(key_file) {
            Ok(pem) => {
                let none = || no_pem(key_file, "private key");
                let pem = std::str::from_utf8(&pem).map_err(|_| none())?;
                KeyPair::from_pem(pem).map_err(|_| none())?
            }
            Err(IdentityError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
                let key = KeyPair::generate().map_err(unusable)?;
                write_new(key_file, 0o600, &key.serialize_pem())?;
                key
            }
            Err(error) => return Err(error),
        };
        let mut params = CertificateParams::new(names.to_vec()).map_err(unusable)?;
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, common_name);
        params.distinguished_name = subject;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // An hour back, for peers whose clocks are behind.
        params.not_before = OffsetDateTime::now_utc() - Duration::HOUR;
        params.not_after = OffsetDateTime::now_utc() + VALID;
        let certificate = params.self_signed(&key).map_err(unusable)?;
        write_new(certificate_file, 0o644, &certificate.pem())
    }

    /// Reads a chain (own certificate first) and its key.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn load(certificate_file: &Path, key_file: &Path) -> Result<Self, IdentityError> {
        let key = read_key(key_file)?;
        let pem = fs::read(certificate_file).map_err(|error| io(certificate_file, error))?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|_| no_pem(certificate_file, "certificate"))?;
        if chain.is_empty() {
            return Err(no_pem(certificate_file, "certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| no_pem(key_file, "private key"))?;
        Ok(Self { chain, key })
    }

    /// Its own certificate.
    ///
    /// # Errors
    /// There is none.
    pub fn certificate(&self) -> Result<&CertificateDer<'static>, IdentityError> {
        self.chain.first().ok_or(IdentityError::Unusable("it is empty".to_owned()))
    }

    /// The pin of its public key, which peers can trust in place of an authority.
    ///
    /// # Errors
    /// The certificate cannot be read.
    pub fn pin(&self) -> Result<[u8; 32], IdentityError> {
        certificate_pin(self.certificate()?).map_err(|error| IdentityError::Unusable(error.to_string()))
    }

    /// TLS 1.3 with this identity, HTTP/2 and HTTP/1.1 by ALPN, post-quantum key exchange where the caller has it.
    ///
    /// # Errors
    /// Key and certificate do not go together.
    pub fn server_config(&self) -> Result<ServerConfig, IdentityError> {
        let unusable = |error: rustls::Error| IdentityError::Unusable(error.to_string());
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Early data could be replayed.
        config.max_early_data_size = 0;
        Ok(config)
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

fn io(path: &Path, error: std::io::Error) -> IdentityError {
    IdentityError::Io { path: path.display().to_string(), error }
}

fn no_pem(path: &Path, what: &'static str) -> IdentityError {
    IdentityError::Pem { path: path.display().to_string(), what }
}

fn read_key(path: &Path) -> Result<impl Deref<Target = Vec<u8>>, IdentityError> {
    file::read_private(path).map_err(|error| match error {
        ReadError::Io(error) => io(path, error),
        ReadError::Mode(mode) => IdentityError::Mode { path: path.display().to_string(), mode },
    })
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), IdentityError> {
    file::write_new(path, mode, text.as_bytes()).map_err(|error| io(path, error))
}
