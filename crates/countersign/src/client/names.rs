use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::ClientError;

/// The DNS names and addresses that a certificate is for (RFC 5280, section 4.2.1.6), without patterns such as `*.example`.
///
/// # Errors
/// The certificate cannot be read.
pub fn certificate_names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, ClientError> {
    let unreadable =
        |error: x509_cert::der::Error| ClientError::Trust(format!("the certificate cannot be read: {error}"));
    let certificate = Certificate::from_der(certificate).map_err(unreadable)?;
    let names = certificate.tbs_certificate().get_extension::<SubjectAltName>().map_err(unreadable)?;
    let Some((_, SubjectAltName(names))) = names else { return Ok(Vec::new()) };
    let text = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()).filter(|name| !name.contains('*')),
        GeneralName::IpAddress(bytes) => address(bytes.as_bytes()).map(|address| address.to_string()),
        _ => None,
    };
    Ok(names.iter().filter_map(text).collect())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
