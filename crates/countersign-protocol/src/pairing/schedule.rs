//! Transcript hashes and keys (section 4).

use std::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::pake::Secret;
use super::words::OfferId;
use crate::aead::AeadKey;
use crate::hkdf::Prk;
use crate::identity::{ApiKey, ServiceName};
use crate::lp;
use crate::mac::{MacKey, Tag};
use crate::secret::SharedSecret;

/// A hash over all that was said so far.
pub(super) type Hash = [u8; 32];

/// What goes into `CPace` as `CI`.
pub(super) fn channel(offer: OfferId, url: &str) -> Vec<u8> {
    lp(&[b"countersign/1 pairing", offer.to_string().as_bytes(), url.as_bytes()])
}

/// `ADa`.
pub(super) fn accepter_data() -> Vec<u8> {
    lp(&[b"accepter"])
}

/// `ADb`.
pub(super) fn offerer_data(service: &ServiceName) -> Vec<u8> {
    lp(&[b"offerer", service.as_str().as_bytes()])
}

/// H2: P1 and P2.
pub(super) fn shares(
    channel: &[u8],
    service: &ServiceName,
    session: &[u8; 16],
    shares: (&[u8; 32], &[u8; 32]),
) -> Hash {
    let (of_accepter, of_offerer) = shares;
    Sha256::digest(lp(&[channel, service.as_str().as_bytes(), session, of_accepter, of_offerer])).into()
}

/// H3 of H2 and P3, and H4 of H3 and P4.
pub(super) fn next(before: &Hash, sealed: &[u8], confirm: &Tag) -> Hash {
    Sha256::digest(lp(&[before, sealed, confirm.as_bytes()])).into()
}

/// Who made a message.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Accepter,
    Offerer,
}

impl Role {
    const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Accepter => b"accepter",
            Self::Offerer => b"offerer",
        }
    }
}

/// From which all keys of one exchange are expanded. `Debug` shows nothing; zeroised when dropped.
#[derive(Clone)]
pub(super) struct Root(Zeroizing<[u8; 32]>);

impl Root {
    pub(super) fn new(secret: &Secret, shares: &Hash) -> Self {
        Self(Prk::extract(shares, secret.as_bytes()).expand(&lp(&[b"root"])))
    }

    pub(super) fn from_stored(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn key<const N: usize>(&self, purpose: &[u8], role: Role, hash: &Hash) -> Zeroizing<[u8; N]> {
        Prk::new(&self.0).expand(&lp(&[purpose, role.as_bytes(), hash]))
    }

    /// Seals what `role` states. `before` is the hash over what was said before it.
    pub(super) fn seal(&self, role: Role, before: &Hash, nonce: [u8; 12], plaintext: &[u8]) -> Vec<u8> {
        AeadKey::new(&self.key(b"seal", role, before)).seal(nonce, &lp(&[role.as_bytes()]), plaintext)
    }

    /// Opens it again.
    pub(super) fn open(&self, role: Role, before: &Hash, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        AeadKey::new(&self.key(b"seal", role, before)).open(&lp(&[role.as_bytes()]), sealed).ok()
    }

    /// The confirmation of `role`.
    pub(super) fn confirm(&self, role: Role, before: &Hash, sealed: &[u8]) -> Tag {
        let key = self.key::<32>(b"confirm", role, before);
        MacKey::new(key.as_slice()).mac(&[&lp(&[before, sealed])])
    }

    /// The pair, once everything is said.
    pub(super) fn pair(&self, all: &Hash) -> Pair {
        let key = |role| ApiKey::generate(&self.key::<16>(b"key", role, all));
        let secret: Zeroizing<[u8; 32]> = Prk::new(&self.0).expand(&lp(&[b"secret", all]));
        Pair {
            secret: SharedSecret::generate(&secret),
            accepter_key: key(Role::Accepter),
            offerer_key: key(Role::Offerer),
        }
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root(…)")
    }
}

/// What both sides hold in the end: the keys of a `cs1` pair.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The shared secret.
    pub secret: SharedSecret,
    /// What the accepter presents.
    pub accepter_key: ApiKey,
    /// What the offerer presents.
    pub offerer_key: ApiKey,
}
