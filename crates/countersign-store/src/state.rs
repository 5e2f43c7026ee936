//! What a server keeps for its next start: ticket keys, the log of what was used.

use countersign_protocol::UnixTime;
use zeroize::Zeroizing;

use crate::StoreError;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The keys under which tickets are sealed (CS-42). Forward secrecy begins when they are gone (CS-20).
    TicketKeys,
    /// The nonces and challenges that were used (CS-42). Written at a clean stop, removed at the next start.
    ReplayLog,
    /// Up to when something may have been accepted of which no log tells, because one was lost (CS-43). Its time is all that it
    /// says. It stays: a later log knows nothing of what was lost before it.
    Lost,
}

impl State {
    /// Its name where it is kept.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TicketKeys => "ticket-keys",
            Self::ReplayLog => "replay-log",
            Self::Lost => "replay-log-lost",
        }
    }
}

/// What is kept of a [`State`].
#[derive(Debug)]
pub struct Kept {
    /// When it was last known to be in use, by the clock of whoever kept it.
    pub at: UnixTime,
    /// The bytes.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// Where a server keeps its state for the next start, sealed. One server at a time: two that shared the ticket keys and not the log of
/// nonces would take each other's requests twice (CS-12).
///
/// Calls block. What a wrong answer costs: a lost log makes the next start ask for fresh nonces (CS-43); an old log that comes
/// back instead of the newest lets replays pass, so [`StateStore::take`] removes what it gives.
pub trait StateStore: Send + Sync {
    /// Keeps `bytes`, in the place of what is there.
    ///
    /// # Errors
    /// The store fails. What was there before may be there still.
    fn keep(&self, state: State, at: UnixTime, bytes: &[u8]) -> Result<(), StoreError>;

    /// What is kept; `None` also if it cannot be opened because somebody changed it.
    ///
    /// # Errors
    /// The store fails.
    fn kept(&self, state: State) -> Result<Option<Kept>, StoreError>;

    /// Whether anything is kept, be it that it cannot be opened.
    ///
    /// # Errors
    /// The store fails.
    fn has(&self, state: State) -> Result<bool, StoreError>;

    /// Removes what is kept.
    ///
    /// # Errors
    /// The store fails.
    fn forget(&self, state: State) -> Result<(), StoreError>;

    /// What is kept, which is not kept any more from then on: a crash after this finds nothing.
    ///
    /// # Errors
    /// The store fails.
    fn take(&self, state: State) -> Result<Option<Kept>, StoreError> {
        let kept = self.kept(state)?;
        self.forget(state)?;
        Ok(kept)
    }
}
