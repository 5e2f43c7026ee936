//! The bearer token (RFC 6750) in which both guides end: sealed, short-lived, for this server only.
//!
//! ```text
//! csb. base64url( kid(8) ‖ nonce(12) ‖ AES-256-GCM-SIV )     key = HKDF-Expand(K, LP("token"))
//!                                                            AAD = LP("token") ‖ LP(service) ‖ LP(kid)
//! ```

use std::fmt;

use zeroize::Zeroizing;

use crate::aead::NONCE_LEN;
use crate::identity::{CredentialId, ServiceName};
use crate::sealed::{Fields, Purpose, SealingKeys};
use crate::{UnixTime, lp};

/// What every token of ours begins with.
pub const PREFIX: &str = "csb.";
/// The longest lifetime of a token, in seconds.
pub const MAX_LIFETIME: u64 = 300;
pub use crate::sealed::KEY_LIFETIME;

const PURPOSE: Purpose = Purpose { label: "token", prefix: PREFIX };

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The credential that authenticated.
    pub credential: CredentialId,
    /// That credential's unique id: one that is removed and added anew under the same name has another.
    pub uid: [u8; 16],
    /// When it was issued.
    pub issued: UnixTime,
    /// From here on it is refused.
    pub expires: UnixTime,
}

/// Why a token was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not a token's form.
    #[error("not the form of a token")]
    Form,
    /// Sealed under a key that this server does not have (another server, before a restart, or long ago).
    #[error("sealed under another server's key, or before a restart")]
    Key,
    /// The seal does not open.
    #[error("the seal does not open")]
    Seal,
    /// Too old.
    #[error("expired")]
    Expired,
}

/// The keys that seal and open one server's tokens: the current one and the one before.
pub struct TokenKeys(SealingKeys);

impl TokenKeys {
    /// A first key from 40 random bytes.
    #[must_use]
    pub fn new(service: ServiceName, random: &Zeroizing<[u8; 40]>, now: UnixTime) -> Self {
        Self(SealingKeys::new(PURPOSE, service, random, now))
    }

    /// Whether the current key has served its time.
    #[must_use]
    pub fn is_due(&self, now: UnixTime) -> bool {
        self.0.is_due(now)
    }

    /// Makes a new current key; the one before goes on opening, and those before that are erased.
    pub fn rotate(&mut self, random: &Zeroizing<[u8; 40]>, now: UnixTime) {
        self.0.rotate(random, now);
        self.0.keep_one_previous();
    }

    /// Seals `claims` under the current key.
    #[must_use]
    pub fn seal(&self, claims: &Claims, nonce: [u8; NONCE_LEN]) -> Zeroizing<String> {
        let plaintext = lp(&[
            claims.credential.peer.as_str().as_bytes(),
            &claims.credential.number.to_be_bytes(),
            &claims.uid,
            &claims.issued.0.to_be_bytes(),
            &claims.expires.0.to_be_bytes(),
        ]);
        self.0.seal(&plaintext, nonce)
    }

    /// Opens a token and checks its age. Whether its credential still lives is for the caller to ask.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn open(&self, token: &str, now: UnixTime) -> Result<Claims, TokenError> {
        let plaintext = self.0.open(token)?;
        let claims = read_claims(&plaintext).ok_or(TokenError::Seal)?;
        if now >= claims.expires { Err(TokenError::Expired) } else { Ok(claims) }
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKeys(…)")
    }
}

fn read_claims(bytes: &[u8]) -> Option<Claims> {
    let mut fields = Fields::of(bytes);
    let peer = fields.text()?.parse().ok()?;
    let number = u32::from_be_bytes(fields.array()?);
    let uid = fields.array()?;
    let issued = UnixTime(u64::from_be_bytes(fields.array()?));
    let expires = UnixTime(u64::from_be_bytes(fields.array()?));
    fields.is_empty().then_some(Claims { credential: CredentialId { peer, number }, uid, issued, expires })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> TokenKeys {
        TokenKeys::new("orders".parse().unwrap(), &Zeroizing::new([seed; 40]), UnixTime(1_000))
    }

    fn claims() -> Claims {
        Claims {
            credential: CredentialId { peer: "billing".parse().unwrap(), number: 3 },
            uid: [5; 16],
            issued: UnixTime(1_000),
            expires: UnixTime(1_300),
        }
    }

    #[test]
    fn a_token_opens_until_the_second_it_expires() {
        let keys = keys(1);
        let token = keys.seal(&claims(), [9; 12]);
        assert_eq!(keys.open(&token, UnixTime(1_299)), Ok(claims()));
        assert_eq!(keys.open(&token, UnixTime(1_300)), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_of_another_server_process_is_refused() {
        let token = keys(1).seal(&claims(), [9; 12]);
        assert_eq!(keys(2).open(&token, UnixTime(1_001)), Err(TokenError::Key));
        let other = TokenKeys::new("other".parse().unwrap(), &Zeroizing::new([1; 40]), UnixTime(1_000));
        assert_eq!(other.open(&token, UnixTime(1_001)), Err(TokenError::Seal));
    }

    #[test]
    fn a_token_survives_one_key_rotation_and_not_two() {
        let mut keys = keys(1);
        let token = keys.seal(&claims(), [9; 12]);
        assert!(!keys.is_due(UnixTime(1_000 + KEY_LIFETIME - 1)));
        assert!(keys.is_due(UnixTime(1_000 + KEY_LIFETIME)));
        keys.rotate(&Zeroizing::new([2; 40]), UnixTime(1_100));
        assert!(keys.open(&token, UnixTime(1_101)).is_ok());
        keys.rotate(&Zeroizing::new([3; 40]), UnixTime(1_102));
        assert_eq!(keys.open(&token, UnixTime(1_103)), Err(TokenError::Key));
    }

    #[test]
    fn no_changed_character_passes() {
        let keys = keys(1);
        let token = keys.seal(&claims(), [9; 12]);
        for index in 0..token.len() {
            let mut changed = token.as_bytes().to_vec();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(keys.open(&changed, UnixTime(1_001)).is_err(), "character {index}");
        }
        assert!(keys.open(&format!("{}=", *token), UnixTime(1_001)).is_err());
        assert_eq!(keys.open(&format!("csb.{}", "A".repeat(10_000)), UnixTime(1_001)), Err(TokenError::Form));
    }
}
