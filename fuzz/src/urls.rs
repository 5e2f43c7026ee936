//! Base URLs, the paths below them, and listeners, as the crate `url` reads what we make of them.

use countersign::client::BaseUrl;
use countersign_gateway::{ListenError, ListenUrl};
use url::{Host, Url};

use crate::input;

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.octets()[0] == 127,
        Some(Host::Ipv6(address)) => address.segments() == [0, 0, 0, 0, 0, 0, 0, 1],
        None => false,
    }
}

/// What stands before an `@` in the authority, after a colon, and nowhere else.
fn password(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (user_information, host) = rest[..end].rsplit_once('@')?;
    let (_, password) = user_information.split_once(':')?;
    // Short ones turn up by chance.
    let alone = !host.contains(password) && !rest[end..].contains(password);
    (alone && password.len() >= 12).then_some(password)
}

/// A base URL and a path, with a zero byte between them.
pub(crate) fn base_url(input: &[u8]) {
    let (base, path) = input::two(input);
    let (base, path) = (input::text(base), input::text(path));
    match BaseUrl::parse(&base) {
        Ok(parsed) => base_holds(&parsed, &path),
        Err(error) => {
            let shown = error.to_string();
            input::assert_printable(&shown);
            assert!(shown.len() < 500);
            assert!(
                password(&base).is_none_or(|password| !shown.contains(password)),
                "a password in {shown}"
            );
        }
    }
    if let Ok((origin, path)) = BaseUrl::split(&base) {
        assert!(path.starts_with('/'));
        assert!(origin.covers(&origin, &path));
        let whole = Url::parse(&base).unwrap();
        assert_eq!(Url::parse(&origin.to_string()).unwrap().origin(), whole.origin());
        assert_eq!(path.split('?').next().unwrap(), whole.path());
    }
}

fn base_holds(base: &BaseUrl, path: &str) {
    let shown = base.to_string();
    let again = BaseUrl::parse(&shown).unwrap();
    assert_eq!(again.to_string(), shown);
    let url = Url::parse(&shown).unwrap();
    assert!(url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url));
    assert!(url.username().is_empty() && url.password().is_none());
    assert!(url.query().is_none() && url.fragment().is_none());
    let prefix = url.path().trim_end_matches('/');
    if let Ok(below) = base.below(path) {
        // Whoever reads it, and whatever he makes of dots and slashes, stays on this host and below this prefix.
        let read = Url::parse(&below.to_string()).unwrap();
        assert_eq!(read.origin(), url.origin());
        let rest = read.path().strip_prefix(prefix).expect("below the prefix");
        assert!(rest.starts_with('/'), "{below}");
        assert_eq!(
            below.path_and_query().unwrap().as_str(),
            format!("{prefix}{}", path.split('#').next().unwrap())
        );
        assert!(base.covers(base, below.path()));
    }
    if let Ok((origin, path)) = BaseUrl::split(&format!("{}{path}", url.origin().ascii_serialization())) {
        let inside = path.split('?').next().unwrap().strip_prefix(prefix);
        let inside = inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let same = Url::parse(&origin.to_string()).unwrap().origin() == url.origin();
        assert_eq!(base.covers(&origin, &path), same && inside);
    }
}

pub(crate) fn listen_url(input: &[u8]) {
    let text = input::text(input);
    match text.parse::<ListenUrl>() {
        Ok(listener) => {
            let shown = listener.to_string();
            assert_eq!(shown.parse::<ListenUrl>(), Ok(listener));
            assert!(listener.check(true).is_ok());
            assert_eq!(listener.tls, shown.starts_with("https:"));
            match Url::parse(&shown) {
                Ok(url) => assert_eq!(listener.check(false).is_ok(), listener.tls || is_loopback(&url)),
                // A link-local address with its interface can be listened on, but a URL has no place for that.
                Err(_) => assert!(shown.contains('%')),
            }
        }
        Err(error) => assert_eq!(error, ListenError::Form),
    }
}
