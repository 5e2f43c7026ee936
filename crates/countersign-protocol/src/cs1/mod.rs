//! Countersign protocol 1, the profile `cs1`: both sides prove that they hold the secret, and agree on keys that the
//! secret alone does not give away later. `specs/cs1.md` is the text; section numbers here are its own.
//!
//! ```text
//! M1 client → server   nonce, ephemeral key               client::start            → AwaitChallenge
//! M2 server → client   challenge (nothing is stored)      Issuer::issue
//! M3 client → server   the same, challenge, proof CP      AwaitChallenge::receive  → AwaitProof
//! M4 server → client   ephemeral key, ticket, proof SP    server::verify → Unclaimed → Verified::accept
//!                                                         AwaitProof::receive      → Established
//! ```
//! The client proves itself first: [`server::Verified`], which has no public constructor, is what it takes to make SP.
//!
//! | module | section | holds |
//! |---|---|---|
//! | `keys` | 2 | the keys of one direction of a pair, and of a session |
//! | `transcript` | 3 | what both sides have said, as it goes into MACs |
//! | `challenge` | 3 | the stateless challenge |
//! | `ephemeral` | 3 | X25519 |
//! | [`client`], [`server`] | 3.1, 3.2 | the states of both roles |
//! | [`ticket`] | 4 | what the server keeps of a session, sealed, with the client |
//! | [`request`], [`response`] | 5, 7 | signing and verifying messages |
//! | `fields`, `lines` | 5, 7 | what has to be covered; the fields of a message and their values under a signature |
//! | `scan`, `input`, `base64_32` | 5, 7 | reading the signature fields without allocating, and writing them |
//! | `coverage` | 5, 7 | which fields were signed, to be kept beside the message |
//! | [`content`], [`stream`] | 5, 8 | what the content has to be, held or not |
//! | `name`, `policy` | 5, 9 | which key a signature names; whether a request is in time |
//! | [`nonce`], [`accept`] | 9, 10 | nonces that the server gives |
//! | [`explain`] | 5 | signature bases, to be looked at |

pub mod accept;
mod base64_32;
mod challenge;
pub mod client;
pub mod content;
mod coverage;
mod ephemeral;
pub mod explain;
mod fields;
mod input;
mod keys;
mod lines;
mod name;
pub mod nonce;
mod policy;
pub mod request;
pub mod response;
mod scan;
pub mod server;
pub mod stream;
pub mod ticket;
mod transcript;

pub use challenge::{Challenge, Issuer, NotAChallenge};
pub use coverage::{Coverage, Kept};
pub use ephemeral::{Ephemeral, ZeroShare};
pub(crate) use keys::direction;
pub use keys::{PairKeys, SessionKeys};
pub use name::KeyName;
pub use policy::{DIRECT_WINDOW, Policy};
pub use transcript::{Binding, Exporter, Hello};

/// The longest life of a ticket, in seconds (CS-19).
pub const MAX_TICKET_LIFETIME: u32 = 600;
