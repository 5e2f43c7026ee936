//! A store whose file somebody changed: what is sealed comes back as it was, or not at all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_protocol::UnixTime;
use countersign_protocol::identity::ServiceName;
use countersign_store::contract::{cs1_peer, key, secret, shared_secret_peer};
use countersign_store::master::{ENVIRONMENT_VARIABLE, MasterKey, Source};
use countersign_store::sqlite::SqliteStore;
use countersign_store::{
    Ending, Keys, Listing, NewKeys, NewPeer, Next, Overlap, Peer, PeerStore as _, Trust, Which,
};
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

use crate::input;

const NOW: UnixTime = UnixTime(1_700_000_000);

fn master() -> MasterKey {
    let environment = |_: &str| Some(STANDARD.encode([5; 32]).into());
    MasterKey::load(&Source::Environment(ENVIRONMENT_VARIABLE), environment).unwrap()
}

/// A store's file with four peers, one of them in the middle of a rotation and one with a revoked credential, and
/// what is in it.
struct Template {
    file: Vec<u8>,
    peers: BTreeMap<ServiceName, String>,
}

static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.sqlite");
    let store = SqliteStore::create(&path, &master()).unwrap();
    for (name, seed) in [("billing", 1), ("orders", 2)] {
        store.add(shared_secret_peer(name, seed), NOW).unwrap();
    }
    let keys = NewKeys::api_key(Some(key(7)), Some(key(8))).unwrap();
    let mails = NewPeer {
        name: "mails".parse().unwrap(),
        url: None,
        trust: Trust::System,
        danger_unproven_server: true,
        cs1: Default::default(),
        keys,
    };
    store.add(mails, NOW).unwrap();
    store.add(cs1_peer("vaults", 21), NOW).unwrap();
    let keys = NewKeys::cs1(key(21), key(121), secret(22)).unwrap();
    store.rotate(&"vaults".parse().unwrap(), next(keys), NOW).unwrap();
    let keys = NewKeys::shared_secret(key(11), key(12), secret(13), secret(13)).unwrap();
    store.rotate(&"billing".parse().unwrap(), next(keys), NOW).unwrap();
    let keys = NewKeys::shared_secret(key(14), key(15), secret(16), secret(16)).unwrap();
    store.rotate(&"orders".parse().unwrap(), next(keys), NOW).unwrap();
    store.end(&"orders".parse().unwrap(), Which::Number(1), Ending::Revoked, NOW).unwrap();
    let peers = sealed(&store.read_all().unwrap());
    assert_eq!(peers.len(), 4);
    drop(store);
    // The last connection that closes puts the log into the file.
    let file = std::fs::read(&path).unwrap();
    assert!(!directory.path().join("store.sqlite-wal").exists());
    Template { file, peers }
});

fn next(keys: NewKeys) -> Next {
    let overlap = Overlap { since: NOW, grace_ends: NOW.plus(3600), deadline: Some(NOW.plus(7200)) };
    Next { keys, overlap, confirmed: true, follows: None }
}

/// By name, all that a credential's seal covers.
fn sealed(listing: &Listing) -> BTreeMap<ServiceName, String> {
    listing.peers.iter().map(|peer| (peer.name.clone(), covered(peer))).collect()
}

fn covered(peer: &Peer) -> String {
    let mut text = format!(
        "{} {:?} {:?} {} {:?} {:?}",
        peer.profile, peer.url, peer.trust, peer.danger_unproven_server, peer.cs1, peer.created
    );
    for credential in &peer.credentials {
        let keys = match &credential.keys {
            Keys::Cs1 { our_key, their_key, secret } => {
                [our_key.expose(), their_key.expose(), secret.expose()].join(" ")
            }
            Keys::SharedSecret { our_key, their_key, our_secret, their_secret } => {
                [our_key.expose(), their_key.expose(), our_secret.expose(), their_secret.expose()].join(" ")
            }
            Keys::ApiKey { ours, theirs } => {
                format!("{:?} {:?}", ours.as_ref().map(|key| key.expose().to_owned()), theirs)
            }
        };
        text.push_str(&format!(
            "\n{} {:?} {:?} {} {:?} {keys}",
            credential.number,
            credential.uid,
            credential.created,
            credential.fingerprint.as_str(),
            credential.overlap
        ));
    }
    text
}

/// A copy of the template, in a directory of its own.
fn copy(file: &[u8]) -> (TempDir, std::path::PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.sqlite");
    std::fs::write(&path, file).unwrap();
    (directory, path)
}

/// Opens and reads a changed store. Nobody's keys, address or trust may have become others; whoever lost a row has
/// lost the whole credential. Errors are fit to be shown and hold no secret.
fn assert_nothing_false(path: &Path) -> Option<BTreeMap<ServiceName, String>> {
    let said = |error: &dyn std::fmt::Display| {
        let shown = error.to_string();
        for seed in [1, 2, 13, 16, 21, 22] {
            assert!(!shown.contains(secret(seed).expose()));
        }
    };
    let store = SqliteStore::open(path, &master()).map_err(|error| said(&error)).ok()?;
    let listing = store.read_all().map_err(|error| said(&error)).ok()?;
    listing.damaged.iter().for_each(|error| said(error));
    let found = sealed(&listing);
    for (name, covered) in &found {
        let template = TEMPLATE.peers.get(name).map(String::as_str).unwrap_or_default();
        // Without a credential there is nothing that a changed address could mislead.
        let Some((head, credentials)) = covered.split_once('\n') else { continue };
        assert_eq!(Some(head), template.lines().next());
        for credential in credentials.lines() {
            assert!(template.lines().any(|line| line == credential), "a credential that was not there");
        }
    }
    Some(found)
}

/// Three bytes a change: where, counted in 65,536ths of the file's length from the first two, and what is put there.
pub(crate) fn file(input: &[u8]) {
    let mut file = TEMPLATE.file.clone();
    for change in input.chunks_exact(3).take(64) {
        let place = usize::from(u16::from_be_bytes([change[0], change[1]])) * file.len() / 65_536;
        file[place] = change[2];
    }
    // A store that is cut off.
    if let [length] = input.chunks_exact(3).remainder() {
        file.truncate(file.len() * usize::from(*length) / 256);
    }
    let (_directory, path) = copy(&file);
    assert_nothing_false(&path);
}

/// Every cell that a peer is made of.
const CELLS: [(&str, &str); 30] = [
    ("peer", "name"),
    ("peer", "profile"),
    ("peer", "url"),
    ("peer", "trust"),
    ("peer", "danger_unproven_server"),
    ("peer", "created"),
    ("peer", "rotate_every"),
    ("credential", "peer"),
    ("credential", "number"),
    ("credential", "created"),
    ("credential", "fingerprint"),
    ("credential", "sealed"),
    ("credential", "overlap_since"),
    ("credential", "grace_ends"),
    ("credential", "deadline"),
    ("credential", "confirmed"),
    ("credential", "used_inbound"),
    ("credential", "used_outbound"),
    ("ended", "peer"),
    ("ended", "number"),
    ("ended", "created"),
    ("ended", "ended"),
    ("ended", "how"),
    ("ended", "fingerprint"),
    ("ended", "presented"),
    ("ended", "hashes"),
    ("keyring", "wrapped"),
    ("identifier", "hash"),
    ("peer", "binding"),
    ("peer", "danger_direct"),
];

/// A byte for the cell, one for the kind of value, one for the row, and the value.
pub(crate) fn cell(mut input: &[u8]) {
    let [cell, kind, row] = input::take(&mut input);
    let (table, column) = CELLS[usize::from(cell) % CELLS.len()];
    let value = match kind % 4 {
        0 => Value::Null,
        1 => Value::Integer(i64::from_be_bytes(input::take(&mut input))),
        2 => Value::Text(input::text(input)),
        _ => Value::Blob(input.to_vec()),
    };
    let (_directory, path) = copy(&TEMPLATE.file);
    let connection = Connection::open(&path).unwrap();
    let key: String = connection
        .query_row("SELECT group_concat(name) FROM pragma_table_info(?1) WHERE pk > 0", [table], |row| {
            row.get(0)
        })
        .unwrap();
    let rows: i64 =
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
    let changed = connection.execute(
        &format!(
            "UPDATE {table} SET {column} = ?1 WHERE ({key}) = (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1 OFFSET ?2)"
        ),
        rusqlite::params![value, i64::from(row) % rows],
    );
    drop(connection);
    // SQLite itself refuses what the table's types and keys forbid.
    let was_changed = changed.is_ok();
    let found = assert_nothing_false(&path);
    if table != "keyring" && table != "identifier" || !was_changed {
        // One bad cell shuts out one peer at most (two if a row went to another).
        let found = found.expect("the store itself is in order");
        assert!(found.len() + 2 >= TEMPLATE.peers.len());
    }
}
