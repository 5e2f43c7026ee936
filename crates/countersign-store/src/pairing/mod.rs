//! Offers of a pairing (`specs/pairing.md`, section 7): what `pair offer`, which shows the words, and the server, which
//! answers the other side, know of each other.
//!
//! One writer at a time wins: [`PairingStore::replace`] compares and sets. A code is claimed by the step from
//! [`Stage::Open`] to [`Stage::Claimed`], and whoever comes second finds nothing to claim.

#[cfg(any(feature = "sqlite", feature = "contract", test))]
mod form;

use std::fmt;

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::Binding;
use countersign_protocol::identity::{ApiKey, ServiceName};
use countersign_protocol::pairing::{CONFIRM_WITHIN, MAX_CODES, OfferId, Password, Pin, REPEAT_WITHIN};
use countersign_protocol::secret::SharedSecret;
use zeroize::Zeroizing;

use crate::{Cs1Options, KeysError, NewKeys, NewPeer, StoreError, Trust};

/// How many offers can be open at one time (PA-8).
pub const MAX_OFFERS: usize = 8;

/// An offer.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its public id.
    pub id: OfferId,
    /// Counts its changes; [`PairingStore::replace`] adds one.
    pub revision: u64,
    /// From here on nothing can be claimed.
    pub expires: UnixTime,
    /// What the offering operator has chosen.
    pub choices: Choices,
    /// How many codes were read out, the present one included.
    pub codes: u8,
    /// Where it stands.
    pub stage: Stage,
}

/// What the offering operator has chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices {
    /// The accepter's name here; `None` for the one that it states.
    pub name: Option<ServiceName>,
    /// What sessions are to be bound to.
    pub binding: Binding,
    /// The TLS keys under which this service is reached.
    pub pins: Vec<Pin>,
    /// Whether the accepter's certificate is judged by the system's authorities and not by its pin.
    pub system_trust: bool,
}

/// Where an offer stands.
#[derive(Clone)]
pub enum Stage {
    /// A code can be claimed.
    Open {
        /// Its secret words.
        password: Password,
    },
    /// A code is claimed, and burned with that.
    Claimed {
        /// The protocol's state, as bytes.
        state: Zeroizing<Vec<u8>>,
        /// Until when the other side may confirm.
        until: UnixTime,
    },
    /// The exchange came to nothing. The operator may read out the next code.
    Failed {
        /// Why, as the trail has it.
        why: String,
    },
    /// The other side has confirmed; the peer is about to be added.
    Confirmed {
        /// Of the message that did it (SHA-256).
        message: [u8; 32],
        /// What it is answered.
        answer: Vec<u8>,
        /// The peer.
        peer: Box<Agreed>,
    },
    /// The peer is there.
    Paired {
        /// Of the message that did it (SHA-256).
        message: [u8; 32],
        /// What it is answered.
        answer: Vec<u8>,
        /// The peer's name here.
        name: ServiceName,
        /// When.
        at: UnixTime,
    },
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open { .. } => "Open(…)",
            Self::Claimed { .. } => "Claimed(…)",
            Self::Failed { .. } => "Failed(…)",
            Self::Confirmed { .. } => "Confirmed(…)",
            Self::Paired { .. } => "Paired(…)",
        })
    }
}

/// The peer that a pairing has agreed on, under `cs1`.
#[derive(Clone)]
pub struct Agreed {
    /// Its name here.
    pub name: ServiceName,
    /// Where it serves, if it does.
    pub url: Option<String>,
    /// The pin of its TLS key; `None`: the system's authorities.
    pub pin: Option<Pin>,
    /// What sessions are bound to.
    pub binding: Binding,
    /// What we present.
    pub our_key: ApiKey,
    /// What it presents.
    pub their_key: ApiKey,
    /// The secret of the pair.
    pub secret: SharedSecret,
}

impl fmt::Debug for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agreed").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Agreed {
    /// The peer to be added.
    ///
    /// # Errors
    /// [`KeysError`]: with a probability that is none.
    pub fn peer(&self) -> Result<NewPeer, KeysError> {
        Ok(NewPeer {
            name: self.name.clone(),
            url: self.url.clone(),
            trust: self.pin.map_or(Trust::System, Trust::Pin),
            danger_unproven_server: false,
            cs1: Cs1Options { binding: self.binding, danger_direct: false },
            keys: NewKeys::cs1(self.our_key.clone(), self.their_key.clone(), self.secret.clone())?,
        })
    }
}

/// Why there is no next code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoCode {
    /// All of them are burned (PA-9).
    #[error("all {MAX_CODES} codes of this offer are used")]
    Exhausted,
    /// Its time is over (PA-8).
    #[error("the offer's time is over")]
    Expired,
    /// The present code is not burned, or is being used, or the offer has succeeded.
    #[error("the present code is not burned")]
    InUse,
}

impl Offer {
    /// A new one, with its first code.
    #[must_use]
    pub fn new(id: OfferId, password: Password, choices: Choices, expires: UnixTime) -> Self {
        Self { id, revision: 0, expires, choices, codes: 1, stage: Stage::Open { password } }
    }

    /// The words that can be claimed now (PA-16).
    #[must_use]
    pub fn claimable(&self, now: UnixTime) -> Option<&Password> {
        match &self.stage {
            Stage::Open { password } if now < self.expires => Some(password),
            _ => None,
        }
    }

    /// Whether the code that was read out last is burned without success.
    #[must_use]
    pub fn is_burned(&self, now: UnixTime) -> bool {
        match &self.stage {
            Stage::Failed { .. } => true,
            Stage::Claimed { until, .. } => *until < now,
            _ => false,
        }
    }

    /// Puts an end to it, unless the other side has confirmed: nothing can be claimed or confirmed any more. `false` if it has.
    pub fn end(&mut self) -> bool {
        if matches!(self.stage, Stage::Confirmed { .. } | Stage::Paired { .. }) {
            return false;
        }
        self.codes = MAX_CODES;
        self.stage = Stage::Failed { why: "withdrawn".to_owned() };
        true
    }

    /// Puts the next code in the place of a burned one (PA-9).
    ///
    /// # Errors
    /// See [`NoCode`].
    pub fn next_code(&mut self, password: Password, now: UnixTime) -> Result<(), NoCode> {
        if !self.is_burned(now) {
            return Err(NoCode::InUse);
        }
        if self.codes >= MAX_CODES {
            return Err(NoCode::Exhausted);
        }
        if now >= self.expires {
            return Err(NoCode::Expired);
        }
        self.codes += 1;
        self.stage = Stage::Open { password };
        Ok(())
    }

    /// Whether nothing can come of it any more.
    #[must_use]
    pub fn is_over(&self, now: UnixTime) -> bool {
        match &self.stage {
            Stage::Open { .. } | Stage::Failed { .. } => now >= self.expires,
            Stage::Claimed { until, .. } => now >= self.expires && *until < now,
            // Nobody repeats the confirmation any more, and its answer was never told.
            Stage::Confirmed { .. } => self.expires.plus(CONFIRM_WITHIN + REPEAT_WITHIN) <= now,
            Stage::Paired { at, .. } => at.plus(REPEAT_WITHIN) < now,
        }
    }
}

/// Where offers are kept, sealed.
///
/// Calls block. Every change is linearizable. What a wrong answer costs: a code that is claimed twice gives a guesser two
/// guesses for one.
pub trait PairingStore: Send + Sync {
    /// Keeps a new offer; `false` if its id is in use. Those that are over go.
    ///
    /// # Errors
    /// [`StoreError::TooManyOffers`], or the store fails.
    fn open(&self, offer: &Offer, now: UnixTime) -> Result<bool, StoreError>;

    /// An offer; `None` also for one that was changed outside of Countersign.
    ///
    /// # Errors
    /// The store fails.
    fn offer(&self, id: OfferId) -> Result<Option<Offer>, StoreError>;

    /// Puts `next` in the place of the offer of its id and revision, with the next revision; `false` if there is none
    /// such (any more).
    ///
    /// # Errors
    /// The store fails, and nothing has changed; after [`StoreError::Unsure`] it may have.
    fn replace(&self, next: &Offer) -> Result<bool, StoreError>;

    /// Removes it. It is no error if it is gone.
    ///
    /// # Errors
    /// The store fails.
    fn withdraw(&self, id: OfferId) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use countersign_protocol::pairing::OFFER_LIFETIME;
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixTime = UnixTime(1_700_000_000);

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Claim,
        Wrong,
        Right,
        Next,
        Wait(u64),
        End,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Claim),
            2 => Just(Step::Wrong),
            1 => Just(Step::Right),
            3 => Just(Step::Next),
            2 => (0..400_u64).prop_map(Step::Wait),
            1 => Just(Step::End),
        ];
        prop::collection::vec(step, 0..40)
    }

    fn password(number: u64) -> Password {
        Password::from_stored(number)
    }

    proptest! {
        // PA-8, PA-9, PA-16, PA-20
        #[test]
        fn whatever_happens_each_code_is_tried_once_three_are_tried_in_all_and_none_too_late(steps in steps()) {
            let choices =
                Choices { name: None, binding: Binding::None, pins: Vec::new(), system_trust: false };
            let expires = NOW.plus(OFFER_LIFETIME);
            let mut offer = Offer::new(OfferId::from_stored(1), password(1), choices, expires);
            let (mut now, mut given, mut tried, mut ended) = (NOW, 1, Vec::new(), false);
            for step in steps {
                match step {
                    Step::Claim => {
                        let Some(words) = offer.claimable(now).map(Password::number) else { continue };
                        prop_assert!(now < expires && !ended);
                        prop_assert!(!tried.contains(&words), "no code twice");
                        tried.push(words);
                        let state = Zeroizing::new(vec![1]);
                        offer.stage = Stage::Claimed { state, until: now.plus(CONFIRM_WITHIN) };
                        prop_assert!(offer.claimable(now).is_none());
                    }
                    Step::Wrong if matches!(offer.stage, Stage::Claimed { .. }) => {
                        offer.stage = Stage::Failed { why: "wrong".to_owned() };
                    }
                    Step::Right if matches!(&offer.stage, Stage::Claimed { until, .. } if *until >= now) => {
                        let name = "billing".parse().unwrap();
                        offer.stage = Stage::Paired { message: [0; 32], answer: Vec::new(), name, at: now };
                        prop_assert!(!offer.is_over(now) && !offer.is_burned(now) && !offer.clone().end());
                    }
                    Step::Next => {
                        let burned = offer.is_burned(now);
                        let next = offer.next_code(password(given + 1), now);
                        prop_assert_eq!(next.is_ok(), burned && given < u64::from(MAX_CODES) && now < expires && !ended);
                        given += u64::from(next.is_ok());
                    }
                    Step::Wait(seconds) => now = now.plus(seconds),
                    Step::End => ended |= offer.end(),
                    Step::Wrong | Step::Right => {}
                }
                prop_assert!(tried.len() <= usize::from(MAX_CODES));
                prop_assert_eq!(Offer::from_bytes(offer.id, &offer.to_bytes()).unwrap().to_bytes(), offer.to_bytes());
            }
            prop_assert!(offer.is_over(now.plus(OFFER_LIFETIME + CONFIRM_WITHIN + REPEAT_WITHIN + 1)));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            prop_assert!(Offer::from_bytes(OfferId::from_stored(1), &bytes).is_none());
        }
    }
}
