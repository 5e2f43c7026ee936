use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::server::Pair;
use countersign_protocol::cs1::{Binding, PairKeys, SessionKeys};
use countersign_protocol::identity::{ApiKey, CredentialId, Profile};
use countersign_protocol::lookup::{LookupHash, LookupKey};
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;
use countersign_protocol::shared_secret::server::{Candidate, Holders};
use countersign_store::{
    Credential, Cs1Options, Ended, Ending, Keys, Listing, Mixed, Peer, PeerStore, ReplayShare, StoreError,
};

use super::ages::Age;
use super::uses::Mark;

/// All peers at one moment, with their HMAC keys prepared: what the hot path reads.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) version: u64,
    lookup: LookupKey,
    inbound: HashMap<LookupHash, Inbound>,
    own: HashSet<LookupHash>,
    /// By unique id.
    live: HashMap<[u8; 16], Arc<Identified>, Mixed>,
    /// The greatest number of live credentials that share one key: what each attempt costs.
    pub(super) macs: usize,
    /// When the first credential ends that has not ended yet.
    pub(super) next_end: Option<UnixTime>,
    pub(super) ages: Vec<Age>,
    /// Peers that may confirm a rotation in band.
    pub(super) rotating: Vec<Peer>,
    /// What was said of the peers that are left out.
    damaged: Vec<String>,
}

/// What a presented key stands for.
#[derive(Debug)]
enum Inbound {
    /// By number, as the next.
    Cs1(Vec<Arc<Cs1Credential>>),
    /// By number; an older one ends before a newer one does.
    SharedSecret(Vec<Arc<SharedSecretCredential>>),
    ApiKey(Arc<Identified>),
    Ended(CredentialId, Profile, Ending),
}

/// A credential that somebody may prove to have.
#[derive(Debug)]
pub(super) struct Identified {
    pub(super) id: CredentialId,
    pub(super) uid: [u8; 16],
    pub(super) profile: Profile,
    /// From then on it is refused, whether or not anybody has tidied up.
    ends: Option<UnixTime>,
    pub(super) mark: Arc<Mark>,
    /// Of the log of used nonces; all credentials of the peer have one.
    pub(super) share: Arc<ReplayShare>,
}

impl Identified {
    fn lives(&self, now: UnixTime) -> bool {
        self.ends.is_none_or(|end| now < end)
    }
}

/// A guide-1 credential, ready to verify with and to answer with.
#[derive(Debug)]
pub(super) struct SharedSecretCredential {
    pub(super) who: Arc<Identified>,
    their_secret: MacKey,
    pub(super) our_key: ApiKey,
    pub(super) our_secret: MacKey,
}

/// A `cs1` credential, for calls from the peer to us.
#[derive(Debug)]
pub(super) struct Cs1Credential {
    pub(super) who: Arc<Identified>,
    keys: PairKeys,
    /// S.
    our_key: ApiKey,
    options: Cs1Options,
}

impl Cs1Credential {
    /// The keys for requests without a handshake, if they are taken from this peer (CS-40).
    pub(super) fn direct(&self) -> Option<&SessionKeys> {
        let Cs1Options { binding, danger_direct } = self.options;
        (danger_direct && binding == Binding::None).then(|| self.keys.direct())
    }
}

impl Candidate for Cs1Credential {
    fn mac_key(&self) -> &MacKey {
        self.keys.mac_key()
    }
}

impl Pair for Cs1Credential {
    fn keys(&self) -> &PairKeys {
        &self.keys
    }

    fn binding(&self) -> Binding {
        self.options.binding
    }
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
    holder: Holder<'a>,
    own: bool,
}

#[derive(Clone, Copy, Debug)]
enum Holder<'a> {
    Cs1(&'a [Arc<Cs1Credential>]),
    SharedSecret(&'a [Arc<SharedSecretCredential>]),
    ApiKey(&'a Arc<Identified>),
    Ended(&'a CredentialId, Profile, Ending),
    Nobody,
}

impl Snapshot {
    /// Reads the store. The version is taken first: a change in between is seen next time. Damaged peers are left
    /// out, as if they were removed; the others go on. What `before` knew of uses is kept.
    pub(super) fn read(store: &dyn PeerStore, before: Option<&Self>) -> Result<Self, StoreError> {
        let version = store.version()?;
        let mut snapshot = Self {
            version,
            lookup: store.lookup_key().clone(),
            inbound: HashMap::new(),
            own: HashSet::new(),
            live: HashMap::default(),
            macs: 1,
            next_end: None,
            ages: Vec::new(),
            rotating: Vec::new(),
            damaged: Vec::new(),
        };
        let Listing { peers, damaged } = store.read_all()?;
        for error in damaged.iter().map(ToString::to_string) {
            // Said again only when it is news: the store is read whenever anything changes.
            if before.is_none_or(|before| !before.damaged.contains(&error)) {
                tracing::error!(%error, "a peer is left out");
            }
            snapshot.damaged.push(error);
        }
        for peer in &peers {
            snapshot.ages.extend(Age::of(peer));
            snapshot.rotating.extend(peer.has_answered().then(|| peer.clone()));
            let known = |one: &Credential| before?.live.get(&one.uid).map(|who| Arc::clone(&who.share));
            let share = peer.credentials.iter().find_map(known).unwrap_or_default();
            for credential in &peer.credentials {
                snapshot.add(peer, credential, before, &share);
            }
        }
        // Last, so that what has ended never takes the place of what lives.
        for peer in &peers {
            for ended in &peer.ended {
                snapshot.add_ended(peer, ended);
            }
        }
        Ok(snapshot)
    }

    fn add(&mut self, peer: &Peer, credential: &Credential, before: Option<&Self>, share: &Arc<ReplayShare>) {
        let known = before.and_then(|before| before.live.get(&credential.uid));
        let mark = known.map_or_else(|| Mark::of(credential), |who| who.mark.follow(credential));
        let ends = peer.ends(credential);
        self.next_end = [self.next_end, ends].into_iter().flatten().min();
        let who = Arc::new(Identified {
            id: credential.id(&peer.name),
            uid: credential.uid,
            profile: peer.profile,
            ends,
            mark,
            share: Arc::clone(share),
        });
        self.live.insert(credential.uid, Arc::clone(&who));
        match &credential.keys {
            Keys::Cs1 { our_key, their_key, secret } => {
                self.own.insert(self.lookup.hash(our_key.expose()));
                let credential = Arc::new(Cs1Credential {
                    who,
                    keys: PairKeys::derive(secret, their_key, our_key),
                    our_key: our_key.clone(),
                    options: peer.cs1,
                });
                let hash = self.lookup.hash(their_key.expose());
                let inbound = self.inbound.entry(hash).or_insert_with(|| Inbound::Cs1(Vec::new()));
                if let Inbound::Cs1(credentials) = inbound {
                    credentials.push(credential);
                    self.macs = self.macs.max(credentials.len());
                }
            }
            Keys::SharedSecret { our_key, their_key, our_secret, their_secret } => {
                self.own.insert(self.lookup.hash(our_key.expose()));
                let credential = Arc::new(SharedSecretCredential {
                    who,
                    their_secret: their_secret.mac_key(),
                    our_key: our_key.clone(),
                    our_secret: our_secret.mac_key(),
                });
                let hash = self.lookup.hash(their_key.expose());
                let inbound = self.inbound.entry(hash).or_insert_with(|| Inbound::SharedSecret(Vec::new()));
                if let Inbound::SharedSecret(credentials) = inbound {
                    credentials.push(credential);
                    self.macs = self.macs.max(credentials.len());
                }
            }
            Keys::ApiKey { ours, theirs } => {
                self.own.extend(ours.as_ref().map(|key| self.lookup.hash(key.expose())));
                if let Some(hash) = theirs {
                    self.inbound.insert(*hash, Inbound::ApiKey(who));
                }
            }
        }
    }

    /// Its key is still recognised, so that the trail can say who came with it. A later credential may have taken
    /// the key over.
    fn add_ended(&mut self, peer: &Peer, ended: &Ended) {
        let Some(hash) = ended.presented else { return };
        let id = CredentialId { peer: peer.name.clone(), number: ended.number };
        let known =
            self.inbound.entry(hash).or_insert_with(|| Inbound::Ended(id.clone(), peer.profile, ended.how));
        if let Inbound::Ended(newest, _, how) = known
            && newest.number < id.number
        {
            (*newest, *how) = (id, ended.how);
        }
    }

    /// Looks a presented key up: one keyed hash, known or not.
    pub(super) fn find(&self, key: &ApiKey, now: UnixTime) -> Found<'_> {
        let hash = self.lookup.hash(key.expose());
        let holder = self.inbound.get(&hash).map_or(Holder::Nobody, |inbound| inbound.at(now));
        Found { hash, holder, own: self.own.contains(&hash) }
    }

    /// The credential with this unique id, if it lives.
    pub(super) fn live(&self, uid: &[u8; 16], now: UnixTime) -> Option<&Arc<Identified>> {
        self.live.get(uid).filter(|who| who.lives(now))
    }

    /// Why a credential that lived a moment ago does not any more; `key` is what it was presented with, if not with a
    /// token.
    pub(super) fn gone(&self, key: Option<LookupHash>, now: UnixTime) -> Refusal {
        let Some(key) = key else { return Refusal::TokenOrphaned };
        match self.inbound.get(&key).map(|inbound| inbound.at(now)) {
            Some(Holder::Ended(_, _, how)) => over(how),
            // The peer was removed, or a later credential has the same key.
            Some(_) => Refusal::CredentialRetired,
            None => Refusal::UnknownKey,
        }
    }

    /// All credentials that were live when this was read.
    pub(super) fn credentials(&self) -> impl Iterator<Item = &Identified> {
        self.live.values().map(|who| &**who)
    }
}

impl Inbound {
    /// What it stands for now: time may have ended a credential since the store was read.
    fn at(&self, now: UnixTime) -> Holder<'_> {
        match self {
            Self::Cs1(credentials) => of_several(credentials, now, |one| &one.who, Holder::Cs1),
            Self::SharedSecret(credentials) => {
                of_several(credentials, now, |one| &one.who, Holder::SharedSecret)
            }
            Self::ApiKey(who) if who.lives(now) => Holder::ApiKey(who),
            Self::ApiKey(who) => Holder::retired(who),
            Self::Ended(id, profile, how) => Holder::Ended(id, *profile, *how),
        }
    }
}

/// Those of several credentials that live; else the last one, which is over.
fn of_several<'a, C>(
    credentials: &'a [Arc<C>],
    now: UnixTime,
    who: impl Fn(&'a C) -> &'a Arc<Identified>,
    live: impl Fn(&'a [Arc<C>]) -> Holder<'a>,
) -> Holder<'a> {
    let over = credentials.iter().take_while(|one| !who(one).lives(now)).count();
    match (credentials.get(over..), credentials.last()) {
        (Some(rest), _) if !rest.is_empty() => live(rest),
        (_, Some(last)) => Holder::retired(who(last)),
        (_, None) => Holder::Nobody,
    }
}

impl<'a> Holder<'a> {
    fn retired(who: &'a Identified) -> Self {
        Self::Ended(&who.id, who.profile, Ending::Retired)
    }
}

impl<'a> Found<'a> {
    /// Who may prove himself as the client of this pair under `cs1`: C is what was looked up, S is `server` (CS-14).
    pub(super) fn cs1(&self, server: &ApiKey) -> Result<Vec<Arc<Cs1Credential>>, Refusal> {
        match self.holder {
            Holder::Cs1(credentials) => {
                let of_pair = |one: &&Arc<Cs1Credential>| one.our_key == *server;
                let pairs: Vec<_> = credentials.iter().filter(of_pair).cloned().collect();
                if pairs.is_empty() { Err(Refusal::UnknownKey) } else { Ok(pairs) }
            }
            Holder::SharedSecret(_) | Holder::ApiKey(_) => Err(Refusal::WrongProfile),
            Holder::Ended(_, _, how) => Err(over(how)),
            Holder::Nobody => Err(self.nobody()),
        }
    }

    /// Who may have signed with this key under guide 1.
    pub(super) fn shared_secret(&self) -> Holders<'a, Arc<SharedSecretCredential>> {
        match self.holder {
            Holder::SharedSecret(credentials) => Holders::Live(credentials),
            Holder::Cs1(_) | Holder::ApiKey(_) => Holders::Nobody(Refusal::WrongProfile),
            Holder::Ended(_, _, how) => Holders::Nobody(over(how)),
            Holder::Nobody => Holders::Nobody(self.nobody()),
        }
    }

    /// Whose key this is under guide 2.
    pub(super) fn api_key(&self) -> Result<&'a Arc<Identified>, Refusal> {
        match self.holder {
            Holder::ApiKey(who) => Ok(who),
            Holder::Cs1(_) | Holder::SharedSecret(_) => Err(Refusal::WrongProfile),
            Holder::Ended(_, _, how) => Err(over(how)),
            Holder::Nobody => Err(self.nobody()),
        }
    }

    pub(super) fn profile(&self) -> Option<Profile> {
        match self.holder {
            Holder::Cs1(_) => Some(Profile::Cs1),
            Holder::SharedSecret(_) => Some(Profile::SharedSecret),
            Holder::ApiKey(_) => Some(Profile::ApiKey),
            Holder::Ended(_, profile, _) => Some(profile),
            Holder::Nobody => None,
        }
    }

    /// What the trail shows in place of the key: the newest credential that has it, or a short hash.
    pub(super) fn named(&self) -> (Option<String>, String) {
        let id = match self.holder {
            Holder::Cs1(credentials) => credentials.last().map(|one| &one.who.id),
            Holder::SharedSecret(credentials) => credentials.last().map(|one| &one.who.id),
            Holder::ApiKey(who) => Some(&who.id),
            Holder::Ended(id, _, _) => Some(id),
            Holder::Nobody => None,
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

/// Why the trail says that a credential is not good any more.
const fn over(how: Ending) -> Refusal {
    match how {
        Ending::Retired | Ending::Abandoned | Ending::GivenUp => Refusal::CredentialRetired,
        Ending::Revoked => Refusal::CredentialRevoked,
        Ending::Compromised => Refusal::CredentialCompromised,
    }
}
