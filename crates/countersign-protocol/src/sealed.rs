//! Values that a server seals for itself and gives to callers, under keys that change: tokens and tickets.
//!
//! ```text
//! prefix base64url( kid(8) ‖ nonce(12) ‖ AES-256-GCM-SIV )     key = HKDF-Expand(K, LP(purpose))
//!                                                              AAD = LP(purpose) ‖ LP(service) ‖ LP(kid)
//! ```

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::aead::{AeadKey, NONCE_LEN};
use crate::identity::ServiceName;
use crate::token::TokenError;
use crate::{UnixTime, lp};

/// A key seals for this long, in seconds. How long it goes on opening is for its user to say.
pub const KEY_LIFETIME: u64 = 12 * 60 * 60;
/// Nothing sealed here is longer, in characters.
const MAX_LEN: usize = 512;

/// What is sealed: two purposes have two keys, so that one can never pass as the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose {
    /// In the key and the AAD.
    pub(crate) label: &'static str,
    /// In front of the text.
    pub(crate) prefix: &'static str,
}

struct Generation {
    /// `kid ‖ K`, as it is kept by whoever keeps it.
    random: Zeroizing<[u8; 40]>,
    kid: [u8; 8],
    key: AeadKey,
    since: UnixTime,
    /// It comes from an earlier run.
    is_kept: bool,
}

impl Generation {
    fn new(purpose: Purpose, random: &Zeroizing<[u8; 40]>, since: UnixTime) -> Self {
        let mut kid = [0; 8];
        let mut root = Zeroizing::new([0; 32]);
        kid.iter_mut().chain(root.iter_mut()).zip(random.iter()).for_each(|(to, from)| *to = *from);
        Self {
            random: random.clone(),
            kid,
            key: AeadKey::derive(&root, purpose.label),
            since,
            is_kept: false,
        }
    }
}

/// The current key, and those before whose last value may still be good.
pub(crate) struct SealingKeys {
    purpose: Purpose,
    service: ServiceName,
    current: Generation,
    /// The newest first.
    previous: Vec<Generation>,
}

impl SealingKeys {
    /// A first key from 40 random bytes.
    pub(crate) fn new(
        purpose: Purpose,
        service: ServiceName,
        random: &Zeroizing<[u8; 40]>,
        now: UnixTime,
    ) -> Self {
        Self { purpose, service, current: Generation::new(purpose, random, now), previous: Vec::new() }
    }

    /// Whether the current key has served its time.
    pub(crate) fn is_due(&self, now: UnixTime) -> bool {
        now.since(self.current.since) >= KEY_LIFETIME
    }

    /// Makes a new current key; the old one goes on opening.
    pub(crate) fn rotate(&mut self, random: &Zeroizing<[u8; 40]>, now: UnixTime) {
        let next = Generation::new(self.purpose, random, now);
        self.previous.insert(0, std::mem::replace(&mut self.current, next));
    }

    /// Erases all keys before the current one but the last: for what lives much shorter than a key seals.
    pub(crate) fn keep_one_previous(&mut self) {
        self.previous.truncate(1);
    }

    /// Erases the keys before the current one of which nothing that they sealed can be good any more: so long, in seconds,
    /// is what they seal good.
    pub(crate) fn erase_previous(&mut self, now: UnixTime, lifetime: u64) {
        let mut replaced = self.current.since;
        self.previous.retain(|generation| {
            let keep = now.since(replaced) < lifetime;
            replaced = generation.since;
            keep
        });
    }

    /// The keys as bytes: `LP(purpose)`, then `LP(kid ‖ K) ‖ LP(since)` for the current one and those before.
    pub(crate) fn export(&self) -> Zeroizing<Vec<u8>> {
        let generations = std::iter::once(&self.current).chain(&self.previous);
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        bytes.extend(lp(&[self.purpose.label.as_bytes()]));
        for generation in generations {
            let encoded =
                Zeroizing::new(lp(&[generation.random.as_slice(), &generation.since.0.to_be_bytes()]));
            bytes.extend_from_slice(&encoded);
        }
        bytes
    }

    /// The reverse of [`SealingKeys::export`]; `None` if it is not that.
    pub(crate) fn import(purpose: Purpose, service: ServiceName, bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(bytes);
        if fields.text()? != purpose.label {
            return None;
        }
        let generation = |fields: &mut Fields<'_>| {
            let random = Zeroizing::new(fields.array()?);
            let since = UnixTime(u64::from_be_bytes(fields.array()?));
            Some(Generation { is_kept: true, ..Generation::new(purpose, &random, since) })
        };
        let current = generation(&mut fields)?;
        let mut previous = Vec::new();
        while !fields.is_empty() {
            previous.push(generation(&mut fields)?);
        }
        Some(Self { purpose, service, current, previous })
    }

    /// Seals under the current key.
    pub(crate) fn seal(&self, plaintext: &[u8], nonce: [u8; NONCE_LEN]) -> Zeroizing<String> {
        let sealed = self.current.key.seal(nonce, &self.aad(&self.current), plaintext);
        let bytes = [self.current.kid.as_slice(), &sealed].concat();
        Zeroizing::new(format!("{}{}", self.purpose.prefix, URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Opens what [`SealingKeys::seal`] made.
    pub(crate) fn open(&self, text: &str) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.open_noting(text).map(|(opened, _)| opened)
    }

    /// The same, and whether it was sealed in an earlier run.
    pub(crate) fn open_noting(&self, text: &str) -> Result<(Zeroizing<Vec<u8>>, bool), TokenError> {
        let encoded = text.strip_prefix(self.purpose.prefix).ok_or(TokenError::Form)?;
        if text.len() > MAX_LEN {
            return Err(TokenError::Form);
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Form)?;
        let (kid, sealed) = bytes.split_first_chunk::<8>().ok_or(TokenError::Form)?;
        let generation = std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|generation| generation.kid == *kid)
            .ok_or(TokenError::Key)?;
        let opened = generation.key.open(&self.aad(generation), sealed).map_err(|_| TokenError::Seal)?;
        Ok((opened, generation.is_kept))
    }

    fn aad(&self, generation: &Generation) -> Vec<u8> {
        lp(&[self.purpose.label.as_bytes(), self.service.as_str().as_bytes(), &generation.kid])
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKeys({})", self.purpose.label)
    }
}

/// Reads `LP` fields, one after the other.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (field, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.next()?.try_into().ok()
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.next()?).ok()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
