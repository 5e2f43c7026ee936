//! All peers of a service as one JSON document: what Vault keeps, and what the copy holds.
//!
//! A peer that cannot be read is left out and told of, and written back as it was found.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_protocol::identity::ServiceName;
use countersign_protocol::lookup::LookupKey;
use countersign_protocol::mac::encode_hex;
use countersign_protocol::wire::printable;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::error::DocumentFault;
use super::form::PeerForm;
use super::session::json;
use crate::{PeerSet, StoreError, random};

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
    Peer(Box<PeerForm>),
    AsFound(&'a RawValue),
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
        if form != FORM {
            return Err(if form > FORM { DocumentFault::Newer } else { DocumentFault::Form });
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
        let mut peers: BTreeMap<&str, Entry<'_>> = self
            .set
            .peers()
            .map(|peer| (peer.name.as_str(), Entry::Peer(Box::new(PeerForm::of(peer)))))
            .collect();
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

#[cfg(all(test, feature = "contract"))]
#[allow(clippy::unwrap_used, reason = "what breaks in a helper ends the test")]
mod tests {
    use countersign_protocol::UnixTime;

    use super::*;
    use crate::contract::{key, secret, shared_secret_peer};
    use crate::lifecycle::{Ending, Next, Overlap, Which};
    use crate::{NewKeys, NewPeer, Trust};

    const NOW: UnixTime = UnixTime(1_700_000_000);

    fn service() -> ServiceName {
        "orders".parse().unwrap()
    }

    fn filled() -> Document {
        let mut document = Document::new(Zeroizing::new([7; 32]));
        document.set.add(shared_secret_peer("billing", 1), NOW).unwrap();
        let keys = NewKeys::shared_secret(key(2), key(102), secret(2), secret(2)).unwrap();
        let next = Next { keys, overlap: Overlap::new(NOW, 60, Some(90)), confirmed: true, follows: None };
        document.set.rotate(&"billing".parse().unwrap(), next, NOW).unwrap();
        let inbound = NewPeer {
            name: "partner".parse().unwrap(),
            url: None,
            trust: Trust::System,
            danger_unproven_server: true,
            cs1: Default::default(),
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
        // A right one of a form that never was.
        let mut document = Document::new(Zeroizing::new([7; 32]));
        let text = String::from_utf8(document.write(&service()).unwrap().to_vec()).unwrap();
        let text = text.replace(r#"\"form\":1"#, r#"\"form\":0"#);
        assert!(matches!(Document::read(text.as_bytes(), &service()), Err(DocumentFault::Form)), "{text}");
        let newer = r#"{"countersign":"{\"form\":2,\"else\":0}"}"#;
        assert!(matches!(Document::read(newer.as_bytes(), &service()), Err(DocumentFault::Newer)));
    }
}
