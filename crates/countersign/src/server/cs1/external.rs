//! Under which URLs this service is reached from outside: what callers sign as `@authority` and `@path` (CS-28).

use std::fmt;
use std::str::FromStr;

use http::uri::Authority;
use http::{HeaderMap, Uri, header::HOST};

/// `https://orders.example`, or with a path prefix that a proxy in front takes away: `https://example.com/orders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalUrl {
    is_https: bool,
    /// In lower case, without the scheme's default port.
    authority: String,
    /// Without a slash at its end; empty for none.
    prefix: String,
}

/// Not such a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an external URL is https://HOST, https://HOST:PORT or https://HOST/PREFIX, as callers write it (http:// on loopback), without a user, a query or a fragment"
)]
pub struct ExternalUrlError;

impl ExternalUrl {
    /// The authority as callers sign it.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What a proxy takes away from the front of paths, without a slash at its end; empty for nothing.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub const fn is_https(&self) -> bool {
        self.is_https
    }

    /// The name or address, without the port; an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.authority,
        }
    }

    fn is(&self, said: &str) -> bool {
        let port = if self.is_https { ":443" } else { ":80" };
        said.strip_suffix(port).unwrap_or(said).eq_ignore_ascii_case(&self.authority)
    }
}

impl FromStr for ExternalUrl {
    type Err = ExternalUrlError;

    fn from_str(text: &str) -> Result<Self, ExternalUrlError> {
        let uri: Uri = text.parse().map_err(|_| ExternalUrlError)?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(ExternalUrlError),
        };
        let authority = uri.authority().ok_or(ExternalUrlError)?.as_str().to_ascii_lowercase();
        let prefix = uri.path().trim_end_matches('/');
        if uri.query().is_some() || text.contains('#') || authority.contains('@') || prefix.contains('\\') {
            return Err(ExternalUrlError);
        }
        let port = if is_https { ":443" } else { ":80" };
        let authority = authority.strip_suffix(port).unwrap_or(&authority).to_owned();
        Ok(Self { is_https, authority, prefix: prefix.to_owned() })
    }
}

impl fmt::Display for ExternalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

/// The one of `urls` that a request was sent to, as its target or its `Host` says. One that names none of them was meant
/// for somebody else, or the name was changed on the way.
pub(super) fn find<'a>(urls: &'a [ExternalUrl], uri: &Uri, headers: &HeaderMap) -> Option<&'a ExternalUrl> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().ok()?),
        (None, _) => None,
        (Some(_), Some(_)) => return None,
    };
    // An absolute target goes before the header (RFC 9112, section 3.2.2), and is all that HTTP/2 needs.
    let url = named(urls, uri.authority().map(Authority::as_str).or(host)?)?;
    // The header is covered by nothing. A handler that reads it must not find another name there.
    (host.is_none_or(|host| url.is(host))).then_some(url)
}

/// The one with this authority.
pub(super) fn named<'a>(urls: &'a [ExternalUrl], said: &str) -> Option<&'a ExternalUrl> {
    urls.iter().find(|url| url.is(said))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn urls() -> Vec<ExternalUrl> {
        ["https://Orders.Example:443/api/", "http://127.0.0.1:8080", "https://orders.example:8443"]
            .map(|text| text.parse().unwrap())
            .to_vec()
    }

    #[test]
    fn a_url_is_kept_as_callers_sign_it() {
        let shown: Vec<String> = urls().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["https://orders.example/api", "http://127.0.0.1:8080", "https://orders.example:8443"]
        );
        for bad in [
            "",
            "orders.example",
            "/api",
            "ftp://orders.example",
            "https://a@orders.example",
            "https://orders.example/?x",
            "https://orders.example/#x",
            "https://orders.example/a\\b",
        ] {
            assert!(bad.parse::<ExternalUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_host_chooses_among_them_and_another_one_is_none_of_them() {
        let urls = urls();
        let by_host = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            find(&urls, &Uri::from_static("/x"), &headers).map(ToString::to_string)
        };
        assert_eq!(by_host("ORDERS.example").as_deref(), Some("https://orders.example/api"));
        assert_eq!(by_host("orders.example:443").as_deref(), Some("https://orders.example/api"));
        assert_eq!(by_host("orders.example:8443").as_deref(), Some("https://orders.example:8443"));
        assert_eq!(by_host("127.0.0.1:8080").as_deref(), Some("http://127.0.0.1:8080"));
        for other in ["", "orders.example.", "orders.example:80", "orders.example:8080", "evil.example"] {
            assert_eq!(by_host(other), None, "{other}");
        }
        let mut twice = HeaderMap::new();
        twice.append(HOST, HeaderValue::from_static("orders.example"));
        twice.append(HOST, HeaderValue::from_static("orders.example"));
        assert_eq!(find(&urls, &Uri::from_static("/x"), &twice), None);
        // The target goes before the header.
        let absolute = Uri::from_static("https://evil.example/x");
        assert_eq!(find(&urls, &absolute, &twice), None);
        // Both, and they say the same or not.
        let both = |target: &'static str, host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            find(&urls, &Uri::from_static(target), &headers).map(ToString::to_string)
        };
        let same = both("https://orders.example/x", "Orders.example:443");
        assert_eq!(same.as_deref(), Some("https://orders.example/api"));
        assert_eq!(both("https://evil.example/x", "orders.example"), None);
        assert_eq!(both("https://orders.example/x", "evil.example"), None);
        assert_eq!(both("https://orders.example/x", "orders.example:8443"), None);
    }
}
