//! Which fields a signature has to cover (CS-24, CS-33), and how their values are written under it.

use http::{HeaderMap, HeaderValue, header::COOKIE};

use super::lines::Found;
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
pub(super) fn parameters(name: &[u8]) -> &'static str {
    if name == b"set-cookie" { ";bs" } else { "" }
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

/// Whether it changes from hop to hop or is a proxy's to write (CS-29), or is the signature itself.
pub(super) fn is_of_hops(name: &[u8]) -> bool {
    matches!(
        name,
        b"accept-encoding"
            | b"age"
            | b"connection"
            | b"content-length"
            | b"date"
            | b"expect"
            | b"forwarded"
            | b"host"
            | b"keep-alive"
            | b"max-forwards"
            | b"proxy-authenticate"
            | b"proxy-authorization"
            | b"proxy-connection"
            | b"server"
            | b"signature"
            | b"signature-input"
            | b"te"
            | b"traceparent"
            | b"tracestate"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
            | b"via"
            | b"x-real-ip"
            | b"x-request-id"
    ) || name.starts_with(b"x-forwarded-")
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
    has_to_be_covered_in_a_request(name.as_bytes())
}

pub(super) fn has_to_be_covered_in_a_request(name: &[u8]) -> bool {
    // The compiler sees by the length that it is none of them.
    matches!(
        name,
        b"authorization"
            | b"content-digest"
            | b"content-encoding"
            | b"content-range"
            | b"content-type"
            | b"cookie"
            | b"countersign-body"
            | b"idempotency-key"
            | b"if-match"
            | b"if-modified-since"
            | b"if-none-match"
            | b"if-range"
            | b"if-unmodified-since"
            | b"range"
            | b"x-http-method"
            | b"x-http-method-override"
            | b"x-method-override"
    )
}

/// Whether this field of a response has to be covered whenever it is there (CS-33).
pub(super) fn has_to_be_covered_in_a_response(name: &[u8]) -> bool {
    matches!(
        name,
        b"cache-control"
            | b"content-digest"
            | b"content-encoding"
            | b"content-range"
            | b"content-type"
            | b"countersign-body"
            | b"etag"
            | b"location"
            | b"retry-after"
            | b"set-cookie"
            | b"www-authenticate"
    )
}

/// Which of a list are there.
pub(super) fn present<'l>(
    list: &'l [&'static str],
    fields: &'l HeaderMap,
) -> impl Iterator<Item = &'static str> + use<'l> {
    list.iter().copied().filter(|name| fields.contains_key(*name))
}

/// How a refusal names a field: by its name if the profile has it.
fn shown(name: &[u8]) -> &'static str {
    let known = OF_REQUESTS.iter().chain(&OF_RESPONSES).find(|one| one.as_bytes() == name);
    known.copied().unwrap_or("a covered field")
}

/// Writes the value of a field: its lines without white space around them, joined.
///
/// # Errors
/// [`Refusal::Uncovered`] if it is not there, or holds what a signature base cannot; [`Refusal::SignatureForm`] if it stands
/// on several lines and is no list.
#[inline]
pub(super) fn value(lines: Found<'_, '_>, name: &[u8], out: &mut impl Sink) -> Result<(), Refusal> {
    let mut any = false;
    for line in lines {
        if any {
            if !LISTS.iter().any(|list| list.as_bytes() == name) {
                return Err(Refusal::SignatureForm);
            }
            out.put(b", ");
        }
        // In a field's value nothing else is that a signature base cannot hold: `http` lets no control characters in.
        if !line.is_ascii() {
            return Err(Refusal::Uncovered(shown(name)));
        }
        out.put(line.trim_ascii());
        any = true;
    }
    if any { Ok(()) } else { Err(Refusal::Uncovered(shown(name))) }
}

/// The same with `bs`: each line as a byte sequence, so that several cannot pass as one.
pub(super) fn bytes(lines: Found<'_, '_>, name: &[u8], out: &mut impl Sink) -> Result<(), Refusal> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let mut any = false;
    for line in lines {
        out.put(if any { b", :" } else { b":" });
        out.put(STANDARD.encode(line.trim_ascii()).as_bytes());
        out.put(b":");
        any = true;
    }
    if any { Ok(()) } else { Err(Refusal::Uncovered(shown(name))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_and_each_name_is_known_for_what_it_is() {
        assert!(OF_REQUESTS.is_sorted() && OF_RESPONSES.is_sorted());
        assert!(LISTS.is_sorted());
        assert!(OF_REQUESTS.iter().all(|name| has_to_be_covered(name)));
        assert!(OF_RESPONSES.iter().all(|name| has_to_be_covered_in_a_response(name.as_bytes())));
    }

    #[test]
    fn a_value_holds_no_byte_that_would_end_a_line_of_the_signature_base() {
        for byte in 0..=u8::MAX {
            let fits = matches!(byte, b' '..=b'~' | b'\t' | 0x80..);
            assert_eq!(HeaderValue::from_bytes(&[byte]).is_ok(), fits, "{byte}");
        }
    }

    #[test]
    fn what_has_to_be_covered_is_always_signed() {
        for name in OF_REQUESTS.iter().chain(&OF_RESPONSES) {
            assert!(!is_of_hops(name.as_bytes()), "{name}");
        }
    }
}
