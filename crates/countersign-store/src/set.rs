//! Peers in memory and the rules for changing them, for every store that keeps all of them together.

use std::collections::{BTreeMap, HashMap};

use countersign_protocol::UnixTime;
use countersign_protocol::identity::{CredentialId, ServiceName};
use countersign_protocol::lookup::{LookupHash, LookupKey};

use crate::lifecycle::{Ending, Next, Use, Which};
use crate::{Move, Moved, NewPeer, Peer, StoreError};

/// Peers by name, and whose each key and secret is. A change happens as a whole or not at all. No I/O.
#[derive(Clone, Debug)]
pub struct PeerSet {
    lookup: LookupKey,
    peers: BTreeMap<ServiceName, Peer>,
    taken: HashMap<LookupHash, ServiceName>,
}

impl PeerSet {
    /// An empty set that hashes keys and secrets under `lookup`.
    #[must_use]
    pub fn new(lookup: LookupKey) -> Self {
        Self { lookup, peers: BTreeMap::new(), taken: HashMap::new() }
    }

    /// The set of `peers` as a store kept them.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] or [`StoreError::KeyTaken`] if two of them have one name, key or secret.
    pub fn of(lookup: LookupKey, peers: impl IntoIterator<Item = Peer>) -> Result<Self, StoreError> {
        let mut set = Self::new(lookup);
        for peer in peers {
            set.insert(peer)?;
        }
        Ok(set)
    }

    /// Adds a peer with its first credential.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`]; [`StoreError::KeyTaken`] if any key or secret of it is in use with another peer.
    pub fn add(&mut self, peer: NewPeer, now: UnixTime) -> Result<Peer, StoreError> {
        let (peer, _) = peer.into_peer(&self.lookup, now)?;
        self.insert(peer.clone())?;
        Ok(peer)
    }

    /// Removes a peer and frees its name, keys and secrets.
    ///
    /// # Errors
    /// [`StoreError::NoSuchPeer`].
    pub fn remove(&mut self, name: &ServiceName) -> Result<(), StoreError> {
        self.peers.remove(name).ok_or_else(|| StoreError::NoSuchPeer(name.clone()))?;
        self.taken.retain(|_, owner| owner != name);
        Ok(())
    }

    /// Adds the next credential of a peer.
    ///
    /// # Errors
    /// As [`crate::PeerStore::rotate`].
    pub fn rotate(&mut self, name: &ServiceName, next: Next, now: UnixTime) -> Result<Peer, StoreError> {
        let mut peer = self.get(name)?;
        let hashes = peer.rotate(next, now, &self.lookup)?;
        if let Some(owner) = hashes.iter().find_map(|hash| self.taken.get(hash)) {
            return Err(StoreError::KeyTaken(owner.clone()));
        }
        self.taken.extend(hashes.into_iter().map(|hash| (hash, name.clone())));
        self.peers.insert(name.clone(), peer.clone());
        Ok(peer)
    }

    /// Makes a move of a rotation in band.
    ///
    /// # Errors
    /// As [`crate::PeerStore::agree`].
    pub fn agree(&mut self, name: &ServiceName, wanted: &Move, now: UnixTime) -> Result<Moved, StoreError> {
        let mut peer = self.get(name)?;
        let (moved, hashes) = peer.agree(wanted, now, &self.lookup)?;
        if let Some(owner) = hashes.iter().find_map(|hash| self.taken.get(hash)) {
            return Err(StoreError::KeyTaken(owner.clone()));
        }
        let all = peer.all_hashes(&self.lookup);
        self.taken.retain(|hash, owner| owner != name || all.contains(hash));
        self.taken.extend(hashes.into_iter().map(|hash| (hash, name.clone())));
        self.peers.insert(name.clone(), peer);
        Ok(moved)
    }

    /// Ends credentials of a peer, and gives their numbers.
    ///
    /// # Errors
    /// As [`crate::PeerStore::end`].
    pub fn end(
        &mut self,
        name: &ServiceName,
        which: Which,
        how: Ending,
        now: UnixTime,
    ) -> Result<Vec<u32>, StoreError> {
        let mut peer = self.get(name)?;
        let numbers = peer.end(which, how, now, &self.lookup)?;
        self.peers.insert(name.clone(), peer);
        Ok(numbers)
    }

    /// Ends, at `now`, a credential that was meant to end at `at`.
    #[cfg(feature = "vault")]
    pub(crate) fn end_later(
        &mut self,
        name: &ServiceName,
        number: u32,
        how: Ending,
        at: UnixTime,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let mut peer = self.get(name)?;
        peer.end_later(Which::Number(number), how, at, now, &self.lookup)?;
        self.peers.insert(name.clone(), peer);
        Ok(())
    }

    /// Retires what is refused already, and says what that was.
    pub fn settle(&mut self, now: UnixTime) -> Vec<CredentialId> {
        let lookup = &self.lookup;
        let settled = self.peers.values_mut().flat_map(|peer| {
            let numbers = peer.settle(now, lookup);
            let name = peer.name.clone();
            numbers.into_iter().map(move |number| CredentialId { peer: name.clone(), number })
        });
        settled.collect()
    }

    /// Takes note of uses; `true` if one of them was a peer's first of its credential.
    pub fn note(&mut self, uses: &[Use]) -> bool {
        let mut first = false;
        for used in uses {
            for peer in self.peers.values_mut() {
                first |= peer.note(used);
            }
        }
        first
    }

    /// Sets a peer's schedule.
    ///
    /// # Errors
    /// [`StoreError::NoSuchPeer`].
    pub fn set_schedule(&mut self, name: &ServiceName, every: Option<u64>) -> Result<(), StoreError> {
        let peer = self.peers.get_mut(name).ok_or_else(|| StoreError::NoSuchPeer(name.clone()))?;
        peer.rotate_every = every;
        Ok(())
    }

    /// One peer.
    ///
    /// # Errors
    /// [`StoreError::NoSuchPeer`].
    pub fn get(&self, name: &ServiceName) -> Result<Peer, StoreError> {
        self.peers.get(name).cloned().ok_or_else(|| StoreError::NoSuchPeer(name.clone()))
    }

    /// All peers, by name.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// The key under which keys and secrets are hashed.
    #[must_use]
    pub const fn lookup_key(&self) -> &LookupKey {
        &self.lookup
    }

    /// Adds to every live credential what is known of it elsewhere.
    #[cfg(feature = "vault")]
    pub(crate) fn complete(&mut self, mut complete: impl FnMut(&mut crate::Credential)) {
        self.peers.values_mut().for_each(|peer| peer.complete(&mut complete));
    }

    /// Puts a peer in as it is.
    pub(crate) fn insert(&mut self, peer: Peer) -> Result<(), StoreError> {
        if self.peers.contains_key(&peer.name) {
            return Err(StoreError::NameTaken(peer.name));
        }
        let live = peer.credentials.iter().flat_map(|credential| credential.keys.hashes(&self.lookup));
        let ended = peer.ended.iter().flat_map(|ended| ended.hashes.iter().copied());
        let hashes: Vec<LookupHash> = live.chain(ended).collect();
        if let Some(owner) = hashes.iter().find_map(|hash| self.taken.get(hash)) {
            return Err(StoreError::KeyTaken(owner.clone()));
        }
        self.taken.extend(hashes.into_iter().map(|hash| (hash, peer.name.clone())));
        self.peers.insert(peer.name.clone(), peer);
        Ok(())
    }
}

#[cfg(all(test, feature = "contract"))]
mod tests {
    use super::*;
    use crate::contract::{key, shared_secret_peer};
    use crate::{NewKeys, Trust};

    const NOW: UnixTime = UnixTime(1_700_000_000);

    #[test]
    fn a_set_made_of_its_peers_again_refuses_the_same_keys() {
        let mut set = PeerSet::new(LookupKey::new(&zeroize::Zeroizing::new([7; 32])));
        set.add(shared_secret_peer("billing", 1), NOW).unwrap();
        let inbound = NewPeer {
            name: "orders".parse().unwrap(),
            url: None,
            trust: Trust::System,
            danger_unproven_server: false,
            cs1: Default::default(),
            keys: NewKeys::api_key(None, Some(key(3))).unwrap(),
        };
        set.add(inbound, NOW).unwrap();
        let mut again = PeerSet::of(set.lookup_key().clone(), set.peers().cloned()).unwrap();
        for (seed, owner) in [(1, "billing"), (3, "orders")] {
            let refused = again.add(shared_secret_peer("third", seed), NOW);
            assert!(matches!(refused, Err(StoreError::KeyTaken(name)) if name.as_str() == owner), "{seed}");
        }
        let doubled = set.peers().chain(set.peers()).cloned();
        assert!(matches!(
            PeerSet::of(LookupKey::new(&zeroize::Zeroizing::new([7; 32])), doubled),
            Err(StoreError::NameTaken(_))
        ));
    }
}
