//! `ts "." base64url(ns(32) ‖ mac(16))`: nothing is stored until it comes back.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::transcript::Hello;
use crate::mac::MacKey;
use crate::shared_secret::Lifetime;
use crate::shared_secret::challenge::Standing;
use crate::{LengthPrefixed, UnixTime};

/// How far ahead of our clock a challenge may be dated, in seconds.
const AHEAD: u64 = 5;

/// What a client answers: ten digits, a dot, 16 to 128 characters of base64url (CS-6). Ours have 64.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    text: String,
    time: UnixTime,
}

/// Not the form of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a challenge of cs1 is ten digits, a dot and 16 to 128 characters of base64url")]
pub struct NotAChallenge;

impl Challenge {
    /// As it travels and goes into MACs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `ts`, the server's time when it was made.
    #[must_use]
    pub const fn time(&self) -> UnixTime {
        self.time
    }

    /// Under what it is burned: the MAC in it, which nobody can choose. Asked only once the MAC has been checked.
    pub(super) fn id(&self) -> u128 {
        self.parts().map_or(0, |(_, mac)| u128::from_be_bytes(mac))
    }

    /// `ns` and the MAC, if it has the form of ours.
    fn parts(&self) -> Option<([u8; 32], [u8; 16])> {
        let (_, encoded) = self.text.split_once('.')?;
        let bytes: [u8; 48] = URL_SAFE_NO_PAD.decode(encoded).ok()?.try_into().ok()?;
        let (nonce, mac) = bytes.split_first_chunk::<32>()?;
        Some((*nonce, mac.try_into().ok()?))
    }
}

impl FromStr for Challenge {
    type Err = NotAChallenge;

    fn from_str(text: &str) -> Result<Self, NotAChallenge> {
        let (digits, rest) = text.split_once('.').ok_or(NotAChallenge)?;
        let is_time = digits.len() == 10
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        let is_rest = (16..=128).contains(&rest.len())
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !is_time || !is_rest {
            return Err(NotAChallenge);
        }
        let time = digits.parse().map(UnixTime).map_err(|_| NotAChallenge)?;
        Ok(Self { text: text.to_owned(), time })
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Challenge({})", self.text)
    }
}

/// Makes and recognises the challenges of one server process. The key is random and never leaves the process: what was
/// issued before a restart is foreign after it (CS-12).
#[derive(Debug)]
pub struct Issuer {
    key: MacKey,
    lifetime: Lifetime,
}

impl Issuer {
    /// An issuer with the key `Kchal`, 32 random bytes.
    #[must_use]
    pub fn new(key: &Zeroizing<[u8; 32]>, lifetime: Lifetime) -> Self {
        Self { key: MacKey::new(key.as_slice()), lifetime }
    }

    /// How long its challenges live.
    #[must_use]
    pub const fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// The challenge to a hello, whoever it is from (CS-11). `nonce` is `ns`, 32 random bytes.
    ///
    /// # Errors
    /// The clock does not show ten digits: before September 2001 or after November 2286.
    pub fn issue(&self, hello: &Hello, now: UnixTime, nonce: [u8; 32]) -> Result<Challenge, NotAChallenge> {
        let mac = self.mac(hello, &now.to_string(), &nonce);
        let mut bytes = [0; 48];
        bytes.iter_mut().zip(nonce.iter().chain(&mac)).for_each(|(to, from)| *to = *from);
        format!("{now}.{}", URL_SAFE_NO_PAD.encode(bytes)).parse()
    }

    /// Whether the challenge was made here for this hello, and when (CS-13). One MAC, whatever comes.
    #[must_use]
    pub fn check(&self, hello: &Hello, challenge: &Challenge, now: UnixTime) -> Standing {
        let (nonce, mac) = challenge.parts().unwrap_or_default();
        let issued = challenge.time();
        let ours = self.mac(hello, &issued.to_string(), &nonce).ct_eq(&mac);
        if !bool::from(ours) || issued.since(now) > AHEAD {
            Standing::Foreign
        } else if now.since(issued) > self.lifetime.as_secs() {
            Standing::Expired
        } else {
            Standing::Live(issued)
        }
    }

    /// Until when an answered challenge has to be remembered (CS-15).
    #[must_use]
    pub const fn burned_until(&self, issued: UnixTime) -> UnixTime {
        issued.plus(self.lifetime.as_secs() + AHEAD)
    }

    fn mac(&self, hello: &Hello, time: &str, nonce: &[u8; 32]) -> [u8; 16] {
        let encoding = LengthPrefixed::with_capacity(512).field(b"ch").field(b"cs1");
        let message = hello.encode(encoding).field(time.as_bytes()).field(nonce).finish();
        self.key.mac(&[&message]).first16()
    }
}
