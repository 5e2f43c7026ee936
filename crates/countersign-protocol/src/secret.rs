//! Shared secrets.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::identity::{FormError, check_form, check_random};
use crate::mac::MacKey;

/// What both sides of a pair hold: 32 to 256 of `[\x21-\x7e]`, random values only.
///
/// Its text bytes are the HMAC key as they stand; nothing is decoded, so that `openssl rand -base64 32` and
/// `openssl dgst -hmac` work with it. Redacted in `Debug`, zeroised when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SharedSecret(String);

impl SharedSecret {
    /// A new secret: `css_` and base64url of 32 random bytes, 47 characters.
    #[must_use]
    pub fn generate(random: &[u8; 32]) -> Self {
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(random));
        let mut text = String::with_capacity(4 + encoded.len());
        text.push_str("css_");
        text.push_str(&encoded);
        Self(text)
    }

    /// The text. For writing it into an encrypted store or handing it to its owner, nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its HMAC key.
    #[must_use]
    pub fn mac_key(&self) -> MacKey {
        MacKey::new(self.0.as_bytes())
    }
}

impl FromStr for SharedSecret {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        check_form(text.as_bytes(), 32, 256, "the visible ASCII characters ! to ~", |byte| {
            byte.is_ascii_graphic()
        })?;
        check_random(text.as_bytes())?;
        Ok(Self(text.to_owned()))
    }
}

impl ConstantTimeEq for SharedSecret {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.0.as_bytes().ct_eq(other.0.as_bytes())
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(…)")
    }
}

/// Takes the one line ending off that a file or a pipe brings: CR LF, LF or CR, once.
#[must_use]
pub fn strip_line_end(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix(['\n', '\r'])).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_redacted_in_debug_output() {
        let secret = SharedSecret::generate(&[9; 32]);
        assert_eq!(format!("{secret:?}"), "SharedSecret(…)");
        assert_eq!(secret.expose().len(), 47);
    }

    #[test]
    fn dropping_leaves_nothing_behind() {
        let mut secret = SharedSecret::generate(b"0123456789abcdef0123456789abcdef");
        secret.zeroize();
        assert!(secret.expose().is_empty());
    }

    #[test]
    fn exactly_one_line_end_is_stripped() {
        assert_eq!(strip_line_end("a\r\n"), "a");
        assert_eq!(strip_line_end("a\n"), "a");
        assert_eq!(strip_line_end("a\r"), "a");
        assert_eq!(strip_line_end("a\n\n"), "a\n");
        assert_eq!(strip_line_end("a"), "a");
    }

    #[test]
    fn what_openssl_prints_is_taken_as_it_is() {
        assert!("yIfe1hYGJlxuX2zS4XMs8kvKvVZ6q1Pjz3ZCXjVYv0Q=".parse::<SharedSecret>().is_ok());
    }
}
