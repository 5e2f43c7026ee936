//! How targets take an input apart.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The input as text; what is not UTF-8 becomes U+FFFD.
pub(crate) fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// The input as two: what is before the first zero byte, and what is behind it.
pub(crate) fn two(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    (&input[..end], input.get(end + 1..).unwrap_or_default())
}

/// Takes so many bytes off the front, zeros if there are too few.
pub(crate) fn take<const N: usize>(input: &mut &[u8]) -> [u8; N] {
    let (taken, rest) = input.split_at(N.min(input.len()));
    *input = rest;
    let mut bytes = [0; N];
    bytes[..taken.len()].copy_from_slice(taken);
    bytes
}

/// Header fields, one a line; lines that cannot be one are left out.
pub(crate) fn headers(input: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// Fit for a terminal and a log line: nothing but visible ASCII and spaces.
pub(crate) fn assert_printable(text: &str) {
    assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "not printable: {text:?}");
}
