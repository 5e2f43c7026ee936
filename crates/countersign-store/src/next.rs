//! The keys that follow a peer's present ones.

use countersign_protocol::UnixTime;
use countersign_protocol::fingerprint::Fingerprint;
use countersign_protocol::identity::{ApiKey, Profile};
use countersign_protocol::secret::SharedSecret;

use crate::lifecycle::{Ended, Ending};
use crate::peer::Form;
use crate::peer::subtle_compare::equal;
use crate::{Keys, KeysError, NewKeys, Peer};

/// What the next credential of a peer follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// What lives, and nothing older: whoever had an older one is not to say what comes next.
    Newest(Fingerprint),
    /// Nothing lives; this was the last one that both sides had.
    Ended {
        /// Its number.
        number: u32,
        /// What operators have compared.
        fingerprint: Fingerprint,
        /// How it ended.
        how: Ending,
    },
    /// There never was one.
    Nothing,
}

impl NewKeys {
    /// Fresh random keys in the place of the peer's present ones (or, if all have ended, of its last ones): one
    /// secret or two as there are now, and keys for the same directions. With `keep_api_keys`, those of
    /// `cs1` and `shared-secret` stay if there are any, and the secret alone is new.
    ///
    /// # Errors
    /// [`KeysError`], if a key that stays is none that may be used.
    pub fn following(peer: &Peer, keep_api_keys: bool) -> Result<Self, KeysError> {
        let key = || ApiKey::generate(&crate::random());
        let secret = || SharedSecret::generate(&zeroize::Zeroizing::new(crate::random()));
        let now = peer.credentials.last().map(|credential| &credential.keys);
        match peer.profile {
            Profile::ApiKey => {
                let (ours, theirs) = peer.directions();
                Self::api_key(ours.then(key), theirs.then(key))
            }
            profile => {
                let (our_key, their_key) = match now.and_then(Keys::public) {
                    Some((our_key, their_key)) if keep_api_keys => (our_key.clone(), their_key.clone()),
                    _ => (key(), key()),
                };
                if profile == Profile::Cs1 {
                    return Self::cs1(our_key, their_key, secret());
                }
                let one_each = match now {
                    Some(Keys::SharedSecret { our_secret, their_secret, .. }) => {
                        !equal(our_secret.expose(), their_secret.expose())
                    }
                    // Two keys and two secrets.
                    _ => peer.ended.last().is_some_and(|ended| ended.hashes.len() == 4),
                };
                let ours = secret();
                let theirs = if one_each { secret() } else { ours.clone() };
                Self::shared_secret(our_key, their_key, ours, theirs)
            }
        }
    }

    /// The same keys as the other side holds them.
    #[must_use]
    pub fn exchanged(self) -> Self {
        Self(match self.0 {
            Form::Cs1 { our_key, their_key, secret } => {
                Form::Cs1 { our_key: their_key, their_key: our_key, secret }
            }
            Form::SharedSecret { our_key, their_key, our_secret, their_secret } => Form::SharedSecret {
                our_key: their_key,
                their_key: our_key,
                our_secret: their_secret,
                their_secret: our_secret,
            },
            Form::ApiKey { ours, theirs } => Form::ApiKey { ours: theirs, theirs: ours },
        })
    }

    /// Whether their API keys are those of the peer's newest credential.
    #[must_use]
    pub fn keep_api_keys_of(&self, peer: &Peer) -> bool {
        match (&self.0, peer.api_keys()) {
            (
                Form::Cs1 { our_key, their_key, .. } | Form::SharedSecret { our_key, their_key, .. },
                Some((ours, theirs)),
            ) => our_key == ours && their_key == theirs,
            _ => false,
        }
    }

    /// Whether we can call with them, and whether we can be called.
    #[must_use]
    pub const fn directions(&self) -> (bool, bool) {
        match &self.0 {
            Form::Cs1 { .. } | Form::SharedSecret { .. } => (true, true),
            Form::ApiKey { ours, theirs } => (ours.is_some(), theirs.is_some()),
        }
    }
}

impl Peer {
    /// What its next credential follows.
    #[must_use]
    pub fn basis(&self, now: UnixTime) -> Basis {
        if let Some(newest) = self.accepted(now).last() {
            return Basis::Newest(newest.fingerprint.clone());
        }
        // One that was called off may never have been on the other side.
        match self.ended.iter().rfind(|ended| !ended.how.was_never_common()) {
            Some(Ended { number, fingerprint, how, .. }) => {
                Basis::Ended { number: *number, fingerprint: fingerprint.clone(), how: *how }
            }
            None => Basis::Nothing,
        }
    }

    /// Whether we can call it with its newest credential, and whether it can call us; as it was, if all have ended.
    #[must_use]
    pub fn directions(&self) -> (bool, bool) {
        let now = self.credentials.last().map(|credential| &credential.keys);
        match (now, self.ended.last()) {
            (Some(Keys::ApiKey { ours, theirs }), _) => (ours.is_some(), theirs.is_some()),
            (None, Some(ended)) if self.profile == Profile::ApiKey => {
                let theirs = ended.presented.is_some();
                (ended.hashes.len() > usize::from(theirs), theirs)
            }
            _ => (true, true),
        }
    }

    /// Our API key and theirs in its newest credential, where they are no secrets.
    #[must_use]
    pub fn api_keys(&self) -> Option<(&ApiKey, &ApiKey)> {
        self.credentials.last().and_then(|credential| credential.keys.public())
    }

    /// The fingerprint of the newest credential that both sides had, whether or not that has ended: of those that have,
    /// one that was called off may never have been on the other side.
    #[must_use]
    pub fn newest_fingerprint(&self) -> Option<&Fingerprint> {
        let live = self.credentials.last().map(|one| &one.fingerprint);
        let both_had = self.ended.iter().rfind(|one| !one.how.was_never_common()).or(self.ended.last());
        live.or_else(|| both_had.map(|one| &one.fingerprint))
    }

    /// The number that its next credential gets.
    #[must_use]
    pub fn next_number(&self) -> u32 {
        let live = self.credentials.iter().map(|one| one.number);
        live.chain(self.ended.iter().map(|one| one.number)).max().unwrap_or(0).saturating_add(1)
    }
}
