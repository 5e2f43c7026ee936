//! Request bodies of the two endpoints. Reading is strict: one JSON object (RFC 8259) of at most 4096 bytes
//! with known members, each once and of its type.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::MAX_BODY;
use crate::identity::ApiKey;
use crate::mac::Tag;
use crate::refusal::{Malformed, Refusal};
use crate::{api_key, shared_secret};

/// What `/verify_challenge` is asked.
#[derive(Debug)]
pub struct Verify {
    /// The presented key.
    pub api_key: ApiKey,
    /// The signature.
    pub signature: Tag,
    /// The challenge, if the body carries it, in the shape of either guide.
    pub challenge: Option<AnyChallenge>,
}

/// A challenge of either guide; their shapes have nothing in common.
#[derive(Debug)]
pub enum AnyChallenge {
    /// Guide 1: 16 bytes in base64.
    SharedSecret(shared_secret::Challenge),
    /// Guide 2: `<unix seconds>.<random>`.
    ApiKey(api_key::Challenge),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticateOut<'a> {
    api_key: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerifyOut<'a> {
    api_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge: Option<&'a str>,
    signed_challenge: String,
}

/// `{"apiKey": …}`
pub(crate) fn authenticate(api_key: &ApiKey) -> impl Serialize + '_ {
    AuthenticateOut { api_key: api_key.expose() }
}

/// `{"apiKey": …, "challenge": …, "signedChallenge": …}`
pub(crate) fn verify_shared_secret<'a>(
    api_key: &'a ApiKey,
    challenge: &'a shared_secret::Challenge,
    signature: &Tag,
) -> impl Serialize + 'a {
    let signed_challenge = signature.to_hex();
    VerifyOut { api_key: api_key.expose(), challenge: Some(challenge.as_str()), signed_challenge }
}

/// `{"apiKey": …, "signedChallenge": …}`
pub(crate) fn verify_api_key<'a>(api_key: &'a ApiKey, signature: &Tag) -> impl Serialize + use<'a> {
    VerifyOut { api_key: api_key.expose(), challenge: None, signed_challenge: signature.to_hex() }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuthenticateIn {
    #[serde(default, deserialize_with = "present")]
    api_key: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VerifyIn {
    api_key: Zeroizing<String>,
    #[serde(default, deserialize_with = "present")]
    challenge: Option<String>,
    signed_challenge: String,
}

/// An optional member that is there is not `null`.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Reads the body of `/authenticate`: the key, or `None` for an empty body or `{}` (the key is then in the header).
///
/// # Errors
/// [`Refusal::Malformed`] or [`Refusal::UnsupportedProtocol`].
pub fn read_authenticate(body: &[u8]) -> Result<Option<ApiKey>, Refusal> {
    if body.is_empty() {
        return Ok(None);
    }
    let read: AuthenticateIn = strict(body)?;
    match read.api_key {
        Some(key) => Ok(Some(key.parse().map_err(|_| Malformed::Member("apiKey"))?)),
        None => Ok(None),
    }
}

/// Reads the body of `/verify_challenge`.
///
/// # Errors
/// [`Refusal::Malformed`] or [`Refusal::UnsupportedProtocol`].
pub fn read_verify(body: &[u8]) -> Result<Verify, Refusal> {
    let read: VerifyIn = strict(body)?;
    let api_key = read.api_key.parse().map_err(|_| Malformed::Member("apiKey"))?;
    let signature = Tag::from_hex(&read.signed_challenge).ok_or(Malformed::Member("signedChallenge"))?;
    let challenge = read
        .challenge
        .map(|text| {
            text.parse()
                .map(AnyChallenge::SharedSecret)
                .or_else(|_| text.parse().map(AnyChallenge::ApiKey))
                .map_err(|_| Malformed::Member("challenge"))
        })
        .transpose()?;
    Ok(Verify { api_key, signature, challenge })
}

fn strict<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    // A client of another protocol deserves a better word than "unknown member".
    parse(body).map_err(|malformed| match protocol(body) {
        Some(_) => Refusal::UnsupportedProtocol,
        None => malformed.into(),
    })
}

/// One JSON object with the members of `T`, each once, and nothing else.
pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Malformed> {
    if body.len() > MAX_BODY {
        return Err(Malformed::BodyTooLarge);
    }
    let text = std::str::from_utf8(body).map_err(|_| Malformed::BodyNotUtf8)?;
    // serde would read a struct from an array as well.
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(Malformed::BodyNotAnObject);
    }
    serde_json::from_str(text).map_err(|error| {
        // serde_json's own message repeats pieces of the body, and a secret can be among them.
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            serde_json::error::Category::Data => Malformed::BodyMembers { line, column },
            _ => Malformed::BodySyntax { line, column },
        }
    })
}

/// What the member `protocol` of a body holds, if it is an object and has one. Nothing else of it is kept.
/// Whether a body is an object with the member `protocol`: it is of another family than the guides' then.
#[must_use]
pub fn names_protocol(body: &[u8]) -> bool {
    protocol(body).is_some()
}

pub(super) fn protocol(body: &[u8]) -> Option<serde_json::Value> {
    #[derive(Deserialize)]
    struct Named {
        protocol: serde_json::Value,
    }
    if body.len() > MAX_BODY || !body.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(body).ok().map(|named: Named| named.protocol)
}
