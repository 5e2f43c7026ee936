//! The header fields of the guide profiles.

use std::fmt;

use http::{HeaderMap, HeaderName};

use crate::identity::ApiKey;
use crate::mac::Tag;
use crate::refusal::{Malformed, Refusal};
use crate::shared_secret::Challenge;
use crate::token;

/// The presented API key.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The challenge that was signed.
pub const X_CHALLENGE: HeaderName = HeaderName::from_static("x-challenge");
/// The signature, 64 hexadecimal digits.
pub const X_SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
/// The caller's own challenge to the server: 16 bytes in base64.
pub const X_CLIENT_CHALLENGE: HeaderName = HeaderName::from_static("x-client-challenge");

/// The one value of a field, if it is there.
///
/// # Errors
/// The field came more than once, or its value is not visible ASCII.
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Malformed> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Malformed::RepeatedHeader(known(name)));
    }
    value.to_str().map(Some).map_err(|_| Malformed::HeaderValue(known(name)))
}

/// What a request on a protected route brings to prove itself with. Its `Debug` shows neither token nor key.
pub enum Presented<'a> {
    /// Nothing of ours.
    Nothing,
    /// `Authorization: Bearer csb.…`
    Token(&'a str),
    /// `X-API-Key` alone or with half of the rest: it gets a challenge.
    Key {
        /// The key.
        api_key: ApiKey,
        /// The header that is missing, if the other one of the two came.
        missing: Option<&'static str>,
    },
    /// All three headers of guide 1.
    Signed {
        /// The key.
        api_key: ApiKey,
        /// The challenge.
        challenge: Challenge,
        /// The signature.
        signature: Tag,
        /// The caller's own challenge.
        client_challenge: Option<Challenge>,
    },
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Token(_) => "Token(…)",
            Self::Key { .. } => "Key(…)",
            Self::Signed { .. } => "Signed(…)",
        })
    }
}

/// Reads the credentials of a request on a protected route. Only form is looked at, so that the answer to a
/// malformed request says nothing about a key.
///
/// # Errors
/// [`Refusal::Malformed`], or [`Refusal::TwoMethods`] when a token and an API key came together.
pub fn presented(headers: &HeaderMap) -> Result<Presented<'_>, Refusal> {
    let token = bearer_token(headers)?;
    let key = single(headers, &X_API_KEY)?;
    let challenge = single(headers, &X_CHALLENGE)?;
    let signature = single(headers, &X_SIGNATURE)?;
    let client_challenge = client_challenge(headers)?;
    if token.is_some() && (key.is_some() || signature.is_some() || challenge.is_some()) {
        return Err(Refusal::TwoMethods);
    }
    if let Some(token) = token {
        return Ok(Presented::Token(token));
    }
    let Some(key) = key else {
        return if signature.is_some() || challenge.is_some() {
            Err(Refusal::MissingKey)
        } else {
            Ok(Presented::Nothing)
        };
    };
    let api_key: ApiKey = key.parse().map_err(|_| Malformed::HeaderValue("X-API-Key"))?;
    let challenge = challenge
        .map(|text| text.parse::<Challenge>().map_err(|_| Malformed::HeaderValue("X-Challenge")))
        .transpose()?;
    let signature =
        signature.map(|text| Tag::from_hex(text).ok_or(Malformed::HeaderValue("X-Signature"))).transpose()?;
    Ok(match (challenge, signature) {
        (Some(challenge), Some(signature)) => {
            Presented::Signed { api_key, challenge, signature, client_challenge }
        }
        (None, None) => Presented::Key { api_key, missing: None },
        (None, Some(_)) => Presented::Key { api_key, missing: Some("X-Challenge") },
        (Some(_), None) => Presented::Key { api_key, missing: Some("X-Signature") },
    })
}

/// `X-Client-Challenge`, if it came.
///
/// # Errors
/// Repeated, or not 16 bytes in base64.
pub fn client_challenge(headers: &HeaderMap) -> Result<Option<Challenge>, Malformed> {
    single(headers, &X_CLIENT_CHALLENGE)?
        .map(|text| text.parse().map_err(|_| Malformed::HeaderValue("X-Client-Challenge")))
        .transpose()
}

/// Our own token, if an `Authorization` header holds one (RFC 6750, section 2.1). Anything else in that
/// field belongs to the upstream.
///
/// # Errors
/// A token of ours beside another `Authorization` value.
pub fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, Malformed> {
    let mut ours = None;
    let mut count = 0;
    for value in headers.get_all(http::header::AUTHORIZATION) {
        count += 1;
        let text = value.to_str().unwrap_or_default();
        let bearer = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        if let Some((_, token)) = bearer {
            let token = token.trim_matches(' ');
            if token.starts_with(token::PREFIX) {
                ours = Some(token);
            }
        }
    }
    if ours.is_some() && count > 1 {
        return Err(Malformed::RepeatedHeader("Authorization"));
    }
    Ok(ours)
}

fn known(name: &HeaderName) -> &'static str {
    match name.as_str() {
        "x-api-key" => "X-API-Key",
        "x-challenge" => "X-Challenge",
        "x-signature" => "X-Signature",
        "x-client-challenge" => "X-Client-Challenge",
        _ => "a header",
    }
}
