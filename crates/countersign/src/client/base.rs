use std::fmt;

use countersign_protocol::wire::printable;
use http::Uri;
use url::{Host, Url};

use super::ClientError;

/// Where a peer serves: scheme, host, port and a path prefix. Nothing else is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// Not http or https, with user information, query or fragment, or plain HTTP to another machine.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let wrong = |why| ClientError::Url { url: shown(text), why };
        // The parser would take these out silently.
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(wrong("it contains spaces or control characters"));
        }
        let url = Url::parse(text).map_err(|_| wrong("it is not a URL (https://host:port/prefix)"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it contains a user name or a password"));
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("its scheme is not https"));
        }
        if url.host().is_none() {
            return Err(wrong("it names no host"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has a query or a fragment"));
        }
        if url.scheme() == "http" && !is_loopback(&url) {
            return Err(ClientError::PlainHttp(shown(text)));
        }
        Ok(Self(url))
    }

    /// Splits the URL of one resource into the base of its origin and the path with its query.
    ///
    /// # Errors
    /// As [`BaseUrl::parse`].
    pub fn split(text: &str) -> Result<(Self, String), ClientError> {
        let wrong = |why| ClientError::Url { url: shown(text), why };
        let mut url = Url::parse(text).map_err(|_| wrong("it is not a URL (https://host:port/path)"))?;
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        url.set_query(None);
        url.set_fragment(None);
        if url.cannot_be_a_base() {
            return Err(wrong("its scheme is not https"));
        }
        url.set_path("/");
        Ok((Self::parse(url.as_str())?, path))
    }

    /// Whether `path` at `origin` lies below this URL.
    #[must_use]
    pub fn covers(&self, origin: &Self, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or(path);
        let rest = path.strip_prefix(self.prefix());
        self.0.origin() == origin.0.origin()
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The name or address of the server, without brackets.
    #[must_use]
    pub fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']').to_owned()
    }

    /// The port, also where the URL leaves it to its scheme.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// What belongs into `Host`.
    pub(super) fn authority(&self) -> String {
        self.0.authority().to_owned()
    }

    /// The path prefix, without a slash at its end.
    pub(super) fn prefix(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }

    /// The URL of `path` (with its query) below this one.
    ///
    /// # Errors
    /// It does not begin with a slash, has dot segments, plain or encoded, with which it could leave this URL, or
    /// characters that no URL has.
    pub fn below(&self, path: &str) -> Result<Uri, ClientError> {
        self.at(self.prefix(), path)
    }

    /// The URL of `path` at this origin, whatever the prefix.
    pub(super) fn at_origin(&self, path: &str) -> Result<Uri, ClientError> {
        self.at("", path)
    }

    fn at(&self, prefix: &str, path: &str) -> Result<Uri, ClientError> {
        let wrong = |why| ClientError::Url { url: printable(path, 200), why };
        // `*`, `@host` or `:port` must not become part of the authority.
        if !path.starts_with('/') {
            return Err(wrong("its path does not begin with a slash"));
        }
        if has_dot_segments(path) {
            return Err(wrong("its path has dot segments"));
        }
        let origin = self.0.origin().ascii_serialization();
        format!("{origin}{prefix}{path}")
            .parse()
            .map_err(|_| wrong("its path has characters that must be percent-encoded"))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.as_str().trim_end_matches('/'))
    }
}

/// A URL as an error may repeat it. What stands before an `@` can be a password, wherever a reader would see the
/// host begin.
fn shown(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) => printable(&format!("...@{rest}"), 200),
        None => printable(text, 200),
    }
}

/// Whether a path has segments that mean "here" or "above" (RFC 3986, section 5.2.4) to somebody: plain, encoded,
/// behind backslashes, or before a parameter.
fn has_dot_segments(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default().to_ascii_lowercase();
    let separated = path.replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
    separated.split('/').any(|segment| {
        let plain = segment.replace("%2e", ".").replace("%3b", ";");
        matches!(plain.split(';').next(), Some("." | ".."))
    })
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_alone() {
        for good in
            ["http://127.0.0.1:8080", "http://localhost/x", "http://[::1]:1", "https://orders.example"]
        {
            assert!(BaseUrl::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["http://orders.example", "http://10.0.0.1:8080", "http://127.0.0.1.example", "http://[::2]"]
        {
            assert!(matches!(BaseUrl::parse(bad), Err(ClientError::PlainHttp(_))), "{bad}");
        }
    }

    #[test]
    fn what_is_no_plain_base_url_is_refused() {
        for bad in [
            "",
            "orders",
            "ftp://orders.example",
            "https://user:password@orders.example",
            "https://orders.example/?a=b",
            "https://orders.example/#a",
            "https://orders.example/\r\nX: y",
            "data:text/plain,hello",
        ] {
            assert!(matches!(BaseUrl::parse(bad), Err(ClientError::Url { .. })), "{bad}");
        }
    }

    #[test]
    fn an_error_about_a_url_never_repeats_a_password() {
        for bad in [
            "https://user:hunter2@orders.example",
            "https://user:hunter2@orders.example/ x",
            "https://user:hunter2@[orders",
            "https://user:hunt/hunter2@orders.example",
            "ftp://user:hunter2@orders.example",
            "user:hunter2@orders.example",
        ] {
            for error in [BaseUrl::parse(bad).unwrap_err(), BaseUrl::split(bad).map(drop).unwrap_err()] {
                let shown = error.to_string();
                assert!(!shown.contains("hunter2") && shown.contains("orders"), "{shown}");
            }
        }
    }

    #[test]
    fn a_path_can_leave_neither_the_prefix_nor_the_host() {
        let base = BaseUrl::parse("https://orders.example/api").unwrap();
        for good in [
            "/",
            "/a/b",
            "/a..b/.c/...",
            "/.well-known/x",
            "//a",
            "/a;x=../y",
            "/a?b=/../c",
            "/@evil.example/",
        ] {
            let url = base.below(good).unwrap();
            assert_eq!(url.authority().unwrap(), "orders.example", "{good}");
            assert!(url.path().starts_with("/api/"), "{good}");
        }
        for bad in [
            "*",
            "",
            "a",
            "@evil.example/",
            ".evil.example/",
            ":1/x",
            "/..",
            "/../admin",
            "/a/./b",
            "/a/%2e%2E/b",
            "/a/.%2e",
            "/..;/b",
            "/..%3bx/b",
            "/a%2f..%2Fb",
            "/a/..\\b",
            "/a%5C..",
            "?a",
            "#a",
        ] {
            assert!(base.below(bad).is_err(), "{bad}");
            assert!(base.at_origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_covers_whole_segments_of_its_own_origin() {
        let base = BaseUrl::parse("https://orders.example/api/").unwrap();
        let covers = |text: &str| {
            let (origin, path) = BaseUrl::split(text).unwrap();
            base.covers(&origin, &path)
        };
        assert!(covers("https://orders.example/api"));
        assert!(covers("https://orders.example:443/api/x?y=/z"));
        assert!(!covers("https://orders.example/apis"));
        assert!(!covers("https://orders.example/"));
        assert!(!covers("https://orders.example:8443/api"));
        assert!(!covers("https://orders.example.evil/api"));
    }
}
