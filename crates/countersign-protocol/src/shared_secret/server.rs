//! The server's side of guide 1: verify a signed challenge, burn it, and only then prove ourselves.

use super::{Challenge, Issuer, challenge::Standing, sign};
use crate::UnixTime;
use crate::candidates::find;
pub use crate::candidates::{Candidate, Effort, Holders};
use crate::identity::ApiKey;
use crate::mac::{MacKey, Tag};
use crate::refusal::Refusal;

/// One answered challenge, as it came in.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The presented key.
    pub api_key: &'a ApiKey,
    /// The challenge that the caller says it signed.
    pub challenge: &'a Challenge,
    /// The signature.
    pub signature: &'a Tag,
}

/// The signature is right; whether the challenge was used before is still to be asked.
#[derive(Debug)]
#[must_use = "claim the challenge, or it can be used again"]
pub struct Unclaimed<'a, C> {
    holder: &'a C,
    claim: ClaimId,
}

/// Under what a challenge is burned, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimId {
    /// The challenge's 16 bytes. We made them, so nobody can choose them to collide.
    pub id: u128,
    /// From here on the challenge is too old to be accepted, and the claim can be forgotten.
    pub expires: UnixTime,
}

/// Proof that a caller signed a challenge of ours, in time and for the first time. Made only by
/// [`Unclaimed::claim`].
#[derive(Debug)]
pub struct Verified<'a, C> {
    holder: &'a C,
}

/// Verifies an attempt. The number of MACs is one for the challenge and at least `effort.macs` for the
/// signature, whoever the key belongs to and whatever fails; there is no early exit.
///
/// # Errors
/// [`Refusal::ChallengeExpired`], [`Refusal::ChallengeForeign`], [`Refusal::WrongSignature`], or the refusal in
/// [`Holders::Nobody`].
pub fn verify<'a, C: Candidate>(
    issuer: &Issuer,
    attempt: Attempt<'_>,
    holders: Holders<'a, C>,
    effort: Effort<'_>,
    now: UnixTime,
) -> Result<Unclaimed<'a, C>, Refusal> {
    let standing = issuer.check(attempt.api_key, attempt.challenge, now);
    let found = find(holders, effort, attempt.signature, |key| sign(key, attempt.api_key, attempt.challenge));
    let issued = match standing {
        Standing::Live(issued) => issued,
        Standing::Expired => return Err(Refusal::ChallengeExpired),
        Standing::Foreign => return Err(Refusal::ChallengeForeign),
    };
    let holder = found?;
    let claim = ClaimId {
        id: u128::from_be_bytes(*attempt.challenge.as_bytes()),
        expires: issued.plus(issuer.lifetime().as_secs() + 1),
    };
    Ok(Unclaimed { holder, claim })
}

impl<'a, C> Unclaimed<'a, C> {
    /// Burns the challenge. `claim` must be atomic: of many callers with one id exactly one gets `Ok`.
    ///
    /// # Errors
    /// What `claim` says: [`Refusal::ChallengeUsed`] or that the replay log cannot take it.
    pub fn claim(
        self,
        claim: impl FnOnce(ClaimId) -> Result<(), Refusal>,
    ) -> Result<Verified<'a, C>, (Refusal, &'a C)> {
        match claim(self.claim) {
            Ok(()) => Ok(Verified { holder: self.holder }),
            Err(refusal) => Err((refusal, self.holder)),
        }
    }
}

impl<'a, C> Verified<'a, C> {
    /// Who proved itself.
    #[must_use]
    pub const fn holder(&self) -> &'a C {
        self.holder
    }

    /// The roles reversed: our proof for the caller's own challenge. It takes a verified caller to get one.
    #[must_use]
    pub fn prove(&self, our_key: &ApiKey, our_secret: &MacKey, client_challenge: &Challenge) -> Tag {
        sign(our_secret, our_key, client_challenge)
    }
}
