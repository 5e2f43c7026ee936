use std::sync::Arc;

use countersign_store::Trust;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::ClientError;
use super::pin::PinnedKey;

/// A TLS 1.3 client configuration with this trust and no other.
///
/// # Errors
/// No certificate can be read from the PEM text, or the system has none.
pub fn tls_config(trust: &Trust) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| ClientError::Trust(error.to_string()))?;
    let config = match trust {
        Trust::System => config.with_root_certificates(system_roots()?),
        Trust::Ca(pem) => config.with_root_certificates(given_roots(pem)?),
        Trust::Pin(pin) => config.dangerous().with_custom_certificate_verifier(pinned(*pin, &provider)),
    };
    Ok(config.with_no_client_auth())
}

fn pinned(pin: [u8; 32], provider: &CryptoProvider) -> Arc<PinnedKey> {
    Arc::new(PinnedKey::new(pin, provider.signature_verification_algorithms))
}

fn system_roots() -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let missing = "this system has no certificate authorities (on Debian: the package ca-certificates); \
                       give the peer's with --tls-ca or its key with --tls-pin";
        return Err(ClientError::Trust(missing.to_owned()));
    }
    Ok(roots)
}

fn given_roots(pem: &str) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate =
            certificate.map_err(|error| ClientError::Trust(format!("the PEM text is damaged: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| ClientError::Trust(format!("a certificate cannot be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(ClientError::Trust("there is no certificate in the PEM text".to_owned()));
    }
    Ok(roots)
}
