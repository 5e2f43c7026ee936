//! When a request is in time (CS-25, CS-41, CS-43, CS-53).

use super::nonce::{self, NonceIssuer};
use super::request::{AHEAD, MAX_WINDOW};
use crate::UnixTime;
use crate::refusal::Refusal;

/// How far `created` and `expires` of a request without a handshake may be from our clock, in seconds (CS-41).
pub const DIRECT_WINDOW: u64 = 30;

/// By what a server judges the time of a request. A [`UnixTime`] is one that gives no nonces, and has lost none.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    now: UnixTime,
    nonces: Option<&'a NonceIssuer>,
    crash: Option<UnixTime>,
}

impl From<UnixTime> for Policy<'_> {
    fn from(now: UnixTime) -> Self {
        Self { now, nonces: None, crash: None }
    }
}

/// What a request says of its time.
#[derive(Clone, Copy)]
pub(super) struct Times<'a> {
    pub(super) created: u64,
    pub(super) expires: u64,
    pub(super) nonce: &'a str,
    /// Without a handshake.
    pub(super) direct: bool,
}

impl<'a> Policy<'a> {
    /// By our clock.
    #[must_use]
    pub const fn at(now: UnixTime) -> Self {
        Self { now, nonces: None, crash: None }
    }

    /// And by the nonces that we gave.
    #[must_use]
    pub const fn with_nonces(self, nonces: &'a NonceIssuer) -> Self {
        Self { nonces: Some(nonces), ..self }
    }

    /// After a start at which the log of burned nonces was lost (CS-43): what may have been accepted before it has to come
    /// with a nonce of ours. To be said for as long as the process runs.
    #[must_use]
    pub const fn after_crash(self, start: UnixTime) -> Self {
        Self { crash: Some(start), ..self }
    }

    /// Until when the nonce has to be remembered.
    pub(super) fn judge(&self, times: Times<'_>) -> Result<UnixTime, Refusal> {
        let Times { created, expires, nonce, direct } = times;
        let now = self.now.0;
        let in_window = if direct {
            created.abs_diff(now) <= DIRECT_WINDOW && now < expires && expires - now <= DIRECT_WINDOW
        } else {
            created <= now.saturating_add(AHEAD)
                && now < expires
                && expires <= created.saturating_add(MAX_WINDOW)
        };
        if nonce.starts_with(nonce::PREFIX) {
            let issued = self.nonces.and_then(|nonces| nonces.check(nonce, self.now));
            // Whoever made a handshake knows the time.
            return match issued {
                Some(issued) if direct || in_window => Ok(NonceIssuer::burned_until(issued)),
                Some(_) => Err(Refusal::ClockSkew),
                None => Err(Refusal::NonceRequired),
            };
        }
        if !in_window {
            let helps = direct && self.nonces.is_some();
            return Err(if helps { Refusal::NonceRequired } else { Refusal::ClockSkew });
        }
        // As far ahead of the clock as what was accepted before the crash can have been created.
        let ahead = if direct { DIRECT_WINDOW } else { AHEAD };
        if self.crash.is_some_and(|start| created <= start.plus(ahead).0) {
            return Err(Refusal::NonceRequired);
        }
        Ok(UnixTime(expires).plus(AHEAD))
    }
}
