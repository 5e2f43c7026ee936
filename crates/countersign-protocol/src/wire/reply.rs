//! Responses of the two endpoints: what our server writes, and what our client takes from a stranger's.

use std::fmt;

use http::header::RETRY_AFTER;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Incoming, printable};
use crate::identity::ServiceName;

/// The 200 of `/authenticate`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChallengeReply<'a> {
    /// The challenge to sign.
    pub challenge: &'a str,
    /// For how many seconds.
    pub expires_in: u64,
}

/// The 200 of `/verify_challenge`. Its `Debug` shows no token.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerdictReply<'a> {
    /// Always true.
    pub authenticated: bool,
    /// The name under which the server knows the caller.
    pub service: &'a ServiceName,
    /// The bearer token, unless tokens are switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a str>,
    /// For how many seconds the token is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

impl fmt::Debug for VerdictReply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerdictReply").field("service", self.service).finish_non_exhaustive()
    }
}

/// A bearer token that a server gave us. Redacted, zeroised.
#[derive(Clone)]
pub struct BearerToken(Zeroizing<String>);

impl BearerToken {
    /// The token, for the `Authorization` header.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(…)")
    }
}

/// What a client holds after a handshake.
#[derive(Clone, Debug)]
pub struct Session {
    /// The token; a stranger's server may give none.
    pub token: Option<BearerToken>,
    /// For how many seconds it is good, if the server said so.
    pub expires_in: Option<u64>,
}

/// Why a client did not go on with a server's answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// Not the status that the flow goes on from.
    #[error("the server answered {status}{}", title.as_ref().map(|title| format!(": {title}")).unwrap_or_default())]
    Status {
        /// The status code.
        status: u16,
        /// The `title` and request id of its problem body, made printable, and when it wants to be tried again.
        title: Option<String>,
    },
    /// The body is not the JSON object that the flow needs.
    #[error("the server's answer is not the JSON object that this step of the protocol gives")]
    NotJson,
    /// No challenge where one belongs.
    #[error("the server gave no challenge")]
    NoChallenge,
    /// The server asked us to sign something else than a challenge of this profile.
    #[error(
        "the server asked for a signature under something that is not a challenge of this profile; nothing was signed. Is the peer's profile the one that the server uses?"
    )]
    ForeignShape,
    /// 200, but `"authenticated": false`.
    #[error("the server says that we are not authenticated")]
    NotAuthenticated,
    /// The server gave no proof of its own.
    #[error(
        "the server did not prove who it is (no X-API-Key and X-Signature in its answer); nothing was sent to it. A stranger's server that cannot do this needs `peer add … --danger-unproven-server`"
    )]
    ServerUnproven,
    /// The server's proof is wrong.
    #[error(
        "the server's proof is wrong: it does not hold this pair's key and secret; nothing was sent to it. Compare fingerprints with its operator (`countersign peer show`)"
    )]
    ServerImpostor,
    /// The pair is bound to the TLS connection, and this connection gives nothing to bind to.
    #[error(
        "this peer is bound to its TLS connection (tls-exporter), and the connection does not give an exporter: it needs TLS 1.3 from end to end, without a proxy that ends it"
    )]
    NoExporter,
    /// The token is not one that fits into a header (RFC 6750, section 2.1).
    #[error("the server's token is not of the form that RFC 6750 gives")]
    TokenForm,
}

impl ReplyError {
    pub(crate) fn status(answer: &Incoming<'_>) -> Self {
        #[derive(Deserialize)]
        struct Problem {
            title: Option<String>,
            detail: Option<String>,
            #[serde(rename = "requestId")]
            request_id: Option<String>,
        }
        let problem: Option<Problem> = serde_json::from_slice(answer.body).ok();
        let title = problem.and_then(|problem| {
            let mut title = printable(&problem.title?, 200);
            // What is in the way of a pairing is in the detail.
            if let Some(detail) = problem.detail.filter(|_| answer.status == 409) {
                title = format!("{title}: {}", printable(&detail, 300));
            }
            Some(match problem.request_id {
                Some(id) => format!("{title} (its request id: {})", printable(&id, 64)),
                None => title,
            })
        });
        let wait = retry_after(answer).map(|seconds| format!("to be tried again in {seconds} s"));
        let title = match (title, wait) {
            (Some(title), Some(wait)) => Some(format!("{title}; {wait}")),
            (title, wait) => title.or(wait),
        };
        Self::Status { status: answer.status, title }
    }
}

/// The seconds in `Retry-After` (RFC 9110, section 10.2.3). A date there is left out: clocks differ.
fn retry_after(answer: &Incoming<'_>) -> Option<u32> {
    let value = answer.headers.get(RETRY_AFTER)?.to_str().ok()?;
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if digits { value.parse().ok() } else { None }
}

/// The challenge in a 200 of `/authenticate`.
pub(crate) fn challenge(answer: &Incoming<'_>) -> Result<String, ReplyError> {
    #[derive(Deserialize)]
    struct Reply {
        challenge: Option<String>,
    }
    if answer.status != 200 {
        return Err(ReplyError::status(answer));
    }
    let reply: Reply = object(answer.body)?;
    reply.challenge.ok_or(ReplyError::NoChallenge)
}

/// The session in a 200 of `/verify_challenge`. All members are optional: 200 is success.
pub(crate) fn session(answer: &Incoming<'_>) -> Result<Session, ReplyError> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Reply {
        authenticated: Option<bool>,
        token: Option<Zeroizing<String>>,
        expires_in: Option<serde_json::Value>,
    }
    if answer.status != 200 {
        return Err(ReplyError::status(answer));
    }
    let empty = answer.body.trim_ascii().is_empty();
    let reply: Reply = if empty { Reply::default() } else { object(answer.body)? };
    if reply.authenticated == Some(false) {
        return Err(ReplyError::NotAuthenticated);
    }
    let token = match reply.token {
        Some(token) if is_b64token(&token) => Some(BearerToken(token)),
        Some(_) => return Err(ReplyError::TokenForm),
        None => None,
    };
    // A stranger's server may write anything here; what is no number is as good as absent.
    let expires_in = reply.expires_in.and_then(|number| {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "float to integer saturates"
        )]
        number.as_u64().or_else(|| number.as_f64().map(|seconds| seconds as u64))
    });
    Ok(Session { token, expires_in })
}

/// Reads a JSON object; serde would read a struct from an array as well.
pub(super) fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ReplyError> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(ReplyError::NotJson);
    }
    serde_json::from_slice(body).map_err(|_| ReplyError::NotJson)
}

/// `b64token` of RFC 6750, section 2.1, at most 4096 characters.
fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && text.len() <= 4096
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}
