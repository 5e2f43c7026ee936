use std::sync::Arc;

use countersign_protocol as protocol;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::ClientError;
use super::pin::check_name;

/// Trusts given certificates: as authorities, and a server that shows one of them itself.
///
/// The second is what everybody means who gives a client the self-signed certificate of a server. Such ones mostly
/// say that they are authorities (`openssl req -x509` writes `CA:TRUE`), and an authority's certificate is
/// otherwise not taken for a server's (RFC 5280, section 6.1).
#[derive(Debug)]
pub(super) struct GivenCertificates {
    authorities: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl GivenCertificates {
    pub(super) fn new(authorities: Arc<WebPkiServerVerifier>, given: Vec<CertificateDer<'static>>) -> Self {
        Self { authorities, given }
    }
}

impl ServerCertVerifier for GivenCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.given.iter().any(|given| given == end_entity) {
            return self.authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp, now);
        }
        // It is trusted as it is; what is left to ask is whether it is this server's, and today's.
        check_dates(end_entity, now)?;
        check_name(end_entity, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// From when to when a certificate is valid; both ends are included (RFC 5280, section 4.1.2.5).
///
/// # Errors
/// The certificate cannot be read.
pub fn certificate_dates(
    certificate: &CertificateDer<'_>,
) -> Result<(protocol::UnixTime, protocol::UnixTime), ClientError> {
    let certificate = Certificate::from_der(certificate)
        .map_err(|error| ClientError::Trust(format!("the certificate cannot be read: {error}")))?;
    let validity = certificate.tbs_certificate().validity();
    let [from, to] = [validity.not_before, validity.not_after]
        .map(|time| protocol::UnixTime(time.to_unix_duration().as_secs()));
    Ok((from, to))
}

fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let (from, to) = certificate_dates(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = protocol::UnixTime(now.as_secs());
    if now < from {
        Err(CertificateError::NotValidYet)
    } else if now > to {
        Err(CertificateError::Expired)
    } else {
        Ok(())
    }
}
