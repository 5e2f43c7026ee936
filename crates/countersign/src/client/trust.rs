use std::sync::Arc;

use countersign_store::Trust;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::ClientError;
use super::given::GivenCertificates;
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
        Trust::Ca(pem) => config.dangerous().with_custom_certificate_verifier(given(pem, &provider)?),
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

fn given(pem: &str, provider: &Arc<CryptoProvider>) -> Result<Arc<GivenCertificates>, ClientError> {
    let wrong = |what: &str, error: &dyn std::fmt::Display| ClientError::Trust(format!("{what}: {error}"));
    let given = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong("the PEM text is damaged", &error))?;
    if given.is_empty() {
        return Err(ClientError::Trust("there is no certificate in the PEM text".to_owned()));
    }
    let mut roots = RootCertStore::empty();
    for certificate in &given {
        roots.add(certificate.clone()).map_err(|error| wrong("a certificate cannot be used", &error))?;
    }
    let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| wrong("the certificates cannot be used", &error))?;
    Ok(Arc::new(GivenCertificates::new(authorities, given)))
}
