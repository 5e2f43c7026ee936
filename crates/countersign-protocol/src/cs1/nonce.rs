//! Nonces that the server gives (CS-41, CS-43, CS-53): what is signed with one was signed a moment ago, whatever clock the
//! signer has, and whatever the server has forgotten.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::scan::all;
use crate::mac::MacKey;
use crate::{UnixTime, lp};

/// What every nonce of a server begins with, and no other: a request that was signed with one can then never be taken for
/// one that was signed with a nonce of its client's own, after the server's is too old.
pub const PREFIX: &str = "csn.";
/// For how long it may be used, in seconds.
pub const LIFETIME: u64 = 30;
/// How far ahead of our clock it may have been given, in seconds: by another process with the same key.
const AHEAD: u64 = 5;

/// 16 to 128 of `A-Za-z0-9+/=_.~-` (CS-26).
pub(super) fn is_nonce(nonce: &str) -> bool {
    (16..=128).contains(&nonce.len())
        && all(nonce.as_bytes(), |byte| {
            byte.is_ascii_alphanumeric() | matches!(byte, b'+' | b'/' | b'=' | b'_' | b'.' | b'~' | b'-')
        })
}

/// A nonce that a server gave: [`PREFIX`] and what it likes, in the form of CS-26.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerNonce(String);

/// Not the form of a server's nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a server's nonce is `csn.` and more, together 16 to 128 of A-Z a-z 0-9 + / = _ . ~ -")]
pub struct NotAServerNonce;

impl ServerNonce {
    /// As it travels.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerNonce {
    type Err = NotAServerNonce;

    fn from_str(text: &str) -> Result<Self, NotAServerNonce> {
        if is_nonce(text) && text.starts_with(PREFIX) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAServerNonce)
        }
    }
}

impl fmt::Debug for ServerNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerNonce({})", self.0)
    }
}

/// Makes and recognises them. Its key must not outlive the log of burned nonces: of a process with a new log it is a new one,
/// and two processes share it only with the log (CS-53).
#[derive(Debug)]
pub struct NonceIssuer(MacKey);

impl NonceIssuer {
    /// With 32 random bytes.
    #[must_use]
    pub fn new(key: &Zeroizing<[u8; 32]>) -> Self {
        Self(MacKey::new(key.as_slice()))
    }

    /// One to be signed with from now on. Only who had a valid MAC is to be given it.
    #[must_use]
    pub fn issue(&self, now: UnixTime, random: [u8; 16]) -> ServerNonce {
        let mut bytes = [0; 40];
        let parts = now.0.to_be_bytes().into_iter().chain(random).chain(self.mac(now, &random));
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        ServerNonce(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// When it was given, if it was given here, at most 30 s ago.
    #[must_use]
    pub fn check(&self, text: &str, now: UnixTime) -> Option<UnixTime> {
        // Room for what the decoder may write before it knows the length.
        let mut room = [0; 42];
        let length = URL_SAFE_NO_PAD.decode_slice(text.strip_prefix(PREFIX)?, &mut room).ok()?;
        let bytes: &[u8; 40] = room.get(..length)?.try_into().ok()?;
        let (issued, rest) = bytes.split_first_chunk::<8>()?;
        let (random, mac) = rest.split_first_chunk::<16>()?;
        let issued = UnixTime(u64::from_be_bytes(*issued));
        let ours = self.mac(issued, random).ct_eq(mac);
        let in_time = issued.since(now) <= AHEAD && now.since(issued) <= LIFETIME;
        (bool::from(ours) && in_time).then_some(issued)
    }

    /// Until when a request with it has to be remembered: as long as [`NonceIssuer::check`] can say yes.
    pub(super) const fn burned_until(issued: UnixTime) -> UnixTime {
        issued.plus(LIFETIME + AHEAD)
    }

    fn mac(&self, issued: UnixTime, random: &[u8; 16]) -> [u8; 16] {
        self.0.mac(&[&lp(&[b"nonce", &issued.0.to_be_bytes(), random])]).first16()
    }
}
