//! Under which URLs callers reach the listeners, where that is not configured: what the certificate names, and on loopback what
//! every machine calls itself.

use std::net::IpAddr;

use countersign::client::certificate_names;
use countersign::server::ExternalUrl;

use crate::{IdentityError, ListenUrl, TlsIdentity};

/// The URLs of these open listeners.
pub(crate) fn urls(
    listeners: &[ListenUrl],
    tls: Option<&TlsIdentity>,
) -> Result<Vec<ExternalUrl>, IdentityError> {
    let certified = match tls {
        Some(identity) => certificate_names(identity.certificate()?)
            .map_err(|error| IdentityError::Unusable(error.to_string()))?,
        None => Vec::new(),
    };
    let mut urls = Vec::new();
    for listener in listeners {
        let (scheme, port) = (if listener.tls { "https" } else { "http" }, listener.address.port());
        let plain;
        let names = if listener.tls {
            &certified
        } else {
            plain = own_names(listener.address.ip());
            &plain
        };
        for name in names {
            let host = match name.parse::<IpAddr>() {
                Ok(IpAddr::V6(address)) => format!("[{address}]"),
                _ => name.clone(),
            };
            // A name in a certificate that is none in a URL is nobody's.
            urls.extend(format!("{scheme}://{host}:{port}").parse::<ExternalUrl>());
        }
    }
    urls.dedup();
    Ok(urls)
}

fn own_names(address: IpAddr) -> Vec<String> {
    if address.is_unspecified() || address.is_loopback() {
        ["localhost", "127.0.0.1", "::1"].map(ToOwned::to_owned).to_vec()
    } else {
        vec![address.to_string()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_listener_on_loopback_has_the_names_of_every_machine() {
        let listeners = ["http://127.0.0.1:8080", "http://10.0.0.1:81"].map(|text| text.parse().unwrap());
        let shown: Vec<String> = urls(&listeners, None).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080", "http://10.0.0.1:81"]
        );
    }

    #[test]
    fn a_listener_with_tls_has_the_names_of_its_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        let names = ["orders.example", "192.0.2.7", "2001:db8::1"].map(ToOwned::to_owned);
        TlsIdentity::generate("orders", &names, &certificate, &key).unwrap();
        let identity = TlsIdentity::load(&certificate, &key).unwrap();
        let listeners = ["https://0.0.0.0:8443", "https://0.0.0.0:443"].map(|text| text.parse().unwrap());
        let shown: Vec<String> =
            urls(&listeners, Some(&identity)).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "https://orders.example:8443",
                "https://192.0.2.7:8443",
                "https://[2001:db8::1]:8443",
                "https://orders.example",
                "https://192.0.2.7",
                "https://[2001:db8::1]",
            ]
        );
    }
}
