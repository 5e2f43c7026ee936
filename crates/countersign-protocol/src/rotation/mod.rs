//! The next credential of a pair, agreed on in band: it follows from the old secret and an ephemeral agreement, and nothing of it
//! travels. `specs/rotation.md` is the text.
//!
//! ```text
//! R1 initiator → responder   nonce, ephemeral key             Proposal::message
//! R2 responder → initiator   the same, proof of the new keys  responder::answer → Answered
//! R3 initiator → responder   proofs of old and new            Proposal::receive → Agreed, confirm
//! R4 responder → initiator   "done", or "aborted"             responder::shows_new, shows_old; Rights::ruling, made
//! ```
//! This module makes and checks messages. At which step the two are, what is persisted before what is sent, and what is accepted and sent
//! meanwhile, is decided where the credentials are kept (`countersign_store::agreement`).

mod initiator;
mod keys;
pub mod responder;

pub use initiator::{Agreed, NotAgreed, Proposal};
pub use keys::{NextPair, Rights};

use std::fmt;

use crate::identity::ApiKey;
use crate::lp;
use crate::mac::Tag;

/// The greatest number of a rotation: what JSON's readers take for a whole number everywhere (RFC 8259, section 6).
pub const MAX_RID: u64 = (1 << 53) - 1;

/// The API keys of both sides in the old credential.
#[derive(Clone, PartialEq, Eq)]
pub struct Names {
    /// Of who begins: KI.
    pub initiator: ApiKey,
    /// Of who answers: KR.
    pub responder: ApiKey,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names(…)")
    }
}

/// R1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propose {
    /// Whose credential is to be followed by another.
    pub names: Names,
    /// The rotation's number, 1 to [`MAX_RID`].
    pub rid: u64,
    /// ni.
    pub nonce: [u8; 32],
    /// ei.
    pub share: [u8; 32],
}

/// R2.
#[derive(Clone, Debug)]
pub struct Answer {
    /// As in R1.
    pub rid: u64,
    /// nr.
    pub nonce: [u8; 32],
    /// er.
    pub share: [u8; 32],
    /// That R has the new keys.
    pub proof: Tag,
}

/// R3.
#[derive(Clone, Debug)]
pub struct Confirm {
    /// As in R1.
    pub names: Names,
    /// As in R1.
    pub rid: u64,
    /// That I has the old keys.
    pub old: Tag,
    /// That I has the new keys.
    pub new: Tag,
}

/// R4, or that there is nothing to confirm any more.
#[derive(Clone, Copy, Debug)]
pub struct Ruling {
    /// As in R3.
    pub rid: u64,
    /// What is said of it.
    pub outcome: Outcome,
    /// That R says it: under the new keys if it is done, under the old ones if it is aborted.
    pub proof: Tag,
}

/// How a rotation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both have the new credential.
    Done,
    /// The responder gave up before it was confirmed: the old one stays.
    Aborted,
}

/// TR: what both sides have said.
fn transcript(propose: &Propose, nonce: &[u8; 32], share: &[u8; 32]) -> Vec<u8> {
    lp(&[
        b"countersign/1 rot",
        &propose.rid.to_be_bytes(),
        propose.names.initiator.expose().as_bytes(),
        propose.names.responder.expose().as_bytes(),
        &propose.nonce,
        &propose.share,
        nonce,
        share,
    ])
}
