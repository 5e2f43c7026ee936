//! Keyed hashes of API keys and secrets: how a presented key is found, how a value is recognised in a second
//! peer, and how an unknown key is named on the trail without being shown.

use std::fmt;

use zeroize::Zeroizing;

use crate::encode::length_of;
use crate::mac::{MacKey, encode_hex};

/// The key under which a store hashes API keys and secrets. 32 random bytes, kept wrapped by the master key.
#[derive(Clone, Debug)]
pub struct LookupKey(MacKey);

/// A keyed hash of an API key or a secret: tells nothing about it to whoever lacks the [`LookupKey`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LookupHash([u8; 32]);

impl LookupKey {
    /// From 32 random bytes.
    #[must_use]
    pub fn new(bytes: &Zeroizing<[u8; 32]>) -> Self {
        Self(MacKey::new(bytes.as_slice()))
    }

    /// `HMAC(lookup key, LP("lookup") ‖ LP(value))`.
    #[must_use]
    pub fn hash(&self, value: &str) -> LookupHash {
        let value = value.as_bytes();
        LookupHash(*self.0.mac(&[&[0, 0, 0, 6], b"lookup", &length_of(value), value]).as_bytes())
    }
}

impl LookupHash {
    /// From 32 stored bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// How an unknown key is named: `unknown:` and the first 8 hexadecimal digits.
    #[must_use]
    pub fn unknown_id(&self) -> String {
        let [a, b, c, d, ..] = self.0;
        format!("unknown:{}", encode_hex(&[a, b, c, d]))
    }
}

impl fmt::Debug for LookupHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LookupHash({})", self.unknown_id())
    }
}
