//! AES-256-GCM-SIV (RFC 8452) as tokens and stores use it: a nonce that repeats reveals only that two
//! plaintexts were equal.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::hkdf::Prk;

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;

/// A 256-bit AEAD key. Its `Debug` shows nothing.
pub struct AeadKey(LessSafeKey);

/// The ciphertext was made under another key or for another place, or it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value does not open: another key, another place, or changed bytes")]
pub struct OpenError;

impl AeadKey {
    /// From 32 bytes.
    #[must_use]
    pub fn new(key: &Zeroizing<[u8; 32]>) -> Self {
        match UnboundKey::new(&AES_256_GCM_SIV, key.as_slice()) {
            Ok(unbound) => Self(LessSafeKey::new(unbound)),
            Err(_) => unreachable!("32 bytes are a key of AES-256-GCM-SIV"),
        }
    }

    /// From a root key: `HKDF-Expand(root, LP(label), 32)` (RFC 5869, section 2.3; the root is random, so
    /// nothing needs extracting).
    #[must_use]
    pub fn derive(root: &Zeroizing<[u8; 32]>, label: &str) -> Self {
        Self::new(&expand(root, label))
    }

    /// `nonce ‖ ciphertext ‖ tag` of `plaintext`, bound to `aad`.
    #[must_use]
    pub fn seal(&self, nonce: [u8; NONCE_LEN], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        // The whole buffer is reserved first: a growing vector would leave plaintext behind.
        let mut buffer = Vec::with_capacity(NONCE_LEN + plaintext.len() + TAG_LEN);
        buffer.extend_from_slice(&nonce);
        buffer.extend_from_slice(plaintext);
        let (_, text) = buffer.split_at_mut(NONCE_LEN);
        match self.0.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text) {
            Ok(tag) => buffer.extend_from_slice(tag.as_ref()),
            Err(_) => unreachable!("sealing fails only beyond 2^36 bytes"),
        }
        buffer
    }

    /// The plaintext of what [`AeadKey::seal`] made with the same `aad`.
    ///
    /// # Errors
    /// [`OpenError`] for anything else.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(OpenError)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError)?;
        let mut buffer = Zeroizing::new(text.to_vec());
        let length = self.0.open_in_place(nonce, Aad::from(aad), &mut buffer).map_err(|_| OpenError)?.len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AeadKey(…)")
    }
}

/// `HKDF-Expand(root, LP(label), 32)` with SHA-256 (RFC 5869, section 2.3).
#[must_use]
pub fn expand(root: &Zeroizing<[u8; 32]>, label: &str) -> Zeroizing<[u8; 32]> {
    Prk::new(root).expand(&crate::lp(&[label.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> AeadKey {
        AeadKey::new(&Zeroizing::new([byte; 32]))
    }

    #[test]
    fn what_is_sealed_opens_only_with_the_same_key_and_place() {
        let sealed = key(1).seal([2; NONCE_LEN], b"place", b"secret");
        assert_eq!(key(1).open(b"place", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(key(1).open(b"other", &sealed), Err(OpenError));
        assert_eq!(key(3).open(b"place", &sealed), Err(OpenError));
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let sealed = key(1).seal([2; NONCE_LEN], b"", b"0123456789");
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(key(1).open(b"", &changed).is_err(), "byte {index}");
            assert!(key(1).open(b"", &sealed[..index]).is_err(), "cut at {index}");
        }
    }
}
