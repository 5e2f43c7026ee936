//! The exact reason why an attempt failed. It goes to the audit trail; the other side gets the coarser
//! [`Problem`] made from it.

pub use crate::malformed::Malformed;
pub use crate::pairing::PairingRefusal;
use crate::problem::Problem;
use crate::token::TokenError;

/// Why an attempt was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The request's form is wrong.
    Malformed(Malformed),
    /// A token and an API key, or a key in the header and one in the body.
    TwoMethods,
    /// The body names a protocol that this version does not speak.
    UnsupportedProtocol,
    /// No credentials at all on a protected route.
    NoCredentials,
    /// A signature or a challenge without a key.
    MissingKey,
    /// The key came alone: the first step of guide 1.
    ChallengeSent,
    /// The key came with only one of `X-Challenge` and `X-Signature`; this one is missing.
    MissingHeader(&'static str),
    /// A challenge of ours, answered too late.
    ChallengeExpired,
    /// A challenge that we did not issue for this key.
    ChallengeForeign,
    /// A challenge that was answered before; the signature is right.
    ChallengeUsed,
    /// Nobody has this key.
    UnknownKey,
    /// The key's credential has a successor and is over.
    CredentialRetired,
    /// The key's credential was revoked.
    CredentialRevoked,
    /// The key's credential was revoked because somebody else may have it: an alarm.
    CredentialCompromised,
    /// It is our own key towards a peer, reflected.
    OwnKey,
    /// The key belongs to a peer with another profile.
    WrongProfile,
    /// The key is known, the signature is not made with its secret.
    WrongSignature,
    /// The key is known, but none of its challenges is waiting for an answer (never asked for, answered, or
    /// expired). Guide 2 only.
    NothingOutstanding,
    /// `cs1`: the proof is right, and the handshake is bound to something else than what is configured.
    WrongBinding,
    /// `cs1`: the proof is right, and the ephemeral key is one of small order.
    ZeroShare,
    /// `cs1`: the signature fields have not the form that the profile gives them.
    SignatureForm,
    /// `cs1`: this is in the message and not covered, or covered and not in the message.
    Uncovered(&'static str),
    /// `cs1`: signed too long ago, or ahead, or for too long.
    ClockSkew,
    /// `cs1`: the signature is right, and has to be made with a nonce of this server: its clock or its memory does not reach.
    NonceRequired,
    /// `cs1`: the signature is right, and has been seen before.
    RequestReplayed,
    /// `cs1`: the content is not the one that was signed.
    DigestMismatch,
    /// `cs1`: the ticket was refused.
    Ticket(TokenError),
    /// The token was refused.
    Token(TokenError),
    /// The token's credential is not there any more.
    TokenOrphaned,
    /// Tokens are switched off here.
    TokensOff,
    /// Too many requests or failures.
    RateLimited {
        /// Seconds until the next one is taken.
        retry_after: u64,
        /// What was counted.
        scope: Scope,
    },
    /// This key has 64 unanswered challenges.
    TooManyChallenges {
        /// Seconds until one of them expires.
        retry_after: u64,
    },
    /// The replay log is full; nothing live is evicted, so nothing new is accepted.
    ReplayLogFull,
    /// `cs1`: signed without a handshake, which is not switched on for this peer.
    DirectOff,
    /// `cs1`: the request was sent to an authority that is not ours, or whose name was changed on the way.
    Misdirected,
    /// `cs1`: the content is longer than what is held, and not announced as a stream.
    ContentTooLarge,
    /// `cs1`: a stream, which is not taken here: who handles it would have to know that nothing is final before its end.
    StreamsOff,
    /// A confirmation of a rotation that is not open, or with wrong proofs. No failure: who waits for an answer repeats it, and 256
    /// bits are not guessed.
    RotationUnknown,
    /// Our clock shows a time before 2001 or after 2286.
    ClockUnusable,
    /// Pairing came to nothing.
    Pairing(PairingRefusal),
    /// The trail cannot be written, so nothing is accepted.
    AuditUnavailable,
    /// The store could not be asked for so long that a removal may have been missed.
    StoreStale,
}

/// What a rate limit counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// Requests to the endpoints from one source.
    Source,
    /// Requests to the endpoints from one source with one key.
    Key,
    /// Refused requests on protected routes from one source.
    Refused,
    /// Failures from one source.
    SourceFailures,
    /// Failures from one source with one key.
    KeyFailures,
    /// Live nonces of one peer.
    Nonces,
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Refusal {
    /// The reason on the trail and in metrics: stable, lower case.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TwoMethods => "two-methods",
            Self::UnsupportedProtocol => "unsupported-protocol",
            Self::NoCredentials => "no-credentials",
            Self::MissingKey => "missing-key",
            Self::ChallengeSent => "challenge-sent",
            Self::MissingHeader(_) => "missing-header",
            Self::ChallengeExpired => "challenge-expired",
            Self::ChallengeForeign => "challenge-foreign",
            Self::ChallengeUsed => "challenge-used",
            Self::UnknownKey => "unknown-key",
            Self::CredentialRetired => "credential-retired",
            Self::CredentialRevoked => "credential-revoked",
            Self::CredentialCompromised => "credential-compromised",
            Self::OwnKey => "own-key",
            Self::WrongProfile => "wrong-profile",
            Self::WrongSignature => "wrong-signature",
            Self::NothingOutstanding => "nothing-outstanding",
            Self::WrongBinding => "wrong-binding",
            Self::ZeroShare => "zero-share",
            Self::SignatureForm => "signature-form",
            Self::Uncovered(_) => "uncovered",
            Self::ClockSkew => "clock-skew",
            Self::NonceRequired => "nonce-required",
            Self::RequestReplayed => "request-replayed",
            Self::DigestMismatch => "digest-mismatch",
            Self::Ticket(TokenError::Form) => "ticket-form",
            Self::Ticket(TokenError::Key) => "ticket-key",
            Self::Ticket(TokenError::Seal) => "ticket-seal",
            Self::Ticket(TokenError::Expired) => "ticket-expired",
            Self::Token(TokenError::Form) => "token-form",
            Self::Token(TokenError::Key) => "token-key",
            Self::Token(TokenError::Seal) => "token-seal",
            Self::Token(TokenError::Expired) => "token-expired",
            Self::TokenOrphaned => "token-orphaned",
            Self::TokensOff => "tokens-off",
            Self::RateLimited { scope: Scope::Source, .. } => "rate-limited-source",
            Self::RateLimited { scope: Scope::Key, .. } => "rate-limited-key",
            Self::RateLimited { scope: Scope::Refused, .. } => "rate-limited-refused",
            Self::RateLimited { scope: Scope::SourceFailures, .. } => "rate-limited-source-failures",
            Self::RateLimited { scope: Scope::KeyFailures, .. } => "rate-limited-key-failures",
            Self::RateLimited { scope: Scope::Nonces, .. } => "rate-limited-nonces",
            Self::TooManyChallenges { .. } => "too-many-challenges",
            Self::ReplayLogFull => "replay-log-full",
            Self::DirectOff => "direct-off",
            Self::Misdirected => "misdirected",
            Self::ContentTooLarge => "content-too-large",
            Self::StreamsOff => "streams-off",
            Self::RotationUnknown => "rotation-unknown",
            Self::ClockUnusable => "clock-unusable",
            Self::Pairing(pairing) => pairing.code(),
            Self::AuditUnavailable => "audit-unavailable",
            Self::StoreStale => "store-stale",
        }
    }

    /// Whether it counts as a failed attempt: what somebody does who guesses, replays or forges. A request that
    /// is only malformed, early or late does not. Nor does one under `cs1` with the right MAC, be it that it was used or its content
    /// changed: nothing is guessed by that, and whoever has captured one, or a proxy that sends twice, must not lock out the peer
    /// whose address he shares. Nor does a token: its seal has 128 bits and cannot be guessed,
    /// and after a restart every honest caller comes with one that does not open any more.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        if let Self::Pairing(pairing) = self {
            return pairing.is_failure();
        }
        matches!(
            self,
            Self::ChallengeForeign
                | Self::ChallengeUsed
                | Self::UnknownKey
                | Self::CredentialRetired
                | Self::CredentialRevoked
                | Self::CredentialCompromised
                | Self::OwnKey
                | Self::WrongProfile
                | Self::WrongSignature
                | Self::WrongBinding
                | Self::ZeroShare
                | Self::DirectOff
                | Self::NothingOutstanding
        )
    }

    /// What the other side is told. Unknown key, revoked or retired credential, reflected key, other profile and wrong signature
    /// are one and the same to it.
    #[must_use]
    pub const fn problem(&self) -> Problem {
        match self {
            Self::Malformed(malformed) => Problem::Malformed(*malformed),
            Self::TwoMethods => Problem::TwoMethods,
            Self::UnsupportedProtocol => Problem::UnsupportedProtocol,
            Self::NoCredentials => Problem::CredentialsRequired,
            Self::MissingKey => Problem::MissingComponent("X-API-Key"),
            Self::ChallengeSent => Problem::ChallengeRequired,
            Self::MissingHeader(name) => Problem::MissingComponent(name),
            Self::ChallengeExpired => Problem::ChallengeExpired,
            Self::ChallengeForeign => Problem::ChallengeInvalid,
            Self::ChallengeUsed => Problem::ChallengeUsed,
            Self::UnknownKey
            | Self::CredentialRetired
            | Self::CredentialRevoked
            | Self::CredentialCompromised
            | Self::OwnKey
            | Self::WrongProfile
            | Self::WrongSignature
            | Self::WrongBinding
            | Self::ZeroShare
            | Self::DirectOff
            | Self::RotationUnknown
            | Self::NothingOutstanding => Problem::AuthenticationFailed,
            Self::SignatureForm => Problem::SignatureMalformed,
            Self::Uncovered(name) => Problem::Uncovered(name),
            Self::ClockSkew => Problem::ClockSkew,
            Self::NonceRequired => Problem::NonceRequired,
            Self::RequestReplayed => Problem::RequestReplayed,
            Self::DigestMismatch => Problem::DigestMismatch,
            Self::Token(_) | Self::Ticket(_) | Self::TokenOrphaned | Self::TokensOff => {
                Problem::SessionInvalid
            }
            Self::RateLimited { retry_after, .. } | Self::TooManyChallenges { retry_after } => {
                Problem::RateLimited { retry_after: *retry_after }
            }
            Self::Pairing(pairing) => pairing.problem(),
            Self::Misdirected => Problem::Misdirected,
            Self::ContentTooLarge | Self::StreamsOff => Problem::ContentTooLarge,
            Self::ReplayLogFull | Self::AuditUnavailable | Self::StoreStale | Self::ClockUnusable => {
                Problem::Unavailable
            }
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(malformed) => write!(f, "malformed: {malformed}"),
            Self::MissingHeader(name) => write!(f, "missing-header: {name}"),
            Self::Uncovered(name) => write!(f, "uncovered: {name}"),
            other => f.write_str(other.code()),
        }
    }
}
