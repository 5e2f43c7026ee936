//! Errors on the wire: `application/problem+json` (RFC 9457). Informative about the protocol, uniform about
//! credentials.

use serde::Serialize;

use crate::malformed::Malformed;

/// The media type (RFC 9457, section 3).
pub const MEDIA_TYPE: &str = "application/problem+json";
/// What every `type` begins with; the rest is [`Problem::name`].
pub const TYPE_PREFIX: &str = "urn:countersign:problem:";

/// What went wrong, as far as the other side is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// 400: the form of the request.
    Malformed(Malformed),
    /// 400: two ways of authenticating in one request.
    TwoMethods,
    /// 400: a protocol that this server does not speak.
    UnsupportedProtocol,
    /// 401: nothing to authenticate with.
    CredentialsRequired,
    /// 401: a challenge to answer.
    ChallengeRequired,
    /// 401: one of the headers that belong together is missing.
    MissingComponent(&'static str),
    /// 401: the challenge is too old.
    ChallengeExpired,
    /// 401: the challenge is not ours for this key.
    ChallengeInvalid,
    /// 401: the challenge was used; said only to who signed it rightly.
    ChallengeUsed,
    /// 401: whatever is wrong with key or signature.
    AuthenticationFailed,
    /// 401: the token is not good (any more).
    SessionInvalid,
    /// 401: the signature fields of a request have not the form of the profile.
    SignatureMalformed,
    /// 401: something that is in the request has to be covered by the signature.
    Uncovered(&'static str),
    /// 401: signed outside of the window of time.
    ClockSkew,
    /// 401: to be signed again, with the nonce in `Accept-Signature`.
    NonceRequired,
    /// 401: the signature was used.
    RequestReplayed,
    /// 401: the content is not the one that was signed.
    DigestMismatch,
    /// 401: wrong words, no such offer, or one that is over; which of them is not said.
    PairingFailed,
    /// 409: the words were right, and there is something else, which is said.
    PairingRefused(&'static str),
    /// 421: sent to an authority that this server does not have (RFC 9110, section 15.5.20).
    Misdirected,
    /// 413: more content than is held until it is verified (RFC 9110, section 15.5.14).
    ContentTooLarge,
    /// 406: the response has to be a stream, whose MAC is a trailer.
    TrailersRequired,
    /// 500: what the handler answered cannot be signed.
    ResponseUnsignable,
    /// 409: a rotation in band cannot begin now (RO-9). Signed.
    RotationBusy,
    /// 409: this number of a rotation in band is not to be used any more (RO-9). Signed.
    RotationOver {
        /// The greatest number that was used, as in the member `lastRid`.
        last: u64,
    },
    /// 404: no such path on this listener.
    NotFound,
    /// 405: the endpoints take POST only.
    MethodNotAllowed,
    /// 501: CONNECT and TRACE are not forwarded.
    MethodNotForwarded,
    /// 429.
    RateLimited {
        /// Seconds, as in `Retry-After` (RFC 9110, section 10.2.3).
        retry_after: u64,
    },
    /// 503: this server cannot decide now.
    Unavailable,
    /// 502: the service behind does not answer.
    UpstreamUnreachable,
    /// 504: the service behind takes too long.
    UpstreamTimeout,
}

impl Problem {
    /// The last part of `type`: stable.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TwoMethods => "two-methods",
            Self::UnsupportedProtocol => "unsupported-protocol",
            Self::CredentialsRequired => "credentials-required",
            Self::ChallengeRequired => "challenge-required",
            Self::MissingComponent(_) => "missing-component",
            Self::ChallengeExpired => "challenge-expired",
            Self::ChallengeInvalid => "challenge-invalid",
            Self::ChallengeUsed => "challenge-used",
            Self::AuthenticationFailed => "authentication-failed",
            Self::SessionInvalid => "session-invalid",
            Self::SignatureMalformed => "signature-malformed",
            Self::Uncovered(_) => "missing-component",
            Self::ClockSkew => "clock-skew",
            Self::NonceRequired => "nonce-required",
            Self::RequestReplayed => "request-replayed",
            Self::DigestMismatch => "digest-mismatch",
            Self::PairingFailed => "pairing-failed",
            Self::PairingRefused(_) => "pairing-refused",
            Self::Misdirected => "misdirected",
            Self::ContentTooLarge => "content-too-large",
            Self::TrailersRequired => "trailers-required",
            Self::ResponseUnsignable => "response-unsignable",
            Self::RotationBusy => "rotation-busy",
            Self::RotationOver { .. } => "rotation-over",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::MethodNotForwarded => "method-not-forwarded",
            Self::RateLimited { .. } => "rate-limited",
            Self::Unavailable => "unavailable",
            Self::UpstreamUnreachable => "upstream-unreachable",
            Self::UpstreamTimeout => "upstream-timeout",
        }
    }

    /// The HTTP status code.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::TwoMethods | Self::UnsupportedProtocol => 400,
            Self::CredentialsRequired
            | Self::ChallengeRequired
            | Self::MissingComponent(_)
            | Self::ChallengeExpired
            | Self::ChallengeInvalid
            | Self::ChallengeUsed
            | Self::AuthenticationFailed
            | Self::SignatureMalformed
            | Self::Uncovered(_)
            | Self::ClockSkew
            | Self::NonceRequired
            | Self::RequestReplayed
            | Self::DigestMismatch
            | Self::PairingFailed
            | Self::SessionInvalid => 401,
            Self::PairingRefused(_) => 409,
            Self::Misdirected => 421,
            Self::ContentTooLarge => 413,
            Self::TrailersRequired => 406,
            Self::ResponseUnsignable => 500,
            Self::RotationBusy | Self::RotationOver { .. } => 409,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::MethodNotForwarded => 501,
            Self::RateLimited { .. } => 429,
            Self::UpstreamUnreachable => 502,
            Self::Unavailable => 503,
            Self::UpstreamTimeout => 504,
        }
    }

    /// Says what to do.
    #[must_use]
    pub const fn title(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "Correct the form of the request",
            Self::TwoMethods => "Send one kind of credentials only: a token, or an API key in one place",
            Self::UnsupportedProtocol => "Use a profile that this server has: cs1, shared-secret or api-key",
            Self::CredentialsRequired => {
                "Authenticate: sign the request (cs1), send X-API-Key to get a challenge, or send a token from /verify_challenge"
            }
            Self::ChallengeRequired => {
                "Sign the challenge: repeat the request with X-API-Key, X-Challenge and X-Signature"
            }
            Self::MissingComponent(_) => "Send X-API-Key, X-Challenge and X-Signature together",
            Self::ChallengeExpired => "Sign a fresh challenge: this one has expired",
            Self::ChallengeInvalid => "Sign a challenge that this server gave for this API key a moment ago",
            Self::ChallengeUsed => "Sign a fresh challenge: this one has been used",
            Self::AuthenticationFailed => {
                "Check API key, secret and profile with the operator of this service, who finds the exact reason under this request id"
            }
            Self::SessionInvalid => "Authenticate again: the token is not valid here and now",
            Self::SignatureMalformed => {
                "Sign as the profile cs1 says: one signature `cs`, with created, expires, nonce, keyid and tag"
            }
            Self::Uncovered(_) => "Cover what the profile cs1 says has to be covered",
            Self::ClockSkew => "Take the time from the handshake, and sign for at most 60 seconds",
            Self::NonceRequired => "Sign the request again, with the nonce that Accept-Signature gives",
            Self::RequestReplayed => "Sign each request anew: this signature has been used",
            Self::DigestMismatch => "Send the content that was signed: Content-Digest does not match it",
            Self::PairingFailed => {
                "Ask for the words that the other side shows now: these were wrong, or used, or the offer is over"
            }
            Self::PairingRefused(_) => {
                "Mend what the detail says, and ask for the next words: these are used"
            }
            Self::Misdirected => {
                "Send the request to a name of this service, and tell its operator if you did: a proxy may change it on the way"
            }
            Self::ContentTooLarge => {
                "Send less content, or where the service takes streams announce it as one: countersign-body: stream"
            }
            Self::TrailersRequired => {
                "Send `TE: trailers`: the response is too long to be held. The request has had its effect"
            }
            Self::ResponseUnsignable => {
                "Tell the operator of this service: its response cannot be signed. The request has had its effect"
            }
            Self::RotationBusy => {
                "Begin the rotation again later: another one is not over, or this side has begun one"
            }
            Self::RotationOver { .. } => "Begin another rotation, with a greater number than lastRid",
            Self::NotFound => "Check the path",
            Self::MethodNotAllowed => "Use POST",
            Self::MethodNotForwarded => "Use another method: CONNECT and TRACE are not forwarded",
            Self::RateLimited { .. } => "Wait for the seconds in Retry-After",
            Self::Unavailable => "Try again later: the server cannot decide on this request now",
            Self::UpstreamUnreachable => "Try again later: the service behind this gateway does not answer",
            Self::UpstreamTimeout => "Try again later: the service behind this gateway takes too long",
        }
    }

    /// What exactly is wrong, where that says nothing about credentials.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Malformed(malformed) => Some(malformed.to_string()),
            Self::MissingComponent(name) => Some(format!("{name} is missing")),
            Self::PairingRefused(why) => Some((*why).to_owned()),
            Self::Uncovered(name) => Some(format!("{name} is in the request or covered, and not both")),
            _ => None,
        }
    }

    /// The JSON body.
    #[must_use]
    pub fn body(&self, request_id: &str, challenge: Option<(&str, u64)>) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            #[serde(skip_serializing_if = "Option::is_none")]
            detail: Option<String>,
            request_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            challenge: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            expires_in: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            last_rid: Option<u64>,
        }
        let body = Body {
            r#type: format!("{TYPE_PREFIX}{}", self.name()),
            title: self.title(),
            status: self.status(),
            detail: self.detail(),
            request_id,
            challenge: challenge.map(|(challenge, _)| challenge),
            expires_in: challenge.map(|(_, seconds)| seconds),
            last_rid: match self {
                Self::RotationOver { last } => Some(*last),
                _ => None,
            },
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}
