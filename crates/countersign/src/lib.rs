//! Two independent services prove to each other who they are before they exchange data.
//!
//! - [`server`]: a tower layer that lets only authenticated requests through, an axum extractor that tells the
//!   handler who called, and the two endpoints of the handshake.
//! - [`client`]: makes the handshake by itself, checks the server's proof, and under `cs1` signs what it sends and verifies what
//!   it gets.
//! - [`rotation`]: the next credential of a peer under `cs1`, agreed on in band, on schedule.
//!
//! Keys come from a [`PeerStore`]: [`MemoryStore`], or [`sqlite`](store::sqlite) that the `countersign` command
//! fills.
//!
//! # Profiles
//! | profile | what proves | what travels |
//! |---|---|---|
//! | `cs1` | HMAC over a challenge, both ways; then a signature on every request and response | API keys (public), challenges, proofs, ephemeral keys |
//! | `shared-secret` | HMAC over a challenge, both ways | API keys (public), challenges, signatures |
//! | `api-key` | HMAC over a challenge, caller only | **the key itself**: TLS alone protects it |
//!
//! A peer has one profile, pinned on both sides; nothing is negotiated. `SECURITY.md` says what each gives and
//! does not give.

#[cfg(feature = "client")]
pub mod client;
pub mod rotation;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "sqlite")]
mod trail;

/// The field of a response (`?1`) with which a server that stops asks callers over HTTP/2 to make their next request on another
/// connection, as `Connection: close` does over HTTP/1.1. What was sent when GOAWAY came may or may not have been taken; this comes
/// before it. It says nothing about the response, and nobody signs it: who makes it up costs the caller a connection.
pub const LEAVING: http::HeaderName = http::HeaderName::from_static("countersign-leaving");

pub use countersign_audit as audit;
pub use countersign_protocol as protocol;
pub use countersign_store as store;

pub use countersign_protocol::identity::{ApiKey, CredentialId, Profile, ServiceName};
pub use countersign_protocol::secret::SharedSecret;
pub use countersign_store::{MemoryStore, NewKeys, NewPeer, PeerStore, Trust};
#[cfg(feature = "sqlite")]
pub use trail::{StoreHeads, open_trail};
