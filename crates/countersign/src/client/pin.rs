use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::ClientError;

/// Trusts one public key, under the names in its certificate. Chain and dates are not looked at: the pin was
/// given by the peer's operator and says more than either.
#[derive(Debug)]
pub(super) struct PinnedKey {
    pin: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedKey {
    pub(super) fn new(pin: [u8; 32], algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { pin, algorithms }
    }
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pin = certificate_pin(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        if !bool::from(pin.ct_eq(&self.pin)) {
            let other = "the server's key is not the pinned one: either it was replaced (ask its operator for \
                         the new pin), or somebody stands in between";
            return Err(Error::General(other.to_owned()));
        }
        check_name(end_entity, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether a certificate that is trusted as it is names this server (RFC 9525).
pub(super) fn check_name(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
) -> Result<(), CertificateError> {
    webpki::EndEntityCert::try_from(certificate)
        .and_then(|certificate| certificate.verify_is_valid_for_subject_name(server_name))
        .map_err(|_| CertificateError::NotValidForName)
}

/// Whether a certificate names this server: a DNS name or an address.
#[must_use]
pub fn certificate_is_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    ServerName::try_from(host).is_ok_and(|name| check_name(certificate, &name).is_ok())
}

/// The pin of a certificate: SHA-256 of its `SubjectPublicKeyInfo` (RFC 7469, section 2.4).
///
/// # Errors
/// The certificate cannot be read.
pub fn certificate_pin(certificate: &CertificateDer<'_>) -> Result<[u8; 32], ClientError> {
    let certificate = webpki::EndEntityCert::try_from(certificate)
        .map_err(|error| ClientError::Trust(format!("the certificate cannot be read: {error}")))?;
    Ok(Sha256::digest(certificate.subject_public_key_info()).into())
}
