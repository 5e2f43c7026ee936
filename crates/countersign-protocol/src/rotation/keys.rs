use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Confirm, Names, Outcome, Ruling};
use crate::cs1::direction;
use crate::hkdf::Prk;
use crate::identity::ApiKey;
use crate::lp;
use crate::mac::{MacKey, Tag};
use crate::secret::SharedSecret;

/// What a rotation leads to: the keys of the next credential.
#[derive(Clone, Debug)]
pub struct NextPair {
    /// The API key of who began: KI′.
    pub initiator: ApiKey,
    /// The API key of who answered: KR′.
    pub responder: ApiKey,
    /// The secret of both.
    pub secret: SharedSecret,
}

impl NextPair {
    /// From `Z` and what was said.
    pub(super) fn derive(
        old: &Rights,
        names: &Names,
        shared: &Zeroizing<[u8; 32]>,
        transcript: &[u8],
    ) -> Self {
        let agreed = Prk::extract(old.salt.as_slice(), shared.as_slice());
        let next = Prk::new(&agreed.expand(&lp(&[b"rot", transcript])));
        let key =
            |owner: &ApiKey| ApiKey::generate(&next.expand::<16>(&lp(&[b"key", owner.expose().as_bytes()])));
        Self {
            initiator: key(&names.initiator),
            responder: key(&names.responder),
            secret: SharedSecret::generate(&next.expand::<32>(&lp(&[b"secret"]))),
        }
    }

    /// What they give the right to say.
    #[must_use]
    pub fn rights(&self) -> Rights {
        Rights::derive(&self.secret, &self.initiator, &self.responder)
    }
}

/// Krot of a credential and a direction (cs1.md, section 2): it makes and checks the proofs of a rotation.
pub struct Rights {
    salt: Zeroizing<[u8; 32]>,
    mac: MacKey,
}

impl Rights {
    /// Derives it; `initiator` and `responder` are the API keys of this credential.
    #[must_use]
    pub fn derive(secret: &SharedSecret, initiator: &ApiKey, responder: &ApiKey) -> Self {
        let salt = direction(secret, initiator, responder).expand::<32>(&lp(&[b"rot"]));
        Self { mac: MacKey::new(salt.as_slice()), salt }
    }

    /// The proof in R2, under the new keys.
    pub(super) fn answer(&self, transcript: &[u8]) -> Tag {
        self.mac.mac(&[&lp(&[b"R2", transcript])])
    }

    fn of_rid(&self, purpose: &[u8], rid: u64) -> Tag {
        self.mac.mac(&[&lp(&[purpose, &rid.to_be_bytes()])])
    }

    /// The proof in R3, under old keys or new ones.
    pub(super) fn confirm(&self, rid: u64) -> Tag {
        self.of_rid(b"R3", rid)
    }

    /// That a rotation is done (said under the new keys) or aborted (said under the old ones).
    #[must_use]
    pub fn ruling(&self, rid: u64, outcome: Outcome) -> Ruling {
        let purpose: &[u8] = match outcome {
            Outcome::Done => b"R4",
            Outcome::Aborted => b"ABORTED",
        };
        Ruling { rid, outcome, proof: self.of_rid(purpose, rid) }
    }

    /// Whether this ruling is made with these keys, in constant time.
    #[must_use]
    pub fn made(&self, ruling: &Ruling) -> bool {
        self.ruling(ruling.rid, ruling.outcome).proof.ct_eq(&ruling.proof).into()
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rights(…)")
    }
}

impl Confirm {
    /// R3.
    #[must_use]
    pub fn new(names: Names, rid: u64, old: &Rights, new: &Rights) -> Self {
        Self { names, rid, old: old.confirm(rid), new: new.confirm(rid) }
    }
}
