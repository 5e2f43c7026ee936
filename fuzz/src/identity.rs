//! Names, keys, secrets, signatures: taken exactly when a predicate written by hand says so, and kept as they are.

use countersign_protocol::identity::{ApiKey, ServiceName};
use countersign_protocol::mac::{Tag, decode_hex, encode_hex};
use countersign_protocol::secret::{SharedSecret, strip_line_end};
use subtle::ConstantTimeEq as _;

use crate::input;

const LETTERS_AND_DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

pub(crate) fn is_service_name(text: &str) -> bool {
    let alphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
    text.len() <= 63
        && text.chars().next().is_some_and(|first| alphabet.contains(first))
        && text.chars().all(|c| alphabet.contains(c) || c == '-')
}

pub(crate) fn is_api_key(text: &str) -> bool {
    (16..=128).contains(&text.len())
        && text.chars().all(|c| LETTERS_AND_DIGITS.contains(c) || "+/=._~-".contains(c))
}

pub(crate) fn is_signature(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// Whether a text could be a random value: no placeholder in it, and eight characters or more.
fn looks_random(text: &str) -> bool {
    let placeholders = [
        "your_secret",
        "your-secret",
        "your_shared",
        "your-shared",
        "your_api",
        "your-api",
        "changeme",
        "abcdefghijklmnopqrstuvwxyz",
        "zyxwvutsrqponmlkjihgfedcba",
    ];
    let lower = text.to_ascii_lowercase();
    let mut distinct: Vec<u8> = text.bytes().collect();
    distinct.sort_unstable();
    distinct.dedup();
    distinct.len() >= 8 && !placeholders.iter().any(|placeholder| lower.contains(placeholder))
}

pub(crate) fn service_name(input: &[u8]) {
    let text = input::text(input);
    let parsed = text.parse::<ServiceName>();
    assert_eq!(parsed.is_ok(), is_service_name(&text));
    let json = serde_json::to_string(&text).unwrap();
    assert_eq!(serde_json::from_str::<ServiceName>(&json).ok(), parsed.clone().ok(), "JSON is no side door");
    match parsed {
        Ok(name) => {
            assert_eq!(name.as_str(), text);
            assert_eq!(name.to_string(), text);
            assert_eq!(serde_json::to_string(&name).unwrap(), json);
        }
        Err(error) => input::assert_printable(&error.to_string()),
    }
}

pub(crate) fn api_key(input: &[u8]) {
    let text = input::text(input);
    let parsed = text.parse::<ApiKey>();
    assert_eq!(parsed.is_ok(), is_api_key(&text));
    match parsed {
        Ok(key) => {
            assert_eq!(key.expose(), text);
            assert_eq!(format!("{key:?}"), "ApiKey(…)");
            assert!(key == key.clone());
            assert_eq!(key.check_as_secret().is_ok(), text.len() >= 22 && looks_random(&text));
        }
        Err(error) => input::assert_printable(&error.to_string()),
    }
}

pub(crate) fn secret(input: &[u8]) {
    let text = input::text(input);
    // As a file brings it: at most one line end goes.
    let stripped = strip_line_end(&text);
    let end = text.strip_prefix(stripped).unwrap();
    assert!(["", "\n", "\r", "\r\n"].contains(&end));
    assert_eq!(end.is_empty(), !text.ends_with(['\n', '\r']));
    let form = (32..=256).contains(&stripped.len()) && stripped.bytes().all(|byte| byte.is_ascii_graphic());
    let parsed = stripped.parse::<SharedSecret>();
    assert_eq!(parsed.is_ok(), form && looks_random(stripped));
    match parsed {
        Ok(secret) => {
            assert_eq!(secret.expose(), stripped);
            assert_eq!(format!("{secret:?}"), "SharedSecret(…)");
        }
        Err(error) => input::assert_printable(&error.to_string()),
    }
}

pub(crate) fn signature(input: &[u8]) {
    let text = input::text(input);
    let parsed = Tag::from_hex(&text);
    assert_eq!(parsed.is_some(), is_signature(&text));
    if let Some(tag) = parsed {
        assert_eq!(tag.to_hex(), text.to_ascii_lowercase());
        assert!(bool::from(Tag::from_bytes(*tag.as_bytes()).ct_eq(&tag)));
    }
    // Of any other length: exactly what fits.
    let mut bytes = vec![0; text.len() / 2];
    let read = decode_hex(text.as_bytes(), &mut bytes);
    let is_hex = text.len().is_multiple_of(2) && text.chars().all(|c| c.is_ascii_hexdigit());
    assert_eq!(read.is_some(), is_hex);
    if is_hex {
        assert_eq!(encode_hex(&bytes), text.to_ascii_lowercase());
    }
}
