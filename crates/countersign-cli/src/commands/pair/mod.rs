//! Pairing by spoken words: `offer` shows them and waits, `accept` types them.

mod accept;
pub(crate) mod args;
mod offer;

use countersign::protocol::pairing::Pin;
use countersign::store::{Peer, StoreError};
use countersign::{PeerStore, ServiceName, Trust};
use countersign_gateway::TlsIdentity;
use serde_json::Value;

use self::args::PairCommand;
use crate::change::{self, Change};
use crate::config::Config;
use crate::failure::{Context as _, Failure};
use crate::home::{Home, Stores};
use crate::show;

pub(crate) fn run(home: &Home, command: PairCommand) -> Result<(), Failure> {
    match command {
        PairCommand::Offer(args) => offer::run(home, &args),
        PairCommand::Accept(args) => accept::run(home, &args),
    }
}

/// The stores, if a peer can be added to them.
fn stores(home: &Home) -> Result<Stores, Failure> {
    home.changeable("a peer that was paired would have to be written there by hand, with its keys")
}

/// Refuses a name that was asked for and cannot be had, before anybody reads any words.
fn check_name(config: &Config, peers: &dyn PeerStore, name: Option<&ServiceName>) -> Result<(), Failure> {
    let Some(name) = name else { return Ok(()) };
    if *name == config.service {
        return Err(Failure::new(format!("`{name}` is this service itself: give --name with another name")));
    }
    match peers.get(name) {
        Err(StoreError::NoSuchPeer(_)) => Ok(()),
        Err(StoreError::Damaged(_)) | Ok(_) => Err(StoreError::NameTaken(name.clone()).into()),
        Err(error) => Err(error.into()),
    }
}

/// The pin of the key that `serve` has for TLS.
fn own_pin(home: &Home, config: &Config) -> Result<Pin, Failure> {
    let (certificate, key) = home.tls_files(config);
    let identity = TlsIdentity::load(&certificate, &key).context(|| "this service's TLS key".to_owned())?;
    Ok(identity.pin()?)
}

/// The pin in a trust that can be nothing else.
fn pin(trust: &Trust) -> Option<Pin> {
    match trust {
        Trust::Pin(pin) => Some(*pin),
        _ => None,
    }
}

/// Writes down that a peer was added.
fn record(home: &Home, stores: &Stores, step: &str, peer: &Peer) -> Result<(), Failure> {
    let change = Change {
        credential: peer.credentials.last().map(|credential| credential.id(&peer.name)),
        profile: Some(peer.profile),
        ..Change::of(step, "peer-added", &peer.name)
    };
    change::record(home, &stores.local, change)
}

fn fingerprint(peer: &Peer) -> String {
    peer.newest_fingerprint().map(ToString::to_string).unwrap_or_default()
}

/// One JSON object on one line.
fn line(value: &Value) -> Result<(), Failure> {
    show::out(&format!("{}\n", show::escaped(&value.to_string())))
}
