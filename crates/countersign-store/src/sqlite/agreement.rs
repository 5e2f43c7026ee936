//! What is agreed in band with a peer, as one sealed value.

use countersign_protocol::aead::AeadKey;
use countersign_protocol::lp;
use rusqlite::{Connection, OptionalExtension as _, params};
use zeroize::Zeroizing;

use crate::{Agreement, Peer, StoreError, random};

/// Bound to its peer, so that those of two peers cannot be exchanged.
fn place(peer: &Peer) -> Vec<u8> {
    lp(&[b"agreement", peer.name.as_str().as_bytes()])
}

/// Puts it in the place of what is there.
pub(super) fn write(connection: &Connection, data: &AeadKey, peer: &Peer) -> Result<(), StoreError> {
    // Room for all of it at once: a growing vector would leave plaintext behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    serde_json::to_writer(&mut *bytes, &peer.agreement)
        .map_err(|_| StoreError::Damaged(peer.name.to_string()))?;
    let sealed = data.seal(random(), &place(peer), &bytes);
    connection.execute(
        "INSERT INTO agreement (peer, sealed) VALUES (?1, ?2)
         ON CONFLICT (peer) DO UPDATE SET sealed = excluded.sealed",
        params![peer.name.as_str(), sealed],
    )?;
    Ok(())
}

/// Reads it into the peer. One that cannot be opened is damage: without it nobody knows what may be sent.
pub(super) fn read(
    connection: &Connection,
    data: &AeadKey,
    peer: &mut Peer,
) -> Result<Result<(), StoreError>, StoreError> {
    let mut query = connection.prepare_cached("SELECT sealed FROM agreement WHERE peer = ?1")?;
    let sealed: Option<rusqlite::types::Value> =
        query.query_row(params![peer.name.as_str()], |row| row.get(0)).optional()?;
    let damaged = || StoreError::Damaged(peer.name.to_string());
    let agreement = match sealed {
        None => Ok(Agreement::default()),
        Some(rusqlite::types::Value::Blob(sealed)) => data
            .open(&place(peer), &sealed)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(damaged),
        Some(_) => Err(damaged()),
    };
    Ok(agreement.map(|agreement| peer.agreement = agreement))
}
