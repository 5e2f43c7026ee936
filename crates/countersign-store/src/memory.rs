use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_protocol::UnixTime;
use countersign_protocol::identity::{CredentialId, ServiceName};
use countersign_protocol::lookup::LookupKey;
use countersign_protocol::pairing::OfferId;
use zeroize::Zeroizing;

use crate::lifecycle::{Ending, Next, Use, Which};
use crate::pairing::{MAX_OFFERS, Offer, PairingStore};
use crate::{Kept, Listing, Move, Moved, NewPeer, Peer, PeerSet, PeerStore, StateStore, StoreError, random};

/// Peers in memory: for tests, and for services that read their secrets elsewhere at every start.
#[derive(Debug)]
pub struct MemoryStore {
    lookup: LookupKey,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    set: PeerSet,
    version: u64,
    kept: HashMap<crate::State, (UnixTime, Zeroizing<Vec<u8>>)>,
    offers: HashMap<OfferId, Offer>,
}

impl MemoryStore {
    /// An empty store with a random lookup key.
    #[must_use]
    pub fn new() -> Self {
        let lookup = LookupKey::new(&Zeroizing::new(random()));
        let set = PeerSet::new(lookup.clone());
        Self {
            state: Mutex::new(State { set, version: 0, kept: HashMap::new(), offers: HashMap::new() }),
            lookup,
        }
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

impl StateStore for MemoryStore {
    fn keep(&self, state: crate::State, at: UnixTime, bytes: &[u8]) -> Result<(), StoreError> {
        self.state().kept.insert(state, (at, Zeroizing::new(bytes.to_vec())));
        Ok(())
    }

    fn kept(&self, state: crate::State) -> Result<Option<Kept>, StoreError> {
        let kept = self.state().kept.get(&state).cloned();
        Ok(kept.map(|(at, bytes)| Kept { at, bytes }))
    }

    fn has(&self, state: crate::State) -> Result<bool, StoreError> {
        Ok(self.state().kept.contains_key(&state))
    }

    fn forget(&self, state: crate::State) -> Result<(), StoreError> {
        self.state().kept.remove(&state);
        Ok(())
    }
}

impl PairingStore for MemoryStore {
    fn open(&self, offer: &Offer, now: UnixTime) -> Result<bool, StoreError> {
        let offers = &mut self.state().offers;
        offers.retain(|_, known| !known.is_over(now));
        if offers.len() >= MAX_OFFERS {
            return Err(StoreError::TooManyOffers);
        }
        if offers.contains_key(&offer.id) {
            return Ok(false);
        }
        offers.insert(offer.id, offer.clone());
        Ok(true)
    }

    fn offer(&self, id: OfferId) -> Result<Option<Offer>, StoreError> {
        Ok(self.state().offers.get(&id).cloned())
    }

    fn replace(&self, next: &Offer) -> Result<bool, StoreError> {
        let offers = &mut self.state().offers;
        let Some(known) = offers.get_mut(&next.id).filter(|known| known.revision == next.revision) else {
            return Ok(false);
        };
        *known = Offer { revision: next.revision + 1, ..next.clone() };
        Ok(true)
    }

    fn withdraw(&self, id: OfferId) -> Result<(), StoreError> {
        self.state().offers.remove(&id);
        Ok(())
    }
}

impl PeerStore for MemoryStore {
    fn add(&self, peer: NewPeer, now: UnixTime) -> Result<Peer, StoreError> {
        let mut state = self.state();
        let peer = state.set.add(peer, now)?;
        state.version += 1;
        Ok(peer)
    }

    fn remove(&self, name: &ServiceName) -> Result<(), StoreError> {
        let mut state = self.state();
        state.set.remove(name)?;
        state.version += 1;
        Ok(())
    }

    fn rotate(&self, name: &ServiceName, next: Next, now: UnixTime) -> Result<Peer, StoreError> {
        let mut state = self.state();
        let peer = state.set.rotate(name, next, now)?;
        state.version += 1;
        Ok(peer)
    }

    fn agree(&self, name: &ServiceName, wanted: &Move, now: UnixTime) -> Result<Moved, StoreError> {
        let mut state = self.state();
        let moved = state.set.agree(name, wanted, now)?;
        state.version += 1;
        Ok(moved)
    }

    fn end(
        &self,
        name: &ServiceName,
        which: Which,
        how: Ending,
        now: UnixTime,
    ) -> Result<Vec<u32>, StoreError> {
        let mut state = self.state();
        let numbers = state.set.end(name, which, how, now)?;
        state.version += 1;
        Ok(numbers)
    }

    fn settle(&self, now: UnixTime) -> Result<Vec<CredentialId>, StoreError> {
        let mut state = self.state();
        let settled = state.set.settle(now);
        state.version += u64::from(!settled.is_empty());
        Ok(settled)
    }

    fn note(&self, uses: &[Use]) -> Result<(), StoreError> {
        let mut state = self.state();
        let first = state.set.note(uses);
        state.version += u64::from(first);
        Ok(())
    }

    fn set_schedule(&self, name: &ServiceName, every: Option<u64>) -> Result<(), StoreError> {
        let mut state = self.state();
        state.set.set_schedule(name, every)?;
        state.version += 1;
        Ok(())
    }

    fn get(&self, name: &ServiceName) -> Result<Peer, StoreError> {
        self.state().set.get(name)
    }

    fn read_all(&self) -> Result<Listing, StoreError> {
        Ok(Listing { peers: self.state().set.peers().cloned().collect(), damaged: Vec::new() })
    }

    fn version(&self) -> Result<u64, StoreError> {
        Ok(self.state().version)
    }

    fn lookup_key(&self) -> &LookupKey {
        &self.lookup
    }
}
