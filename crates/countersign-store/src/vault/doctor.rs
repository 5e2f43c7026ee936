//! A look at Vault in the name of the service, for whoever wants to know what is wrong.

use http::Method;
use serde::{Deserialize, Serialize};

use super::copy::Copies;
use super::document::Document;
use super::kv::{self, Found};
use super::session::{Session, json, parse};
use super::settings::{Connection, Place};
use super::{VaultError, block};
use crate::StoreError;
use crate::sqlite::SqliteStore;

/// What Vault lets this service do.
#[derive(Clone, Debug)]
pub struct Health {
    /// In how many seconds the token ends; `None` if it does not, or may not be asked.
    pub token_ends_in: Option<u64>,
    /// Whether a new token is made when one ends.
    pub logs_in: bool,
    /// Whether there is a document.
    pub found: bool,
    /// How many peers are in it, with those that cannot be read.
    pub peers: usize,
    /// How many of those cannot be read.
    pub damaged: usize,
    /// Its size in bytes, and how large it may get.
    pub bytes: (usize, usize),
    /// Whether the document may be changed. Without that, a peer's first use of its next credential is known on this
    /// node only.
    pub can_write: bool,
    /// Whether its metadata may be read. Without that, all of it is read two or three times a second.
    pub can_poll: bool,
    /// Whether the login may do what only root should.
    pub is_root: bool,
}

#[derive(Serialize)]
struct Paths {
    paths: [String; 2],
}

#[derive(Deserialize)]
struct Capabilities {
    data: std::collections::HashMap<String, serde_json::Value>,
}

/// Logs in, reads the document and asks what else is allowed. Blocks for a few time-outs at most.
///
/// # Errors
/// Vault is away, or refuses, or what it has cannot be read.
pub fn examine(connection: Connection, place: &Place) -> Result<Health, VaultError> {
    block(connection, async |session: &mut Session| {
        let found = kv::read(session, place).await?;
        let data = format!("{}/data/{}", place.mount, place.key());
        let metadata = format!("{}/metadata/{}", place.mount, place.key());
        let body = json(&Paths { paths: [data.clone(), metadata.clone()] });
        let answer = session.call("asking about", Method::POST, "sys/capabilities-self", Some(body)).await;
        let allowed: Option<Capabilities> = answer.ok().and_then(|answer| parse(&answer));
        let may = |path: &str, what: &str| {
            let list = allowed.as_ref().and_then(|allowed| allowed.data.get(path)?.as_array());
            list.is_some_and(|list| list.iter().any(|one| one == what || one == "root"))
        };
        let (bytes, document) = match &found {
            Found::Nothing(_) => (0, None),
            Found::Document(text, _) => {
                let wrong = |what| VaultError::Document {
                    path: place.shown(),
                    mount: place.mount.to_string(),
                    key: place.key(),
                    what,
                };
                (text.len(), Some(Document::read(text, &place.service).map_err(wrong)?))
            }
        };
        let damaged = document.as_ref().map_or(0, |document| document.damaged.len());
        Ok(Health {
            token_ends_in: session.ends_in(),
            logs_in: session.logs_in(),
            found: document.is_some(),
            peers: damaged + document.as_ref().map_or(0, |document| document.set.peers().count()),
            damaged,
            bytes: (bytes, super::MAX_DOCUMENT),
            can_write: may(&data, "update"),
            can_poll: may(&metadata, "read"),
            is_root: may(&data, "root"),
        })
    })
}

/// How old the copy is that an outage would be bridged with, in seconds; `None` if there is none.
///
/// # Errors
/// The local store cannot be read.
pub fn copy_age(
    connection: &Connection,
    place: &Place,
    local: &SqliteStore,
) -> Result<Option<u64>, StoreError> {
    let copies = Copies::new(place, connection);
    Ok(copies.load(local)?.map(|kept| kept.age.seconds()))
}
