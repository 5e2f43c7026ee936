//! Profile `api-key` (guide 2): the API key is identity **and** HMAC key.
//!
//! ```text
//! signature = hex(HMAC-SHA256(key = API key, msg = challenge))
//! ```
//! The key itself travels in both requests, so whoever reads one request can authenticate. TLS is all that
//! protects it: prefer `shared-secret` where both sides can do it. The second request does not carry the
//! challenge; the server keeps what it handed out and compares with each.
//!
//! See `specs/guide-profiles.md`.

pub mod client;
pub mod server;

use std::fmt;
use std::str::FromStr;

use crate::UnixTime;
use crate::identity::ApiKey;
use crate::mac::{MacKey, Tag, encode_hex};

/// Outstanding challenges of one key at most; the next `/authenticate` gets 429.
pub const MAX_OUTSTANDING: usize = 64;

/// `<unix seconds>.<random>`: `^\d{10}\.[0-9A-Za-z-]{10,64}\z`. The only shape that a client signs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Challenge(String);

/// The text does not look like `<unix seconds>.<random>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a challenge is ten digits, a dot and 10 to 64 of 0-9 A-Z a-z -")]
pub struct NotAChallenge;

impl Challenge {
    /// A new challenge of ours: the time and 32 hexadecimal digits.
    ///
    /// The time is there because the guide writes it; nothing is decided by it.
    #[must_use]
    pub fn generate(now: UnixTime, random: &[u8; 16]) -> Self {
        Self(format!("{:010}.{}", now.0 % 10_000_000_000, encode_hex(random)))
    }

    /// The text as it travels and as it is signed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Challenge {
    type Err = NotAChallenge;

    fn from_str(text: &str) -> Result<Self, NotAChallenge> {
        let (seconds, random) = text.split_once('.').ok_or(NotAChallenge)?;
        let seconds_fit = seconds.len() == 10 && seconds.bytes().all(|byte| byte.is_ascii_digit());
        let random_fits = (10..=64).contains(&random.len())
            && random.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if seconds_fit && random_fits { Ok(Self(text.to_owned())) } else { Err(NotAChallenge) }
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Challenge({})", self.0)
    }
}

/// The signature that proves possession of `api_key`.
#[must_use]
pub fn sign(api_key: &ApiKey, challenge: &Challenge) -> Tag {
    MacKey::new(api_key.expose().as_bytes()).mac(&[challenge.as_str().as_bytes()])
}
