//! Which fields a signature has to cover (CS-24, CS-33), and how their values are written under it.

use http::{HeaderMap, HeaderName};

/// Where a signature base goes: into a MAC, or into a buffer that somebody wants to look at.
pub(super) trait Sink {
    /// Takes the next bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for crate::mac::MacStream {
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

/// The place of `name` in one of these lists.
pub(super) fn place(list: &[&'static str], name: &str) -> Option<usize> {
    list.binary_search(&name).ok()
}

/// Which of a list are there, as bits.
pub(super) fn present(list: &[&'static str], fields: &HeaderMap) -> u32 {
    fields.keys().filter_map(|name| place(list, name.as_str())).fold(0, |bits, place| bits | 1 << place)
}

/// The first of a list whose bit is set.
pub(super) fn first(list: &[&'static str], bits: u32) -> Option<&'static str> {
    list.iter().enumerate().find(|(place, _)| bits & 1 << place != 0).map(|(_, name)| *name)
}

/// The lines of a field, without white space around them. `None` if a line holds what a signature base cannot.
fn lines<'a>(fields: &'a HeaderMap, name: &str) -> impl Iterator<Item = Option<&'a [u8]>> {
    fields.get_all(name).iter().map(|line| {
        let line = line.as_bytes().trim_ascii();
        line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t')).then_some(line)
    })
}

/// Writes the value of a field: its lines, joined. `None` if it is not there or not ASCII.
pub(super) fn value(fields: &HeaderMap, name: &str, out: &mut impl Sink) -> Option<()> {
    // HTTP/2 lets a client send one Cookie field in pieces (RFC 9113, section 8.2.3).
    let between: &[u8] = if name == "cookie" { b"; " } else { b", " };
    let mut any = None;
    for line in lines(fields, name) {
        if any.is_some() {
            out.put(between);
        }
        out.put(line?);
        any = Some(());
    }
    any
}

/// The same with `bs`: each line as a byte sequence.
pub(super) fn bytes(fields: &HeaderMap, name: &HeaderName, out: &mut impl Sink) -> Option<()> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let mut any = None;
    for line in fields.get_all(name) {
        out.put(if any.is_some() { b", :" } else { b":" });
        out.put(STANDARD.encode(line.as_bytes().trim_ascii()).as_bytes());
        out.put(b":");
        any = Some(());
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_so_that_they_can_be_searched() {
        assert!(OF_REQUESTS.is_sorted() && OF_RESPONSES.is_sorted());
        for (index, name) in OF_REQUESTS.iter().enumerate() {
            assert_eq!(place(&OF_REQUESTS, name), Some(index));
        }
    }
}
