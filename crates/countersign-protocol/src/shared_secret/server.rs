//! The server's side of guide 1: verify a signed challenge, burn it, and only then prove ourselves.

use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use super::{Challenge, Issuer, challenge::Standing, sign};
use crate::UnixTime;
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

/// Something that holds the secret a caller proves itself with.
pub trait Candidate {
    /// The HMAC key of the **caller's** secret.
    fn mac_key(&self) -> &MacKey;
}

impl<T: Candidate> Candidate for std::sync::Arc<T> {
    fn mac_key(&self) -> &MacKey {
        T::mac_key(self)
    }
}

/// Whom the presented key may belong to.
#[derive(Debug)]
pub enum Holders<'a, C> {
    /// The live credentials of this key; during a rotation there can be several.
    Live(&'a [C]),
    /// Nobody that may authenticate so, and why (for the trail). Costs the same MACs.
    Nobody(Refusal),
}

/// What every attempt costs, so that time tells nothing about a key.
#[derive(Clone, Copy, Debug)]
pub struct Effort<'a> {
    /// How many signature MACs are computed at least: the greatest number of live credentials that share a key.
    pub macs: usize,
    /// A random key that stands in where there are fewer.
    pub decoy: &'a MacKey,
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
    let (live, nobody) = match holders {
        Holders::Live(live) => (live, Refusal::UnknownKey),
        Holders::Nobody(why) => (&[][..], why),
    };
    const NONE: u32 = u32::MAX;
    let mut found = NONE;
    for index in 0..effort.macs.max(live.len()) {
        let key = live.get(index).map_or(effort.decoy, Candidate::mac_key);
        let matches = sign(key, attempt.api_key, attempt.challenge).ct_eq(attempt.signature);
        found.conditional_assign(&u32::try_from(index).unwrap_or(NONE), matches);
    }
    let issued = match standing {
        Standing::Live(issued) => issued,
        Standing::Expired => return Err(Refusal::ChallengeExpired),
        Standing::Foreign => return Err(Refusal::ChallengeForeign),
    };
    if live.is_empty() {
        return Err(nobody);
    }
    let holder =
        usize::try_from(found).ok().and_then(|index| live.get(index)).ok_or(Refusal::WrongSignature)?;
    let claim = ClaimId {
        id: u128::from_be_bytes(*attempt.challenge.as_bytes()),
        expires: issued.plus(issuer.lifetime().as_secs() + 1),
    };
    Ok(Unclaimed { holder, claim })
}

impl<C> Clone for Holders<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Holders<'_, C> {}

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
