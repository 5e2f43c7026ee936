//! HTTP Message Signatures (RFC 9421) and Digest Fields (RFC 9530), without I/O, clock or random source.
//!
//! This crate is the general part: it makes the signature base of a message, signs and verifies it with any key, and
//! reads and writes the fields. What has to be covered, by which key, and how old a signature may be is not decided here
//! but by whoever calls: a signature that is right says something about what it covers and about nothing else.
//!
//! | module | section of RFC 9421 | holds |
//! |---|---|---|
//! | `component` | 2 | identifiers and their parameters |
//! | `message`, `derive`, `fields` | 2.1, 2.2 | messages; values of derived components and of fields |
//! | `input`, `base` | 2.3, 2.5 | what a signature covers; the bytes that are signed |
//! | `key`, `sign`, `verify` | 3, 4 | keys; the fields `Signature-Input` and `Signature` |
//! | `accept` | 5 | `Accept-Signature` |
//! | [`digest`] | RFC 9530 | `Content-Digest`, `Repr-Digest`, `Want-…` |
//!
//! Field values are taken as `http` keeps them: without line folding. A value outside of ASCII cannot be covered but with
//! `bs`. Components that the message does not have, that are covered twice or that have a parameter which is not known
//! are errors, never left out.

mod accept;
mod base;
mod component;
mod derive;
pub mod digest;
mod error;
mod fields;
mod input;
mod key;
mod message;
mod sign;
mod verify;

pub use accept::{ACCEPT_SIGNATURE, Requested, requested, requested_under};
pub use base::{component_value, signature_base};
pub use component::{Component, Name, Parameter};
pub use error::{BaseError, DigestError, FormError, SignError, VerifyError};
pub use fields::{FieldType, FieldTypes};
pub use input::{MAX_COMPONENTS, SignatureInput};
pub use key::{HmacSha256, SigningKey, VerifyingKey};
pub use message::{Message, Request, Response, Target};
pub use sign::{Instructions, SIGNATURE, SIGNATURE_INPUT, sign};
pub use verify::{Claimed, Verified, signature, signatures, verify};
