//! Under which URLs this service is reached, as its configuration says: what callers sign as authority and path (CS-28).

use countersign::server::ExternalUrl;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct External {
    pub(crate) url: ExternalUrl,
    /// The port in it says nothing: a name in the certificate with the port of a configured listener, where `serve --listen`
    /// may have had another.
    pub(crate) any_port: bool,
}

impl External {
    /// The authority that a caller has signed whose request says that it was sent to `said`; `None` if that is not this one.
    pub(crate) fn signed_for(&self, said: &str) -> Option<String> {
        let scheme = if self.url.is_https() { "https" } else { "http" };
        let asked: ExternalUrl = format!("{scheme}://{said}").parse().ok()?;
        let same = if self.any_port {
            asked.host() == self.url.host()
        } else {
            asked.authority() == self.url.authority()
        };
        (same && asked.prefix().is_empty()).then(|| asked.authority().to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

    use super::*;

    #[test]
    fn a_host_is_found_in_any_case_and_with_the_default_port() {
        let external = External { url: "https://Orders.Example:443/api/".parse().unwrap(), any_port: false };
        assert_eq!((external.url.authority(), external.url.prefix()), ("orders.example", "/api"));
        for same in ["ORDERS.example", "orders.example:443"] {
            assert_eq!(external.signed_for(same).as_deref(), Some("orders.example"), "{same}");
        }
        for other in [
            "",
            "orders.example:80",
            "orders.example.",
            "evil.example",
            "orders.example/x",
            "a@orders.example",
        ] {
            assert_eq!(external.signed_for(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_in_the_certificate_is_one_at_any_port() {
        let external = External { url: "https://[::1]:8443".parse().unwrap(), any_port: true };
        assert_eq!(external.url.host(), "[::1]");
        assert_eq!(external.signed_for("[::1]:9000").as_deref(), Some("[::1]:9000"));
        assert_eq!(external.signed_for("[::1]").as_deref(), Some("[::1]"));
        assert_eq!(external.signed_for("[::2]:8443"), None);
    }
}
