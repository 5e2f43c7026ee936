use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_protocol::UnixTime;
use countersign_protocol::cs1::Binding;
use countersign_protocol::fingerprint::Fingerprint;
use countersign_protocol::identity::{ApiKey, CredentialId, FormError, Profile, ServiceName};
use countersign_protocol::lookup::{LookupHash, LookupKey};
use countersign_protocol::secret::SharedSecret;
use subtle_compare::equal;

use crate::lifecycle::{DEFAULT_ROTATE_EVERY, Ended, Overlap};
use crate::{Agreement, StoreError};

/// Another service that this one talks to.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name here.
    pub name: ServiceName,
    /// How it and we authenticate each other.
    pub profile: Profile,
    /// Where it serves, if we call it.
    pub url: Option<String>,
    /// How its certificate is judged when we call it.
    pub trust: Trust,
    /// Whether we go on with a server that does not prove itself (danger).
    pub danger_unproven_server: bool,
    /// What is agreed for the profile `cs1`; the default for others.
    pub cs1: Cs1Options,
    /// When it was added.
    pub created: UnixTime,
    /// How old a credential may get before it is to be rotated, in seconds; `None` for no schedule. Default:
    /// [`DEFAULT_ROTATE_EVERY`].
    pub rotate_every: Option<u64>,
    /// What we agree on with it in band about its next credential.
    pub agreement: Agreement,
    /// Its credentials that have not ended, by number: one, two during a rotation, none after a revocation.
    pub credentials: Vec<Credential>,
    /// What is left of those that have, by number.
    pub ended: Vec<Ended>,
}

/// What two operators agree on beside the keys of a peer under `cs1`. Never negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cs1Options {
    /// What handshakes and messages are bound to: the same on both sides (CS-31). Default: nothing.
    pub binding: Binding,
    /// Whether requests of this peer are taken that are signed without a handshake, and so without forward secrecy
    /// (CS-40). Not together with a binding. Default: no.
    pub danger_direct: bool,
}

impl Default for Cs1Options {
    fn default() -> Self {
        Self { binding: Binding::None, danger_direct: false }
    }
}

/// All peers of a store, as far as they can be read.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that can be used, by name.
    pub peers: Vec<Peer>,
    /// One error for each of the others, which names it.
    pub damaged: Vec<StoreError>,
}

/// How a peer's TLS certificate is judged. Its name is checked in every case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// By the operating system's certificate authorities.
    System,
    /// By the certificates in this PEM text and no others.
    Ca(String),
    /// By the SHA-256 of its public key (`SubjectPublicKeyInfo`) and nothing else: no chain, no dates.
    Pin([u8; 32]),
}

/// Not `sha256/` and the base64 of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pin is `sha256/` and the base64 of 32 bytes, as `countersign init` prints it")]
pub struct PinError;

impl Trust {
    /// Reads `sha256/BASE64`.
    ///
    /// # Errors
    /// [`PinError`] for anything else.
    pub fn parse_pin(text: &str) -> Result<Self, PinError> {
        let encoded = text.strip_prefix("sha256/").ok_or(PinError)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| PinError)?;
        bytes.try_into().map(Self::Pin).map_err(|_| PinError)
    }

    /// `sha256/BASE64` of a pin.
    #[must_use]
    pub fn pin_text(pin: &[u8; 32]) -> String {
        format!("sha256/{}", STANDARD.encode(pin))
    }
}

/// One numbered set of keys for one peer.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Counted from 1 per peer, never used again.
    pub number: u32,
    /// Random; tells this credential from a later one of the same peer name and number.
    pub uid: [u8; 16],
    /// When it was added.
    pub created: UnixTime,
    /// What both operators compare.
    pub fingerprint: Fingerprint,
    /// The keys.
    pub keys: Keys,
    /// Set from when it has a successor on: how long both are good.
    pub overlap: Option<Overlap>,
    /// When we first knew that the peer has it: it used it, or took it, or gave it to us.
    pub confirmed: Option<UnixTime>,
    /// When the peer last authenticated with it, to within a minute.
    pub used_inbound: Option<UnixTime>,
    /// When the peer last accepted it from us, to within a minute.
    pub used_outbound: Option<UnixTime>,
}

impl Credential {
    /// A new one, which nobody has used yet.
    pub(crate) fn new(number: u32, created: UnixTime, fingerprint: Fingerprint, keys: Keys) -> Self {
        Self {
            number,
            uid: crate::random(),
            created,
            fingerprint,
            keys,
            overlap: None,
            confirmed: None,
            used_inbound: None,
            used_outbound: None,
        }
    }

    /// Its id at `peer`.
    #[must_use]
    pub fn id(&self, peer: &ServiceName) -> CredentialId {
        CredentialId { peer: peer.clone(), number: self.number }
    }
}

/// The keys of a credential as a store keeps them.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Countersign protocol 1: one secret for both directions (CS-2).
    Cs1 {
        /// What we present to the peer, as C when we call it and as S when it calls us.
        our_key: ApiKey,
        /// What the peer presents to us.
        their_key: ApiKey,
        /// What both sides prove that they hold.
        secret: SharedSecret,
    },
    /// Guide 1.
    SharedSecret {
        /// What we present to the peer.
        our_key: ApiKey,
        /// What the peer presents to us.
        their_key: ApiKey,
        /// What we prove ourselves with.
        our_secret: SharedSecret,
        /// What the peer proves itself with; the same as ours where the pair has one secret.
        their_secret: SharedSecret,
    },
    /// Guide 2: one key per direction, either may be absent.
    ApiKey {
        /// What we present to the peer, and sign with.
        ours: Option<ApiKey>,
        /// A keyed hash of what the peer presents to us; the key itself is not kept.
        theirs: Option<LookupHash>,
    },
}

impl Keys {
    /// Our API key and theirs, under the profiles where they are no secrets.
    #[must_use]
    pub const fn public(&self) -> Option<(&ApiKey, &ApiKey)> {
        match self {
            Self::Cs1 { our_key, their_key, .. } | Self::SharedSecret { our_key, their_key, .. } => {
                Some((our_key, their_key))
            }
            Self::ApiKey { .. } => None,
        }
    }

    /// The hashes of every key and secret in them, each once: none may be in use with another peer.
    pub(crate) fn hashes(&self, lookup: &LookupKey) -> Vec<LookupHash> {
        let mut hashes: Vec<LookupHash> = match self {
            Self::Cs1 { our_key, their_key, secret } => {
                [our_key.expose(), their_key.expose(), secret.expose()]
                    .map(|value| lookup.hash(value))
                    .to_vec()
            }
            Self::SharedSecret { our_key, their_key, our_secret, their_secret } => {
                [our_key.expose(), their_key.expose(), our_secret.expose(), their_secret.expose()]
                    .map(|value| lookup.hash(value))
                    .to_vec()
            }
            Self::ApiKey { ours, theirs } => {
                let ours = ours.as_ref().map(|key| lookup.hash(key.expose()));
                [ours, *theirs].into_iter().flatten().collect()
            }
        };
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }
}

/// A peer to be added.
#[derive(Clone, Debug)]
pub struct NewPeer {
    /// Its name here.
    pub name: ServiceName,
    /// Where it serves, if we call it.
    pub url: Option<String>,
    /// How its certificate is judged.
    pub trust: Trust,
    /// Whether we go on with a server that does not prove itself (danger).
    pub danger_unproven_server: bool,
    /// What is agreed for the profile `cs1`; the default for others.
    pub cs1: Cs1Options,
    /// Its first credential.
    pub keys: NewKeys,
}

/// Checked keys for a new credential. The three constructors are the only way to make one.
#[derive(Clone, Debug)]
pub struct NewKeys(pub(crate) Form);

#[derive(Clone, Debug)]
pub(crate) enum Form {
    Cs1 { our_key: ApiKey, their_key: ApiKey, secret: SharedSecret },
    SharedSecret { our_key: ApiKey, their_key: ApiKey, our_secret: SharedSecret, their_secret: SharedSecret },
    ApiKey { ours: Option<ApiKey>, theirs: Option<ApiKey> },
}

/// Keys that do not make a safe pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// Both directions have the same API key: each side could reflect the other's messages.
    #[error("our key and their key are the same; each service needs its own")]
    SameKey,
    /// A secret equals an API key, which travels in the clear.
    #[error("the secret is also used as an API key, which travels in every request; generate another secret")]
    SecretIsKey,
    /// A key that a guide prints, or a placeholder.
    #[error("an API key cannot be used: {0}")]
    Example(FormError),
    /// Guide 2 without any key.
    #[error("the profile api-key needs our key (to call the peer), their key (to be called by it), or both")]
    NoKey,
    /// Guide 2 with a key that is too short or not random.
    #[error("under the profile api-key the key is the secret, and this one does not serve as one: {0}")]
    Weak(FormError),
}

pub(crate) mod subtle_compare {
    /// In constant time for texts of one length.
    pub(crate) fn equal(a: &str, b: &str) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
    }
}

impl NewKeys {
    /// Keys for the profile `cs1`.
    ///
    /// # Errors
    /// [`KeysError::SameKey`], [`KeysError::Example`], [`KeysError::SecretIsKey`].
    pub fn cs1(our_key: ApiKey, their_key: ApiKey, secret: SharedSecret) -> Result<Self, KeysError> {
        check_pair(&our_key, &their_key, &[&secret])?;
        Ok(Self(Form::Cs1 { our_key, their_key, secret }))
    }

    /// Keys for the profile `shared-secret`. One secret for the pair: give it twice.
    ///
    /// # Errors
    /// [`KeysError::SameKey`], [`KeysError::Example`], [`KeysError::SecretIsKey`].
    pub fn shared_secret(
        our_key: ApiKey,
        their_key: ApiKey,
        our_secret: SharedSecret,
        their_secret: SharedSecret,
    ) -> Result<Self, KeysError> {
        check_pair(&our_key, &their_key, &[&our_secret, &their_secret])?;
        Ok(Self(Form::SharedSecret { our_key, their_key, our_secret, their_secret }))
    }

    /// Keys for the profile `api-key`.
    ///
    /// # Errors
    /// [`KeysError::NoKey`], [`KeysError::SameKey`], [`KeysError::Weak`].
    pub fn api_key(ours: Option<ApiKey>, theirs: Option<ApiKey>) -> Result<Self, KeysError> {
        if ours.is_none() && theirs.is_none() {
            return Err(KeysError::NoKey);
        }
        if ours.is_some() && ours == theirs {
            return Err(KeysError::SameKey);
        }
        for key in [&ours, &theirs].into_iter().flatten() {
            key.check_as_secret().map_err(KeysError::Weak)?;
        }
        Ok(Self(Form::ApiKey { ours, theirs }))
    }

    /// The profile that these keys are for.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        match self.0 {
            Form::Cs1 { .. } => Profile::Cs1,
            Form::SharedSecret { .. } => Profile::SharedSecret,
            Form::ApiKey { .. } => Profile::ApiKey,
        }
    }

    /// The digits that both operators compare.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let profile = self.profile().as_str();
        match &self.0 {
            Form::Cs1 { our_key, their_key, secret } => Fingerprint::of(
                profile,
                &[(our_key.expose(), secret.expose()), (their_key.expose(), secret.expose())],
            ),
            Form::SharedSecret { our_key, their_key, our_secret, their_secret } => Fingerprint::of(
                profile,
                &[(our_key.expose(), our_secret.expose()), (their_key.expose(), their_secret.expose())],
            ),
            Form::ApiKey { ours, theirs } => {
                let sides: Vec<_> =
                    [ours, theirs].into_iter().flatten().map(|key| (key.expose(), "")).collect();
                Fingerprint::of(profile, &sides)
            }
        }
    }

    pub(crate) fn into_keys(self, lookup: &LookupKey) -> Keys {
        match self.0 {
            Form::Cs1 { our_key, their_key, secret } => Keys::Cs1 { our_key, their_key, secret },
            Form::SharedSecret { our_key, their_key, our_secret, their_secret } => {
                Keys::SharedSecret { our_key, their_key, our_secret, their_secret }
            }
            Form::ApiKey { ours, theirs } => {
                Keys::ApiKey { ours, theirs: theirs.map(|key| lookup.hash(key.expose())) }
            }
        }
    }
}

/// Two public keys and the secrets behind them.
fn check_pair(our_key: &ApiKey, their_key: &ApiKey, secrets: &[&SharedSecret]) -> Result<(), KeysError> {
    if our_key == their_key {
        return Err(KeysError::SameKey);
    }
    for key in [our_key, their_key] {
        key.check_not_example().map_err(KeysError::Example)?;
    }
    for key in [our_key, their_key] {
        if secrets.iter().any(|secret| equal(key.expose(), secret.expose())) {
            return Err(KeysError::SecretIsKey);
        }
    }
    Ok(())
}

/// Options that do not go together, or not with the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// A binding, or requests without a handshake, under another profile.
    #[error("a binding and requests without a handshake belong to the profile cs1")]
    NotCs1,
    /// Requests without a handshake cannot be bound to a connection (CS-40).
    #[error("requests without a handshake cannot be bound to a TLS connection: have one or the other")]
    DirectAndBound,
    /// Under `cs1` a server always proves itself.
    #[error("under the profile cs1 the server always proves itself: there is nothing to go without")]
    AlwaysProven,
}

impl Cs1Options {
    /// Whether a peer of this profile can have these options, and go on with a server that does not prove itself.
    ///
    /// # Errors
    /// See [`OptionsError`].
    pub fn check(self, profile: Profile, danger_unproven_server: bool) -> Result<(), OptionsError> {
        match profile {
            Profile::Cs1 if danger_unproven_server => Err(OptionsError::AlwaysProven),
            Profile::Cs1 if self.danger_direct && self.binding != Binding::None => {
                Err(OptionsError::DirectAndBound)
            }
            Profile::Cs1 => Ok(()),
            _ if self == Self::default() => Ok(()),
            _ => Err(OptionsError::NotCs1),
        }
    }
}

impl NewPeer {
    /// The peer with its first credential, and the hashes that must be free.
    pub(crate) fn into_peer(
        self,
        lookup: &LookupKey,
        now: UnixTime,
    ) -> Result<(Peer, Vec<LookupHash>), OptionsError> {
        self.cs1.check(self.keys.profile(), self.danger_unproven_server)?;
        let fingerprint = self.keys.fingerprint();
        let profile = self.keys.profile();
        let keys = self.keys.into_keys(lookup);
        let hashes = keys.hashes(lookup);
        let credential = Credential::new(1, now, fingerprint, keys);
        let peer = Peer {
            profile,
            name: self.name,
            url: self.url,
            trust: self.trust,
            danger_unproven_server: self.danger_unproven_server,
            cs1: self.cs1,
            created: now,
            rotate_every: Some(DEFAULT_ROTATE_EVERY),
            agreement: Agreement::default(),
            credentials: vec![credential],
            ended: Vec::new(),
        };
        Ok((peer, hashes))
    }
}
