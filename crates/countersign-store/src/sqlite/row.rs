//! Peers and credentials as rows; the secret part of a credential as one sealed value that is bound to everything
//! that stands readable beside it. Rows cannot be exchanged, and whoever changes a URL, a pin or a fingerprint in
//! the database makes that peer unusable, not his own.

use countersign_protocol::UnixTime;
use countersign_protocol::aead::AeadKey;
use countersign_protocol::cs1::Binding;
use countersign_protocol::fingerprint::Fingerprint;
use countersign_protocol::identity::{Profile, ServiceName};
use countersign_protocol::lookup::LookupHash;
use countersign_protocol::lp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::agreement;
use crate::lifecycle::{Ended, Ending, Overlap};
use crate::{Agreement, Credential, Cs1Options, Keys, Listing, Peer, StoreError, Trust, random};

/// The plaintext of `credential.sealed`.
#[derive(Serialize, Deserialize)]
struct Sealed {
    uid: [u8; 16],
    keys: SealedKeys,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SealedKeys {
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
        theirs: Option<[u8; 32]>,
    },
}

pub(super) fn exists(connection: &Connection, name: &ServiceName) -> Result<bool, StoreError> {
    let query = "SELECT EXISTS (SELECT 1 FROM peer WHERE name = ?1)";
    Ok(connection.query_row(query, params![name.as_str()], |row| row.get(0))?)
}

pub(super) fn insert(connection: &Connection, data: &AeadKey, peer: &Peer) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO peer (name, profile, url, trust, danger_unproven_server, created, rotate_every, binding,
                           danger_direct)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            peer.name.as_str(),
            peer.profile.as_str(),
            peer.url,
            trust_text(&peer.trust),
            peer.danger_unproven_server,
            seconds(peer.created),
            peer.rotate_every.map(|every| seconds(UnixTime(every))),
            peer.cs1.binding.as_str(),
            peer.cs1.danger_direct,
        ],
    )?;
    insert_credentials(connection, data, peer)
}

/// Puts the credentials of a peer, live and ended, in the place of those that are there.
pub(super) fn replace_credentials(
    connection: &Connection,
    data: &AeadKey,
    peer: &Peer,
) -> Result<(), StoreError> {
    connection.execute("DELETE FROM credential WHERE peer = ?1", params![peer.name.as_str()])?;
    connection.execute("DELETE FROM ended WHERE peer = ?1", params![peer.name.as_str()])?;
    insert_credentials(connection, data, peer)
}

fn insert_credentials(connection: &Connection, data: &AeadKey, peer: &Peer) -> Result<(), StoreError> {
    let optional = |time: Option<UnixTime>| time.map(seconds);
    for credential in &peer.credentials {
        let sealed = data.seal(random(), &place(peer, &Beside::of(credential)), &seal(credential)?);
        connection.execute(
            "INSERT INTO credential (peer, number, created, fingerprint, sealed, overlap_since, grace_ends,
                                     deadline, confirmed, used_inbound, used_outbound)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                peer.name.as_str(),
                credential.number,
                seconds(credential.created),
                credential.fingerprint.as_str(),
                sealed,
                optional(credential.overlap.map(|overlap| overlap.since)),
                optional(credential.overlap.map(|overlap| overlap.grace_ends)),
                optional(credential.overlap.and_then(|overlap| overlap.deadline)),
                optional(credential.confirmed),
                optional(credential.used_inbound),
                optional(credential.used_outbound),
            ],
        )?;
    }
    for ended in &peer.ended {
        let hashes: Vec<u8> = ended.hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
        connection.execute(
            "INSERT INTO ended (peer, number, created, ended, how, fingerprint, presented, hashes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                peer.name.as_str(),
                ended.number,
                seconds(ended.created),
                seconds(ended.ended),
                ended.how.as_str(),
                ended.fingerprint.as_str(),
                ended.presented.map(|hash| hash.as_bytes().to_vec()),
                hashes,
            ],
        )?;
    }
    Ok(())
}

/// Writes down when a credential was used and that it is confirmed; the latter only where it is news.
pub(super) fn write_uses(connection: &Connection, peer: &Peer, confirmed: bool) -> Result<(), StoreError> {
    let optional = |time: Option<UnixTime>| time.map(seconds);
    for one in &peer.credentials {
        let at =
            params![peer.name.as_str(), one.number, optional(one.used_inbound), optional(one.used_outbound)];
        connection.execute(
            "UPDATE credential SET used_inbound = ?3, used_outbound = ?4 WHERE peer = ?1 AND number = ?2",
            at,
        )?;
        if confirmed {
            connection.execute(
                "UPDATE credential SET confirmed = ?3 WHERE peer = ?1 AND number = ?2",
                params![peer.name.as_str(), one.number, optional(one.confirmed)],
            )?;
        }
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
            "SELECT name, profile, url, trust, danger_unproven_server, created, rotate_every, binding,
                    danger_direct
             FROM peer WHERE ?1 IS NULL OR name = ?1 ORDER BY name",
        )?
        .query_and_then(params![only], |row| Ok(read_peer(row)))?
        .collect::<Result<_, StoreError>>()?;
    let mut live = connection.prepare_cached(
        "SELECT number, created, fingerprint, sealed, overlap_since, grace_ends, deadline, confirmed,
                used_inbound, used_outbound
         FROM credential WHERE peer = ?1 ORDER BY number",
    )?;
    let mut over = connection.prepare_cached(
        "SELECT number, created, ended, how, fingerprint, presented, hashes
         FROM ended WHERE peer = ?1 ORDER BY number",
    )?;
    let mut listing = Listing::default();
    for peer in read {
        match peer {
            Ok(mut peer) => {
                let name = peer.name.to_string();
                let credentials: Vec<Result<Credential, StoreError>> = live
                    .query_and_then(params![name], |row| Ok(read_credential(row, data, &peer)))?
                    .collect::<Result<_, StoreError>>()?;
                let ended: Vec<Result<Ended, StoreError>> = over
                    .query_and_then(params![name], |row| Ok(read_ended(row, &name)))?
                    .collect::<Result<_, StoreError>>()?;
                let credentials = credentials.into_iter().collect::<Result<Vec<_>, _>>();
                let ended = ended.into_iter().collect::<Result<Vec<_>, _>>();
                if let Err(damaged) = agreement::read(connection, data, &mut peer)? {
                    listing.damaged.push(damaged);
                    continue;
                }
                match (credentials, ended) {
                    (Ok(credentials), Ok(ended)) if credentials.is_empty() && ended.is_empty() => {
                        listing.damaged.push(StoreError::Damaged(name));
                    }
                    (Ok(credentials), Ok(ended)) => {
                        peer.credentials = credentials;
                        peer.ended = ended;
                        listing.peers.push(peer);
                    }
                    (Err(damaged), _) | (_, Err(damaged)) => listing.damaged.push(damaged),
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
    let url: Option<String> = row.get(2).map_err(|_| damaged())?;
    // What credentials are sealed to does not tell an empty one from none.
    if url.as_deref() == Some("") {
        return Err(damaged());
    }
    let binding: String = row.get(7).map_err(|_| damaged())?;
    let cs1 = Cs1Options {
        binding: Binding::parse(&binding).ok_or_else(damaged)?,
        danger_direct: row.get(8).map_err(|_| damaged())?,
    };
    Ok(Peer {
        name: name.parse().map_err(|_| damaged())?,
        profile: profile.parse().map_err(|_| damaged())?,
        url,
        trust,
        danger_unproven_server: row.get(4).map_err(|_| damaged())?,
        cs1,
        created: time(row.get(5).map_err(|_| damaged())?),
        rotate_every: optional_time(row, 6).map_err(|_| damaged())?.map(|every| every.0),
        agreement: Agreement::default(),
        credentials: Vec::new(),
        ended: Vec::new(),
    })
}

/// Fails with damage only, as [`read_peer`] does.
fn read_credential(row: &Row<'_>, data: &AeadKey, peer: &Peer) -> Result<Credential, StoreError> {
    let number: u32 = row.get(0).map_err(|_| StoreError::Damaged(peer.name.to_string()))?;
    let damaged = || StoreError::Damaged(format!("{}/{number}", peer.name));
    let created = time(row.get(1).map_err(|_| damaged())?);
    let fingerprint = Fingerprint::from_stored(row.get(2).map_err(|_| damaged())?);
    let sealed: Vec<u8> = row.get(3).map_err(|_| damaged())?;
    let optional = |column: usize| optional_time(row, column).map_err(|_| damaged());
    let overlap = match (optional(4)?, optional(5)?, optional(6)?) {
        (Some(since), Some(grace_ends), deadline) => Some(Overlap { since, grace_ends, deadline }),
        (None, None, None) => None,
        _ => return Err(damaged()),
    };
    let beside = Beside { number, created, fingerprint: &fingerprint, overlap };
    let opened = data.open(&place(peer, &beside), &sealed).map_err(|_| damaged())?;
    let sealed: Sealed = serde_json::from_slice(&opened).map_err(|_| damaged())?;
    let keys = match (sealed.keys, peer.profile) {
        (SealedKeys::Cs1 { our_key, their_key, secret }, Profile::Cs1) => Keys::Cs1 {
            our_key: our_key.parse().map_err(|_| damaged())?,
            their_key: their_key.parse().map_err(|_| damaged())?,
            secret: secret.parse().map_err(|_| damaged())?,
        },
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
    Ok(Credential {
        number,
        uid: sealed.uid,
        created,
        fingerprint,
        keys,
        overlap,
        confirmed: optional(7)?,
        used_inbound: optional(8)?,
        used_outbound: optional(9)?,
    })
}

/// Fails with damage only, as [`read_peer`] does.
fn read_ended(row: &Row<'_>, peer: &str) -> Result<Ended, StoreError> {
    let number: u32 = row.get(0).map_err(|_| StoreError::Damaged(peer.to_owned()))?;
    let damaged = || StoreError::Damaged(format!("{peer}/{number}"));
    let how: String = row.get(3).map_err(|_| damaged())?;
    let presented: Option<[u8; 32]> = row.get(5).map_err(|_| damaged())?;
    let hashes: Vec<u8> = row.get(6).map_err(|_| damaged())?;
    let (hashes, []) = hashes.as_chunks::<32>() else { return Err(damaged()) };
    Ok(Ended {
        number,
        created: time(row.get(1).map_err(|_| damaged())?),
        ended: time(row.get(2).map_err(|_| damaged())?),
        how: Ending::parse(&how).ok_or_else(damaged)?,
        fingerprint: Fingerprint::from_stored(row.get(4).map_err(|_| damaged())?),
        presented: presented.map(LookupHash::from_bytes),
        hashes: hashes.iter().copied().map(LookupHash::from_bytes).collect(),
    })
}

fn optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<UnixTime>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(time))
}

fn seal(credential: &Credential) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let copy = |text: &str| Zeroizing::new(text.to_owned());
    let keys = match &credential.keys {
        Keys::Cs1 { our_key, their_key, secret } => SealedKeys::Cs1 {
            our_key: copy(our_key.expose()),
            their_key: copy(their_key.expose()),
            secret: copy(secret.expose()),
        },
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

/// What stands readable beside a sealed credential and must not be changed.
struct Beside<'a> {
    number: u32,
    created: UnixTime,
    fingerprint: &'a Fingerprint,
    overlap: Option<Overlap>,
}

impl<'a> Beside<'a> {
    fn of(credential: &'a Credential) -> Self {
        let Credential { number, created, fingerprint, overlap, .. } = credential;
        Self { number: *number, created: *created, fingerprint, overlap: *overlap }
    }
}

/// What a credential is sealed to: the peer, how long it is good, and what is agreed for `cs1`. A credential without a
/// successor and without such options is sealed as the first version did it.
fn place(peer: &Peer, beside: &Beside<'_>) -> Vec<u8> {
    let mut times = Vec::new();
    if let Some(overlap) = beside.overlap {
        for time in [Some(overlap.since), Some(overlap.grace_ends), overlap.deadline] {
            times.push(u8::from(time.is_some()));
            times.extend(time.map(seconds).unwrap_or_default().to_be_bytes());
        }
    }
    let label: &[u8] =
        if times.is_empty() { b"countersign credential 1" } else { b"countersign credential 2" };
    let url = peer.url.as_deref().unwrap_or_default();
    let trust = trust_text(&peer.trust);
    let danger = [u8::from(peer.danger_unproven_server)];
    let (added, created) = (seconds(peer.created).to_be_bytes(), seconds(beside.created).to_be_bytes());
    let number = beside.number.to_be_bytes();
    let mut fields: Vec<&[u8]> = vec![
        label,
        peer.name.as_str().as_bytes(),
        peer.profile.as_str().as_bytes(),
        url.as_bytes(),
        trust.as_bytes(),
        &danger,
        &added,
        &number,
        &created,
        beside.fingerprint.as_str().as_bytes(),
    ];
    if !times.is_empty() {
        fields.push(&times);
    }
    let direct = [u8::from(peer.cs1.danger_direct)];
    if peer.cs1 != Cs1Options::default() {
        fields.extend([b"cs1".as_slice(), peer.cs1.binding.as_str().as_bytes(), &direct]);
    }
    lp(&fields)
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
