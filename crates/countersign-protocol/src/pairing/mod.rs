//! Pairing by spoken words: two operators read a few words over the phone, and both services hold a fresh `cs1` pair that
//! never travelled. `specs/pairing.md` is the text; section numbers here are its own.
//!
//! ```text
//! P1 accepter → offerer   offer id, URL, session, share    accepter::start        → AwaitShare
//! P2 offerer → accepter   name, share (code is claimed)    offerer::claim         → Claimed
//! P3 accepter → offerer   confirmation, sealed statement   AwaitShare::receive    → Ready::confirm → AwaitConfirmation
//! P4 offerer → accepter   confirmation, sealed terms       Claimed::verify        → Verified::conclude
//!                                                          AwaitConfirmation::receive → Paired
//! ```
//! The accepter confirms first: P4 can be made only of [`offerer::Verified`], which has no public constructor.
//!
//! | module | section | holds |
//! |---|---|---|
//! | [`words`] | 2 | the list, offer ids, passwords, codes |
//! | `pake` | 3 | CPace, from the crates `pakery-*` |
//! | `schedule` | 4 | transcript hashes and keys |
//! | [`message`], `statement` | 5 | P1 to P4 as JSON; what is sealed in P3 and P4 |
//! | [`accepter`], [`offerer`] | 6, 7 | the states of both roles |
//! | `refusal` | 8 | why it did not come to a pair |

pub mod accepter;
pub mod message;
pub mod offerer;
mod pake;
mod refusal;
mod schedule;
mod statement;
pub mod words;

pub use pake::{BadShare, decoy};
pub use refusal::PairingRefusal;
pub use schedule::Pair;
pub use statement::{Pin, Statement, Terms};
pub use words::{Code, CodeError, OfferId, Password};

/// How long an offer is open, in seconds (PA-8).
pub const OFFER_LIFETIME: u64 = 600;
/// How many codes an offer has (PA-9).
pub const MAX_CODES: u8 = 3;
/// How long P3 may take after P1, in seconds (PA-21).
pub const CONFIRM_WITHIN: u64 = 30;
/// How long the same P3 gets the same P4, in seconds after it was first given (PA-25).
pub const REPEAT_WITHIN: u64 = 120;
