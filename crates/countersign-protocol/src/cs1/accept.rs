//! `Accept-Signature` (RFC 9421, section 5): how a server gives a nonce, and how a client finds it.

use http::{HeaderMap, HeaderValue};

use super::name::KeyName;
use super::nonce::ServerNonce;
use super::request::Claimed;
use crate::refusal::Refusal;

pub use countersign_httpsig::ACCEPT_SIGNATURE;

/// The value that asks to sign this request again, with the same key and coverage and with this nonce. For a request that was
/// refused with [`Refusal::NonceRequired`]: its MAC was right, so it covers what it has to.
///
/// # Errors
/// None in practice: what was read in a header fits into one.
pub fn ask(refused: &Claimed<'_>, nonce: &ServerNonce) -> Result<HeaderValue, Refusal> {
    let (list, name) = (refused.covered(), refused.key_name());
    let (nonce, tag) = (nonce.as_str(), name.tag());
    let value = format!("cs=({list});created;expires;nonce=\"{nonce}\";keyid=\"{name}\";tag=\"{tag}\"");
    HeaderValue::try_from(value).map_err(|_| Refusal::SignatureForm)
}

/// The nonce with which the server wants a request signed again that was signed under this name; `None` if it does not ask for
/// just that. What it wants covered is not looked at: we cover everything.
///
/// The answer is not signed, so whoever sits in between can have made it up: it is good for one repetition, and for that only
/// if CS-35 allows one.
#[must_use]
pub fn asked(fields: &HeaderMap, name: &KeyName<'_>) -> Option<ServerNonce> {
    let requested = countersign_httpsig::requested_under(fields, "cs").ok()??;
    let is_ours = requested.tag.as_deref() == Some(name.tag())
        && requested.keyid.is_none_or(|keyid| keyid == name.to_string())
        && requested.alg.is_none_or(|alg| alg == "hmac-sha256");
    requested.nonce.filter(|_| is_ours)?.parse().ok()
}
