//! The JSON of the `cs1` handshake: strict inwards, lenient in what a server's answer may hold beside.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Incoming;
use super::body::{parse, protocol};
use super::reply::{ReplyError, object};
use crate::cs1::ticket::is_ticket;
use crate::cs1::{Binding, Challenge, Hello, MAX_TICKET_LIFETIME, server};
use crate::mac::Tag;
use crate::refusal::{Malformed, Refusal};

/// What `protocol` says.
pub const PROTOCOL: &str = "cs1";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HelloOut<'a> {
    protocol: &'static str,
    api_key: &'a str,
    peer_key: &'a str,
    nonce: String,
    ephemeral: String,
    binding: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_challenge: Option<String>,
}

impl<'a> HelloOut<'a> {
    fn new(hello: &'a Hello, challenge: Option<&'a Challenge>, proof: Option<&Tag>) -> Self {
        Self {
            protocol: PROTOCOL,
            api_key: hello.client.expose(),
            peer_key: hello.server.expose(),
            nonce: URL_SAFE_NO_PAD.encode(hello.nonce),
            ephemeral: URL_SAFE_NO_PAD.encode(hello.share),
            binding: hello.binding.as_str(),
            challenge: challenge.map(Challenge::as_str),
            signed_challenge: proof.map(|proof| URL_SAFE_NO_PAD.encode(proof.as_bytes())),
        }
    }
}

/// M1.
pub(crate) fn hello(hello: &Hello) -> impl Serialize + '_ {
    HelloOut::new(hello, None, None)
}

/// M3.
pub(crate) fn proof<'a>(hello: &'a Hello, challenge: &'a Challenge, proof: &Tag) -> impl Serialize + use<'a> {
    HelloOut::new(hello, Some(challenge), Some(proof))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HelloIn {
    protocol: String,
    api_key: String,
    peer_key: String,
    nonce: String,
    ephemeral: String,
    binding: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProofIn {
    protocol: String,
    api_key: String,
    peer_key: String,
    nonce: String,
    ephemeral: String,
    binding: String,
    challenge: String,
    signed_challenge: String,
}

impl HelloIn {
    fn check(self) -> Result<Hello, Refusal> {
        if self.protocol != PROTOCOL {
            return Err(Refusal::UnsupportedProtocol);
        }
        Ok(Hello {
            client: self.api_key.parse().map_err(|_| Malformed::Member("apiKey"))?,
            server: self.peer_key.parse().map_err(|_| Malformed::Member("peerKey"))?,
            nonce: bytes(&self.nonce).ok_or(Malformed::Member("nonce"))?,
            share: bytes(&self.ephemeral).ok_or(Malformed::Member("ephemeral"))?,
            binding: Binding::parse(&self.binding).ok_or(Malformed::Member("binding"))?,
        })
    }
}

/// Reads M1.
///
/// # Errors
/// [`Refusal::Malformed`] or [`Refusal::UnsupportedProtocol`].
pub fn read_hello(body: &[u8]) -> Result<Hello, Refusal> {
    strict::<HelloIn>(body)?.check()
}

/// Strictly, and of another protocol it is said that it is one.
fn strict<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    parse(body).map_err(|malformed| match protocol(body) {
        Some(other) if other != PROTOCOL => Refusal::UnsupportedProtocol,
        _ => malformed.into(),
    })
}

/// M3 as it came in.
#[derive(Debug)]
pub struct Proof {
    /// The members of M1.
    pub hello: Hello,
    /// The challenge that is answered.
    pub challenge: Challenge,
    /// CP.
    pub proof: Tag,
}

/// Reads M3.
///
/// # Errors
/// [`Refusal::Malformed`] or [`Refusal::UnsupportedProtocol`].
pub fn read_proof(body: &[u8]) -> Result<Proof, Refusal> {
    let ProofIn { protocol, api_key, peer_key, nonce, ephemeral, binding, challenge, signed_challenge } =
        strict(body)?;
    let hello = HelloIn { protocol, api_key, peer_key, nonce, ephemeral, binding }.check()?;
    let challenge = challenge.parse().map_err(|_| Malformed::Member("challenge"))?;
    let proof = bytes(&signed_challenge).map(Tag::from_bytes).ok_or(Malformed::Member("signedChallenge"))?;
    Ok(Proof { hello, challenge, proof })
}

/// M4 as our server writes it.
#[must_use]
pub fn write_accepted(accepted: &server::Accepted) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Out<'a> {
        authenticated: bool,
        ephemeral: String,
        ticket: &'a str,
        expires_in: u32,
        server_proof: String,
    }
    let out = Out {
        authenticated: true,
        ephemeral: URL_SAFE_NO_PAD.encode(accepted.share),
        ticket: &accepted.ticket,
        expires_in: accepted.seconds,
        server_proof: URL_SAFE_NO_PAD.encode(accepted.proof.as_bytes()),
    };
    serde_json::to_vec(&out).unwrap_or_default()
}

/// M4 as a client reads it. Nothing about it is verified.
pub(crate) struct Accepted {
    pub(crate) share: [u8; 32],
    pub(crate) ticket: String,
    pub(crate) seconds: u32,
    pub(crate) proof: Tag,
}

/// Reads M4.
pub(crate) fn accepted(answer: &Incoming<'_>) -> Result<Accepted, ReplyError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct In {
        authenticated: bool,
        ephemeral: String,
        ticket: String,
        expires_in: u32,
        server_proof: Option<String>,
    }
    if answer.status != 200 {
        return Err(ReplyError::status(answer));
    }
    let read: In = object(answer.body)?;
    if !read.authenticated {
        return Err(ReplyError::NotAuthenticated);
    }
    let proof = read.server_proof.ok_or(ReplyError::ServerUnproven)?;
    if !is_ticket(&read.ticket) || !(1..=MAX_TICKET_LIFETIME).contains(&read.expires_in) {
        return Err(ReplyError::TokenForm);
    }
    Ok(Accepted {
        share: bytes(&read.ephemeral).ok_or(ReplyError::NotJson)?,
        ticket: read.ticket,
        seconds: read.expires_in,
        proof: bytes(&proof).map(Tag::from_bytes).ok_or(ReplyError::ServerImpostor)?,
    })
}

/// Canonical base64url without padding, of 32 bytes (CS-1).
fn bytes(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
