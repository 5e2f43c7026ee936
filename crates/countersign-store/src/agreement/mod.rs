//! The next credential agreed on in band (`specs/rotation.md`): at which step a peer and we are. Pure: every store keeps what this
//! decides, together with the credentials that it brings, **before** anything is sent about it.
//!
//! | step | kept | accepts | sends |
//! |---|---|---|---|
//! | proposed | ours: number, nonce, private key | old | old |
//! | pending | theirs, and the new credential | both | old |
//! | ready | ours, and the new credential | both | old |
//! | current (who answered) | theirs | both | new |
//! | current (who began) | nothing more: the new credential is confirmed | both | new |
//! | over | theirs: a tombstone | old | old |
//!
//! `Peer::sending` and `Peer::ends` follow this table; `tests/rotation_model.rs` walks through all of it.

mod initiator;
mod responder;
mod standing;

use std::fmt;

use countersign_protocol::UnixTime;
use countersign_protocol::lookup::{LookupHash, LookupKey};
use countersign_protocol::rotation::{Answer, Confirm, Propose, Ruling};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Peer, StoreError};

pub use standing::{Message, Step};

/// For how long both credentials are accepted at least, in seconds, unless it is set otherwise (RO-14): the longest life of a
/// ticket (600), and what it takes until every process knows.
pub const DEFAULT_GRACE: u64 = 15 * 60;

/// After how many seconds a responder gives up a rotation that nobody confirms (RO-12).
pub const GIVE_UP_AFTER: u64 = 10 * 60;

/// For how many seconds an answered proposal stands before another one of the same peer takes its place: each leaves a credential that was
/// abandoned behind it, and a peer is not to fill our store with them.
pub const SUPERSEDE_AFTER: u64 = 60;

/// What is agreed, or about to be, with one peer. Holds a private key while a proposal of ours is open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// What we have begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ours: Option<Ours>,
    /// What the peer has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    theirs: Option<Theirs>,
    /// The greatest number that we have used towards the peer.
    #[serde(default)]
    last_ours: u64,
    /// The greatest number that the peer has used.
    #[serde(default)]
    last_theirs: u64,
    /// Since when we want a rotation that we cannot begin, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wanted: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ours {
    rid: u64,
    /// The old credential.
    old: [u8; 16],
    since: u64,
    at: OurStep,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum OurStep {
    Proposed { nonce: [u8; 32], private: Zeroizing<[u8; 32]> },
    Ready { new: [u8; 16] },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Theirs {
    rid: u64,
    /// The old credential.
    old: [u8; 16],
    since: u64,
    at: TheirStep,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum TheirStep {
    Pending { new: [u8; 16], asked: Said, answer: Answered },
    Current { new: [u8; 16], asked: Said, answer: Answered },
    Over,
}

/// Nonce and ephemeral key of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    nonce: [u8; 32],
    share: [u8; 32],
}

/// R2, to be repeated byte for byte (RO-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Answered {
    said: Said,
    proof: [u8; 32],
}

impl fmt::Debug for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = match self.at {
            OurStep::Proposed { .. } => "proposed",
            OurStep::Ready { .. } => "ready",
        };
        f.debug_struct("Ours").field("rid", &self.rid).field("at", &at).finish_non_exhaustive()
    }
}

/// One move of a rotation. What random bytes it needs comes with it.
#[derive(Clone, Debug)]
pub enum Move {
    /// We begin; if we have begun already, nothing changes. Gives the message that is to be sent.
    Propose {
        /// The nonce.
        nonce: [u8; 32],
        /// The private key.
        private: Zeroizing<[u8; 32]>,
    },
    /// We forget the proposal of this number, if it is still one (RO-9).
    Withdraw {
        /// Its number.
        rid: u64,
        /// The greatest number that the peer says it has seen, if it says so: ours will be greater.
        last: Option<u64>,
    },
    /// The peer's answer to our proposal. Gives the message that is to be sent.
    Receive {
        /// R2.
        answer: Answer,
        /// The grace period, in seconds.
        grace: u64,
    },
    /// What the peer says of our confirmation.
    Conclude(Ruling),
    /// The peer's proposal, whose signature was verified. Gives the answer.
    Answer {
        /// R1.
        propose: Propose,
        /// Under which credential it was signed.
        signer: [u8; 16],
        /// The nonce.
        nonce: [u8; 32],
        /// The private key.
        private: Zeroizing<[u8; 32]>,
        /// The grace period, in seconds.
        grace: u64,
        /// For how many seconds an answer of ours stands before another proposal takes its place ([`SUPERSEDE_AFTER`]).
        supersede_after: u64,
    },
    /// The peer's confirmation. Gives the ruling.
    Confirm(Confirm),
    /// We give up what the peer has not confirmed for so many seconds (RO-12).
    GiveUp {
        /// After how many seconds.
        after: u64,
    },
    /// We want a rotation and cannot begin it.
    Want,
    /// We do not want it any more.
    Unwant,
}

/// What a [`Move`] leads to.
#[derive(Clone, Debug)]
pub enum Moved {
    /// This is to be sent to the peer.
    Send(Message),
    /// The answer to its proposal.
    Answer(Answer),
    /// The ruling on its confirmation.
    Ruling(Ruling),
    /// We are through: the new credential has this number.
    Done(u32),
    /// The peer has given up what we had agreed on; the old credential stays.
    Aborted,
    /// It is as it is.
    Nothing,
}

/// Why a move cannot be made. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// Another profile than `cs1`.
    #[error("only peers with the profile cs1 rotate in band")]
    NotCs1,
    /// All credentials have ended.
    #[error("no credential is left that another one could follow: pair anew")]
    NothingLive,
    /// Two credentials are accepted, or we have begun ourselves (RO-2, RO-3).
    #[error("another rotation is not over yet")]
    Busy,
    /// This number is not to be used any more.
    #[error("a rotation with this number, or a greater one, is over")]
    Over {
        /// The greatest number that was used.
        last: u64,
    },
    /// Not signed with the credential that is to be followed, or that is not the one in use (RO-6).
    #[error("it was not asked for with the credential that it is about")]
    NotTheSigner,
    /// Nothing of this number is open here.
    #[error("no such rotation is open")]
    Unknown,
    /// A proof is wrong.
    #[error("its proof is wrong")]
    Proof,
    /// An ephemeral key of small order (RO-5).
    #[error("its ephemeral key is one of small order")]
    ZeroShare,
    /// All numbers are used up.
    #[error("no number is left for another rotation")]
    NoNumber,
}

/// What changed: the hashes of keys and secrets that are new with this peer, and so must be free.
pub(crate) type Change = (Moved, Vec<LookupHash>);

impl Peer {
    /// Makes a move. If it fails the peer may be changed all the same, and is not to be kept.
    pub(crate) fn agree(
        &mut self,
        wanted: &Move,
        now: UnixTime,
        lookup: &LookupKey,
    ) -> Result<Change, StoreError> {
        if self.profile != countersign_protocol::identity::Profile::Cs1 {
            return Err(MoveError::NotCs1.into());
        }
        self.tidy_agreement();
        let nothing_new = |moved| (moved, Vec::new());
        Ok(match wanted {
            Move::Propose { nonce, private } => nothing_new(self.propose(*nonce, private, now, lookup)?),
            Move::Withdraw { rid, last } => nothing_new(self.withdraw(*rid, *last)),
            Move::Receive { answer, grace } => self.receive(answer, *grace, now, lookup)?,
            Move::Conclude(ruling) => nothing_new(self.conclude(ruling, now, lookup)?),
            Move::Answer { propose, signer, nonce, private, grace, supersede_after } => {
                let times = (*grace, *supersede_after);
                self.answer(propose, signer, (*nonce, private), times, now, lookup)?
            }
            Move::Confirm(confirm) => nothing_new(self.confirm(confirm)?),
            Move::GiveUp { after } => nothing_new(self.give_up(*after, now, lookup)?),
            Move::Want => {
                self.agreement.wanted = Some(now.0);
                nothing_new(Moved::Nothing)
            }
            Move::Unwant => {
                self.agreement.wanted = None;
                nothing_new(Moved::Nothing)
            }
        })
    }

    /// Brings it in line with the credentials that live: an operator may have ended some, or the next rotation has.
    pub(crate) fn tidy_agreement(&mut self) {
        let live: Vec<[u8; 16]> = self.credentials.iter().map(|one| one.uid).collect();
        let lives = |uid: &[u8; 16]| live.contains(uid);
        let agreement = &mut self.agreement;
        let is_ours = |ours: &mut Ours| {
            lives(&ours.old)
                && match &ours.at {
                    OurStep::Ready { new } => lives(new),
                    OurStep::Proposed { .. } => live.len() == 1,
                }
        };
        agreement.ours.take_if(|ours| !is_ours(ours));
        if let Some(theirs) = &mut agreement.theirs
            && let TheirStep::Pending { new, .. } | TheirStep::Current { new, .. } = &theirs.at
            && !lives(new)
        {
            // Who began may be waiting for a word about it (RO-11, RO-12).
            theirs.at = TheirStep::Over;
        }
        // As long as the new one lives it can be confirmed, also when the old one is gone; until the next rotation brings a newer one, which
        // shows that nobody waits for this.
        agreement.theirs.take_if(|theirs| match &theirs.at {
            TheirStep::Pending { new, .. } | TheirStep::Current { new, .. } => live.last() != Some(new),
            TheirStep::Over => !lives(&theirs.old),
        });
    }
}
