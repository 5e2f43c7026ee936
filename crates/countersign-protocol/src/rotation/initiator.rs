use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Answer, Names, NextPair, Propose, Rights, transcript};
use crate::cs1::{Ephemeral, ZeroShare};

/// A rotation that its initiator has begun (PROPOSED). Zeroised when dropped; its `Debug` does not show the private key.
#[derive(Clone)]
pub struct Proposal {
    /// The API keys of the old credential.
    pub names: Names,
    /// The rotation's number.
    pub rid: u64,
    /// ni.
    pub nonce: [u8; 32],
    /// What ei is the public key of.
    pub private: Zeroizing<[u8; 32]>,
}

/// The keys that a right R2 leads to. Only [`Proposal::receive`] makes it.
#[derive(Debug)]
pub struct Agreed(NextPair);

/// An R2 that leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAgreed {
    /// It answers another rotation.
    #[error("it answers another rotation")]
    OtherRotation,
    /// Its ephemeral key is one of small order (RO-5).
    #[error("its ephemeral key is one of small order")]
    ZeroShare,
    /// Its proof is wrong: it was not made by who has the old secret, or not for this proposal.
    #[error("its proof is wrong")]
    Proof,
}

impl From<ZeroShare> for NotAgreed {
    fn from(ZeroShare: ZeroShare) -> Self {
        Self::ZeroShare
    }
}

impl Proposal {
    /// A new one; `rid` is greater than all before (RO-1), nonce and private key are random (RO-5).
    #[must_use]
    pub const fn new(names: Names, rid: u64, nonce: [u8; 32], private: Zeroizing<[u8; 32]>) -> Self {
        Self { names, rid, nonce, private }
    }

    /// R1.
    #[must_use]
    pub fn message(&self) -> Propose {
        Propose {
            names: self.names.clone(),
            rid: self.rid,
            nonce: self.nonce,
            share: Ephemeral::new(&self.private).share(),
        }
    }

    /// Checks R2. The private key is gone then, right or wrong, so a copy is kept as long as a right one may come.
    ///
    /// # Errors
    /// [`NotAgreed`]. The proposal can go on: its stored form is still there.
    pub fn receive(self, old: &Rights, answer: &Answer) -> Result<Agreed, NotAgreed> {
        if answer.rid != self.rid {
            return Err(NotAgreed::OtherRotation);
        }
        let said = transcript(&self.message(), &answer.nonce, &answer.share);
        let shared = Ephemeral::new(&self.private).agree(&answer.share)?;
        let next = NextPair::derive(old, &self.names, &shared, &said);
        if next.rights().answer(&said).ct_eq(&answer.proof).into() {
            Ok(Agreed(next))
        } else {
            Err(NotAgreed::Proof)
        }
    }
}

impl Agreed {
    /// The new keys, to be stored before R3 is sent.
    #[must_use]
    pub fn into_pair(self) -> NextPair {
        self.0
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proposal").field("rid", &self.rid).finish_non_exhaustive()
    }
}
