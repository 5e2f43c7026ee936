use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use countersign_protocol::identity::{ApiKey, CredentialId, Profile};
use countersign_protocol::lookup::{LookupHash, LookupKey};
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;
use countersign_protocol::shared_secret::server::{Candidate, Holders};
use countersign_store::{Keys, Listing, Peer, PeerStore, StoreError};

/// All peers at one moment, with their HMAC keys prepared: what the hot path reads.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) version: u64,
    lookup: LookupKey,
    inbound: HashMap<LookupHash, Inbound>,
    own: HashSet<LookupHash>,
    live: HashMap<[u8; 16], (CredentialId, Profile)>,
    /// The greatest number of live credentials that share one key: what each attempt costs.
    pub(super) macs: usize,
}

#[derive(Debug)]
enum Inbound {
    SharedSecret(Vec<Arc<SharedSecretCredential>>),
    ApiKey(Arc<Identified>),
}

/// A credential that somebody may prove to have.
#[derive(Debug)]
pub(super) struct Identified {
    pub(super) id: CredentialId,
    pub(super) uid: [u8; 16],
}

/// A guide-1 credential, ready to verify with and to answer with.
#[derive(Debug)]
pub(super) struct SharedSecretCredential {
    pub(super) who: Identified,
    their_secret: MacKey,
    pub(super) our_key: ApiKey,
    pub(super) our_secret: MacKey,
}

impl Candidate for SharedSecretCredential {
    fn mac_key(&self) -> &MacKey {
        &self.their_secret
    }
}

/// A presented key, looked up.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) hash: LookupHash,
    inbound: Option<&'a Inbound>,
    own: bool,
}

impl Snapshot {
    /// Reads the store. The version is taken first: a change in between is seen next time. Damaged peers are left
    /// out, as if they were removed; the others go on.
    pub(super) fn read(store: &dyn PeerStore) -> Result<Self, StoreError> {
        let version = store.version()?;
        let mut snapshot = Self {
            version,
            lookup: store.lookup_key().clone(),
            inbound: HashMap::new(),
            own: HashSet::new(),
            live: HashMap::new(),
            macs: 1,
        };
        let Listing { peers, damaged } = store.read_all()?;
        for error in &damaged {
            tracing::error!(%error, "a peer is left out");
        }
        for peer in &peers {
            snapshot.add(peer);
        }
        Ok(snapshot)
    }

    fn add(&mut self, peer: &Peer) {
        for credential in &peer.credentials {
            let who = Identified { id: credential.id(&peer.name), uid: credential.uid };
            self.live.insert(credential.uid, (who.id.clone(), peer.profile));
            match &credential.keys {
                Keys::SharedSecret { our_key, their_key, our_secret, their_secret } => {
                    self.own.insert(self.lookup.hash(our_key.expose()));
                    let credential = Arc::new(SharedSecretCredential {
                        who,
                        their_secret: their_secret.mac_key(),
                        our_key: our_key.clone(),
                        our_secret: our_secret.mac_key(),
                    });
                    let hash = self.lookup.hash(their_key.expose());
                    let inbound =
                        self.inbound.entry(hash).or_insert_with(|| Inbound::SharedSecret(Vec::new()));
                    if let Inbound::SharedSecret(credentials) = inbound {
                        credentials.push(credential);
                        self.macs = self.macs.max(credentials.len());
                    }
                }
                Keys::ApiKey { ours, theirs } => {
                    self.own.extend(ours.as_ref().map(|key| self.lookup.hash(key.expose())));
                    if let Some(hash) = theirs {
                        self.inbound.insert(*hash, Inbound::ApiKey(Arc::new(who)));
                    }
                }
            }
        }
    }

    /// Looks a presented key up: one keyed hash, known or not.
    pub(super) fn find(&self, key: &ApiKey) -> Found<'_> {
        let hash = self.lookup.hash(key.expose());
        Found { hash, inbound: self.inbound.get(&hash), own: self.own.contains(&hash) }
    }

    /// The credential with this unique id, if it lives.
    pub(super) fn live(&self, uid: &[u8; 16]) -> Option<&(CredentialId, Profile)> {
        self.live.get(uid)
    }
}

impl<'a> Found<'a> {
    /// Who may have signed with this key under guide 1.
    pub(super) fn shared_secret(&self) -> Holders<'a, Arc<SharedSecretCredential>> {
        match self.inbound {
            Some(Inbound::SharedSecret(credentials)) => Holders::Live(credentials),
            Some(Inbound::ApiKey(_)) => Holders::Nobody(Refusal::WrongProfile),
            None => Holders::Nobody(self.nobody()),
        }
    }

    /// Whose key this is under guide 2.
    pub(super) fn api_key(&self) -> Result<&'a Arc<Identified>, Refusal> {
        match self.inbound {
            Some(Inbound::ApiKey(who)) => Ok(who),
            Some(Inbound::SharedSecret(_)) => Err(Refusal::WrongProfile),
            None => Err(self.nobody()),
        }
    }

    pub(super) fn profile(&self) -> Option<Profile> {
        match self.inbound? {
            Inbound::SharedSecret(_) => Some(Profile::SharedSecret),
            Inbound::ApiKey(_) => Some(Profile::ApiKey),
        }
    }

    /// What the trail shows in place of the key: the newest credential that has it, or a short hash.
    pub(super) fn named(&self) -> (Option<String>, String) {
        let id = match self.inbound {
            Some(Inbound::SharedSecret(credentials)) => credentials.last().map(|one| &one.who.id),
            Some(Inbound::ApiKey(who)) => Some(&who.id),
            None => None,
        };
        match id {
            Some(id) => (Some(id.peer.to_string()), id.to_string()),
            None => (None, self.hash.unknown_id()),
        }
    }

    fn nobody(&self) -> Refusal {
        if self.own { Refusal::OwnKey } else { Refusal::UnknownKey }
    }
}
