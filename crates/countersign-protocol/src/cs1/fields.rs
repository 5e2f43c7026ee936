//! Which fields a signature has to cover (CS-24, CS-33), and how their values are written under it.

use http::{HeaderMap, HeaderName, HeaderValue, header::COOKIE};

use super::scan::all;
use crate::refusal::Refusal;

/// Where a signature base goes: into a MAC, or into a buffer that somebody wants to look at.
pub(super) trait Sink {
    /// Takes the next bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for crate::mac::MacStream {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Of a request, by name. To be covered whenever they are there.
pub(super) const OF_REQUESTS: [&str; 17] = [
    "authorization",
    "content-digest",
    "content-encoding",
    "content-range",
    "content-type",
    "cookie",
    "countersign-body",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// Of a response, by name; `set-cookie` with `bs`.
pub(super) const OF_RESPONSES: [&str; 11] = [
    "cache-control",
    "content-digest",
    "content-encoding",
    "content-range",
    "content-type",
    "countersign-body",
    "etag",
    "location",
    "retry-after",
    "set-cookie",
    "www-authenticate",
];

/// How a field of a response is covered.
pub(super) fn parameters(name: &str) -> &'static str {
    if name == "set-cookie" { ";bs" } else { "" }
}

/// Lists by RFC 9110, section 5.6.1. They alone may stand on several lines: of another field one reader takes the first
/// line and the next the last, and the signature would be right for both (CS-48).
const LISTS: [&str; 10] = [
    "accept",
    "accept-language",
    "allow",
    "cache-control",
    "content-encoding",
    "content-language",
    "if-match",
    "if-none-match",
    "vary",
    "www-authenticate",
];

/// What changes from hop to hop or is a proxy's to write (CS-29), and the signature itself. With `x-forwarded-*`.
const OF_HOPS: [&str; 25] = [
    "accept-encoding",
    "age",
    "connection",
    "content-length",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "server",
    "signature",
    "signature-input",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-real-ip",
    "x-request-id",
];

/// Whether it changes from hop to hop or is a proxy's to write (CS-29), or is the signature itself.
pub(super) fn is_of_hops(name: &str) -> bool {
    OF_HOPS.binary_search(&name).is_ok() || name.starts_with("x-forwarded-")
}

/// What a signer covers: all that is there, sorted, but for what is of hops. Nobody has to guess what a handler will read.
pub(super) fn to_be_signed(fields: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = fields.keys().map(HeaderName::as_str).filter(|name| !is_of_hops(name)).collect();
    names.sort_unstable();
    names
}

/// Joins the pieces in which HTTP/2 may bring a cookie (RFC 9113, section 8.2.3). To be called before such a request is
/// signed or verified: a cookie on several lines is refused (CS-28).
pub fn join_cookies(fields: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(b"; ".as_slice()))
    {
        fields.insert(COOKIE, joined);
    }
}

/// Whether this field of a request has to be covered whenever it is there (CS-24).
#[must_use]
pub fn has_to_be_covered(name: &str) -> bool {
    place(&OF_REQUESTS, name).is_some()
}

/// The place of `name` in one of these lists. Few in a list are as long as another: to look at each takes less time than
/// a binary search.
pub(super) fn place(list: &[&'static str], name: &str) -> Option<usize> {
    list.iter().position(|one| *one == name)
}

/// Which of a list are there, as bits.
pub(super) fn present(list: &[&'static str], fields: &HeaderMap) -> u32 {
    fields.keys().filter_map(|name| place(list, name.as_str())).fold(0, |bits, place| bits | 1 << place)
}

/// The first of a list whose bit is set.
pub(super) fn first(list: &[&'static str], bits: u32) -> Option<&'static str> {
    list.iter().enumerate().find(|(place, _)| bits & 1 << place != 0).map(|(_, name)| *name)
}

/// How a refusal names a field: by its name if the profile has it.
fn shown(name: &str) -> &'static str {
    let known = OF_REQUESTS.iter().chain(&OF_RESPONSES).find(|one| **one == name);
    known.copied().unwrap_or("a covered field")
}

/// Writes the value of a field: its lines without white space around them, joined.
///
/// # Errors
/// [`Refusal::Uncovered`] if it is not there, or holds what a signature base cannot; [`Refusal::SignatureForm`] if it stands
/// on several lines and is no list.
pub(super) fn value(fields: &HeaderMap, name: &str, out: &mut impl Sink) -> Result<(), Refusal> {
    let mut any = false;
    for line in fields.get_all(name) {
        if any {
            if LISTS.binary_search(&name).is_err() {
                return Err(Refusal::SignatureForm);
            }
            out.put(b", ");
        }
        let line = line.as_bytes().trim_ascii();
        if !all(line, |byte| matches!(byte, b' '..=b'~' | b'\t')) {
            return Err(Refusal::Uncovered(shown(name)));
        }
        out.put(line);
        any = true;
    }
    if any { Ok(()) } else { Err(Refusal::Uncovered(shown(name))) }
}

/// The same with `bs`: each line as a byte sequence, so that several cannot pass as one.
pub(super) fn bytes(fields: &HeaderMap, name: &str, out: &mut impl Sink) -> Result<(), Refusal> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let mut any = false;
    for line in fields.get_all(name) {
        out.put(if any { b", :" } else { b":" });
        out.put(STANDARD.encode(line.as_bytes().trim_ascii()).as_bytes());
        out.put(b":");
        any = true;
    }
    if any { Ok(()) } else { Err(Refusal::Uncovered(shown(name))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_so_that_they_can_be_searched() {
        assert!(OF_REQUESTS.is_sorted() && OF_RESPONSES.is_sorted());
        assert!(LISTS.is_sorted() && OF_HOPS.is_sorted());
        for (index, name) in OF_REQUESTS.iter().enumerate() {
            assert_eq!(place(&OF_REQUESTS, name), Some(index));
        }
    }

    #[test]
    fn what_has_to_be_covered_is_always_signed() {
        for name in OF_REQUESTS.iter().chain(&OF_RESPONSES) {
            assert!(!OF_HOPS.contains(name), "{name}");
        }
    }
}
