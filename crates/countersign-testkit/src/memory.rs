//! What a server has to remember between two requests. One thread, so everything is atomic.

use std::collections::BTreeMap;

use countersign_protocol::UnixTime;
use countersign_protocol::api_key::{Challenge, MAX_OUTSTANDING};
use countersign_protocol::refusal::Refusal;
use countersign_protocol::shared_secret::server::ClaimId;

/// Guide 1: the challenges that were answered rightly. Each is taken once.
#[derive(Debug, Default)]
pub struct Burned(BTreeMap<u128, UnixTime>);

impl Burned {
    /// Burns a challenge. What has expired is forgotten first, so that a claim that expires too early shows up
    /// as a replay that passes.
    ///
    /// # Errors
    /// [`Refusal::ChallengeUsed`] the second time.
    pub fn claim(&mut self, claim: ClaimId, now: UnixTime) -> Result<(), Refusal> {
        self.0.retain(|_, expires| *expires > now);
        match self.0.insert(claim.id, claim.expires) {
            None => Ok(()),
            Some(_) => Err(Refusal::ChallengeUsed),
        }
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Guide 2: the challenges of one key that were given out and not answered yet.
#[derive(Debug, Default)]
pub struct Outstanding(Vec<(Challenge, UnixTime)>);

impl Outstanding {
    /// For how many seconds one can be answered.
    pub const LIFETIME: u64 = 30;

    /// Notes a challenge that is given out now.
    ///
    /// # Errors
    /// [`Refusal::TooManyChallenges`] while [`MAX_OUTSTANDING`] are live.
    pub fn add(&mut self, challenge: Challenge, now: UnixTime) -> Result<(), Refusal> {
        self.0.retain(|(_, issued)| is_live(*issued, now));
        match self.0.first() {
            Some((_, oldest)) if self.0.len() >= MAX_OUTSTANDING => {
                Err(Refusal::TooManyChallenges { retry_after: oldest.plus(Self::LIFETIME + 1).since(now) })
            }
            _ => {
                self.0.push((challenge, now));
                Ok(())
            }
        }
    }

    /// What can be answered at `now`.
    #[must_use]
    pub fn live(&self, now: UnixTime) -> Vec<Challenge> {
        let live = self.0.iter().filter(|(_, issued)| is_live(*issued, now));
        live.map(|(challenge, _)| challenge.clone()).collect()
    }

    /// Takes one away.
    ///
    /// # Errors
    /// [`Refusal::ChallengeUsed`] if it is not there any more.
    pub fn take(&mut self, challenge: &Challenge) -> Result<(), Refusal> {
        match self.0.iter().position(|(other, _)| other == challenge) {
            Some(index) => {
                self.0.remove(index);
                Ok(())
            }
            None => Err(Refusal::ChallengeUsed),
        }
    }
}

fn is_live(issued: UnixTime, now: UnixTime) -> bool {
    now.since(issued) <= Outstanding::LIFETIME
}
