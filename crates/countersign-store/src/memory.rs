use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_protocol::UnixTime;
use countersign_protocol::identity::ServiceName;
use countersign_protocol::lookup::{LookupHash, LookupKey};
use zeroize::Zeroizing;

use crate::{Listing, NewPeer, Peer, PeerStore, StoreError, random};

/// Peers in memory: for tests, and for services that read their secrets elsewhere at every start.
#[derive(Debug)]
pub struct MemoryStore {
    lookup: LookupKey,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    peers: BTreeMap<ServiceName, Peer>,
    taken: HashMap<LookupHash, ServiceName>,
    version: u64,
}

impl MemoryStore {
    /// An empty store with a random lookup key.
    #[must_use]
    pub fn new() -> Self {
        Self { lookup: LookupKey::new(&Zeroizing::new(random())), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made of steps that cannot panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl PeerStore for MemoryStore {
    fn add(&self, peer: NewPeer, now: UnixTime) -> Result<Peer, StoreError> {
        let (peer, hashes) = peer.into_peer(&self.lookup, now);
        let mut state = self.state();
        if state.peers.contains_key(&peer.name) {
            return Err(StoreError::NameTaken(peer.name));
        }
        if let Some(owner) = hashes.iter().find_map(|hash| state.taken.get(hash)) {
            return Err(StoreError::KeyTaken(owner.clone()));
        }
        state.taken.extend(hashes.into_iter().map(|hash| (hash, peer.name.clone())));
        state.peers.insert(peer.name.clone(), peer.clone());
        state.version += 1;
        Ok(peer)
    }

    fn remove(&self, name: &ServiceName) -> Result<(), StoreError> {
        let mut state = self.state();
        state.peers.remove(name).ok_or_else(|| StoreError::NoSuchPeer(name.clone()))?;
        state.taken.retain(|_, owner| owner != name);
        state.version += 1;
        Ok(())
    }

    fn get(&self, name: &ServiceName) -> Result<Peer, StoreError> {
        self.state().peers.get(name).cloned().ok_or_else(|| StoreError::NoSuchPeer(name.clone()))
    }

    fn read_all(&self) -> Result<Listing, StoreError> {
        Ok(Listing { peers: self.state().peers.values().cloned().collect(), damaged: Vec::new() })
    }

    fn version(&self) -> Result<u64, StoreError> {
        Ok(self.state().version)
    }

    fn lookup_key(&self) -> &LookupKey {
        &self.lookup
    }
}
