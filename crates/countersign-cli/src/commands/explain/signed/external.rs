//! Under which URLs this service is reached, as its configuration says: what a caller signs as authority and path (CS-28).

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct External {
    is_https: bool,
    /// In lower case, without the scheme's default port.
    pub(super) authority: String,
    /// What a proxy takes away from the front of paths; empty for nothing.
    pub(super) prefix: String,
}

impl External {
    /// Reads `https://HOST/PREFIX`; `None` if it is not that.
    pub(super) fn read(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_https = scheme.eq_ignore_ascii_case("https");
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let authority = plain(&authority.to_ascii_lowercase(), is_https).to_owned();
        Some(Self { is_https, authority, prefix: path.trim_end_matches('/').to_owned() })
    }

    /// Whether a request that says so was sent to it.
    pub(super) fn is(&self, host: &str) -> bool {
        plain(&host.to_ascii_lowercase(), self.is_https) == self.authority
    }
}

fn plain(authority: &str, is_https: bool) -> &str {
    authority.strip_suffix(if is_https { ":443" } else { ":80" }).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

    use super::*;

    #[test]
    fn a_host_is_found_in_any_case_and_with_the_default_port() {
        let external = External::read("https://Orders.Example:443/api/").unwrap();
        assert_eq!((&*external.authority, &*external.prefix), ("orders.example", "/api"));
        assert!(external.is("ORDERS.example") && external.is("orders.example:443"));
        for other in ["", "orders.example:80", "orders.example.", "evil.example"] {
            assert!(!external.is(other), "{other}");
        }
        assert_eq!(External::read("orders.example"), None);
    }
}
