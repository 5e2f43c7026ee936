use crate::problem::Problem;

/// Why the offering side did not go on: exact for the trail, coarse for the other side (section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PairingRefusal {
    /// There is no such offer that waits for this message: none at all, closed, claimed by somebody else, or over.
    NoOffer,
    /// The code is claimed for this exchange, and P3 is not confirmed under its words.
    WrongWords,
    /// P3 came too late after P1: the code is burned.
    TooLate,
    /// The words are right, and the accepter has seen a TLS key that is none of ours.
    Misbound,
    /// The words are right, and the name of the accepter is taken here.
    NameTaken,
    /// The words are right, and what the accepter states cannot be stored: its URL, or its URL without a TLS key.
    Unusable,
    /// The offers cannot be read or written, so nothing is claimed.
    Store,
    /// Too many exchanges were begun, by whomever.
    TooMany {
        /// Seconds until the next one is taken.
        retry_after: u64,
    },
}

impl PairingRefusal {
    /// The reason on the trail and in metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoOffer => "pairing-no-offer",
            Self::WrongWords => "pairing-wrong-words",
            Self::TooLate => "pairing-too-late",
            Self::Misbound => "pairing-misbound",
            Self::NameTaken => "pairing-name-taken",
            Self::Unusable => "pairing-unusable",
            Self::Store => "pairing-store",
            Self::TooMany { .. } => "rate-limited-pairing",
        }
    }

    /// Whether it counts as a failed attempt of its source.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::NoOffer | Self::WrongWords | Self::Misbound)
    }

    /// What the other side is told. Before the words are proved, everything is one and the same.
    #[must_use]
    pub const fn problem(self) -> Problem {
        match self {
            Self::NoOffer | Self::WrongWords | Self::TooLate => Problem::PairingFailed,
            Self::Misbound => Problem::PairingRefused(
                "the TLS key that you have seen is none of this service: somebody stands in between, or a proxy ends TLS there",
            ),
            Self::NameTaken => Problem::PairingRefused(
                "a peer of your name is known to this service already: its operator removes it, or offers with --name",
            ),
            Self::Unusable => Problem::PairingRefused(
                "your URL cannot be called: it needs https:// (or http:// on loopback) and, unless the offer trusts authorities, the pin of your TLS key",
            ),
            Self::Store => Problem::Unavailable,
            Self::TooMany { retry_after } => Problem::RateLimited { retry_after },
        }
    }
}
