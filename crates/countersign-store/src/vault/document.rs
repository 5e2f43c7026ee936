//! All peers of a service as one JSON document: what Vault keeps, and what the copy holds.
//!
//! A peer that cannot be read is left out and told of, and written back as it was found.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_protocol::UnixTime;
use countersign_protocol::fingerprint::Fingerprint;
use countersign_protocol::identity::{Profile, ServiceName};
use countersign_protocol::lookup::{LookupHash, LookupKey};
use countersign_protocol::mac::{decode_hex, encode_hex};
use countersign_protocol::wire::printable;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::error::DocumentFault;
use super::session::json;
use crate::lifecycle::{Ended, Ending, Overlap};
use crate::{Credential, Keys, NewKeys, Peer, PeerSet, StoreError, Trust, random};

/// The form that this version writes, and the highest that it reads.
const FORM: u32 = 1;

/// A document, read.
#[derive(Clone)]
pub(super) struct Document {
    pub(super) lookup: Zeroizing<[u8; 32]>,
    /// Random, new with each change: tells a write whose answer was lost.
    pub(super) change: String,
    pub(super) set: PeerSet,
    /// What stands at names whose peers cannot be read.
    pub(super) damaged: BTreeMap<String, Zeroizing<String>>,
}

/// What Vault sees: one text. `OpenBao` takes no more than a thousand strings in a request, which forty peers would have.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    countersign: Zeroizing<String>,
}

#[derive(Deserialize)]
struct Form<'a> {
    service: String,
    change: String,
    lookup: Zeroizing<String>,
    #[serde(borrow)]
    peers: BTreeMap<String, &'a RawValue>,
}

#[derive(Serialize)]
struct Writing<'a> {
    form: u32,
    service: &'a str,
    change: &'a str,
    lookup: Zeroizing<String>,
    peers: BTreeMap<&'a str, Entry<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Peer(PeerForm),
    AsFound(&'a RawValue),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PeerForm {
    profile: String,
    url: Option<String>,
    trust: String,
    danger_unproven_server: bool,
    created: u64,
    rotate_every: Option<u64>,
    credentials: Vec<CredentialForm>,
    ended: Vec<EndedForm>,
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

impl Document {
    /// A new one without peers.
    pub(super) fn new(lookup: Zeroizing<[u8; 32]>) -> Self {
        let set = PeerSet::new(LookupKey::new(&lookup));
        Self { lookup, change: String::new(), set, damaged: BTreeMap::new() }
    }

    /// Reads what [`Document::write`] wrote.
    pub(super) fn read(json: &[u8], service: &ServiceName) -> Result<Self, DocumentFault> {
        #[derive(Deserialize)]
        struct FormOnly {
            form: u32,
        }
        let Wrapped { countersign: text } = serde_json::from_slice(json).map_err(|_| DocumentFault::Form)?;
        let FormOnly { form } = serde_json::from_str(&text).map_err(|_| DocumentFault::Form)?;
        if form > FORM {
            return Err(DocumentFault::Newer);
        }
        let form: Form<'_> = serde_json::from_str(&text).map_err(|_| DocumentFault::Form)?;
        if form.service != service.as_str() {
            return Err(DocumentFault::Service);
        }
        let lookup = STANDARD.decode(form.lookup.as_bytes()).map(Zeroizing::new);
        let lookup = lookup.ok().and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
        let lookup = Zeroizing::new(lookup.ok_or(DocumentFault::Form)?);
        let mut document = Self { change: form.change, ..Self::new(lookup) };
        for (name, raw) in form.peers {
            let peer = serde_json::from_str::<PeerForm>(raw.get()).ok().and_then(|peer| peer.read(&name));
            // One that has another's key is as bad as one that cannot be read.
            if peer.is_none_or(|peer| document.set.insert(peer).is_err()) {
                document.damaged.insert(name, Zeroizing::new(raw.get().to_owned()));
            }
        }
        Ok(document)
    }

    /// The document as JSON, with a new `change`.
    pub(super) fn write(&mut self, service: &ServiceName) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        self.change = encode_hex(&random::<16>());
        let mut peers: BTreeMap<&str, Entry<'_>> =
            self.set.peers().map(|peer| (peer.name.as_str(), Entry::Peer(PeerForm::of(peer)))).collect();
        for (name, raw) in &self.damaged {
            let raw = serde_json::from_str(raw).map_err(|_| StoreError::Damaged(printable(name, 63)))?;
            peers.insert(name, Entry::AsFound(raw));
        }
        let writing = Writing {
            form: FORM,
            service: service.as_str(),
            change: &self.change,
            lookup: Zeroizing::new(STANDARD.encode(self.lookup.as_slice())),
            peers,
        };
        let failed = || StoreError::Damaged(service.to_string());
        let text = whole(&writing).ok_or_else(failed)?;
        let text = std::str::from_utf8(&text).map_err(|_| failed())?;
        whole(&Wrapped { countersign: Zeroizing::new(text.to_owned()) }).ok_or_else(failed)
    }

    /// A number that differs from that of every document that lets others in, or has other settings.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for peer in self.set.peers() {
            peer.name.hash(&mut hasher);
            json(&PeerForm::of(peer)).as_slice().hash(&mut hasher);
        }
        for (name, raw) in &self.damaged {
            (name, raw.as_str()).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// One error for each peer that cannot be read.
    pub(super) fn complaints(&self) -> Vec<StoreError> {
        self.damaged.keys().map(|name| StoreError::Damaged(printable(name, 63))).collect()
    }
}

/// As JSON, in a buffer that is measured first: one that grows leaves plaintext behind.
fn whole(value: &impl Serialize) -> Option<Zeroizing<Vec<u8>>> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value).ok()?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *bytes, value).ok()?;
    Some(bytes)
}

struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl PeerForm {
    fn of(peer: &Peer) -> Self {
        Self {
            profile: peer.profile.as_str().to_owned(),
            url: peer.url.clone(),
            trust: match &peer.trust {
                Trust::System => "system".to_owned(),
                Trust::Pin(pin) => format!("pin {}", Trust::pin_text(pin)),
                Trust::Ca(pem) => pem.clone(),
            },
            danger_unproven_server: peer.danger_unproven_server,
            created: peer.created.0,
            rotate_every: peer.rotate_every,
            credentials: peer.credentials.iter().map(CredentialForm::of).collect(),
            ended: peer.ended.iter().map(EndedForm::of).collect(),
        }
    }

    /// `None` if it is not what [`PeerForm::of`] makes.
    fn read(self, name: &str) -> Option<Peer> {
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
        Some(Peer {
            name: name.parse().ok()?,
            profile,
            url: self.url,
            trust,
            danger_unproven_server: self.danger_unproven_server,
            created: UnixTime(self.created),
            rotate_every: self.rotate_every,
            credentials,
            ended,
        })
    }
}

impl CredentialForm {
    fn of(credential: &Credential) -> Self {
        let copy = |text: &str| Zeroizing::new(text.to_owned());
        let keys = match &credential.keys {
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

/// Keys of guide 1 as if they were new: `None` if they would not be taken.
fn checked(keys: &Keys) -> Option<NewKeys> {
    let Keys::SharedSecret { our_key, their_key, our_secret, their_secret } = keys else { return None };
    NewKeys::shared_secret(our_key.clone(), their_key.clone(), our_secret.clone(), their_secret.clone()).ok()
}

fn hash_text(hash: &LookupHash) -> String {
    STANDARD.encode(hash.as_bytes())
}

fn read_hash(text: &str) -> Option<LookupHash> {
    let bytes = STANDARD.decode(text).ok()?;
    <[u8; 32]>::try_from(bytes.as_slice()).ok().map(LookupHash::from_bytes)
}

#[cfg(all(test, feature = "contract"))]
mod tests {
    use super::*;
    use crate::contract::{key, secret, shared_secret_peer};
    use crate::lifecycle::{Next, Which};
    use crate::{NewPeer, UnixTime};

    const NOW: UnixTime = UnixTime(1_700_000_000);

    fn service() -> ServiceName {
        "orders".parse().unwrap()
    }

    fn filled() -> Document {
        let mut document = Document::new(Zeroizing::new([7; 32]));
        document.set.add(shared_secret_peer("billing", 1), NOW).unwrap();
        let keys = NewKeys::shared_secret(key(2), key(102), secret(2), secret(2)).unwrap();
        let next = Next { keys, overlap: Overlap::new(NOW, 60, Some(90)), confirmed: true };
        document.set.rotate(&"billing".parse().unwrap(), next, NOW).unwrap();
        let inbound = NewPeer {
            name: "partner".parse().unwrap(),
            url: None,
            trust: Trust::System,
            danger_unproven_server: true,
            keys: NewKeys::api_key(Some(key(5)), Some(key(6))).unwrap(),
        };
        document.set.add(inbound, NOW).unwrap();
        document.set.add(shared_secret_peer("shipping", 9), NOW).unwrap();
        document.set.end(&"shipping".parse().unwrap(), Which::All, Ending::Compromised, NOW).unwrap();
        document
    }

    #[test]
    fn what_is_written_is_read_again_whole() {
        let mut document = filled();
        let json = document.write(&service()).unwrap();
        let read = Document::read(&json, &service()).unwrap();
        assert_eq!(read.digest(), document.digest());
        assert_eq!(read.change, document.change);
        assert!(read.damaged.is_empty());
        let again = Document::read(&json, &"other".parse().unwrap());
        assert!(matches!(again, Err(DocumentFault::Service)));
    }

    #[test]
    fn a_peer_with_any_changed_setting_of_its_keys_is_damaged_and_no_other() {
        let json = filled().write(&service()).unwrap();
        let text = String::from_utf8(json.to_vec()).unwrap();
        for (from, to) in [
            (secret(1).expose().to_owned(), secret(3).expose().to_owned()),
            (key(101).expose().to_owned(), key(1).expose().to_owned()),
            (r#"\"number\":2"#.to_owned(), r#"\"number\":1"#.to_owned()),
            (
                r#"\"profile\":\"shared-secret\",\"url\":\"https://peer.example:8443\",\"trust\":\"pin"#
                    .to_owned(),
                r#"\"profile\":\"api-key\",\"url\":\"https://peer.example:8443\",\"trust\":\"pin"#.to_owned(),
            ),
            (r#"\"deadline\":1700000090"#.to_owned(), r#"\"deadline\":-1"#.to_owned()),
        ] {
            let changed = text.replacen(&from, &to, 1);
            assert_ne!(changed, text, "{from}");
            let mut read = Document::read(changed.as_bytes(), &service()).unwrap();
            assert_eq!(read.damaged.keys().collect::<Vec<_>>(), ["billing"], "{from}");
            assert_eq!(read.set.peers().count(), 2);
            // It is kept as it was found.
            let kept = read.damaged.clone();
            let again = read.write(&service()).unwrap();
            assert_eq!(Document::read(&again, &service()).unwrap().damaged, kept);
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for wrong in [
            "",
            "{}",
            "[]",
            r#"{"countersign":1}"#,
            r#"{"countersign":"{}"}"#,
            r#"{"countersign":"{\"form\":1}"}"#,
        ] {
            assert!(
                matches!(Document::read(wrong.as_bytes(), &service()), Err(DocumentFault::Form)),
                "{wrong}"
            );
        }
        let newer = r#"{"countersign":"{\"form\":2,\"else\":0}"}"#;
        assert!(matches!(Document::read(newer.as_bytes(), &service()), Err(DocumentFault::Newer)));
    }
}
