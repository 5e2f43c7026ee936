//! Under which URLs this service is reached, as its configuration says: what callers sign as authority and path (CS-28).

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct External {
    is_https: bool,
    /// In lower case, without the scheme's default port.
    pub(crate) authority: String,
    /// What a proxy takes away from the front of paths; empty for nothing.
    pub(crate) prefix: String,
    /// The port in it says nothing.
    any_port: bool,
}

impl External {
    /// Reads `https://HOST/PREFIX`; `None` if it is not that.
    pub(crate) fn read(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_https = scheme.eq_ignore_ascii_case("https");
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let authority = plain(&authority.to_ascii_lowercase(), is_https).to_owned();
        Some(Self { is_https, authority, prefix: path.trim_end_matches('/').to_owned(), any_port: false })
    }

    /// A name in the certificate, with the port of a configured listener: `serve --listen` may have had another.
    pub(crate) fn at_any_port(url: &str) -> Option<Self> {
        Self::read(url).map(|read| Self { any_port: true, ..read })
    }

    pub(crate) const fn is_https(&self) -> bool {
        self.is_https
    }

    /// The name or address in it.
    pub(crate) fn host(&self) -> &str {
        host(&self.authority)
    }

    /// The authority that a caller has signed whose request says that it was sent to `said`; `None` if that is not this one.
    pub(crate) fn signed_for(&self, said: &str) -> Option<String> {
        let said = said.to_ascii_lowercase();
        let said = plain(&said, self.is_https);
        let same = if self.any_port { host(said) == self.host() } else { said == self.authority };
        same.then(|| said.to_owned())
    }
}

fn plain(authority: &str, is_https: bool) -> &str {
    authority.strip_suffix(if is_https { ":443" } else { ":80" }).unwrap_or(authority)
}

fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

    use super::*;

    #[test]
    fn a_host_is_found_in_any_case_and_with_the_default_port() {
        let external = External::read("https://Orders.Example:443/api/").unwrap();
        assert_eq!((&*external.authority, &*external.prefix), ("orders.example", "/api"));
        for same in ["ORDERS.example", "orders.example:443"] {
            assert_eq!(external.signed_for(same).as_deref(), Some("orders.example"), "{same}");
        }
        for other in ["", "orders.example:80", "orders.example.", "evil.example"] {
            assert_eq!(external.signed_for(other), None, "{other}");
        }
        assert_eq!(External::read("orders.example"), None);
    }

    #[test]
    fn a_name_in_the_certificate_is_one_at_any_port() {
        let external = External::at_any_port("https://[::1]:8443").unwrap();
        assert_eq!(external.host(), "[::1]");
        assert_eq!(external.signed_for("[::1]:9000").as_deref(), Some("[::1]:9000"));
        assert_eq!(external.signed_for("[::1]").as_deref(), Some("[::1]"));
        assert_eq!(external.signed_for("[::2]:8443"), None);
    }
}
