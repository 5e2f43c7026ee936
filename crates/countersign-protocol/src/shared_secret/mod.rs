//! Profile `shared-secret` (guide 1): one challenge, signed with a secret that never travels.
//!
//! ```text
//! signature = hex(HMAC-SHA256(key = secret text, msg = apiKey ‖ challenge))
//! ```
//! It is always the secret and the API key **of the service that proves itself**, in either role. The caller
//! proves itself first; the server answers a caller's own challenge only in the response to a request whose
//! signature verified ([`server::Verified::prove`]), so that it cannot be used to sign strangers' challenges.
//!
//! See `specs/guide-profiles.md`.

pub mod challenge;
pub mod client;
pub mod server;

pub use challenge::{Challenge, Issuer, Lifetime};

use crate::identity::ApiKey;
use crate::mac::{MacKey, Tag};

/// The signature that proves the owner of `api_key` and `secret`.
#[must_use]
pub fn sign(secret: &MacKey, api_key: &ApiKey, challenge: &Challenge) -> Tag {
    secret.mac(&[api_key.expose().as_bytes(), challenge.as_str().as_bytes()])
}
