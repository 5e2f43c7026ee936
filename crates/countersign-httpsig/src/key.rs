//! Keys, apart from what is signed.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// A key that makes signatures.
pub trait SigningKey {
    /// The algorithm's name in the registry of RFC 9421, section 6.2, such as `hmac-sha256`.
    fn algorithm(&self) -> &str;

    /// The signature of a base.
    fn sign(&self, base: &[u8]) -> Vec<u8>;
}

/// A key that verifies signatures.
pub trait VerifyingKey {
    /// The algorithm's name. It belongs to the key: what a message says can only agree with it.
    fn algorithm(&self) -> &str;

    /// Whether `signature` is the right one of `base`. A MAC has to be compared in constant time.
    fn verify(&self, base: &[u8], signature: &[u8]) -> bool;
}

/// `hmac-sha256` (RFC 9421, section 3.3.3), with the key prepared. Redacted; what it prepares is zeroised when it is
/// dropped.
#[derive(Clone)]
pub struct HmacSha256(Hmac<Sha256>);

impl HmacSha256 {
    /// Prepares a key of any length. RFC 2104 asks for 32 random bytes at least.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(key).ok().map(Self)
    }
}

impl fmt::Debug for HmacSha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacSha256(…)")
    }
}

impl SigningKey for HmacSha256 {
    fn algorithm(&self) -> &str {
        "hmac-sha256"
    }

    fn sign(&self, base: &[u8]) -> Vec<u8> {
        self.0.clone().chain_update(base).finalize().into_bytes().to_vec()
    }
}

impl VerifyingKey for HmacSha256 {
    fn algorithm(&self) -> &str {
        "hmac-sha256"
    }

    fn verify(&self, base: &[u8], signature: &[u8]) -> bool {
        // In constant time, and no truncated one.
        self.0.clone().chain_update(base).verify_slice(signature).is_ok()
    }
}
