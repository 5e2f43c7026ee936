//! The caller's side of guide 2, as typed states.

use super::{Challenge, sign};
use crate::identity::ApiKey;
use crate::wire::reply::{self, ReplyError, Session};
use crate::wire::{self, Incoming, Outgoing};

/// Starts the flow.
#[must_use]
pub fn start(api_key: &ApiKey) -> (Outgoing, AwaitChallenge<'_>) {
    (Outgoing::post(wire::AUTHENTICATE, &wire::body::authenticate(api_key)), AwaitChallenge { api_key })
}

/// Waits for the answer to `/authenticate`.
#[derive(Debug)]
pub struct AwaitChallenge<'a> {
    api_key: &'a ApiKey,
}

impl AwaitChallenge<'_> {
    /// Takes the challenge and signs it.
    ///
    /// # Errors
    /// Not a 200, not JSON, no challenge, or something else than a challenge to sign.
    pub fn receive(self, answer: &Incoming<'_>) -> Result<(Outgoing, AwaitVerdict), ReplyError> {
        let challenge: Challenge = reply::challenge(answer)?.parse().map_err(|_| ReplyError::ForeignShape)?;
        let signature = sign(self.api_key, &challenge);
        let request =
            Outgoing::post(wire::VERIFY_CHALLENGE, &wire::body::verify_api_key(self.api_key, &signature));
        Ok((request, AwaitVerdict(())))
    }
}

/// Waits for the answer to `/verify_challenge`.
#[derive(Debug)]
pub struct AwaitVerdict(());

impl AwaitVerdict {
    /// Takes the verdict.
    ///
    /// # Errors
    /// Not a 200, or `"authenticated": false`.
    pub fn receive(self, answer: &Incoming<'_>) -> Result<Session, ReplyError> {
        reply::session(answer)
    }
}
