//! The server's side of the profile `cs1` (`specs/cs1.md`): what it takes beside the guides' flows.
//!
//! | module | does |
//! |---|---|
//! | `external` | under which URLs we are reached |
//! | `tickets` | the keys that seal tickets, and keeping them for the next start |
//! | `handshake` | M1 to M4 on the two endpoints |
//! | `head`, `direct` | judges a signed request by its head; finds the keys of one that had no handshake |
//! | `content` | holds a request's content until it is verified |
//! | `stream` | content that is not held: flows on while it is checked, and is signed while it flows |
//! | `serve`, `respond` | a signed request from its first byte to the signature of its response |

mod content;
mod direct;
mod external;
mod handshake;
mod head;
mod respond;
mod serve;
mod stream;
mod tickets;

#[cfg(test)]
mod restarts;

use arc_swap::ArcSwap;
use countersign_protocol::UnixTime;
use countersign_protocol::cs1::nonce::NonceIssuer;
use countersign_protocol::cs1::{Exporter, Issuer};
use countersign_protocol::refusal::Refusal;
use countersign_protocol::shared_secret::Lifetime;
use countersign_store::{ClaimError, random};
use zeroize::Zeroizing;

use super::authenticator::Inner;

pub use countersign_protocol::cs1::Coverage;
pub use external::{ExternalUrl, ExternalUrlError};
pub(super) use handshake::{accept, challenge};
pub(super) use head::is_signed;
pub(super) use serve::serve;
pub use stream::NotFinal;
pub(super) use tickets::Tickets;

/// What the TLS connection of a request gives for binding (RFC 9266): a request extension, set by whoever accepts
/// connections. Without it nobody can authenticate who is to be bound to TLS.
#[derive(Clone, Debug)]
pub struct TlsExporter(pub Exporter);

/// What one process needs for `cs1`.
pub(super) struct Cs1 {
    pub(super) issuer: Issuer,
    pub(super) nonces: NonceIssuer,
    pub(super) tickets: Tickets,
    pub(super) external: ArcSwap<Vec<ExternalUrl>>,
    /// How many bytes of a message's content are held until they are verified.
    pub(super) hold: usize,
    /// Other processes have the keys of the same pairs.
    one_of_several: bool,
}

/// How many bytes of content are held unless it is set otherwise (CS-37).
pub(super) const HOLD: usize = 1 << 20;

impl Cs1 {
    pub(super) fn new(
        lifetime: Lifetime,
        external: Vec<ExternalUrl>,
        hold: usize,
        one_of_several: bool,
        tickets: Tickets,
    ) -> Self {
        Self {
            issuer: Issuer::new(&Zeroizing::new(random()), lifetime),
            nonces: NonceIssuer::new(&Zeroizing::new(random())),
            tickets,
            external: ArcSwap::from_pointee(external),
            hold,
            one_of_several,
        }
    }

    /// Up to which time requests under the keys of a pair may have been accepted of which our log does not tell.
    pub(super) fn lost_of_pairs(&self) -> Option<UnixTime> {
        if self.one_of_several { Some(tickets::ALWAYS) } else { self.tickets.lost() }
    }
}

/// Burns a nonce or a challenge; `used` is the refusal if somebody was faster.
pub(super) fn burn(
    inner: &Inner,
    id: u128,
    expires: UnixTime,
    now: UnixTime,
    used: Refusal,
) -> Result<(), Refusal> {
    inner.replays.claim(id, expires, now).map_err(|error| match error {
        ClaimError::Used => used,
        ClaimError::Full => Refusal::ReplayLogFull,
        // Its time was over while it was judged.
        ClaimError::Expired => match used {
            Refusal::ChallengeUsed => Refusal::ChallengeExpired,
            _ => Refusal::ClockSkew,
        },
    })?;
    // What is burned behind the log that the next start reads would pass again there.
    if inner.cs1.tickets.is_closed() { Err(Refusal::ReplayLogFull) } else { Ok(()) }
}
