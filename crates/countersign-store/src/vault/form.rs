//! One peer as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_protocol::UnixTime;
use countersign_protocol::cs1::Binding;
use countersign_protocol::fingerprint::Fingerprint;
use countersign_protocol::identity::Profile;
use countersign_protocol::lookup::LookupHash;
use countersign_protocol::mac::{decode_hex, encode_hex};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::lifecycle::{Ended, Ending, Overlap};
use crate::{Agreement, Credential, Cs1Options, Keys, NewKeys, Peer, Trust};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PeerForm {
    profile: String,
    url: Option<String>,
    trust: String,
    danger_unproven_server: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cs1: Option<Cs1Form>,
    created: u64,
    rotate_every: Option<u64>,
    #[serde(default, skip_serializing_if = "is_default")]
    agreement: Agreement,
    credentials: Vec<CredentialForm>,
    ended: Vec<EndedForm>,
}

/// What differs from the default.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Cs1Form {
    binding: String,
    danger_direct: bool,
}

impl Cs1Form {
    fn of(options: Cs1Options) -> Option<Self> {
        let binding = options.binding.as_str().to_owned();
        (options != Cs1Options::default()).then_some(Self { binding, danger_direct: options.danger_direct })
    }

    fn read(&self) -> Option<Cs1Options> {
        Some(Cs1Options { binding: Binding::parse(&self.binding)?, danger_direct: self.danger_direct })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CredentialForm {
    number: u32,
    uid: String,
    created: u64,
    fingerprint: String,
    keys: KeysForm,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap: Option<OverlapForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
enum KeysForm {
    Cs1 {
        our_key: Zeroizing<String>,
        their_key: Zeroizing<String>,
        secret: Zeroizing<String>,
    },
    SharedSecret {
        our_key: Zeroizing<String>,
        their_key: Zeroizing<String>,
        our_secret: Zeroizing<String>,
        their_secret: Zeroizing<String>,
    },
    ApiKey {
        ours: Option<Zeroizing<String>>,
        /// A keyed hash.
        theirs: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OverlapForm {
    since: u64,
    grace_ends: u64,
    deadline: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EndedForm {
    number: u32,
    created: u64,
    ended: u64,
    how: String,
    fingerprint: String,
    presented: Option<String>,
    hashes: Vec<String>,
}

fn is_default(agreement: &Agreement) -> bool {
    *agreement == Agreement::default()
}

impl PeerForm {
    pub(super) fn of(peer: &Peer) -> Self {
        Self {
            profile: peer.profile.as_str().to_owned(),
            url: peer.url.clone(),
            trust: match &peer.trust {
                Trust::System => "system".to_owned(),
                Trust::Pin(pin) => format!("pin {}", Trust::pin_text(pin)),
                Trust::Ca(pem) => pem.clone(),
            },
            danger_unproven_server: peer.danger_unproven_server,
            cs1: Cs1Form::of(peer.cs1),
            created: peer.created.0,
            rotate_every: peer.rotate_every,
            agreement: peer.agreement.clone(),
            credentials: peer.credentials.iter().map(CredentialForm::of).collect(),
            ended: peer.ended.iter().map(EndedForm::of).collect(),
        }
    }

    /// `None` if it is not what [`PeerForm::of`] makes.
    pub(super) fn read(self, name: &str) -> Option<Peer> {
        let profile: Profile = self.profile.parse().ok()?;
        let credentials: Vec<Credential> =
            self.credentials.into_iter().map(|one| one.read(profile)).collect::<Option<_>>()?;
        let ended: Vec<Ended> = self.ended.into_iter().map(EndedForm::read).collect::<Option<_>>()?;
        let mut numbers: Vec<u32> = credentials.iter().map(|one| one.number).collect();
        let ascending = numbers.is_sorted();
        numbers.extend(ended.iter().map(|one| one.number));
        numbers.sort_unstable();
        let once = !numbers.contains(&0) && numbers.windows(2).all(|pair| pair.first() != pair.last());
        let last = credentials.last();
        let overlaps = credentials
            .iter()
            .all(|one| one.overlap.is_some() != last.is_some_and(|last| last.number == one.number));
        if credentials.len() > 2 || numbers.is_empty() || !ascending || !once || !overlaps {
            return None;
        }
        let trust = match (self.trust.as_str(), self.trust.strip_prefix("pin ")) {
            ("system", _) => Trust::System,
            (_, Some(pin)) => Trust::parse_pin(pin).ok()?,
            _ => Trust::Ca(self.trust),
        };
        let cs1 = self.cs1.map_or(Some(Cs1Options::default()), |options| options.read())?;
        cs1.check(profile, self.danger_unproven_server).ok()?;
        Some(Peer {
            name: name.parse().ok()?,
            cs1,
            profile,
            url: self.url,
            trust,
            danger_unproven_server: self.danger_unproven_server,
            created: UnixTime(self.created),
            rotate_every: self.rotate_every,
            agreement: self.agreement,
            credentials,
            ended,
        })
    }
}

impl CredentialForm {
    fn of(credential: &Credential) -> Self {
        let copy = |text: &str| Zeroizing::new(text.to_owned());
        let keys = match &credential.keys {
            Keys::Cs1 { our_key, their_key, secret } => KeysForm::Cs1 {
                our_key: copy(our_key.expose()),
                their_key: copy(their_key.expose()),
                secret: copy(secret.expose()),
            },
            Keys::SharedSecret { our_key, their_key, our_secret, their_secret } => KeysForm::SharedSecret {
                our_key: copy(our_key.expose()),
                their_key: copy(their_key.expose()),
                our_secret: copy(our_secret.expose()),
                their_secret: copy(their_secret.expose()),
            },
            Keys::ApiKey { ours, theirs } => KeysForm::ApiKey {
                ours: ours.as_ref().map(|key| copy(key.expose())),
                theirs: theirs.as_ref().map(hash_text),
            },
        };
        Self {
            number: credential.number,
            uid: encode_hex(&credential.uid),
            created: credential.created.0,
            fingerprint: credential.fingerprint.as_str().to_owned(),
            keys,
            overlap: credential.overlap.map(|overlap| OverlapForm {
                since: overlap.since.0,
                grace_ends: overlap.grace_ends.0,
                deadline: overlap.deadline.map(|at| at.0),
            }),
            confirmed: credential.confirmed.map(|at| at.0),
        }
    }

    fn read(self, profile: Profile) -> Option<Credential> {
        let fingerprint = Fingerprint::from_stored(self.fingerprint);
        let keys = match (self.keys, profile) {
            (KeysForm::Cs1 { our_key, their_key, secret }, Profile::Cs1) => {
                let (our_key, their_key) = (our_key.parse().ok()?, their_key.parse().ok()?);
                let keys = Keys::Cs1 { our_key, their_key, secret: secret.parse().ok()? };
                if checked(&keys)?.fingerprint() != fingerprint {
                    return None;
                }
                keys
            }
            (
                KeysForm::SharedSecret { our_key, their_key, our_secret, their_secret },
                Profile::SharedSecret,
            ) => {
                let (our_key, their_key) = (our_key.parse().ok()?, their_key.parse().ok()?);
                let (our_secret, their_secret) = (our_secret.parse().ok()?, their_secret.parse().ok()?);
                let keys = Keys::SharedSecret { our_key, their_key, our_secret, their_secret };
                // Whoever changes a key by hand has not compared its fingerprint with the other side.
                if checked(&keys)?.fingerprint() != fingerprint {
                    return None;
                }
                keys
            }
            (KeysForm::ApiKey { ours, theirs }, Profile::ApiKey) => {
                let ours = ours.map(|key| key.parse().ok()).map_or(Some(None), |key| key.map(Some))?;
                let theirs = theirs.map(|hash| read_hash(&hash)).map_or(Some(None), |hash| hash.map(Some))?;
                if ours.is_none() && theirs.is_none() {
                    return None;
                }
                Keys::ApiKey { ours, theirs }
            }
            _ => return None,
        };
        let mut uid = [0; 16];
        decode_hex(self.uid.as_bytes(), &mut uid)?;
        Some(Credential {
            number: self.number,
            uid,
            created: UnixTime(self.created),
            fingerprint,
            keys,
            overlap: self.overlap.map(|overlap| Overlap {
                since: UnixTime(overlap.since),
                grace_ends: UnixTime(overlap.grace_ends),
                deadline: overlap.deadline.map(UnixTime),
            }),
            confirmed: self.confirmed.map(UnixTime),
            used_inbound: None,
            used_outbound: None,
        })
    }
}

impl EndedForm {
    fn of(ended: &Ended) -> Self {
        Self {
            number: ended.number,
            created: ended.created.0,
            ended: ended.ended.0,
            how: ended.how.as_str().to_owned(),
            fingerprint: ended.fingerprint.as_str().to_owned(),
            presented: ended.presented.as_ref().map(hash_text),
            hashes: ended.hashes.iter().map(hash_text).collect(),
        }
    }

    fn read(self) -> Option<Ended> {
        Some(Ended {
            number: self.number,
            created: UnixTime(self.created),
            ended: UnixTime(self.ended),
            how: Ending::parse(&self.how)?,
            fingerprint: Fingerprint::from_stored(self.fingerprint),
            presented: self
                .presented
                .map(|hash| read_hash(&hash))
                .map_or(Some(None), |hash| hash.map(Some))?,
            hashes: self.hashes.iter().map(|hash| read_hash(hash)).collect::<Option<_>>()?,
        })
    }
}

/// Keys of a pair with a secret as if they were new: `None` if they would not be taken.
fn checked(keys: &Keys) -> Option<NewKeys> {
    let new = match keys.clone() {
        Keys::Cs1 { our_key, their_key, secret } => NewKeys::cs1(our_key, their_key, secret),
        Keys::SharedSecret { our_key, their_key, our_secret, their_secret } => {
            NewKeys::shared_secret(our_key, their_key, our_secret, their_secret)
        }
        Keys::ApiKey { .. } => return None,
    };
    new.ok()
}

fn hash_text(hash: &LookupHash) -> String {
    STANDARD.encode(hash.as_bytes())
}

fn read_hash(text: &str) -> Option<LookupHash> {
    let bytes = STANDARD.decode(text).ok()?;
    <[u8; 32]>::try_from(bytes.as_slice()).ok().map(LookupHash::from_bytes)
}
