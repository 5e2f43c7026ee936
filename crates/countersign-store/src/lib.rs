//! Where Countersign keeps its state.
//!
//! | state | where | what a wrong answer costs |
//! |---|---|---|
//! | peers and their secrets | [`PeerStore`]: [`MemoryStore`], [`sqlite::SqliteStore`], [`declared::DeclaredStore`], `vault::VaultStore` | a stranger is let in, or a peer shut out |
//! | burned challenges | [`ReplayLog`], in memory | a replay passes |
//! | outstanding guide-2 challenges | [`Outstanding`], in memory | a replay passes, or an honest caller starts again |
//! | offers of a pairing | [`PairingStore`]: [`MemoryStore`], [`sqlite::SqliteStore`] | a guesser has two guesses for one |
//! | opened tickets of `cs1` | [`TicketCache`], in memory | the ticket is opened once more |
//! | rate limits | [`Limiter`], in memory | a brute force goes on, or an honest caller waits |
//!
//! What is in memory dies with the process, and so do the keys that the challenges were made with: nothing
//! answered before a restart can be answered again after it.
//!
//! Secrets at rest are sealed under a random data key, which the [`master::MasterKey`] wraps.

pub mod agreement;
#[cfg(feature = "contract")]
pub mod contract;
#[cfg(feature = "sqlite")]
pub mod declared;
mod error;
pub mod exchange;
pub mod file;
pub mod lifecycle;
mod limiter;
pub mod master;
mod memory;
mod mixed;
mod next;
pub mod origin;
mod outstanding;
pub mod pairing;
mod peer;
mod random;
mod replay;
mod set;
mod share;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod state;
mod tickets;
#[cfg(feature = "vault")]
pub mod vault;

pub use agreement::{Agreement, Move, MoveError, Moved};
pub use error::{DeclaredError, StoreError};
pub use exchange::introduction::{Introduction, IntroductionError};
pub use exchange::{ExchangeError, Exported};
pub use lifecycle::{Ended, Ending, Next, Overlap, Rotation, Use, UseDirection, Which};
pub use limiter::{Limiter, Quota, Standing};
pub use memory::MemoryStore;
pub use mixed::{Mixed, Mixing};
pub use next::Basis;
pub use outstanding::{Outstanding, Spent, TooMany};
pub use pairing::PairingStore;
pub use peer::{
    Credential, Cs1Options, Keys, KeysError, Listing, NewKeys, NewPeer, OptionsError, Peer, PinError, Trust,
};
pub use random::random;
pub use replay::{ClaimError, ReplayLog};
pub use set::PeerSet;
pub use share::ReplayShare;
pub use state::{Kept, State, StateStore};
pub use tickets::{MessageKeys, Opened, TicketCache};

use countersign_protocol::UnixTime;
use countersign_protocol::identity::{CredentialId, ServiceName};
use countersign_protocol::lookup::LookupKey;

/// What a store that only reads says to whoever wants to change a peer.
const READ_ONLY: &str = "change them where they come from";

/// Peers that come from a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// When the copy was current, by the wall clock.
    pub since: UnixTime,
    /// How old it is, in seconds. A clock that is set back does not make it younger while this process runs, nor does a
    /// restart. How long nothing ran is known from the clock alone.
    pub age: u64,
    /// At which age it is not used any more, in seconds.
    pub max: u64,
    /// Why the original cannot be had, in fixed words.
    pub reason: &'static str,
}

/// Peers and their credentials.
///
/// Calls block (a file, later a network): asynchronous callers go through a blocking task and keep a snapshot
/// for the hot path. Every implementation passes the module `contract` (feature `contract`).
pub trait PeerStore: Send + Sync {
    /// Adds a peer with its first credential, all or nothing.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`]; [`StoreError::KeyTaken`] if any key or secret of it is in use with another
    /// peer, in either direction and under any profile; or the store fails.
    fn add(&self, peer: NewPeer, now: UnixTime) -> Result<Peer, StoreError>;

    /// Removes a peer and all of its credentials. What they authenticated ends with them.
    ///
    /// # Errors
    /// [`StoreError::NoSuchPeer`], or the store fails.
    fn remove(&self, name: &ServiceName) -> Result<(), StoreError>;

    /// Adds the next credential of a peer, which is accepted at once; the present one stays good as the
    /// [`Overlap`] says. What is over already is retired first. Atomic: of two that try, one succeeds.
    ///
    /// # Errors
    /// [`StoreError::NoSuchPeer`]; [`StoreError::RotationOpen`] if there are two credentials already;
    /// [`StoreError::KeyReused`] and [`StoreError::KeyTaken`] if a key or secret is not new;
    /// [`StoreError::OtherProfile`]; [`StoreError::ChangedMeanwhile`] if it does not follow what [`Next::follows`] says;
    /// or the store fails. Nothing has changed then.
    fn rotate(&self, name: &ServiceName, next: Next, now: UnixTime) -> Result<Peer, StoreError> {
        let _ = (name, next, now);
        Err(StoreError::ReadOnly(READ_ONLY))
    }

    /// Makes a move of a rotation in band (`specs/rotation.md`), together with what it does to the credentials. Atomic; of two that try
    /// the same, one succeeds and the other finds it done.
    ///
    /// # Errors
    /// [`StoreError::NoSuchPeer`]; [`StoreError::Rotation`] if the move cannot be made now; or the store fails. Nothing has changed
    /// then. A wrong `Ok` sends what is not kept, which can lock both sides out of each other.
    fn agree(&self, name: &ServiceName, wanted: &Move, now: UnixTime) -> Result<Moved, StoreError> {
        let _ = (name, wanted, now);
        Err(StoreError::ReadOnly(READ_ONLY))
    }

    /// Ends credentials of a peer and erases their keys and secrets; their numbers. What they authenticated ends
    /// with them. What is over already is retired with them, so that it does not come back when its successor goes.
    /// One that has ended already can still be marked [`Ending::Compromised`]; all of them, if they were revoked.
    ///
    /// # Errors
    /// [`StoreError::NoSuchPeer`], [`StoreError::NoCredential`], [`StoreError::NothingLive`], or the store fails.
    /// A wrong `Ok` leaves somebody in who was shut out.
    fn end(
        &self,
        name: &ServiceName,
        which: Which,
        how: Ending,
        now: UnixTime,
    ) -> Result<Vec<u32>, StoreError> {
        let _ = (name, which, how, now);
        Err(StoreError::ReadOnly(READ_ONLY))
    }

    /// Retires the credentials that are refused already ([`Peer::ends`]) and erases them; says which.
    ///
    /// # Errors
    /// The store fails. They are refused all the same: that is decided from their times.
    fn settle(&self, now: UnixTime) -> Result<Vec<CredentialId>, StoreError> {
        let _ = now;
        Ok(Vec::new())
    }

    /// Takes note of uses. A credential's first one says that the peer has it, and changes [`PeerStore::version`];
    /// later ones do not. Uses of what has ended are ignored.
    ///
    /// # Errors
    /// The store fails. What is lost costs a rotation that ends later.
    fn note(&self, uses: &[Use]) -> Result<(), StoreError> {
        let _ = uses;
        Ok(())
    }

    /// Sets how old a credential may get before it is to be rotated, in seconds; `None` for no schedule.
    ///
    /// # Errors
    /// [`StoreError::NoSuchPeer`], or the store fails.
    fn set_schedule(&self, name: &ServiceName, every: Option<u64>) -> Result<(), StoreError> {
        let _ = (name, every);
        Err(StoreError::ReadOnly(READ_ONLY))
    }

    /// One peer. That another one is damaged does not matter.
    ///
    /// # Errors
    /// [`StoreError::NoSuchPeer`], [`StoreError::Damaged`], or the store fails.
    fn get(&self, name: &ServiceName) -> Result<Peer, StoreError>;

    /// All peers, by name, and beside them those that are damaged: one bad record must not shut the other peers
    /// out.
    ///
    /// # Errors
    /// The store fails as a whole.
    fn read_all(&self) -> Result<Listing, StoreError>;

    /// All peers, by name, for whoever cannot do with less.
    ///
    /// # Errors
    /// The first damaged peer, or the store fails.
    fn list(&self) -> Result<Vec<Peer>, StoreError> {
        let Listing { peers, damaged } = self.read_all()?;
        damaged.into_iter().next().map_or(Ok(peers), Err)
    }

    /// A number that differs from the last one if anything changed since that decides who is let in, by whichever
    /// process. Cheap: it is asked many times a second. A change missed here keeps a removed peer alive.
    ///
    /// # Errors
    /// The store fails, or is no longer the one that was opened.
    fn version(&self) -> Result<u64, StoreError>;

    /// Set while the peers come from a copy, because the place where they are kept cannot be asked.
    fn stale(&self) -> Option<Stale> {
        None
    }

    /// The key under which this store hashes API keys and secrets.
    fn lookup_key(&self) -> &LookupKey;
}
