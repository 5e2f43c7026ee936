//! Where Countersign keeps its state.
//!
//! | state | where | what a wrong answer costs |
//! |---|---|---|
//! | peers and their secrets | [`PeerStore`]: [`MemoryStore`], [`sqlite::SqliteStore`] | a stranger is let in, or a peer shut out |
//! | burned challenges | [`ReplayLog`], in memory | a replay passes |
//! | outstanding guide-2 challenges | [`Outstanding`], in memory | a replay passes, or an honest caller starts again |
//! | rate limits | [`Limiter`], in memory | a brute force goes on, or an honest caller waits |
//!
//! What is in memory dies with the process, and so do the keys that the challenges were made with: nothing
//! answered before a restart can be answered again after it.
//!
//! Secrets at rest are sealed under a random data key, which the [`master::MasterKey`] wraps.

#[cfg(feature = "contract")]
pub mod contract;
mod error;
pub mod file;
mod limiter;
pub mod master;
mod memory;
mod outstanding;
mod peer;
mod random;
mod replay;
mod set;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use error::StoreError;
pub use limiter::{Limiter, Quota};
pub use memory::MemoryStore;
pub use outstanding::{Outstanding, Spent, TooMany};
pub use peer::{Credential, Keys, KeysError, Listing, NewKeys, NewPeer, Peer, PinError, Trust};
pub use random::random;
pub use replay::{ClaimError, ReplayLog};
pub use set::PeerSet;

use countersign_protocol::UnixTime;
use countersign_protocol::identity::ServiceName;
use countersign_protocol::lookup::LookupKey;

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

    /// A number that differs from the last one if anything changed since, by whichever process. Cheap: it is
    /// asked several times a second. A change missed here keeps a removed peer alive.
    ///
    /// # Errors
    /// The store fails, or is no longer the one that was opened.
    fn version(&self) -> Result<u64, StoreError>;

    /// The key under which this store hashes API keys and secrets.
    fn lookup_key(&self) -> &LookupKey;
}
