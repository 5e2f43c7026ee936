//! The server's side of guide 2.

use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use super::Challenge;
use crate::identity::ApiKey;
use crate::mac::{MacKey, Tag};
use crate::refusal::Refusal;

/// One signed challenge, as it came in: it does not say which challenge was signed.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The presented key, which is the HMAC key too.
    pub api_key: &'a ApiKey,
    /// The signature.
    pub signature: &'a Tag,
    /// The challenge, if the caller repeats it (not in the guide; accepted). It must then be the one signed.
    pub echo: Option<&'a str>,
}

/// The signature is right for this outstanding challenge; whether another request was faster is still to be asked.
#[derive(Debug)]
#[must_use = "take the challenge away, or it can be used again"]
pub struct Unclaimed<'a> {
    challenge: &'a Challenge,
}

/// Proof that a caller signed an outstanding challenge, and that it was taken away for this attempt. Made only
/// by [`Unclaimed::claim`].
#[derive(Debug)]
pub struct Verified(());

/// Compares the signature with the one of each outstanding challenge, without early exit. At least one MAC is
/// computed, also for an unknown key, for which nothing is outstanding.
///
/// # Errors
/// [`Refusal::WrongSignature`] if none matches.
pub fn verify<'a>(attempt: Attempt<'_>, outstanding: &'a [Challenge]) -> Result<Unclaimed<'a>, Refusal> {
    let key = MacKey::new(attempt.api_key.expose().as_bytes());
    const NONE: u32 = u32::MAX;
    let mut found = NONE;
    if outstanding.is_empty() {
        // A decoy's worth of work; its result is not used.
        let _ = std::hint::black_box(key.mac(&[b"0000000000.0000000000"]).ct_eq(attempt.signature));
    }
    for (index, challenge) in outstanding.iter().enumerate() {
        let matches = key.mac(&[challenge.as_str().as_bytes()]).ct_eq(attempt.signature);
        found.conditional_assign(&u32::try_from(index).unwrap_or(NONE), matches);
    }
    let challenge = usize::try_from(found).ok().and_then(|index| outstanding.get(index));
    match challenge {
        Some(challenge) if attempt.echo.is_none_or(|echo| echo == challenge.as_str()) => {
            Ok(Unclaimed { challenge })
        }
        _ => Err(Refusal::WrongSignature),
    }
}

impl Unclaimed<'_> {
    /// The challenge that was signed.
    #[must_use]
    pub const fn challenge(&self) -> &Challenge {
        self.challenge
    }

    /// Takes the challenge away. `claim` must be atomic: of many callers with one challenge exactly one gets `Ok`.
    ///
    /// # Errors
    /// What `claim` says, normally [`Refusal::ChallengeUsed`].
    pub fn claim(self, claim: impl FnOnce(&Challenge) -> Result<(), Refusal>) -> Result<Verified, Refusal> {
        claim(self.challenge)?;
        Ok(Verified(()))
    }
}
