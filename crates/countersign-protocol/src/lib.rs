//! The Countersign protocol without I/O.
//!
//! Nothing here opens a socket or a file, reads a clock or asks for random bytes: `now` is a [`UnixTime`] and
//! random bytes are arrays, both passed in by the caller. Every protocol test therefore runs both ends in
//! virtual time, and every result can be repeated from its inputs (see `vectors/`).
//!
//! | module | holds |
//! |---|---|
//! | [`identity`] | service names, API keys, profiles, credential ids |
//! | [`secret`] | shared secrets: parsed, zeroised, redacted |
//! | [`mac`] | HMAC-SHA256 with a prepared key, constant-time comparison, hex |
//! | [`shared_secret`] | guide 1: challenge and signature, both roles |
//! | [`api_key`] | guide 2: the API key is the HMAC key, both roles |
//! | [`cs1`] | Countersign protocol 1: the mutual handshake, both roles, and its tickets |
//! | [`rotation`] | the next credential of a pair, agreed on in band |
//! | [`pairing`] | a fresh pair from a few spoken words, both roles |
//! | [`token`] | the bearer token that both guides end in |
//! | [`wire`] | JSON bodies and header fields, strict inwards, lenient towards strangers |
//! | [`refusal`] | the exact reason why an attempt failed, for the audit trail |
//! | [`problem`] | what the other side is told about it (RFC 9457) |
//! | [`lookup`] | keyed hashes under which API keys are found and named |
//! | [`fingerprint`] | what two people compare by phone |
//! | [`aead`] | AES-256-GCM-SIV (RFC 8452), for tokens and stores |
//!
//! A verification returns a proof value ([`shared_secret::server::Verified`], [`api_key::server::Verified`])
//! whose constructor is private: code that issues a token or proves the server to a client cannot be reached
//! without one.

pub mod aead;
pub mod api_key;
mod candidates;
mod copy;
pub mod cs1;
mod encode;
pub mod fingerprint;
mod hkdf;
pub mod identity;
pub mod lookup;
pub mod mac;
mod malformed;
pub mod pairing;
pub mod problem;
pub mod refusal;
pub mod rotation;
mod sealed;
pub mod secret;
mod sha256;
pub mod shared_secret;
mod time;
pub mod token;
pub mod wire;

pub use encode::{LengthPrefixed, lp};
pub use time::UnixTime;
