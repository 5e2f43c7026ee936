//! Peers that are declared in a configuration, with their keys and secrets in the environment, in files or in systemd
//! credentials. Nothing is written there; what has to be remembered (numbers, uses) is kept in the local store.
//!
//! A credential is known by its keys: as long as they stay, so do its number and its tokens; when a file changes,
//! the credential is another one, with the next number.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use countersign_protocol::UnixTime;
use countersign_protocol::identity::{ApiKey, FormError, Profile, ServiceName};
use countersign_protocol::lookup::LookupKey;
use countersign_protocol::secret::SharedSecret;

use crate::lifecycle::Use;
use crate::origin::{Modes, Origin};
use crate::sqlite::SqliteStore;
use crate::{
    Agreement, Credential, Cs1Options, DeclaredError, Listing, NewKeys, NewPeer, Peer, PeerSet, PeerStore,
    READ_ONLY, StoreError, Trust,
};

/// How often files are read again to see whether they have changed.
const REREAD: Duration = Duration::from_millis(300);

/// A peer as it is declared.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Its name here.
    pub name: ServiceName,
    /// Where it serves, if we call it.
    pub url: Option<String>,
    /// How its certificate is judged.
    pub trust: Trust,
    /// Whether we go on with a server that does not prove itself (danger).
    pub danger_unproven_server: bool,
    /// What is agreed for the profile `cs1`.
    pub cs1: Cs1Options,
    /// How old a credential may get before it is to be changed, in seconds.
    pub rotate_every: Option<u64>,
    /// Its keys.
    pub keys: DeclaredKeys,
    /// Those that are to follow: accepted beside the others as soon as all of them are there.
    pub next: Option<DeclaredKeys>,
}

/// Where the keys of one credential are.
#[derive(Clone, Debug)]
pub enum DeclaredKeys {
    /// Countersign protocol 1. The API keys are public.
    Cs1 {
        /// What we present to the peer.
        our_key: Given,
        /// What the peer presents to us.
        their_key: Given,
        /// The one secret of the pair.
        secret: Origin,
    },
    /// Guide 1. The API keys are public.
    SharedSecret {
        /// What we present to the peer.
        our_key: Given,
        /// What the peer presents to us.
        their_key: Given,
        /// What we prove ourselves with.
        our_secret: Origin,
        /// What the peer proves itself with; the same place where the pair has one secret.
        their_secret: Origin,
    },
    /// Guide 2: one key per direction, either may be absent.
    ApiKey {
        /// What we present to the peer, and sign with.
        ours: Option<Origin>,
        /// What the peer presents to us.
        theirs: Option<Origin>,
    },
}

impl DeclaredKeys {
    const fn profile(&self) -> Profile {
        match self {
            Self::Cs1 { .. } => Profile::Cs1,
            Self::SharedSecret { .. } => Profile::SharedSecret,
            Self::ApiKey { .. } => Profile::ApiKey,
        }
    }
}

/// A public API key, or where it is.
#[derive(Clone, Debug)]
pub enum Given {
    /// It stands in the configuration.
    Here(ApiKey),
    /// It is read from there.
    From(Origin),
}

/// Declared peers. Files are read again when they change.
#[derive(Debug)]
pub struct DeclaredStore {
    declared: Vec<Declared>,
    modes: Modes,
    local: Arc<SqliteStore>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    digest: u64,
    version: u64,
}

impl DeclaredStore {
    /// The store of these peers, with the local store in which numbers and uses are kept.
    #[must_use]
    pub fn new(declared: Vec<Declared>, modes: Modes, local: Arc<SqliteStore>) -> Self {
        Self { declared, modes, local, seen: Mutex::default() }
    }

    fn resolve(&self) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        let mut set = PeerSet::new(self.local.lookup_key().clone());
        for declared in &self.declared {
            match self
                .peer(declared)
                .and_then(|peer| set.insert(peer).map_err(|error| taken(declared, error)))
            {
                Ok(()) => {}
                Err(error) => listing.damaged.push(error),
            }
        }
        listing.peers = set.peers().cloned().collect();
        self.complete(&mut listing.peers)?;
        Ok(listing)
    }

    fn peer(&self, declared: &Declared) -> Result<Peer, StoreError> {
        let mut keys = vec![self.keys(declared, &declared.keys)?];
        if let Some(next) = &declared.next {
            match self.keys(declared, next) {
                Ok(next) => keys.push(next),
                // It has not been put there yet.
                Err(StoreError::Declared { error: DeclaredError::Origin(error), .. })
                    if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        let mut peer = Peer {
            name: declared.name.clone(),
            profile: declared.keys.profile(),
            url: declared.url.clone(),
            trust: declared.trust.clone(),
            danger_unproven_server: declared.danger_unproven_server,
            cs1: declared.cs1,
            created: UnixTime::default(),
            rotate_every: declared.rotate_every,
            agreement: Agreement::default(),
            credentials: Vec::new(),
            ended: Vec::new(),
        };
        for keys in keys {
            let fingerprint = keys.fingerprint();
            let uid = uid(self.lookup_key(), &declared.name, fingerprint.as_str());
            // The next ones may have been put in the place of the present ones already.
            if peer.credentials.iter().all(|one| one.uid != uid) {
                let keys = keys.into_keys(self.lookup_key());
                let mut credential = Credential::new(0, UnixTime::default(), fingerprint, keys);
                credential.uid = uid;
                peer.credentials.push(credential);
            }
        }
        Ok(peer)
    }

    fn keys(&self, declared: &Declared, keys: &DeclaredKeys) -> Result<NewKeys, StoreError> {
        let failed = |what, error| StoreError::Declared { peer: declared.name.clone(), what, error };
        let key = |given: &Given, what| match given {
            Given::Here(key) => Ok(key.clone()),
            Given::From(origin) => self.read(origin).map_err(|error| failed(what, error)),
        };
        let secret = |origin: &Origin, what| -> Result<SharedSecret, StoreError> {
            self.read(origin).map_err(|error| failed(what, error))
        };
        let checked = match keys {
            DeclaredKeys::Cs1 { our_key, their_key, secret: origin } => {
                let (our_key, their_key) = (key(our_key, "our key")?, key(their_key, "their key")?);
                NewKeys::cs1(our_key, their_key, secret(origin, "the secret")?)
            }
            DeclaredKeys::SharedSecret { our_key, their_key, our_secret, their_secret } => {
                let (our_key, their_key) = (key(our_key, "our key")?, key(their_key, "their key")?);
                let same = our_secret == their_secret;
                let ours = secret(our_secret, if same { "the secret" } else { "our secret" })?;
                let theirs = if same { ours.clone() } else { secret(their_secret, "their secret")? };
                NewKeys::shared_secret(our_key, their_key, ours, theirs)
            }
            DeclaredKeys::ApiKey { ours, theirs } => {
                let key = |origin: &Option<Origin>, what| {
                    let read = origin.as_ref().map(|origin| self.read(origin));
                    read.transpose().map_err(|error| failed(what, error))
                };
                NewKeys::api_key(key(ours, "our key")?, key(theirs, "their key")?)
            }
        };
        checked.map_err(|error| failed("its keys", error.into()))
    }

    fn read<T: FromStr<Err = FormError>>(&self, origin: &Origin) -> Result<T, DeclaredError> {
        let text = origin.read(self.modes, |name| std::env::var_os(name))?;
        text.parse().map_err(|error| DeclaredError::Form { origin: origin.clone(), error })
    }

    /// Numbers the credentials, and adds what is known of their age and use.
    fn complete(&self, peers: &mut [Peer]) -> Result<(), StoreError> {
        let mut known = self.local.known_elsewhere()?;
        let new: Vec<_> = peers
            .iter()
            .flat_map(|peer| peer.credentials.iter().map(|credential| (&peer.name, credential.uid)))
            .filter(|(_, uid)| known.get(uid).is_none_or(|known| known.number.is_none()))
            .collect();
        if !new.is_empty() {
            self.local.number(&new, now())?;
            known = self.local.known_elsewhere()?;
        }
        for peer in peers {
            for credential in &mut peer.credentials {
                let Some(known) = known.get(&credential.uid) else { continue };
                credential.number = known.number.unwrap_or_default();
                credential.created = known.since;
                known.complete(credential);
            }
            peer.credentials.sort_by_key(|credential| credential.number);
            let first = peer.credentials.iter().map(|credential| credential.created).min();
            peer.created = first.unwrap_or_default();
        }
        Ok(())
    }
}

/// Whose keys they are and what they are, under a key of this service.
fn uid(lookup: &LookupKey, peer: &ServiceName, fingerprint: &str) -> [u8; 16] {
    let hash = lookup.hash(&format!("credential of {peer}: {fingerprint}"));
    let mut uid = [0; 16];
    uid.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    uid
}

fn taken(declared: &Declared, error: StoreError) -> StoreError {
    match error {
        StoreError::KeyTaken(owner) => StoreError::Declared {
            peer: declared.name.clone(),
            what: "one of its keys or secrets",
            error: DeclaredError::Taken(owner),
        },
        other => other,
    }
}

fn now() -> UnixTime {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(now.map_or(0, |now| now.as_secs()))
}

/// What decides who is let in, as a number.
fn digest(listing: &Listing) -> u64 {
    let mut hasher = DefaultHasher::new();
    for peer in &listing.peers {
        peer.name.hash(&mut hasher);
        for credential in &peer.credentials {
            (credential.uid, credential.number, credential.confirmed.is_some()).hash(&mut hasher);
        }
    }
    for damaged in &listing.damaged {
        damaged.to_string().hash(&mut hasher);
    }
    hasher.finish()
}

impl PeerStore for DeclaredStore {
    fn add(&self, _peer: NewPeer, _now: UnixTime) -> Result<Peer, StoreError> {
        Err(StoreError::ReadOnly(READ_ONLY))
    }

    fn remove(&self, _name: &ServiceName) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly(READ_ONLY))
    }

    fn note(&self, uses: &[Use]) -> Result<(), StoreError> {
        let peers = self.resolve()?.peers;
        let live = |used: &&Use| peers.iter().any(|peer| peer.has(used));
        let uses: Vec<Use> = uses.iter().filter(live).copied().collect();
        self.local.note_elsewhere(&uses)?;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).at = None;
        Ok(())
    }

    fn get(&self, name: &ServiceName) -> Result<Peer, StoreError> {
        let Listing { peers, damaged } = self.resolve()?;
        if let Some(peer) = peers.into_iter().find(|peer| peer.name == *name) {
            return Ok(peer);
        }
        let of_this = |error: &StoreError| matches!(error, StoreError::Declared { peer, .. } if peer == name);
        Err(damaged.into_iter().find(of_this).unwrap_or_else(|| StoreError::NoSuchPeer(name.clone())))
    }

    fn read_all(&self) -> Result<Listing, StoreError> {
        self.resolve()
    }

    fn version(&self) -> Result<u64, StoreError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.at.is_none_or(|at| at.elapsed() >= REREAD) {
            let digest = digest(&self.resolve()?);
            if seen.at.is_none() && seen.version == 0 || digest != seen.digest {
                seen.version += 1;
            }
            (seen.at, seen.digest) = (Some(Instant::now()), digest);
        }
        Ok(seen.version)
    }

    fn lookup_key(&self) -> &LookupKey {
        self.local.lookup_key()
    }
}
