//! Peers and credentials as rows; the secret part of a credential as one sealed value that is bound to everything
//! that stands readable beside it. Rows cannot be exchanged, and whoever changes a URL, a pin or a fingerprint in
//! the database makes that peer unusable, not his own.

use countersign_protocol::UnixTime;
use countersign_protocol::aead::AeadKey;
use countersign_protocol::fingerprint::Fingerprint;
use countersign_protocol::identity::{Profile, ServiceName};
use countersign_protocol::lookup::LookupHash;
use countersign_protocol::lp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Credential, Keys, Listing, Peer, StoreError, Trust, random};

/// The plaintext of `credential.sealed`.
#[derive(Serialize, Deserialize)]
struct Sealed {
    uid: [u8; 16],
    keys: SealedKeys,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SealedKeys {
    SharedSecret {
        our_key: Zeroizing<String>,
        their_key: Zeroizing<String>,
        our_secret: Zeroizing<String>,
        their_secret: Zeroizing<String>,
    },
    ApiKey {
        ours: Option<Zeroizing<String>>,
        theirs: Option<[u8; 32]>,
    },
}

pub(super) fn exists(connection: &Connection, name: &ServiceName) -> Result<bool, StoreError> {
    let query = "SELECT EXISTS (SELECT 1 FROM peer WHERE name = ?1)";
    Ok(connection.query_row(query, params![name.as_str()], |row| row.get(0))?)
}

pub(super) fn insert(connection: &Connection, data: &AeadKey, peer: &Peer) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO peer (name, profile, url, trust, danger_unproven_server, created)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            peer.name.as_str(),
            peer.profile.as_str(),
            peer.url,
            trust_text(&peer.trust),
            peer.danger_unproven_server,
            seconds(peer.created),
        ],
    )?;
    for credential in &peer.credentials {
        let sealed = data.seal(
            random(),
            &place(peer, credential.number, credential.created, &credential.fingerprint),
            &seal(credential)?,
        );
        connection.execute(
            "INSERT INTO credential (peer, number, created, fingerprint, sealed) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                peer.name.as_str(),
                credential.number,
                seconds(credential.created),
                credential.fingerprint.as_str(),
                sealed,
            ],
        )?;
    }
    Ok(())
}

/// All peers, or the one of this name. What is wrong with one peer's rows is reported as damage of that peer.
pub(super) fn read(
    connection: &Connection,
    data: &AeadKey,
    only: Option<&ServiceName>,
) -> Result<Listing, StoreError> {
    let only = only.map(ServiceName::as_str);
    let read: Vec<Result<Peer, StoreError>> = connection
        .prepare_cached(
            "SELECT name, profile, url, trust, danger_unproven_server, created
             FROM peer WHERE ?1 IS NULL OR name = ?1 ORDER BY name",
        )?
        .query_and_then(params![only], |row| Ok(read_peer(row)))?
        .collect::<Result<_, StoreError>>()?;
    let mut statement = connection.prepare_cached(
        "SELECT number, created, fingerprint, sealed FROM credential WHERE peer = ?1 ORDER BY number",
    )?;
    let mut listing = Listing::default();
    for peer in read {
        match peer {
            Ok(mut peer) => {
                let credentials: Vec<Result<Credential, StoreError>> = statement
                    .query_and_then(params![peer.name.as_str()], |row| Ok(read_credential(row, data, &peer)))?
                    .collect::<Result<_, StoreError>>()?;
                match credentials.into_iter().collect::<Result<Vec<_>, _>>() {
                    Ok(credentials) if credentials.is_empty() => {
                        listing.damaged.push(StoreError::Damaged(peer.name.to_string()));
                    }
                    Ok(credentials) => {
                        peer.credentials = credentials;
                        listing.peers.push(peer);
                    }
                    Err(damaged) => listing.damaged.push(damaged),
                }
            }
            Err(damaged) => listing.damaged.push(damaged),
        }
    }
    Ok(listing)
}

/// Fails with damage only: what cannot be had from a row that is there was put there by somebody else.
fn read_peer(row: &Row<'_>) -> Result<Peer, StoreError> {
    let name = row.get_ref(0).map(|value| match value {
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    });
    let name = name.unwrap_or_default();
    let damaged = || StoreError::Damaged(countersign_protocol::wire::printable(&name, 63));
    let profile: String = row.get(1).map_err(|_| damaged())?;
    let trust: String = row.get(3).map_err(|_| damaged())?;
    let trust = match (trust.as_str(), trust.strip_prefix("pin ")) {
        ("system", _) => Trust::System,
        (_, Some(pin)) => Trust::parse_pin(pin).map_err(|_| damaged())?,
        _ => Trust::Ca(trust),
    };
    Ok(Peer {
        name: name.parse().map_err(|_| damaged())?,
        profile: profile.parse().map_err(|_| damaged())?,
        url: row.get(2).map_err(|_| damaged())?,
        trust,
        danger_unproven_server: row.get(4).map_err(|_| damaged())?,
        created: time(row.get(5).map_err(|_| damaged())?),
        credentials: Vec::new(),
    })
}

/// Fails with damage only, as [`read_peer`] does.
fn read_credential(row: &Row<'_>, data: &AeadKey, peer: &Peer) -> Result<Credential, StoreError> {
    let number: u32 = row.get(0).map_err(|_| StoreError::Damaged(peer.name.to_string()))?;
    let damaged = || StoreError::Damaged(format!("{}/{number}", peer.name));
    let created = time(row.get(1).map_err(|_| damaged())?);
    let fingerprint = Fingerprint::from_stored(row.get(2).map_err(|_| damaged())?);
    let sealed: Vec<u8> = row.get(3).map_err(|_| damaged())?;
    let opened = data.open(&place(peer, number, created, &fingerprint), &sealed).map_err(|_| damaged())?;
    let sealed: Sealed = serde_json::from_slice(&opened).map_err(|_| damaged())?;
    let keys = match (sealed.keys, peer.profile) {
        (
            SealedKeys::SharedSecret { our_key, their_key, our_secret, their_secret },
            Profile::SharedSecret,
        ) => Keys::SharedSecret {
            our_key: our_key.parse().map_err(|_| damaged())?,
            their_key: their_key.parse().map_err(|_| damaged())?,
            our_secret: our_secret.parse().map_err(|_| damaged())?,
            their_secret: their_secret.parse().map_err(|_| damaged())?,
        },
        (SealedKeys::ApiKey { ours, theirs }, Profile::ApiKey) => Keys::ApiKey {
            ours: ours.map(|key| key.parse().map_err(|_| damaged())).transpose()?,
            theirs: theirs.map(LookupHash::from_bytes),
        },
        _ => return Err(damaged()),
    };
    Ok(Credential { number, uid: sealed.uid, created, fingerprint, keys })
}

fn seal(credential: &Credential) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let copy = |text: &str| Zeroizing::new(text.to_owned());
    let keys = match &credential.keys {
        Keys::SharedSecret { our_key, their_key, our_secret, their_secret } => SealedKeys::SharedSecret {
            our_key: copy(our_key.expose()),
            their_key: copy(their_key.expose()),
            our_secret: copy(our_secret.expose()),
            their_secret: copy(their_secret.expose()),
        },
        Keys::ApiKey { ours, theirs } => SealedKeys::ApiKey {
            ours: ours.as_ref().map(|key| copy(key.expose())),
            theirs: theirs.map(|hash| *hash.as_bytes()),
        },
    };
    // Room for the longest keys and secrets at once: a growing vector would leave plaintext behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    serde_json::to_writer(&mut *bytes, &Sealed { uid: credential.uid, keys })
        .map_err(|_| StoreError::Damaged(credential.number.to_string()))?;
    Ok(bytes)
}

/// What a credential is sealed to: all that stands readable beside it.
fn place(peer: &Peer, number: u32, created: UnixTime, fingerprint: &Fingerprint) -> Vec<u8> {
    lp(&[
        b"countersign credential 1",
        peer.name.as_str().as_bytes(),
        peer.profile.as_str().as_bytes(),
        peer.url.as_deref().unwrap_or_default().as_bytes(),
        trust_text(&peer.trust).as_bytes(),
        &[u8::from(peer.danger_unproven_server)],
        &seconds(peer.created).to_be_bytes(),
        &number.to_be_bytes(),
        &seconds(created).to_be_bytes(),
        fingerprint.as_str().as_bytes(),
    ])
}

fn trust_text(trust: &Trust) -> String {
    match trust {
        Trust::System => "system".to_owned(),
        Trust::Pin(pin) => format!("pin {}", Trust::pin_text(pin)),
        Trust::Ca(pem) => pem.clone(),
    }
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn time(seconds: i64) -> UnixTime {
    UnixTime(u64::try_from(seconds).unwrap_or(0))
}
